package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"penstock/seckill"
)

// Benchmark measures what a store is asked for in a sale, in the batches in which it is asked. An operation is one order.
func Benchmark(b *testing.B, open func(b *testing.B, now func() time.Time) seckill.Store) {
	for _, batch := range []int{1, 50, 500} {
		b.Run(fmt.Sprintf("Accept/batch=%d", batch), func(b *testing.B) { newBench(b, open).accept(b, batch) })
	}
	b.Run("AcceptAgain/batch=500", func(b *testing.B) {
		s := newBench(b, open)
		records := s.records(b.N)
		s.fill(records)
		s.measure(b, 500, func(from, to int) error {
			_, err := s.store.Accept(s.ctx, records[from:to])
			return err
		})
	})
	b.Run("FindOrders/batch=500", func(b *testing.B) {
		s := newBench(b, open)
		ids := s.fill(s.records(b.N))
		s.measure(b, 500, func(from, to int) error {
			_, err := s.store.FindOrders(s.ctx, ids[from:to])
			return err
		})
	})
	b.Run("Pay/batch=500", func(b *testing.B) {
		s := newBench(b, open)
		records := s.records(b.N)
		s.fill(records)
		payments := make([]seckill.Payment, b.N)
		for i := range records {
			payments[i] = seckill.Payment{
				Merchant: merchant, ID: seckill.PaymentID(records[i].User), Order: records[i].Order, Amount: records[i].Amount,
			}
		}
		s.measure(b, 500, func(from, to int) error {
			_, err := s.store.Pay(s.ctx, payments[from:to])
			return err
		})
	})
	b.Run("CancelAndRelay/batch=500", func(b *testing.B) {
		s := newBench(b, open)
		ids := s.fill(s.records(b.N))
		s.measure(b, 500, func(from, to int) error {
			if _, err := s.store.Cancel(s.ctx, ids[from:to]); err != nil {
				return err
			}
			_, err := s.store.Relay(s.ctx, 0, 500, deliverAll)
			return err
		})
	})
	b.Run("TimeOut/batch=500", func(b *testing.B) {
		s := newBench(b, open)
		s.fill(s.records(b.N))
		s.clock.advance(2 * window)
		s.measure(b, 500, func(from, to int) error {
			_, err := s.store.TimeOut(s.ctx, to-from)
			return err
		})
	})
	b.Run("Fence", func(b *testing.B) {
		s := newBench(b, open)
		s.fill(s.records(b.N))
		s.measure(b, b.N, func(int, int) error {
			_, err := s.store.Fence(s.ctx, s.ref(0, 2))
			return err
		})
	})
}

func deliverAll(_ context.Context, rows []seckill.Outgoing) []int {
	all := make([]int, len(rows))
	for i := range all {
		all[i] = i
	}
	return all
}

// bench is a shop whose item has a limit per buyer, and a million buyers.
type bench struct{ *shop }

func newBench(b *testing.B, open func(b *testing.B, now func() time.Time) seckill.Store) bench {
	c := newClock()
	s := bench{&shop{t: b, ctx: b.Context(), store: open(b, c.read), clock: c}}
	s.sell(goods{"phone-x", seckill.MaxItemQuantity, 2})
	s.fence(s.ref(0, 1))
	return s
}

func (s bench) records(n int) []seckill.Record {
	records := make([]seckill.Record, n)
	for i := range records {
		records[i] = s.record(0, user(i*7919%1_000_003), fmt.Sprint("key-", i), 1) // no order of buyers
	}
	return records
}

// fill makes orders of the records, outside of what is measured.
func (s bench) fill(records []seckill.Record) []seckill.OrderID {
	s.t.Helper()
	ids := make([]seckill.OrderID, len(records))
	for i := range records {
		ids[i] = records[i].Order
	}
	for from := 0; from < len(records); from += 500 {
		_, err := s.store.Accept(s.ctx, records[from:min(from+500, len(records))])
		s.must(err)
	}
	return ids
}

// measure runs f over b.N orders in batches.
func (s bench) measure(b *testing.B, batch int, f func(from, to int) error) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	for from := 0; from < b.N; from += batch {
		if err := f(from, min(from+batch, b.N)); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
}

func (s bench) accept(b *testing.B, batch int) {
	b.Helper()
	records := s.records(b.N)
	s.measure(b, batch, func(from, to int) error {
		_, err := s.store.Accept(s.ctx, records[from:to])
		return err
	})
	if book := s.book(0); book.Open != int64(b.N) {
		b.Fatalf("%d open after %d orders", book.Open, b.N)
	}
}
