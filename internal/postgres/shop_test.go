package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// The outcomes.
const (
	opened   = seckill.OutcomeOpened
	exists   = seckill.OutcomeExists
	rejected = seckill.OutcomeRejected
	skipped  = seckill.OutcomeSkipped
	parked   = seckill.OutcomeParked
)

var caller = seckill.CallerRef{Merchant: "m1", Caller: "app"}

// sale is an activity with one item, on an open shard.
type sale struct {
	id   seckill.ActivityID
	item inventory.ItemID
	sku  seckill.SKU
	ref  inventory.Ref
}

func newSale(t testing.TB, store *postgres.Store, total int64, perUser int) *sale {
	t.Helper()
	return namedSale(t, store, "a1", total, perUser)
}

func namedSale(t testing.TB, store *postgres.Store, id seckill.ActivityID, total int64, perUser int) *sale {
	t.Helper()
	must(t, seckill.PutMerchant(t.Context(), store, seckill.Merchant{ID: "m1", Name: "Phones"}, author))
	a := publish(t, store, id, seckill.Item{SKU: "x", Price: price, Quantity: total, PerUser: perUser, Spread: 1})
	s := &sale{id: id, item: a.Items[0].ID, sku: "x"}
	s.ref = fence(t, store, inventory.Home(s.item, store.ShardCount()))
	return s
}

var price = seckill.Money{Minor: 100, Currency: "CNY"}

// publish makes an activity that sells at once.
func publish(t testing.TB, store *postgres.Store, id seckill.ActivityID, items ...seckill.Item) *seckill.Activity {
	t.Helper()
	now := time.Now()
	a, err := store.UpdateActivity(t.Context(), id, author, func(*seckill.Activity) (*seckill.Activity, error) {
		return &seckill.Activity{
			ID: id, Merchant: "m1", Name: "Sale", State: seckill.ActivityPublished, StartsAt: now, EndsAt: now.Add(time.Hour),
			PaymentWindow: time.Hour, Items: items,
		}, nil
	})
	must(t, err)
	return a
}

// fence gives a shard its next epoch, and takes the snapshot.
func fence(t testing.TB, store *postgres.Store, shard inventory.ShardID) inventory.Ref {
	t.Helper()
	ref := nextRef(t, store, shard)
	must(t, store.Fence(t.Context(), ref, incarnation(t, store)))
	must(t, store.Snapshot(t.Context(), ref, nil, func([]inventory.Stocked, []inventory.Entry) error { return nil }))
	return ref
}

func nextRef(t testing.TB, store *postgres.Store, shard inventory.ShardID) inventory.Ref {
	t.Helper()
	epoch, err := store.NextEpoch(t.Context(), shard)
	must(t, err)
	return inventory.Ref{Shard: shard, Epoch: epoch}
}

func incarnation(t testing.TB, store *postgres.Store) string {
	t.Helper()
	name, err := store.Incarnation(t.Context())
	must(t, err)
	return name
}

// promise is a promise of units to a buyer.
func (s *sale) promise(user seckill.UserID, key string, quantity int) seckill.Promise {
	return seckill.Promise{
		Order: seckill.NewOrderID(s.item, caller, user, key), Caller: caller, Activity: s.id, SKU: s.sku, User: user,
		Quantity: quantity, Amount: seckill.Money{Minor: 100 * int64(quantity), Currency: "CNY"},
		Request: "r-" + key, Accepted: time.UnixMilli(1_780_000_000_123).UTC(),
	}
}

// batch is a page of the sale.
func (s *sale) batch(promises ...seckill.Promise) seckill.Batch {
	return seckill.Batch{Pages: []seckill.Page{s.page(promises...)}}
}

func (s *sale) page(promises ...seckill.Promise) seckill.Page {
	return seckill.Page{PageHeader: seckill.PageHeader{Ref: s.ref, Seq: 7, Node: "node-1"}, Promises: promises}
}

func outcomes(t testing.TB, store *postgres.Store, b seckill.Batch) []seckill.Outcome {
	t.Helper()
	got, err := store.Accept(t.Context(), b)
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
	got, err := store.Accept(t.Context(), s.batch(s.promise(user, key, 1)))
	must(t, err)
	if got[0].Outcome != opened {
		t.Fatalf("outcome %d", got[0].Outcome)
	}
	return got[0].Order
}

func (s *sale) book(t testing.TB, store *postgres.Store) seckill.Book {
	t.Helper()
	books, err := store.ActivityBooks(t.Context(), s.id)
	must(t, err)
	return books[0]
}

func cancels(ids ...seckill.OrderID) []seckill.Cancellation {
	list := make([]seckill.Cancellation, len(ids))
	for i, id := range ids {
		list[i].Order = id
	}
	return list
}

// first drops what came with an error.
func first[T any](_ T, err error) error { return err }

// code returns the SQLSTATE of an error.
func code(err error) string {
	var failed *pgconn.PgError
	if errors.As(err, &failed) {
		return failed.Code
	}
	return ""
}
