package sqlite_test

import (
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/storetest"
	"github.com/penstock/penstock/internal/sqlite"
	"github.com/penstock/penstock/seckill"
)

func BenchmarkStore(b *testing.B) {
	for _, synchronous := range []string{"normal", "full"} {
		b.Run("synchronous="+synchronous, func(b *testing.B) {
			storetest.Benchmark(b, func(b *testing.B, now func() time.Time) seckill.Store {
				return open(b, sqlite.Config{Synchronous: synchronous, Now: now, Shards: storetest.Shards})
			})
		})
	}
}
