package limiter

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The clock of synctest begins at midnight UTC of the first of January 2000.

// ask asks several times, one after another. It returns how many were admitted, and the last
// refusal.
func ask(n *siteNode, times int, req Request) (let int, refused Decision) {
	for range times {
		one := req
		d := n.Allow(&one, time.Now())
		n.Leave(&one)
		if d.Allowed {
			let++
		} else {
			refused = d
		}
		time.Sleep(3 * time.Millisecond) // synctest's clock
	}
	return let, refused
}

// TestQuota_OverTheCluster: three nodes together admit the day's quota, whichever of them is asked,
// also after one has restarted. The refusal says when the next day begins; then the quota is there
// again. This holds for each kind of key, with a bucket and without one.
func TestQuota_OverTheCluster(t *testing.T) {
	for _, policy := range []Policy{
		{Key: Caller, Quota: 50}, {Key: User, Quota: 50}, {Key: Merchant, Quota: 50, Rate: 15, Burst: 400}, {Key: SKU, Quota: 50, Rate: 1000, Burst: 1000},
		{Key: IP, Quota: 50, Zone: "Asia/Shanghai"}, {Key: Activity, Quota: 50, Concurrency: 7},
	} {
		t.Run(fmt.Sprintf("%s %v/s", policy.Key, policy.Rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, enforced(policy))
				n := []*siteNode{s.start(3), s.start(3), s.start(3)}
				let := 0
				var last Decision
				for i := range 30 {
					got, refused := ask(n[i%3], 4, everybody())
					let += got
					if refused.Policy != nil {
						last = refused
					}
				}
				left := 24 * time.Hour
				if policy.Zone != "" {
					left = 16 * time.Hour // of that day
				}
				left -= s.now()
				if let != 50 || last.Bound != ByQuota || last.Limit != 50 || last.RetryAfter > left+time.Second || last.RetryAfter < left-time.Second {
					t.Errorf("%d let in, then %+v; the day has %v", let, last, left)
				}
				n[0].stop()
				time.Sleep(time.Second)
				n[0] = s.start(3)
				time.Sleep(3 * time.Second) // its leased tokens are back
				if got, refused := ask(n[0], 20, everybody()); got != 0 || refused.Bound != ByQuota {
					t.Errorf("after a restart %d are let in, then %+v", got, refused)
				}
				other := Request{Merchant: "m2", Caller: "c", User: "u", Activity: "a2", SKU: "s"}
				if got, _ := ask(n[0], 1, other); got != 1 {
					t.Error("another key is refused")
				}
				for _, n := range n {
					n.stop()
				}
				time.Sleep(last.RetryAfter)
				n = []*siteNode{s.start(3), s.start(3), s.start(3)}
				let = 0
				for i := range 30 {
					got, _ := ask(n[i%3], 4, everybody())
					let += got
				}
				if let != 50 {
					t.Errorf("on the next day %d are let in", let)
				}
				s.stop(n...)
			})
		})
	}
}

// TestQuota_IsAskedForSeldom: a key without quota left asks the pool only now and then, no matter
// how often it comes.
func TestQuota_IsAskedForSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, enforced(Policy{Key: User, Quota: 5, Rate: 10, Burst: 100_000}))
		n := s.start(1)
		ask(n, 10, everybody())
		before := n.Stats(time.Now()).Pool.Asks
		ask(n, 5000, everybody()) // in 15 s
		if asks := n.Stats(time.Now()).Pool.Asks - before; asks > 600 {
			t.Errorf("%d questions for 5,000 refusals", asks)
		}
		if got := n.statsOf(t, "user", 0); got.Exhausted < 5000 {
			t.Errorf("%+v", got)
		}
		s.stop(n)
	})
}

// TestQuota_CountsTokens: a request takes its cost. A repeat gives it back, and so does the refusal
// of a wider limit. A larger quota is in force at once.
func TestQuota_CountsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		doc := func(quota int64) Document {
			return enforced(Policy{Key: Caller, Quota: quota, Cost: &Cost{Unit: 2}}, Policy{Key: Merchant, Rate: 0.001, Burst: 1, Cost: &Cost{Purchase: 0, Page: 1}})
		}
		s := newSite(t, doc(20))
		n := s.start(1)
		req := everybody()
		req.Quantity = 4 // 8
		if got, _ := ask(n, 1, req); got != 1 {
			t.Fatal("refused")
		}
		repeat := req
		n.Allow(&repeat, time.Now())
		n.GiveBack(&repeat, time.Now())
		n.Leave(&repeat)
		time.Sleep(time.Second)
		if got, last := ask(n, 3, req); got != 1 || last.Bound != ByQuota {
			t.Errorf("%d are let in on 12 tokens for 8 each, then %+v", got, last)
		}
		req.Quantity = 2
		if got, _ := ask(n, 3, req); got != 1 {
			t.Errorf("%d are let in on 4 tokens for 4 each", got)
		}
		if err := n.Apply(doc(30), 1, time.Now()); err != nil {
			t.Fatal(err)
		}
		if got, _ := ask(n, 5, req); got != 2 {
			t.Errorf("%d are let in on 10 more tokens for 4 each", got)
		}
		s.stop(n)
	})
}

// TestQuota_PoolIsAway: for as long as the pool is away a key goes on at the pace of its quota: an
// hour's part at once, then evenly. It is neither stopped nor let in without end, and the pool
// counts it afterwards.
func TestQuota_PoolIsAway(t *testing.T) {
	for _, policy := range []Policy{{Key: Caller, Quota: 2400}, {Key: User, Quota: 2400, Rate: 1000, Burst: 1000}} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, enforced(policy))
			n := []*siteNode{s.start(2), s.start(2)}
			ask(n[0], 10, everybody())
			s.pool.set(func() { s.pool.fails = true })
			time.Sleep(time.Second)
			began, let := time.Now(), 0
			var last Decision
			for i := range 400 {
				got, refused := ask(n[i%2], 1, everybody())
				let += got
				if refused.Policy != nil {
					last = refused
				}
			}
			if let < 98 || let > 106 || last.Bound != ByQuota || last.RetryAfter > 2*time.Minute {
				t.Errorf("%s: %d are let in without the pool in %v, want 100; then %+v", policy.Key, let, time.Since(began), last)
			}
			alone := let
			let = 0
			for range 36 { // half an hour
				time.Sleep(50 * time.Second)
				for _, n := range n {
					got, _ := ask(n, 3, everybody())
					let += got
				}
			}
			if let < 40 || let > 56 {
				t.Errorf("%s: %d are let in within half an hour, want 50", policy.Key, let)
			}
			left := 2390 - alone - let
			s.pool.set(func() { s.pool.fails = false })
			time.Sleep(time.Second)
			let = 0
			for i := range 2600 {
				got, _ := ask(n[i%2], 1, everybody())
				let += got
			}
			if let > left || let < left-90 && policy.Rate == 0 {
				t.Errorf("%s: with the pool %d are let in, of %d that it has left", policy.Key, let, left)
			}
			s.stop(n...)
		})
	}
}

// TestQuota_BySKUs: a merchant's quota grows with its items on sale, up to its bound, and so do the
// quotas of its callers.
func TestQuota_BySKUs(t *testing.T) {
	for _, key := range []Kind{Merchant, Caller} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, enforced(Policy{Key: key, Quota: 10, QuotaPerSKU: 5, QuotaMax: 40}))
			n := s.start(1)
			var skus atomic.Int64
			n.CountSKUs(func(merchant string) int {
				if merchant == "m" {
					return int(skus.Load())
				}
				return 0
			})
			if err := n.Apply(s.doc, 1, time.Now()); err != nil {
				t.Fatal(err)
			}
			for _, step := range []struct{ skus, want, quota int64 }{{0, 10, 10}, {3, 15, 25}, {6, 15, 40}, {1 << 40, 0, 40}, {0, 0, 10}} {
				skus.Store(step.skus)
				if got, last := ask(n, 60, everybody()); int64(got) != step.want || last.Limit != step.quota || last.Bound != ByQuota {
					t.Errorf("%s: with %d SKUs %d more are let in, then %+v", key, step.skus, got, last)
				}
			}
			other := everybody()
			other.Merchant = "m2"
			if got, last := ask(n, 60, other); got != 10 || last.Limit != 10 {
				t.Errorf("%s: another merchant without SKUs: %d", key, got)
			}
			s.stop(n)
		})
	}
}

// TestQuota_Strangers: users without their own room have a quota too.
func TestQuota_Strangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, enforced(Policy{Key: User, Quota: 2}))
		n := s.start(1)
		table := n.tables[user]
		far := n.clock.at(time.Now()) + int64(time.Hour)
		for i := range table.segments {
			for j := range table.segments[i].slots {
				table.segments[i].slots[j] = slot{uint64(j + 1), far}
			}
		}
		if got, last := ask(n, 10, everybody()); got != 2 || last.Bound != ByQuota {
			t.Errorf("%d, %+v", got, last)
		}
		s.stop(n)
	})
}

// TestQuota_AloneByDesign: with QuotasOnly the pool only counts quotas. Without a pool, a policy
// with a quota is refused, because nothing would count it.
func TestQuota_AloneByDesign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, enforced(Policy{Key: Caller, Rate: 5, Burst: 8}, Policy{Key: User, Rate: 500, Burst: 500}))
		cfg := testConfig()
		cfg.QuotasOnly = true
		l, err := New(cfg, s.pool, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		apply := func(doc Document) {
			if err := l.Apply(doc, 1, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		apply(s.doc)
		s.done.Go(func() { l.Run(t.Context()) })
		n := &siteNode{l, func() {}}
		time.Sleep(time.Second)
		before := l.Stats(time.Now()).Pool.Asks
		if got, _ := ask(n, 8, everybody()); got != 8 {
			t.Errorf("%d of a burst of 8", got)
		}
		if asks := l.Stats(time.Now()).Pool.Asks; asks != before {
			t.Errorf("the pool was asked %d times", asks-before)
		}
		apply(enforced(Policy{Key: User, Rate: 500, Burst: 500, Quota: 7}))
		if got, last := ask(n, 20, everybody()); got != 7 || last.Bound != ByQuota {
			t.Errorf("%d, %+v", got, last)
		}
	})
	l := newLimiter(t, testConfig(), Document{}, 1)
	if err := l.Apply(enforced(Policy{Key: User, Quota: 7}), 1, at(0)); err == nil {
		t.Error("a quota that nobody counts is taken")
	}
}

// TestQuota_DaysOfAZone: a day ends at the zone's midnight, also where it has 23 or 25 hours.
func TestQuota_DaysOfAZone(t *testing.T) {
	of := func(zone string, at time.Time) time.Duration {
		return time.Duration(newLimit(&Policy{Key: User, Quota: 1, Zone: zone, Mode: Enforce}, 0, 1).reset(at))
	}
	for _, c := range []struct {
		zone, at string
		want     time.Duration
	}{
		{"", "2026-06-18T23:59:00Z", time.Minute}, {"Asia/Shanghai", "2026-06-18T15:59:00Z", time.Minute},
		{"America/New_York", "2026-03-08T05:00:00Z", 23 * time.Hour}, {"America/New_York", "2026-11-01T04:00:00Z", 25 * time.Hour},
		{"UTC", "2026-06-18T23:59:59.9Z", time.Second},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := of(c.zone, at); got != c.want {
			t.Errorf("%s in %q: %v, want %v", c.at, c.zone, got, c.want)
		}
	}
}

func TestQuota_AllocatesNothingWhenItIsUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, enforced(Policy{Key: Caller, Quota: 1}, Policy{Key: User, Quota: 1}))
		n := s.start(1)
		ask(n, 5, everybody())
		req := everybody()
		if a := testing.AllocsPerRun(100, func() { n.Allow(&req, time.Now()) }); a != 0 {
			t.Errorf("%v allocations", a)
		}
		s.stop(n)
	})
}

// TestQuota_SurvivesAFailover: after a failover the replica has counted fewer tokens of the day
// than were granted. The nodes tell it their counts, so hardly more than the quota is admitted, and
// returned tokens stay returned.
func TestQuota_SurvivesAFailover(t *testing.T) {
	for _, policy := range []Policy{{Key: Caller, Quota: 50}, {Key: User, Quota: 50, Rate: 1000, Burst: 1000}} {
		t.Run(string(policy.Key), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, enforced(policy))
				n := []*siteNode{s.start(2), s.start(2)}
				let := 0
				for i := range 10 {
					got, _ := ask(n[i%2], 4, everybody())
					let += got
				}
				back := everybody()
				for range 5 { // repeats: the day has their tokens again
					one := back
					if n[0].Allow(&one, time.Now()).Allowed {
						n[0].GiveBack(&one, time.Now())
					}
					n[0].Leave(&one)
				}
				s.pool.set(func() { // it has lost half of what it granted
					for _, b := range s.pool.buckets {
						b.used, b.all = b.used/2, b.all/2
					}
				})
				for i := range 20 {
					got, _ := ask(n[i%2], 4, everybody())
					let += got
				}
				time.Sleep(3 * time.Second) // leases come back
				for i := range 4 {
					got, _ := ask(n[i%2], 4, everybody())
					let += got
				}
				if let < 46 || let > 56 { // a node doesn't know what the other was granted last
					t.Errorf("%d are let in of 50", let)
				}
				s.stop(n...)
			})
		})
	}
}
