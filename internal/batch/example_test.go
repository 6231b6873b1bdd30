package batch_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/penstock/penstock/internal/batch"
)

// A store that can read many rows in one query serves buyers that ask for one row each.
func Example() {
	prices := map[string]int{"phone-x": 1999, "phone-y": 2999}
	b, err := batch.New(batch.Config{Cap: 500, Queue: 10_000, Timeout: time.Second},
		func(_ context.Context, skus []string, out []int) error { // SELECT … WHERE sku = ANY($1)
			for i, sku := range skus {
				out[i] = prices[sku]
			}
			return nil
		})
	if err != nil {
		panic(err)
	}
	defer b.Close()

	var buyers sync.WaitGroup
	for range 3 {
		buyers.Go(func() {
			price, err := b.Do(context.Background(), "phone-x")
			fmt.Println(price, err)
		})
	}
	buyers.Wait()
	// Output:
	// 1999 <nil>
	// 1999 <nil>
	// 1999 <nil>
}
