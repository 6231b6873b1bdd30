package postgres_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/seckill"
)

// BenchmarkSearch measures how long people wait for the orders of a buyer during a sale. There are
// 500,000 orders, 100,000 of them of one buyer, and 1,000 more are made each second. An operation
// is one search for a page. Its p50 and p99 matter.
func BenchmarkSearch(b *testing.B) {
	const orders, page, big = 500_000, 500, "u-big"
	store := open(b, postgres.Config{URL: copyTemplate(b, servers.NewPostgres(b))})
	s := newSale(b, store, seckill.MaxItemQuantity, 0)
	made := 0
	write := func(n int) error {
		batch := s.page()
		for range n {
			user := seckill.UserID(fmt.Sprint("u-", made%50_000))
			if made%5 == 0 {
				user = big
			}
			batch.Promises = append(batch.Promises, s.promise(user, fmt.Sprint(made), 1))
			made++
		}
		_, err := store.Accept(b.Context(), seckill.Batch{Pages: []seckill.Page{batch}})
		return err
	}
	for made < orders {
		must(b, write(page))
	}
	middle := seckill.OrderQuery{User: big, Limit: 1}
	found, err := store.SearchOrders(b.Context(), middle)
	must(b, err)
	for range 100 { // a place some thousands of pages behind the first
		found, err = store.SearchOrders(b.Context(), seckill.OrderQuery{User: big, Limit: 500, Before: found[len(found)-1].Mark()})
		must(b, err)
	}
	far := found[len(found)-1].Mark()
	for _, way := range []struct {
		name  string
		query seckill.OrderQuery
		found int
	}{
		{"a-buyer", seckill.OrderQuery{User: "u-7", Limit: 51}, 8},
		{"first-page-of-100000", seckill.OrderQuery{User: big, Limit: 51}, 51},
		{"page-in-the-middle", seckill.OrderQuery{User: big, Limit: 51, Before: far}, 51},
		{"of-100000-in-one-state", seckill.OrderQuery{User: big, State: seckill.OrderPaid, Limit: 51}, 0},
	} {
		b.Run("of="+way.name, func(b *testing.B) {
			stop := make(chan struct{})
			var writer sync.WaitGroup
			var late time.Duration
			before, began := made, time.Now()
			writer.Go(func() {
				const every = 100 * time.Millisecond
				tick := time.NewTicker(every)
				defer tick.Stop()
				for {
					select {
					case <-stop:
						return
					case <-tick.C:
					}
					// Writes follow a schedule, so a slow write doesn't lower the rate.
					for due := int(time.Since(began) / every * 100); made-before < due; {
						start := time.Now()
						if err := write(100); err != nil {
							b.Error(err)
							return
						}
						late = max(late, time.Since(start))
					}
				}
			})
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				got, err := store.SearchOrders(b.Context(), way.query)
				if err != nil || len(got) < way.found {
					b.Fatalf("%d orders, %v", len(got), err)
				}
				took = append(took, time.Since(start))
			}
			close(stop)
			writer.Wait()
			slices.Sort(took)
			for _, q := range []struct {
				name string
				at   float64
			}{{"p50-ms", 0.5}, {"p99-ms", 0.99}} {
				b.ReportMetric(took[int(q.at*float64(len(took)-1))].Seconds()*1e3, q.name)
			}
			b.ReportMetric(float64(made-before)/time.Since(began).Seconds(), "orders/s")
			b.ReportMetric(late.Seconds()*1e3, "slowest-page-ms")
		})
	}
}

// BenchmarkSearchIndexes measures a search by each index among a million orders: half of them of
// one activity, the rest of 1,000 others, in eight weeks, from 40 callers. One order in a hundred
// waits for its payment, one in a thousand was rejected.
func BenchmarkSearchIndexes(b *testing.B) {
	const orders = 1_000_000
	url := copyTemplate(b, servers.NewPostgres(b))
	store := open(b, postgres.Config{URL: url})
	conn, err := pgx.Connect(b.Context(), url)
	must(b, err)
	defer conn.Close(b.Context())
	_, err = conn.Exec(b.Context(), "SELECT penstock_add_week(week) FROM generate_series(9001, 9008) AS week")
	must(b, err)
	_, err = conn.Exec(b.Context(), `INSERT INTO orders SELECT 9001 + n % 8, 'o-' || n, n % 5000, 'm1', 'app-' || n % 40,
			'a-' || CASE n % 2 WHEN 0 THEN 'hot' ELSE (n % 2000)::text END, 'x', 'u-' || n / 3, 1, 100, 'CNY',
			CASE WHEN n % 100 = 7 THEN 'pending_payment' WHEN n % 1000 = 8 THEN 'rejected' WHEN n % 20 = 9 THEN 'cancelled' ELSE 'paid' END,
			'', 'sold', date_trunc('second', now() - n * '1 ms'::interval), now(), now(), NULL, n % 16, 1, 1, 0, 0, 'r-' || n, '', now()
		FROM generate_series(1, $1::int) AS n`, orders)
	must(b, err)
	for _, way := range []struct {
		name  string
		query seckill.OrderQuery
	}{
		{"user", seckill.OrderQuery{User: "u-7"}},
		{"request", seckill.OrderQuery{Request: "r-77"}},
		{"caller", seckill.OrderQuery{Caller: "app-7"}},
		{"activity", seckill.OrderQuery{Activity: "a-hot"}},
		{"small-activity", seckill.OrderQuery{Activity: "a-77"}},
		{"caller-and-activity", seckill.OrderQuery{Activity: "a-hot", Caller: "app-6"}},
		{"pending", seckill.OrderQuery{State: seckill.OrderPending}},
		{"rejected", seckill.OrderQuery{State: seckill.OrderRejected}},
		{"paid", seckill.OrderQuery{State: seckill.OrderPaid}},
		{"all", seckill.OrderQuery{}},
		{"merchant", seckill.OrderQuery{Merchant: "m1", Activities: []seckill.ActivityID{"a-hot", "a-1", "a-3", "a-5", "a-77"}}},
	} {
		b.Run("by="+way.name, func(b *testing.B) {
			way.query.Limit = 51
			for b.Loop() {
				got, err := store.SearchOrders(b.Context(), way.query)
				if err != nil || len(got) == 0 {
					b.Fatalf("%d orders, %v", len(got), err)
				}
			}
		})
	}
}
