package postgres_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/internal/proof/storetest"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// victimURL is the variable that makes this test binary the process to be killed. Its value names
// the database.
const victimURL = "PENSTOCK_TEST_VICTIM"

func TestMain(m *testing.M) {
	if url := os.Getenv(victimURL); url != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(url)) // reached only when something went wrong
		os.Exit(1)
	}
	// Each random sequence has a database of its own, which takes longer to make than to use. The
	// flag of the command line wins.
	if err := flag.Set("rapid.checks", "30"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(servers.Main{M: m})
}

func writeUntilKilled(url string) error {
	store, err := postgres.Open(context.Background(), postgres.Config{URL: url})
	if err != nil {
		return err
	}
	return storetest.WriteUntilKilled(context.Background(), patient{store}, os.Stdout)
}

// patient is a store that repeats payments and cancels until no row is locked, as a desk does.
type patient struct{ *postgres.Store }

func (p patient) Pay(ctx context.Context, payments []seckill.Payment) ([]seckill.PaymentResult, error) {
	for {
		got, err := p.Store.Pay(ctx, payments)
		locked := func(r seckill.PaymentResult) bool { return r.Verdict == seckill.PaymentLocked }
		if err != nil || !slices.ContainsFunc(got, locked) {
			return got, err
		}
	}
}

func (p patient) Cancel(ctx context.Context, cancels []seckill.Cancellation) ([]seckill.Moved, error) {
	for {
		got, err := p.Store.Cancel(ctx, cancels)
		if err != nil || !slices.ContainsFunc(got, func(m seckill.Moved) bool { return m.Locked }) {
			return got, err
		}
	}
}

var author = seckill.Author{Actor: "ann", Reason: "a test"}

// template is the database that others are copied from, because copying is faster than migrating.
// As in production, an owner migrates it, and another role has the rights of
// deploy/postgres-grants.sql.
const (
	template = "penstock_template"
	owner    = "penstock_owner"
	app      = "penstock_app"
	grants   = "../../deploy/postgres-grants.sql"
)

// as returns a database's URL for another role than the server's superuser.
func as(role, url string) string { return strings.Replace(url, "//penstock@", "//"+role+"@", 1) }

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
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	must(t, err)
	var found bool
	must(t, conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", template).Scan(&found))
	if !found {
		makeTemplate(t, conn, server.URL(template))
	}
	must(t, conn.Close(t.Context()))
	return server.Database(t, template)
}

func makeTemplate(t testing.TB, admin *pgx.Conn, url string) {
	t.Helper()
	for _, role := range []string{owner, app} {
		execute(t, admin, "CREATE ROLE "+role+" LOGIN")
	}
	execute(t, admin, "CREATE DATABASE "+template)
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	execute(t, conn, "ALTER SCHEMA public OWNER TO "+owner) // of the copies, too
	must(t, conn.Close(t.Context()))                        // otherwise it can't be copied
	must(t, postgres.Migrate(t.Context(), as(owner, url), storetest.Shards, false, t.Output()))
	text, err := os.ReadFile(grants)
	must(t, err)
	conn, err = pgx.Connect(t.Context(), as(owner, url))
	must(t, err)
	_, err = conn.PgConn().Exec(t.Context(), string(text)).ReadAll()
	must(t, err, conn.Close(t.Context()))
}

// idle are databases that earlier tests have left. Emptying one takes a tenth of the time of making
// one.
var idle = make(chan string, 4)

// recycled returns a database with the schema and no rows. It may have been used before. The test
// must not change its schema.
func recycled(t testing.TB) string {
	t.Helper()
	var url string
	select {
	case url = <-idle:
		empty(t, url)
	default:
		url = database(keeper{t})
	}
	t.Cleanup(func() {
		select {
		case idle <- url:
		default:
		}
	})
	return url
}

// keeper is a test that leaves its database behind; it goes with the server.
type keeper struct{ testing.TB }

func (keeper) Cleanup(func()) {}

// empty deletes all rows of a database.
func empty(t testing.TB, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	execute(t, conn, `SET session_replication_role = replica; -- no triggers
		DO $$ DECLARE tables text; BEGIN
			SELECT string_agg(inhrelid::regclass::text, ', ') INTO tables FROM pg_inherits
				WHERE inhparent = 'orders'::regclass AND inhrelid <> 'orders_0'::regclass;
			IF tables IS NOT NULL THEN EXECUTE 'DROP TABLE ' || tables; END IF;
			SELECT string_agg(relname, ', ') INTO tables FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
				AND relname NOT IN ('goose_db_version', 'installation', 'shards', 'shard_loads', 'shard_digests');
			EXECUTE 'TRUNCATE ' || tables || ' RESTART IDENTITY';
		END $$;
		INSERT INTO catalog (version) VALUES (1);
		INSERT INTO weeks VALUES (0);
		UPDATE shards SET epoch = 0, next_epoch = 0, suspect_epoch = 0;
		UPDATE shard_loads SET epoch = 0;
		UPDATE shard_digests SET open = 0, sold = 0`)
	must(t, conn.Close(t.Context()))
}

// connect connects to a database without the store.
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

// open opens a store that the test's cleanup closes. Without a given database it makes one, with
// only the rights that a process needs.
func open(t testing.TB, config postgres.Config) *postgres.Store {
	t.Helper()
	if config.URL == "" {
		config.URL, config.KeepSchema = as(app, recycled(t)), true
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
		url := recycled(t)
		return lockable{open(t, postgres.Config{URL: as(app, url), KeepSchema: true, Now: now}), t, url}
	})
}

// lockable is a store whose rows a test can lock, as another process would.
type lockable struct {
	*postgres.Store
	t   *testing.T
	url string
}

// LockStock implements storetest.Locker.
func (l lockable) LockStock(item inventory.ItemID, shard inventory.ShardID) (unlock func()) {
	conn, err := pgx.Connect(l.t.Context(), l.url)
	must(l.t, err)
	execute(l.t, conn, "BEGIN")
	execute(l.t, conn, "SELECT FROM stock WHERE item = $1 AND shard = $2 FOR UPDATE", int64(item), int32(shard))
	return sync.OnceFunc(func() {
		_, err := conn.Exec(context.Background(), "ROLLBACK")
		must(l.t, err, conn.Close(context.Background()))
	})
}

// Blocks implements storetest.Blocker.
func (lockable) Blocks() {}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
