package desk

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// fastStock accepts every claim after a pause that stands for the round trip.
type fastStock struct {
	stubStock
	trip time.Duration
	seq  atomic.Uint64
}

func (s *fastStock) Hold(_ context.Context, calls []*inventory.HoldCall) {
	if s.trip > 0 {
		<-time.After(s.trip)
	}
	for _, call := range calls {
		call.Verdicts = call.Verdicts[:0]
		for range call.Claims {
			call.Verdicts = append(call.Verdicts, inventory.Held)
		}
		call.Seq = s.seq.Add(1)
	}
}

// fastQueue acknowledges pages in a goroutine of its own, in order.
type fastQueue struct {
	stubQueue
	dones chan func(error)
	pages atomic.Int64
	slots atomic.Int64
}

func newFastQueue(t testing.TB) *fastQueue {
	q := &fastQueue{dones: make(chan func(error), 1<<15)}
	var running sync.WaitGroup
	running.Go(func() {
		for done := range q.dones {
			done(nil)
		}
	})
	t.Cleanup(func() {
		close(q.dones)
		running.Wait()
	})
	return q
}

func (q *fastQueue) Reserve() error { q.slots.Add(1); return nil }
func (q *fastQueue) Release(n int)  { q.slots.Add(-int64(n)) }
func (q *fastQueue) Put(_ inventory.ShardID, _ []byte, slots int, done func(error)) {
	q.pages.Add(1)
	q.slots.Add(-int64(slots))
	q.dones <- done
}

// processorTime returns the processor time of this process.
func processorTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBuy measures the cost of the desk itself. cpu-ns/op is the processor time of a purchase,
// from Buy to its receipt, including the encoding of the page and all wake-ups. A round trip to the
// stock takes 200 µs here.
func BenchmarkBuy(b *testing.B) {
	for _, crowd := range []int{128, 1024} {
		for _, items := range []int{1, 16} {
			b.Run(fmt.Sprintf("buyers=%d/items=%d", crowd, items), func(b *testing.B) {
				stock, queue := &fastStock{trip: 200 * time.Microsecond}, newFastQueue(b)
				cfg := seckill.DefaultConfig()
				cfg.AcceptDeadline, cfg.SweepAge = time.Hour, 2*time.Hour // however busy the machine is
				d := openDesk(b, cfg, Parts{Stock: stock, Queue: queue, Store: &stubStore{}}, testItems(items, 1))
				keys := make([]string, 1<<12)
				for i := range keys {
					keys[i] = "key-" + strconv.Itoa(i)
				}
				var next atomic.Int64
				b.ReportAllocs()
				b.ResetTimer()
				began := processorTime(b)
				var running sync.WaitGroup
				for buyer := range crowd {
					running.Go(func() {
						p := wish("user-"+strconv.Itoa(buyer), "")
						p.SKU = sku(buyer%items + 1)
						for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
							p.Key, p.Arrived = keys[n%int64(len(keys))], time.Now()
							if _, err := d.Buy(b.Context(), p); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				running.Wait()
				b.ReportMetric(float64((processorTime(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(b.N)/float64(queue.pages.Load()), "page")
			})
		}
	}
}

// BenchmarkRefuse measures a purchase that memory refuses.
func BenchmarkRefuse(b *testing.B) {
	stock := &stubStock{soldOut: func(inventory.ShardID) bool { return true }}
	s := openShop(b, stock, &stubQueue{}, seckill.DefaultConfig(), testItems(1, 1)...)
	p := wish("u", "k")
	b.ReportAllocs()
	for b.Loop() {
		if !s.Refuses(p) {
			b.Fatal("not refused")
		}
	}
}
