package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"penstock/internal/sqlite"
	"penstock/inventory"
	"penstock/seckill"
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

// sale makes an activity with one item in epoch 1, two units for each buyer, and returns what makes records of it.
func sale(t *testing.T, store *sqlite.Store) func(user seckill.UserID, key string, quantity int) seckill.Record {
	t.Helper()
	if err := store.PutMerchant(t.Context(), seckill.Merchant{ID: "m1", Name: "Phones"}, author); err != nil {
		t.Fatal(err)
	}
	item := seckill.Item{SKU: "x", Price: seckill.Money{Minor: 100, Currency: "CNY"}, Quantity: 100, PerUser: 2}
	a, err := store.UpdateActivity(t.Context(), "a1", author, func(*seckill.Activity) (*seckill.Activity, error) {
		return &seckill.Activity{
			ID: "a1", Merchant: "m1", State: seckill.ActivityPublished, PaymentWindow: time.Hour, Items: []seckill.Item{item},
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ref := inventory.Ref{Item: a.Items[0].ID, Epoch: 1}
	if _, err := store.Fence(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	caller := seckill.CallerRef{Merchant: "m1", Caller: "app"}
	return func(user seckill.UserID, key string, quantity int) seckill.Record {
		return seckill.Record{
			Order: seckill.NewOrderID(ref.Item, caller, "a1", "x", user, key), Caller: caller, Activity: "a1", SKU: "x", User: user,
			Quantity: quantity, Amount: seckill.Money{Minor: 100 * int64(quantity), Currency: "CNY"}, Grant: seckill.Provenance{Epoch: 1},
		}
	}
}

func outcomes(t *testing.T, store *sqlite.Store, records ...seckill.Record) []seckill.Outcome {
	t.Helper()
	got, err := store.Accept(t.Context(), records)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]seckill.Outcome, len(got))
	for i := range got {
		out[i] = got[i].Outcome
	}
	return out
}

// Names are bytes to SQLite, whatever they are to anybody else.
func TestL5_HoldsForNamesThatAreNoText(t *testing.T) {
	store := open(t, sqlite.Config{})
	record := sale(t, store)
	for _, user := range []seckill.UserID{"\xff\xfe", "\xff\xfd", "a\x00b", "a\x00c", "a", "\xc3"} {
		got := outcomes(t, store, record(user, "k", 2), record(user, "l", 1))
		if got[0] != seckill.OutcomeOpened || got[1] != seckill.OutcomeRejected {
			t.Errorf("%q: outcomes %v", user, got)
		}
		if got := outcomes(t, store, record(user, "m", 1)); got[0] != seckill.OutcomeRejected {
			t.Errorf("%q, in a later batch: outcome %v", user, got)
		}
		found, err := store.FindOrders(t.Context(), []seckill.OrderID{record(user, "k", 2).Order})
		if err != nil || found[0].User != user {
			t.Errorf("%q was kept as %q (%v)", user, found[0].User, err)
		}
	}
}

// A record that breaks a rule of the tables ends its transaction, not the store.
func TestAccept_RecoversFromARecordThatTheTablesRefuse(t *testing.T) {
	store := open(t, sqlite.Config{})
	record := sale(t, store)
	for range 2 {
		if got, err := store.Accept(t.Context(), []seckill.Record{record("u-1", "k", 1), record("u-2", "k", 0)}); err == nil {
			t.Fatalf("accepted an order of nothing: %+v", got)
		}
	}
	if got := outcomes(t, store, record("u-1", "k", 1)); got[0] != seckill.OutcomeOpened {
		t.Errorf("outcome %v: the refused batch has left something", got)
	}
	books, err := store.Books(t.Context(), "a1")
	if err != nil || books[0].Open != 1 {
		t.Errorf("books %+v, %v", books, err)
	}
}

// L1 stands in the table itself, as does that changes are only added: code that forgot it could not write.
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
		"UPDATE items SET open = 60, sold = 41", "UPDATE items SET open = -1", "UPDATE items SET total = -1",
		"UPDATE changes SET actor = 'nobody'", "DELETE FROM changes",
	} {
		if _, err := db.ExecContext(t.Context(), text); err == nil {
			t.Errorf("%s: done", text)
		}
	}
}

func TestUpdateActivity_SurvivesAPanicOfChange(t *testing.T) {
	store := open(t, sqlite.Config{})
	record := sale(t, store)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, err := store.UpdateActivity(t.Context(), "a1", author, func(*seckill.Activity) (*seckill.Activity, error) { panic("a bug") })
		t.Error(err)
	}()
	if got := outcomes(t, store, record("u-1", "k", 1)); got[0] != seckill.OutcomeOpened {
		t.Errorf("outcome %v", got)
	}
}

// A person with a shell may hold the write lock for a while.
func TestWrite_WaitsForAVisitor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "penstock.db")
	store := open(t, sqlite.Config{Path: path})
	record := sale(t, store)
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
		_, err := store.Accept(t.Context(), []seckill.Record{record("u-1", "k", 1)})
		accepted <- err
	}()
	// Readers wait for nobody, and see what is committed.
	data, err := store.LoadCatalog(t.Context(), 0)
	if err != nil || data.Merchants[0].Name != "Phones" {
		t.Errorf("merchants %+v, %v", data.Merchants, err)
	}
	if err := visit.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		t.Error(err)
	}
}
