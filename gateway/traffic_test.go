package gateway

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/seckill"
)

// TestTraffic_CountsByName: each purchase counts once in the total, once for its activity, its item
// and its caller. A purchase with names that aren't the caller's counts in the total and for the
// caller only.
func TestTraffic_CountsByName(t *testing.T) {
	sales := &cheapSales{receipt: seckill.Receipt{Order: seckill.Order{ID: "o", State: seckill.OrderQueued}}}
	s := cheapServer(t, sales, nil)
	buy := func(body, key string) { s.handle(requestContextOf("POST", "/v1/orders", body, key)) }
	buy(goodBody, buyerKey)
	buy(goodBody, buyerKey)
	sales.receipt.Replayed = true
	buy(goodBody, buyerKey)
	sales.err = &seckill.Refusal{Code: seckill.CodeSoldOut}
	buy(goodBody, buyerKey)
	buy(`{"activity":"none","sku":"phone-x","user":"u","quantity":1}`, buyerKey)
	buy(goodBody, "unknown")
	got := s.TakeTraffic()
	text := func(o *Outcomes) string { return fmt.Sprint(o.Accepted, o.Replayed, o.Refused) }
	if all, want := text(&got.All), "2 1 map[sold-out:1 unauthenticated:1 unknown-activity:1]"; all != want {
		t.Errorf("all: %s, want %s", all, want)
	}
	if one, want := text(got.Activities["618-phones"]), "2 1 map[sold-out:1]"; one != want || len(got.Activities) != 1 {
		t.Errorf("the activity: %s, want %s", one, want)
	}
	if item := got.Items[ItemName{"618-phones", "phone-x"}]; item == nil || *item != (ItemOutcomes{2, 1}) {
		t.Errorf("the item: %+v", item)
	}
	for _, caller := range got.Callers {
		if one, want := text(caller), "2 1 map[sold-out:1 unknown-activity:1]"; one != want || len(got.Callers) != 1 {
			t.Errorf("the caller: %s, want %s", one, want)
		}
	}
	if got.Latency.Total() != 6 || got.Sold.Total() != 3 {
		t.Errorf("%d times, %d of what was sold, want 6 and 3", got.Latency.Total(), got.Sold.Total())
	}
	if again := s.TakeTraffic(); again.All.Accepted != 0 || len(again.Activities) != 0 || again.Latency.Total() != 0 {
		t.Errorf("taken twice: %+v", again)
	}
}

// TestTraffic_IsBounded: with any number of names, the tables keep their size and the sums are
// right, also while the counts are read.
func TestTraffic_IsBounded(t *testing.T) {
	c := newCounters()
	var work sync.WaitGroup
	const workers, each = 4, 2_000
	sum := uint64(0)
	take := func(s *Server) {
		got := s.TakeTraffic()
		sum += got.All.Accepted
		if len(got.Activities) > stripes*maxTrafficSales || len(got.Items) > stripes*maxTrafficItems {
			t.Errorf("%d activities, %d items", len(got.Activities), len(got.Items))
		}
	}
	s := &Server{counters: c}
	for range workers {
		work.Go(func() {
			stripe := c.stripe()
			for i := range each {
				sale := &seckill.Sale{Activity: &seckill.Activity{ID: seckill.ActivityID(fmt.Sprint(i))}}
				stripe.traffic.add(&answered{
					offer: seckill.Offer{Item: &seckill.Item{SKU: "x"}, Sale: sale}, caller: &seckill.Caller{}, problem: -1, took: time.Millisecond,
				})
			}
		})
	}
	for range 10 {
		take(s)
	}
	work.Wait()
	take(s)
	if sum != workers*each {
		t.Errorf("%d purchases are counted, want %d", sum, workers*each)
	}
	if n := len(c.spare.bySale); n != 0 || cap(c.spare.bySale) > 2*maxTrafficSales {
		t.Errorf("the spare span has %d rows", n)
	}
}

// BenchmarkTraffic measures the counting of a purchase for the live view.
func BenchmarkTraffic(b *testing.B) {
	c := newCounters()
	offers := make([]seckill.Offer, 8)
	for i := range offers {
		sale := &seckill.Sale{Activity: &seckill.Activity{ID: seckill.ActivityID(fmt.Sprint(i))}}
		offers[i] = seckill.Offer{Item: &seckill.Item{SKU: "x"}, Sale: sale}
	}
	caller := &seckill.Caller{}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		stripe := c.stripe()
		for i := 0; pb.Next(); i++ {
			a := answered{offer: offers[i%len(offers)], caller: caller, problem: -1, took: time.Millisecond}
			stripe.traffic.add(&a)
		}
	})
}

// BenchmarkBuy measures the handler's whole work for a purchase, without the sale behind it.
func BenchmarkBuy(b *testing.B) {
	sales := &cheapSales{receipt: seckill.Receipt{Order: seckill.Order{ID: "o", State: seckill.OrderQueued}}}
	s := cheapServer(b, sales, nil)
	ctx := requestContextOf("POST", "/v1/orders", `{"activity":"618-phones","sku":"phone-x","user":"u","quantity":1}`, buyerKey)
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		s.handle(ctx)
	}
}
