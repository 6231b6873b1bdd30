package loadtest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Crowd is a crowd that is ready to run. Only one Run at a time is allowed. A second run repeats
// all purchases of the first.
type Crowd struct {
	cfg   Config
	clock clock
}

// NewCrowd makes a crowd, or returns all mistakes in cfg.
func NewCrowd(cfg Config) (*Crowd, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Crowd{cfg, realClock()}, nil
}

// Progress is the progress of a crowd.
type Progress struct {
	Stage    Stage
	Done     int   // buyers served, or orders read back
	Of       int   // buyers, or orders
	Requests int64 // purchases answered so far
	Accepted int   // orders promised so far
	Elapsed  time.Duration
}

// Stage is what a crowd does at the moment.
type Stage uint8

// The stages.
const (
	Buying   Stage = iota // buyers press, pay, cancel
	Checking              // every accepted order is read back
)

// run is a crowd while it runs.
type run struct {
	// Fixed after Run began.
	cfg     Config
	clock   clock
	shop    *shop
	tallies *tallies
	ledger  *ledger
	start   time.Time
	goods   []*goods // the goods of a crowd: only one
	// spareAway means that an order proves nothing if the server gave no answer about it. In a
	// demo, whose server is in the same process, such an order does prove something.
	spareAway bool

	// Atomic.
	served       atomic.Int64 // buyers who have left
	doubleClicks atomic.Int64
	repeats      atomic.Int64
	retries      atomic.Int64
	secondTries  atomic.Int64
	read         atomic.Int64 // orders read back
}

// Run sends the crowd, reads back every order that it was promised, and judges. If nobody listens
// at the target, it returns an error. Everything that happens later is in the result. When ctx
// ends, buyers who were not served leave, nothing is read back, and the verdict covers the answers
// until then.
func (c *Crowd) Run(ctx context.Context) (*Result, error) {
	cfg := &c.cfg
	who := credentials{[]string{cfg.CallerKey}, []string{cfg.PaymentSecret}}
	shop, err := newShop([]string{cfg.Target}, who, cfg.RequestTimeout, 2*cfg.Concurrency, c.clock)
	if err != nil {
		return nil, err
	}
	if err := shop.reach(ctx); err != nil {
		return nil, err
	}
	defer shop.close()
	item := Item{
		Activity: cfg.Activity, SKU: cfg.SKU, Known: cfg.Stock > 0, Stock: cfg.Stock, Available: cfg.Stock, PerUser: cfg.PerUser,
		Price: cfg.Price, Currency: cfg.Currency,
	}
	r := &run{cfg: c.cfg, clock: c.clock, shop: shop, tallies: newTallies(), ledger: newLedger(),
		start: c.clock.now(), goods: []*goods{newGoods(&item, 0)}}

	r.report(Buying, func() { r.buy(ctx) })
	bought := r.tallies.lastAnswer()
	if ctx.Err() == nil {
		r.report(Checking, func() { r.check(ctx) })
	}
	return r.result(bought.Sub(r.start), ctx.Err() != nil), nil
}

// buyers are the arrivals of a crowd.
type buyers struct{ run *run }

func (b *buyers) number() int64         { return int64(b.run.cfg.Buyers) }
func (b *buyers) arrive(i int64) *buyer { return newBuyer(&b.run.cfg, int(i)) }

// due spreads the first clicks evenly.
func (b *buyers) due(i int64) time.Time {
	if b.run.cfg.Within == 0 {
		return time.Time{}
	}
	// The product is computed as a float64, because within*count would overflow for ten million
	// buyers in a day. The error is below a nanosecond per million.
	return b.run.start.Add(time.Duration(float64(b.run.cfg.Within) * (float64(i) / float64(b.run.cfg.Buyers))))
}

// leaves records how late a buyer is. It turns no buyer away.
func (b *buyers) leaves(_ time.Time, late time.Duration, _ bool) bool {
	if b.run.cfg.Within > 0 {
		b.run.tallies.late(late)
	}
	return true
}

// buy lets the buyers come, and returns when all are gone or the deadline has passed.
func (r *run) buy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Deadline)
	defer cancel()
	e := newEngine(r.clock, &buyers{r}, nil)
	e.run(ctx, r.cfg.Concurrency, func() func(*turn[*buyer]) {
		w := newWorker(r)
		return func(t *turn[*buyer]) {
			if wait := w.play(t.of, t.due); wait > 0 {
				e.follow(r.clock.now().Add(wait), t.of)
				return
			}
			r.served.Add(1)
		}
	})
}

// report calls Progress while f runs.
func (r *run) report(stage Stage, f func()) {
	var tell func()
	if r.cfg.Progress != nil {
		tell = func() { r.cfg.Progress(r.progress(stage)) }
	}
	watch(r.cfg.ProgressEvery, tell, f)
}

// watch calls tell regularly while f runs, and once more at the end. tell may be nil.
func watch(every time.Duration, tell, f func()) {
	if tell == nil {
		f()
		return
	}
	done := make(chan struct{})
	var reporter sync.WaitGroup
	reporter.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				tell()
				return
			case <-tick.C:
				tell()
			}
		}
	})
	f()
	close(done)
	reporter.Wait()
}

func (r *run) progress(stage Stage) Progress {
	orders, promised := r.ledger.size()
	p := Progress{
		Stage: stage, Done: int(r.served.Load()), Of: r.cfg.Buyers, Accepted: promised,
		Requests: r.tallies.sent(Buy), Elapsed: r.clock.now().Sub(r.start),
	}
	if stage == Checking {
		p.Done, p.Of = int(r.read.Load()), orders
	}
	return p
}

// shortestWait is how long a buyer waits if the answer names no time.
const shortestWait = 100 * time.Millisecond

// comeBack reports whether and when a buyer sends a request again after this answer. sent is how
// often it was sent before. Without an answer it is sent again soon, which is safe because the same
// key never buys twice.
func (r *run) comeBack(sent int, ans *answer) (time.Duration, bool) {
	if sent >= r.cfg.Attempts || !ans.passing() {
		return 0, false
	}
	wait := max(ans.retryAfter, shortestWait)
	return wait, wait <= r.cfg.Patience
}

// decide pays or cancels an order, and records what is certain about it.
func (r *run) decide(h *hand, action Action, o *order, since time.Time) *answer {
	var ans *answer
	if action == Pay {
		ans = h.pay(o, r.cfg.Quantity, since)
		o.paid = o.paid || ans.outcome == Done
	} else {
		if o.givenUp.IsZero() {
			o.givenUp = r.clock.now()
		}
		ans = h.cancel(o, since)
		o.cancelled = o.cancelled || ans.outcome == Done
	}
	r.tallies.record(action, ans)
	return ans
}

// passing reports whether the same request may get another answer after a while.
func (a *answer) passing() bool {
	switch a.outcome {
	case Limited, Shed, Degraded, Unknown:
		return true
	case Failed:
		switch a.code {
		case codeTimeout, codeConnection, "unavailable", "internal":
			return true
		}
	}
	return false
}

// learn records what an answer to a purchase says about its key. afterwards is true for a repeat
// that was sent after the key was decided.
func (r *run) learn(b *buyer, t *try, ans *answer, afterwards bool) {
	switch ans.outcome {
	case Accepted, Replayed:
		r.place(b, t, ans, true)
	case Unknown:
		t.uncertain = true
		r.place(b, t, ans, false)
	case Failed:
		t.uncertain = true
	case SoldOut, PurchaseLimit, Refused:
		if t.promised() && afterwards {
			r.ledger.forgot(t.key, t.order.id, ans.code)
		}
		t.refused = t.refused || !afterwards
	}
}

// purchase returns the purchase of a try.
func (r *run) purchase(b *buyer, t *try) *purchase {
	return &purchase{goods: r.goods[0], user: b.user, key: t.key}
}

// place records that the server named an order for the key. If a key gets a second order, that is
// read back, too.
func (r *run) place(b *buyer, t *try, ans *answer, promised bool) {
	o := t.order
	switch {
	case o == nil:
		o = r.ledger.place(r.purchase(b, t), ans.order)
		t.order = o
	case o.id != ans.order:
		r.ledger.differs(t.key, o.id, ans.order)
		o = r.ledger.place(r.purchase(b, t), ans.order)
	}
	if promised && !o.promised {
		o.promised, o.promisedAt = true, ans.at
		r.ledger.promise()
	}
}

// soldOutGrace is how long "sold out" may be wrong under L6.
const soldOutGrace = time.Second

// decided records that a key was finally refused.
func (r *run) decided(t *try, ans *answer) {
	if t.order == nil && !t.uncertain {
		r.goods[0].refused(r.cfg.Quantity, ans, r.start)
	}
}
