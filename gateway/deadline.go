package gateway

import (
	"context"
	"sync"
	"time"
)

// requestContext is a request's context: a deadline whose timer is made only when something waits
// for it. Most refusals come from memory and never wait. For them, a timer and four allocations
// would cost more than all the rest.
//
// It isn't pooled: a batch may keep it longer than the request lasts.
type requestContext struct {
	at time.Time

	mu     sync.Mutex
	inner  context.Context // guarded by mu; nil until it is needed
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
