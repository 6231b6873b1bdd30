package desk

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// changes is a log of activities that a store returns from a version on.
type changes struct {
	mu   sync.Mutex
	life string
	log  []seckill.Activity
	asks []seckill.CatalogVersion
	busy int
}

func (c *changes) load(since seckill.CatalogVersion, begin func(bool), apply func(seckill.CatalogChange) error) (seckill.CatalogVersion, error) {
	c.mu.Lock()
	if c.asks = append(c.asks, since); c.busy != 0 {
		panic("two refreshes at a time")
	}
	c.busy++
	log, life := slices.Clone(c.log), c.life
	c.mu.Unlock()
	time.Sleep(10 * time.Millisecond)
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.busy--
	}()
	if since.Incarnation != life {
		since = seckill.CatalogVersion{}
	}
	begin(since.Number == 0)
	for _, a := range log[since.Number:] {
		if err := apply(seckill.CatalogChange{Activity: &a}); err != nil {
			return since, err
		}
	}
	return seckill.CatalogVersion{Incarnation: life, Number: int64(len(log))}, nil
}

func (c *changes) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, seckill.Activity{
		ID: seckill.ActivityID(name), Merchant: "m", State: seckill.ActivityPublished,
		Items: []seckill.Item{{ID: inventory.ItemID(len(c.log) + 1), SKU: "x", Spread: 1}},
	})
}

func TestDesk_Refresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &changes{life: "one"}
		store := &stubStore{load: c.load}
		d := openDesk(t, seckill.DefaultConfig(), Parts{Stock: &stubStock{}, Queue: &stubQueue{}, Store: store}, nil)
		d.catalog.Store((*seckill.Catalog)(nil).Edit(true, time.Now()).Done(seckill.CatalogVersion{}))
		refresh := func() {
			t.Helper()
			if err := d.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		c.add("a")
		refresh()
		first := d.Catalog()
		if first.Activity("a") == nil || first.Version.Number != 1 {
			t.Fatal("the activity is not in force")
		}
		refresh()
		if d.Catalog() != first {
			t.Error("nothing changed, and the catalog is another one")
		}
		c.add("b")
		var running sync.WaitGroup
		for range 10 {
			running.Go(refresh)
		}
		running.Wait()
		if d.Catalog().Activity("a") == nil || d.Catalog().Activity("b") == nil {
			t.Error("changes are not added to what is known")
		}
		c.life, c.log = "two", c.log[1:]
		refresh()
		if d.Catalog().Activity("a") != nil || d.Catalog().Activity("b") == nil {
			t.Error("a catalog of another incarnation is not loaded as a whole")
		}
	})
}

// When an activity was just published on another node, one look at the store finds it for all
// callers that miss it.
func TestDesk_FreshLooksOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &changes{life: "test"}
		c.add("old") // version 1: the shop begins with it
		s := openShop(t, &stubStock{}, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
		s.store.load = c.load
		c.add("new")
		var running sync.WaitGroup
		for i := range 100 {
			p := wish(fmt.Sprint(i), "k")
			p.Activity, p.SKU = "new", "x"
			running.Go(func() {
				if _, err := s.Buy(t.Context(), p); codeOf(t, err) == seckill.CodeUnknownActivity {
					t.Error(err)
				}
			})
		}
		running.Wait()
		if len(c.asks) > 2 {
			t.Errorf("%d looks", len(c.asks))
		}
	})
}

// A store that is away leaves the last catalog in force.
func TestDesk_RunSurvivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &changes{life: "test"}
		c.add("old")
		s := openShop(t, &stubStock{}, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
		var away atomic.Bool
		away.Store(true)
		s.store.load = func(since seckill.CatalogVersion, begin func(bool), apply func(seckill.CatalogChange) error) (seckill.CatalogVersion, error) {
			if away.Load() {
				return since, errors.New("away")
			}
			return c.load(since, begin, apply)
		}
		ctx, cancel := withTimeout(t, time.Hour)
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx) })
		time.Sleep(time.Second)
		synctest.Wait()
		if s.Catalog().Activity("a") == nil || !s.failing.Load() {
			t.Error("the catalog is gone")
		}
		away.Store(false)
		c.add("new")
		time.Sleep(time.Second)
		synctest.Wait()
		if s.Catalog().Activity("new") == nil || s.failing.Load() {
			t.Error("the catalog isn't fresh again")
		}
		cancel()
		running.Wait()
	})
}

// While the catalog can't be refreshed, a missing entry may exist after all. A payment provider
// that gets "no such order" gives up, and the money is lost.
func TestDesk_WhatIsNotSeenIsNotUnknown(t *testing.T) {
	s := openShop(t, &stubStock{}, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
	s.store.load = func(since seckill.CatalogVersion, _ func(bool), _ func(seckill.CatalogChange) error) (seckill.CatalogVersion, error) {
		return since, errors.New("away")
	}
	p := wish("ann", "k")
	p.Activity = "new"
	order := orderOf(7, p)
	ask := func() map[string]error {
		_, bought := s.Buy(t.Context(), p)
		_, paid := s.Pay(t.Context(), &seckill.Notice{Payment: seckill.Payment{ID: "p", Order: order}})
		_, found := s.FindOrder(t.Context(), testCaller, order, 0)
		_, signed := s.Pay(t.Context(), notice(orderOf(1, wish("ann", "k")), "just-rolled", time.Now()))
		return map[string]error{"buy": bought, "pay": paid, "find": found, "pay by a new secret": signed}
	}
	for what, err := range ask() {
		if code := codeOf(t, err); code != seckill.CodeUnavailable {
			t.Errorf("%s: %s: %v", what, code, err)
		}
	}
	s.store.load = nil
	no := []seckill.Code{seckill.CodeUnknownActivity, seckill.CodeUnknownOrder, seckill.CodeInvalidSignature}
	for what, err := range ask() {
		if code := codeOf(t, err); !slices.Contains(no, code) {
			t.Errorf("of a fresh catalog: %s: %s: %v", what, code, err)
		}
	}
}

func TestDesk_Install(t *testing.T) {
	d := openDesk(t, seckill.DefaultConfig(), Parts{Stock: &stubStock{}, Queue: &stubQueue{}, Store: &stubStore{}}, nil)
	loaded := d.Catalog()
	kept := (*seckill.Catalog)(nil).Edit(true, time.Now()).Done(seckill.CatalogVersion{Number: 9})
	if d.Install(kept); d.Catalog() != loaded {
		t.Error("a kept catalog is put over a loaded one")
	}
	d.catalog.Store((*seckill.Catalog)(nil).Edit(true, time.Now()).Done(seckill.CatalogVersion{}))
	if d.Install(kept); d.Catalog() != kept {
		t.Error("a kept catalog is not in force")
	}
}

// A shard is followed under the later epoch of books and Redis, and not at all before it was
// opened.
func TestDesk_Follow(t *testing.T) {
	for _, c := range []struct{ books, redis, want inventory.Epoch }{
		{5, 0, 5}, {5, 7, 7}, {7, 5, 7}, {0, 0, 0}, {0, 3, 3},
	} {
		stock := &stubStock{epoch: c.redis}
		if c.redis == 0 {
			stock.epoch = -1
		}
		d := openDesk(t, seckill.DefaultConfig(), Parts{Stock: stock, Queue: &stubQueue{}, Store: &stubStore{}}, nil)
		d.Follow([]seckill.ShardRow{{Ref: inventory.Ref{Shard: 3, Epoch: c.books}}})
		var want []inventory.Ref
		if c.want > 0 {
			want = []inventory.Ref{{Shard: 3, Epoch: c.want}}
		}
		if !slices.Equal(stock.watched, want) {
			t.Errorf("books %d, Redis %d: %v", c.books, c.redis, stock.watched)
		}
	}
}

// A million items take some ten seconds. A load that is cut off after the time of one call would
// never end.
func TestDesk_ALargeCatalogHasItsTime(t *testing.T) {
	cfg := seckill.DefaultConfig()
	var has time.Duration
	store := &stubStore{loadBy: func(d time.Duration) { has = d }}
	d := openDesk(t, cfg, Parts{Stock: new(stubStock), Queue: new(stubQueue), Store: store}, nil)
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if has < 10*cfg.StoreTimeout {
		t.Errorf("a load has %v, one call of the store %v", has, cfg.StoreTimeout)
	}
}
