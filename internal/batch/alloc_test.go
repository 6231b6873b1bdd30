package batch

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/penstock/penstock/internal/proof/raced"
)

// An item allocates nothing once the Batcher is warm. A call allocates its context, because a
// context can't be used again. So a lone Do costs one context, and so does a full batch.
func TestDo_AllocatesNothingPerItem(t *testing.T) {
	if raced.Enabled {
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

// crowd runs size goroutines. Each does one item per round, in at most two calls: one for the first
// items, one for the rest.
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

// The memory of an item is used for the next one, however the item has ended.
func TestDo_RecyclesEveryItem(t *testing.T) {
	if raced.Enabled {
		t.Skip("the race detector makes sync.Pool forget")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // sync.Pool keeps values per thread
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, roomy)
		made := 0
		create := r.items.New
		r.items.New = func() any { made++; return create() }
		for range 100 {
			flying, leave := context.WithCancel(t.Context())
			waiting, giveUp := context.WithCancel(t.Context())
			abandoned, takenBack := r.do(flying, 1), r.do(waiting, 2)
			leave()
			giveUp()
			synctest.Wait()
			wantAnswer(t, abandoned, answer{err: ErrAbandoned})
			wantAnswer(t, takenBack, answer{err: context.Canceled})
			r.end(0, nil)
		}
		if made > 2 {
			t.Errorf("made %d items, though at most 2 were in use", made)
		}
	})
}

// Values that went through a Batcher can be garbage-collected while the Batcher lives.
func TestDo_KeepsNothing(t *testing.T) {
	type big [1 << 16]byte
	b, err := New(roomy, func(_ context.Context, in, out []*big) error {
		for i := range in {
			out[i] = new(big)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var in, out weak.Pointer[big]
	func() {
		v := new(big)
		got, err := b.Do(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		in, out = weak.Make(v), weak.Make(got)
	}()
	for b.Stats().InFlight > 0 {
		runtime.Gosched()
	}
	runtime.GC()
	if in.Value() != nil || out.Value() != nil {
		t.Error("an item or its answer is still referred to")
	}
}
