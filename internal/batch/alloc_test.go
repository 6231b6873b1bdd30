package batch

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

// An item allocates nothing once the Batcher is warm. A call does, for its context: nothing that lives on may see a context used
// again. So a lone Do costs what a context costs, and a full batch no more.
func TestDo_AllocatesNothingPerItem(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties sync.Pool
	ofContext := testing.AllocsPerRun(100, func() {
		_, cancel := context.WithTimeout(context.Background(), time.Minute)
		cancel()
	})
	cancellable, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, ctx := range map[string]context.Context{"background": context.Background(), "cancellable": cancellable} {
		t.Run(name+"/lone", func(t *testing.T) {
			b, err := New(roomy, double)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if got := testing.AllocsPerRun(1000, func() { b.Do(ctx, 1) }); got > ofContext {
				t.Errorf("%v allocations, want at most the %v of a context", got, ofContext)
			}
		})
		t.Run(name+"/crowd", func(t *testing.T) {
			c := newCrowd(t, ctx, 256)
			if got := testing.AllocsPerRun(100, c.round); got > 2*ofContext {
				t.Errorf("%v allocations for 256 items in two calls, want at most the %v of two contexts", got, 2*ofContext)
			}
		})
	}
}

// crowd is size goroutines that each do one item per round, in at most two calls: one for those who come first, one for the rest.
type crowd struct {
	*Batcher[int, int]
	size        uint64
	gate        chan struct{}
	start, done chan struct{}
}

func newCrowd(t *testing.T, ctx context.Context, size int) *crowd {
	c := &crowd{size: uint64(size), gate: make(chan struct{}), start: make(chan struct{}), done: make(chan struct{}, size)}
	b, err := New(Config{Cap: size, Queue: size, Timeout: time.Minute}, func(ctx context.Context, in, out []int) error {
		<-c.gate
		return double(ctx, in, out)
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Batcher = b
	var all sync.WaitGroup
	for v := range size {
		all.Go(func() {
			for range c.start {
				if got, err := b.Do(ctx, v); got != 2*v || err != nil {
					t.Errorf("Do(%d) = %d, %v", v, got, err)
				}
				c.done <- struct{}{}
			}
		})
	}
	t.Cleanup(func() {
		close(c.start)
		all.Wait()
		b.Close()
	})
	return c
}

func (c *crowd) round() {
	before := c.Stats().Items
	for range c.size {
		c.start <- struct{}{}
	}
	s := c.Stats()
	for ; s.Items-before+uint64(s.Queued) < c.size || s.Items == before; s = c.Stats() {
		runtime.Gosched()
	}
	c.gate <- struct{}{}
	if s.Queued > 0 {
		c.gate <- struct{}{}
	}
	for range c.size {
		<-c.done
	}
}
