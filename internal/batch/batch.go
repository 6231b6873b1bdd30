package batch

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Answers of Do that are not the call's own.
var (
	// ErrFull means that Config.Queue items wait already; nothing happened.
	ErrFull = errors.New("batch: queue full")
	// ErrClosed means that Close was called before Do; nothing happened.
	ErrClosed = errors.New("batch: closed")
	// ErrAbandoned means that the item's call was begun, but its end is not known, so the outcome
	// is unknown. Either ctx ended first, and then the error also wraps the error and cause of ctx;
	// or the error is also ErrPanic.
	ErrAbandoned = errors.New("batch: abandoned in flight, outcome unknown")
	// ErrPanic means that the call did not return: it panicked (the text says with what, and
	// where), or it ended its goroutine. All of its items get this error, which is also
	// ErrAbandoned. The Batcher goes on.
	ErrPanic = fmt.Errorf("%w: the call did not return", ErrAbandoned)
)

// Config says how large and how many the calls of a Batcher may be. Only Parallel has a default.
// The others depend on the function that is called, and a guess would hide a limit.
type Config struct {
	Cap      int           // most items of one call
	Queue    int           // most items that wait, without those in flight; with more, Do returns ErrFull at once
	Parallel int           // most calls in flight at once; 0 means 1, which keeps the order. A further call needs a full batch
	Timeout  time.Duration // timeout of a call's context
}

// Validate reports all mistakes in c.
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

// Batcher hands the items of concurrent Do calls to one function, many at a time. All methods may
// be called concurrently. Make one with New and end it with Close; the zero value is not usable.
//
// # Outline
//
// Do pushes its item on a bounded queue and waits. A push that finds no worker starts one; a push
// that makes a full batch wait starts another, up to Config.Parallel. A worker takes the waiting
// items, at most Config.Cap, makes one call with them, wakes the callers, and takes again. It ends
// when nothing waits, or when less than a full batch waits and another worker can take it. So the
// speed of the called function sets the size of the batches: an idle one answers single items at
// once, a flooded one gets full batches, and nothing must be tuned.
//
// # Invariants
//
//   - An item is queued, or in one flight, or over; it never goes back. Under mu, its ticket shows
//     whether it is queued.
//   - In flight, the side that moves an item's state away from open decides its end: the worker by
//     answering, or the caller by abandoning. So each item is answered once, and its memory is
//     recycled once: by the caller after an answer, otherwise by the worker.
//   - While an item waits, there is a worker that will look at the queue. A worker signs off under
//     the same lock under which it saw an empty queue, or saw another worker.
//   - mu is never held across a call or a channel send.
//
// # Why no timer
//
// The usual method waits for some time (linger) for a batch to fill. That adds the linger to every
// answer while batches aren't full. They are full only in a flood, and then they fill during a call
// anyway. Measured with this package's benchmarks on two cores, the call being one loopback TCP
// round trip of at most 512 items, in µs per item:
//
//	callers at once             1     64   1024
//	a call per item, mutex     14     23     25
//	linger of 100 µs         1150     19    0.5
//	this                       20    1.0    0.5
//
// (The second row is this type with a wait before each call. An idle process sleeps at least a
// millisecond, even for a shorter linger.) The 6 µs of a single caller are the time to the worker's
// goroutine and back; if the call costs nothing, it is 1 µs. If the caller itself made the call,
// they would be saved, but a caller whose ctx ends could not leave.
//
// # What was tried besides
//
// Waking the callers is the largest cost left. Of the ways to wake 512 goroutines, a channel each
// costs 154 ns, sync.Cond 150, a sync.Mutex that is passed on 285. A channel in a select beside
// ctx.Done costs 273; it is the cheapest that works with a ctx and without an allocation. Beginning
// the next call before waking gained nothing. Yielding before taking made batches a third larger,
// but a whole server at most 5 % faster. Beginning a further call with few items halves the batches
// without a gain: with two calls in flight, the holds of a crowd of 256 came 23 at a time instead
// of 39, and each cost the process and Redis a sixth more.
type Batcher[In, Out any] struct {
	// Fixed after New.
	cfg   Config
	call  func(ctx context.Context, in []In, out []Out) error
	start func() // b.work as a value: a go statement with it allocates nothing

	items sync.Pool // of *item[In, Out]

	mu      sync.Mutex
	queue   ring[In, Out]
	workers int                // workers started and not ended; at most cfg.Parallel
	idle    []*flight[In, Out] // buffers of ended workers; at most cfg.Parallel
	closed  bool
	still   chan struct{} // closed once closed is true and workers is 0
	batches uint64
	sent    uint64
	refused uint64
}

// New returns a Batcher whose items go to call. call sets out[i] for each in[i] (out is zeroed
// before), or returns an error, which every item of the batch then gets unchanged. It runs on a
// goroutine of the Batcher, on up to cfg.Parallel at once. Its ctx ends after cfg.Timeout and
// carries no values; call must obey it. in and out are reused, so call must not keep them after it
// returns. It must not call Do or Close of its own Batcher, because they would wait for themselves.
func New[In, Out any](cfg Config, call func(ctx context.Context, in []In, out []Out) error) (*Batcher[In, Out], error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("batch: %w", err)
	}
	if call == nil {
		return nil, errors.New("batch: no call")
	}
	cfg.Parallel = max(cfg.Parallel, 1)
	b := &Batcher[In, Out]{cfg: cfg, call: call, still: make(chan struct{})}
	b.idle = make([]*flight[In, Out], 0, cfg.Parallel)
	b.start = b.work
	b.items.New = func() any { return &item[In, Out]{done: make(chan struct{}, 1)} }
	return b, nil
}

// Do sends in with the next call and returns its out, or the error of the whole call unchanged. It
// returns ErrFull and ErrClosed at once. Otherwise it waits for the answer, or until ctx ends. If
// ctx ends while the item is queued, the item is taken back and never sent: the error wraps ctx's
// error and cause, and nothing happened. An item in flight can't be taken back: the error also
// wraps ErrAbandoned, and the outcome is unknown. If both the answer is there and ctx has ended,
// the answer counts.
//
// The call may read in for any time, also after Do returned ErrAbandoned. So the memory to which in
// points (the bytes of a string or slice) must not be a buffer that its owner reuses.
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
		<-it.done // the worker is answering at this moment
	}
	out, err := it.out, it.err
	b.recycle(it)
	return out, err
}

// Close refuses new items with ErrClosed, lets the queued ones and those in flight finish, and
// returns when no goroutine of the Batcher is left. It may be called several times; each call waits
// for that.
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

// push queues the item, and starts a worker if one more is allowed.
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
	more := b.workers == 0 || b.workers < b.cfg.Parallel && b.queue.n >= b.cfg.Cap
	if more {
		b.workers++
	}
	b.mu.Unlock()
	if more {
		go b.start()
	}
	return nil
}

// takeBack removes the item from the queue, and reports whether it was still there.
func (b *Batcher[In, Out]) takeBack(it *item[In, Out]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queue.remove(it)
}

// recycle makes the item ready for the next Do. Nothing else may refer to it.
func (b *Batcher[In, Out]) recycle(it *item[In, Out]) {
	var (
		in  In
		out Out
	)
	it.in, it.out, it.err = in, out, nil
	it.state.Store(open)
	b.items.Put(it)
}

// work is a worker: it makes calls while take gives it items.
func (b *Batcher[In, Out]) work() {
	f := b.buffers()
	ended := false
	defer func() {
		if !ended { // the call ended this goroutine (runtime.Goexit), so a new one takes its place
			go b.start()
		}
	}()
	for b.take(f) {
		b.fly(f)
	}
	ended = true
}

// buffers returns the buffers of an ended worker, or new ones.
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

// take moves the waiting items, at most Cap, into f. If nothing waits, or less than a full batch
// waits and another worker is there, it signs the worker off and returns false.
func (b *Batcher[In, Out]) take(f *flight[In, Out]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.queue.n == 0 || b.queue.n < b.cfg.Cap && b.workers > 1 {
		b.idle = append(b.idle, f)
		b.workers--
		if b.closed && b.workers == 0 {
			close(b.still)
		}
		return false
	}
	f.items = b.queue.popTo(f.items, b.cfg.Cap)
	b.batches++
	b.sent += uint64(len(f.items))
	return true
}

// fly makes one call and always answers its items.
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
			b.recycle(it) // its caller has left
		}
	}
	clear(f.items)
	clear(f.in)
	clear(f.out)
	f.items, f.in, f.out = f.items[:0], f.in[:0], f.out[:0]
}

// flight holds the data of a call. Its memory is reused by later calls.
type flight[In, Out any] struct {
	items []*item[In, Out]
	in    []In
	out   []Out
}

// The states of an item in flight. The side that moves it away from open decides how it ends.
const (
	open      = iota // neither answered nor abandoned
	answered         // the worker wins: done will be signalled, the caller recycles the item
	abandoned        // the caller wins: it has left, the worker recycles the item
)

// item is one Do. Its caller owns it, the queue and the flight borrow it, until state says
// otherwise.
type item[In, Out any] struct {
	in    In
	out   Out
	err   error
	done  chan struct{} // buffered: answering never blocks
	state atomic.Uint32

	// Guarded by the Batcher's mu; see ring.
	ticket uint64
}

// panicked is the error of a call that did not return. v is the value of the panic, or nil if the
// call ended its goroutine.
func panicked(v any) error {
	if v == nil {
		return fmt.Errorf("%w: it ended its goroutine", ErrPanic)
	}
	return fmt.Errorf("%w: panic in %s: %v", ErrPanic, origin(), v)
}

// origin says where the panic that is being recovered came from. It is one line, because all
// callers of a batch may log it, and stacks would flood the log.
func origin() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	panicking := false
	for {
		frame, more := frames.Next()
		switch inRuntime := strings.HasPrefix(frame.Function, "runtime."); {
		case frame.Function == "runtime.gopanic":
			panicking = true
		case panicking && !inRuntime:
			return fmt.Sprintf("%s (%s:%d)", frame.Function, filepath.Base(frame.File), frame.Line)
		case !more:
			return "an unknown place"
		}
	}
}

// notSent is the error of an item that no call has seen.
func notSent(ctx context.Context) error {
	return fmt.Errorf("batch: not sent: %w", ended(ctx))
}

// ended says why ctx ended: its error, and its cause if that says more.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
