package shop

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// flooded measures how much of a sale's rate remains during floods of refusals on the same
// processors: unknown keys, a sold-out item, and both. The sale alone and the sale with floods take
// turns. The load generator uses the same processors, too. The floods come from clients that wait
// for their answers, as browsers do.
func flooded(t testing.TB, p *table, binary string) {
	const buyers, crowd = 32, 256
	s := newSite(t, binary)
	s.node("worker")
	gateway := s.node("gateway")
	bearer := gateway.desk.open()
	one := gateway.desk.sell("one", 1, 10_000_000, 1)
	gone := gateway.desk.sell("gone", 1, 1, 1)
	untilSells(t, gateway.public, bearer, gone[0], "first-and-last")
	untilSells(t, gateway.public, bearer, one[0], "first")
	buy(t, gateway.public, bearer, buyers, turnTime(), one) // warms the JVM
	floods := []struct{ name, bearer string }{{"401s", "Bearer psk_nobody"}, {"sold-out answers", bearer}}
	beside := func(which ...int) func(int) cost {
		return func(int) cost {
			return costOf([]*process{gateway.process}, func() (int64, time.Duration) {
				var all sync.WaitGroup
				for _, i := range which {
					all.Go(func() {
						l := buy(t, gateway.public, floods[i].bearer, crowd, turnTime(), gone)
						if l.refused < l.answers {
							t.Errorf("of %d %s %d were refusals", l.answers, floods[i].name, l.refused)
						}
						t.Logf("%s: %.0f/s", floods[i].name, float64(l.answers)/l.took.Seconds())
					})
				}
				l := buy(t, gateway.public, bearer, buyers, turnTime(), one)
				all.Wait()
				return l.answers - l.refused, l.took
			})
		}
	}
	alone := way{"alone", beside()}
	ways := []way{alone, {"401s", beside(0)}, alone, {"sold-out answers", beside(1)}, alone, {"both", beside(0, 1)}}
	c := turns(ways, buyers)
	p.add(fmt.Sprintf("a sale alone, %d connections", buyers), "%.0f/s", median(c["alone"], rate))
	for i := 1; i < len(ways); i += 2 {
		kept := make([]cost, *rounds) // compared with the turn before, because others use the machine, too
		for round := range kept {
			kept[round].rate = c[ways[i].name][round].rate / c["alone"][round*len(ways)/2+i/2].rate
		}
		p.add(fmt.Sprintf("the same beside a flood of %s, %d connections each", ways[i].name, crowd), "%.2f × (%.0f/s)",
			median(kept, rate), median(c[ways[i].name], rate))
	}
}
