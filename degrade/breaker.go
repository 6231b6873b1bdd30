package degrade

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// ErrOpen is the error of a breaker that refuses a call. It is a refusal: the dependency was not
// called.
var ErrOpen = errors.New("circuit breaker is open")

// The results of a call, as gobreaker gets them.
var (
	errCounts     = errors.New("counts against the dependency")
	errNeutral    = errors.New("doesn't count for or against the dependency")
	errUnfinished = errors.New("call panicked or ended its goroutine")
)

// BreakerState is the state of a breaker.
type BreakerState int32

// The states.
const (
	StateClosed   BreakerState = iota // every call begins
	StateOpen                         // no call begins
	StateHalfOpen                     // only the probes begin
)

// String is the state's name in metrics.
func (s BreakerState) String() string { return [...]string{"closed", "open", "half-open"}[s] }

// BreakerMode is the mode of a breaker.
type BreakerMode int32

// The modes.
const (
	BreakerAuto    BreakerMode = iota // the breaker decides by the results of calls
	BreakerOpen                       // a person decides that the dependency is not called
	BreakerClosed                     // a person decides that the dependency is called
	BreakerObserve                    // the breaker changes its states and counts what it would refuse, but refuses nothing
)

// String is the mode's name for people.
func (m BreakerMode) String() string { return [...]string{"auto", "open", "closed", "observe"}[m] }

// BreakerConfig is a breaker's configuration. If calls are batched, one batch is one call.
type BreakerConfig struct {
	// Name is the name of the dependency, for OnChange.
	Name string
	// Window is how far back calls count, by the time at which they ended, so that a call that took
	// longer than the window counts, too. Default 2 s: a buyer waits that long for an answer, so
	// the counts forget an outage when buyers no longer feel it.
	Window time.Duration
	// MinCalls is how many calls must have ended in the window before it is judged. Default 5: one
	// lost connection fails a batch or two, and a window has few calls, because a call is a batch.
	MinCalls int
	// FailRatio is the share of failed calls in the window that opens the breaker. Default 0.5: at
	// a half, a retry does as much harm as good.
	FailRatio float64
	// Slow is how long a call may take without being slow. Default 500 ms: half of Deadline, a
	// hundred times what a healthy dependency takes for a batch.
	Slow time.Duration
	// SlowRatio is the share of slow calls in the window that opens the breaker. Default 0.6: more
	// than for failures, because a slow answer is an answer.
	SlowRatio float64
	// FirstPause is how long the breaker stays open at first. When it opens again without having
	// been closed for a while, the pause doubles. The pause varies by a fifth up and down, so that
	// nodes don't come back all at once. Default 500 ms: a failover takes longer, a reconnect takes
	// less.
	FirstPause time.Duration
	// LongestPause bounds the pause, with its variation. Default 2 s: with the time for the probes,
	// orders are taken again within 5 s after the dependency is back.
	LongestPause time.Duration
	// Probes is how many calls begin after a pause, and must all succeed for the breaker to close.
	// Default 3: one success may be luck.
	Probes int
	// Deadline is the most that a call takes by its own timeout. The breaker doesn't enforce it.
	// But if a probe hasn't ended after twice this time, its place is given to another probe.
	// Default 1 s, like the timeout of calls to the stock.
	Deadline time.Duration
	// OnChange, if set, is called for changes of state: one at a time, in order. Its from is always
	// the to of the call before. A state that ended before its call is left out. It runs on the
	// goroutine that made the change, without a lock, and may call the breaker.
	OnChange func(name string, from, to BreakerState)
}

// DefaultBreakerConfig returns the values for production.
func DefaultBreakerConfig(name string) BreakerConfig {
	return BreakerConfig{
		Name:         name,
		Window:       2 * time.Second,
		MinCalls:     5,
		FailRatio:    0.5,
		Slow:         500 * time.Millisecond,
		SlowRatio:    0.6,
		FirstPause:   500 * time.Millisecond,
		LongestPause: 2 * time.Second,
		Probes:       3,
		Deadline:     time.Second,
	}
}

const (
	// buckets is the number of parts of a window. It forgets one part at a time.
	buckets = 10
	// jitter is the share by which pauses vary, up and down.
	jitter = 0.2
	// calm is the time, as a multiple of LongestPause, for which a breaker must be closed before
	// the next pause is FirstPause again. A dependency that fails sooner probably fails because of
	// the load, so its pauses get longer.
	calm = 5

	longestWindow = time.Hour // bounds all times, so that their sums don't overflow
	mostCalls     = 1_000_000 // bounds all numbers, far below gobreaker's 32 bits
)

// Validate checks each value, and that the values fit together.
func (c BreakerConfig) Validate() error {
	if c.Name == "" {
		return errors.New("Name must not be empty")
	}
	for _, d := range []struct {
		name         string
		value, least time.Duration
		most         time.Duration
	}{
		{"Window", c.Window, buckets * time.Millisecond, longestWindow},
		{"Deadline", c.Deadline, time.Millisecond, longestWindow},
		{"Slow", c.Slow, time.Microsecond, c.Deadline}, // with more than Deadline, no call would be slow
		{"LongestPause", c.LongestPause, time.Millisecond, longestWindow},
		{"FirstPause", c.FirstPause, time.Millisecond, c.LongestPause},
	} {
		if d.value < d.least || d.value > d.most {
			return fmt.Errorf("%s must be from %v to %v, not %v", d.name, d.least, d.most, d.value)
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"MinCalls", c.MinCalls}, {"Probes", c.Probes}} {
		if n.value < 1 || n.value > mostCalls {
			return fmt.Errorf("%s must be from 1 to %d, not %d", n.name, mostCalls, n.value)
		}
	}
	for _, r := range []struct {
		name  string
		value float64
	}{{"FailRatio", c.FailRatio}, {"SlowRatio", c.SlowRatio}} {
		if !(r.value > 0 && r.value <= 1) { // this form refuses NaN, too
			return fmt.Errorf("%s must be above 0 and at most 1, not %v", r.name, r.value)
		}
	}
	return nil
}

// Breaker stops calls to a dependency that fails or is slow, and finds out when it is back. Its
// methods are safe for concurrent use.
//
//	         too many failed or slow
//	closed ──────────────────────────▶ open ◀─────────┐ a probe failed: a longer pause
//	  ▲                                 │ pause over  │
//	  └─────── all probes succeeded ── half-open ─────┘
//
// Three gobreakers count and decide. This type adds what they lack:
//   - Their modes, pauses and counts can't be changed from outside, so they are replaced by new
//     ones. A period is the time from one change of state to the next, and results of calls that
//     began in an earlier period don't count.
//   - They only know failed and not failed. Here slow calls have a window of their own.
//   - They count a call in the part of the window in which it began, and forget it when that part
//     has passed. So a call that times out after more than the window would never count. Here a
//     call is counted when it ends.
//   - They leave the half-open state only by results. A probe that never ends would keep its place
//     for ever, and the breaker would stay half-open. Here such a probe loses its place.
//   - Asking a gobreaker for its state can change the state, and takes a lock. Here it does
//     neither.
type Breaker struct {
	cfg    BreakerConfig
	start  time.Time      // all times are durations since start, so that steps of the wall clock don't matter
	random func() float64 // from 0 to 1
	period atomic.Pointer[period]
	_      [64]byte // a cache line between period, which every buyer reads, and the fields that every call writes

	mu      sync.Mutex      // guards the following, all use of gobreakers, and the change of period
	turned  gobreaker.State // the new state of the last gobreaker that changed its state
	running []*probe        // probes since it last opened that haven't ended, oldest first
	streak  int             // number of pauses without a calm time between them
	told    BreakerState    // the last state that OnChange was told
	telling bool            // OnChange is being called
	calls   int64
	failed  int64
	slow    int64
	refused int64
	trips   int64

	turnedAway [stripes]struct {
		n atomic.Int64
		_ [64]byte
	}
}

// period is the time from one change of state or mode to the next. Only until and the gobreakers
// change in it.
type period struct {
	mode  BreakerMode
	state BreakerState
	since time.Duration
	until atomic.Int64 // calls are refused before this time since the breaker's start

	// For StateClosed. They get each call that has ended: failing by whether it failed, slow by
	// whether it was slow. They are not used in forced modes.
	failing, slow *gobreaker.CircuitBreaker[struct{}]
	// For StateOpen and StateHalfOpen, if these were not forced. The gobreaker's own pause is made
	// to end at once, because it could not be ended early.
	probes *gobreaker.TwoStepCircuitBreaker[struct{}]
}

const never = math.MaxInt64

func (p *period) forced() bool { return p.mode == BreakerOpen || p.mode == BreakerClosed }

func (p *period) refuses(now time.Duration) bool { return int64(now) < p.until.Load() }

// probe is a call that has a place in StateHalfOpen. It is guarded by the breaker's mu.
type probe struct {
	began   time.Duration
	done    func(error)
	settled bool // gobreaker has its result already
}

// NewBreaker makes a closed breaker.
func NewBreaker(cfg BreakerConfig) (*Breaker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("breaker %q: %w", cfg.Name, err)
	}
	b := &Breaker{cfg: cfg, start: time.Now(), random: rand.Float64}
	b.closeLocked(BreakerAuto, 0) // no other goroutine has it yet
	return b, nil
}

func (b *Breaker) clock() time.Duration { return time.Since(b.start) }

// Refuses reports whether Begin would refuse now. With it, a request can be refused before any
// work. While the breaker is closed it costs one atomic load. Begin may still refuse, because only
// Begin gives out the places of probes.
func (b *Breaker) Refuses() bool {
	p := b.period.Load()
	return p.state != StateClosed && b.turnsAway(p)
}

// turnsAway reports whether a call is refused without looking for a place for a probe. It counts
// such a call.
func (b *Breaker) turnsAway(p *period) bool {
	if !p.refuses(b.clock()) {
		return false
	}
	b.turnedAway[rand.Uint32()%stripes].n.Add(1)
	return p.mode != BreakerObserve
}

// BreakerCall is a call that has begun. The zero value is no call, and its methods do nothing.
type BreakerCall struct {
	breaker *Breaker
	period  *period // nil: its result is counted, but has no effect
	probe   *probe
	began   time.Duration
}

// Begin begins a call, or returns ErrOpen. Each call must get one End or one Abandon.
func (b *Breaker) Begin() (BreakerCall, error) {
	p := b.period.Load()
	if p.state == StateClosed {
		return BreakerCall{breaker: b, period: p, began: b.clock()}, nil
	}
	return b.beginProbe()
}

func (b *Breaker) beginProbe() (BreakerCall, error) {
	now := b.clock()
	call := BreakerCall{breaker: b, began: now}
	b.mu.Lock()
	p := b.period.Load()
	if p.state == StateClosed { // it was closed a moment ago
		b.mu.Unlock()
		call.period = p
		return call, nil
	}
	if done := b.placeLocked(now); done != nil {
		call.probe = &probe{began: now, done: done}
		call.period = b.period.Load()
		b.running = append(b.running, call.probe)
		b.weighLocked()
	}
	if call.probe == nil {
		b.refused++
	}
	news := b.newsLocked()
	b.mu.Unlock()
	b.tell(news)
	if call.probe == nil && p.mode != BreakerObserve {
		return BreakerCall{}, ErrOpen
	}
	return call, nil
}

// placeLocked takes a place for a probe, and returns the function that gives its result. It returns
// nil if there is no place.
func (b *Breaker) placeLocked(now time.Duration) (done func(error)) {
	p := b.period.Load()
	if p.refuses(now) { // without an end, if the state was forced
		return nil
	}
	for len(b.running) > 0 && now >= b.running[0].began+2*b.cfg.Deadline {
		b.settleLocked(b.running[0], errNeutral, now)
	}
	done, err := p.probes.Allow()
	if err != nil {
		return nil
	}
	b.followLocked(now)
	return done
}

// weighLocked refuses calls while all places are taken, but at most until the oldest probe loses
// its place.
func (b *Breaker) weighLocked() {
	p := b.period.Load()
	if p.state != StateHalfOpen {
		return
	}
	var until time.Duration
	if c := p.probes.Counts(); int64(c.Requests)-int64(c.TotalExclusions) >= int64(b.cfg.Probes) && len(b.running) > 0 {
		until = b.running[0].began + 2*b.cfg.Deadline
	}
	p.until.Store(int64(until))
}

// settleLocked gives gobreaker the result of a probe.
func (b *Breaker) settleLocked(pr *probe, result error, now time.Duration) {
	pr.settled = true
	for i := range b.running {
		if b.running[i] == pr {
			b.running = append(b.running[:i], b.running[i+1:]...)
			break
		}
	}
	pr.done(result)
	b.followLocked(now)
	b.weighLocked()
}

// End ends the call: nil is a success, context.Canceled doesn't count, and any other error is a
// failure. A business verdict, such as sold out, is a success, because the dependency answered. A
// call that took longer than Slow is slow, whatever its result. For a probe, slow is a failure.
func (c BreakerCall) End(err error) {
	b := c.breaker
	if b == nil {
		return
	}
	now := b.clock()
	o := b.judge(err, now-c.began)
	b.mu.Lock()
	b.countLocked(o)
	if p := b.period.Load(); c.period == p {
		switch {
		case c.probe == nil:
			b.sampleLocked(p, o, now)
		case !c.probe.settled:
			b.settleLocked(c.probe, o.result(), now)
		}
	}
	news := b.newsLocked()
	b.mu.Unlock()
	b.tell(news)
}

// Abandon ends a call that didn't ask the dependency. It doesn't count, and the place of a probe is
// free again.
func (c BreakerCall) Abandon() { c.End(context.Canceled) }

// Do calls f, which must have its own timeout. A panic or runtime.Goexit in f is a failure, and is
// passed on.
func (b *Breaker) Do(ctx context.Context, f func(context.Context) error) (err error) {
	call, err := b.Begin()
	if err != nil {
		return err
	}
	err = errUnfinished // stays so unless f returns
	defer func() { call.End(err) }()
	err = f(ctx)
	return err
}

// Report reports a result without Begin: the acknowledgement of something that was sent earlier, or
// the finding of a watchdog. The call began took ago; 0 means an observation of this moment, such
// as "the oldest record has waited for too long".
//
// As with End, a call that began before the breaker's last change of state doesn't count, with one
// exception: during a pause, a success that wasn't slow shows that the server works, and ends the
// pause. If no place for a probe is free, a success doesn't count, and a failure counts as the
// result of the oldest probe.
//
// Reports alone don't bound how many calls are made until the first result after a pause. If
// possible, Begin a call before any work and End it with its acknowledgement. Use Report only for
// results that have no call.
func (b *Breaker) Report(err error, took time.Duration) {
	now := b.clock()
	o := b.judge(err, took)
	b.mu.Lock()
	b.countLocked(o)
	if p := b.period.Load(); o.neutral || p.forced() {
		// In a closed period there is nothing to decide.
	} else if p.state == StateClosed {
		if now-took >= p.since {
			b.sampleLocked(p, o, now)
		}
	} else {
		b.signLocked(p, o, now, took)
	}
	news := b.newsLocked()
	b.mu.Unlock()
	b.tell(news)
}

// signLocked judges a reported result while the dependency is not trusted.
func (b *Breaker) signLocked(p *period, o outcome, now, took time.Duration) {
	begin := p.since
	if p.state == StateOpen {
		if p.refuses(now) {
			if o.result() == nil {
				p.until.Store(int64(now))
			}
			return
		}
		begin = time.Duration(p.until.Load())
	}
	if now-took < begin {
		return
	}
	if done := b.placeLocked(now); done != nil {
		done(o.result())
		b.followLocked(now)
		b.weighLocked()
	} else if o.result() != nil && len(b.running) > 0 {
		b.settleLocked(b.running[0], o.result(), now)
	}
}

// outcome is the result of a call, as it counts for the dependency.
type outcome struct{ failed, slow, neutral bool }

func (b *Breaker) judge(err error, took time.Duration) outcome {
	if errors.Is(err, context.Canceled) {
		return outcome{neutral: true}
	}
	return outcome{failed: err != nil, slow: took > b.cfg.Slow}
}

// result returns the outcome as the result of a probe.
func (o outcome) result() error {
	switch {
	case o.neutral:
		return errNeutral
	case o.failed, o.slow:
		return errCounts
	}
	return nil
}

func (b *Breaker) countLocked(o outcome) {
	if o.neutral {
		return
	}
	b.calls++
	if o.failed {
		b.failed++
	}
	if o.slow {
		b.slow++
	}
}

// sampleLocked puts a call that has ended in the windows of a closed breaker. It uses Execute,
// because Allow would allocate.
func (b *Breaker) sampleLocked(p *period, o outcome, now time.Duration) {
	if o.neutral || p.forced() {
		return
	}
	_, _ = p.failing.Execute(answer(o.failed)) // it returns the error that answer has returned
	_, _ = p.slow.Execute(answer(o.slow))
	b.followLocked(now)
}

func answer(bad bool) func() (struct{}, error) {
	if bad {
		return answerBad
	}
	return answerGood
}

func answerGood() (struct{}, error) { return struct{}{}, nil }
func answerBad() (struct{}, error)  { return struct{}{}, errCounts }

// followLocked changes the state after a gobreaker has changed its own.
func (b *Breaker) followLocked(now time.Duration) {
	p := b.period.Load()
	switch {
	case b.turned == gobreaker.StateOpen && p.state != StateOpen:
		if p.state == StateClosed && now-p.since >= calm*b.cfg.LongestPause {
			b.streak = 0
		}
		b.openLocked(p.mode, now)
	case b.turned == gobreaker.StateHalfOpen && p.state == StateOpen:
		// The half-open period begins at the end of the pause, so that calls without Begin count if
		// they began after that.
		b.period.Store(&period{mode: p.mode, state: StateHalfOpen, since: time.Duration(p.until.Load()), probes: p.probes})
	case b.turned == gobreaker.StateClosed && p.state == StateHalfOpen:
		b.closeLocked(p.mode, now)
	}
}

// closeLocked begins a closed period with empty windows.
func (b *Breaker) closeLocked(mode BreakerMode, now time.Duration) {
	window := func(ratio float64) *gobreaker.CircuitBreaker[struct{}] {
		return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
			Interval:     b.cfg.Window,
			BucketPeriod: (b.cfg.Window + buckets - 1) / buckets,
			ReadyToTrip: func(c gobreaker.Counts) bool {
				ended := c.TotalSuccesses + c.TotalFailures
				return ended >= uint32(b.cfg.MinCalls) && float64(c.TotalFailures) >= ratio*float64(ended)
			},
			OnStateChange: b.onTurnLocked,
		})
	}
	b.turned = gobreaker.StateClosed
	b.period.Store(&period{mode: mode, state: StateClosed, since: now, failing: window(b.cfg.FailRatio), slow: window(b.cfg.SlowRatio)})
}

// openLocked begins a pause.
func (b *Breaker) openLocked(mode BreakerMode, now time.Duration) {
	p := &period{mode: mode, state: StateOpen, since: now, probes: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   uint32(b.cfg.Probes),
		Timeout:       1, // 0 would mean gobreaker's default
		ReadyToTrip:   func(gobreaker.Counts) bool { return true },
		IsExcluded:    func(err error) bool { return errors.Is(err, errNeutral) },
		OnStateChange: b.onTurnLocked,
	})}
	// A new gobreaker is closed, so its first failure opens it.
	if done, err := p.probes.Allow(); err == nil {
		done(errCounts)
	}
	b.turned, b.running = gobreaker.StateOpen, nil
	p.until.Store(int64(now + b.pause()))
	b.streak++
	b.trips++
	b.period.Store(p)
}

func (b *Breaker) onTurnLocked(_ string, _, to gobreaker.State) { b.turned = to }

// pause returns how long the next pause is.
func (b *Breaker) pause() time.Duration {
	longest := float64(b.cfg.LongestPause) / (1 + jitter) // so that the longest pauses vary, too
	length := min(float64(b.cfg.FirstPause)*math.Exp2(float64(b.streak)), longest)
	return time.Duration(length * (1 - jitter + 2*jitter*b.random()))
}

// SetMode changes who decides: the breaker or a person. A change of mode forgets all results, and
// calls in progress end without an effect on the state. It panics on an unknown mode.
func (b *Breaker) SetMode(mode BreakerMode) {
	_ = mode.String() // panics before anything has changed
	now := b.clock()
	b.mu.Lock()
	if b.period.Load().mode != mode {
		b.streak = 0
		if mode == BreakerOpen {
			p := &period{mode: mode, state: StateOpen, since: now}
			p.until.Store(never)
			b.period.Store(p)
		} else {
			b.closeLocked(mode, now)
		}
	}
	news := b.newsLocked()
	b.mu.Unlock()
	b.tell(news)
}

// newsLocked reports whether OnChange must be called.
func (b *Breaker) newsLocked() bool {
	return b.cfg.OnChange != nil && !b.telling && b.told != b.period.Load().state
}

// tell calls OnChange until it knows the current state. If another goroutine is doing that already,
// tell leaves it to that goroutine.
func (b *Breaker) tell(news bool) {
	for news {
		b.mu.Lock()
		from, to := b.told, b.period.Load().state
		news = b.newsLocked()
		if news {
			b.told, b.telling = to, true
		}
		b.mu.Unlock()
		if news {
			b.tellChange(from, to)
		}
	}
}

func (b *Breaker) tellChange(from, to BreakerState) {
	defer func() { // also if OnChange panics
		b.mu.Lock()
		b.telling = false
		b.mu.Unlock()
	}()
	b.cfg.OnChange(b.cfg.Name, from, to)
}

// Mode returns the mode.
func (b *Breaker) Mode() BreakerMode { return b.period.Load().mode }

// State returns the state. After its pause a breaker is half-open, even if no call came since;
// OnChange is called at the next call. In BreakerObserve, State returns the state that BreakerAuto
// would have.
func (b *Breaker) State() BreakerState {
	state, _ := b.stateAt(b.clock())
	return state
}

func (b *Breaker) stateAt(now time.Duration) (state BreakerState, since time.Duration) {
	p := b.period.Load()
	if p.state == StateOpen && !p.refuses(now) {
		return StateHalfOpen, time.Duration(p.until.Load())
	}
	return p.state, p.since
}

// BreakerStats is what a breaker has seen and done since it was made.
type BreakerStats struct {
	Calls      int64 // calls that ended or were reported, without those that don't count
	Failures   int64 // those of Calls that failed
	Slow       int64 // those of Calls that were slow, failed or not
	Refused    int64 // refused by Begin; in BreakerObserve, calls that Begin would have refused
	TurnedAway int64 // by Refuses; see Refused
	Trips      int64 // how often it opened without being forced
	Mode       BreakerMode
	State      BreakerState
	Since      time.Time // when State began
}

// Stats returns what the breaker has seen and done.
func (b *Breaker) Stats() BreakerStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	state, since := b.stateAt(b.clock())
	s := BreakerStats{
		Calls: b.calls, Failures: b.failed, Slow: b.slow, Refused: b.refused, Trips: b.trips,
		Mode: b.Mode(), State: state, Since: b.start.Add(since),
	}
	for i := range b.turnedAway {
		s.TurnedAway += b.turnedAway[i].n.Load()
	}
	return s
}
