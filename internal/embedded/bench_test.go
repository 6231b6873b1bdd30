package embedded_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"penstock/internal/embedded"
	"penstock/internal/proof/kafkatest"
	"penstock/seckill"
)

// orderRecord is an order record as a gateway writes it.
func orderRecord(n int) (seckill.OrderID, []byte) {
	caller := seckill.CallerRef{Merchant: "acme", Caller: "shop"}
	user := seckill.UserID(fmt.Sprintf("u-%d", n))
	r := seckill.Record{
		Order:  seckill.NewOrderID(7, caller, "618-phones", "phone-x", user, fmt.Sprint(n)),
		Caller: caller, Activity: "618-phones", SKU: "phone-x", User: user, Quantity: 1,
		Amount: seckill.Money{Minor: 199_900, Currency: "CNY"},
		Grant:  seckill.Provenance{Epoch: 3, Seq: uint64(n)}, Accepted: time.UnixMilli(1_750_000_000_000 + int64(n)),
	}
	return r.Order, seckill.AppendRecord(nil, &r)
}

// BenchmarkPut measures acknowledged records with so many producers, each of which waits for its answer. It is what docs/adr/0006
// quotes:
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
	queue := kafkatest.Open(b, queueConfig(open(b, cfg)))
	kafkatest.Produce(b, queue, 0, 1)
	keys, values := make([]seckill.OrderID, 1<<14), make([][]byte, 1<<14)
	for n := range keys {
		keys[n], values[n] = orderRecord(n)
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
				queue.Put(keys[n%int64(len(keys))], values[n%int64(len(keys))], done)
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
