package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// race is a sale on a database with two processes, and a visitor that locks rows until both wait.
// So two transactions meet exactly where they have to decide which one was first.
type race struct {
	*sale
	t       *testing.T
	url     string
	stores  [2]*postgres.Store
	visitor *pgx.Conn
	watcher *pgx.Conn
}

func newRace(t *testing.T, total int64, perUser int) *race {
	t.Helper()
	r := &race{t: t, url: database(t)}
	for i := range r.stores {
		r.stores[i] = open(t, postgres.Config{URL: r.url})
	}
	r.sale = newSale(t, r.stores[0], total, perUser)
	r.visitor, r.watcher = connect(t, r.url), connect(t, r.url)
	return r
}

// meet locks the rows of a statement and starts both. When both wait for the rows or for each
// other, it unlocks them.
func (r *race) meet(hold string, both ...func(*postgres.Store) error) {
	r.t.Helper()
	execute(r.t, r.visitor, "BEGIN")
	execute(r.t, r.visitor, hold)
	done := make(chan error, len(both))
	for i, f := range both {
		go func() { done <- f(r.stores[i]) }()
		r.waiting(i + 1) // one after the other, so that the first one is known
	}
	execute(r.t, r.visitor, "COMMIT")
	for range both {
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	}
}

// Rows that both must lock before they decide.
const (
	theStock = "SELECT FROM stock FOR UPDATE"
	theShard = "SELECT FROM shards FOR UPDATE"
)

// lockPatience is how long the test waits for a transaction to wait for a lock.
const lockPatience = 30 * time.Second

// waiting waits until so many transactions wait for a lock.
func (r *race) waiting(n int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), lockPatience)
	defer cancel()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for {
		var waiting int
		must(r.t, r.watcher.QueryRow(ctx,
			"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&waiting))
		if waiting >= n {
			return
		}
		<-look.C
	}
}

// accept returns a racer that accepts promises and records the outcome of the first.
func (s *sale) accept(into *seckill.Acceptance, list ...seckill.Promise) func(*postgres.Store) error {
	b := s.batch(list...)
	return func(store *postgres.Store) error {
		got, err := store.Accept(context.Background(), b)
		if err == nil {
			*into = got[0]
		}
		return err
	}
}

// check compares the books, the orders and the digests with each other.
func (r *race) check(open, sold int64) {
	r.t.Helper()
	b := r.book(r.t, r.stores[0])
	var units [2]int64
	var sums seckill.ShardSums
	rows, err := r.watcher.Query(r.t.Context(), "SELECT id, quantity, units FROM orders")
	must(r.t, err)
	for rows.Next() {
		var id, state string
		var quantity int64
		must(r.t, rows.Scan(&id, &quantity, &state))
		switch state {
		case "open":
			units[0] += quantity
			sums.Open = sums.Open.Add(inventory.NameDigest(id))
		case "sold":
			units[1] += quantity
			sums.Sold = sums.Sold.Add(inventory.NameDigest(id))
		}
	}
	must(r.t, rows.Err())
	if got := [2]int64{b.Open, b.Sold}; got != units || got != [2]int64{open, sold} {
		r.t.Errorf("books %v, orders %v, want %v", got, units, [2]int64{open, sold})
	}
	got, err := r.stores[0].ShardSums(r.t.Context(), r.ref.Shard)
	if err != nil || got.Open != sums.Open || got.Sold != sums.Sold {
		r.t.Errorf("digests %+v, want %+v (%v)", got, sums, err)
	}
}

func TestL4_TwoWorkersWithOneRecord(t *testing.T) {
	r := newRace(t, 10, 2)
	var a, b seckill.Acceptance
	promise := r.promise("u-1", "k", 1)
	r.meet(theStock, r.accept(&a, promise), r.accept(&b, promise))
	if a.Outcome != opened || b.Outcome != exists || a.Order != b.Order {
		t.Errorf("outcomes %+v and %+v", a, b)
	}
	r.check(1, 0)
}

func TestL5_TwoWorkersWithOneBuyer(t *testing.T) {
	r := newRace(t, 10, 2)
	var a, b seckill.Acceptance
	r.meet(theStock, r.accept(&a, r.promise("u-1", "k", 2)), r.accept(&b, r.promise("u-1", "l", 1)))
	if a.Outcome != opened || b.Outcome != rejected || b.Order.Reason != seckill.ReasonPurchaseLimit {
		t.Errorf("outcomes %+v and %+v", a, b)
	}
	r.check(2, 0)
}

func TestL1_TwoWorkersWithTheLastUnit(t *testing.T) {
	r := newRace(t, 1, 0)
	var a, b seckill.Acceptance
	r.meet(theStock, r.accept(&a, r.promise("u-1", "k", 1)), r.accept(&b, r.promise("u-2", "k", 1)))
	if a.Outcome != opened || b.Outcome != rejected || b.Order.Reason != seckill.ReasonSoldOut {
		t.Errorf("outcomes %+v and %+v", a, b)
	}
	r.check(1, 0)
}

// topic is the topic of the positions in these tests.
var topic = seckill.TopicID{1, 2, 3}

// move is a move of partition 0.
func move(from, to int64) []seckill.Move {
	return []seckill.Move{{
		From: seckill.Position{Topic: topic, Next: from, LeaderEpoch: -1}, To: seckill.Position{Topic: topic, Next: to, LeaderEpoch: 3},
	}}
}

// Two workers that read one partition from the same place: the second one has to read again.
func TestL2_TwoWorkersWithOnePosition(t *testing.T) {
	r := newRace(t, 10, 0)
	must(t, r.stores[0].AddPartitions(t.Context(), topic, 2))
	var errs [2]error
	racer := func(i int, user seckill.UserID) func(*postgres.Store) error {
		b := r.batch(r.promise(user, "k", 1))
		b.Moves = move(0, int64(5+i))
		return func(store *postgres.Store) error {
			_, errs[i] = store.Accept(context.Background(), b)
			return nil
		}
	}
	r.meet(`SELECT FROM positions FOR UPDATE`, racer(0, "u-1"), racer(1, "u-2"))
	if errs[0] != nil || !errors.Is(errs[1], seckill.ErrMoved) {
		t.Errorf("errors %v", errs)
	}
	at, err := r.stores[0].Positions(t.Context())
	if err != nil || at[0] != move(0, 5)[0].To || at[1].Next != 0 {
		t.Errorf("positions %+v, %v", at, err)
	}
	r.check(1, 0)
}

// An order and its tombstone have no common row to lock before one of them exists, so the primary
// key decides.
func TestL4_ARecordAndItsTombstone(t *testing.T) {
	for _, recordFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("recordFirst=", recordFirst), func(t *testing.T) {
			r := newRace(t, 10, 2)
			life := incarnation(t, r.stores[0])
			promise := r.promise("u-1", "k", 1)
			var accepted seckill.Acceptance
			var exist []bool
			both := []func(*postgres.Store) error{r.accept(&accepted, promise), func(store *postgres.Store) (err error) {
				exist, err = store.Bury(context.Background(), r.ref, life, []inventory.Hold{promise.Hold()})
				return err
			}}
			if !recordFirst {
				slices.Reverse(both)
			}
			r.meet(theShard, both...)
			tombstone := accepted.Order.Reason == seckill.ReasonNotAccepted
			if exist[0] == tombstone || (accepted.Outcome == exists) != tombstone {
				t.Errorf("outcome %+v, exists %v", accepted, exist)
			}
			open := int64(1)
			if tombstone {
				open = 0
			}
			r.check(open, 0)
		})
	}
}

func TestL2_ARecordAndAFence(t *testing.T) {
	for _, recordFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("recordFirst=", recordFirst), func(t *testing.T) {
			r := newRace(t, 10, 2)
			next, life := nextRef(t, r.stores[0], r.ref.Shard), incarnation(t, r.stores[0])
			var accepted seckill.Acceptance
			both := []func(*postgres.Store) error{r.accept(&accepted, r.promise("u-1", "k", 1)), func(store *postgres.Store) (err error) {
				return store.Fence(context.Background(), next, life)
			}}
			want, open := opened, int64(1)
			if !recordFirst {
				slices.Reverse(both)
				want, open = skipped, 0
			}
			r.meet(theShard, both...)
			entries := int64(0)
			must(t, r.stores[0].Snapshot(t.Context(), next, nil, func(_ []inventory.Stocked, list []inventory.Entry) error {
				entries += int64(len(list))
				return nil
			}))
			if accepted.Outcome != want || entries != open {
				t.Errorf("outcome %+v, %d entries", accepted, entries)
			}
			r.check(open, 0)
		})
	}
}

// FOR KEY SHARE would be too weak for the shard's row, because it doesn't stop a fence.
func TestL2_AFenceWaitsForAWorkerInTheMiddle(t *testing.T) {
	r := newRace(t, 10, 0)
	next, life := nextRef(t, r.stores[0], r.ref.Shard), incarnation(t, r.stores[0])
	execute(t, r.visitor, "BEGIN")
	execute(t, r.visitor, theStock)
	var accepted seckill.Acceptance
	done, fenced := make(chan error, 1), make(chan error, 1)
	go func() { done <- r.accept(&accepted, r.promise("u-1", "k", 1))(r.stores[0]) }()
	r.waiting(1) // it has the shard's row, and wants the stock row
	go func() { fenced <- r.stores[1].Fence(context.Background(), next, life) }()
	r.waiting(2)
	execute(t, r.visitor, "COMMIT")
	must(t, <-done, <-fenced)
	if accepted.Outcome != opened || accepted.Ref != r.ref {
		t.Errorf("outcome %+v", accepted)
	}
}

// A restock is either counted by the snapshot, or relayed under the new epoch. It is not relayed
// before the snapshot, because until then it isn't known which one applies.
func TestL1_ARestockAndASnapshot(t *testing.T) {
	r := newRace(t, 10, 2)
	store := r.stores[0]
	restock := func(key string, units int64) {
		t.Helper()
		_, _, err := store.Restock(t.Context(), seckill.StockChange{Item: r.item, Key: key, Delta: units}, author)
		must(t, err)
	}
	relayed := func() (rows []seckill.Outgoing) {
		t.Helper()
		must(t, first(store.Relay(t.Context(), []inventory.ShardID{r.ref.Shard}, 0, 10, func(_ context.Context, handed []seckill.Outgoing) []int {
			rows = handed
			return nil
		})))
		return rows
	}
	restock("before", 5)
	next := nextRef(t, store, r.ref.Shard)
	must(t, store.Fence(t.Context(), next, incarnation(t, store)))
	if rows := relayed(); len(rows) != 0 {
		t.Errorf("relayed between fence and snapshot: %+v", rows)
	}
	restock("between", 6)
	total := int64(0)
	must(t, store.Snapshot(t.Context(), next, nil, func(items []inventory.Stocked, _ []inventory.Entry) error {
		for _, item := range items {
			total += item.Total
			restock("during", 7)
		}
		return nil
	}))
	rows := relayed()
	if total != 21 || len(rows) != 1 || rows[0].Ref != next || rows[0].Restock.Units != 7 {
		t.Errorf("total %d, outbox %+v", total, rows)
	}
	if err := store.Snapshot(t.Context(), next, nil, nil); !errors.Is(err, seckill.ErrFenced) {
		t.Errorf("a second snapshot of one epoch: %v", err)
	}
}

// A snapshot is of one state: an order that is made between its items and its holds is in neither.
// It would be held beside the units that it has taken.
func TestL1_ASnapshotIsOfOneState(t *testing.T) {
	r := newRace(t, 10, 0)
	r.ref = nextRef(t, r.stores[0], r.ref.Shard)
	must(t, r.stores[0].Fence(t.Context(), r.ref, incarnation(t, r.stores[0])))
	available, holds := int64(0), 0
	must(t, r.stores[0].Snapshot(t.Context(), r.ref, nil, func(items []inventory.Stocked, list []inventory.Entry) error {
		for _, item := range items {
			r.order(t, r.stores[1], "u-1", "k")
			available += item.Available
		}
		holds += len(list)
		return nil
	}))
	if available != 10 || holds != 0 {
		t.Errorf("%d units are available beside %d holds", available, holds)
	}
}

// Two calls end one order: the first one to lock the row decides. The other one reads the result,
// or comes again.
func TestL4_APaymentAndACancel(t *testing.T) {
	r := newRace(t, 10, 2)
	o := r.order(t, r.stores[0], "u-1", "k")
	execute(t, r.visitor, "BEGIN")
	execute(t, r.visitor, "SELECT FROM orders FOR UPDATE")
	paid, cancelled := pay(t, r.stores[0], "p-1", o), cancel(t, r.stores[1], o)
	if paid.Verdict != seckill.PaymentLocked || !cancelled.Locked || cancelled.Now {
		t.Errorf("payment %+v, cancel %+v", paid, cancelled)
	}
	execute(t, r.visitor, "COMMIT")
	if paid := pay(t, r.stores[0], "p-1", o); paid.Verdict != seckill.PaymentBooked {
		t.Errorf("payment %+v", paid)
	}
	if cancelled := cancel(t, r.stores[1], o); cancelled.Now || cancelled.Locked || cancelled.Order.State != seckill.OrderPaid {
		t.Errorf("cancel %+v", cancelled)
	}
	r.check(0, 1)
}

func pay(t testing.TB, store *postgres.Store, id seckill.PaymentID, o seckill.Order) seckill.PaymentResult {
	t.Helper()
	got, err := store.Pay(t.Context(), []seckill.Payment{{Merchant: "m1", ID: id, Order: o.ID, Amount: o.Amount}})
	must(t, err)
	return got[0]
}

func cancel(t testing.TB, store *postgres.Store, o seckill.Order) seckill.Moved {
	t.Helper()
	got, err := store.Cancel(t.Context(), cancels(o.ID))
	must(t, err)
	return got[0]
}

// Two orders share no row except the payment's, which both insert.
func TestL4_OnePaymentForTwoOrders(t *testing.T) {
	r := newRace(t, 10, 0)
	other := namedSale(t, r.stores[0], "a2", 10, 0)
	a, b := r.order(t, r.stores[0], "u-1", "k"), other.order(t, r.stores[0], "u-2", "k")
	execute(t, r.visitor, "BEGIN")
	execute(t, r.visitor, "LOCK TABLE payments IN SHARE MODE")
	results := make(chan seckill.PaymentResult, 2)
	for i, o := range []seckill.Order{a, b} {
		go func() { results <- pay(t, r.stores[i], "p-1", o) }()
		r.waiting(i + 1)
	}
	execute(t, r.visitor, "COMMIT")
	verdicts := []seckill.PaymentVerdict{(<-results).Verdict, (<-results).Verdict}
	slices.Sort(verdicts)
	if !slices.Equal(verdicts, []seckill.PaymentVerdict{seckill.PaymentBooked, seckill.PaymentOtherContent}) {
		t.Errorf("verdicts %v", verdicts)
	}
}

// L10: a locked stock row makes its own orders wait, and no others.
func TestL10_ALockedStockRowStopsItsItemOnly(t *testing.T) {
	r := newRace(t, 10, 0)
	other := namedSale(t, r.stores[0], "a2", 10, 0)
	store := r.stores[0]
	var mine, others []seckill.Order
	for _, key := range []string{"pay", "cancel", "time out"} {
		mine, others = append(mine, r.order(t, store, "u-1", key)), append(others, other.order(t, store, "u-1", key))
	}
	execute(t, r.visitor, "BEGIN")
	execute(t, r.visitor, "SELECT FROM stock WHERE item = $1 FOR UPDATE", int64(r.item))
	began := time.Now()

	b := r.batch(r.promise("u-2", "k", 1))
	b.Pages = append(b.Pages, other.page(other.promise("u-2", "k", 1)))
	if _, err := store.Accept(t.Context(), b); !errors.Is(err, seckill.ErrLocked) {
		t.Errorf("accept: %v", err)
	}
	b.Park = true
	if got := outcomes(t, store, b); !slices.Equal(got, []seckill.Outcome{parked, opened}) {
		t.Errorf("outcomes %v", got)
	}
	paid, err := store.Pay(t.Context(), []seckill.Payment{
		{Merchant: "m1", ID: "p-1", Order: mine[0].ID, Amount: mine[0].Amount},
		{Merchant: "m1", ID: "p-2", Order: others[0].ID, Amount: others[0].Amount},
	})
	if err != nil || paid[0].Verdict != seckill.PaymentLocked || paid[1].Verdict != seckill.PaymentBooked {
		t.Errorf("payments %+v, %v", paid, err)
	}
	moved, err := store.Cancel(t.Context(), cancels(mine[1].ID, others[1].ID))
	if err != nil || !moved[0].Locked || moved[0].Now || !moved[1].Now {
		t.Errorf("cancels %+v, %v", moved, err)
	}
	execute(t, r.watcher, "UPDATE orders SET pay_by = now() - interval '1 minute' WHERE id = ANY($1)",
		[]string{string(mine[2].ID), string(others[2].ID)})
	shards := []inventory.ShardID{0, 1, 2, 3}
	if n, err := store.TimeOut(t.Context(), shards, nil, 1); n != 1 || err != nil {
		t.Errorf("%d timed out, %v", n, err)
	}
	got, err := store.Unpark(t.Context(), shards, 10)
	if err != nil || len(got) != 1 || got[0].Outcome != parked {
		t.Errorf("unparked %+v, %v", got, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if b := r.book(t, store); b.Open != 3 || b.Parked != 1 {
		t.Errorf("books %+v", b)
	}

	execute(t, r.visitor, "COMMIT")
	if got, err = store.Unpark(t.Context(), shards, 10); err != nil || len(got) != 1 || got[0].Outcome != opened {
		t.Errorf("unparked %+v, %v", got, err)
	}
	if b := r.book(t, store); b.Open != 4 || b.Parked != 0 {
		t.Errorf("books %+v", b)
	}
}

// The end of an order waits while a worker locks the stock row for a batch. The row of a hot item
// is hardly ever free.
func TestPay_GetsAStockRowThatIsBusy(t *testing.T) {
	r := newRace(t, 10, 0)
	o := r.order(t, r.stores[0], "u-1", "k")
	execute(t, r.visitor, "BEGIN")
	execute(t, r.visitor, theStock)
	done := make(chan seckill.PaymentResult, 1)
	go func() { done <- pay(t, r.stores[0], "p-1", o) }()
	r.waiting(1)
	execute(t, r.visitor, "COMMIT")
	if paid := <-done; paid.Verdict != seckill.PaymentBooked {
		t.Skipf("this machine is too slow: %+v", paid)
	}
}

// An order that is being paid is skipped, and the next one is timed out.
func TestTimeOut_GoesAroundWhatIsBusy(t *testing.T) {
	r := newRace(t, 10, 0)
	a, b := r.order(t, r.stores[0], "u-1", "k"), r.order(t, r.stores[0], "u-2", "k")
	execute(t, r.visitor, "UPDATE orders SET pay_by = now() - interval '1 minute'")
	execute(t, r.visitor, "BEGIN")
	execute(t, r.visitor, "SELECT FROM orders WHERE id = $1 FOR UPDATE", string(a.ID))
	shards := []inventory.ShardID{r.ref.Shard}
	if n, err := r.stores[0].TimeOut(t.Context(), shards, nil, 10); n != 1 || err != nil {
		t.Errorf("%d timed out, %v", n, err)
	}
	execute(t, r.visitor, "COMMIT")
	if n, err := r.stores[0].TimeOut(t.Context(), shards, nil, 10); n != 1 || err != nil {
		t.Errorf("%d timed out afterwards, %v", n, err)
	}
	found, err := r.stores[0].FindOrders(t.Context(), []seckill.OrderID{a.ID, b.ID})
	if err != nil || found[0].Reason != seckill.ReasonPaymentTimeout || found[1].Reason != seckill.ReasonPaymentTimeout {
		t.Errorf("orders %+v, %v", found, err)
	}
	r.check(0, 0)
}

// An order whose time is extended between the look for it and its time-out stays open.
func TestTimeOut_SeesAnExtension(t *testing.T) {
	r := newRace(t, 10, 0)
	r.order(t, r.stores[0], "u-1", "k")
	execute(t, r.visitor, "UPDATE orders SET pay_by = now() - interval '1 minute'")
	execute(t, r.visitor, "BEGIN")
	execute(t, r.visitor, "LOCK TABLE orders IN EXCLUSIVE MODE") // it may be read, and nobody locks a row
	done := make(chan error, 1)
	ended := 0
	go func() {
		var err error
		ended, err = r.stores[0].TimeOut(context.Background(), []inventory.ShardID{r.ref.Shard}, nil, 10)
		done <- err
	}()
	r.waiting(1) // it has found the order
	execute(t, r.visitor, "UPDATE orders SET pay_by = now() + interval '1 hour'")
	execute(t, r.visitor, "COMMIT")
	must(t, <-done)
	if ended != 0 {
		t.Errorf("%d timed out", ended)
	}
	r.check(1, 0)
}

// with adds a setting of the session to a URL.
func with(t *testing.T, database, name, value string) string {
	t.Helper()
	u, err := url.Parse(database)
	must(t, err)
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return u.String()
}

// A process that stops in the middle of a transaction loses it, and its locks.
func TestL8_AProcessThatStopsKeepsNobodyWaiting(t *testing.T) {
	url := database(t)
	stopped := open(t, postgres.Config{URL: with(t, url, "idle_in_transaction_session_timeout", "50ms")})
	store := open(t, postgres.Config{URL: url})
	s := newSale(t, store, 10, 0)
	_, err := stopped.UpdateActivity(t.Context(), s.id, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		must(t, seckill.PutMerchant(t.Context(), store, seckill.Merchant{ID: "m2"}, author)) // it waits for the catalog's row
		a.Name = "Renamed"
		return a, nil
	})
	if err == nil {
		t.Error("a transaction went on that the server had ended")
	}
	a, err := stopped.FindActivity(t.Context(), s.id)
	if err != nil || a.Name != "Sale" {
		t.Errorf("activity %+v, %v", a, err)
	}
}

// A process that stops while it relays events loses its place.
func TestL8_ARelayThatStopsKeepsNobodyWaiting(t *testing.T) {
	url := database(t)
	stopped := open(t, postgres.Config{URL: with(t, url, "idle_in_transaction_session_timeout", "50ms"), Events: true})
	store := open(t, postgres.Config{URL: url, Events: true})
	newSale(t, store, 10, 0).order(t, store, "u-1", "k")
	_, err := stopped.RelayEvents(t.Context(), 10, func(ctx context.Context, _ []seckill.Step) error {
		for {
			n, err := store.RelayEvents(ctx, 10, func(context.Context, []seckill.Step) error { return nil })
			if err != nil || n > 0 {
				return err
			}
		}
	})
	if err == nil {
		t.Error("a relay went on whose session the server had ended")
	}
}

// Two rebuilders: only the last epoch that was given out becomes the shard's, whichever comes
// first.
func TestL1_TwoRebuilders(t *testing.T) {
	r := newRace(t, 10, 0)
	life := incarnation(t, r.stores[0])
	low, high := nextRef(t, r.stores[0], r.ref.Shard), nextRef(t, r.stores[1], r.ref.Shard)
	if low.Epoch >= high.Epoch {
		t.Fatalf("epochs %d and %d", low.Epoch, high.Epoch)
	}
	if err := r.stores[0].Fence(t.Context(), low, life); !errors.Is(err, seckill.ErrFenced) {
		t.Errorf("the lower epoch: %v", err)
	}
	must(t, r.stores[1].Fence(t.Context(), high, life), r.stores[1].Fence(t.Context(), high, life))
	if err := r.stores[1].Fence(t.Context(), high, life+"x"); !errors.Is(err, seckill.ErrFenced) {
		t.Errorf("another life: %v", err)
	}
	rows, err := r.stores[0].Shards(t.Context())
	if err != nil || rows[r.ref.Shard].Ref != high || rows[r.ref.Shard].NextEpoch != high.Epoch {
		t.Errorf("shards %+v, %v", rows, err)
	}
}

// A tombstone is of the epoch that its burial has seen: a fence waits for a burial in the middle.
// FOR KEY SHARE would be too weak here, too.
func TestL2_AFenceWaitsForABurialInTheMiddle(t *testing.T) {
	r := newRace(t, 10, 0)
	next, life := nextRef(t, r.stores[0], r.ref.Shard), incarnation(t, r.stores[0])
	execute(t, r.visitor, "BEGIN")
	execute(t, r.visitor, "LOCK TABLE outbox IN SHARE MODE")
	p := r.promise("u-1", "k", 1)
	done, fenced := make(chan error, 1), make(chan error, 1)
	go func() { done <- first(r.stores[0].Bury(context.Background(), r.ref, life, []inventory.Hold{p.Hold()})) }()
	r.waiting(1) // it has the shard's row, and wants to write the settlement
	go func() { fenced <- r.stores[1].Fence(context.Background(), next, life) }()
	r.waiting(2)
	execute(t, r.visitor, "COMMIT")
	must(t, <-done, <-fenced)
}

// A desk that cancels an order without a row doesn't wait for a fence, and makes no row while one
// is about to change the epoch.
func TestL10_ACancellationGoesAroundAFence(t *testing.T) {
	r := newRace(t, 10, 0)
	p := r.promise("u-1", "k", 1)
	queued := []seckill.Cancellation{{Order: p.Order, Queued: &p, Ref: r.ref}}
	execute(t, r.visitor, "BEGIN")
	execute(t, r.visitor, theShard)
	if got, err := r.stores[0].Cancel(t.Context(), queued); err != nil || !got[0].Locked || got[0].Now {
		t.Errorf("during the fence: %+v, %v", got, err)
	}
	execute(t, r.visitor, "COMMIT")
	if got, err := r.stores[0].Cancel(t.Context(), queued); err != nil || !got[0].Now || got[0].Order.State != seckill.OrderCancelled {
		t.Errorf("behind it: %+v, %v", got, err)
	}
}

// What the change of a draft sees of its units stays so until the change is written.
func TestUpdateActivity_HoldsTheUnitsOfADraft(t *testing.T) {
	r := newRace(t, 10, 0)
	var draft *seckill.Activity
	put := func(change func(*seckill.Activity)) {
		t.Helper()
		var err error
		draft, err = r.stores[0].UpdateActivity(t.Context(), "a2", author, func(a *seckill.Activity) (*seckill.Activity, error) {
			if a == nil {
				now := time.Now()
				a = &seckill.Activity{ID: "a2", Merchant: "m1", State: seckill.ActivityDraft, StartsAt: now, EndsAt: now.Add(time.Hour),
					PaymentWindow: time.Hour, Items: []seckill.Item{{SKU: "x", Price: price, Quantity: 4, Spread: 1}}}
			}
			change(a)
			return a, nil
		})
		must(t, err)
	}
	put(func(*seckill.Activity) {})
	done := make(chan error, 1)
	put(func(a *seckill.Activity) {
		go func() {
			c := seckill.StockChange{Item: draft.Items[0].ID, Key: "k", Delta: 5}
			_, _, err := r.stores[1].Restock(context.Background(), c, author)
			done <- err
		}()
		r.waiting(1)
		a.Name = "Renamed"
	})
	must(t, <-done)
	if a, err := r.stores[0].FindActivity(t.Context(), "a2"); err != nil || a.Items[0].Quantity != 9 || a.Name != "Renamed" {
		t.Errorf("%+v, %v", a, err)
	}
}

// Two restocks of an item: each one's total has the other's units, or comes before them.
func TestRestock_TwoOfOneItem(t *testing.T) {
	r := newRace(t, 10, 0)
	var totals [2]int64
	restock := func(i int, key string) func(*postgres.Store) error {
		return func(store *postgres.Store) (err error) {
			totals[i], _, err = store.Restock(context.Background(), seckill.StockChange{Item: r.item, Key: key, Delta: 5}, author)
			return err
		}
	}
	r.meet(theStock, restock(0, "k"), restock(1, "l"))
	if totals != [2]int64{15, 20} {
		t.Errorf("totals %v", totals)
	}
}

// Two people discard one letter: one of them does, and has the change record.
func TestDiscardDeadLetters_TwoPeople(t *testing.T) {
	r := newRace(t, 10, 0)
	b := seckill.Batch{Letters: []seckill.DeadLetter{{Partition: 1, Offset: 2, Problem: "unreadable", Value: []byte("x")}}}
	must(t, first(r.stores[0].Accept(t.Context(), b)))
	letters, err := r.stores[0].DeadLetters(t.Context(), 0, 1)
	must(t, err)
	var counts [2]int
	discard := func(i int) func(*postgres.Store) error {
		return func(store *postgres.Store) (err error) {
			counts[i], err = store.DiscardDeadLetters(context.Background(), []int64{letters[0].ID}, author)
			return err
		}
	}
	r.meet("SELECT FROM dead_letters FOR UPDATE", discard(0), discard(1))
	if counts != [2]int{1, 0} {
		t.Errorf("discarded %v times", counts)
	}
	changes, err := r.stores[0].Changes(t.Context(), 0, 2)
	if err != nil || changes[0].Kind != seckill.ChangeDeadLetters || changes[1].Kind == seckill.ChangeDeadLetters {
		t.Errorf("changes %+v, %v", changes, err)
	}
}

// An order that is parked while counters are mended is in the digests afterwards: it waits for the
// repair, though it needs no row of stock.
func TestRecount_HoldsTheDigests(t *testing.T) {
	r := newRace(t, 10, 0)
	execute(t, r.visitor, `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
		CREATE TRIGGER wait BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION wait();
		UPDATE stock SET open = 1; UPDATE shard_digests SET open = 7 WHERE slot = 3; SELECT pg_advisory_lock(1)`)
	mended, done := make(chan error, 1), make(chan error, 1)
	go func() { mended <- first(r.stores[0].Recount(context.Background(), r.ref.Shard, true, author)) }()
	r.waiting(1) // it has read, and is about to write
	b := r.batch(r.promise("u-1", "k", 1))
	b.Park = true
	go func() { done <- first(r.stores[1].Accept(context.Background(), b)) }()
	r.waiting(2)
	execute(t, r.visitor, "SELECT pg_advisory_unlock(1)")
	must(t, <-mended, <-done)
	got, err := r.stores[0].Recount(t.Context(), r.ref.Shard, false, author)
	if err != nil || got.Orders != 1 || got.Counted != got.Rows {
		t.Errorf("%+v, %v", got, err)
	}
}
