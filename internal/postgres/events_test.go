package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"penstock/internal/postgres"
	"penstock/internal/proof/servers"
	"penstock/internal/proof/storetest"
	"penstock/seckill"
)

func TestEvents(t *testing.T) {
	storetest.ExerciseEvents(t, func(t *testing.T, now func() time.Time) seckill.Store {
		return open(t, postgres.Config{Now: now, Events: true})
	})
}

func TestEvents_OffKeepsNothing(t *testing.T) {
	storetest.ExerciseNoEvents(t, func(t *testing.T, now func() time.Time) seckill.Store {
		return open(t, postgres.Config{Now: now})
	})
}

// BenchmarkEvents measures what it costs a worker that other systems hear of its orders. An operation is one order: made, and with
// relayed=true handed to a broker that takes no time, too.
func BenchmarkEvents(b *testing.B) {
	server := servers.NewPostgres(b)
	for _, way := range []struct{ events, relayed bool }{{false, false}, {true, false}, {true, true}} {
		b.Run(fmt.Sprintf("events=%t/relayed=%t", way.events, way.relayed), func(b *testing.B) {
			store := open(b, postgres.Config{URL: copyTemplate(b, server), Events: way.events})
			s := newSale(b, store, seckill.MaxItemQuantity, 2)
			records := make([]seckill.Record, b.N)
			for i := range records {
				records[i] = s.record(seckill.UserID(fmt.Sprint("u-", i*7919%1_000_003)), fmt.Sprint(i), 1)
			}
			b.ResetTimer()
			inBatches(b, records, 1, 500, func(records []seckill.Record) error {
				_, err := store.Accept(b.Context(), records)
				if err == nil && way.relayed {
					_, err = store.RelayEvents(b.Context(), 2_000, func(context.Context, []seckill.Order) error { return nil })
				}
				return err
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
		})
	}
}
