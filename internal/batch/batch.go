package batch

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Answers of Do that are not the call's own. With ErrFull and ErrClosed nothing happened. With ErrAbandoned (ctx ended while the
// item's call was in flight) and ErrPanic (the call did not return) the outcome is unknown: the item may have taken effect.
var (
	ErrFull      = errors.New("batch: queue full")
	ErrClosed    = errors.New("batch: closed")
	ErrAbandoned = errors.New("batch: abandoned in flight, outcome unknown")
	ErrPanic     = errors.New("batch: call panicked, outcome unknown")
)

// Config says how large and how many the calls of a Batcher may be. Only Parallel has a default: the other three depend on what
// is called, and a guess would hide a limit.
type Config struct {
	Cap      int           // most items of one call
	Queue    int           // most items waiting, those in flight not counted; beyond it Do returns ErrFull at once
	Parallel int           // most calls in flight at once; 0 is 1, which keeps items in order from call to call
	Timeout  time.Duration // of one call's context
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.Cap < 1 {
		errs = append(errs, fmt.Errorf("cap is %d, must be at least 1", c.Cap))
	}
	if c.Queue < 1 {
		errs = append(errs, fmt.Errorf("queue is %d, must be at least 1", c.Queue))
	}
	if c.Parallel < 0 {
		errs = append(errs, fmt.Errorf("parallel is %d, must not be negative", c.Parallel))
	}
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout is %v, must be positive", c.Timeout))
	}
	return errors.Join(errs...)
}

// Batcher collects items of concurrent Do calls and hands them to one function, many at a time. All methods may be called
// concurrently. The zero value is not usable; make one with New and end it with Close.
type Batcher[In, Out any] struct {
	// Fixed after New.
	cfg   Config
	call  func(ctx context.Context, in []In, out []Out) error
	start func() // b.work as a value: a go statement with it allocates nothing

	items sync.Pool // of *item[In, Out]

	mu      sync.Mutex
	queue   list[In, Out]
	workers int                // workers started and not ended; at most cfg.Parallel
	idle    []*flight[In, Out] // buffers of ended workers; at most cfg.Parallel
	closed  bool
	still   chan struct{} // closed once closed is true and workers is 0
	batches uint64
	sent    uint64
	refused uint64
}

// New returns a Batcher whose items go to call. call sets out[i] for each in[i] (out comes zeroed) or returns an error, which is
// then given to every item of the batch as it is. It runs on a goroutine of the batcher, on up to cfg.Parallel at once, must obey
// its ctx, must not keep in or out after it returns, and must use neither Do nor Close of its own batcher.
func New[In, Out any](cfg Config, call func(ctx context.Context, in []In, out []Out) error) (*Batcher[In, Out], error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("batch: %w", err)
	}
	if call == nil {
		return nil, errors.New("batch: no call")
	}
	cfg.Parallel = max(cfg.Parallel, 1)
	b := &Batcher[In, Out]{cfg: cfg, call: call, still: make(chan struct{})}
	b.start = b.work
	b.items.New = func() any { return &item[In, Out]{done: make(chan struct{}, 1)} }
	return b, nil
}

// Do sends in with the next call and returns its out, or the error of the whole call. It waits until then or until ctx ends: an
// item still queued is then taken back and never sent, and the error wraps ctx's error and cause (nothing happened); an item in
// flight cannot be taken back, and the error wraps ErrAbandoned as well (unknown outcome). An answer that is there wins over a ctx
// that ended. What in refers to must stay unchanged for ever where Do returns ErrAbandoned: the call still reads it.
func (b *Batcher[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	var zero Out
	if ctx.Err() != nil {
		return zero, notSent(ctx)
	}
	it := b.items.Get().(*item[In, Out])
	it.in = in
	if err := b.push(it); err != nil {
		b.recycle(it)
		return zero, err
	}
	select {
	case <-it.done:
	case <-ctx.Done():
		if b.takeBack(it) {
			b.recycle(it)
			return zero, notSent(ctx)
		}
		if it.state.CompareAndSwap(open, abandoned) {
			return zero, fmt.Errorf("%w: %w", ErrAbandoned, ended(ctx))
		}
		<-it.done // the worker is just answering
	}
	out, err := it.out, it.err
	b.recycle(it)
	return out, err
}

// Close refuses new items with ErrClosed, lets the queued ones and those in flight finish, and returns when no goroutine of the
// batcher is left. It may be called more than once; each call returns only then.
func (b *Batcher[In, Out]) Close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		if b.workers == 0 {
			close(b.still)
		}
	}
	b.mu.Unlock()
	<-b.still
}

// Stats is a Batcher's state at one moment. Batches, Items and Refused only grow.
type Stats struct {
	Queued   int    // items waiting for a call
	InFlight int    // calls in flight, or about to begin
	Batches  uint64 // calls begun
	Items    uint64 // items of these calls
	Refused  uint64 // items refused with ErrFull
}

// Stats returns the present state. It costs one short lock.
func (b *Batcher[In, Out]) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{Queued: b.queue.n, InFlight: b.workers, Batches: b.batches, Items: b.sent, Refused: b.refused}
}

// push queues it, and starts a worker where one more is allowed.
func (b *Batcher[In, Out]) push(it *item[In, Out]) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return ErrClosed
	}
	if b.queue.n >= b.cfg.Queue {
		b.refused++
		b.mu.Unlock()
		return ErrFull
	}
	b.queue.push(it)
	first := b.workers < b.cfg.Parallel
	if first {
		b.workers++
	}
	b.mu.Unlock()
	if first {
		go b.start()
	}
	return nil
}

// takeBack removes it from the queue and reports whether it was still there.
func (b *Batcher[In, Out]) takeBack(it *item[In, Out]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !it.queued {
		return false
	}
	b.queue.remove(it)
	return true
}

// recycle makes it ready for the next Do. Nobody else may know it any more.
func (b *Batcher[In, Out]) recycle(it *item[In, Out]) {
	var (
		in  In
		out Out
	)
	it.in, it.out, it.err = in, out, nil
	it.state.Store(open)
	b.items.Put(it)
}

// work is a worker: it makes calls until nothing waits.
func (b *Batcher[In, Out]) work() {
	f := b.buffers()
	ended := false
	defer func() {
		if !ended { // the call ended this goroutine (runtime.Goexit); its place goes to a new one
			go b.start()
		}
	}()
	for b.take(f) {
		b.fly(f)
	}
	ended = true
}

// buffers returns those of an ended worker, or new ones.
func (b *Batcher[In, Out]) buffers() *flight[In, Out] {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.idle)
	if n == 0 {
		return new(flight[In, Out])
	}
	f := b.idle[n-1]
	b.idle = b.idle[:n-1]
	return f
}

// take moves what waits, at most Cap items, into f. Where nothing waits it signs the worker off and returns false.
func (b *Batcher[In, Out]) take(f *flight[In, Out]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.queue.n == 0 {
		b.idle = append(b.idle, f)
		b.workers--
		if b.closed && b.workers == 0 {
			close(b.still)
		}
		return false
	}
	for range min(b.queue.n, b.cfg.Cap) {
		f.items = append(f.items, b.queue.pop())
	}
	b.batches++
	b.sent += uint64(len(f.items))
	return true
}

// fly makes one call and answers its items, whatever the call does.
func (b *Batcher[In, Out]) fly(f *flight[In, Out]) {
	for _, it := range f.items {
		f.in = append(f.in, it.in)
	}
	n := len(f.items)
	if cap(f.out) < n {
		f.out = make([]Out, n, cap(f.in))
	}
	f.out = f.out[:n]

	// The call belongs to all of its items, so it can end with the context of none.
	ctx, cancel := context.WithTimeout(context.Background(), b.cfg.Timeout)
	returned := false
	var err error
	defer func() {
		cancel()
		if !returned {
			err = panicked(recover())
		}
		b.answer(f, err)
	}()
	err = b.call(ctx, f.in, f.out)
	returned = true
}

// answer wakes the items' callers and empties f.
func (b *Batcher[In, Out]) answer(f *flight[In, Out], err error) {
	for i, it := range f.items {
		if err == nil {
			it.out = f.out[i]
		}
		it.err = err
		if it.state.CompareAndSwap(open, answered) {
			it.done <- struct{}{}
		} else {
			b.recycle(it) // its caller has gone
		}
	}
	clear(f.items)
	clear(f.in)
	clear(f.out)
	f.items, f.in, f.out = f.items[:0], f.in[:0], f.out[:0]
}

// flight holds what a call works on. Its memory goes from call to call.
type flight[In, Out any] struct {
	items []*item[In, Out]
	in    []In
	out   []Out
}

// The states of an item in flight: whoever moves it from open decides how it ends.
const (
	open      = iota // neither answered nor abandoned
	answered         // the worker wins: done will be signalled, the caller recycles the item
	abandoned        // the caller wins: it has left, the worker recycles the item
)

// item is one Do. Its caller owns it, the queue and the flight borrow it, until state says otherwise.
type item[In, Out any] struct {
	in    In
	out   Out
	err   error
	done  chan struct{} // buffered: answering never blocks
	state atomic.Uint32

	// Guarded by the batcher's mu.
	queued     bool
	prev, next *item[In, Out]
}

// list is a queue from whose middle items can be taken.
type list[In, Out any] struct {
	head, tail *item[In, Out]
	n          int
}

func (l *list[In, Out]) push(it *item[In, Out]) {
	it.queued = true
	it.prev = l.tail
	if l.tail == nil {
		l.head = it
	} else {
		l.tail.next = it
	}
	l.tail = it
	l.n++
}

func (l *list[In, Out]) pop() *item[In, Out] {
	it := l.head
	l.remove(it)
	return it
}

func (l *list[In, Out]) remove(it *item[In, Out]) {
	if it.prev == nil {
		l.head = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		l.tail = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.queued, it.prev, it.next = false, nil, nil
	l.n--
}

// panicked is the error of a call that did not return. v is what it panicked with, or nil where it ended its goroutine.
func panicked(v any) error {
	if v == nil {
		return fmt.Errorf("%w: the call ended its goroutine", ErrPanic)
	}
	return fmt.Errorf("%w: %v\n%s", ErrPanic, v, debug.Stack())
}

// notSent is the error of an item that no call has seen.
func notSent(ctx context.Context) error {
	return fmt.Errorf("batch: not sent: %w", ended(ctx))
}

// ended says why ctx ended: its error, and its cause where that says more.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
