package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/internal/proof/storetest"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// BenchmarkStore measures the calls of a sale, on a server that waits for its disk.
func BenchmarkStore(b *testing.B) {
	server := servers.NewPostgres(b)
	storetest.Benchmark(b, func(b *testing.B, now func() time.Time) seckill.Store {
		return open(b, postgres.Config{URL: copyTemplate(b, server), Now: now})
	})
}

// BenchmarkOrders measures how promises become orders, on a server that waits for its disk. An
// operation is one order. "many" spreads the orders of a page over a thousand items.
func BenchmarkOrders(b *testing.B) {
	server := servers.NewPostgres(b)
	for _, way := range []struct {
		name    string
		workers int
		batch   int
		perUser int
		items   int
	}{
		{"one", 1, 1, 2, 1}, {"batch-500", 1, 500, 2, 1}, {"batch-500-no-limit", 1, 500, 0, 1}, {"batch-500-by-2", 2, 500, 2, 1},
		{"batch-500-many", 1, 500, 2, 1000},
	} {
		b.Run("way="+way.name, func(b *testing.B) {
			store := open(b, postgres.Config{URL: copyTemplate(b, server)})
			sales := benchSales(b, store, way.items, way.perUser)
			batches := make(chan seckill.Batch, b.N/way.batch+1)
			for n := 0; n < b.N; n += way.batch {
				batches <- benchBatch(sales, n, min(n+way.batch, b.N))
			}
			close(batches)
			cpu := cpuOf(b, server)
			b.ResetTimer()
			before := cpu()
			var wg sync.WaitGroup
			for range way.workers {
				wg.Go(func() {
					for batch := range batches {
						if _, err := store.Accept(b.Context(), batch); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			reportCPU(b, before, cpu())
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
		})
	}
}

// cpuOf returns a function that reads the processor time that the server's processes have used, and
// this one.
func cpuOf(b *testing.B, server *servers.Server) func() [2]time.Duration {
	b.Helper()
	conn := connect(b, server.URL("postgres"))
	return func() (used [2]time.Duration) {
		rows, err := conn.Query(context.Background(), "SELECT pid FROM pg_stat_activity")
		must(b, err)
		pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
		must(b, err)
		const tick = 10 * time.Millisecond // of Linux
		for _, pid := range pids {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil {
				continue // it has ended
			}
			fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))
			for _, field := range fields[11:13] { // utime and stime
				n, err := strconv.Atoi(field)
				must(b, err)
				used[0] += time.Duration(n) * tick
			}
		}
		var own syscall.Rusage
		must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &own))
		used[1] = time.Duration(own.Utime.Nano() + own.Stime.Nano())
		return used
	}
}

// reportCPU reports the processor time of an operation: the server's, and this process's.
func reportCPU(b *testing.B, before, after [2]time.Duration) {
	b.Helper()
	for i, name := range []string{"server-µs/op", "client-µs/op"} {
		b.ReportMetric(float64((after[i]-before[i]).Nanoseconds())/1e3/float64(b.N), name)
	}
}

// benchSales returns items on one shard.
func benchSales(b *testing.B, store *postgres.Store, n, perUser int) []*sale {
	b.Helper()
	s := newSale(b, store, seckill.MaxItemQuantity, perUser)
	sales := []*sale{s}
	items := make([]seckill.Item, 8*n)
	for i := range items {
		items[i] = seckill.Item{SKU: "x", Price: price, Quantity: seckill.MaxItemQuantity, PerUser: perUser, Spread: 1}
		items[i].SKU += seckill.SKU(fmt.Sprint(i))
	}
	if n == 1 {
		return sales
	}
	for _, item := range publish(b, store, "many", items...).Items {
		if inventory.Home(item.ID, store.ShardCount()) == s.ref.Shard && len(sales) < n {
			sales = append(sales, &sale{id: "many", item: item.ID, sku: item.SKU, ref: s.ref})
		}
	}
	return sales
}

// benchBatch is a page of the promises from n to end.
func benchBatch(sales []*sale, n, end int) seckill.Batch {
	page := sales[0].page()
	for ; n < end; n++ {
		s := sales[n%len(sales)]
		user := seckill.UserID(fmt.Sprint("u-", n*7919%1_000_003))
		page.Promises = append(page.Promises, s.promise(user, fmt.Sprint(n), 1))
	}
	return seckill.Batch{Pages: []seckill.Page{page}}
}

// BenchmarkEvents measures what events cost a worker. An operation is one order. With relayed=true
// its event is also given to a broker that takes no time.
func BenchmarkEvents(b *testing.B) {
	server := servers.NewPostgres(b)
	for _, way := range []struct{ events, relayed bool }{{false, false}, {true, false}, {true, true}} {
		b.Run(fmt.Sprintf("events=%t/relayed=%t", way.events, way.relayed), func(b *testing.B) {
			store := open(b, postgres.Config{URL: copyTemplate(b, server), Events: way.events})
			sales := benchSales(b, store, 1, 2)
			b.ResetTimer()
			for n := 0; n < b.N; n += 500 {
				must(b, first(store.Accept(b.Context(), benchBatch(sales, n, min(n+500, b.N)))))
				if way.relayed {
					must(b, first(store.RelayEvents(b.Context(), 2_000, func(context.Context, []seckill.Step) error { return nil })))
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
		})
	}
}

// BenchmarkPublish measures the publication of 20,000 items at once.
func BenchmarkPublish(b *testing.B) {
	server := servers.NewPostgres(b)
	store := open(b, postgres.Config{URL: copyTemplate(b, server)})
	newSale(b, store, 1, 1)
	items := make([]seckill.Item, seckill.MaxItems)
	for i := range items {
		items[i] = seckill.Item{SKU: seckill.SKU(fmt.Sprint("sku-", i)), Price: price, Quantity: 100, PerUser: 1, Spread: 1}
	}
	cpu := cpuOf(b, server)
	before := cpu()
	for i := 0; b.Loop(); i++ {
		publish(b, store, seckill.ActivityID(fmt.Sprint("many-", i)), items...)
	}
	reportCPU(b, before, cpu())
}

// benchOrders adds orders without the store, in pages of one item each, as workers do.
func benchOrders(b *testing.B, conn *pgx.Conn, page, orders int, due string) {
	b.Helper()
	execute(b, conn, `INSERT INTO orders
		SELECT i.week, lpad(i.id::text, 8, '0') || left(md5(n::text), 32), i.id, 'm1', 'app', i.activity, 'x', 'user-' || n, 1, 100, 'CNY',
			'pending_payment', '', 'open', now(), `+due+`, now(), NULL, i.shard, 1, 1, 0, 0, 'request-' || n, 'node-1', now()
		FROM (SELECT s.item AS id, s.shard, a.id AS activity, a.week, row_number() OVER (ORDER BY s.shard, s.item) - 1 AS place,
				count(*) OVER () AS items
			FROM stock AS s JOIN items AS i ON i.id = s.item JOIN activities AS a USING (sale)) AS i
		JOIN generate_series(0, $1::int - 1) AS n ON i.place = (n / $2::int) % i.items ORDER BY n`, orders, page)
	execute(b, conn, "UPDATE stock AS s SET open = o.n FROM (SELECT item, shard, count(*) AS n FROM orders GROUP BY 1, 2) AS o WHERE s.item = o.item AND s.shard = o.shard")
}

// BenchmarkSnapshot measures a snapshot of a shard with a million orders; the other three shards
// have a million more.
func BenchmarkSnapshot(b *testing.B) {
	const orders = 1_000_000
	server := servers.NewPostgres(b)
	url := copyTemplate(b, server)
	store := open(b, postgres.Config{URL: url})
	s := newSale(b, store, seckill.MaxItemQuantity, 0)
	for i := range 40 {
		namedSale(b, store, seckill.ActivityID(fmt.Sprint("b-", i)), seckill.MaxItemQuantity, 0)
	}
	benchOrders(b, connect(b, url), 500, 2*orders, "now() + interval '1 hour'")
	// All belong to one shard. Every second page is moved there.
	execute(b, connect(b, url), "UPDATE orders SET shard = CASE WHEN item % 2 = 0 THEN $1::int ELSE ($1::int + 1) % 4 END", int32(s.ref.Shard))
	execute(b, connect(b, url), "INSERT INTO stock SELECT DISTINCT o.item, o.shard, 10000000 FROM orders AS o ON CONFLICT DO NOTHING")
	execute(b, connect(b, url), "VACUUM ANALYZE orders")
	cpu := cpuOf(b, server)
	before := cpu()
	for b.Loop() {
		next := nextRef(b, store, s.ref.Shard)
		must(b, store.Fence(b.Context(), next, incarnation(b, store)))
		n := 0
		must(b, store.Snapshot(b.Context(), next, []inventory.ItemID{s.item}, func(_ []inventory.Stocked, list []inventory.Entry) error {
			n += len(list)
			return nil
		}))
		b.ReportMetric(float64(n), "entries")
	}
	reportCPU(b, before, cpu())
}

// BenchmarkTimeOut measures a pass of time-outs with nothing due, while 5,000 activities sell and
// have open orders.
func BenchmarkTimeOut(b *testing.B) {
	server := servers.NewPostgres(b)
	url := copyTemplate(b, server)
	store := open(b, postgres.Config{URL: url})
	newSale(b, store, seckill.MaxItemQuantity, 0)
	conn := connect(b, url)
	execute(b, conn, `INSERT INTO activities (id, merchant, name, state, starts_at, ends_at, payment_window, published, week, changed, items_changed)
		SELECT 'b-' || n, 'm1', '', 'published', now(), now() + '1 hour', 1000000000, true, a.week, n, n FROM generate_series(1, 5000) AS n, activities AS a`)
	execute(b, conn, `INSERT INTO items (sale, position, sku, price, currency, per_user, max_orders, spread)
		SELECT sale, 0, 'x', 100, 'CNY', 0, 0, 1 FROM activities WHERE id <> 'a1'`)
	execute(b, conn, "INSERT INTO stock (item, shard, total) SELECT id, id % 4, 1000000 FROM items ON CONFLICT DO NOTHING")
	benchOrders(b, conn, 20, 20*5001, "now() + interval '1 hour'")
	for b.Loop() {
		n, err := store.TimeOut(b.Context(), []inventory.ShardID{0, 1, 2, 3}, nil, 500)
		if n != 0 || err != nil {
			b.Fatal(n, err)
		}
	}
}
