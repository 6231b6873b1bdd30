package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/settings"
)

var settingsAuthor = settings.Author{Actor: "ann", Reason: "a test"}

// TestStore runs the whole suite with the rights of deploy/postgres-grants.sql. This test lists
// what they don't allow.
func TestGrants_AreNoMore(t *testing.T) {
	url := as(app, database(t))
	store := open(t, postgres.Config{URL: url, KeepSchema: true})
	newSale(t, store, 10, 0).order(t, store, "u-1", "k")
	conn := connect(t, url)
	for _, text := range []string{
		"CREATE TABLE mine (x int)", "DROP TABLE orders_0", "ALTER TABLE stock DROP CONSTRAINT stock_check", "TRUNCATE outbox",
		"DELETE FROM orders", "DELETE FROM payments", "UPDATE payments SET payment = ''", "DELETE FROM changes", "DELETE FROM merchants",
		"DELETE FROM callers", "INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, true)", "UPDATE settings SET body = ''",
		"SELECT FROM orders_0", "UPDATE stock_changes SET delta = 1", "UPDATE installation SET shards = 1", "DELETE FROM shards",
		"DELETE FROM positions", "UPDATE withdrawals SET buried = true", "INSERT INTO weeks VALUES (1)",
		"DELETE FROM kafka_cluster",
	} {
		if _, err := conn.Exec(t.Context(), text); code(err) != "42501" {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := conn.Exec(t.Context(), "SELECT penstock_drop_week(week) FROM activities"); code(err) != "P0001" {
		t.Errorf("drop a week with a sale: %v", err)
	}
	if err := postgres.Migrate(t.Context(), url, 0, false, t.Output()); err != nil { // there is nothing to do
		t.Error(err)
	}
}

// A process that finds an older schema says what to do.
func TestOpen_WithoutTheRightToMigrate(t *testing.T) {
	url := database(t)
	execute(t, connect(t, url), "DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)")
	_, err := postgres.Open(t.Context(), postgres.Config{URL: as(app, url)})
	if !errors.Is(err, postgres.ErrOlderSchema) || code(err) != "42501" || !strings.Contains(err.Error(), "run penstock migrate") {
		t.Fatal(err)
	}
}

// The owner's functions use the owner's tables, even if the caller has made others with the same
// names.
func TestAddWeek_IgnoresTheCallersTables(t *testing.T) {
	url := as(app, database(t))
	conn := connect(t, url)
	execute(t, conn, "CREATE TEMP TABLE weeks (week int PRIMARY KEY)")
	execute(t, conn, "CREATE TEMP TABLE orders (id int) ")
	execute(t, conn, "SELECT penstock_add_week(77), penstock_add_week(77)")
	var kind string
	must(t, conn.QueryRow(t.Context(), "SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = 'public.orders_77'::regclass").Scan(&kind))
	if kind != "public.orders" {
		t.Errorf("a partition of %s", kind)
	}
}
