package wait

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// For waits for d. It reports false when ctx has ended.
func For(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

// ForOrWoken waits for d, or for a value of c, or until ctx ends. It reports whether c had a value;
// a nil c never has one.
func ForOrWoken(ctx context.Context, d time.Duration, c <-chan struct{}) (woken bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-c:
		return true
	}
	return false
}

// Woken waits for a value of c. It reports false when ctx has ended.
func Woken(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-c:
		return true
	}
}

// Backoff doubles its pauses from First to Longest. Each pause is a random time between half of
// that and all of it. It is used by one goroutine.
type Backoff struct {
	First   time.Duration // not 0
	Longest time.Duration // at least First; on ticks a pause may last one and a half times as long
	OnTick  bool          // each pause ends on a tick of that time, see UntilTick, and not by chance

	next time.Duration
}

// Wait pauses. It reports false when ctx has ended.
func (b *Backoff) Wait(ctx context.Context) bool { return For(ctx, b.Next()) }

// Next returns how long the next pause is, and makes the one after it longer.
func (b *Backoff) Next() time.Duration {
	d := max(b.next, b.First)
	b.next = min(2*d, b.Longest)
	if b.OnTick {
		return UntilTick(d)
	}
	// The clock's nanoseconds are random enough, because no two processes read the same value. In
	// the simulator, which controls the time, they are the same for each run of a seed.
	chance := rand.NewPCG(uint64(time.Now().UnixNano()), uint64(d)).Uint64()
	return d/2 + time.Duration(chance%uint64(d/2+1))
}

// Reset makes the next pause the first one again.
func (b *Backoff) Reset() { b.next = 0 }

// Calls are the calls in progress on something that can be closed. It is safe for concurrent use.
// The zero value is open and has no calls.
type Calls struct {
	mu     sync.Mutex
	closed bool           // guarded by mu
	under  sync.WaitGroup // grows only under mu while not closed
}

// Enter begins a call. It returns false after Close was called; after true the caller must Leave.
func (c *Calls) Enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.under.Add(1)
	return true
}

// Leave ends a call.
func (c *Calls) Leave() { c.under.Done() }

// Close allows no more calls, and waits for those in progress. It reports whether this was the
// first Close.
func (c *Calls) Close() (first bool) {
	c.mu.Lock()
	first = !c.closed
	c.closed = true
	c.mu.Unlock()
	c.under.Wait()
	return first
}
