package limiter

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestTop_FindsTheHeavyHitters: keys that are refused often are found among a hundred thousand
// others. Their counts are too high by at most the reported error.
func TestTop_FindsTheHeavyHitters(t *testing.T) {
	var top top
	r := rand.New(rand.NewPCG(1, 2))
	p := &Policy{Name: "users", Key: User}
	exact := make(map[string]uint64)
	for range 200_000 {
		name := fmt.Sprint("crowd-", r.IntN(100_000))
		if r.IntN(10) == 0 {
			name = fmt.Sprint("flood-", r.IntN(4))
		}
		hash := uint64(len(name))
		for _, c := range []byte(name) {
			hash = hash*1_000_003 + uint64(c)
		}
		exact["m/"+name]++
		top.refused(p, hash, "m", name, int64(time.Hour))
	}
	list, _ := top.list(int64(time.Hour))
	found := 0
	for _, h := range list {
		if n := exact[h.Key]; h.Refused < n && n > 2000 || h.Refused > n+h.Over {
			t.Errorf("%+v, really %d", h, n)
		}
		if h.Refused > 4000 {
			found++
		}
	}
	if found != 4 || len(list) > 2*topKeys {
		t.Errorf("%d of 4 found among %d", found, len(list))
	}
	for _, c := range []struct {
		at   time.Duration
		want bool
	}{{time.Hour + 90*time.Second, true}, {time.Hour + 150*time.Second, false}, {time.Hour - time.Minute, false}} {
		if list, _ := top.list(int64(c.at)); len(list) > 0 != c.want {
			t.Errorf("after %v: %d keys", c.at, len(list))
		}
	}
}

// TestUsage: over two nodes it reports which keys are refused, by which limit, and how much each
// node admits.
func TestUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, enforced(
			Policy{Key: Caller, Rate: 400, Burst: 40}, Policy{Name: "web", Key: Caller, Match: "m/web", Rate: 100, Burst: 10},
			Policy{Key: IP, Rate: 1, Burst: 1}, Policy{Key: Global, Rate: MaxRate, Burst: 1000}, Policy{Key: SKU, Rate: 5, Burst: 5, Mode: Shadow}))
		n := []*siteNode{s.start(2), s.start(2)}
		meters := []*Meter{NewMeter(n[0].Limiter), NewMeter(n[1].Limiter)}
		both := func() Usage {
			var reports []NodeReport
			for i, m := range meters {
				reports = append(reports, NodeReport{Node: fmt.Sprint("n", i), Report: m.Report(time.Now())})
			}
			return Sum(reports)
		}
		both()
		s.offer(1000, 5*time.Second, Request{Merchant: "m", Caller: "web", Activity: "a", SKU: "x"}, func(i int) *siteNode { return n[i%4/3] })
		usage := both()
		of := func(name string) ClusterUsage {
			for _, p := range usage.Policies {
				if p.Name == name {
					return p
				}
			}
			t.Fatalf("no %s in %+v", name, usage)
			return ClusterUsage{}
		}
		web := of("web")
		if web.Allowed < 90 || web.Allowed > 110 || web.Refused < 850 || len(web.Nodes) != 2 || web.Share < 0.9 || web.Share > 1.1 {
			t.Errorf("%+v", web)
		}
		if sku := of("sku"); sku.Shadowed < 80 || sku.Refused != 0 {
			t.Errorf("%+v", sku)
		}
		if len(usage.Top) != 2 || usage.Top[0].Key != "m/web" || usage.Top[0].Policy != "web" || usage.Top[0].Refused < 4000 ||
			len(usage.Top[0].Nodes) != 2 || usage.Top[1].Key != "a/x" {
			t.Errorf("%+v", usage.Top)
		}
		s.offer(100, 2*time.Second, Request{IP: netip.MustParseAddr("2001:db8:1:2:3::4")}, func(int) *siteNode { return n[0] })
		if usage = both(); usage.Top[2].Key != "2001:db8:1:2::" || usage.Top[2].Refused < 150 {
			t.Errorf("%+v", usage.Top)
		}
		s.stop(n...)
	})
}

// TestTop_AllocatesNothing: refusals are counted during a flood.
func TestTop_AllocatesNothing(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: User, Rate: 0.01, Burst: 1}, Policy{Key: IP, Rate: 0.01, Burst: 1}), 1)
	user := Request{Merchant: "m", User: "u"}
	address := Request{IP: netip.MustParseAddr("2001:db8:ffff:ffff::1")}
	n := testing.AllocsPerRun(1000, func() {
		l.Allow(&user, at(0))
		l.Allow(&address, at(0))
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
