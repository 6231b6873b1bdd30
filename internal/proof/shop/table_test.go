package shop

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/wait"
)

// line is a row of the printed table.
type line struct{ what, figure string }

// table is what a run prints in the end.
type table struct {
	t     testing.TB
	lines []line
}

func (p *table) add(what, format string, args ...any) {
	p.lines = append(p.lines, line{what, fmt.Sprintf(format, args...)})
	p.t.Logf("%s: "+format, append([]any{what}, args...)...)
}

func (p *table) print() {
	var b strings.Builder
	b.WriteString("\n| what | figure |\n| --- | --- |\n")
	for _, l := range p.lines {
		fmt.Fprintf(&b, "| %s | %s |\n", l.what, l.figure)
	}
	p.t.Log(b.String())
}

// median returns the median of a figure of the costs.
func median(costs []cost, figure func(cost) float64) float64 {
	all := make([]float64, len(costs))
	for i := range costs {
		all[i] = figure(costs[i])
	}
	slices.Sort(all)
	if n := len(all); n%2 == 0 {
		return (all[n/2-1] + all[n/2]) / 2
	}
	return all[len(all)/2]
}

func rate(c cost) float64  { return c.rate }
func total(c cost) float64 { return c.total }
func of(name string) func(cost) float64 {
	return func(c cost) float64 { return c.each[name] }
}

// upToAck sums what an order costs until its 202.
func upToAck(c cost) float64 { return c.each["gateway"] + c.each["Redis"] + c.each["Kafka"] }

// way is one of several that take turns.
type way struct {
	name string
	turn func(connections int) cost
}

// turns lets all ways take their turns and returns their costs by name.
func turns(ways []way, connections int) map[string][]cost {
	out := make(map[string][]cost)
	for range *rounds {
		for _, w := range ways {
			out[w.name] = append(out[w.name], w.turn(connections))
		}
	}
	return out
}

func turnTime() time.Duration { return time.Duration(*seconds) * time.Second }

// TestShop prints the table of docs/performance.md. It asserts only that the measured answers are
// the expected ones.
func TestShop(t *testing.T) {
	if !*measure {
		t.Skip("measures, for many minutes: run it with -shop.measure, or make bench-shop")
	}
	binary := build(t)
	p := &table{t: t}
	defer p.print()
	found := false
	for _, r := range []struct {
		name string
		run  func(t testing.TB, p *table, binary string)
	}{
		{"accepted", accepted}, {"order", order}, {"idle", idle}, {"flush", flushed}, {"million", million}, {"watched", watched},
		{"flood", flooded},
	} {
		if strings.Contains(r.name, *rows) {
			found = true
			t.Run(r.name, func(t *testing.T) {
				p.t = t
				r.run(t, p, binary)
			})
			p.t = t
		}
	}
	if !found {
		t.Fatalf("no row has %q in its name", *rows)
	}
}

// accepted compares the way to a 202 with its peers, without a worker.
func accepted(t testing.TB, p *table, binary string) {
	s := newSite(t, binary, unrewritten...)
	worker := s.node("worker")
	gateway := s.node("gateway")
	bearer := gateway.desk.open()
	one := gateway.desk.sell("one", 1, 10_000_000, 1)
	spread := gateway.desk.sell("spread", 1, 10_000_000, 4)
	many := gateway.desk.sell("many", 10_000, 100_000, 1)
	gone := gateway.desk.sell("gone", 1, 1, 1)
	untilSells(t, gateway.public, bearer, gone[0], "first-and-last")
	for _, list := range [][]string{one, spread, many} {
		untilSells(t, gateway.public, bearer, list[0], "first")
	}
	worker.stop(t)
	barePeer, bareURL := startPeer(t, "bare", "", "")
	plainPeer, plainURL := startPeer(t, "plain", s.redisAt, s.kafkaAt)
	barePeer.name, plainPeer.name = "gateway", "gateway"
	sell := func(by *process, url, key string, items []string) func(int) cost {
		return func(connections int) cost {
			return costOf([]*process{by, s.redis, s.kafka}, func() (int64, time.Duration) {
				l := buy(t, url, key, connections, turnTime(), items)
				if ok := l.answers - l.refused; ok < l.answers*99/100 {
					t.Errorf("of %d answers %d were refusals", l.answers, l.refused)
				}
				return l.answers - l.refused, l.took
			})
		}
	}
	refuse := func(by *process, url, key string, items []string) func(int) cost {
		return func(connections int) cost {
			return costOf([]*process{by}, func() (int64, time.Duration) {
				l := buy(t, url, key, connections, turnTime(), items)
				if l.refused < l.answers*99/100 {
					t.Errorf("of %d answers %d were refusals", l.answers, l.refused)
				}
				return l.refused, l.took
			})
		}
	}
	ways := []way{
		{"bare", refuse(barePeer, bareURL, "none", one)},
		{"refused", refuse(gateway.process, gateway.public, bearer, gone)},
		{"plain", sell(plainPeer, plainURL, plainKey, one)},
		{"one item", sell(gateway.process, gateway.public, bearer, one)},
		{"10,000 items", sell(gateway.process, gateway.public, bearer, many)},
		{"spread over 4", sell(gateway.process, gateway.public, bearer, spread)},
	}
	sell(plainPeer, plainURL, plainKey, one)(128) // warms the JVM
	for _, connections := range []int{128, 1024} {
		at := fmt.Sprintf(" at %d connections", connections)
		c := turns(ways, connections)
		for _, w := range ways[2:] {
			m := c[w.name]
			p.add("accepted, "+w.name+at, "%.0f/s; gateway %.1f, Redis %.1f, Kafka %.1f µs", median(m, rate),
				median(m, of("gateway")), median(m, of("Redis")), median(m, of("Kafka")))
		}
		ratio := func(a, b string, f func(cost) float64) float64 { return median(c[a], f) / median(c[b], f) }
		p.add("accepted/s against plain"+at, "%.2f ×", ratio("one item", "plain", rate))
		p.add("gateway + Redis + Kafka against plain"+at, "%.2f ×", ratio("one item", "plain", upToAck))
		p.add("gateway alone against plain"+at, "%.2f ×", ratio("one item", "plain", of("gateway")))
		p.add("gateway alone against a bare refusal"+at, "%.2f ×", ratio("one item", "bare", of("gateway")))
		p.add("10,000 items evenly against one, accepted/s"+at, "%.2f ×", ratio("10,000 items", "one item", rate))
		p.add("spread over 4 shards against 1, accepted/s"+at, "%.2f ×", ratio("spread over 4", "one item", rate))
		p.add("refusal from memory against bare, processor time"+at, "%.2f × (%.1f against %.1f µs)",
			ratio("refused", "bare", total), median(c["refused"], total), median(c["bare"], total))
	}
}

// untilSells buys until a purchase is accepted: units of a new sale take a moment to arrive.
func untilSells(t testing.TB, url, bearer, name, user string) time.Duration {
	t.Helper()
	began := time.Now()
	for tries := 0; ; tries++ {
		status := attempt(t, url, bearer, name, fmt.Sprint(user, "-", tries))
		if status/100 == 2 {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			t.Fatalf("%s does not sell: %d", name, status)
		}
		pause(t, 5*time.Millisecond)
	}
}

// order measures an order that has its row, over all processes, with one gateway and one worker.
func order(t testing.TB, p *table, binary string) {
	ways := []way{{"this", orderOn(t, binary)}}
	if *baseline != "" {
		ways = append(ways, way{"baseline", orderOn(t, *baseline)})
	}
	c := turns(ways, 128)
	for _, w := range ways {
		m := c[w.name]
		p.add("an order with its row, "+w.name+", 128 connections",
			"%.0f/s; gateway %.1f, worker %.1f, Redis %.1f, Kafka %.1f, PostgreSQL %.1f: %.1f µs", median(m, rate),
			median(m, of("gateway")), median(m, of("worker")), median(m, of("Redis")), median(m, of("Kafka")),
			median(m, of("PostgreSQL")), median(m, total))
	}
	if *baseline != "" {
		p.add("an order with its row against the baseline, processor time", "%.2f ×",
			median(c["this"], total)/median(c["baseline"], total))
	}
}

// orderOn starts an installation and returns a turn that buys and waits for the rows.
func orderOn(t testing.TB, binary string) func(int) cost {
	s := newSite(t, binary, unrewritten...)
	worker, gateway := s.node("worker"), s.node("gateway")
	bearer := gateway.desk.open()
	items := gateway.desk.sell("one", 1, 10_000_000, 0)
	untilSells(t, gateway.public, bearer, items[0], "first")
	processes := []*process{gateway.process, worker.process, s.redis, s.kafka, s.postgres}
	buy(t, gateway.public, bearer, 128, turnTime(), items) // warms the JVM
	untilCaughtUp(gateway.desk, "one")
	return func(connections int) cost {
		return costOf(processes, func() (int64, time.Duration) {
			l := buy(t, gateway.public, bearer, connections, turnTime(), items)
			if l.refused > l.answers/100 {
				t.Errorf("of %d answers %d were refusals", l.answers, l.refused)
			}
			untilCaughtUp(gateway.desk, "one")
			return l.answers - l.refused, l.took
		})
	}
}

// untilCaughtUp returns when every accepted order of the activity has its row and its confirmation.
func untilCaughtUp(d *desk, activity string) {
	d.t.Helper()
	for began := time.Now(); time.Since(began) < patience; pause(d.t, 100*time.Millisecond) {
		var audit struct {
			Items []struct {
				InFlight int64 `json:"in_flight"`
			}
		}
		if err := json.Unmarshal(d.ask("GET", "/admin/v1/activities/"+activity+"/audit", nil), &audit); err != nil {
			d.t.Fatal(err)
		}
		flying := int64(0)
		for _, item := range audit.Items {
			flying += item.InFlight
		}
		if flying == 0 {
			return
		}
	}
	d.t.Fatal("the workers do not catch up")
}

// pause waits, and fails the test if its context has ended.
func pause(t testing.TB, d time.Duration) {
	t.Helper()
	if !wait.For(t.Context(), d) {
		t.Fatal(t.Context().Err())
	}
}
