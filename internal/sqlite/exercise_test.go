package sqlite

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/internal/proof/storetest"
	"penstock/seckill"
)

// growing are the tables that grow with the sale, or for ever.
var growing = []string{"orders", "payments", "stock_changes", "withdrawal_tombstones", "changes", "dead_letters", "outbox"}

func TestStore(t *testing.T) {
	shapes := map[shape]bool{{holdsOfOrders, 1}: true, {holdsOfWithdrawals, 1}: true}
	storetest.Exercise(t, func(t *testing.T, now func() time.Time) seckill.Store {
		store := openForPlans(t, Config{Now: now})
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
	// None of the statements that the suite has made the store prepare may walk through a table that grows, or sort orders.
	t.Run("Plans", func(t *testing.T) {
		if len(shapes) < 60 {
			t.Errorf("only %d statements were heard of", len(shapes))
		}
		store := openForPlans(t, Config{})
		for sh := range shapes {
			for _, step := range plan(t, store, sh.String()) {
				for _, table := range growing {
					if strings.HasPrefix(step, "SCAN "+table) {
						t.Errorf("%s\n\t%s", step, sh.text)
					}
				}
				if strings.Contains(step, "TEMP B-TREE") && strings.Contains(sh.text, "orders") {
					t.Errorf("%s\n\t%s", step, sh.text)
				}
			}
		}
	})
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
