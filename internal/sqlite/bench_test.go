package sqlite_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"penstock/internal/sqlite"
	"penstock/internal/storetest"
	"penstock/seckill"
)

// BenchmarkAccept: batches of 500 are what a worker takes from a flooded queue, 1 is a commit for each order.
func BenchmarkAccept(b *testing.B) {
	for _, synchronous := range []string{"normal", "full"} {
		for _, batch := range []int{1, 50, 500} {
			b.Run(fmt.Sprintf("synchronous=%s/batch=%d", synchronous, batch), func(b *testing.B) {
				storetest.BenchmarkAccept(b, func(b *testing.B, now func() time.Time) seckill.Store {
					store, err := sqlite.Open(b.Context(), sqlite.Config{
						Path: filepath.Join(b.TempDir(), "bench.db"), Synchronous: synchronous, Now: now,
					})
					if err != nil {
						b.Fatal(err)
					}
					b.Cleanup(func() {
						if err := store.Close(); err != nil {
							b.Error(err)
						}
					})
					return store
				}, batch)
			})
		}
	}
}
