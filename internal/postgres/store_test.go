package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"penstock/internal/postgres"
	"penstock/inventory"
	"penstock/seckill"
)

const (
	opened   = seckill.OutcomeOpened
	exists   = seckill.OutcomeExists
	rejected = seckill.OutcomeRejected
	skipped  = seckill.OutcomeSkipped
	unfit    = seckill.OutcomeUnfit
)

func records(list ...seckill.Record) []seckill.Record { return list }

func outcomes(t testing.TB, store *postgres.Store, list ...seckill.Record) []seckill.Outcome {
	t.Helper()
	got, err := store.Accept(t.Context(), list)
	must(t, err)
	out := make([]seckill.Outcome, len(got))
	for i := range got {
		out[i] = got[i].Outcome
	}
	return out
}

// order makes an open order.
func (s *sale) order(t testing.TB, store *postgres.Store, user seckill.UserID, key string) seckill.Order {
	t.Helper()
	got, err := store.Accept(t.Context(), records(s.record(user, key, 1)))
	must(t, err)
	if got[0].Outcome != opened {
		t.Fatalf("outcome %d", got[0].Outcome)
	}
	return got[0].Order
}

func (s *sale) book(t testing.TB, store *postgres.Store) seckill.Book {
	t.Helper()
	books, err := store.Books(t.Context(), s.id)
	must(t, err)
	return books[0]
}

// L1 stands in the table itself: code that forgot it could not write.
func TestL1_TheTableRefusesToOversell(t *testing.T) {
	url := database(t)
	newSale(t, open(t, postgres.Config{URL: url}), 100, 0)
	conn := connect(t, url)
	for _, text := range []string{"UPDATE items SET open = 60, sold = 41", "UPDATE items SET open = -1", "UPDATE items SET total = -1"} {
		if _, err := conn.Exec(t.Context(), text); code(err) != "23514" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// code returns the SQLSTATE of an error.
func code(err error) string {
	var failed *pgconn.PgError
	if errors.As(err, &failed) {
		return failed.Code
	}
	return ""
}

func TestChanges_AreAppendOnly(t *testing.T) {
	url := database(t)
	newSale(t, open(t, postgres.Config{URL: url}), 100, 0)
	conn := connect(t, url)
	for _, text := range []string{"UPDATE changes SET actor = 'nobody'", "DELETE FROM changes", "TRUNCATE changes"} {
		if _, err := conn.Exec(t.Context(), text); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A record that the tables refuse, for its content or for what its names are made of, ends its transaction and not the store.
func TestAccept_RecoversFromARecordThatTheTablesRefuse(t *testing.T) {
	store := open(t, postgres.Config{})
	s := newSale(t, store, 100, 2)
	for _, bad := range records(s.record("u-2", "k", 0), s.record("\xff\xfe", "k", 1), s.record("a\x00b", "k", 1)) {
		if got, err := store.Accept(t.Context(), records(s.record("u-1", "k", 1), bad)); err == nil {
			t.Errorf("accepted %+v: %+v", bad, got)
		}
	}
	if got := outcomes(t, store, s.record("u-1", "k", 1)); got[0] != opened {
		t.Errorf("outcome %v: a refused batch has left something", got)
	}
	if b := s.book(t, store); b.Open != 1 {
		t.Errorf("books %+v", b)
	}
}

func TestAddDeadLetters_TakesAnyText(t *testing.T) {
	store := open(t, postgres.Config{})
	letter := seckill.DeadLetter{Problem: "bad \xff and \x00 bytes", Value: []byte{0, 255}}
	must(t, store.AddDeadLetters(t.Context(), []seckill.DeadLetter{letter}))
	got, err := store.DeadLetters(t.Context(), 0, 10)
	if err != nil || got[0].Problem != "bad \uFFFD and \uFFFD bytes" || !slices.Equal(got[0].Value, letter.Value) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestUpdateActivity_SurvivesAPanicOfChange(t *testing.T) {
	store := open(t, postgres.Config{})
	s := newSale(t, store, 100, 2)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, err := store.UpdateActivity(t.Context(), s.id, author, func(*seckill.Activity) (*seckill.Activity, error) { panic("a bug") })
		t.Error(err)
	}()
	if got := outcomes(t, store, s.record("u-1", "k", 1)); got[0] != opened {
		t.Errorf("outcome %v", got)
	}
}

// The database's clock is the one that counts, and its microseconds survive.
func TestStore_TakesTheDatabasesTime(t *testing.T) {
	url := database(t)
	store := open(t, postgres.Config{URL: url})
	s := newSale(t, store, 100, 0)
	conn := connect(t, url)
	now := func() (at time.Time) {
		must(t, conn.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&at))
		return at
	}
	before := now()
	o := s.order(t, store, "u-1", "k")
	after := now()
	if o.CreatedAt.Before(before) || o.CreatedAt.After(after) || o.CreatedAt.Location() != time.UTC || !o.PayBy.Equal(o.CreatedAt.Add(time.Hour)) {
		t.Errorf("created at %v, to be paid by %v; the database says %v to %v", o.CreatedAt, o.PayBy, before, after)
	}
	found, err := store.FindOrders(t.Context(), []seckill.OrderID{o.ID})
	if err != nil || found[0] != o {
		t.Errorf("found %+v, want %+v (%v)", found, o, err)
	}
	execute(t, conn, "UPDATE orders SET pay_by = clock_timestamp()")
	if n, err := store.TimeOut(t.Context(), 10); n != 1 || err != nil {
		t.Errorf("%d timed out, %v", n, err)
	}
}

// Two statements of a transaction may wait for each other's connection only where there is always one more.
func TestStore_CallsThatNeedTwoConnectionsDontStarve(t *testing.T) {
	store := open(t, postgres.Config{MaxConns: 4})
	s := newSale(t, store, 1000, 0)
	var ids []seckill.OrderID
	for i := range 20 {
		ids = append(ids, s.order(t, store, seckill.UserID(fmt.Sprint(i)), "k").ID)
	}
	must(t, first(store.Cancel(t.Context(), ids)))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := store.Relay(t.Context(), 0, 1, func(ctx context.Context, rows []seckill.Outgoing) []int {
				if _, err := store.FindOrders(ctx, ids); err != nil {
					t.Error(err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if _, err := store.Fence(t.Context(), inventory.Ref{Item: s.ref.Item, Epoch: 1}); err != nil {
				t.Error(err)
			}
			if _, err := store.Accept(t.Context(), records(s.record("u", fmt.Sprint(i), 1))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// After a failover the connections there are lead to a server that may only read. They are given up for new ones.
func TestStore_LeavesAServerThatMayOnlyRead(t *testing.T) {
	url := database(t)
	name := connect(t, url).Config().Database
	readOnly := connect(t, url)
	execute(t, readOnly, "ALTER DATABASE "+name+" SET default_transaction_read_only = on")
	store := open(t, postgres.Config{URL: url, KeepSchema: true})
	if err := store.PutMerchant(t.Context(), seckill.Merchant{ID: "m1"}, author); code(err) != "25006" {
		t.Fatalf("written to a server that may only read: %v", err)
	}
	if _, err := store.Tokens(t.Context()); err != nil { // on a new connection, to the same server
		t.Error(err)
	}
	execute(t, readOnly, "SET default_transaction_read_only = off")
	execute(t, readOnly, "ALTER DATABASE "+name+" RESET default_transaction_read_only")
	newSale(t, store, 10, 0)
	if n := store.Stats().Retries; n == 0 {
		t.Error("it was not tried again")
	}
}

func TestStats(t *testing.T) {
	store := open(t, postgres.Config{MaxConns: 5})
	s := newSale(t, store, 10, 0)
	o := s.order(t, store, "u-1", "k")
	must(t, first(store.Cancel(t.Context(), []seckill.OrderID{o.ID})))
	must(t, first(store.Relay(t.Context(), 0, 10, func(context.Context, []seckill.Outgoing) []int {
		if got := store.Stats(); got.MaxConnections != 5 || got.InUse != 1 || got.Connections < 1 {
			t.Errorf("%+v", got)
		}
		return nil
	})))
}

func TestRelay_TwoShareTheWork(t *testing.T) {
	url := database(t)
	store, other := open(t, postgres.Config{URL: url}), open(t, postgres.Config{URL: url})
	s := newSale(t, store, 100, 0)
	var ids []seckill.OrderID
	for i := range 4 {
		ids = append(ids, s.order(t, store, seckill.UserID(fmt.Sprint(i)), "k").ID)
	}
	must(t, first(store.Cancel(t.Context(), ids)))
	names := func(rows []seckill.Outgoing) (names []string) {
		for i := range rows {
			names = append(names, rows[i].Settlement.ID)
		}
		return names
	}
	var mine, others []string
	_, err := store.Relay(t.Context(), 0, 2, func(ctx context.Context, rows []seckill.Outgoing) []int {
		mine = names(rows)
		_, err := other.Relay(ctx, 0, 10, func(_ context.Context, rows []seckill.Outgoing) []int {
			others = names(rows)
			return []int{0}
		})
		must(t, err)
		return []int{0, 1}
	})
	must(t, err)
	all := append(slices.Clone(mine), others...)
	slices.Sort(all)
	want := []string{string(ids[0]), string(ids[1]), string(ids[2]), string(ids[3])}
	slices.Sort(want)
	if !slices.Equal(all, want) {
		t.Errorf("one got %v, the other %v", mine, others)
	}
	// What the other did not deliver comes again; so does what a relay had that died.
	ctx, cancel := context.WithCancel(t.Context())
	_, err = store.Relay(ctx, 0, 10, func(context.Context, []seckill.Outgoing) []int {
		cancel()
		return []int{0}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a relay that died: %v", err)
	}
	must(t, first(other.Relay(t.Context(), 0, 10, func(_ context.Context, rows []seckill.Outgoing) []int {
		if got := names(rows); !slices.Equal(got, others[1:]) {
			t.Errorf("%v come again, want %v", got, others[1:])
		}
		return nil
	})))
}

// partitions returns the tables that hold orders.
func partitions(t *testing.T, conn *pgx.Conn) (names []string) {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'orders'::regclass ORDER BY 1")
	must(t, err)
	names, err = pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return names
}

func TestDropEnded_DropsWhatIsOver(t *testing.T) {
	url := database(t)
	store := open(t, postgres.Config{URL: url})
	conn := connect(t, url)
	over, busy, told, running := namedSale(t, store, "over", 10, 0), namedSale(t, store, "busy", 10, 0),
		namedSale(t, store, "told", 10, 0), namedSale(t, store, "running", 10, 0)
	sold := over.order(t, store, "u-1", "k")
	must(t, first(store.Pay(t.Context(), []seckill.Payment{{Merchant: "m1", ID: "p-1", Order: sold.ID, Amount: sold.Amount}})))
	_, _, err := store.Restock(t.Context(), seckill.StockChange{Item: over.ref.Item, Key: "r", Delta: 1}, author)
	must(t, err)
	drain(t, store)
	busy.order(t, store, "u-1", "k")
	pending := told.order(t, store, "u-1", "k")
	must(t, first(store.Cancel(t.Context(), []seckill.OrderID{pending.ID})))
	execute(t, conn, "UPDATE activities SET ends_at = now() - interval '3 days' WHERE id <> 'running'")
	execute(t, conn, "INSERT INTO activities (id, merchant, name, state, starts_at, ends_at, payment_window) VALUES ('draft', 'm1', '', 'draft', now(), '-infinity', 1)")

	drop := func(want ...seckill.ActivityID) {
		t.Helper()
		got, err := store.DropEnded(t.Context(), time.Now().Add(-48*time.Hour))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("dropped %v, %v; want %v", got, err, want)
		}
	}
	before := partitions(t, conn)
	drop("over")
	drop()
	if after := partitions(t, conn); len(after) != len(before)-1 {
		t.Errorf("partitions %v, before %v", after, before)
	}
	drain(t, store)
	drop("told")
	must(t, first(store.TimeOut(t.Context(), 10)))
	must(t, first(store.Cancel(t.Context(), []seckill.OrderID{busy.record("u-1", "k", 1).Order})))
	drain(t, store)
	drop("busy")
	if got := outcomes(t, store, running.record("u-1", "k", 1)); got[0] != opened {
		t.Errorf("the running sale: outcome %v", got)
	}

	// What came of it is gone; a record that is late finds no item, and its name may be used again.
	found, err := store.FindOrders(t.Context(), []seckill.OrderID{sold.ID})
	if err != nil || found[0].ID != "" {
		t.Errorf("found %+v, %v", found, err)
	}
	if got := outcomes(t, store, over.record("u-1", "k", 1), over.record("u-2", "k", 1)); got[0] != unfit || got[1] != unfit {
		t.Errorf("outcomes %v", got)
	}
	changes, err := store.Changes(t.Context(), 0, 10)
	must(t, err)
	if c := changes[2]; c.Kind != "activity" || c.Key != "over" || c.After != "" || !strings.Contains(c.Before, `"over"`) {
		t.Errorf("change %+v", c)
	}
	again := namedSale(t, store, "over", 10, 0)
	if got := outcomes(t, store, again.record("u-1", "k", 1)); got[0] != opened {
		t.Errorf("outcome %v", got)
	}
}

// drain deletes all rows of the outbox.
func drain(t testing.TB, store *postgres.Store) {
	t.Helper()
	for last := int64(-1); last != 0; {
		var err error
		last, err = store.Relay(t.Context(), 0, 100, func(_ context.Context, rows []seckill.Outgoing) []int {
			all := make([]int, len(rows))
			for i := range all {
				all[i] = i
			}
			return all
		})
		must(t, err)
	}
}

// A sale that is dropped keeps nobody waiting for long: not even for somebody who reads orders all day.
func TestDropEnded_GivesWayToOrders(t *testing.T) {
	url := database(t)
	store := open(t, postgres.Config{URL: url})
	namedSale(t, store, "over", 10, 0)
	s := namedSale(t, store, "running", 10, 0)
	conn := connect(t, url)
	execute(t, conn, "UPDATE activities SET ends_at = now() - interval '3 days' WHERE id = 'over'")
	reader := connect(t, url)
	execute(t, reader, "BEGIN")
	execute(t, reader, "SELECT FROM orders")
	if got, err := store.DropEnded(t.Context(), time.Now()); len(got) != 0 || code(err) != "55P03" {
		t.Errorf("dropped %v, %v", got, err)
	}
	s.order(t, store, "u-1", "k")
	execute(t, reader, "COMMIT")
	if got, err := store.DropEnded(t.Context(), time.Now()); len(got) != 1 || err != nil {
		t.Errorf("dropped %v, %v", got, err)
	}
}

// The function that drops partitions refuses what is in use, whoever calls it.
func TestDropSale_RefusesOpenOrders(t *testing.T) {
	url := database(t)
	store := open(t, postgres.Config{URL: url})
	newSale(t, store, 10, 0).order(t, store, "u-1", "k")
	if _, err := connect(t, url).Exec(t.Context(), "SELECT penstock_drop_sale(sale) FROM activities"); err == nil {
		t.Error("dropped")
	}
}
