package faults

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/penstock/penstock/internal/wait"
)

// postgresKinds harm the database. Without it new orders go on; they can't be read, and have no
// rows.
func postgresKinds() []*kind {
	away := []string{status, rows}
	all := []*kind{
		{name: "postgres-kill", what: "kill -9 of PostgreSQL, started again after 4 s", on: "single", may: away,
			harm: func(f *fault) { f.during(4*time.Second, f.s.postgres.Kill, f.s.postgres.Start) }},
		{name: "postgres-restart", what: "PostgreSQL is restarted in order", on: "single", may: away,
			harm: func(f *fault) { f.during(0, f.s.postgres.Stop, f.s.postgres.Start) }},
		{name: "postgres-stop", what: "SIGSTOP of PostgreSQL for 12 s", on: "single", may: away,
			harm: func(f *fault) { f.during(12*time.Second, f.s.postgres.Pause, f.s.postgres.Resume) }},
		{name: "postgres-row-locked", what: "the stock rows of the five hottest items are locked for 8 s", on: "single", harm: func(f *fault) {
			var ids []int64
			for _, it := range f.crowd.sale.items[:5] {
				ids = append(ids, it.id)
			}
			f.holding(8*time.Second, "SELECT FROM stock WHERE item = ANY($1) FOR UPDATE", ids)
		}},
		{name: "postgres-shard-locked", what: "the row of the hottest item's shard is locked for 8 s", on: "single", harm: func(f *fault) {
			f.holding(8*time.Second, "SELECT FROM shards WHERE id = $1 FOR UPDATE", f.crowd.sale.items[0].shard)
		}},
		{name: "postgres-locks-full", what: "the lock table is full for 8 s", on: "single", may: away, harm: func(f *fault) {
			conn, err := f.s.connect(f.Context())
			no(f, "connect to the database", err)
			f.during(8*time.Second, func() { fillLocks(f, conn) }, func() { no(f, "disconnect", conn.Close(f.Context())) })
		}},
		{name: "postgres-connections", what: "strangers have all connections for 8 s, ours are ended", on: "single", may: away, harm: hogConnections},
		{name: "postgres-disk-full", what: "the disk of the tables is full for 8 s", on: "single", may: away, harm: func(f *fault) {
			if f.s.tables == nil {
				f.Skip("needs a mount")
			}
			f.during(8*time.Second, f.s.tables.fill, f.s.tables.free)
		}},
		{name: "postgres-read-only", what: "default_transaction_read_only for 8 s", on: "single", may: away, harm: func(f *fault) {
			alter := func(to string) func() {
				return func() {
					f.s.execute(f, "SET default_transaction_read_only = off", "ALTER SYSTEM SET default_transaction_read_only = "+to,
						"SELECT pg_reload_conf()")
				}
			}
			f.during(8*time.Second, alter("on"), alter("off"))
		}},
		{name: "postgres-restored", what: "a backup of some seconds ago is restored", on: "single", may: away, harm: restore},
	}
	return append(all, proxied("postgres", func(s *site) *proxy { return s.toPostgres }, 250*time.Millisecond, away...)...)
}

// holding keeps a transaction open that has locked the rows of a query.
func (f *fault) holding(d time.Duration, query string, args ...any) {
	f.Helper()
	conn, err := f.s.connect(f.Context())
	no(f, "connect to the database", err)
	defer conn.Close(context.WithoutCancel(f.Context()))
	f.during(d, func() {
		for _, q := range []string{"BEGIN", query} {
			with := args
			if q == "BEGIN" {
				with = nil
			}
			_, err := conn.Exec(f.Context(), q, with...)
			no(f, q, err)
		}
	}, func() {
		_, err := conn.Exec(f.Context(), "ROLLBACK")
		no(f, "roll back", err)
	})
}

// code returns an error's SQLSTATE, or "".
func code(err error) string {
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		return said.Code
	}
	return ""
}

// fillLocks takes advisory locks until there is no room for one more.
func fillLocks(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	for n := 0; ; n++ {
		_, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock($1)", n)
		if code(err) == "53200" {
			t.Logf("%d locks fill the table", n)
			return
		}
		no(t, "lock", err)
	}
}

// hogConnections takes all connections of the database.
func hogConnections(f *fault) {
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	hog := func() {
		var conns []*pgx.Conn
		defer func() {
			for _, c := range conns {
				_ = c.Close(context.WithoutCancel(ctx)) // it ends with its process otherwise
			}
		}()
		for wait.For(ctx, 10*time.Millisecond) {
			conn, err := f.s.connect(ctx)
			if err == nil {
				conns = append(conns, conn)
				continue
			}
			if code(err) == "53300" && len(conns) > 0 {
				_, err := conns[0].Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
					WHERE datname = current_database() AND pid <> ALL($1)`, pids(conns))
				if err != nil && ctx.Err() == nil {
					f.Errorf("end the others' connections: %v", err)
				}
			}
		}
	}
	f.during(8*time.Second, func() { all.Go(hog) }, func() {
		cancel()
		all.Wait()
	})
}

func pids(conns []*pgx.Conn) (all []int32) {
	for _, c := range conns {
		all = append(all, int32(c.PgConn().PID()))
	}
	return all
}

// restore takes a backup, lets the sale go on, and puts the backup back.
func restore(f *fault) {
	s, backup := f.s, f.TempDir()
	folders := map[string]string{s.postgres.Data(): filepath.Join(backup, "data")}
	if s.tables != nil {
		folders[filepath.Join(s.tables.dir, "tables")] = filepath.Join(backup, "tables")
	}
	s.postgres.Stop()
	for live, kept := range folders {
		copyTree(f, live, kept)
	}
	s.postgres.Start()
	from := time.Now()
	eventually(f, "it sells on", func() bool { return f.crowd.promised(from, nil) >= 300 })
	f.during(0, func() {
		s.postgres.Kill()
		for live, kept := range folders {
			copyTree(f, kept, live)
		}
	}, s.postgres.Start)
}

// copyTree replaces a directory with a copy of another one, with owners.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", `rm -rf "$2" && cp -a "$1" "$2"`, "copy", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s to %s: %v\n%s", from, to, err, out)
	}
}

// embeddedKinds harm one process with all its parts.
func embeddedKinds() []*kind {
	return []*kind{
		{name: "embedded-kill", what: "kill -9 of `penstock serve`, started again after a second", on: "embedded",
			may: []string{purchases, status}, harm: func(f *fault) {
				f.during(time.Second, func() {
					f.s.harmed[0].Store(true)
					f.s.harmed[1].Store(true)
					f.s.gateways[0].Load().end(syscall.SIGKILL)
				}, f.s.startServe)
			}},
		{name: "embedded-disk-full", what: "the disk of `penstock serve` is full for 8 s", on: "embedded", may: []string{purchases, status, readiness},
			harm: func(f *fault) { f.during(8*time.Second, f.s.tables.fill, f.s.tables.free) }},
	}
}
