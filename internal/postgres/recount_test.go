package postgres_test

import (
	"errors"
	"testing"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Counters that were changed by hand are found. They are corrected to match the rows, where that
// breaks no law.
func TestRecount_MendsCounters(t *testing.T) {
	r := newRace(t, 10, 0)
	store := r.stores[0]
	sold := r.order(t, store, "u-1", "k")
	pay(t, store, "p-1", sold)
	r.order(t, store, "u-2", "k")
	recount := func(mend bool) *seckill.Recount {
		t.Helper()
		got, err := store.Recount(t.Context(), r.ref.Shard, mend, author)
		must(t, err)
		return got
	}
	if got := recount(false); got.Orders != 2 || got.Items[0].Differs() || got.Counted != got.Rows {
		t.Fatalf("in order: %+v", got)
	}
	execute(t, r.visitor, "UPDATE stock SET open = 3, sold = 0 WHERE item = $1", int64(r.item))
	execute(t, r.visitor, "INSERT INTO stock_exceptions VALUES ($1, $2, 2, 0, 0)", int64(r.item), int32(r.ref.Shard))
	execute(t, r.visitor, "UPDATE shard_digests SET open = 7 WHERE shard = $1 AND slot = 3", int32(r.ref.Shard))
	want := seckill.RecountItem{Item: r.item, Known: true, Total: 10, Counted: seckill.UnitCounts{Open: 3, Parked: 2}, Rows: seckill.UnitCounts{Open: 1, Sold: 1}}
	for _, mend := range []bool{false, true} {
		if got := recount(mend); got.Items[0] != want || got.Counted == got.Rows {
			t.Errorf("mend %v: %+v", mend, got)
		}
	}
	if got := recount(false); got.Items[0].Differs() || got.Counted != got.Rows {
		t.Errorf("afterwards: %+v", got)
	}
	r.check(1, 1)
	changes, err := store.Changes(t.Context(), 0, 1)
	if err != nil || changes[0].Kind != seckill.ChangeCounters || changes[0].Author != author {
		t.Errorf("changes %+v, %v", changes, err)
	}

	execute(t, r.visitor, "UPDATE stock SET total = 1, open = 0, sold = 0 WHERE item = $1", int64(r.item))
	if got := recount(true); !got.Items[0].Oversold() || got.Items[0].Mendable() {
		t.Errorf("more sold than there is: %+v", got)
	}
	if got := recount(false); !got.Items[0].Differs() {
		t.Errorf("what breaks L1 was written: %+v", got)
	}
	if _, err := store.Recount(t.Context(), inventory.MaxShards, true, author); !errors.Is(err, seckill.ErrNotFound) {
		t.Errorf("a shard that is not there: %v", err)
	}
}

// The usual rights of a process are enough for the repair.
func TestRecount_AsTheProcessesRole(t *testing.T) {
	url := database(t)
	store := open(t, postgres.Config{URL: as(app, url), KeepSchema: true})
	s := newSale(t, store, 10, 0)
	s.order(t, store, "u-1", "k")
	execute(t, connect(t, url), "UPDATE stock SET open = 0")
	if _, err := store.Recount(t.Context(), s.ref.Shard, true, author); err != nil {
		t.Fatal(err)
	}
	if b := s.book(t, store); b.Open != 1 {
		t.Errorf("books %+v", b)
	}
}
