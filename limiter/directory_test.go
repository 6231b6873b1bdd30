package limiter

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// The documentation of rate.Limiter doesn't say that a negative number gives tokens back. The
// directory relies on it.
func TestRateLimiterTakesTokensBack(t *testing.T) {
	lim := rate.NewLimiter(1, 10)
	f := func(n int, when time.Duration, ok bool, tokens float64) {
		t.Helper()
		if got := lim.AllowN(at(when), n); got != ok {
			t.Errorf("AllowN(%d) = %v", n, got)
		}
		if got := lim.TokensAt(at(when)); got != tokens {
			t.Errorf("after AllowN(%d): %v tokens, want %v", n, got, tokens)
		}
	}
	f(10, 0, true, 0)
	f(-10, 0, true, 10)
	f(4, 0, true, 6)
	f(-3, time.Second, true, 10)
	f(-10, time.Second, true, 10) // never above the burst
	f(10, time.Second, true, 0)
	f(1, time.Second, false, 0)
	f(1, 2*time.Second, true, 0)
}

// The wrapper exists because rate.Limiter credits an interval twice when times come late. If this
// test fails, rate.Limiter has been fixed.
func TestRateLimiterBelievesLateTimes(t *testing.T) {
	lim := rate.NewLimiter(10, 10)
	allowed := 0
	for i := range 100 {
		if lim.AllowN(at(time.Duration(i%2)*time.Second), 1) {
			allowed++
		}
	}
	if allowed != 100 {
		t.Errorf("a bare rate.Limiter admits %d within a second", allowed)
	}

	for _, key := range kindNames {
		l := newLimiter(t, testConfig(), enforced(Policy{Key: key, Rate: 10, Burst: 10}), 1)
		req := Request{Merchant: "m", Caller: "c", User: "u", Activity: "a", SKU: "s", IP: at4(1)}
		allowed := 0
		for i := range 100 {
			if l.Allow(&req, at(time.Duration(i%2)*time.Second)).Allowed {
				allowed++
			}
		}
		if allowed > 20 {
			t.Errorf("%s admits %d within a second", key, allowed)
		}
	}
}

// Callers beyond the room share a bucket. It never belongs to another key, and its tokens come back
// like any others.
func TestL8_DirectoryIsBounded(t *testing.T) {
	const callers = 20_000
	l := newLimiter(t, testConfig(), enforced(
		Policy{Key: Caller, Rate: 1, Burst: 2}, Policy{Name: "own", Key: Caller, Match: "m/c1", Rate: 1, Burst: 3}, Policy{Key: Merchant, Rate: 100, Burst: callers},
	), 1)
	for i := range callers {
		l.Allow(&Request{Merchant: "m", Caller: fmt.Sprint("c", i)}, at(0))
	}
	s := l.Stats(at(0))
	got := s.table(Caller)
	if got.Capacity != minSlots || got.Live > minSlots || got.Live < minSlots*9/10 || got.Strangers < callers-minSlots || got.Evictions != 0 {
		t.Errorf("%+v", got)
	}
	if n := l.statsOf(t, "caller", 0); n.Allowed > minSlots+2 {
		t.Errorf("%+v", n)
	}
	// Three seconds later all are full, which is the same as none: others take their slots.
	for i := range 1000 {
		req := Request{Merchant: "m", Caller: fmt.Sprint("d", i)}
		for j, want := range []bool{true, true, false} {
			if d := l.Allow(&req, at(3*time.Second)); d.Allowed != want {
				t.Fatalf("request %d of caller %d: %+v", j, i, d)
			}
		}
	}
	s = l.Stats(at(3 * time.Second))
	if after := s.table(Caller); after.Evictions < 900 || after.Live > 1000 || after.Strangers != got.Strangers {
		t.Errorf("%+v", after)
	}
}

func TestStrangersOfADirectoryShare(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: Caller, Rate: 0.001, Burst: 4}), 1)
	d, rules := l.directories[caller], l.snapshot.Load().steps[0].rules
	now := l.clock.at(at(0))
	for i := range d.slots {
		b := &bucket{key: uint64(i), name: "other"}
		b.open(rules, now)
		b.tokens.AllowN(timeOf(now), 1)
		d.slots[i].Store(b)
	}
	var g grant
	for i := range 10 {
		if !d.take(rules, uint64(i), "m", fmt.Sprint(i), new(Request), now, nil, &rival{}, &g) || (g.wait > 0) != (i >= 4) {
			t.Errorf("stranger %d: %+v", i, g)
		}
	}
	g = grant{limit: rules.template, directory: d, taken: 1}
	g.giveBack(nil)
	if d.take(rules, 99, "m", "x", new(Request), now, nil, &rival{}, &g); g.wait > 0 {
		t.Errorf("a token that was given back is gone: %+v", g)
	}
	before := d.stranger
	apply(t, l, enforced(Policy{Key: Caller, Rate: 0.001, Burst: 400}), 1, 0)
	if d.stranger-before != 396*int64(1000*time.Second) {
		t.Errorf("an edit gave the strangers tokens: %v", time.Duration(d.stranger-before))
	}
}

// The names of a caller are copied: a request's may lie in a buffer that is used again.
func TestDirectoryKeepsNoRequestsMemory(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: Caller, Rate: 1, Burst: 1}), 1)
	d := l.directories[caller]
	rules := l.snapshot.Load().steps[0].rules
	owner, name := string([]byte("merchant")), string([]byte("caller"))
	b := d.add(rules, 1, owner, name, 0)
	if b.owner != owner || b.name != name {
		t.Fatalf("%q, %q", b.owner, b.name)
	}
	if sameMemory(b.owner, owner) || sameMemory(b.name, name) {
		t.Error("the bucket has the request's strings")
	}
}
