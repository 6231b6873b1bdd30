package limiter

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/internal/proof/raced"
)

// TestHostile_TenThousandPolicies: ten thousand policies are applied and work, and a decision needs
// no more memory.
func TestHostile_TenThousandPolicies(t *testing.T) {
	var policies []Policy
	for i := range MaxPolicies {
		policies = append(policies, Policy{Name: fmt.Sprint("p", i), Key: Caller, Match: fmt.Sprint("m/c", i), Rate: 1, Burst: 2})
	}
	l := newLimiter(t, DefaultConfig(), enforced(policies...), 1)
	for _, i := range []int{0, 5000, MaxPolicies - 1} {
		req := Request{Merchant: "m", Caller: fmt.Sprint("c", i)}
		for j := range 3 {
			if d := l.Allow(&req, at(0)); d.Allowed != (j < 2) || !d.Allowed && d.Policy.Name != fmt.Sprint("p", i) {
				t.Errorf("caller %d, request %d: %+v", i, j, d)
			}
		}
	}
	req := Request{Merchant: "m", Caller: "c1"}
	if n := testing.AllocsPerRun(100, func() { l.Allow(&req, at(0)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	one := Document{Policies: append(policies, Policy{Name: "more", Key: User, Rate: 1, Burst: 1, Mode: Enforce})}
	if err := one.Validate(); err == nil {
		t.Error("one more is taken")
	}
}

// TestHostile_InventedNames: each kind gets 100,000 invented keys at one moment. The heap is as
// large as after the first few, and no key gets more than its burst.
func TestHostile_InventedNames(t *testing.T) {
	raced.Skip(t)
	var policies []Policy
	for _, key := range kindNames {
		policies = append(policies, Policy{Key: key, Rate: 1, Burst: 100})
	}
	policies[global] = Policy{Key: Global, Rate: MaxRate, Burst: MaxBurst}
	cfg := testConfig()
	l := newLimiter(t, cfg, enforced(policies...), 1)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	ask := func(i int) {
		n := fmt.Sprint("x", i)
		req := Request{
			Merchant: n, Caller: n, User: n, Activity: n, SKU: n,
			IP: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}),
		}
		l.Allow(&req, at(time.Duration(i)*time.Microsecond))
	}
	for i := range 20_000 {
		ask(i)
	}
	before := heap()
	for i := 20_000; i < 120_000; i++ {
		ask(i)
	}
	if after := heap(); after > before+(1<<20) {
		t.Errorf("100,000 further names cost %d bytes", after-before)
	}
	runtime.KeepAlive(l)
}

// TestHostile_ClockJumps: a clock that jumps ahead and back gives at most one full bucket, and
// refuses nobody for ever. Shares of merchants go on, too.
func TestHostile_ClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, -30 * time.Second, 20 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour} {
		l := newLimiter(t, testConfig(), enforced(Policy{Key: Global, Rate: 100, Burst: 50}), 1)
		two := merchants{"a": 30, "hog": 1000}
		two.offer(l, 0, 5*time.Second)
		let := two.offer(l, 5*time.Second+jump, 15*time.Second+jump)
		waits := max(-jump, 0)
		if waits > time.Duration(rewind) {
			waits = 0 // such a clock isn't waited for
		}
		span := 10*time.Second - min(waits, 10*time.Second)
		if all := float64(let["a"] + let["hog"]); all > 100*10+50+5 || all < 100*span.Seconds()-155 { // a second may be waited out
			t.Errorf("jump by %v: %.0f in 10 s", jump, all)
		}
		if span == 10*time.Second && let["a"] < 255 {
			t.Errorf("jump by %v: a merchant within its share got %d of 300", jump, let["a"])
		}
	}
}

// TestHostile_PoolClockGoesBack: the pool's clock goes back after a failover, and the new one has
// forgotten everything: the limit is neither lost nor doubled.
func TestHostile_PoolClockGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, enforced(Policy{Key: Caller, Rate: 200, Burst: 200}))
		a, b := s.start(2), s.start(2)
		pick := func(i int) *siteNode { return []*siteNode{a, b}[i%2] }
		req := Request{Merchant: "m", Caller: "c"}
		s.offer(2000, 10*time.Second, req, pick)
		for _, skew := range []time.Duration{-time.Minute, -time.Hour} {
			s.pool.mu.Lock()
			s.pool.skew = skew
			clear(s.pool.buckets)
			s.pool.mu.Unlock()
			from := s.now()
			s.offer(2000, 12*time.Second, req, pick)
			if got := s.between(from, from+12*time.Second); got > 200*12+60 || got < 200*12*9/10 {
				t.Errorf("clock at %v, everything forgotten: %d in 12 s of 2,400", skew, got)
			}
		}
		s.pool.mu.Lock()
		s.pool.skew = -2 * time.Hour // what there is lies ahead
		s.pool.mu.Unlock()
		from := s.now()
		s.offer(2000, 12*time.Second, req, pick)
		if got := s.between(from, from+12*time.Second); got > 200*12+60 || got < 200*12*9/10 {
			t.Errorf("clock two hours back: %d in 12 s of 2,400", got)
		}
		s.stop(a, b)
	})
}
