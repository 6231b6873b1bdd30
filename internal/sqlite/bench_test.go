package sqlite_test

import (
	"testing"
	"time"

	"penstock/internal/proof/storetest"
	"penstock/internal/sqlite"
	"penstock/seckill"
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
