package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/penstock/penstock/internal/sqlite"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Counters that were changed by hand are found, and corrected to match the rows.
func TestRecount_MendsCounters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "penstock.db")
	store := open(t, sqlite.Config{Path: path})
	s := sale(t, store)
	s.outcomes(s.promise("u-1", "k", 2))
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, text := range []string{"UPDATE stock SET open = 0, sold = 5", "UPDATE shard_digests SET sold = 9"} {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	shard := inventory.ShardAt(s.item, 0, 4)
	for look, mend := range []bool{false, true, false} {
		got, err := store.Recount(t.Context(), shard, mend, author)
		if err != nil || len(got.Items) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		differs := got.Items[0].Counted == seckill.UnitCounts{Sold: 5} && got.Counted != got.Rows
		if differs != (look < 2) {
			t.Errorf("look %d: differs is %v: %+v", look, differs, got)
		}
		if want := (seckill.UnitCounts{Open: 2}); got.Items[0].Rows != want {
			t.Errorf("%+v", got)
		}
	}
	books, err := store.ActivityBooks(t.Context(), "a1")
	if err != nil || books[0].Open != 2 || books[0].Sold != 0 {
		t.Errorf("books %+v, %v", books, err)
	}
	changes, err := store.Changes(t.Context(), 0, 10)
	if err != nil || changes[0].Kind != seckill.ChangeCounters || changes[1].Kind == seckill.ChangeCounters {
		t.Errorf("changes %+v, %v", changes, err)
	}
}
