package desk

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// probing returns a purchase of the item of probes.
func probing(t *testing.T, shards int, user string) (seckill.Offer, *seckill.Purchase) {
	t.Helper()
	catalog, err := seckill.ProbeCatalog([32]byte{1}, shards)
	if err != nil {
		t.Fatal(err)
	}
	caller := catalog.NamedCaller(seckill.CallerRef{Merchant: seckill.ProbeMerchant, Caller: seckill.ProbeCaller})
	offer, ok := catalog.Activity(seckill.ProbeActivity).Offer(seckill.ProbeSKU)
	if caller == nil || !ok {
		t.Fatal("the catalog of probes lacks the caller or the item")
	}
	return offer, &seckill.Purchase{
		Caller: caller, Activity: seckill.ProbeActivity, SKU: seckill.ProbeSKU, User: seckill.UserID(user), Key: "k", Quantity: 1,
		Arrived: time.Now(),
	}
}

// TestDesk_Probe: a probe asks the stock and the queue, takes nothing, and says where it failed.
// All slots come back.
func TestDesk_Probe(t *testing.T) {
	unopened := func(inventory.Ref, int) inventory.Verdict { return inventory.Unopened }
	soldOut := func(inventory.Ref, int) inventory.Verdict { return inventory.SoldOut }
	for name, c := range map[string]struct {
		stock *stubStock
		queue *stubQueue
		want  string
	}{
		"all is well":            {&stubStock{verdict: unopened}, &stubQueue{}, ""},
		"the queue has no slot":  {&stubStock{verdict: unopened}, &stubQueue{refuses: seckill.ErrNoSlot}, "hold on shard"},
		"the queue is away":      {&stubStock{verdict: unopened}, &stubQueue{refuses: errors.New("no broker")}, "no broker"},
		"the stock is away":      {&stubStock{fails: func(inventory.ShardID) error { return errors.New("no redis") }}, &stubQueue{}, "no redis"},
		"no shard is followed":   {&stubStock{verdict: unopened, epoch: -1}, &stubQueue{}, "hold on shard"},
		"the stock has the item": {&stubStock{verdict: soldOut}, &stubQueue{}, "has the item of probes"},
	} {
		t.Run(name, func(t *testing.T) {
			d := openShop(t, c.stock, c.queue, seckill.DefaultConfig(), testItems(1, 1)...)
			offer, p := probing(t, seckill.DefaultConfig().Shards, "u")
			err := d.Probe(t.Context(), offer, p)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			var failed *seckill.Failure
			if err != nil && !errors.As(err, &failed) {
				t.Errorf("%T is no failure", err)
			}
			if c.queue.taken() != 0 {
				t.Errorf("%d slots are still taken", c.queue.taken())
			}
			if c.want == "" && (len(c.queue.pages) != 1 || len(c.queue.pages[0].Promises) != 0) {
				t.Errorf("%+v was put, want a page without promises", c.queue.pages)
			}
			if c.want != "" && len(c.queue.pages) != 0 {
				t.Errorf("%d pages were put", len(c.queue.pages))
			}
		})
	}
	t.Run("a page that isn't acknowledged is a failure", func(t *testing.T) {
		queue := &stubQueue{keep: true}
		cfg := seckill.DefaultConfig()
		d := openShop(t, &stubStock{verdict: unopened}, queue, cfg, testItems(1, 1)...)
		offer, p := probing(t, cfg.Shards, "u")
		p.Arrived = p.Arrived.Add(-cfg.StartBy() / 2)
		ctx, cancel := withTimeout(t, 50*time.Millisecond)
		defer cancel()
		if err := d.Probe(ctx, offer, p); err == nil || !strings.Contains(err.Error(), "page of shard") {
			t.Errorf("%v", err)
		}
		queue.finish(-1, nil)
	})
	t.Run("buyers take turns over all shards", func(t *testing.T) {
		seen := make(map[inventory.ShardID]bool)
		for i := range 8 * 16 {
			offer, p := probing(t, 16, fmt.Sprint("probe-", i))
			seen[offer.Place(string(p.OrderID(offer.ID)), 16)] = true
		}
		if len(seen) != 16 {
			t.Errorf("%d of 16 shards are asked", len(seen))
		}
	})
}

// TestDesk_Probe_OfNothingElse: no other item is probed.
func TestDesk_Probe_OfNothingElse(t *testing.T) {
	queue := new(stubQueue)
	d := openShop(t, new(stubStock), queue, seckill.DefaultConfig(), testItems(1, 1)...)
	offer, _ := d.Catalog().Activity("a").Offer("x01")
	if err := d.Probe(t.Context(), offer, wish("u", "k")); err == nil || len(queue.pages) > 0 {
		t.Errorf("%v, %d pages", err, len(queue.pages))
	}
}
