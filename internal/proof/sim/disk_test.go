package sim

import (
	"context"
	"database/sql/driver"
	"slices"
	"testing"

	"github.com/penstock/penstock/internal/sqlite"
)

// TestDisk: a store finds what was put on its disk, and nothing of the stores that had it before.
func TestDisk(t *testing.T) {
	shops := newShops(t)
	disks, ctx := shops.disks, context.WithoutCancel(t.Context())
	use := func(on image, do func(*sqlite.Store)) (after image) {
		t.Helper()
		d, err := disks.take(ctx, on, nil)
		must(t, err)
		store, err := sqlite.Open(ctx, sqlite.Config{Path: d.file, Shards: shards, Connect: d.connect})
		must(t, err)
		do(store)
		after, err = d.read(ctx)
		must(t, err)
		must(t, store.Close())
		disks.give(d)
		return after
	}
	sees := func(store *sqlite.Store, want int) {
		t.Helper()
		at, err := store.Positions(ctx)
		must(t, err)
		if len(at) != want {
			t.Errorf("the log has %d partitions, want %d", len(at), want)
		}
	}
	put := func(store *sqlite.Store) {
		t.Helper()
		sees(store, 0)
		must(t, store.AddPartitions(ctx, topicID(0), partitions))
		sees(store, partitions)
	}
	changed := use(shops.schema, put)
	use(changed, func(store *sqlite.Store) { sees(store, partitions) })
	use(shops.schema, put)
	use(changed, func(store *sqlite.Store) { sees(store, partitions) })
	if len(disks.all) != 1 {
		t.Errorf("%d disks were made for one store at a time", len(disks.all))
	}

	d, err := disks.take(ctx, shops.schema, nil)
	must(t, err)
	now, err := d.read(ctx)
	must(t, err)
	if !slices.EqualFunc(now[1:], shops.schema[1:], slices.Equal) { // the first page counts transactions
		t.Error("a disk has other pages than were put on it")
	}
	var words []any
	must(t, d.query(ctx, "PRAGMA integrity_check", func(row []driver.Value) { words = append(words, row[0]) }))
	if !slices.Equal(words, []any{"ok"}) {
		t.Errorf("the database is damaged: %v", words)
	}
	disks.give(d)
}
