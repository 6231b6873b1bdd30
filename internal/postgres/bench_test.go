package postgres_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"penstock/internal/postgres"
	"penstock/internal/proof/servers"
	"penstock/internal/proof/storetest"
	"penstock/inventory"
	"penstock/seckill"
)

// BenchmarkStore measures what a sale asks of the store, on a server that waits for its disk.
func BenchmarkStore(b *testing.B) {
	server := servers.NewPostgres(b)
	storetest.Benchmark(b, func(b *testing.B, now func() time.Time) seckill.Store {
		return open(b, postgres.Config{URL: copyTemplate(b, server), Now: now})
	})
}

// BenchmarkOrders compares ways to make orders of accepted purchases, on a server that waits for its disk. An operation is one
// order. The first way is a commit for each; the plain ones are a single INSERT for each, without a look at totals, limits and
// what is there already, by one worker and by eight.
func BenchmarkOrders(b *testing.B) {
	server := servers.NewPostgres(b)
	for _, way := range []struct {
		name    string
		workers int
		batch   int // 0: a plain INSERT
	}{{"one", 1, 1}, {"plain", 1, 0}, {"plain-by-8", 8, 0}, {"batch-500", 1, 500}, {"batch-500-by-2", 2, 500}} {
		b.Run("way="+way.name, func(b *testing.B) {
			url := copyTemplate(b, server)
			store := open(b, postgres.Config{URL: url})
			s := newSale(b, store, seckill.MaxItemQuantity, 2)
			records := make([]seckill.Record, b.N)
			for i := range records {
				records[i] = s.record(seckill.UserID(fmt.Sprint("u-", i*7919%1_000_003)), fmt.Sprint(i), 1)
			}
			accept := func(records []seckill.Record) error {
				_, err := store.Accept(b.Context(), records)
				return err
			}
			if way.batch == 0 {
				accept = s.plain(b, url, way.workers)
			}
			b.ResetTimer()
			inBatches(b, records, way.workers, max(way.batch, 1), accept)
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
		})
	}
}

// inBatches has workers take the records from one queue.
func inBatches(b *testing.B, records []seckill.Record, workers, batch int, accept func([]seckill.Record) error) {
	queue := make(chan []seckill.Record, len(records)/batch+1)
	for len(records) > 0 {
		n := min(batch, len(records))
		queue <- records[:n]
		records = records[n:]
	}
	close(queue)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for records := range queue {
				if err := accept(records); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// sale is an activity with one item in epoch 1.
type sale struct {
	id  seckill.ActivityID
	ref inventory.Ref
}

func newSale(t testing.TB, store *postgres.Store, total int64, perUser int) *sale {
	t.Helper()
	return namedSale(t, store, "a1", total, perUser)
}

func namedSale(t testing.TB, store *postgres.Store, id seckill.ActivityID, total int64, perUser int) *sale {
	t.Helper()
	must(t, store.PutMerchant(t.Context(), seckill.Merchant{ID: "m1", Name: "Phones"}, author))
	item := seckill.Item{SKU: "x", Price: seckill.Money{Minor: 100, Currency: "CNY"}, Quantity: total, PerUser: perUser}
	now := time.Now()
	a, err := store.UpdateActivity(t.Context(), id, author, func(*seckill.Activity) (*seckill.Activity, error) {
		return &seckill.Activity{
			ID: id, Merchant: "m1", Name: "Sale", State: seckill.ActivityPublished, StartsAt: now, EndsAt: now.Add(time.Hour),
			PaymentWindow: time.Hour, Items: []seckill.Item{item},
		}, nil
	})
	must(t, err)
	s := &sale{id: id, ref: inventory.Ref{Item: a.Items[0].ID, Epoch: 1}}
	_, err = store.Fence(t.Context(), s.ref)
	must(t, err)
	return s
}

var caller = seckill.CallerRef{Merchant: "m1", Caller: "app"}

// record is the promise of units to a buyer.
func (s *sale) record(user seckill.UserID, key string, quantity int) seckill.Record {
	return seckill.Record{
		Order: seckill.NewOrderID(s.ref.Item, caller, s.id, "x", user, key), Caller: caller, Activity: s.id, SKU: "x", User: user,
		Quantity: quantity, Amount: seckill.Money{Minor: 100 * int64(quantity), Currency: "CNY"},
		Grant: seckill.Provenance{Epoch: s.ref.Epoch, Seq: 1},
	}
}

// plain returns what inserts an order as a program without batches does.
func (s *sale) plain(b *testing.B, url string, conns int) func([]seckill.Record) error {
	b.Helper()
	config, err := pgxpool.ParseConfig(url)
	must(b, err)
	config.MaxConns = int32(conns)
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	must(b, err)
	b.Cleanup(pool.Close)
	var number int32
	must(b, pool.QueryRow(b.Context(), "SELECT sale FROM activities WHERE id = $1", string(s.id)).Scan(&number))
	return func(records []seckill.Record) error {
		r := &records[0]
		_, err := pool.Exec(b.Context(), `INSERT INTO orders (sale, id, item, merchant, caller, activity, sku, "user", quantity, amount, currency,
			state, reason, units, created_at, pay_by, updated_at, shard, epoch, seq)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'pending_payment', '', 'open', now(), now() + '1 hour', now(), 0, 1, 1)`,
			number, string(r.Order), int64(r.Item()), string(r.Caller.Merchant), string(r.Caller.Caller), string(r.Activity), string(r.SKU),
			string(r.User), r.Quantity, r.Amount.Minor, r.Amount.Currency)
		return err
	}
}
