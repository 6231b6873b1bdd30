package limiter

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// at returns a time of the tests' clock.
func at(d time.Duration) time.Time { return time.Unix(1_800_000_000, 0).Add(d) }

// testConfig has room for few keys, so that tables are made and counted quickly.
func testConfig() Config {
	return Config{Users: 1000, IPs: 1000, SKUs: 1000, Activities: 1000, Merchants: 1000, Callers: 1000}
}

func newLimiter(t testing.TB, cfg Config, doc Document, nodes int) *Limiter {
	t.Helper()
	l, err := New(cfg, nil, at(0))
	if err != nil {
		t.Fatal(err)
	}
	apply(t, l, doc, nodes, 0)
	return l
}

func apply(t testing.TB, l *Limiter, doc Document, nodes int, when time.Duration) {
	t.Helper()
	if err := l.Apply(doc, nodes, at(when)); err != nil {
		t.Fatal(err)
	}
}

// enforced returns a document of templates in mode enforce, named after their kinds.
func enforced(policies ...Policy) Document {
	for i := range policies {
		p := &policies[i]
		if p.Name == "" {
			p.Name = string(p.Key)
		}
		if p.Mode == "" {
			p.Mode = Enforce
		}
	}
	return Document{Policies: policies}
}

func (l *Limiter) statsOf(t testing.TB, name string, when time.Duration) PolicyStats {
	t.Helper()
	for _, p := range l.Stats(at(when)).Policies {
		if p.Policy.Name == name {
			return p
		}
	}
	t.Fatalf("no policy %q", name)
	return PolicyStats{}
}

// admit sends requests at a rate over a time and returns how many are allowed.
func admit(l *Limiter, req Request, perSecond int, from, to time.Duration) int {
	allowed := 0
	for i := int64(0); ; i++ {
		when := from + time.Duration(i*int64(time.Second)/int64(perSecond))
		if when >= to {
			return allowed
		}
		if l.Allow(&req, at(when)).Allowed {
			allowed++
		}
	}
}

// One caller at 137/s with a burst of 10 is offered 800/s for a minute: 10 + 137·60 are admitted,
// by each kind of bucket.
func TestAdmitsBurstPlusRate(t *testing.T) {
	req := Request{Merchant: "m", Caller: "c", User: "u", Activity: "a", SKU: "s", IP: netip.MustParseAddr("192.0.2.1")}
	for _, key := range kindNames {
		l := newLimiter(t, testConfig(), enforced(Policy{Key: key, Rate: 137, Burst: 10}), 1)
		const seconds = 60
		got := admit(l, req, 800, 0, seconds*time.Second)
		if want := 10 + 137*seconds; got < want-1 || got > want {
			t.Errorf("%s: admitted %d, want %d", key, got, want)
		}
	}
}

// The rate changes under load, up and down: the new one is in force at once, and the edit lets no
// burst through.
func TestChangeUnderLoadIsNoBurst(t *testing.T) {
	req := Request{Merchant: "m", Caller: "c", User: "u"}
	for _, key := range []Kind{Global, Merchant, Caller, User} {
		l := newLimiter(t, testConfig(), enforced(Policy{Key: key, Rate: 137, Burst: 10}), 1)
		admit(l, req, 800, 0, 10*time.Second)
		when := 10 * time.Second
		for _, step := range []struct {
			rate  float64
			burst int64
			nodes int
		}{{40, 10, 1}, {40, 5000, 1}, {400, 5000, 1}, {400, 1, 1}, {137, 10, 1}, {137, 10, 3}, {137, 10, 1}} {
			apply(t, l, enforced(Policy{Key: key, Rate: step.rate, Burst: step.burst}), step.nodes, when)
			got := admit(l, req, 800, when, when+2*time.Second)
			if want := 2 * step.rate / float64(step.nodes); math.Abs(float64(got)-want) > 2 {
				t.Errorf("%s: %d in 2 s at %v/s, burst %d, of %d nodes", key, got, step.rate, step.burst, step.nodes)
			}
			when += 2 * time.Second
		}
	}
}

// No key gains tokens by an edit that raises the burst: neither a key without a bucket, nor a key
// that had its own policy, nor one that gets its own policy.
func TestEditGivesNobodyABucket(t *testing.T) {
	for _, key := range []Kind{Caller, User} {
		req := func(name string) Request { return Request{Merchant: "m", Caller: name, User: name} }
		small := Policy{Name: "t", Key: key, Rate: 1, Burst: 3}
		own := func(match string, burst int64) Policy {
			return Policy{Name: match, Key: key, Match: "m/" + match, Rate: 1, Burst: burst}
		}
		l := newLimiter(t, testConfig(), enforced(small, own("loses", 2)), 1)
		if got := admit(l, req("used"), 1000, 0, 10*time.Millisecond); got != 3 {
			t.Fatalf("%d admitted", got)
		}
		large := small
		large.Burst = 1000
		apply(t, l, enforced(large, own("gets", 5000)), 1, 10*time.Millisecond)
		for name, want := range map[string]int{"used": 0, "never-seen": 3, "loses": 2, "gets": 3} {
			if got := admit(l, req(name), 10_000, 10*time.Millisecond, 110*time.Millisecond); got != want {
				t.Errorf("%s %s: %d admitted right after the edit, want %d", key, name, got, want)
			}
		}
		// And in time the new bucket does fill.
		apply(t, l, enforced(large), 1, 200*time.Millisecond)
		if got := admit(l, req("gets"), 10_000, 999*time.Second, 999*time.Second+500*time.Millisecond); got < 990 || got > 1000 {
			t.Errorf("%s: %d admitted when the bucket has filled", key, got)
		}
	}
}

// A key without a bucket gets a large one, which is still nearly empty, and loses it again: its
// tokens stay the same.
func TestEditsUndoneGiveNothing(t *testing.T) {
	for _, key := range []Kind{Caller, User} {
		template := func(burst int64) Policy { return Policy{Name: "t", Key: key, Rate: 1, Burst: burst} }
		l := newLimiter(t, testConfig(), enforced(template(1)), 1)
		apply(t, l, enforced(template(1), Policy{Name: "own", Key: key, Match: "m/x", Rate: 1, Burst: 50}), 1, time.Second)
		apply(t, l, enforced(template(5)), 1, 2*time.Second)
		if got := admit(l, Request{Merchant: "m", Caller: "x", User: "x"}, 1000, 2*time.Second, 2*time.Second+10*time.Millisecond); got != 2 {
			t.Errorf("%s: %d admitted of the one it had and the one of a second", key, got)
		}
	}
}

// Without a template only matched keys are limited. When the template comes back, keys have their
// former buckets.
func TestTemplateComesAndGoes(t *testing.T) {
	for _, key := range []Kind{Caller, User} {
		template := Policy{Name: "t", Key: key, Rate: 0.01, Burst: 5}
		own := Policy{Name: "own", Key: key, Match: "m/x", Rate: 0.01, Burst: 5}
		l := newLimiter(t, testConfig(), enforced(template, own), 1)
		f := func(name string, when time.Duration, want int) {
			t.Helper()
			if got := admit(l, Request{Merchant: "m", Caller: name, User: name}, 1000, when, when+10*time.Millisecond); got != want {
				t.Errorf("%s %s after %v: %d admitted, want %d", key, name, when, got, want)
			}
		}
		f("x", 0, 5)
		f("y", 0, 5)
		apply(t, l, enforced(own), 1, time.Second)
		f("x", time.Second, 0)
		f("y", time.Second, 10)
		apply(t, l, enforced(template), 1, 2*time.Second)
		f("x", 2*time.Second, 0)
		f("y", 2*time.Second, 0)
		apply(t, l, Document{}, 1, 3*time.Second)
		f("x", 3*time.Second, 10)
		apply(t, l, enforced(template), 1, 4*time.Second)
		f("x", 4*time.Second, 0)
		f("z", 4*time.Second, 5)
	}
}

func TestEditsByTheHundredGiveNothing(t *testing.T) {
	l := newLimiter(t, testConfig(), Document{}, 1)
	allowed := 0
	for i := range 1000 {
		when := time.Duration(i) * time.Millisecond
		var doc Document
		for _, key := range []Kind{Global, Caller, User} {
			doc.Policies = append(doc.Policies, Policy{
				Name: string(key), Key: key, Rate: 10 + float64(i%7), Burst: 20 + int64(i*i%13), Mode: []Mode{Enforce, Enforce, Shadow}[i%3],
			})
		}
		doc.Policies[i%3].Mode = Enforce // one of them always is
		apply(t, l, doc, 1+i%2, when)
		for range 5 {
			if d := l.Allow(&Request{Merchant: "m", Caller: "c", User: "u"}, at(when)); d.Allowed {
				allowed++
			}
		}
	}
	// At most three buckets that fill once each, and a second of the highest rate.
	if allowed > 3*(32+16) {
		t.Errorf("%d admitted in a second of edits", allowed)
	}
}

// A caller that floods is refused by its own limit. Its merchant's other callers have the whole
// limit of the merchant.
func TestFloodTouchesNothingThatIsShared(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(
		Policy{Key: Caller, Rate: 0.001, Burst: 10}, Policy{Key: Merchant, Rate: 0.001, Burst: 100}, Policy{Key: Global, Rate: 0.01, Burst: 1000},
	), 1)
	for i := range 100_000 {
		d := l.Allow(&Request{Merchant: "m", Caller: "flood"}, at(0))
		if d.Allowed != (i < 10) || !d.Allowed && (d.Policy.Name != "caller" || d.Global) {
			t.Fatalf("request %d: %+v", i, d)
		}
	}
	if got := l.statsOf(t, "merchant", 0); got.Allowed != 10 || got.Refused+got.Returned != 0 {
		t.Errorf("the flood came to the merchant's bucket: %+v", got)
	}
	for i := range 9 {
		if got := admit(l, Request{Merchant: "m", Caller: fmt.Sprint("other", i)}, 1000, 0, time.Second/10); got != 10 {
			t.Errorf("another caller has %d of 10", got)
		}
	}
	// Now the merchant's tokens are gone. A refusal by its limit takes no tokens of a caller.
	req := Request{Merchant: "m", Caller: "last"}
	for range 1000 {
		if d := l.Allow(&req, at(time.Second)); d.Allowed || d.Policy.Name != "merchant" {
			t.Fatalf("above the merchant's limit: %+v", d)
		}
	}
	apply(t, l, enforced(Policy{Key: Caller, Rate: 0.001, Burst: 10}), 1, time.Second)
	if got := admit(l, req, 1000, time.Second, 2*time.Second); got != 10 {
		t.Errorf("the refused caller has %d of 10 tokens", got)
	}
}

// When the widest limit refuses, every other limit gets its tokens back exactly, for every kind of
// bucket.
func TestRefusalGivesEverythingBack(t *testing.T) {
	var policies []Policy
	for _, key := range kindNames {
		policies = append(policies, Policy{Key: key, Rate: 1, Burst: 50, Cost: &Cost{Unit: 1}})
	}
	req := Request{Merchant: "m", Caller: "c", User: "u", Activity: "a", SKU: "s", IP: netip.MustParseAddr("2001:db8::1")}
	for _, cost := range []int{1, 7} {
		doc := enforced(append([]Policy(nil), policies...)...)
		doc.Policies[global].Burst = 10
		l := newLimiter(t, testConfig(), doc, 1)
		allowed := 0
		req.Quantity = cost
		for range 1000 {
			if d := l.Allow(&req, at(0)); d.Allowed {
				allowed++
			} else if !d.Global || d.Policy.Key != Global {
				t.Fatalf("refused by %+v", d.Policy)
			}
		}
		if allowed != 10/cost {
			t.Fatalf("%d allowed", allowed)
		}
		// Without the global limit each bucket has what only the allowed ones took.
		apply(t, l, enforced(policies[:global]...), 1, 0)
		req.Quantity = 1
		if got := admit(l, req, 100_000, 0, time.Millisecond); got != 50-allowed*cost {
			t.Errorf("cost %d: %d tokens are left, want %d", cost, got, 50-allowed*cost)
		}
		if got := l.statsOf(t, "user", 0); got.Returned != 1000-uint64(allowed) {
			t.Errorf("%+v", got)
		}
	}
}

func TestShadowCountsAndRefusesNothing(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(
		Policy{Key: Caller, Rate: 0.001, Burst: 3, Mode: Shadow}, Policy{Key: User, Rate: 0.001, Burst: 4, Mode: Off},
		Policy{Key: Merchant, Rate: 0.001, Burst: 5}, Policy{Key: Global, Rate: 0.001, Burst: 2, Mode: Shadow},
	), 1)
	req := Request{Merchant: "m", Caller: "c", User: "u"}
	for i := range 10 {
		d := l.Allow(&req, at(0))
		if d.Allowed != (i < 5) || d.Global || d.Policy == nil || d.Policy.Name != "merchant" {
			t.Fatalf("request %d: %+v", i, d)
		}
		wantShadowed := map[bool]string{true: "caller", false: ""}[i >= 3]
		if i == 2 {
			wantShadowed = "global"
		}
		if d.Shadowed == nil && wantShadowed != "" || d.Shadowed != nil && d.Shadowed.Name != wantShadowed {
			t.Errorf("request %d would have been refused by %v, want %q", i, d.Shadowed, wantShadowed)
		}
	}
	f := func(name string, allowed, refused, shadowed, returned uint64) {
		t.Helper()
		got := l.statsOf(t, name, 0)
		if got.Allowed != allowed || got.Refused != refused || got.Shadowed != shadowed || got.Returned != returned {
			t.Errorf("%s: %+v", name, got)
		}
	}
	f("caller", 3, 0, 7, 0)
	f("user", 0, 0, 0, 0)
	f("merchant", 5, 5, 0, 0)
	f("global", 2, 0, 3, 0) // it isn't asked about what the merchant's limit refuses

	req.Shadow = true
	if d := l.Allow(&req, at(0)); !d.Allowed || d.Shadowed == nil {
		t.Errorf("a request in shadow: %+v", d)
	}
	f("merchant", 5, 5, 1, 0)
}

// A shadow bucket works like an enforced one. It gets its tokens back when a wider limit refuses.
// Switching it to enforce gives no additional tokens.
func TestShadowBucketIsWhatAnEnforcedOneWouldBe(t *testing.T) {
	doc := func(mode Mode) Document {
		return enforced(Policy{Key: Caller, Rate: 0.001, Burst: 5, Mode: mode}, Policy{Key: Merchant, Rate: 0.001, Burst: 3})
	}
	l := newLimiter(t, testConfig(), doc(Shadow), 1)
	if got := admit(l, Request{Merchant: "m", Caller: "c"}, 1000, 0, time.Second); got != 3 {
		t.Fatalf("%d admitted", got)
	}
	apply(t, l, enforced(Policy{Key: Caller, Rate: 0.001, Burst: 5}), 1, time.Second)
	if got := admit(l, Request{Merchant: "m", Caller: "c"}, 1000, time.Second, 2*time.Second); got != 2 {
		t.Errorf("%d admitted after the turn, want 2", got)
	}
}

func TestPolicyOfOnesOwnReplacesTheTemplate(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(
		Policy{Key: Caller, Rate: 0.001, Burst: 3},
		Policy{Name: "more", Key: Caller, Match: "m/more", Rate: 0.001, Burst: 7},
		Policy{Name: "free", Key: Caller, Match: "m/free", Rate: 0.001, Burst: 1, Mode: Off},
		Policy{Name: "group", Key: IP, Match: "2001:db8::5", Rate: 0.001, Burst: 2},
	), 1)
	f := func(want int, name string, req Request) {
		t.Helper()
		if got := admit(l, req, 1000, 0, 20*time.Millisecond); got != want {
			t.Errorf("%s: %d admitted, want %d", name, got, want)
		}
	}
	f(3, "template", Request{Merchant: "m", Caller: "c"})
	f(3, "the name with another merchant", Request{Merchant: "n", Caller: "more"})
	f(7, "own", Request{Merchant: "m", Caller: "more"})
	f(20, "exempt", Request{Merchant: "m", Caller: "free"})
	f(20, "no caller", Request{Merchant: "m"})
	f(2, "its /64", Request{IP: netip.MustParseAddr("2001:db8::ffff:1")})
	f(0, "its /64 from another address", Request{IP: netip.MustParseAddr("2001:db8:0:0:1::")})
	f(20, "another /64", Request{IP: netip.MustParseAddr("2001:db8:0:1::1")})
	f(20, "IPv4", Request{IP: netip.MustParseAddr("192.0.2.1")})
}

// Keys of different kinds with the same name are different, and so are names whose joined parts are
// equal.
func TestKeysAreApart(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(
		Policy{Key: Caller, Rate: 0.001, Burst: 1}, Policy{Key: User, Rate: 0.001, Burst: 1}, Policy{Key: SKU, Rate: 0.001, Burst: 1},
	), 1)
	for _, req := range []Request{
		{Merchant: "a", Caller: "b"}, {Merchant: "b", Caller: "a"}, {Merchant: "ab", Caller: "c"}, {Merchant: "a", Caller: "bc"},
		{Merchant: "a", User: "b"}, {Merchant: "b", User: "a"}, {Activity: "a", SKU: "b"}, {Activity: "b", SKU: "a"},
	} {
		if !l.Allow(&req, at(0)).Allowed {
			t.Errorf("%+v met another key's bucket", req)
		}
		if l.Allow(&req, at(0)).Allowed {
			t.Errorf("%+v has no bucket", req)
		}
	}
}

func TestDecisionSaysWhatAndWhen(t *testing.T) {
	for _, key := range []Kind{Caller, User} {
		l := newLimiter(t, testConfig(), enforced(Policy{Key: key, Rate: 4, Burst: 10}, Policy{Key: Merchant, Rate: 1000, Burst: 1000}), 2)
		req := Request{Merchant: "m", Caller: "c", User: "u"}
		for left := int64(4); left >= 0; left-- {
			d := l.Allow(&req, at(0))
			if !d.Allowed || d.Policy.Key != key || d.Limit != 5 || d.Remaining != left || d.RetryAfter != 0 ||
				d.Reset.Round(time.Microsecond) != time.Duration(5-left)*time.Second/2 {
				t.Fatalf("%s: with %d left: %+v", key, left, d)
			}
		}
		d := l.Allow(&req, at(0))
		if d.Allowed || d.Policy.Key != key || d.Index != 0 || d.Remaining != 0 || d.RetryAfter.Round(time.Microsecond) != time.Second/2 {
			t.Fatalf("%s: %+v", key, d)
		}
		if l.Allow(&req, at(d.RetryAfter-time.Microsecond)).Allowed {
			t.Errorf("%s: allowed before the wait is over", key)
		}
		if !l.Allow(&req, at(d.RetryAfter)).Allowed {
			t.Errorf("%s: who waited as told is refused", key)
		}
	}
}

// A cost is charged in full. A cost that a key can never pay is refused with that reason. It takes
// no tokens, and gives no time to wait.
func TestCostIsChargedInFull(t *testing.T) {
	for _, key := range kindNames {
		policy := Policy{Key: key, Rate: 1, Burst: 4, Cost: &Cost{Unit: 1}}
		l := newLimiter(t, testConfig(), enforced(policy), 1)
		req := Request{Merchant: "m", Caller: "c", User: "u", Activity: "a", SKU: "s", IP: netip.MustParseAddr("192.0.2.1"), Quantity: 5}
		for range 3 {
			d := l.Allow(&req, at(0))
			if d.Allowed || d.Bound != ByCost || d.Limit != 4 || d.Cost != 5 || d.RetryAfter != 0 || d.Policy.Key != key {
				t.Errorf("%s: %+v", key, d)
			}
			if d.Global != (key == Global) || len(AppendRateLimit(nil, &d))+len(AppendPolicy(nil, &d)) > 0 {
				t.Errorf("%s: it names tokens to wait for", key)
			}
		}
		req.Quantity = 4
		if !l.Allow(&req, at(0)).Allowed {
			t.Errorf("%s: a full bucket refuses all that it has", key)
		}
		l = newLimiter(t, testConfig(), Document{Policies: []Policy{{Name: "s", Key: key, Rate: 1, Burst: 4, Cost: &Cost{Unit: 1}, Mode: Shadow}}}, 1)
		req.Quantity = 5
		if d := l.Allow(&req, at(0)); !d.Allowed || d.Shadowed == nil {
			t.Errorf("%s in shadow: %+v", key, d)
		}
	}
	both := enforced(Policy{Key: Caller, Rate: 1, Burst: 9, Cost: &Cost{Unit: 1}}, Policy{Key: Merchant, Rate: 1, Burst: 4, Cost: &Cost{Unit: 1}})
	l := newLimiter(t, testConfig(), both, 1)
	dear := Request{Merchant: "m", Caller: "c", Quantity: 5}
	for range 5 {
		if d := l.Allow(&dear, at(0)); d.Bound != ByCost || d.Policy.Key != Merchant {
			t.Fatalf("%+v", d)
		}
	}
	fits := Request{Merchant: "m", Caller: "c", Quantity: 4}
	if d := l.Allow(&fits, at(0)); !d.Allowed || d.Remaining != 0 {
		t.Errorf("after what could never fit: %+v", d)
	}
}

// Nodes split a limit. Another number of them is an edit like any other.
func TestNodesShareALimit(t *testing.T) {
	doc := enforced(Policy{Key: Caller, Rate: 100, Burst: 50})
	req := Request{Merchant: "m", Caller: "c"}
	total := 0
	for range 5 {
		l := newLimiter(t, testConfig(), doc, 5)
		total += admit(l, req, 1000, 0, 10*time.Second)
		apply(t, l, doc, 1, 10*time.Second)
		if got := admit(l, req, 100_000, 10*time.Second, 10*time.Second+5*time.Millisecond); got > 1 {
			t.Errorf("%d admitted when the others went away", got)
		}
	}
	if total < 1050-10 || total > 1050 {
		t.Errorf("five nodes admitted %d in 10 s, want 1050", total)
	}
}

func TestApplyKeepsTheOldAfterAMistake(t *testing.T) {
	l, err := New(testConfig(), nil, at(0))
	if err != nil {
		t.Fatal(err)
	}
	req := Request{Merchant: "m", Caller: "c"}
	if d := l.Allow(&req, at(0)); !d.Allowed || d.Policy != nil {
		t.Errorf("without policies: %+v", d)
	}
	doc := enforced(Policy{Key: Caller, Rate: 1, Burst: 1})
	apply(t, l, doc, 1, 0)
	doc.Policies[0].Burst = 1_000_000 // what was applied is a copy
	before := l.snapshot.Load()
	bad := enforced(Policy{Key: Caller, Rate: 1000, Burst: 1000}, Policy{Key: User})
	err = l.Apply(bad, 1, at(0))
	if fields, ok := errors.AsType[FieldErrors](err); !ok || len(fields) != 2 || fields[0].Field != "policies[1].rate" {
		t.Errorf("%v", err)
	}
	for _, nodes := range []int{0, -1, MaxNodes + 1} {
		if err := l.Apply(enforced(), nodes, at(0)); err == nil {
			t.Errorf("%d nodes were applied", nodes)
		}
	}
	if l.snapshot.Load() != before {
		t.Error("the snapshot was swapped")
	}
	if got := admit(l, req, 1000, 0, 10*time.Millisecond); got != 1 {
		t.Errorf("%d admitted", got)
	}
}

func TestConfigValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	cfg := DefaultConfig()
	cfg.Users, cfg.Callers = 0, maxKeys+1
	if _, err := New(cfg, nil, at(0)); err == nil || err.Error() !=
		"limiter: room for users must be from 1 to 67108864\nlimiter: room for callers must be from 1 to 67108864" {
		t.Errorf("%v", err)
	}
}

// A policy that keeps name and kind keeps its counts. A new policy begins at zero.
func TestStatsOutliveEdits(t *testing.T) {
	req := Request{Merchant: "m", Caller: "c", User: "u"}
	l := newLimiter(t, testConfig(), enforced(Policy{Key: Caller, Rate: 1, Burst: 2}, Policy{Name: "x", Key: User, Rate: 1, Burst: 9}), 1)
	admit(l, req, 1000, 0, 5*time.Millisecond)
	apply(t, l, enforced(Policy{Name: "x", Key: Merchant, Rate: 9, Burst: 9}, Policy{Key: Caller, Rate: 1, Burst: 3}), 2, 0)
	s := l.Stats(at(0))
	if s.Nodes != 2 || len(s.Policies) != 2 || len(s.Tables) != 3 {
		t.Fatalf("%+v", s)
	}
	if p := s.Policies[0]; p.Policy.Key != Merchant || p.Allowed != 0 {
		t.Errorf("%+v", p)
	}
	if p := s.Policies[1]; p.Allowed != 2 || p.Refused != 3 {
		t.Errorf("%+v", p)
	}
	for _, table := range s.Tables {
		want := map[Kind]int{Caller: 1, User: 1, Merchant: 0}[table.Key]
		if table.Live != want || table.Strangers != 0 || table.Capacity < minSlots {
			t.Errorf("%+v, want %d live", table, want)
		}
	}
	apply(t, l, Document{}, 1, 0)
	if s := l.Stats(at(time.Hour)); len(s.Policies) != 0 || s.Tables[0].Live+s.Tables[1].Live+s.Tables[2].Live != 0 {
		t.Errorf("after an hour without policies: %+v", s)
	}
}

// Time stands still, so each bucket admits at most its first burst, whatever the goroutines and
// edits do.
func TestConcurrentRequestsAndEdits(t *testing.T) {
	const burst = 5000
	doc := func(i int) Document {
		var policies []Policy
		for _, key := range kindNames {
			policies = append(policies, Policy{Key: key, Rate: 1 + float64(i%3), Burst: burst + int64(i)*100})
		}
		if i%2 == 1 {
			policies = append(policies,
				Policy{Name: "own-user", Key: User, Match: "m/u1", Rate: 7, Burst: burst - 100},
				Policy{Name: "own-caller", Key: Caller, Match: "m/c", Rate: 7, Burst: 2 * burst})
		}
		return enforced(policies...)
	}
	l := newLimiter(t, testConfig(), doc(0), 1)
	var allowed, asked atomic.Int64
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			req := Request{Merchant: "m", Caller: "c", Activity: "a", SKU: "s", IP: netip.MustParseAddr("192.0.2.1")}
			for i := range 2 * burst {
				req.User = []string{"u1", "u2"}[(i+g)%2]
				asked.Add(1)
				if l.Allow(&req, at(0)).Allowed {
					allowed.Add(1)
				}
				if i%500 == 0 {
					l.Stats(at(0))
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 50 {
			if err := l.Apply(doc(i), 1, at(0)); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if n := allowed.Load(); n > burst || n < burst/2 {
		t.Errorf("%d of %d admitted, the burst is %d", n, asked.Load(), burst)
	}
	if d := l.Allow(&Request{Merchant: "m", Caller: "c"}, at(time.Hour)); !d.Allowed {
		t.Errorf("an hour later: %+v", d)
	}
}

// Many goroutines at one moment take exactly the burst: no token is lost and none is found.
func TestConcurrentRequestsTakeTheBurst(t *testing.T) {
	for _, key := range kindNames {
		l := newLimiter(t, testConfig(), enforced(Policy{Key: key, Rate: 0.01, Burst: 1000}), 1)
		var allowed atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				req := Request{Merchant: "m", Caller: "c", User: "u", Activity: "a", SKU: "s", IP: netip.MustParseAddr("192.0.2.1")}
				for range 1000 {
					if l.Allow(&req, at(0)).Allowed {
						allowed.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if allowed.Load() != 1000 {
			t.Errorf("%s: %d of 1000", key, allowed.Load())
		}
	}
}
