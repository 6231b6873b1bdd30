package gateway

import (
	"context"
	"sync"
	"time"
)

// requestContext is a request's context: a deadline whose timer exists only once somebody waits on
// it. Most refusals come from memory and never do; a timer and four allocations for each would cost
// more than the refusal itself.
//
// It isn't pooled: a batch may hold it longer than the request lasts.
type requestContext struct {
	at time.Time

	mu     sync.Mutex
	inner  context.Context // guarded by mu; nil until somebody waits
	cancel context.CancelFunc
	over   bool // guarded by mu
}

// Deadline implements context.Context.
func (c *requestContext) Deadline() (time.Time, bool) { return c.at, true }

// Done implements context.Context. With Value it shows the standard library the context inside, so
// that deriving a context from this one starts no goroutine.
func (c *requestContext) Done() <-chan struct{} { return c.started().Done() }

// Value implements context.Context.
func (c *requestContext) Value(key any) any { return c.started().Value(key) }

// Err implements context.Context; asking doesn't start the timer.
func (c *requestContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.inner != nil:
		return c.inner.Err()
	case c.over:
		return context.Canceled
	case !time.Now().Before(c.at):
		return context.DeadlineExceeded
	}
	return nil
}

func (c *requestContext) started() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		c.inner, c.cancel = context.WithDeadline(noParent{}, c.at)
		if c.over {
			c.cancel()
		}
	}
	return c.inner
}

// Sooner returns a context that ends at that time, or with c. It needs no tie to c, which would
// cost as much as another one: until the handler has returned, nothing but time ends a request's
// context.
func (c *requestContext) Sooner(at time.Time) (context.Context, context.CancelFunc) {
	if c.at.Before(at) {
		at = c.at
	}
	return context.WithDeadline(noParent{}, at)
}

// end is called when the request is answered.
func (c *requestContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.cancel != nil {
		c.cancel()
	}
}

// noParent is a context that never ends. A common parent that can end would keep a list of its
// children under one lock, which all requests would take.
type noParent struct{}

func (noParent) Deadline() (time.Time, bool) { return time.Time{}, false }
func (noParent) Done() <-chan struct{}       { return nil }
func (noParent) Err() error                  { return nil }
func (noParent) Value(any) any               { return nil }
