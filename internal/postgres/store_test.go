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

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// The table itself enforces L1, so wrong code can't break it.
func TestL1_TheTableRefusesToOversell(t *testing.T) {
	url := database(t)
	newSale(t, open(t, postgres.Config{URL: url}), 100, 0)
	conn := connect(t, url)
	for _, text := range []string{
		"UPDATE stock SET open = 60, sold = 41", "UPDATE stock SET open = -1", "UPDATE stock SET sold = -1", "UPDATE stock SET total = -1",
	} {
		if _, err := conn.Exec(t.Context(), text); code(err) != "23514" || postgres.FaultOf(err) != postgres.FaultInvariant {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestChangesAndSettings_AreAppendOnly(t *testing.T) {
	url := database(t)
	store := open(t, postgres.Config{URL: url})
	newSale(t, store, 100, 0)
	must(t, store.PutSettings(t.Context(), settings.Document{Name: "limits", Version: 1, ID: "v1", Body: []byte("{}")}, settingsAuthor))
	conn := connect(t, url)
	for _, text := range []string{
		"UPDATE changes SET actor = 'nobody'", "DELETE FROM changes", "TRUNCATE changes", "UPDATE settings SET body = ''",
		"DELETE FROM settings", "TRUNCATE settings",
	} {
		if _, err := conn.Exec(t.Context(), text); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A promise with texts that the tables refuse must not stop its partition: it becomes an order, or
// it is parked.
func TestAccept_TakesAnyText(t *testing.T) {
	store := open(t, postgres.Config{})
	s := newSale(t, store, 100, 2)
	odd := []seckill.Promise{s.promise("\xff\xfe", "k", 1), s.promise("a\x00b", "k", 1), s.promise("u-1", "k", 1)}
	odd[2].SKU = "x\x00"
	b := s.batch(odd...)
	b.Letters = []seckill.DeadLetter{{Partition: 3, Offset: 9, Problem: "bad \xff and \x00 bytes", Value: []byte{0, 255}}}
	if got := outcomes(t, store, b); !slices.Equal(got, []seckill.Outcome{opened, opened, parked}) {
		t.Errorf("outcomes %v", got)
	}
	if got := b.Pages[0].Promises[1].User; got != "a\x00b" {
		t.Errorf("the caller's page was changed: %q", got)
	}
	letters, err := store.DeadLetters(t.Context(), 0, 10)
	if err != nil || len(letters) != 2 || letters[0].Problem != "bad \uFFFD and \uFFFD bytes" ||
		!slices.Equal(letters[0].Value, []byte{0, 255}) || letters[1].Order != odd[2].Order {
		t.Errorf("letters %+v, %v", letters, err)
	}
	hold := inventory.Hold{Item: s.item, ID: string(s.promise("u", "lost", 1).Order), Buyer: "b\xff", Quantity: 1}
	must(t, first(store.Bury(t.Context(), s.ref, incarnation(t, store), []inventory.Hold{hold})))
}

// L5 holds for a limit that was set after the sale began, and in a process that remembers that
// there was none.
func TestL5_ALimitThatIsSetLater(t *testing.T) {
	url := database(t)
	store, other := open(t, postgres.Config{URL: url}), open(t, postgres.Config{URL: url})
	s := newSale(t, store, 100, 0)
	s.order(t, store, "u-1", "k")
	s.order(t, other, "u-1", "l")
	must(t, first(other.UpdateActivity(t.Context(), s.id, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		a.Items[0].PerUser = 2
		return a, nil
	})))
	for i, store := range []*postgres.Store{store, other, store} {
		if got := outcomes(t, store, s.batch(s.promise("u-1", fmt.Sprint(i), 1), s.promise("u-2", "k", 1))); got[0] != rejected {
			t.Errorf("outcomes %v", got)
		}
	}
}

// Promises that fit no item are kept even when the item is sold out, because they sell nothing.
func TestAccept_ParksBesideASoldOutItem(t *testing.T) {
	store := open(t, postgres.Config{})
	s := newSale(t, store, 1, 0)
	s.order(t, store, "u-1", "k")
	unfit := s.promise("u-2", "k", 1)
	unfit.Amount.Minor++
	if got := outcomes(t, store, s.batch(unfit, s.promise("u-3", "k", 1))); !slices.Equal(got, []seckill.Outcome{parked, rejected}) {
		t.Errorf("outcomes %v", got)
	}
	if b := s.book(t, store); b.Open != 1 || b.Parked != 1 || b.Rejected != 1 {
		t.Errorf("books %+v", b)
	}
}

// An order of an unknown item is kept among the strays, and is found there. When its item exists,
// the order moves to the item's week.
func TestAccept_KeepsStrays(t *testing.T) {
	url := database(t)
	store := open(t, postgres.Config{URL: url})
	s := newSale(t, store, 10, 1)
	conn := connect(t, url)
	lost := *s
	lost.item += 77
	promise := lost.promise("u-1", "k", 1)
	if got := outcomes(t, store, lost.batch(promise)); got[0] != parked {
		t.Fatalf("outcome %v", got)
	}
	if got := outcomes(t, store, lost.batch(promise)); got[0] != exists {
		t.Errorf("again: outcome %v", got)
	}
	week := func() (week int32) {
		t.Helper()
		must(t, conn.QueryRow(t.Context(), "SELECT week FROM orders WHERE id = $1", string(promise.Order)).Scan(&week))
		return week
	}
	if week() != 0 {
		t.Errorf("week %d", week())
	}
	execute(t, conn, "UPDATE items SET id = DEFAULT WHERE false") // an identity column takes no value, but for OVERRIDING
	execute(t, conn, `INSERT INTO items (id, sale, position, sku, price, currency, per_user, max_orders, spread)
		OVERRIDING SYSTEM VALUE SELECT $1, sale, 1, 'y', price, currency, per_user, max_orders, spread FROM items`, int64(lost.item))
	execute(t, conn, "INSERT INTO stock (item, shard, total) VALUES ($1, $2, 5)", int64(lost.item), int32(lost.ref.Shard))
	execute(t, conn, "UPDATE orders SET sku = 'y' WHERE id = $1", string(promise.Order))
	letters, err := store.DeadLetters(t.Context(), 0, 10)
	must(t, err)
	got, err := store.ReplayDeadLetters(t.Context(), []int64{letters[0].ID}, author)
	if err != nil || len(got) != 1 || got[0].Outcome != opened {
		t.Fatalf("replayed %+v, %v", got, err)
	}
	if week() == 0 {
		t.Error("an open order is among the strays")
	}
	found, err := store.FindOrders(t.Context(), []seckill.OrderID{promise.Order})
	if err != nil || found[0].State != seckill.OrderPending {
		t.Errorf("found %+v, %v", found, err)
	}
	second := lost.promise("u-1", "l", 1)
	second.SKU = "y"
	if got := outcomes(t, store, lost.batch(second)); got[0] != rejected {
		t.Errorf("L5: outcome %v", got)
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
	must(t, seckill.PutMerchant(t.Context(), store, seckill.Merchant{ID: "m2"}, author))
	s.order(t, store, "u-1", "k")
}

// The database's clock decides, and its microseconds are kept.
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
	if ms := before.UnixMilli(); int64(s.ref.Epoch) > ms || int64(s.ref.Epoch) < ms-time.Minute.Milliseconds() {
		t.Errorf("epoch %d at %d", s.ref.Epoch, ms)
	}
	found, err := store.FindOrders(t.Context(), []seckill.OrderID{o.ID})
	if err != nil || found[0] != o {
		t.Errorf("found %+v, want %+v (%v)", found, o, err)
	}
	execute(t, conn, "UPDATE orders SET pay_by = clock_timestamp()")
	if n, err := store.TimeOut(t.Context(), []inventory.ShardID{s.ref.Shard}, nil, 10); n != 1 || err != nil {
		t.Errorf("%d timed out, %v", n, err)
	}
}

// The incarnation is another one after a restart; bench_test's server is not restarted, so this is
// its own.
func TestIncarnation_IsReadByAnOrdinaryRole(t *testing.T) {
	url := recycled(t)
	one, other := open(t, postgres.Config{URL: as(app, url), KeepSchema: true}), open(t, postgres.Config{URL: url})
	if a, b := incarnation(t, one), incarnation(t, other); a != b || a == "" {
		t.Errorf("incarnations %q and %q", a, b)
	}
	if a := incarnation(t, open(t, postgres.Config{})); a == incarnation(t, one) {
		t.Errorf("two databases with one incarnation, %q", a)
	}
}

// A call may keep a connection while it waits for another one only if there is always one more.
func TestStore_CallsThatNeedTwoConnectionsDontStarve(t *testing.T) {
	store := open(t, postgres.Config{MaxConns: 4, Events: true})
	s := newSale(t, store, 1000, 0)
	var ids []seckill.OrderID
	for i := range 20 {
		ids = append(ids, s.order(t, store, seckill.UserID(fmt.Sprint(i)), "k").ID)
	}
	must(t, first(store.Cancel(t.Context(), cancels(ids...))))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			find := func(ctx context.Context) error {
				_, err := store.FindOrders(ctx, ids)
				return err
			}
			_, err := store.Relay(t.Context(), []inventory.ShardID{s.ref.Shard}, 0, 1, func(ctx context.Context, rows []seckill.Outgoing) []int {
				must(t, find(ctx))
				return nil
			})
			_, eventsErr := store.RelayEvents(t.Context(), 1, func(ctx context.Context, _ []seckill.Step) error { return find(ctx) })
			_, acceptErr := store.Accept(t.Context(), s.batch(s.promise("u", fmt.Sprint(i), 1)))
			if err := errors.Join(err, eventsErr, acceptErr); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// After a failover the old connections lead to a server that is read-only. They are replaced by new
// ones.
func TestStore_LeavesAServerThatMayOnlyRead(t *testing.T) {
	url := database(t)
	name := connect(t, url).Config().Database
	readOnly := connect(t, url)
	execute(t, readOnly, "ALTER DATABASE "+name+" SET default_transaction_read_only = on")
	store := open(t, postgres.Config{URL: url, KeepSchema: true})
	if err := seckill.PutMerchant(t.Context(), store, seckill.Merchant{ID: "m1"}, author); code(err) != "25006" {
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
	store := open(t, postgres.Config{MaxConns: 5, Events: true})
	newSale(t, store, 10, 0).order(t, store, "u-1", "k")
	must(t, first(store.RelayEvents(t.Context(), 10, func(context.Context, []seckill.Step) error {
		if got := store.Stats(); got.MaxConnections != 5 || got.InUse != 1 || got.Connections < 1 {
			t.Errorf("%+v", got)
		}
		return nil
	})))
}

// A row that can't be delivered costs one read: no row is locked, and nothing is written.
func TestRelay_LocksNothing(t *testing.T) {
	url := database(t)
	store, other := open(t, postgres.Config{URL: url}), open(t, postgres.Config{URL: url})
	s := newSale(t, store, 100, 0)
	var ids []seckill.OrderID
	for i := range 4 {
		ids = append(ids, s.order(t, store, seckill.UserID(fmt.Sprint(i)), "k").ID)
	}
	must(t, first(store.Cancel(t.Context(), cancels(ids...))))
	conn := connect(t, url)
	shards := []inventory.ShardID{s.ref.Shard}
	last, err := store.Relay(t.Context(), shards, 0, 3, func(ctx context.Context, rows []seckill.Outgoing) []int {
		execute(t, conn, "BEGIN")
		execute(t, conn, "SELECT FROM outbox FOR UPDATE NOWAIT")
		execute(t, conn, "ROLLBACK")
		// Another relay has the same rows, and is quicker.
		must(t, first(other.Relay(ctx, shards, 0, 10, func(_ context.Context, rows []seckill.Outgoing) []int {
			if len(rows) != 4 {
				t.Errorf("the other one got %+v", rows)
			}
			return []int{0, 1}
		})))
		return []int{0, 2}
	})
	must(t, err)
	n, err := store.Relay(t.Context(), shards, last, 10, func(_ context.Context, rows []seckill.Outgoing) []int {
		if len(rows) != 1 || rows[0].Settlement.ID != string(ids[3]) || rows[0].Ref != s.ref {
			t.Errorf("the last one: %+v", rows)
		}
		return nil
	})
	sums, sumsErr := store.ShardSums(t.Context(), s.ref.Shard)
	if err != nil || sumsErr != nil || n <= last || sums.Pending != 1 {
		t.Errorf("last %d, sums %+v, %v, %v", n, sums, err, sumsErr)
	}
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

// drain deletes all rows of the outbox.
func drain(t testing.TB, store *postgres.Store) {
	t.Helper()
	var shards []inventory.ShardID
	for i := range store.ShardCount() {
		shards = append(shards, inventory.ShardID(i))
	}
	for last := int64(-1); last != 0; {
		var err error
		last, err = store.Relay(t.Context(), shards, 0, 100, func(_ context.Context, rows []seckill.Outgoing) []int {
			all := make([]int, len(rows))
			for i := range all {
				all[i] = i
			}
			return all
		})
		must(t, err)
	}
}

func TestDropEnded_DropsAWeekWhenAllOfItIsOver(t *testing.T) {
	url := database(t)
	clock := time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC)
	store := open(t, postgres.Config{URL: url, Now: func() time.Time { return clock }})
	conn := connect(t, url)
	a := clockedSale(t, store, "a", clock)
	b := clockedSale(t, store, "b", clock)
	paid := a.order(t, store, "u-1", "k")
	pay(t, store, "p-1", paid)
	late := b.order(t, store, "u-1", "k")
	drain(t, store)
	clock = clock.Add(30 * 24 * time.Hour)
	drop := func(want ...seckill.ActivityID) {
		t.Helper()
		got, err := store.DropEnded(t.Context(), clock.Add(-48*time.Hour), time.Time{}, 10)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("dropped %v, %v; want %v", got, err, want)
		}
	}
	drop("a")
	if got := partitions(t, conn); len(got) != 2 {
		t.Errorf("partitions %v: b has an open order", got)
	}
	if found, err := store.FindOrders(t.Context(), []seckill.OrderID{paid.ID}); err != nil || found[0].ID != "" {
		t.Errorf("found %+v, %v", found, err)
	}
	if sums, err := store.ShardSums(t.Context(), a.ref.Shard); err != nil || sums.Sold != 0 {
		t.Errorf("sums %+v, %v", sums, err)
	}
	must(t, first(store.TimeOut(t.Context(), []inventory.ShardID{b.ref.Shard}, nil, 10)))
	drain(t, store)
	drop("b")
	if got := partitions(t, conn); !slices.Equal(got, []string{"orders_0"}) {
		t.Errorf("partitions %v", got)
	}
	// A record that comes late finds no item, and no partition.
	other := open(t, postgres.Config{URL: url, Now: func() time.Time { return clock }})
	for _, store := range []*postgres.Store{store, other} {
		if got := outcomes(t, store, b.batch(b.promise("u-1", "k", 1))); got[0] != parked && got[0] != exists {
			t.Errorf("outcomes %v", got)
		}
	}
	if late.ID == "" {
		t.Error("no order")
	}
	again := clockedSale(t, store, "a", clock)
	again.order(t, store, "u-1", "k")
	if got := partitions(t, conn); len(got) != 2 {
		t.Errorf("partitions %v", got)
	}
}

// clockedSale is a sale of a day from a time on.
func clockedSale(t *testing.T, store *postgres.Store, id seckill.ActivityID, now time.Time) *sale {
	t.Helper()
	must(t, seckill.PutMerchant(t.Context(), store, seckill.Merchant{ID: "m1", Name: "Phones"}, author))
	a, err := store.UpdateActivity(t.Context(), id, author, func(*seckill.Activity) (*seckill.Activity, error) {
		return &seckill.Activity{
			ID: id, Merchant: "m1", Name: "Sale", State: seckill.ActivityPublished, StartsAt: now, EndsAt: now.Add(24 * time.Hour),
			PaymentWindow: time.Hour, Items: []seckill.Item{{SKU: "x", Price: price, Quantity: 10, Spread: 1}},
		}, nil
	})
	must(t, err)
	s := &sale{id: id, item: a.Items[0].ID, sku: "x"}
	s.ref = fence(t, store, inventory.Home(s.item, store.ShardCount()))
	return s
}

// Dropping a week blocks nobody for long, not even when somebody reads orders all day.
func TestDropEnded_GivesWayToOrders(t *testing.T) {
	url := database(t)
	clock := time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC)
	store := open(t, postgres.Config{URL: url, Now: func() time.Time { return clock }})
	clockedSale(t, store, "over", clock)
	drain(t, store)
	clock = clock.Add(30 * 24 * time.Hour)
	s := clockedSale(t, store, "running", clock)
	conn, reader := connect(t, url), connect(t, url)
	execute(t, reader, "BEGIN")
	execute(t, reader, "SELECT FROM orders")
	if got, err := store.DropEnded(t.Context(), clock, time.Time{}, 10); !slices.Equal(got, []seckill.ActivityID{"over"}) || err != nil {
		t.Errorf("dropped %v, %v", got, err)
	}
	if got := partitions(t, conn); len(got) != 3 {
		t.Errorf("partitions %v", got)
	}
	s.order(t, store, "u-1", "k")
	execute(t, reader, "COMMIT")
	must(t, first(store.DropEnded(t.Context(), clock, time.Time{}, 10)))
	if got := partitions(t, conn); len(got) != 2 {
		t.Errorf("partitions %v", got)
	}
}

// The functions that drop refuse what is in use, whoever calls them.
func TestDropWeek_RefusesWhatIsInUse(t *testing.T) {
	url := database(t)
	store := open(t, postgres.Config{URL: url})
	newSale(t, store, 10, 0).order(t, store, "u-1", "k")
	conn := connect(t, url)
	for _, text := range []string{"SELECT penstock_drop_week(week) FROM activities", "SELECT penstock_drop_week(0)"} {
		if _, err := conn.Exec(t.Context(), text); code(err) != "P0001" {
			t.Errorf("%s: %v", text, err)
		}
	}
	execute(t, conn, "UPDATE activities SET week = 1")
	if _, err := conn.Exec(t.Context(), "SELECT penstock_drop_week(week) FROM weeks WHERE week > 0"); err == nil || !strings.Contains(err.Error(), "open orders") {
		t.Error(err)
	}
}

// A reader of the catalog that missed too many drops reads the whole catalog.
func TestLoadCatalog_ForgetsOldDrops(t *testing.T) {
	url := database(t)
	clock := time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC)
	store := open(t, postgres.Config{URL: url, Now: func() time.Time { return clock }})
	load := func(since seckill.CatalogVersion) (whole bool, dropped []seckill.ActivityID, version seckill.CatalogVersion) {
		t.Helper()
		merchants := 0
		version, err := store.LoadCatalog(t.Context(), since, func(w bool) { whole = w }, func(c seckill.CatalogChange) error {
			if c.Dropped != "" {
				dropped = append(dropped, c.Dropped)
			}
			if c.Merchant != nil {
				merchants++
			}
			return nil
		})
		must(t, err)
		if whole && merchants == 0 {
			t.Error("the whole catalog comes without its merchants, who have not changed for long")
		}
		return whole, dropped, version
	}
	clockedSale(t, store, "a", clock)
	clockedSale(t, store, "b", clock)
	drain(t, store)
	_, _, version := load(seckill.CatalogVersion{})
	clock = clock.Add(3 * 24 * time.Hour)
	must(t, first(store.DropEnded(t.Context(), clock, time.Time{}, 1)))
	if whole, dropped, _ := load(version); whole || !slices.Equal(dropped, []seckill.ActivityID{"a"}) {
		t.Errorf("whole %v, dropped %v", whole, dropped)
	}
	clock = clock.Add(30 * 24 * time.Hour)
	must(t, first(store.DropEnded(t.Context(), clock, time.Time{}, 1)))
	if whole, dropped, _ := load(version); !whole || len(dropped) > 0 {
		t.Errorf("whole %v, dropped %v", whole, dropped)
	}
}
