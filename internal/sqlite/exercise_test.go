package sqlite

import (
	"flag"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/raced"
	"github.com/penstock/penstock/internal/proof/storetest"
	"github.com/penstock/penstock/seckill"
)

// short has what a statement may scan: its own lists, tables of a bounded size, and the indexes of
// parked orders, of payments that came before their orders, and of items that wait to be published.
// Of the steps of orders only the oldest one is read.
var short = []string{
	"CONSTANT ROW", "json_each", "wanted", "one", "k", "d", "buyer",
	"installation", "catalog", "shards", "positions", "tokens", "dropped_items",
	"orders_to_unpark", "orders_parked", "outbox_publish", "payments_early", "order_events",
}

var _ storetest.Locker = (*Store)(nil)

func TestStore(t *testing.T) {
	if raced.Enabled { // the random sequences are of one goroutine; all of them run without the detector
		if err := flag.Set("rapid.checks", "10"); err != nil {
			t.Fatal(err)
		}
	}
	shapes := make(map[shape]bool)
	for _, query := range []string{
		stockOfShard, ordersOfItems, withdrawalsOfItems, parkedStrangers, booksOfActivity, booksOfShard,
		soldOfActivity, soldOfItems,
	} {
		shapes[shape{query, 8}] = true
	}
	storetest.Exercise(t, func(t *testing.T, now func() time.Time) seckill.Store {
		store := openForPlans(t, Config{Now: now, Shards: storetest.Shards})
		t.Cleanup(func() {
			if store.writer.statements != nil { // the test may have closed it
				for sh := range store.writer.statements.kept {
					shapes[sh] = true
				}
			}
			for sh := range store.readers.kept {
				shapes[sh] = true
			}
		})
		return store
	})
	// No statement that the suite uses may scan a growing table, or sort orders.
	t.Run("Plans", func(t *testing.T) {
		if len(shapes) < 80 {
			t.Errorf("only %d statements were heard of", len(shapes))
		}
		store := openForPlans(t, Config{})
		for sh := range shapes {
			for _, step := range plan(t, store, sh.String()) {
				if walks(step) || strings.Contains(step, "TEMP B-TREE") && sortsOrders(sh.text) {
					t.Errorf("%s\n\t%s", step, sh.text)
				}
			}
		}
	})
}

// walks reports whether a step reads a whole table that may grow, or an index of all of it.
func walks(step string) bool {
	return strings.HasPrefix(step, "SCAN ") && !strings.HasSuffix(step, "-ROW VALUES CLAUSE") &&
		!slices.ContainsFunc(short, func(what string) bool {
			return step == "SCAN "+what || strings.HasPrefix(step, "SCAN "+what+" ") || strings.HasSuffix(step, "INDEX "+what)
		})
}

// sortsOrders reports whether a statement that sorts does so with orders. The books and the items
// of an activity are sorted by their places, and parked orders without an item are few.
func sortsOrders(query string) bool {
	return strings.Contains(query, "orders") && query != booksOfActivity && query != parkedStrangers && query != itemsOfActivities
}

func openForPlans(t *testing.T, config Config) *Store {
	t.Helper()
	config.Path = filepath.Join(t.TempDir(), "penstock.db")
	store, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// plan returns the steps of SQLite's plan for a statement.
func plan(t *testing.T, store *Store, text string) []string {
	t.Helper()
	ctx := t.Context()
	if !strings.HasPrefix(text, "SELECT") && !strings.HasPrefix(text, "UPDATE") && !strings.HasPrefix(text, "DELETE") {
		return nil
	}
	conn, err := store.pool.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	args := make([]any, strings.Count(text, "?"))
	rows, err := conn.QueryContext(ctx, "EXPLAIN QUERY PLAN "+text, args...)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var id, parent, unused int64
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}
