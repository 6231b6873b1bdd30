package storetest

import (
	"fmt"
	"testing"
	"time"

	"penstock/seckill"
)

// BenchmarkAccept measures how many orders a second the store takes in batches of the given size, each of another buyer of
// an item with a limit, as a sale would bring them.
func BenchmarkAccept(b *testing.B, open func(b *testing.B, now func() time.Time) seckill.Store, batch int) {
	c := newClock()
	s := &shop{t: b, ctx: b.Context(), store: open(b, c.read), clock: c}
	s.sell(goods{"phone-x", seckill.MaxItemQuantity, 2})
	s.fence(s.ref(0, 1))
	records := make([]seckill.Record, b.N)
	for i := range records {
		records[i] = s.record(0, user(i), fmt.Sprintf("key-%d", i), 1)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for rest := records; len(rest) > 0; {
		n := min(batch, len(rest))
		accepted, err := s.store.Accept(s.ctx, rest[:n])
		if err != nil {
			b.Fatal(err)
		}
		if accepted[n-1].Outcome != seckill.OutcomeOpened {
			b.Fatalf("outcome %d", accepted[n-1].Outcome)
		}
		rest = rest[n:]
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
	if book := s.book(0); book.Open != int64(b.N) {
		b.Fatalf("%d open after %d orders", book.Open, b.N)
	}
}
