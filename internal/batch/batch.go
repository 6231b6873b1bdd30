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
	// ErrAbandoned means that the item's call was begun, and nobody learnt its end: the outcome is
	// unknown. Either ctx ended first, and the error wraps its error and cause as well, or the
	// error is ErrPanic too.
	ErrAbandoned = errors.New("batch: abandoned in flight, outcome unknown")
	// ErrPanic means that the call did not return: it panicked (the text says with what, and
	// where), or it ended its goroutine. All of its items get this error, which is ErrAbandoned
	// too; the Batcher goes on.
	ErrPanic = fmt.Errorf("%w: the call did not return", ErrAbandoned)
)

// Config says how large and how many the calls of a Batcher may be. Only Parallel has a default:
// the others depend on what is called, and a guess would hide a limit.
type Config struct {
	Cap      int           // most items of one call
	Queue    int           // most items waiting, those in flight not counted; beyond it Do returns ErrFull at once
	Parallel int           // most calls in flight at once; 0 is 1, which keeps items in order. A further one is full when it begins
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

// Batcher hands the items of concurrent Do calls to one function, many at a time. All methods may
// be called concurrently. Make one with New and end it with Close; the zero value is not usable.
//
// # Outline
//
// Do pushes its item on a bounded queue and waits. A push that finds no worker starts one; a push
// that makes a full batch wait starts another, up to Config.Parallel. A worker takes what waits, at
// most Config.Cap items, makes one call with all of it, wakes the callers, and takes again. It ends
// where nothing waits, or less than a full batch while another worker is there to take it. So the
// pace of the callee sets the size of the batches: an idle one answers single items at once, a
// flooded one gets full batches, and nothing is tuned.
//
// # Invariants
//
//   - An item is queued, or in one flight, or over; it never goes back. Under mu its ticket tells
//     queued from not.
//   - In flight, whoever moves an item's state away from open ends it: the worker by answering, or
//     the caller by abandoning. So each item is answered once, and its memory is recycled once: by
//     the caller after an answer, else by the worker.
//   - While something waits there is a worker that will look at the queue: it signs off under the
//     lock under which it saw it empty, or saw another worker.
//   - mu is never held across a call or a channel send.
//
// # Why no timer
//
// The usual way waits a while (linger) for a batch to fill. That adds the linger to every answer as
// long as batches aren't full, which is always, except in a flood, where they fill while a call is
// in flight anyway. Measured with this package's benchmarks on two cores, the call being one
// loopback TCP round trip of at most 512 items, in µs per item:
//
//	callers at once             1     64   1024
//	a call per item, mutex     14     23     25
//	linger of 100 µs         1150     19    0.5
//	this                       20    1.0    0.5
//
// (The second row is this type with a wait before each call. An idle process sleeps at least a
// millisecond, however short the linger.) The 6 µs that a lone caller pays are the way to the
// worker's goroutine and back; where the call costs nothing it is 1 µs. Letting the caller itself
// make the call would save them, but then a caller whose ctx ends couldn't leave.
//
// # What was tried besides
//
// Waking the callers is the largest cost left. Of the ways to wake 512 goroutines, a channel each
// costs 154 ns, sync.Cond 150, a sync.Mutex handed over 285; a channel in a select beside ctx.Done,
// 273, is the cheapest that obeys a ctx without allocating. Beginning the next call before waking
// gained nothing; nor did yielding before taking: batches a third larger, 5 % at best for a server
// as a whole. Beginning a further call with whatever waits, be it one item, halves the batches for
// nothing: with two calls in flight, the holds of a crowd of 256 came 23 at a time instead of 39,
// and each cost the process and Redis a sixth more.
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

// New returns a Batcher whose items go to call. call sets out[i] for each in[i] (out comes zeroed)
// or returns an error, which is then given to every item of the batch as it is. It runs on a
// goroutine of the Batcher, on up to cfg.Parallel at once. Its ctx ends after cfg.Timeout and
// carries no values; call must obey it. in and out are used again: call must not keep them when it
// returns. It must use neither Do nor Close of its own Batcher, which would wait for themselves.
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

// Do sends in with the next call and returns its out, or the error of the whole call as it is. It
// returns ErrFull and ErrClosed at once. Otherwise it waits for the answer, or until ctx ends. An
// item still queued then is taken back and never sent: the error wraps ctx's error and cause, and
// nothing happened. One in flight cannot be taken back: the error wraps ErrAbandoned as well, and
// the outcome is unknown. An answer that is there wins over a ctx that has ended.
//
// The call reads in for as long as it likes, also after Do returned ErrAbandoned: what in points to
// (the bytes of a string or slice) must then never be written again, so it must not be a buffer
// that its owner reuses.
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

// Close refuses new items with ErrClosed, lets the queued ones and those in flight finish, and
// returns when no goroutine of the Batcher is left. It may be called more than once; each call
// returns only then.
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

// takeBack removes it from the queue and reports whether it was still there.
func (b *Batcher[In, Out]) takeBack(it *item[In, Out]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queue.remove(it)
}

// recycle makes it ready for the next Do. Nothing else may refer to it any more.
func (b *Batcher[In, Out]) recycle(it *item[In, Out]) {
	var (
		in  In
		out Out
	)
	it.in, it.out, it.err = in, out, nil
	it.state.Store(open)
	b.items.Put(it)
}

// work is a worker: it makes calls as long as take gives it something to do.
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

// take moves what waits, at most Cap items, into f. Where nothing waits, or less than a full batch
// and another worker is there, it signs the worker off and returns false.
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
			b.recycle(it) // its caller has gone
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

// The states of an item in flight: whoever moves it from open decides how it ends.
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

// panicked is the error of a call that did not return. v is what it panicked with, or nil where it
// ended its goroutine.
func panicked(v any) error {
	if v == nil {
		return fmt.Errorf("%w: it ended its goroutine", ErrPanic)
	}
	return fmt.Errorf("%w: panic in %s: %v", ErrPanic, origin(), v)
}

// origin says where the panic that is being recovered came from. One line, as all callers of a
// batch log it; a stack would be a flood of its own.
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

// ended says why ctx ended: its error, and its cause where that says more.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
