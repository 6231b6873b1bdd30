package node

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/internal/proof/stocktest"
	"github.com/penstock/penstock/internal/sqlite"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// countedStock and countedStore count the calls of the background work.
type countedStock struct {
	*stocktest.Model
	calls *atomic.Int64
}

func (s *countedStock) AllNumbers(ctx context.Context, shards []inventory.ShardID) ([]inventory.Numbers, []error) {
	s.calls.Add(1)
	return s.Model.AllNumbers(ctx, shards)
}

func (s *countedStock) ItemNumbers(ctx context.Context, shard inventory.ShardID,
	items []inventory.ItemID) (inventory.Numbers, []inventory.ItemNumbers, error) {
	s.calls.Add(1)
	return s.Model.ItemNumbers(ctx, shard, items)
}

func (s *countedStock) Note(ctx context.Context, ref inventory.Ref) (uint64, error) {
	s.calls.Add(1)
	return s.Model.Note(ctx, ref)
}

func (s *countedStock) Old(ctx context.Context, ref inventory.Ref, note uint64, cursor int64,
	limit int) ([]inventory.Entry, int64, bool, error) {
	s.calls.Add(1)
	return s.Model.Old(ctx, ref, note, cursor, limit)
}

func (s *countedStock) Restock(ctx context.Context, ref inventory.Ref, restocks []inventory.Restock) ([]bool, error) {
	s.calls.Add(1)
	return s.Model.Restock(ctx, ref, restocks)
}

type countedStore struct {
	seckill.Store
	calls *atomic.Int64
}

func (s *countedStore) LoadCatalog(ctx context.Context, since seckill.CatalogVersion, begin func(bool),
	apply func(seckill.CatalogChange) error) (seckill.CatalogVersion, error) {
	s.calls.Add(1)
	return s.Store.LoadCatalog(ctx, since, begin, apply)
}

func (s *countedStore) FindOrders(ctx context.Context, ids []seckill.OrderID) ([]seckill.Order, error) {
	s.calls.Add(1)
	return s.Store.FindOrders(ctx, ids)
}

func (s *countedStore) Relay(ctx context.Context, shards []inventory.ShardID, after int64, limit int,
	deliver func(context.Context, []seckill.Outgoing) []int) (int64, error) {
	s.calls.Add(1)
	return s.Store.Relay(ctx, shards, after, limit, deliver)
}

func (s *countedStore) ShardBooks(ctx context.Context, shard inventory.ShardID, after inventory.ItemID,
	limit int) ([]seckill.Book, error) {
	s.calls.Add(1)
	return s.Store.ShardBooks(ctx, shard, after, limit)
}

// quietQueue is a queue without records.
type quietQueue struct{ seckill.Queue }

func (quietQueue) Owned() ([]int32, int) { return []int32{0}, 1 }
func (quietQueue) Mark(context.Context) ([]seckill.Position, error) {
	return nil, nil
}

// TestL9_IdleItemsCostNoCall: the background work makes as many calls for 800 items on sale as for
// 80.
func TestL9_IdleItemsCostNoCall(t *testing.T) {
	few, many := callsOfAMinute(t, 80), callsOfAMinute(t, 800)
	if few == 0 || many != few {
		t.Errorf("an idle minute makes %d calls for 80 items, and %d for 800", few, many)
	}
}

// callsOfAMinute puts so many items on sale and counts the calls of an idle minute.
func callsOfAMinute(t *testing.T, items int) (calls int64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "penstock.db")
	synctest.Test(t, func(t *testing.T) {
		cfg := seckill.DefaultConfig()
		cfg.Shards = 4
		store, err := sqlite.Open(t.Context(), sqlite.Config{Path: file, Shards: cfg.Shards})
		if err != nil {
			t.Fatal(err)
		}
		var count atomic.Int64
		sale, err := NewSale(cfg, Seams{
			Stock: &countedStock{stocktest.NewModel(), &count}, Queue: quietQueue{}, Store: &countedStore{store, &count}, Alone: true,
		}, RoleGateway|RoleWorker, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		running := make(chan struct{})
		loops := []func(context.Context){
			sale.Desk.Run, sale.RunFollow, sale.Barrier.Run, sale.Relay.Run, sale.Timeouts.Run, sale.Unparker.Run, sale.Sweeper.Run,
			sale.Sweeper.RunBury, sale.Rebuilder.Run, sale.Auditor.Run, sale.Mover.Run,
		}
		for _, run := range loops {
			go func() { run(ctx); running <- struct{}{} }()
		}
		publishItems(t, sale, store, items)
		wait.For(ctx, time.Minute) // work that is left from publishing
		before := count.Load()
		wait.For(ctx, time.Minute)
		calls = count.Load() - before
		cancel()
		for range loops {
			<-running
		}
		sale.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return calls
}

func publishItems(t *testing.T, sale *Sale, store seckill.Store, items int) {
	t.Helper()
	by := seckill.Author{Actor: "test", Reason: "test"}
	if err := seckill.PutMerchant(t.Context(), store, seckill.Merchant{ID: "m", Name: "M", PaymentSecret: "secret"}, by); err != nil {
		t.Fatal(err)
	}
	a := seckill.Activity{
		ID: "a", Merchant: "m", Name: "A", StartsAt: time.Now(), EndsAt: time.Now().Add(time.Hour), PaymentWindow: time.Minute,
	}
	for i := range items {
		a.Items = append(a.Items, seckill.Item{
			SKU: seckill.SKU(fmt.Sprint("s", i)), Price: seckill.Money{Minor: 100, Currency: "CNY"}, Quantity: 10, Spread: 1,
		})
	}
	if _, err := sale.Office.PutActivity(t.Context(), a, by); err != nil {
		t.Fatal(err)
	}
	if _, err := sale.Office.Publish(t.Context(), "a", by); err != nil {
		t.Fatal(err)
	}
}
