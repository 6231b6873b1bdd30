package leases

import (
	"context"
	"flag"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/limiter"
)

var spanFlag = flag.Duration("leases.span", 1500*time.Millisecond, "how long TestNodes_ShareALimit offers in each of its phases")

// crowd sends requests to nodes, and counts those that are admitted.
type crowd struct {
	t     *testing.T
	nodes []*limiter.Limiter
	began time.Time

	mu      sync.Mutex
	let     map[limiter.Kind][]time.Duration // since began; guarded by mu
	longest time.Duration                    // guarded by mu
	slow    int                              // requests that waited for more than 20 ms; guarded by mu
}

// offer sends 4,000 requests a second for a while: one in eight comes from one user, the others
// from one caller. to returns the node of the i-th request.
func (c *crowd) offer(span time.Duration, to func(i int) int) {
	const every, each = 5 * time.Millisecond, 20
	var all sync.WaitGroup
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i, began := 0, time.Now(); time.Since(began) < span; i++ {
		all.Go(func() {
			for j := range each {
				c.ask(c.nodes[to(i*each+j)], j%8 == 0)
			}
		})
		<-tick.C
	}
	all.Wait()
}

func (c *crowd) ask(n *limiter.Limiter, user bool) {
	req, kind := limiter.Request{Merchant: "m", Caller: "web"}, limiter.Caller
	if user {
		req, kind = limiter.Request{Merchant: "m", User: "u"}, limiter.User
	}
	now := time.Now()
	d := n.Allow(&req, now)
	took := time.Since(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.Allowed {
		c.let[kind] = append(c.let[kind], now.Sub(c.began))
	}
	c.longest = max(c.longest, took)
	if took > 20*time.Millisecond {
		c.slow++
	}
}

// bounds checks every span of time against the limit's bound: the burst, plus the rate times the
// span, plus the tokens that nodes held at its beginning.
func (c *crowd) bounds(p *limiter.Policy, held time.Duration) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	let := c.let[p.Key]
	burst := max(float64(p.Burst), p.Rate*0.2)
	for i := 0; i < len(let); i += 7 {
		for j := i; j < len(let); j += 7 {
			if most := burst + p.Rate*(let[j]-let[i]+held).Seconds() + 1; float64(j-i+1) > most {
				c.t.Errorf("%s: %d in %v, at most %.0f", p.Name, j-i+1, let[j]-let[i], most)
				return
			}
		}
	}
}

// report logs how many requests were admitted, in spans between two times.
func (c *crowd) report(what string, from, to, span time.Duration) {
	for kind, let := range c.let {
		low, high := math.MaxInt, 0
		for at := from; at+span <= to; at += span / 20 {
			n := 0
			for _, d := range let {
				if d >= at && d < at+span {
					n++
				}
			}
			low, high = min(low, n), max(high, n)
		}
		c.t.Logf("%s: %s: %d to %d in any %v", what, kind, low, high, span)
	}
	c.t.Logf("%s: the longest took %v, %d took more than 20 ms", what, c.longest, c.slow)
	c.longest, c.slow = 0, 0
}

// TestNodes_ShareALimit runs three nodes on a real Redis, with ten times their limits: all to one
// node, evenly, and to one after another. A fourth node comes and goes, and Redis stops for a
// while. The admitted requests stay within the bound. Times depend on the machine, so the test logs
// them and judges only by the bound.
func TestNodes_ShareALimit(t *testing.T) {
	redis := servers.Redis(t)
	document := limiter.Document{Policies: []limiter.Policy{
		{Name: "caller", Key: limiter.Caller, Rate: 400, Burst: 40, Mode: limiter.Enforce},
		{Name: "user", Key: limiter.User, Rate: 2, Burst: 2, Mode: limiter.Enforce},
	}}
	start := func(nodes int) (*limiter.Limiter, func()) {
		l, err := limiter.New(limiter.DefaultConfig(), New(stockOn(t, redis.Addr, time.Second)), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Apply(document, nodes, time.Now()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { l.Run(ctx) })
		stop := sync.OnceFunc(func() { cancel(); run.Wait() })
		t.Cleanup(stop)
		return l, stop
	}
	c := &crowd{t: t, began: time.Now(), let: make(map[limiter.Kind][]time.Duration)}
	for range 3 {
		n, _ := start(3)
		c.nodes = append(c.nodes, n)
	}
	now := func() time.Duration { return time.Since(c.began) }
	span := *spanFlag
	window := span / 2
	phase := func(what string, to func(i int) int) {
		from := now()
		c.offer(span, to)
		c.report(what, from+span/4, now(), window)
	}
	phase("one node", func(int) int { return 0 })
	phase("evenly", func(i int) int { return i % 3 })
	phase("moving", func(i int) int { return i / 2000 % 3 })
	fourth, stop := start(4)
	c.nodes = append(c.nodes, fourth)
	phase("a fourth node", func(i int) int { return i % 4 })
	stop()
	phase("it has stopped", func(i int) int { return i % 3 })
	for i := range document.Policies {
		c.bounds(&document.Policies[i], 300*time.Millisecond)
	}
	redis.Pause()
	phase("Redis is away", func(i int) int { return i % 3 })
	redis.Resume()
	phase("Redis is back", func(i int) int { return i % 3 })
}
