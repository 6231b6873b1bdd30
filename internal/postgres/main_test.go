package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"penstock/internal/postgres"
	"penstock/internal/servers"
	"penstock/internal/storetest"
	"penstock/seckill"
)

// victimURL tells this test binary to be the process that is killed: it names the database.
const victimURL = "PENSTOCK_TEST_VICTIM"

func TestMain(m *testing.M) {
	if url := os.Getenv(victimURL); url != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(url)) // it comes here only when something went wrong
		os.Exit(1)
	}
	goleak.VerifyTestMain(servers.Main{M: m})
}

func writeUntilKilled(url string) error {
	store, err := postgres.Open(context.Background(), postgres.Config{URL: url})
	if err != nil {
		return err
	}
	return storetest.WriteUntilKilled(context.Background(), store, os.Stdout)
}

var author = seckill.Author{Actor: "ann", Reason: "a test"}

// template is a migrated database that others are copied from: that is faster than to migrate each.
const template = "penstock_template"

var making sync.Mutex

// database makes a database with the schema and nothing in it.
func database(t testing.TB) string {
	t.Helper()
	return copyTemplate(t, servers.SharedPostgres(t))
}

func copyTemplate(t testing.TB, server *servers.Server) string {
	t.Helper()
	making.Lock()
	defer making.Unlock()
	conn := connect(t, server.URL("postgres"))
	var found bool
	if err := conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", template).Scan(&found); err != nil {
		t.Fatal(err)
	}
	if !found {
		execute(t, conn, "CREATE DATABASE "+template)
		if err := postgres.Migrate(t.Context(), server.URL(template), false, t.Output()); err != nil {
			t.Fatal(err)
		}
	}
	return server.Database(t, template)
}

// connect connects to a database behind the store's back.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the test may have broken it
	return conn
}

func execute(t testing.TB, conn *pgx.Conn, text string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), text, args...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// open opens a store that the test's cleanup closes.
func open(t testing.TB, config postgres.Config) *postgres.Store {
	t.Helper()
	if config.URL == "" {
		config.URL = database(t)
	}
	store, err := postgres.Open(t.Context(), config)
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

func TestStore(t *testing.T) {
	storetest.Exercise(t, func(t *testing.T, now func() time.Time) seckill.Store {
		return open(t, postgres.Config{Now: now})
	})
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
