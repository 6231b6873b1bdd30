package loadtest

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// ErrSale is wrapped by errors about a sale that can't be loaded.
var ErrSale = errors.New("the sale can't be loaded")

// Load is a load that is ready to run. It is an open model: its requests leave on schedule,
// whatever the answers are.
type Load struct {
	cfg   LoadConfig
	clock clock
}

// NewLoad makes a load, or returns all mistakes in cfg.
func NewLoad(cfg LoadConfig) (*Load, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Load{cfg, realClock()}, nil
}

// LoadProgress is the progress of a load.
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

// load is a load that is running. Its arrivals are the departures of its plan.
type load struct {
	run
	// Fixed after Run began.
	load   LoadConfig
	plan   *plan
	series *series
	engine *engine[task]

	callers [][outcomes]atomic.Int64 // answers to purchases, by caller

	mu        sync.Mutex
	lastLeft  time.Time        // when the last departure left; guarded by mu
	dropped   int64            // guarded by mu
	crowded   int64            // guarded by mu: departures that left late because no place was free
	known     map[int64]*order // orders by the departure after which their key is named; also guards their promises; guarded by mu
	scheduled *Latency         // answers to departures, from the time when they were due; guarded by mu
	service   *Latency         // the same answers, from the time when they were sent; guarded by mu
	confirmed *Latency         // from the click to the order; guarded by mu
}

// Run sends the load, reads back every order that it was promised, and judges. If nobody listens at
// a target, or if the sale can't be bought from at all, it returns an error. Everything that
// happens later is in the result. When ctx ends, nothing leaves any longer; requests in flight are
// waited for, and orders are read back for a while.
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
		known: make(map[int64]*order), scheduled: newLatency(), service: newLatency(), confirmed: newLatency(),
	}
	napper, err := newNapper()
	if err != nil {
		return nil, err
	}
	defer func() { _ = napper.close() }() // closing a timer loses nothing
	r.engine = newEngine(l.clock, r, napper)
	before := usageNow()
	r.start = l.clock.now()
	r.series = newSeries(r.start)
	r.watch(Buying, func() { r.send(ctx) })
	generator := usageNow().since(before)
	sent := r.tallies.lastAnswer()
	complete := r.verify(ctx)
	return r.summarize(max(sent.Sub(r.start), 0), generator, ctx.Err() != nil, complete), nil
}

// readAfterInterrupt is how long orders are read back after a load was ended early.
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

// send lets the departures leave, and the requests that follow them.
func (l *load) send(ctx context.Context) {
	l.engine.run(ctx, l.load.Connections, func() func(*turn[task]) {
		h := newHand(l.shop)
		return func(t *turn[task]) { l.play(h, t.due, &t.of) }
	})
}

// task is a request that is due.
type task struct {
	number int64 // the number of the departure, or of the one to whose key and order this belongs
	action Action
	order  *order // set for a request that follows an order
	click  time.Time
	sent   int // how often it was sent before
}

func (l *load) number() int64         { return l.plan.count }
func (l *load) due(i int64) time.Time { return l.start.Add(l.plan.due(i)) }
func (l *load) arrive(i int64) task   { return task{number: i} }

// crowdedFrom is how late a departure must be for its reason to matter. Shorter delays come from
// timers and scheduling.
const crowdedFrom = time.Millisecond

// leaves records how late a departure is. If it can't leave within the request timeout, it is
// dropped.
func (l *load) leaves(now time.Time, late time.Duration, crowded bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if late > l.load.RequestTimeout {
		l.dropped++
		return false
	}
	l.lastLeft = now
	if late > crowdedFrom && crowded {
		l.crowded++ // all other workers wait for answers
		return true
	}
	l.tallies.late(late)
	return true
}

// play sends the due request and records the answer.
func (l *load) play(h *hand, due time.Time, t *task) {
	h.door = int(t.number % int64(len(l.shop.doors)))
	if t.order != nil {
		l.settle(h, due, t)
		return
	}
	sent := l.clock.now()
	if l.plan.kind(t.number) == browsing {
		goods, caller := l.plan.goods(t.number)
		ans := h.browse(caller, goods.Activity, due)
		l.count(Browse, ans, sent)
		return
	}
	l.press(h, t.number, due, sent)
}

// count records the answer to a departure.
func (l *load) count(action Action, ans *answer, sent time.Time) {
	l.tallies.record(action, ans)
	l.series.record(action, ans)
	if ans.code == codeConnection {
		return // no buyer waited for this answer
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.scheduled.record(ans.latency)
	l.service.record(ans.at.Sub(sent))
}

// press sends a purchase.
func (l *load) press(h *hand, number int64, due, sent time.Time) {
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
	ans := h.buy(p, l.load.Quantity, due)
	l.count(Buy, ans, sent)
	goods.counts[ans.outcome].Add(1)
	l.callers[caller][ans.outcome].Add(1)
	switch ans.outcome {
	case Accepted:
		l.accept(origin, p, ans, due)
	case Replayed:
		goods.took(-l.load.Quantity) // the purchase that took the units has counted them
		l.accept(origin, p, ans, due)
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

// promise returns the order that was promised for a key, if one was.
func (l *load) promise(origin int64) *order {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.known[origin]; o != nil && o.promised {
		return o
	}
	return nil
}

// name records that the server named an order for a key, and whether it promised the order. fresh
// is true for the first time.
func (l *load) name(origin int64, p *purchase, ans *answer, promised bool) (o *order, fresh bool) {
	l.mu.Lock()
	known := l.known[origin]
	l.mu.Unlock()
	o = known
	if known == nil || known.id != ans.order {
		o = l.ledger.place(p, ans.order)
	}
	l.mu.Lock()
	known = l.known[origin] // a double click may have come first
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

// The times after which buyers continue with an order.
const (
	firstPoll  = 50 * time.Millisecond
	longestGap = time.Second // between two polls
	think      = 200 * time.Millisecond
	thinkMore  = 2 * time.Second
)

// accept records a promise and decides, from the seed, what the buyer does with the order.
func (l *load) accept(origin int64, p *purchase, ans *answer, click time.Time) {
	o, fresh := l.name(origin, p, ans, true)
	if !fresh {
		return
	}
	mix := &l.plan.at(origin).phase.Mix
	if ans.status != "" && ans.status != statusQueued {
		l.confirm(ans.at.Sub(click))
	} else if l.plan.share(origin, diePoll) < mix.Poll {
		l.engine.follow(ans.at.Add(firstPoll), task{number: origin, action: Poll, order: o, click: click})
	}
	t, due := task{number: origin, order: o}, ans.at.Add(think+time.Duration(l.plan.share(origin, dieThink)*float64(thinkMore-think)))
	switch mood := l.plan.share(origin, dieAfter); {
	case mood < mix.Pay:
		t.action = Pay
		l.engine.follow(due, t)
	case mood < mix.Pay+mix.Cancel:
		t.action = Cancel
		l.engine.follow(due, t)
	}
}

func (l *load) confirm(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.confirmed.record(d)
}

// settle sends the request that follows an order: a read, a payment, or a cancellation.
func (l *load) settle(h *hand, due time.Time, t *task) {
	t.sent++
	var ans *answer
	if t.action == Poll {
		ans = h.poll(t.order, due)
		l.tallies.record(Poll, ans)
	} else {
		ans = l.decide(h, t.action, t.order, due)
	}
	l.series.record(t.action, ans)
	switch {
	case t.action != Poll:
		if wait, again := l.comeBack(t.sent, ans); again {
			l.engine.follow(ans.at.Add(wait), *t)
		}
	case ans.outcome == Done && ans.status != statusQueued:
		if ans.status == statusPending || ans.status == statusPaid {
			l.confirm(ans.at.Sub(t.click))
		}
	case ans.at.Sub(t.click) < l.load.PollFor:
		l.engine.follow(ans.at.Add(max(ans.retryAfter, min(firstPoll<<min(t.sent-1, 10), longestGap))), *t)
	}
}

// watch calls Progress while f runs.
func (l *load) watch(stage Stage, f func()) {
	var tell func()
	if l.load.Progress != nil {
		tell = func() { l.load.Progress(l.far(stage)) }
	}
	watch(l.load.ProgressEvery, tell, f)
}

// far returns how far the load is.
func (l *load) far(stage Stage) LoadProgress {
	orders, promised := l.ledger.size()
	p := LoadProgress{
		Stage: stage, Of: l.plan.count, Accepted: promised, Elapsed: l.clock.now().Sub(l.start), Length: l.plan.length,
		Outcomes: l.tallies.counts(Buy),
	}
	p.Done, p.InFlight = l.engine.progress()
	l.mu.Lock()
	p.Dropped = l.dropped
	l.mu.Unlock()
	if stage == Checking {
		p.Done, p.Of = l.read.Load(), int64(orders)
	}
	return p
}

// usage has the resources that the process has used until a time.
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

// since returns the use since before; for memory it returns the current total.
func (u usage) since(before usage) Generator {
	return Generator{
		Elapsed: u.at.Sub(before.at), CPU: u.cpu - before.cpu, CPUKnown: u.cpuSeen && before.cpuSeen, Cores: runtime.GOMAXPROCS(0),
		Collections: int(u.gcs - before.gcs), Pauses: u.pause - before.pause, Memory: int64(u.memory),
	}
}
