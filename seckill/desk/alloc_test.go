package desk

import (
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/raced"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// A purchase allocates its id, a copy of its names, and little else.
func TestBuy_Allocations(t *testing.T) {
	if raced.Enabled {
		t.Skip("the race detector allocates")
	}
	queue := newFastQueue(t)
	d := openDesk(t, seckill.DefaultConfig(), Parts{Stock: &fastStock{}, Queue: queue, Store: &stubStore{}}, testItems(1, 1))
	p := wish("u", "k")
	// A lone purchase pays for its round as well: a goroutine, a context with its timer.
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := d.Buy(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}); n > 12 {
		t.Errorf("a purchase alone in its round allocates %v times", n)
	}
	if n := crowdAllocations(t); n > 5 {
		t.Errorf("a purchase in a crowd allocates %v times", n)
	}
	stock := &stubStock{soldOut: func(inventory.ShardID) bool { return true }}
	s := openShop(t, stock, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
	if n := testing.AllocsPerRun(1000, func() {
		if !s.Refuses(p) {
			t.Fatal("not refused")
		}
	}); n > 1 {
		t.Errorf("a refusal allocates %v times", n)
	}
}

// crowdAllocations returns the allocations per purchase while 256 buyers buy again and again.
func crowdAllocations(t *testing.T) float64 {
	const crowd, each = 256, 40
	stock, queue := &fastStock{trip: time.Millisecond}, newFastQueue(t)
	cfg := seckill.DefaultConfig()
	cfg.AcceptDeadline, cfg.SweepAge = time.Hour, 2*time.Hour // however busy the machine is
	d := openDesk(t, cfg, Parts{Stock: stock, Queue: queue, Store: &stubStore{}}, testItems(1, 1))
	buy := func() {
		var running sync.WaitGroup
		for i := range crowd {
			p := wish("user-"+strconv.Itoa(i), "k")
			running.Go(func() {
				for range each {
					p.Arrived = time.Now()
					if _, err := d.Buy(t.Context(), p); err != nil {
						t.Error(err)
					}
				}
			})
		}
		running.Wait()
	}
	buy() // fills the pools
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	buy()
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / (crowd * each)
}
