package shop

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"
)

// watchers is how many people look at the console.
const watchers = 10

// watched measures what people who watch the live view cost a gateway. During a sale on all cores
// it is the time per order. Without buyers it is the share of a core. There are ten activities with
// twenty items each.
func watched(t testing.TB, p *table, binary string) {
	s := newSite(t, binary)
	worker, gateway := s.node("worker"), s.node("gateway")
	bearer := gateway.desk.open()
	var items []string
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		items = append(items, gateway.desk.sell(name, 20, 1_000_000, 1)...)
	}
	for _, name := range items {
		untilSells(t, gateway.public, bearer, name, "first")
	}
	buy(t, gateway.public, bearer, 128, turnTime(), items) // warms the JVM
	worker.stop(t)                                         // its later work is no part of a turn
	sell := func(int) cost {
		return costOf([]*process{gateway.process}, func() (int64, time.Duration) {
			l := buy(t, gateway.public, bearer, 128, turnTime(), items)
			if l.refused > l.answers/100 {
				t.Errorf("of %d answers %d were refusals", l.answers, l.refused)
			}
			return l.answers - l.refused, l.took
		})
	}
	rest := func(int) cost {
		return costOf([]*process{gateway.process}, func() (int64, time.Duration) {
			pause(t, turnTime())
			return 1, turnTime()
		})
	}
	with := func(turn func(int) cost) func(int) cost {
		return func(connections int) cost {
			end := watch(gateway.desk, watchers)
			defer end()
			return turn(connections)
		}
	}
	c := turns([]way{{"alone", sell}, {"watched", with(sell)}, {"rest", rest}, {"rest, watched", with(rest)}}, 128)
	gatewayTime := of("gateway")
	alone, seen := median(c["alone"], gatewayTime), median(c["watched"], gatewayTime)
	p.add("ten watchers: a gateway's processor time for an order, without and with them", "%.2f and %.2f µs, %+.1f %%", alone, seen, 100*(seen/alone-1))
	p.add("ten watchers: accepted orders, without and with them", "%.0f/s and %.0f/s", median(c["alone"], rate), median(c["watched"], rate))
	share := func(name string) float64 {
		return median(c[name], gatewayTime) / float64(turnTime().Microseconds()) * 100
	}
	p.add("ten watchers: a gateway that nobody buys from, without and with them", "%.2f and %.2f %% of a core", share("rest"), share("rest, watched"))
}

// watch opens so many streams of events, and returns when each has its first snapshot. end closes
// them.
func watch(d *desk, n int) (end func()) {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.t.Context())
	over := make(chan error, n)
	for range n {
		request, err := http.NewRequestWithContext(ctx, "GET", d.url+"/admin/v1/events", nil)
		if err != nil {
			d.t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+adminToken)
		answer, err := http.DefaultClient.Do(request)
		if err != nil || answer.StatusCode != http.StatusOK {
			d.t.Fatalf("watch: %v, %v", answer, err)
		}
		first := make([]byte, 1)
		if _, err := io.ReadFull(answer.Body, first); err != nil {
			d.t.Fatal(err)
		}
		go func() {
			defer answer.Body.Close()
			_, err := io.Copy(io.Discard, answer.Body)
			over <- err
		}()
	}
	return func() {
		d.t.Helper()
		cancel()
		for range n {
			if err := <-over; !errors.Is(err, context.Canceled) {
				d.t.Errorf("a stream ended by itself: %v", err)
			}
		}
	}
}
