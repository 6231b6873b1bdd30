package loadtest

import (
	"container/heap"
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// ErrSale is wrapped by errors that say why a load can't be sent to this sale.
var ErrSale = errors.New("the sale can't be loaded")

// Load is a load that was not sent yet: an open model, whose requests leave on schedule whatever
// the answers do.
type Load struct {
	cfg   LoadConfig
	clock clock
}

// NewLoad makes a load, or reports everything that is wrong with cfg.
func NewLoad(cfg LoadConfig) (*Load, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Load{cfg, realClock()}, nil
}

// LoadProgress is how far a load is.
type LoadProgress struct {
	Stage    Stage
	Done     int64 // departures that left or were dropped, or orders read back
	Of       int64 // departures, or orders
	Accepted int   // orders promised so far
	Outcomes [outcomes]int64
	InFlight int
	Dropped  int64
	Elapsed  time.Duration
	Length   time.Duration // of the schedule
}

// load is a load while it runs.
type load struct {
	run
	// Fixed after Run began.
	load   LoadConfig
	plan   *plan
	series *series
	leader chan struct{} // a token: its owner waits for the next departure, the other workers for the token
	nudge  chan struct{} // the leader has to look again
	napper *napper       // the leader's

	callers [][outcomes]atomic.Int64 // answers to purchases, by caller

	idle atomic.Int64 // workers that wait for the token

	mu        sync.Mutex
	stopped   time.Time        // guarded by mu: when ctx ended; zero: it didn't
	next      int64            // guarded by mu: the next departure
	later     followups        // guarded by mu
	underway  int              // guarded by mu
	lastLeft  time.Time        // guarded by mu: when the last departure left
	dropped   int64            // guarded by mu
	crowded   int64            // guarded by mu: departures that left late because no place was free
	known     map[int64]*order // guarded by mu, with its orders' promises; by the departure that a key is named after
	lag       *Latency         // guarded by mu: how late departures left though places were free
	scheduled *Latency         // guarded by mu: of answers to departures, since they were due
	service   *Latency         // guarded by mu: of the same, since they were sent
	confirmed *Latency         // guarded by mu: from the click to the order
}

// Run sends the load, reads back every order it was promised, and judges. It returns an error when
// nobody listens at a target, or the sale can't be bought from at all; whatever happens later is in
// the result. When ctx ends nothing leaves any more; what is under way is waited for, and orders
// are read back for a while.
func (l *Load) Run(ctx context.Context) (*LoadResult, error) {
	cfg := l.cfg
	shop, err := newShop(cfg.Targets, credentials{cfg.CallerKeys, cfg.PaymentSecrets}, cfg.RequestTimeout, cfg.Connections, l.clock)
	if err != nil {
		return nil, err
	}
	if err := shop.reach(ctx); err != nil {
		return nil, err
	}
	defer shop.close()
	goods, err := look(&cfg, newHand(shop))
	if err != nil {
		return nil, err
	}
	r := &load{
		run:  run{cfg: cfg.crowd(), clock: l.clock, shop: shop, tallies: newTallies(), ledger: newLedger(), goods: goods, spareAway: true},
		load: cfg, plan: newPlan(cfg.Phases, cfg.Seed, cfg.Users, newTaste(goods, cfg.Zipf)), callers: make([][outcomes]atomic.Int64,
			len(cfg.CallerKeys)),
		leader: make(chan struct{}, 1), nudge: make(chan struct{}, 1),
		known: make(map[int64]*order), lag: newLatency(), scheduled: newLatency(), service: newLatency(), confirmed: newLatency(),
	}
	if r.napper, err = newNapper(); err != nil {
		return nil, err
	}
	defer func() { _ = r.napper.close() }() // a timer has nothing to lose
	before := usageNow()
	r.start = l.clock.now()
	r.series = newSeries(r.start)
	r.watch(Buying, func() { r.send(ctx) })
	generator := usageNow().since(before)
	sent := r.tallies.lastAnswer()
	complete := r.verify(ctx)
	return r.summarize(max(sent.Sub(r.start), 0), generator, ctx.Err() != nil, complete), nil
}

// readAfterInterrupt is how long orders are read back when a load was ended early.
const readAfterInterrupt = 10 * time.Second

// verify reads the orders back and reports whether all were read.
func (l *load) verify(ctx context.Context) bool {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), readAfterInterrupt)
		defer cancel()
	}
	l.watch(Checking, func() { l.check(ctx) })
	orders, _ := l.ledger.size()
	return int(l.read.Load()) == orders
}

// send lets the workers follow the plan until all has left and is answered, or ctx has ended and
// what was under way is answered.
func (l *load) send(ctx context.Context) {
	l.leader <- struct{}{}
	var workers sync.WaitGroup
	for range min(int64(l.load.Connections), max(l.plan.count, 1)) {
		workers.Go(func() {
			h := newHand(l.shop)
			for {
				t, ok := l.take(ctx)
				if !ok {
					return
				}
				l.play(h, &t)
				l.done()
			}
		})
	}
	workers.Wait()
}

// task is a request that is due.
type task struct {
	due    time.Time
	number int64 // of the departure, or of the one whose key and order this is about
	action Action
	order  *order // of follow-ups
	click  time.Time
	sent   int // how often before
}

// followups is a heap by due time.
type followups []task

func (f followups) Len() int           { return len(f) }
func (f followups) Less(i, j int) bool { return f[i].due.Before(f[j].due) }
func (f followups) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *followups) Push(x any)        { *f = append(*f, x.(task)) }
func (f *followups) Pop() any {
	old := *f
	last := old[len(old)-1]
	*f = old[:len(old)-1]
	return last
}

// take returns the next task when it is due, and false when there will be none. One worker waits
// for the clock and then plays what it waited for itself; handing every request to another
// goroutine would cost more than the request.
func (l *load) take(ctx context.Context) (task, bool) {
	l.idle.Add(1)
	<-l.leader // workers give it back before they play
	defer func() { l.leader <- struct{}{} }()
	l.idle.Add(-1)
	for {
		t, wait, state := l.pick(ctx.Err() != nil)
		switch state {
		case over:
			return task{}, false
		case ready:
			return t, true
		case ahead:
			l.rest(ctx, wait)
		case nothing:
			select {
			case <-l.nudge:
			case <-l.soon(ctx):
			}
		}
	}
}

// soon returns what ends a wait early: the context, until it has.
func (l *load) soon(ctx context.Context) <-chan struct{} {
	if ctx.Err() != nil {
		return nil
	}
	return ctx.Done()
}

// rest waits, or less when there is news.
func (l *load) rest(ctx context.Context, d time.Duration) {
	if d <= napFrom && l.napper.nap(d) == nil {
		return
	}
	timer := time.NewTimer(max(d-napFrom, 0))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.nudge:
	case <-l.soon(ctx):
	}
}

// picked is what pick found.
type picked uint8

const (
	over    picked = iota // nothing leaves any more, and nothing is under way that something could follow
	nothing               // something is under way
	ahead                 // the next task isn't due
	ready
)

// pick takes the earliest task if it is due.
func (l *load) pick(ended bool) (t task, wait time.Duration, state picked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ended {
		if l.stopped.IsZero() {
			l.stopped = l.clock.now()
		}
		l.later = nil
	}
	for {
		planned := !ended && l.next < l.plan.count
		switch {
		case planned:
			t = task{due: l.start.Add(l.plan.due(l.next)), number: l.next}
			if len(l.later) > 0 && l.later[0].due.Before(t.due) {
				t, planned = l.later[0], false
			}
		case len(l.later) > 0:
			t = l.later[0]
		case l.underway > 0:
			return t, 0, nothing
		default:
			return t, 0, over
		}
		now := l.clock.now()
		if wait := t.due.Sub(now); wait > 0 {
			return t, wait, ahead
		}
		if !planned {
			heap.Pop(&l.later)
			l.underway++
			return t, 0, ready
		}
		l.next++
		if l.leaves(now, now.Sub(t.due)) {
			l.underway++
			return t, 0, ready
		}
	}
}

// leaves notes how late a departure is, and reports whether it still leaves. The caller holds mu.
func (l *load) leaves(now time.Time, late time.Duration) bool {
	if late > l.load.RequestTimeout {
		l.dropped++
		return false
	}
	l.lastLeft = now
	if late > crowdedFrom && l.idle.Load() == 0 {
		l.crowded++ // all others are waiting for answers
		return true
	}
	l.lag.record(late)
	return true
}

// crowdedFrom is how late a departure has to be for its reason to be asked. Below it is what timers
// and scheduling cost.
const crowdedFrom = time.Millisecond

// done notes that a task is over.
func (l *load) done() {
	l.mu.Lock()
	l.underway--
	last := l.underway == 0
	l.mu.Unlock()
	if last {
		l.wake()
	}
}

func (l *load) wake() {
	select {
	case l.nudge <- struct{}{}:
	default: // it will look anyway
	}
}

// follow keeps a task for its time.
func (l *load) follow(t task) {
	l.mu.Lock()
	heap.Push(&l.later, t)
	first := l.later[0].due.Equal(t.due)
	l.mu.Unlock()
	if first {
		l.wake()
	}
}

// play sends what is due and learns from the answer.
func (l *load) play(h *hand, t *task) {
	h.door = int(t.number % int64(len(l.shop.doors)))
	if t.order != nil {
		l.settle(h, t)
		return
	}
	sent := l.clock.now()
	if l.plan.kind(t.number) == browsing {
		goods, caller := l.plan.goods(t.number)
		ans := h.browse(caller, goods.Activity, t.due)
		l.count(Browse, ans, sent)
		return
	}
	l.press(h, t, sent)
}

// count notes the answer to a departure.
func (l *load) count(action Action, ans *answer, sent time.Time) {
	l.tallies.record(action, ans)
	l.series.record(action, ans)
	if ans.code == codeConnection {
		return // nobody waited for it
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.scheduled.record(ans.latency)
	l.service.record(ans.at.Sub(sent))
}

// press sends a purchase.
func (l *load) press(h *hand, t *task, sent time.Time) {
	number := t.number
	origin := l.plan.origin(number)
	switch {
	case origin == number:
	case l.plan.kind(number) == doubling:
		l.doubleClicks.Add(1)
	default:
		l.repeats.Add(1)
	}
	name := strconv.FormatUint(l.load.Seed, 36) + "-"
	goods, caller := l.plan.goods(origin)
	p := &purchase{
		goods: goods, caller: caller,
		user: "u-" + name + strconv.FormatUint(l.plan.user(origin), 10), key: "k-" + name + strconv.FormatInt(origin, 10),
	}
	goods.took(l.load.Quantity)
	promised := l.promise(origin)
	ans := h.buy(p, l.load.Quantity, t.due)
	l.count(Buy, ans, sent)
	goods.counts[ans.outcome].Add(1)
	l.callers[caller][ans.outcome].Add(1)
	switch ans.outcome {
	case Accepted:
		l.accept(origin, p, ans, t.due)
	case Replayed:
		goods.took(-l.load.Quantity) // the purchase that took it has counted it
		l.accept(origin, p, ans, t.due)
	case Unknown:
		l.name(origin, p, ans, false)
	case SoldOut, PurchaseLimit, Refused:
		if promised != nil {
			l.ledger.forgot(p.key, promised.id, ans.code)
		}
		goods.refused(l.load.Quantity, ans, l.start)
	case Limited, Shed, Degraded:
		goods.took(-l.load.Quantity)
	}
}

// promise returns the order that a key was promised, if it was.
func (l *load) promise(origin int64) *order {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.known[origin]; o != nil && o.promised {
		return o
	}
	return nil
}

// name notes that the server named an order for a key, and whether it promised it. fresh is true
// the first time it did.
func (l *load) name(origin int64, p *purchase, ans *answer, promised bool) (o *order, fresh bool) {
	l.mu.Lock()
	known := l.known[origin]
	l.mu.Unlock()
	o = known
	if known == nil || known.id != ans.order {
		o = l.ledger.place(p, ans.order)
	}
	l.mu.Lock()
	known = l.known[origin] // a double click may have been quicker
	if known == nil {
		l.known[origin] = o
	}
	fresh = promised && !o.promised
	if fresh {
		o.promised, o.promisedAt = true, ans.at
	}
	l.mu.Unlock()
	if known != nil && known.id != ans.order {
		l.ledger.differs(p.key, known.id, ans.order)
	}
	if fresh {
		l.ledger.promise()
	}
	return o, fresh
}

// When buyers go on with an order.
const (
	firstPoll  = 50 * time.Millisecond
	longestGap = time.Second // between polls
	think      = 200 * time.Millisecond
	thinkMore  = 2 * time.Second
)

// accept notes a promise and decides, from the seed, what becomes of the order.
func (l *load) accept(origin int64, p *purchase, ans *answer, click time.Time) {
	o, fresh := l.name(origin, p, ans, true)
	if !fresh {
		return
	}
	mix := &l.plan.at(origin).phase.Mix
	if ans.status != "" && ans.status != statusQueued {
		l.confirm(ans.at.Sub(click))
	} else if l.plan.share(origin, diePoll) < mix.Poll {
		l.follow(task{due: ans.at.Add(firstPoll), number: origin, action: Poll, order: o, click: click})
	}
	t := task{due: ans.at.Add(think + time.Duration(l.plan.share(origin, dieThink)*float64(thinkMore-think))), number: origin, order: o}
	switch mood := l.plan.share(origin, dieAfter); {
	case mood < mix.Pay:
		t.action = Pay
		l.follow(t)
	case mood < mix.Pay+mix.Cancel:
		t.action = Cancel
		l.follow(t)
	}
}

func (l *load) confirm(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.confirmed.record(d)
}

// settle sends what follows an order: it is asked for, paid, or cancelled.
func (l *load) settle(h *hand, t *task) {
	t.sent++
	var ans *answer
	switch t.action {
	case Poll:
		ans = h.poll(t.order, t.due)
	case Pay:
		ans = h.pay(t.order, l.load.Quantity, t.due)
		t.order.paid = t.order.paid || ans.outcome == Done
	default:
		if t.order.givenUp.IsZero() {
			t.order.givenUp = l.clock.now()
		}
		ans = h.cancel(t.order, t.due)
		t.order.cancelled = t.order.cancelled || ans.outcome == Done
	}
	l.tallies.record(t.action, ans)
	l.series.record(t.action, ans)
	switch {
	case t.action != Poll:
		if wait, again := l.comeBack(t.sent, ans); again {
			t.due = ans.at.Add(wait)
			l.follow(*t)
		}
	case ans.outcome == Done && ans.status != statusQueued:
		if ans.status == statusPending || ans.status == statusPaid {
			l.confirm(ans.at.Sub(t.click))
		}
	case ans.at.Sub(t.click) < l.load.PollFor:
		t.due = ans.at.Add(max(ans.retryAfter, min(firstPoll<<min(t.sent-1, 10), longestGap)))
		l.follow(*t)
	}
}

// watch calls Progress while f runs, and once more when it has ended.
func (l *load) watch(stage Stage, f func()) {
	if l.load.Progress == nil {
		f()
		return
	}
	done := make(chan struct{})
	var reporter sync.WaitGroup
	reporter.Go(func() {
		tick := time.NewTicker(l.load.ProgressEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				l.load.Progress(l.far(stage))
				return
			case <-tick.C:
				l.load.Progress(l.far(stage))
			}
		}
	})
	f()
	close(done)
	reporter.Wait()
}

// far says how far the load is.
func (l *load) far(stage Stage) LoadProgress {
	orders, promised := l.ledger.size()
	p := LoadProgress{
		Stage: stage, Of: l.plan.count, Accepted: promised, Elapsed: l.clock.now().Sub(l.start), Length: l.plan.length,
		Outcomes: l.tallies.counts(Buy),
	}
	l.mu.Lock()
	p.Done, p.InFlight, p.Dropped = l.next, l.underway, l.dropped
	l.mu.Unlock()
	if stage == Checking {
		p.Done, p.Of = l.read.Load(), int64(orders)
	}
	return p
}

// usage is what the process had used at a time.
type usage struct {
	at      time.Time
	cpu     time.Duration
	cpuSeen bool
	gcs     uint32
	pause   time.Duration
	memory  uint64
}

func usageNow() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{at: time.Now(), gcs: m.NumGC, pause: time.Duration(m.PauseTotalNs), memory: m.Sys}
	u.cpu, u.cpuSeen = cpuTime()
	return u
}

// since returns what was used since before; the memory is all there is.
func (u usage) since(before usage) Generator {
	return Generator{
		Elapsed: u.at.Sub(before.at), CPU: u.cpu - before.cpu, CPUKnown: u.cpuSeen && before.cpuSeen, Cores: runtime.GOMAXPROCS(0),
		Collections: int(u.gcs - before.gcs), Pauses: u.pause - before.pause, Memory: int64(u.memory),
	}
}
