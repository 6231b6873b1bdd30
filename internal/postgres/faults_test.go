package postgres_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/seckill"
)

// provoked makes a server answer with an error, and removes the cause afterwards.
type provoked struct {
	name  string
	code  string
	want  postgres.Fault
	param [2]string // a setting of the session
	begin []string  // before the store is asked, by a superuser
	hold  string    // a statement whose locks are held meanwhile
	end   []string
}

// endSessions has the processes make new connections.
const endSessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = '" + app + "'"

// For every code in the table that a test can provoke: the server answers with that code, nothing
// has happened, and the same batch is accepted after the fault.
func TestFaultOf_OnARealServer(t *testing.T) {
	raise := func(code string) []string {
		return []string{
			"CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'as if' USING ERRCODE = '" + code + "'; END $$",
			"CREATE TRIGGER fault BEFORE UPDATE ON stock EXECUTE FUNCTION fault()",
		}
	}
	ended := []string{"DROP TRIGGER fault ON stock", "DROP FUNCTION fault"}
	for _, p := range []provoked{
		{name: "a shard's row is locked", code: "55P03", want: postgres.FaultWait, param: [2]string{"lock_timeout", "50ms"}, hold: theShard},
		{name: "a statement takes too long", code: "57014", want: postgres.FaultWait, param: [2]string{"statement_timeout", "100ms"}, hold: theShard},
		{name: "the server takes no writes", code: "25006", want: postgres.FaultAgain,
			begin: []string{"ALTER DATABASE DB SET default_transaction_read_only = on", endSessions},
			end:   []string{"ALTER DATABASE DB RESET default_transaction_read_only"}},
		{name: "no connection is free", code: "53300", want: postgres.FaultWait,
			begin: []string{"ALTER DATABASE DB CONNECTION LIMIT 0", endSessions}, end: []string{"ALTER DATABASE DB CONNECTION LIMIT -1"}},
		{name: "a right is missing", code: "42501", want: postgres.FaultWait,
			begin: []string{"REVOKE INSERT ON orders FROM " + app}, end: []string{"GRANT INSERT ON orders TO " + app}},
		{name: "a table is missing", code: "42P01", want: postgres.FaultWait,
			begin: []string{"ALTER TABLE shard_digests RENAME TO other"}, end: []string{"ALTER TABLE other RENAME TO shard_digests"}},
		{name: "a rule of the tables would break", code: "23514", want: postgres.FaultInvariant,
			begin: []string{"ALTER TABLE stock ADD CONSTRAINT closed CHECK (open = 0)"}, end: []string{"ALTER TABLE stock DROP CONSTRAINT closed"}},
		{name: "the disk is full", code: "53100", want: postgres.FaultWait, begin: raise("53100"), end: ended},
		{name: "the disk is broken", code: "58030", want: postgres.FaultWait, begin: raise("58030"), end: ended},
		{name: "a deadlock", code: "40P01", want: postgres.FaultAgain, begin: raise("40P01"), end: ended},
		{name: "a transaction lost against another", code: "40001", want: postgres.FaultAgain, begin: raise("40001"), end: ended},
	} {
		t.Run(p.name, func(t *testing.T) {
			url := database(t)
			admin := connect(t, url)
			setUp := open(t, postgres.Config{URL: url}) // as the superuser, because none of these faults affects it
			s := newSale(t, setUp, 10, 2)
			must(t, setUp.AddPartitions(t.Context(), topic, 1))
			if p.param[0] != "" {
				url = with(t, url, p.param[0], p.param[1])
			}
			store := open(t, postgres.Config{URL: as(app, url), KeepSchema: true})
			b := s.batch(s.promise("u-1", "k", 1))
			b.Moves = move(0, 5)
			run := func(list []string) {
				for _, text := range list {
					execute(t, admin, strings.ReplaceAll(text, "DB", admin.Config().Database))
				}
			}
			run(p.begin)
			if p.hold != "" {
				execute(t, admin, "BEGIN")
				execute(t, admin, p.hold)
			}
			_, err := store.Accept(t.Context(), b)
			for code(err) == "57P01" { // its connection was ended
				_, err = store.Accept(t.Context(), b)
			}
			if code(err) != p.code || postgres.FaultOf(err) != p.want || errors.Is(err, seckill.ErrLocked) || errors.Is(err, seckill.ErrMoved) {
				t.Errorf("%v: code %q, fault %v; want %q, %v", err, code(err), postgres.FaultOf(err), p.code, p.want)
			}
			if p.hold != "" {
				execute(t, admin, "COMMIT")
			}
			run(p.end)
			if book := s.book(t, setUp); book.Open != 0 || book.Rejected != 0 || book.Parked != 0 {
				t.Errorf("after the fault the books have %+v", book)
			}
			got, err := store.Accept(t.Context(), b)
			for code(err) == "25006" { // connections of before
				got, err = store.Accept(t.Context(), b)
			}
			if err != nil || got[0].Outcome != opened {
				t.Errorf("after the fault: %+v, %v", got, err)
			}
		})
	}
}

// Many transactions together can fill the server's lock table. The one that finds no room isn't the
// cause.
func TestFaultOf_TheLockTableIsFull(t *testing.T) {
	server := servers.NewPostgres(t, "-c", "max_locks_per_transaction=10", "-c", "max_connections=20")
	url := copyTemplate(t, server)
	store := open(t, postgres.Config{URL: url})
	s := newSale(t, store, 10, 2)
	b := s.batch(s.promise("u-1", "k", 1))
	admin := connect(t, url)
	if _, err := admin.Exec(t.Context(), "SELECT pg_advisory_lock(n) FROM generate_series(1, 1000000) AS n"); code(err) != "53200" {
		t.Fatalf("the table took a million locks: %v", err)
	}
	_, err := store.Accept(t.Context(), b)
	if code(err) != "53200" || postgres.FaultOf(err) != postgres.FaultWait || errors.Is(err, seckill.ErrLocked) {
		t.Errorf("%v: fault %v", err, postgres.FaultOf(err))
	}
	execute(t, admin, "SELECT pg_advisory_unlock_all()")
	if got := outcomes(t, store, b); got[0] != opened {
		t.Errorf("afterwards %v", got)
	}
}

// Errors of a server that starts, stops, or lacks a resource pass by themselves. Errors about this
// process don't.
func TestUnreachable(t *testing.T) {
	for code, want := range map[string]bool{
		"57P03": true, "57P01": true, "53300": true, "53200": true, "53100": true, "57014": true, "55P03": true, "40001": true,
		"08006": true, "58030": true, "25006": true,
		"28P01": false, "28000": false, "3D000": false, "42501": false, "42P01": false, "22021": false, "0A000": false,
	} {
		if got := postgres.Unreachable(fmt.Errorf("open: %w", &pgconn.PgError{Code: code})); got != want {
			t.Errorf("%s: %v", code, got)
		}
	}
	for _, err := range []error{io.ErrUnexpectedEOF, os.ErrDeadlineExceeded, syscall.ECONNRESET} {
		if !postgres.Unreachable(fmt.Errorf("open: %w", err)) {
			t.Errorf("%v is taken for an answer", err)
		}
	}
	for _, err := range []error{postgres.ErrNewerSchema, postgres.ErrOlderSchema, seckill.ErrLayout} {
		if postgres.Unreachable(err) {
			t.Errorf("%v is no answer", err)
		}
	}
}
