package loadtest

import (
	"container/heap"
	"context"
	"time"
)

// clock is time as the crowd sees it: the machine's, or in tests one that stands still until
// somebody waits.
type clock struct {
	now func() time.Time
	// at returns a channel that is readable once t has come, and a function that gives the timer
	// back.
	at func(t time.Time) (<-chan time.Time, func())
}

func realClock() clock {
	return clock{
		now: time.Now,
		at: func(t time.Time) (<-chan time.Time, func()) {
			timer := time.NewTimer(time.Until(t))
			return timer.C, func() { timer.Stop() }
		},
	}
}

// until waits for t and reports whether it came before ctx ended.
func (c clock) until(ctx context.Context, t time.Time) bool {
	came, stop := c.at(t)
	defer stop()
	select {
	case <-came:
		return true
	case <-ctx.Done():
		return false
	}
}

// schedule says when each of the first clicks is due. It is fixed before the first one leaves, so a
// slow answer delays nobody.
type schedule struct {
	start  time.Time
	within time.Duration // 0: as soon as there is room
	count  int
}

// departure returns when number i, from 0, is to leave; the zero time means as soon as there is
// room.
func (s schedule) departure(i int) time.Time {
	if s.within == 0 {
		return time.Time{}
	}
	// In float64: within*count overflows for a day of ten million buyers. Its error is below a
	// nanosecond a million.
	return s.start.Add(time.Duration(float64(s.within) * (float64(i) / float64(s.count))))
}

// visit is a buyer's turn: the first click, or going on after a wait.
type visit struct {
	due   time.Time // zero: no fixed time
	buyer *buyer
}

// visits is a heap by due time.
type visits []visit

func (v visits) Len() int           { return len(v) }
func (v visits) Less(i, j int) bool { return v[i].due.Before(v[j].due) }
func (v visits) Swap(i, j int)      { v[i], v[j] = v[j], v[i] }
func (v *visits) Push(x any)        { *v = append(*v, x.(visit)) }
func (v *visits) Pop() any {
	old := *v
	last := old[len(old)-1]
	*v = old[:len(old)-1]
	return last
}

// agenda hands out the buyers' turns in the order in which they are due: those who wait for a
// Retry-After first, then the next departure. A buyer who waits takes up no place among the
// Concurrency.
type agenda struct {
	// Fixed after newAgenda.
	clock    clock
	schedule schedule
	arrive   func(i int) *buyer
	turns    chan visit // taken by workers, closed by run
	back     chan visit // what became of a turn: to be continued, or over (no buyer)

	// Owned by run.
	waiting  visits
	next     int // the next departure
	underway int // turns handed out and not back
}

func newAgenda(c clock, s schedule, concurrency int, arrive func(i int) *buyer) *agenda {
	return &agenda{clock: c, schedule: s, arrive: arrive, turns: make(chan visit), back: make(chan visit, concurrency)}
}

// run hands out turns until every buyer is done, or ctx ends. It returns when all turns are back.
func (a *agenda) run(ctx context.Context) {
	defer a.drain()
	for {
		due, any := a.earliest()
		if !any {
			if a.underway == 0 {
				return
			}
			select {
			case v := <-a.back:
				a.settle(v)
			case <-ctx.Done():
				return
			}
			continue
		}
		if now := a.clock.now(); due.After(now) {
			if !a.wait(ctx, due) {
				return
			}
			continue
		}
		if !a.hand(ctx) {
			return
		}
	}
}

// earliest returns when the next turn is due, and whether there is one.
func (a *agenda) earliest() (time.Time, bool) {
	arriving := a.next < a.schedule.count
	switch {
	case len(a.waiting) == 0 && !arriving:
		return time.Time{}, false
	case len(a.waiting) == 0:
		return a.schedule.departure(a.next), true
	case !arriving:
		return a.waiting[0].due, true
	}
	departure := a.schedule.departure(a.next)
	if a.waiting[0].due.Before(departure) {
		return a.waiting[0].due, true
	}
	return departure, true
}

// wait returns when due has come or a turn came back, and false when ctx ended.
func (a *agenda) wait(ctx context.Context, due time.Time) bool {
	came, stop := a.clock.at(due)
	defer stop()
	select {
	case <-came:
	case v := <-a.back:
		a.settle(v)
	case <-ctx.Done():
		return false
	}
	return true
}

// hand hands the turn out that is due, as soon as a worker takes it, and reports false when ctx
// ended.
func (a *agenda) hand(ctx context.Context) bool {
	v := a.take()
	for {
		select {
		case a.turns <- v:
			a.underway++
			return true
		case back := <-a.back:
			a.settle(back)
		case <-ctx.Done():
			return false
		}
	}
}

// take removes the turn that is due: of one who waits if its time has come, otherwise the next
// departure.
func (a *agenda) take() visit {
	if len(a.waiting) > 0 && (a.next >= a.schedule.count || !a.waiting[0].due.After(a.clock.now())) {
		return heap.Pop(&a.waiting).(visit)
	}
	i := a.next
	a.next++
	return visit{a.schedule.departure(i), a.arrive(i)}
}

// settle notes what became of a turn.
func (a *agenda) settle(v visit) {
	a.underway--
	if v.buyer != nil {
		heap.Push(&a.waiting, v)
	}
}

// drain ends the workers and waits for the turns underway; the back channel has room for all of
// them.
func (a *agenda) drain() {
	close(a.turns)
	for a.underway > 0 {
		a.settle(<-a.back)
	}
}
