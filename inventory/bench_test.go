package inventory_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"penstock/inventory"
)

// benchStock returns a stock whose item 1 is open, watched and has units.
func benchStock(b *testing.B, units int64) (*inventory.Stock, inventory.Ref) {
	b.Helper()
	addr := os.Getenv("INVENTORY_REDIS")
	if addr == "" {
		addr = miniredis.RunT(b).Addr()
	}
	s := openStock(b, inventory.Config{Addrs: []string{addr}, Prefix: fmt.Sprint("bench", time.Now().UnixNano())})
	r := ref(1, 1)
	ctx := context.Background()
	for _, err := range []error{s.Close(ctx, r), s.Open(ctx, r, units, 0, 0, 0)} {
		if err != nil {
			b.Fatal(err)
		}
	}
	s.Watch([]inventory.Ref{r})
	return s, r
}

// buyers runs b.N calls of buy on so many goroutines.
func buyers(b *testing.B, goroutines int, buy func(i int64)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range goroutines {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				buy(i)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "holds/s")
}

// BenchmarkHold compares a call per buyer (as for a shard that isn't watched) with batches, on miniredis or on the Redis that
// INVENTORY_REDIS names:
//
//	go test ./inventory -run '^$' -bench BenchmarkHold -benchtime 20000x -count 6 | benchstat -col /calls -
func BenchmarkHold(b *testing.B) {
	for _, calls := range []string{"single", "batched"} {
		b.Run("calls="+calls, func(b *testing.B) {
			s, r := benchStock(b, math.MaxInt32)
			goroutines := 1024
			if calls == "single" {
				s.Watch(nil)
				goroutines = 256 // all in flight at once, pipelined
			}
			ids := make([]string, b.N+1)
			for i := range ids {
				ids[i] = fmt.Sprintf("%032d", i)
			}
			b.ReportAllocs()
			buyers(b, goroutines, func(i int64) {
				g, err := s.Hold(b.Context(), r, hold(ids[i], ids[i][20:], 1), 2)
				if err != nil || g.Verdict != inventory.Held {
					b.Error(g, err)
				}
			})
		})
	}
}

// BenchmarkSoldOut is a refusal from memory, among 100,000 names.
func BenchmarkSoldOut(b *testing.B) {
	s, r := benchStock(b, 100_000)
	buyers := make([]inventory.Hold, 100_000)
	for i := range buyers {
		buyers[i] = hold(fmt.Sprintf("%032d", i), fmt.Sprint(i), 1)
	}
	if err := s.Confirm(b.Context(), r, buyers); err != nil {
		b.Fatal(err)
	}
	id := fmt.Sprintf("%032d", 100_001)
	for tick := time.NewTicker(time.Millisecond); !s.SoldOut(r, id); <-tick.C {
	}
	b.ReportAllocs()
	b.ResetTimer()
	refused := 0
	for b.Loop() {
		if s.SoldOut(r, id) {
			refused++
		}
	}
	if refused == 0 {
		b.Fatal("no refusal")
	}
}
