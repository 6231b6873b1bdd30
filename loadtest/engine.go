package loadtest

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// arrivals is an arrival policy: the times and the kinds of arrivals. It is fixed before the first
// arrival leaves, so that a slow answer delays no other arrival.
type arrivals[T any] interface {
	// number returns the number of arrivals.
	number() int64
	// due returns when arrival i, counted from 0, must leave. The times never decrease. The zero
	// time means as soon as there is room.
	due(i int64) time.Time
	// arrive returns arrival i. It is called once for each arrival, in order, when the arrival is
	// due.
	arrive(i int64) T
	// leaves reports whether an arrival that is this late still leaves. crowded means that no other
	// worker was free.
	leaves(now time.Time, late time.Duration, crowded bool) bool
}

// turn is something that is due: an arrival, or a request that follows one.
type turn[T any] struct {
	due time.Time
	of  T
}

// turns is a heap by due time.
type turns[T any] []turn[T]

func (t turns[T]) Len() int           { return len(t) }
func (t turns[T]) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t turns[T]) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *turns[T]) Push(x any)        { *t = append(*t, x.(turn[T])) }
func (t *turns[T]) Pop() any {
	old := *t
	last := old[len(old)-1]
	*t = old[:len(old)-1]
	return last
}

// engine hands out turns in the order in which they are due, to workers that play them. A waiting
// turn uses no worker.
type engine[T any] struct {
	// Fixed after newEngine.
	clock    clock
	arrivals arrivals[T]
	napper   *napper       // the leader's, so that its waits end more exactly; may be nil
	leader   chan struct{} // a token: its owner waits for the next turn, and the other workers wait for the token
	nudge    chan struct{} // tells the leader to look again

	idle atomic.Int64 // workers that wait for the token

	mu       sync.Mutex
	stopped  time.Time // when ctx ended; zero if it hasn't; guarded by mu
	next     int64     // index of the next arrival; guarded by mu
	later    turns[T]  // guarded by mu
	underway int       // guarded by mu
}

func newEngine[T any](c clock, a arrivals[T], n *napper) *engine[T] {
	return &engine[T]{clock: c, arrivals: a, napper: n, leader: make(chan struct{}, 1), nudge: make(chan struct{}, 1)}
}

// run lets workers play turns, each with its own player, until there are no turns, and no turn in
// progress can cause another one. When ctx ends, nothing leaves, and run returns when the turns in
// progress are over.
func (e *engine[T]) run(ctx context.Context, workers int, player func() func(*turn[T])) {
	e.leader <- struct{}{}
	var all sync.WaitGroup
	for range min(int64(workers), max(e.arrivals.number(), 1)) {
		all.Go(func() {
			play := player()
			for {
				t, ok := e.take(ctx)
				if !ok {
					return
				}
				play(&t)
				e.done()
			}
		})
	}
	all.Wait()
}

// follow adds a turn for a later time.
func (e *engine[T]) follow(due time.Time, of T) {
	e.mu.Lock()
	heap.Push(&e.later, turn[T]{due, of})
	first := e.later[0].due.Equal(due)
	e.mu.Unlock()
	if first {
		e.wake()
	}
}

// progress returns how many arrivals have left or were dropped, and how many turns are in progress.
func (e *engine[T]) progress() (left int64, underway int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.next, e.underway
}

// take returns the next turn when it is due, and false when there will be none. One worker waits
// for the clock, and then plays the turn itself, because handing every turn to another goroutine
// would cost more than the request.
func (e *engine[T]) take(ctx context.Context) (turn[T], bool) {
	e.idle.Add(1)
	<-e.leader // a worker gives it back before it plays
	defer func() { e.leader <- struct{}{} }()
	e.idle.Add(-1)
	for {
		t, state := e.pick(ctx.Err() != nil)
		switch state {
		case over:
			return t, false
		case ready:
			return t, true
		case ahead:
			e.rest(ctx, t.due)
		case nothing:
			select {
			case <-e.nudge:
			case <-soon(ctx):
			}
		}
	}
}

// soon returns the channel that ends a wait early: the end of the context, if that has not come
// yet.
func soon(ctx context.Context) <-chan struct{} {
	if ctx.Err() != nil {
		return nil
	}
	return ctx.Done()
}

// rest waits until due, or shorter if something has changed.
func (e *engine[T]) rest(ctx context.Context, due time.Time) {
	if e.napper != nil {
		if wait := due.Sub(e.clock.now()); wait <= napFrom && e.napper.nap(wait) == nil {
			return
		}
		due = due.Add(-napFrom)
	}
	came, stop := e.clock.at(due)
	defer stop()
	select {
	case <-came:
	case <-e.nudge:
	case <-soon(ctx):
	}
}

// picked is the result of pick.
type picked uint8

const (
	over    picked = iota // nothing leaves any longer, and no turn in progress can cause another one
	nothing               // a turn is in progress
	ahead                 // the next turn isn't due
	ready
)

// pick takes the earliest turn if it is due.
func (e *engine[T]) pick(ended bool) (t turn[T], state picked) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.clock.now()
	if ended {
		if e.stopped.IsZero() {
			e.stopped = now
		}
		e.later = nil
	}
	for {
		arrives := !ended && e.next < e.arrivals.number()
		if arrives {
			if t.due = e.arrivals.due(e.next); t.due.IsZero() {
				t.due = now
			}
		}
		switch {
		case len(e.later) > 0 && (!arrives || !e.later[0].due.After(t.due)):
			t, arrives = e.later[0], false
		case arrives:
		case e.underway > 0:
			return t, nothing
		default:
			return t, over
		}
		if t.due.After(now) {
			return t, ahead
		}
		if !arrives {
			heap.Pop(&e.later)
			e.underway++
			return t, ready
		}
		i := e.next
		e.next++
		if e.arrivals.leaves(now, now.Sub(t.due), e.idle.Load() == 0) {
			t.of = e.arrivals.arrive(i)
			e.underway++
			return t, ready
		}
	}
}

// done records that a turn is over.
func (e *engine[T]) done() {
	e.mu.Lock()
	e.underway--
	last := e.underway == 0
	e.mu.Unlock()
	if last {
		e.wake()
	}
}

func (e *engine[T]) wake() {
	select {
	case e.nudge <- struct{}{}:
	default: // it will look anyway
	}
}
