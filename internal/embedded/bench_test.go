package embedded_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/embedded"
	"github.com/penstock/penstock/internal/proof/kafkatest"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// pageOf is a page of one promise as a gateway writes it.
func pageOf(n int) []byte {
	caller := seckill.CallerRef{Merchant: "acme", Caller: "shop"}
	user := seckill.UserID(fmt.Sprintf("u-%d", n))
	at := time.UnixMilli(1_750_000_000_000 + int64(n))
	return seckill.AppendPage(nil, &seckill.Page{
		PageHeader: seckill.PageHeader{Ref: inventory.Ref{Shard: inventory.ShardID(n % 4), Epoch: 3}, Seq: uint64(n), Put: at},
		Promises: []seckill.Promise{{
			Order:  seckill.NewOrderID(7, caller, user, fmt.Sprint(n)),
			Caller: caller, Activity: "618-phones", SKU: "phone-x", User: user, Quantity: 1,
			Amount: seckill.Money{Minor: 199_900, Currency: "CNY"}, Accepted: at,
		}},
	})
}

// BenchmarkPut measures acknowledged records with so many producers, each of which waits for its
// answer. It is what docs/adr/0006 quotes:
//
//	go test ./internal/embedded -run '^$' -bench Put -benchtime 2s
func BenchmarkPut(b *testing.B) {
	for _, durable := range []bool{false, true} {
		for _, producers := range []int{1, 64, 1024} {
			b.Run(fmt.Sprintf("durable=%t/producers=%d", durable, producers), func(b *testing.B) {
				benchmarkPut(b, durable, producers)
			})
		}
	}
}

func benchmarkPut(b *testing.B, durable bool, producers int) {
	cfg := embedded.Config{DataDir: filepath.Join(b.TempDir(), "data"), Durable: durable}
	queue := kafkatest.Open(b, queueConfig(open(b, cfg)), new(kafkatest.Books))
	kafkatest.Produce(b, queue, 0, 1)
	values := make([][]byte, 1<<14)
	for n := range values {
		values[n] = pageOf(n)
	}
	var next atomic.Int64
	var work sync.WaitGroup
	b.ResetTimer()
	for range producers {
		work.Go(func() {
			answer := make(chan error, 1)
			done := func(err error) { answer <- err }
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if queue.Reserve() != nil {
					b.Error("no slot")
					return
				}
				queue.Put(inventory.ShardID(n%4), values[n%int64(len(values))], 1, done)
				if err := <-answer; err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acks/s")
	b.ReportMetric(float64(size(b, cfg.DataDir))/float64(b.N), "disk-B/op")
}
