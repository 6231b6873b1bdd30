package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Benchmark measures the calls of a store during a sale, in the usual batches. An operation is one
// order, or one published item. The store that open opens has Shards shards.
func Benchmark(b *testing.B, open func(b *testing.B, now func() time.Time) seckill.Store) {
	for _, batch := range []int{1, 50, 500} {
		b.Run(fmt.Sprintf("Accept/batch=%d", batch), func(b *testing.B) { newBench(b, open).accept(b, batch) })
	}
	for _, c := range []struct {
		name string
		run  func(b *testing.B, s bench)
	}{
		{"AcceptAgain/batch=500", benchAcceptAgain},
		{"AcceptOfManyItems/batch=500", benchAcceptMany},
		{"FindOrders/batch=500", benchFind},
		{"Pay/batch=500", benchPay},
		{"CancelAndRelay/batch=500", benchCancel},
		{"TimeOut/batch=500", benchTimeOut},
		{"Snapshot", benchSnapshot},
		{"Publish/batch=20000", benchPublish},
	} {
		b.Run(c.name, func(b *testing.B) { c.run(b, newBench(b, open)) })
	}
}

func benchAcceptAgain(b *testing.B, s bench) {
	promises := s.promises(b.N)
	s.fill(promises)
	s.measure(b, 500, func(from, to int) error { return s.take500(promises[from:to]) })
}

func benchAcceptMany(b *testing.B, s bench) {
	s.items = s.putActivity(s.manyItems("many", 2000)).Items
	promises := make([]seckill.Promise, b.N)
	for i := range promises {
		promises[i] = s.promise(i*7919%2000, user(i), "k", 1)
		promises[i].Activity = "many"
	}
	s.measure(b, 500, func(from, to int) error { return s.take500(promises[from:to]) })
}

func benchFind(b *testing.B, s bench) {
	ids := s.fill(s.promises(b.N))
	s.measure(b, 500, func(from, to int) error {
		_, err := s.store.FindOrders(s.ctx, ids[from:to])
		return err
	})
}

func benchPay(b *testing.B, s bench) {
	promises := s.promises(b.N)
	s.fill(promises)
	payments := make([]seckill.Payment, b.N)
	for i := range promises {
		r := &promises[i]
		payments[i] = seckill.Payment{Merchant: merchant, ID: seckill.PaymentID(r.Order), Order: r.Order, Amount: r.Amount}
	}
	s.measure(b, 500, func(from, to int) error {
		_, err := s.store.Pay(s.ctx, payments[from:to])
		return err
	})
}

func benchCancel(b *testing.B, s bench) {
	ids := s.fill(s.promises(b.N))
	deliver := func(_ context.Context, rows []seckill.Outgoing) []int { return everyRow(rows) }
	s.measure(b, 500, func(from, to int) error {
		if _, err := s.store.Cancel(s.ctx, given(ids[from:to]...)); err != nil {
			return err
		}
		_, err := s.store.Relay(s.ctx, allShards, 0, 500, deliver)
		return err
	})
}

func benchTimeOut(b *testing.B, s bench) {
	s.fill(s.promises(b.N))
	s.clock.advance(2 * window)
	s.measure(b, 500, func(from, to int) error {
		_, err := s.store.TimeOut(s.ctx, allShards, nil, to-from)
		return err
	})
}

func benchSnapshot(b *testing.B, s bench) {
	s.fill(s.promises(b.N))
	s.fenceOnly(s.shard(0))
	load := func([]inventory.Stocked, []inventory.Entry) error { return nil }
	s.measure(b, b.N, func(int, int) error { return s.store.Snapshot(s.ctx, s.ref(0), nil, load) })
}

// benchPublish makes drafts of many items and publishes them, each in one transaction.
func benchPublish(b *testing.B, s bench) {
	s.measure(b, seckill.MaxItems, func(from, to int) error {
		a := s.manyItems(seckill.ActivityID(fmt.Sprint("many-", from)), to-from)
		a.State = seckill.ActivityDraft
		s.putActivity(a)
		s.publish(a.ID)
		return nil
	})
}

// bench is a shop whose item has a limit per buyer, and a million buyers.
type bench struct{ *shop }

func newBench(b *testing.B, open func(b *testing.B, now func() time.Time) seckill.Store) bench {
	c := newClock()
	s := bench{&shop{t: b, ctx: b.Context(), store: open(b, c.read), clock: c}}
	s.sell(goods{"phone-x", seckill.MaxItemQuantity, 2, 1})
	s.fenceAll()
	return s
}

func (s bench) manyItems(id seckill.ActivityID, n int) *seckill.Activity {
	a := s.draft(id)
	a.State = seckill.ActivityPublished
	for i := range n {
		a.Items = append(a.Items, seckill.Item{SKU: seckill.SKU(fmt.Sprint("sku-", i)), Price: price, Quantity: 1_000_000, Spread: 1})
	}
	return a
}

func (s bench) promises(n int) []seckill.Promise {
	promises := make([]seckill.Promise, n)
	for i := range promises {
		promises[i] = s.promise(0, user(i*7919%1_000_003), fmt.Sprint("key-", i), 1) // no order of buyers
	}
	return promises
}

// take500 accepts promises, at most 500 on a page, as the pages of a batch.
func (s bench) take500(promises []seckill.Promise) error {
	byShard := make(map[inventory.Ref][]seckill.Promise)
	for i := range promises {
		ref := s.place(&promises[i])
		byShard[ref] = append(byShard[ref], promises[i])
	}
	var pages []seckill.Page
	for ref, list := range byShard {
		pages = append(pages, s.page(ref, list...))
	}
	_, err := s.store.Accept(s.ctx, seckill.Batch{Pages: pages})
	return err
}

// fill makes orders of the promises, without measuring it.
func (s bench) fill(promises []seckill.Promise) []seckill.OrderID {
	s.t.Helper()
	ids := make([]seckill.OrderID, len(promises))
	for i := range promises {
		ids[i] = promises[i].Order
	}
	for from := 0; from < len(promises); from += 500 {
		s.must(s.take500(promises[from:min(from+500, len(promises))]))
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
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "per-second")
}

func (s bench) accept(b *testing.B, batch int) {
	b.Helper()
	promises := s.promises(b.N)
	s.measure(b, batch, func(from, to int) error { return s.take500(promises[from:to]) })
	if book := s.book(0); book.Open != int64(b.N) {
		b.Fatalf("%d open after %d orders", book.Open, b.N)
	}
}
