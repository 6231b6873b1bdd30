package limiter

import (
	"net/netip"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/raced"
)

func sevenKinds() Document {
	var policies []Policy
	for _, key := range kindNames {
		policies = append(policies, Policy{Key: key, Rate: 1000, Burst: 1000})
	}
	policies = append(policies, Policy{Name: "own", Key: Caller, Match: "m/own", Rate: 1, Burst: 2},
		Policy{Name: "watched", Key: SKU, Match: "a/s", Rate: 1, Burst: 1, Mode: Shadow})
	return enforced(policies...)
}

// TestFiveLevels_OfAMillionUsers_AllocateNothing: after a million users, the decisions of
// BenchmarkAllow allocate nothing, whether they admit or refuse.
func TestFiveLevels_OfAMillionUsers_AllocateNothing(t *testing.T) {
	raced.Skip(t)
	doc := fiveKinds(MaxRate, MaxBurst)
	doc.Policies[4].Rate, doc.Policies[4].Burst = 0.001, 6 // of an address, which four users share
	for i := range doc.Policies {
		doc.Policies[i].Concurrency = MaxConcurrency
	}
	l := newLimiter(t, DefaultConfig(), doc, 1)
	crowd := newBuyer()
	decide := func(i int) Decision {
		req := crowd.be(i % benchUsers)
		d := l.Allow(req, at(0))
		l.Leave(req)
		return d
	}
	allowed := 0
	for i := range benchUsers {
		if decide(i).Allowed {
			allowed++
		}
	}
	if allowed < benchUsers*999/1000 { // a few find no slot, and share
		t.Errorf("%d of a million users are let in", allowed)
	}
	i, refused := 0, 0
	if n := testing.AllocsPerRun(20_000, func() {
		if i++; !decide(i).Allowed {
			refused++
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if refused < 5_000 || refused > 15_000 {
		t.Errorf("%d of 20,000 are refused: want both kinds", refused)
	}
}

func TestDecisionsAllocateNothing(t *testing.T) {
	l := newLimiter(t, testConfig(), sevenKinds(), 1)
	req := Request{Merchant: "m", Caller: "c", User: "u", Activity: "a", SKU: "s", IP: netip.MustParseAddr("2001:db8::1")}
	refused := Request{Merchant: "m", Caller: "own", User: "u", Activity: "a", SKU: "s", IP: req.IP}
	head := make([]byte, 0, 128)
	trusted, forwarded := trustedNets(), "1.1.1.1, 2001:db8::1, 10.0.0.2"
	var now time.Duration
	n := testing.AllocsPerRun(1000, func() {
		now += time.Millisecond
		req.IP = ClientIP(netip.MustParseAddr("10.0.0.1"), forwarded, trusted)
		d := l.Allow(&req, at(now))
		if !d.Allowed {
			t.Fatalf("%+v", d)
		}
		l.Allow(&refused, at(now))
		d = l.Allow(&refused, at(now))
		d = l.Allow(&refused, at(now))
		if d.Allowed || d.Policy.Name != "own" {
			t.Fatalf("%+v", d)
		}
		head = AppendPolicy(AppendRateLimit(head[:0], &d), &d)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
