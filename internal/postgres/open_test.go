package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/seckill"
)

func TestOpen_KeepsWhatWasWritten(t *testing.T) {
	url := database(t)
	newSale(t, open(t, postgres.Config{URL: url}), 10, 0)
	a, err := open(t, postgres.Config{URL: url}).FindActivity(t.Context(), "a1")
	if err != nil || len(a.Items) != 1 {
		t.Fatalf("activity %+v, %v", a, err)
	}
}

// When processes start together, the schema is made once.
func TestOpen_MigratesOnceHoweverManyStart(t *testing.T) {
	url := servers.Postgres(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			store, err := postgres.Open(t.Context(), postgres.Config{URL: url})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := store.Shards(t.Context()); err != nil {
				t.Error(err)
			}
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var twice int
	must(t, connect(t, url).QueryRow(t.Context(),
		"SELECT count(*) FROM (SELECT version_id FROM goose_db_version GROUP BY 1 HAVING count(*) > 1) AS twice").Scan(&twice))
	if twice != 0 {
		t.Errorf("%d migrations were made twice", twice)
	}
}

func TestOpen_RefusesANewerSchema(t *testing.T) {
	url := database(t)
	execute(t, connect(t, url), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, true)")
	_, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if !errors.Is(err, postgres.ErrNewerSchema) || !strings.Contains(err.Error(), "version 4711") {
		t.Errorf("open: %v", err)
	}
	for _, dryRun := range []bool{true, false} {
		var out bytes.Buffer
		if err := postgres.Migrate(t.Context(), url, 0, dryRun, &out); !errors.Is(err, postgres.ErrNewerSchema) || out.Len() > 0 {
			t.Errorf("migrate: %v, %q", err, &out)
		}
	}
}

func TestOpen_KeepSchemaRefusesAnOlderOne(t *testing.T) {
	url := servers.Postgres(t)
	if _, err := postgres.Open(t.Context(), postgres.Config{URL: url, KeepSchema: true}); !errors.Is(err, postgres.ErrOlderSchema) {
		t.Fatal(err)
	}
	if n := tables(t, url); n != 0 {
		t.Errorf("%d tables in a database that was to be left alone", n)
	}
	must(t, postgres.Migrate(t.Context(), url, 0, false, t.Output()))
	open(t, postgres.Config{URL: url, KeepSchema: true})
}

// The number of shards is fixed when the database is made.
func TestOpen_RefusesAnotherLayout(t *testing.T) {
	url := servers.Postgres(t)
	must(t, postgres.Migrate(t.Context(), url, 7, false, t.Output()))
	must(t, postgres.Migrate(t.Context(), url, 9, false, t.Output())) // there is nothing to do
	for _, shards := range []int{0, 7} {
		store := open(t, postgres.Config{URL: url, Shards: shards})
		rows, err := store.Shards(t.Context())
		if err != nil || len(rows) != 7 || store.ShardCount() != 7 {
			t.Errorf("shards %+v, %v", rows, err)
		}
	}
	_, err := postgres.Open(t.Context(), postgres.Config{URL: url, Shards: 16})
	if !errors.Is(err, seckill.ErrLayout) || !strings.Contains(err.Error(), "7 shards") {
		t.Error(err)
	}
	other := open(t, postgres.Config{URL: servers.Postgres(t)})
	if other.ShardCount() != 16 {
		t.Errorf("%d shards by default", other.ShardCount())
	}
}

func tables(t *testing.T, url string) (n int) {
	t.Helper()
	must(t, connect(t, url).QueryRow(t.Context(), "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").Scan(&n))
	return n
}

func TestMigrate_SaysWhatItDoes(t *testing.T) {
	url := servers.Postgres(t)
	run := func(dryRun bool) string {
		t.Helper()
		var out bytes.Buffer
		must(t, postgres.Migrate(t.Context(), url, 0, dryRun, &out))
		return out.String()
	}
	if got := run(true); !strings.Contains(got, "-- would apply 00001_schema.sql\n") || !strings.Contains(got, "CREATE TABLE orders") {
		t.Errorf("dry run: %s", got)
	}
	if n := tables(t, url); n != 0 {
		t.Errorf("a dry run left %d tables", n)
	}
	if got := run(false); !strings.Contains(got, "applied 00001_schema.sql in ") {
		t.Errorf("migrate: %q", got)
	}
	for _, dryRun := range []bool{true, false} {
		if got := run(dryRun); !strings.HasPrefix(got, "the schema is up to date: version ") {
			t.Errorf("again: %q", got)
		}
	}
}

func TestOpen_ADatabaseThatIsAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := l.Addr().String()
	must(t, l.Close())
	url := "postgres://penstock:hush@" + addr + "/x?sslmode=disable"
	_, err = postgres.Open(t.Context(), postgres.Config{URL: url})
	if !postgres.Unreachable(err) || !strings.Contains(err.Error(), addr) || strings.ContainsAny(err.Error(), "\n\t") {
		t.Errorf("open: %v", err)
	}
	err = errors.Join(err, postgres.Migrate(t.Context(), url, 0, true, t.Output()))
	if !postgres.Unreachable(err) {
		t.Errorf("migrate: %v", err)
	}
	if strings.Contains(err.Error(), "hush") {
		t.Errorf("the password is shown: %v", err)
	}
}

func TestOpen_AServerThatSaysNoIsNotAway(t *testing.T) {
	url := servers.SharedPostgres(t).URL("there_is_no_such_database")
	_, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err == nil || postgres.Unreachable(err) {
		t.Fatal(err)
	}
}

func TestOpen_GivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := postgres.Open(ctx, postgres.Config{URL: database(t)}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestConfig_NamesAllThatIsWrong(t *testing.T) {
	for _, c := range []struct {
		config postgres.Config
		want   []string
	}{
		{postgres.Config{}, []string{"url: missing"}},
		{postgres.Config{URL: "postgres://u:hush@h:port/x", MaxConns: 3}, []string{"url: ", "max-conns: 3 is not between 4 and 1000"}},
		{postgres.Config{URL: "postgres://u@h/x", MaxConns: 1001}, []string{"max-conns: 1001"}},
		{postgres.Config{URL: "postgres://u@h/x", Shards: 1025}, []string{"shards: 1025"}},
	} {
		err := c.config.Validate()
		if err == nil {
			t.Errorf("%+v is valid", c.config)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
				t.Errorf("%q, want %q", err, want)
			}
		}
		if _, opened := postgres.Open(t.Context(), c.config); opened == nil {
			t.Error("opened")
		}
	}
	config := postgres.Config{URL: "postgres://u@h/x?pool_max_conns=2"}
	must(t, config.Validate())
}
