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

	"penstock/internal/postgres"
	"penstock/internal/proof/servers"
	"penstock/inventory"
	"penstock/seckill"
)

// race is a sale on a database with two processes, and a visitor who holds rows until all of them wait: so two transactions
// meet at the very place where they have to decide who was first.
type race struct {
	*sale
	t       *testing.T
	stores  [2]*postgres.Store
	visitor *pgx.Conn
	watcher *pgx.Conn
}

func newRace(t *testing.T, total int64, perUser int) *race {
	t.Helper()
	r := &race{t: t}
	url := database(t)
	for i := range r.stores {
		r.stores[i] = open(t, postgres.Config{URL: url})
	}
	r.sale = newSale(t, r.stores[0], total, perUser)
	r.visitor, r.watcher = connect(t, url), connect(t, url)
	return r
}

// meet holds the rows that a statement names, starts both, waits until both wait for them or for each other, and lets them go.
func (r *race) meet(hold string, both ...func(*postgres.Store) error) {
	r.t.Helper()
	execute(r.t, r.visitor, "BEGIN")
	execute(r.t, r.visitor, hold)
	done := make(chan error, len(both))
	for i, f := range both {
		go func() { done <- f(r.stores[i]) }()
		r.waiting(i + 1) // one after another, so that the first to come is known
	}
	execute(r.t, r.visitor, "COMMIT")
	for range both {
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	}
}

const theItem = "SELECT FROM items FOR UPDATE"

// waiting waits until so many transactions wait for a lock.
func (r *race) waiting(n int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), servers.Patience)
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

// accept returns a racer that accepts records and notes what became of the first.
func accept(into *seckill.Acceptance, list ...seckill.Record) func(*postgres.Store) error {
	return func(store *postgres.Store) error {
		got, err := store.Accept(context.Background(), list)
		if err == nil {
			*into = got[0]
		}
		return err
	}
}

// check holds the books against the orders.
func (r *race) check(open, sold int64) {
	r.t.Helper()
	b := r.book(r.t, r.stores[0])
	var units [2]int64
	must(r.t, r.watcher.QueryRow(r.t.Context(), `SELECT coalesce(sum(quantity) FILTER (WHERE units = 'open'), 0),
		coalesce(sum(quantity) FILTER (WHERE units = 'sold'), 0) FROM orders`).Scan(&units[0], &units[1]))
	if got := [2]int64{b.Open, b.Sold}; got != units || got != [2]int64{open, sold} {
		r.t.Errorf("books %v, orders %v, want %v", got, units, [2]int64{open, sold})
	}
}

func TestL4_TwoWorkersWithOneRecord(t *testing.T) {
	r := newRace(t, 10, 2)
	var a, b seckill.Acceptance
	record := r.record("u-1", "k", 1)
	r.meet(theItem, accept(&a, record), accept(&b, record))
	if a.Outcome != opened || b.Outcome != exists || a.Order != b.Order {
		t.Errorf("outcomes %+v and %+v", a, b)
	}
	r.check(1, 0)
}

func TestL5_TwoWorkersWithOneBuyer(t *testing.T) {
	r := newRace(t, 10, 2)
	var a, b seckill.Acceptance
	r.meet(theItem, accept(&a, r.record("u-1", "k", 2)), accept(&b, r.record("u-1", "l", 1)))
	if a.Outcome != opened || b.Outcome != rejected || b.Order.Reason != seckill.ReasonPurchaseLimit {
		t.Errorf("outcomes %+v and %+v", a, b)
	}
	r.check(2, 0)
}

func TestL1_TwoWorkersWithTheLastUnit(t *testing.T) {
	r := newRace(t, 1, 0)
	var a, b seckill.Acceptance
	r.meet(theItem, accept(&a, r.record("u-1", "k", 1)), accept(&b, r.record("u-2", "k", 1)))
	if a.Outcome != opened || b.Outcome != rejected || b.Order.Reason != seckill.ReasonSoldOut {
		t.Errorf("outcomes %+v and %+v", a, b)
	}
	r.check(1, 0)
}

func TestL4_ARecordAndItsTombstone(t *testing.T) {
	for _, recordFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("recordFirst=", recordFirst), func(t *testing.T) {
			r := newRace(t, 10, 2)
			record := r.record("u-1", "k", 1)
			var accepted seckill.Acceptance
			var exist []bool
			both := []func(*postgres.Store) error{accept(&accepted, record), func(store *postgres.Store) (err error) {
				exist, err = store.Bury(context.Background(), r.ref, []inventory.Hold{record.Hold()})
				return err
			}}
			if !recordFirst {
				slices.Reverse(both)
			}
			r.meet(theItem, both...)
			want := exists
			if recordFirst {
				want = opened
			}
			if accepted.Outcome != want || exist[0] != recordFirst || (accepted.Order.Reason == seckill.ReasonNotAccepted) == recordFirst {
				t.Errorf("outcome %+v, exists %v", accepted, exist)
			}
			if recordFirst {
				r.check(1, 0)
			} else {
				r.check(0, 0)
			}
		})
	}
}

func TestL2_ARecordAndAFence(t *testing.T) {
	for _, recordFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("recordFirst=", recordFirst), func(t *testing.T) {
			r := newRace(t, 10, 2)
			var accepted seckill.Acceptance
			var snapshot seckill.StockSnapshot
			both := []func(*postgres.Store) error{accept(&accepted, r.record("u-1", "k", 1)), func(store *postgres.Store) (err error) {
				snapshot, err = store.Fence(context.Background(), inventory.Ref{Item: r.ref.Item, Epoch: 2})
				return err
			}}
			want, open := opened, int64(1)
			if !recordFirst {
				slices.Reverse(both)
				want, open = skipped, 0
			}
			r.meet(theItem, both...)
			if accepted.Outcome != want || snapshot.Open != open || int64(len(snapshot.Entries)) != open {
				t.Errorf("outcome %+v, snapshot %+v", accepted, snapshot)
			}
			r.check(open, 0)
		})
	}
}

// A restock is counted by the fence's snapshot, or relayed under the new epoch: never both, never neither.
func TestL1_ARestockAndAFence(t *testing.T) {
	for _, restockFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("restockFirst=", restockFirst), func(t *testing.T) {
			r := newRace(t, 10, 2)
			var snapshot seckill.StockSnapshot
			both := []func(*postgres.Store) error{
				func(store *postgres.Store) error {
					_, _, err := store.Restock(context.Background(), seckill.StockChange{Item: r.ref.Item, Key: "k", Delta: 5}, author)
					return err
				},
				func(store *postgres.Store) (err error) {
					snapshot, err = store.Fence(context.Background(), inventory.Ref{Item: r.ref.Item, Epoch: 2})
					return err
				},
			}
			total, pending := int64(15), 0
			if !restockFirst {
				slices.Reverse(both)
				total, pending = 10, 1
			}
			r.meet(theItem, both...)
			var rows []seckill.Outgoing
			must(t, first(r.stores[0].Relay(t.Context(), 0, 10, func(_ context.Context, handed []seckill.Outgoing) []int {
				rows = handed
				return nil
			})))
			if snapshot.Total != total || len(rows) != pending || pending == 1 && (rows[0].Ref.Epoch != 2 || rows[0].Restock != 5) {
				t.Errorf("snapshot %+v, outbox %+v", snapshot, rows)
			}
		})
	}
}

// One order's end: whoever has the row first decides, and the other reads it.
func TestL4_APaymentAndACancel(t *testing.T) {
	for _, paymentFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("paymentFirst=", paymentFirst), func(t *testing.T) {
			r := newRace(t, 10, 2)
			o := r.order(t, r.stores[0], "u-1", "k")
			var paid seckill.PaymentResult
			var cancelled seckill.Moved
			both := []func(*postgres.Store) error{pay(&paid, "p-1", o), cancel(&cancelled, o)}
			if !paymentFirst {
				slices.Reverse(both)
			}
			r.meet("SELECT FROM orders FOR UPDATE", both...)
			if (paid.Verdict == seckill.PaymentBooked) != paymentFirst || cancelled.Now == paymentFirst {
				t.Errorf("payment %+v, cancel %+v", paid, cancelled)
			}
			if paymentFirst {
				r.check(0, 1)
			} else {
				r.check(0, 0)
			}
		})
	}
}

func pay(into *seckill.PaymentResult, id seckill.PaymentID, o seckill.Order) func(*postgres.Store) error {
	return func(store *postgres.Store) error {
		got, err := store.Pay(context.Background(), []seckill.Payment{{Merchant: "m1", ID: id, Order: o.ID, Amount: o.Amount}})
		if err == nil {
			*into = got[0]
		}
		return err
	}
}

func cancel(into *seckill.Moved, o seckill.Order) func(*postgres.Store) error {
	return func(store *postgres.Store) error {
		got, err := store.Cancel(context.Background(), []seckill.OrderID{o.ID})
		if err == nil {
			*into = got[0]
		}
		return err
	}
}

// Two orders have no row in common but the payment's, which both insert.
func TestL4_OnePaymentForTwoOrders(t *testing.T) {
	r := newRace(t, 10, 0)
	a, b := r.order(t, r.stores[0], "u-1", "k"), r.order(t, r.stores[0], "u-2", "k")
	var first, second seckill.PaymentResult
	r.meet(theItem, pay(&first, "p-1", a), pay(&second, "p-1", b))
	if first.Verdict != seckill.PaymentBooked || second.Verdict != seckill.PaymentOtherContent {
		t.Errorf("verdicts %+v and %+v", first, second)
	}
	r.check(1, 1)
}

// An order that somebody is about to pay is left out, and the next one is timed out.
func TestTimeOut_GoesAroundWhatIsBusy(t *testing.T) {
	r := newRace(t, 10, 0)
	a, b := r.order(t, r.stores[0], "u-1", "k"), r.order(t, r.stores[0], "u-2", "k")
	execute(t, r.visitor, "UPDATE orders SET pay_by = now() - interval '1 minute'")
	execute(t, r.visitor, "BEGIN")
	execute(t, r.visitor, "SELECT FROM orders WHERE id = $1 FOR UPDATE", string(a.ID))
	if n, err := r.stores[0].TimeOut(t.Context(), 10); n != 1 || err != nil {
		t.Errorf("%d timed out, %v", n, err)
	}
	execute(t, r.visitor, "COMMIT")
	if n, err := r.stores[0].TimeOut(t.Context(), 10); n != 1 || err != nil {
		t.Errorf("%d timed out afterwards, %v", n, err)
	}
	found, err := r.stores[0].FindOrders(t.Context(), []seckill.OrderID{a.ID, b.ID})
	if err != nil || found[0].Reason != seckill.ReasonPaymentTimeout || found[1].Reason != seckill.ReasonPaymentTimeout {
		t.Errorf("orders %+v, %v", found, err)
	}
	r.check(0, 0)
}

// The victim of a deadlock has done nothing, and is tried again.
func TestCancel_SurvivesADeadlock(t *testing.T) {
	r := newRace(t, 10, 0)
	o := r.order(t, r.stores[0], "u-1", "k")
	execute(t, r.visitor, "BEGIN")
	execute(t, r.visitor, theItem)
	var moved seckill.Moved
	done := make(chan error, 1)
	go func() { done <- cancel(&moved, o)(r.stores[0]) }()
	r.waiting(1) // it has the order, and wants the item
	execute(t, r.visitor, "SELECT FROM orders FOR UPDATE")
	execute(t, r.visitor, "COMMIT")
	if err := <-done; err != nil || !moved.Now {
		t.Errorf("moved %+v, %v", moved, err)
	}
	r.check(0, 0)
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

// A person with a shell who holds an item's row is waited for, and not for ever.
func TestL8_NobodyWaitsForALockForEver(t *testing.T) {
	url := database(t)
	store := open(t, postgres.Config{URL: with(t, url, "lock_timeout", "50ms")})
	s := newSale(t, store, 10, 0)
	visitor := connect(t, url)
	execute(t, visitor, "BEGIN")
	execute(t, visitor, theItem)
	if _, err := store.Accept(t.Context(), records(s.record("u-1", "k", 1))); code(err) != "55P03" {
		t.Errorf("accept: %v", err)
	}
	// Readers wait for nobody.
	must(t, first(store.LoadCatalog(t.Context(), 0)), first(store.Books(t.Context(), s.id)))
	execute(t, visitor, "COMMIT")
	s.order(t, store, "u-1", "k")
}

// A process that stops in the middle of a transaction loses it, and its locks.
func TestL8_AProcessThatStopsKeepsNobodyWaiting(t *testing.T) {
	url := database(t)
	stopped := open(t, postgres.Config{URL: with(t, url, "idle_in_transaction_session_timeout", "50ms")})
	store := open(t, postgres.Config{URL: url})
	s := newSale(t, store, 10, 0)
	_, err := stopped.UpdateActivity(t.Context(), s.id, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		s.order(t, store, "u-1", "k") // it waits for the item's row, which this transaction has
		a.Name = "Renamed"
		return a, nil
	})
	if err == nil {
		t.Error("a transaction went on that the server had ended")
	}
	data, err := stopped.LoadCatalog(t.Context(), 0)
	if err != nil || data.Activities[0].Name != "Sale" {
		t.Errorf("catalog %+v, %v", data, err)
	}
}

func TestLockItem_IsOneProcessesAtATime(t *testing.T) {
	r := newRace(t, 10, 0)
	other := namedSale(t, r.stores[0], "a2", 10, 0)
	lock := func(store *postgres.Store, item inventory.ItemID, want bool) func() {
		t.Helper()
		unlock, ok, err := store.LockItem(t.Context(), item)
		if err != nil || ok != want {
			t.Fatalf("locked %v, %v; want %v", ok, err, want)
		}
		return unlock
	}
	unlock := lock(r.stores[0], r.ref.Item, true)
	second := lock(r.stores[0], other.ref.Item, true)
	lock(r.stores[0], r.ref.Item, false)
	lock(r.stores[1], r.ref.Item, false)
	unlock()
	unlock()
	again := lock(r.stores[1], r.ref.Item, true)
	unlock() // a late repeat frees nothing of another's
	lock(r.stores[0], r.ref.Item, false)
	lock(r.stores[1], other.ref.Item, false)
	second()
	again()

	// A process that dies loses its locks with its connection.
	unlock = lock(r.stores[0], r.ref.Item, true)
	second = lock(r.stores[0], other.ref.Item, true)
	execute(t, r.visitor, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()")
	r.eventually(func() bool {
		_, ok, err := r.stores[1].LockItem(t.Context(), r.ref.Item)
		must(t, err)
		return ok
	})
	lock(r.stores[0], other.ref.Item, false) // who had it believes to have it still
	unlock()                                 // which frees nothing of another's
	lock(r.stores[0], r.ref.Item, false)
	second()
	lock(r.stores[0], other.ref.Item, true)
	must(t, r.stores[0].Close())
	r.eventually(func() bool {
		_, ok, err := r.stores[1].LockItem(t.Context(), other.ref.Item)
		must(t, err)
		return ok
	})
}

// eventually waits until something is so.
func (r *race) eventually(so func() bool) {
	r.t.Helper()
	patience := time.NewTimer(servers.Patience)
	defer patience.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !so() {
		select {
		case <-look.C:
		case <-patience.C:
			r.t.Fatal("it does not come to be")
		}
	}
}

// Two rebuilders who both believe to have the lock: the higher epoch wins, whoever comes first.
func TestL1_TwoHoldersOfALostLock(t *testing.T) {
	r := newRace(t, 10, 0)
	low, err := r.stores[0].NextEpoch(t.Context(), r.ref.Item)
	must(t, err)
	high, err := r.stores[1].NextEpoch(t.Context(), r.ref.Item)
	must(t, err)
	if low == high {
		t.Fatalf("epoch %d was given out twice", low)
	}
	must(t, first(r.stores[1].Fence(t.Context(), inventory.Ref{Item: r.ref.Item, Epoch: high})))
	_, err = r.stores[0].Fence(t.Context(), inventory.Ref{Item: r.ref.Item, Epoch: low})
	if !errors.Is(err, seckill.ErrFenced) {
		t.Errorf("the lower epoch: %v", err)
	}
}
