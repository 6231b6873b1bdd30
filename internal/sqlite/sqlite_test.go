package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/sqlite"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// open opens a store that the test's cleanup closes.
func open(t testing.TB, config sqlite.Config) *sqlite.Store {
	t.Helper()
	if config.Path == "" {
		config.Path = filepath.Join(t.TempDir(), "penstock.db")
	}
	store, err := sqlite.Open(t.Context(), config)
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

// shopOf is an activity with one item, two units for each buyer.
type shopOf struct {
	t     *testing.T
	store *sqlite.Store
	item  inventory.ItemID
}

// sale makes such a shop. Its shard was never opened, so pages of any epoch are taken.
func sale(t *testing.T, store *sqlite.Store) shopOf {
	t.Helper()
	if err := seckill.PutMerchant(t.Context(), store, seckill.Merchant{ID: "m1", Name: "Phones"}, author); err != nil {
		t.Fatal(err)
	}
	item := seckill.Item{SKU: "x", Price: seckill.Money{Minor: 100, Currency: "CNY"}, Quantity: 100, PerUser: 2, Spread: 1}
	a, err := store.UpdateActivity(t.Context(), "a1", author, func(*seckill.Activity) (*seckill.Activity, error) {
		return &seckill.Activity{
			ID: "a1", Merchant: "m1", State: seckill.ActivityPublished, PaymentWindow: time.Hour, Items: []seckill.Item{item},
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return shopOf{t, store, a.Items[0].ID}
}

func (s shopOf) promise(user seckill.UserID, key string, quantity int) seckill.Promise {
	caller := seckill.CallerRef{Merchant: "m1", Caller: "app"}
	return seckill.Promise{
		Order: seckill.NewOrderID(s.item, caller, user, key), Caller: caller, Activity: "a1", SKU: "x", User: user,
		Quantity: quantity, Amount: seckill.Money{Minor: 100 * int64(quantity), Currency: "CNY"},
	}
}

func (s shopOf) accept(promises ...seckill.Promise) ([]seckill.Acceptance, error) {
	page := seckill.Page{Promises: promises}
	page.Ref = inventory.Ref{Shard: inventory.Home(s.item, 4), Epoch: 1}
	return s.store.Accept(s.t.Context(), seckill.Batch{Pages: []seckill.Page{page}})
}

func (s shopOf) outcomes(promises ...seckill.Promise) []seckill.Outcome {
	s.t.Helper()
	got, err := s.accept(promises...)
	if err != nil {
		s.t.Fatal(err)
	}
	out := make([]seckill.Outcome, len(got))
	for i := range got {
		out[i] = got[i].Outcome
	}
	return out
}

// SQLite compares names as bytes.
func TestL5_HoldsForNamesThatAreNoText(t *testing.T) {
	store := open(t, sqlite.Config{})
	s := sale(t, store)
	for _, user := range []seckill.UserID{"\xff\xfe", "\xff\xfd", "a\x00b", "a\x00c", "a", "\xc3"} {
		got := s.outcomes(s.promise(user, "k", 2), s.promise(user, "l", 1))
		if got[0] != seckill.OutcomeOpened || got[1] != seckill.OutcomeRejected {
			t.Errorf("%q: outcomes %v", user, got)
		}
		if got := s.outcomes(s.promise(user, "m", 1)); got[0] != seckill.OutcomeRejected {
			t.Errorf("%q, in a later batch: outcome %v", user, got)
		}
		found, err := store.FindOrders(t.Context(), []seckill.OrderID{s.promise(user, "k", 2).Order})
		if err != nil || found[0].User != user {
			t.Errorf("%q was kept as %q (%v)", user, found[0].User, err)
		}
	}
}

// A record that breaks a rule of the tables ends its transaction, not the store.
func TestAccept_RecoversFromARecordThatTheTablesRefuse(t *testing.T) {
	store := open(t, sqlite.Config{})
	s := sale(t, store)
	for range 2 {
		if got, err := s.accept(s.promise("u-1", "k", 1), s.promise("u-2", "k", 0)); err == nil {
			t.Fatalf("accepted an order of nothing: %+v", got)
		}
	}
	if got := s.outcomes(s.promise("u-1", "k", 1)); got[0] != seckill.OutcomeOpened {
		t.Errorf("outcome %v: the refused batch has left something", got)
	}
	books, err := store.ActivityBooks(t.Context(), "a1")
	if err != nil || books[0].Open != 1 {
		t.Errorf("books %+v, %v", books, err)
	}
}

// The tables themselves enforce L1, and that changes are only added, so wrong code can't break
// them.
func TestL1_TheTablesRefuseToOversell(t *testing.T) {
	path := filepath.Join(t.TempDir(), "penstock.db")
	store := open(t, sqlite.Config{Path: path})
	sale(t, store)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, text := range []string{
		"UPDATE stock SET open = 60, sold = 41", "UPDATE stock SET open = -1", "UPDATE stock SET total = -1",
		"UPDATE changes SET actor = 'nobody'", "DELETE FROM changes",
	} {
		if _, err := db.ExecContext(t.Context(), text); err == nil {
			t.Errorf("%s: done", text)
		}
	}
}

func TestUpdateActivity_SurvivesAPanicOfChange(t *testing.T) {
	store := open(t, sqlite.Config{})
	s := sale(t, store)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, err := store.UpdateActivity(t.Context(), "a1", author, func(*seckill.Activity) (*seckill.Activity, error) { panic("a bug") })
		t.Error(err)
	}()
	if got := s.outcomes(s.promise("u-1", "k", 1)); got[0] != seckill.OutcomeOpened {
		t.Errorf("outcome %v", got)
	}
}

// A person with a shell may hold the write lock for a while.
func TestWrite_WaitsForAVisitor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "penstock.db")
	store := open(t, sqlite.Config{Path: path})
	s := sale(t, store)
	db, err := sql.Open("sqlite", path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	visit, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := visit.ExecContext(t.Context(), "UPDATE merchants SET name = 'Telephones'"); err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := s.accept(s.promise("u-1", "k", 1))
		accepted <- err
	}()
	// Readers wait for nobody, and see what is committed.
	if names, err := merchants(t, store); err != nil || names[0] != "Phones" {
		t.Errorf("merchants %v, %v", names, err)
	}
	if err := visit.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		t.Error(err)
	}
}

// A rebuild may take long. Buyers' reads and the workers must not wait for it.
func TestL10_ASnapshotKeepsNobodyWaiting(t *testing.T) {
	store := open(t, sqlite.Config{Readers: 1})
	s := sale(t, store)
	ref := inventory.Ref{Shard: inventory.Home(s.item, 4)}
	var err error
	if ref.Epoch, err = store.NextEpoch(t.Context(), ref.Shard); err != nil {
		t.Fatal(err)
	}
	life, err := store.Incarnation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Fence(t.Context(), ref, life); err != nil {
		t.Fatal(err)
	}
	pages := 0
	err = store.Snapshot(t.Context(), ref, nil, func([]inventory.Stocked, []inventory.Entry) error {
		pages++
		page := seckill.Page{Promises: []seckill.Promise{s.promise("u-1", "k", 1)}}
		page.Ref = ref
		if _, err := store.Accept(t.Context(), seckill.Batch{Pages: []seckill.Page{page}}); err != nil {
			return err
		}
		_, err := store.FindOrders(t.Context(), []seckill.OrderID{page.Promises[0].Order})
		return err
	})
	if err != nil || pages != 1 {
		t.Errorf("%d pages, %v", pages, err)
	}
}

// The orders of a dropped activity go in small transactions, so that the writer is free in between.
func TestDropEnded_DeletesItsOrders(t *testing.T) {
	now := time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC)
	store := open(t, sqlite.Config{Now: func() time.Time { return now }})
	s := sale(t, store)
	_, _, err := store.Restock(t.Context(), seckill.StockChange{Item: s.item, Key: "k", Delta: 5000}, author)
	if err != nil {
		t.Fatal(err)
	}
	for k := range 5 {
		var page seckill.Page
		page.Ref = inventory.Ref{Shard: inventory.Home(s.item, 4), Epoch: 1}
		for i := range 500 {
			page.Promises = append(page.Promises, s.promise(seckill.UserID(fmt.Sprint(k, "-", i)), "k", 1))
		}
		if _, err := store.Accept(t.Context(), seckill.Batch{Pages: []seckill.Page{page}}); err != nil {
			t.Fatal(err)
		}
	}
	shards := []inventory.ShardID{0, 1, 2, 3}
	now = now.Add(2 * time.Hour)
	if n, err := store.TimeOut(t.Context(), shards, nil, 5000); n != 2500 || err != nil {
		t.Fatalf("%d timed out, %v", n, err)
	}
	for shard := range inventory.ShardID(4) { // the outbox of a shard that never opened is absorbed or told
		ref := inventory.Ref{Shard: shard}
		life, _ := store.Incarnation(t.Context())
		if ref.Epoch, err = store.NextEpoch(t.Context(), shard); err != nil {
			t.Fatal(err)
		}
		none := func([]inventory.Stocked, []inventory.Entry) error { return nil }
		if err := errors.Join(store.Fence(t.Context(), ref, life), store.Snapshot(t.Context(), ref, nil, none)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = store.Relay(t.Context(), shards, 0, 5000, func(_ context.Context, rows []seckill.Outgoing) (all []int) {
		for i := range rows {
			all = append(all, i)
		}
		return all
	})
	if err != nil {
		t.Fatal(err)
	}
	dropped, err := store.DropEnded(t.Context(), now, time.Time{}, 10)
	if err != nil || len(dropped) != 1 {
		t.Fatalf("dropped %v, %v", dropped, err)
	}
	if left, err := store.OrdersOf(t.Context(), s.item, "", 10); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
