package limiter

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// everybody is a request with a key of each kind.
func everybody() Request {
	return Request{Merchant: "m", Caller: "c", User: "u", Activity: "a", SKU: "s", IP: netip.MustParseAddr("192.0.2.1")}
}

// TestPlaces_BoundWhatIsInFlight, for each kind of key: a policy bounds the requests in flight,
// another key has its own bound, a place that is given back twice counts once, and a refusal takes
// no token.
func TestPlaces_BoundWhatIsInFlight(t *testing.T) {
	for k, key := range kindNames {
		l := newLimiter(t, testConfig(), enforced(Policy{Key: key, Rate: 0.001, Burst: 10, Concurrency: 3}), 1)
		inside := make([]Request, 3)
		for i := range inside {
			inside[i] = everybody()
			if d := l.Allow(&inside[i], at(0)); !d.Allowed {
				t.Fatalf("%s: request %d is refused: %+v", key, i, d)
			}
		}
		for range 5 {
			req := everybody()
			d := l.Allow(&req, at(0))
			if d.Allowed || d.Bound != ByConcurrency || d.RetryAfter != placeWait || d.Policy.Key != key || d.Limit != 3 || d.Remaining != 0 ||
				d.Global != (key == Global) {
				t.Fatalf("%s: above the bound: %+v", key, d)
			}
			l.Leave(&req) // it has nothing
		}
		if kind(k) != global {
			other := Request{Merchant: "m2", Caller: "c", User: "u", Activity: "a2", SKU: "s", IP: netip.MustParseAddr("192.0.2.2")}
			if d := l.Allow(&other, at(0)); !d.Allowed {
				t.Errorf("%s: another key is refused: %+v", key, d)
			}
		}
		l.Leave(&inside[0])
		l.Leave(&inside[0])
		first, second := everybody(), everybody()
		if !l.Allow(&first, at(0)).Allowed || l.Allow(&second, at(0)).Allowed {
			t.Errorf("%s: one place came back, and not one request found it", key)
		}
		if got := l.statsOf(t, string(key), 0); got.Refused != 6 || got.Crowded != 6 {
			t.Errorf("%s: %+v", key, got)
		}
		// Of ten tokens four are used: a request without a place took none.
		for _, req := range []*Request{&inside[1], &inside[2], &first} {
			l.Leave(req)
		}
		got := 0
		for range 10 {
			req := everybody()
			if l.Allow(&req, at(0)).Allowed {
				got++
			}
			l.Leave(&req)
		}
		if got != 6 {
			t.Errorf("%s: %d of 6 tokens are left", key, got)
		}
	}
}

// TestPlaces_AreAllOrNothing: a request that a wider limit refuses keeps no place of a narrower
// one.
func TestPlaces_AreAllOrNothing(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(
		Policy{Key: Caller, Concurrency: 2}, Policy{Key: User, Rate: 1, Burst: 50, Concurrency: 2}, Policy{Key: Merchant, Rate: 0.001, Burst: 1},
	), 1)
	for i := range 10 {
		req := everybody()
		if d := l.Allow(&req, at(0)); d.Allowed != (i == 0) || !d.Allowed && d.Policy.Key != Merchant {
			t.Fatalf("request %d: %+v", i, d)
		}
	}
	if s := l.Stats(at(0)).Places; s.InFlight != 2 || s.Keys != 2 {
		t.Errorf("one request is inside: %+v", s)
	}
}

// TestPlaces_NeedNoBucket: a policy may bound only the requests in flight.
func TestPlaces_NeedNoBucket(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: User, Concurrency: 1}), 1)
	for range 10_000 {
		req := everybody()
		d := l.Allow(&req, at(0))
		if !d.Allowed || d.Policy != nil {
			t.Fatalf("%+v", d)
		}
		l.Leave(&req)
	}
	req := everybody()
	l.Allow(&req, at(0))
	next := everybody()
	d := l.Allow(&next, at(0))
	if got := string(AppendRateLimit(nil, &d)) + " " + string(AppendPolicy(nil, &d)); got != `"user";r=0;t=1 "user";q=1;qu="concurrent-requests"` {
		t.Error(got)
	}
}

// TestPlaces_Shadow: a shadow policy counts the requests that it would refuse, and admits them
// without a place.
func TestPlaces_Shadow(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: Caller, Concurrency: 2, Mode: Shadow}, Policy{Key: User, Concurrency: 4}), 1)
	for i := range 6 {
		req := everybody()
		if d := l.Allow(&req, at(0)); d.Allowed != (i < 4) || (d.Shadowed != nil) != (i >= 2) {
			t.Errorf("request %d: %+v", i, d)
		}
	}
	if s := l.Stats(at(0)).Places; s.InFlight != 2+4 {
		t.Errorf("%+v", s)
	}
}

// TestPlaces_SurviveEdits: an edit neither adds nor loses places.
func TestPlaces_SurviveEdits(t *testing.T) {
	with := func(n int64) Document { return enforced(Policy{Key: Caller, Rate: 1, Burst: 1000, Concurrency: n}) }
	l := newLimiter(t, testConfig(), with(3), 1)
	inside := make([]Request, 3)
	for i := range inside {
		inside[i] = everybody()
		l.Allow(&inside[i], at(0))
	}
	allowed := func() bool {
		req := everybody()
		defer l.Leave(&req)
		return l.Allow(&req, at(0)).Allowed
	}
	apply(t, l, with(0), 1, 0)
	if !allowed() {
		t.Error("refused without a bound")
	}
	apply(t, l, with(3), 1, 0)
	if allowed() {
		t.Error("three are inside, and a fourth is let in after an edit")
	}
	apply(t, l, with(4), 1, 0)
	if !allowed() {
		t.Error("a raised bound has no place")
	}
	apply(t, l, Document{}, 1, 0)
	for i := range inside {
		l.Leave(&inside[i])
	}
	if s := l.Stats(at(0)).Places; s.InFlight != 0 || s.Keys != 0 {
		t.Errorf("nobody is inside: %+v", s)
	}
}

// TestPlaces_Concurrently: never more than the bound are inside, and in the end nobody is, also
// where requests panic.
func TestPlaces_Concurrently(t *testing.T) {
	const bound = 5
	l := newLimiter(t, testConfig(), enforced(Policy{Key: Caller, Concurrency: bound}, Policy{Key: Merchant, Rate: 1, Burst: 900}), 1)
	var inside, most, let atomic.Int64
	visit := func(i int) {
		req := everybody()
		if !l.Allow(&req, at(0)).Allowed {
			return
		}
		defer func() { _ = recover() }()
		defer l.Leave(&req)
		defer inside.Add(-1)
		n := inside.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		let.Add(1)
		if i%3 == 0 {
			panic("a test")
		}
	}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for i := range 200 {
				visit(i)
			}
		})
	}
	all.Wait()
	if most.Load() > bound || let.Load() == 0 || let.Load() > 900 {
		t.Errorf("%d were inside at once, %d let in", most.Load(), let.Load())
	}
	if s := l.Stats(at(0)).Places; s.InFlight != 0 || s.Keys != 0 {
		t.Errorf("nobody is inside: %+v", s)
	}
}

// TestL8_PlacesAreBounded: a million keys in flight use the fixed room. Keys beyond it share a
// count.
func TestL8_PlacesAreBounded(t *testing.T) {
	var p places
	const keys = 1_000_000
	held := make([]holding, keys)
	let := 0
	for i := range held {
		if p.enter(user, uint64(i)*0x9E3779B97F4A7C15|1, 2, &held[i]) {
			let++
		}
	}
	s := p.stats()
	if s.Keys > s.Capacity+placeStripes || let > s.Capacity+2*placeStripes || s.Strangers < keys-uint64(s.Capacity)-placeStripes {
		t.Errorf("%d let in, %+v", let, s)
	}
	for i := range held {
		p.leave(user, &held[i])
	}
	if s := p.stats(); s.Keys != 0 || s.InFlight != 0 {
		t.Errorf("nobody is inside: %+v", s)
	}
}

func TestPlaces_AllocateNothing(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: Caller, Concurrency: 3}, Policy{Key: User, Concurrency: 3}, Policy{Key: IP, Concurrency: 3}), 1)
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprint("u", i)
	}
	req, i := everybody(), 0
	if n := testing.AllocsPerRun(10_000, func() {
		i++
		req.User = names[i%len(names)]
		if !l.Allow(&req, at(time.Duration(i))).Allowed {
			t.Fatal("refused")
		}
		l.Leave(&req)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
