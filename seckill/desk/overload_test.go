package desk

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// places is how many purchases a gateway admits at once: 80 % of 8,192 requests in flight.
const places = 6_553

// A hot item with many gateways: each of twenty gateways has a twentieth of the capacity of the
// shard's node. Its crowd wants up to ten times as much. The real desk and line of one gateway run
// in virtual time. A hold call takes as long as its claims take at the gateway's share. Pages are
// acknowledged after 5 ms. The accepted rate stays at 90 % of its peak or above, for shares from
// 200/s to 20,000/s. At 200/s a full round would take longer than the accept deadline.
func TestL7_AcceptedRateUnderOverload(t *testing.T) {
	for _, share := range []int{200, 500, 2_000, 5_000, 20_000} {
		t.Run(strconv.Itoa(share), func(t *testing.T) {
			if testing.Short() && share > 2_000 {
				t.Skip("hundreds of thousands of purchases")
			}
			peak := 0.0
			for _, load := range []float64{0.9, 1.5} {
				peak = max(peak, accepted(t, share, load))
			}
			overloaded := accepted(t, share, 10)
			t.Logf("share %d/s: peak %.0f/s, at ten times the share %.0f/s", share, peak, overloaded)
			if overloaded < 0.9*peak || peak < 0.85*float64(share) {
				t.Errorf("accepted %.0f/s of a peak of %.0f/s", overloaded, peak)
			}
		})
	}
}

// accepted returns how many purchases per second are accepted when load times the share arrive.
func accepted(t *testing.T, share int, load float64) (rate float64) {
	const warm, measured = 2 * time.Second, 2 * time.Second
	synctest.Test(t, func(t *testing.T) {
		stock := &stubStock{holding: func(calls []*inventory.HoldCall) {
			time.Sleep(time.Duration(len(calls[0].Claims)) * time.Second / time.Duration(share))
		}}
		s := openShop(t, stock, &stubQueue{after: 5 * time.Millisecond}, seckill.DefaultConfig(), testItems(1, 1)...)
		var running sync.WaitGroup
		var inside, sold, outcomes atomic.Int64
		const step = time.Millisecond
		arrivals, due := load*float64(share)*step.Seconds(), 0.0
		began := time.Now()
		for i := 0; time.Since(began) < warm+measured; time.Sleep(step) {
			for due += arrivals; due >= 1; due-- {
				if inside.Load() >= places {
					continue // refused at the gate
				}
				inside.Add(1)
				i++
				p := wish("u", strconv.Itoa(i))
				running.Go(func() {
					defer inside.Add(-1)
					_, err := s.Buy(t.Context(), p)
					if outcomes.Add(1); err == nil && time.Since(began) >= warm && time.Since(began) < warm+measured {
						sold.Add(1)
					}
				})
			}
		}
		running.Wait()
		if testing.Verbose() {
			fmt.Printf("share %d/s, load %.1f: %d answered, %d accepted while measured, %+v\n",
				share, load, outcomes.Load(), sold.Load(), s.Lines()[0])
		}
		rate = float64(sold.Load()) / measured.Seconds()
	})
	return rate
}
