package limiter

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// merchants sends requests of merchants, each evenly at its rate, and counts those that are
// admitted.
type merchants map[string]float64

func (m merchants) offer(l *Limiter, from, to time.Duration) map[string]int {
	let := make(map[string]int)
	owed := make(map[string]float64)
	names := slices.Sorted(maps.Keys(m))
	for now := from; now < to; now += time.Millisecond {
		for _, name := range names {
			for owed[name] += m[name] / 1000; owed[name] >= 1; owed[name]-- {
				if l.Allow(&Request{Merchant: name, Caller: "web"}, at(now)).Allowed {
					let[name]++
				}
			}
		}
	}
	return let
}

// within checks that a merchant was admitted at a rate, within 5 %.
func within(t *testing.T, let map[string]int, name string, rate float64, span time.Duration) {
	t.Helper()
	want := rate * span.Seconds()
	if got := float64(let[name]); math.Abs(got-want) > 0.05*want {
		t.Errorf("%s got %.0f in %v, want %.0f within 5 %%", name, got, span, want)
	}
}

const fairSpan = 20 * time.Second

// TestFair_OneTakesNothingFromTheOthers: a merchant at twenty times its share gets only what the
// others don't use.
func TestFair_OneTakesNothingFromTheOthers(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: Global, Rate: 1000, Burst: 500}), 1)
	let := merchants{"a": 190, "b": 190, "c": 100, "d": 7, "hog": 4000}.offer(l, 0, fairSpan)
	for name, rate := range map[string]float64{"a": 190, "b": 190, "c": 100, "d": 7, "hog": 1000 - 487 + 500/20} {
		within(t, let, name, rate, fairSpan)
	}
	if all := let["a"] + let["b"] + let["c"] + let["d"] + let["hog"]; all > 1000*20+500 {
		t.Errorf("%d in all: more than the global limit", all)
	}
}

// TestFair_MaxMinByWeight: merchants that together want more than the limit divide it by weight.
func TestFair_MaxMinByWeight(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(
		Policy{Key: Global, Rate: 1000, Burst: 200},
		Policy{Name: "heavy", Key: Merchant, Match: "heavy", Rate: 5000, Burst: 5000, Weight: 3},
	), 1)
	all := merchants{"heavy": 3000, "light": 3000, "small": 150}
	all.offer(l, 0, time.Second) // whoever comes first gets the burst
	let := all.offer(l, time.Second, time.Second+fairSpan)
	within(t, let, "small", 150, fairSpan)
	within(t, let, "heavy", 850*3/4, fairSpan)
	within(t, let, "light", 850/4, fairSpan)
}

// TestFair_GuaranteedAndCeiling: a guaranteed rate is kept whatever the others want. A merchant
// gets at most the rate of its policy. The others may use a guaranteed rate that isn't used.
func TestFair_GuaranteedAndCeiling(t *testing.T) {
	doc := enforced(
		Policy{Key: Global, Rate: 1000, Burst: 500},
		Policy{Name: "sure", Key: Merchant, Match: "sure", Rate: 600, Burst: 60, Guaranteed: 500},
		Policy{Name: "low", Key: Merchant, Match: "low", Rate: 50, Burst: 5},
	)
	l := newLimiter(t, testConfig(), doc, 1)
	all := merchants{"sure": 500, "low": 900}
	for i := range 10 {
		all[fmt.Sprint("hog", i)] = 2000
	}
	let := all.offer(l, 0, fairSpan)
	within(t, let, "sure", 500, fairSpan)
	if let["low"] > 50*20+5 {
		t.Errorf("low got %d, above its ceiling", let["low"])
	}
	delete(all, "sure")
	let = all.offer(l, 2*fairSpan, 3*fairSpan)
	sum := 0
	for _, n := range let {
		sum += n
	}
	if sum < 950*20 {
		t.Errorf("%d without the merchant that has a guaranteed rate: it is lost", sum)
	}
}

// TestFair_AloneHasAll: a merchant alone gets the whole limit.
func TestFair_AloneHasAll(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: Global, Rate: 10, Burst: 100}), 1)
	got := 0
	for range 200 {
		if l.Allow(&Request{Merchant: "m"}, at(0)).Allowed {
			got++
		}
	}
	if got != 100 {
		t.Errorf("%d of a burst of 100", got)
	}
}

// TestFair_WhoComesLater: a merchant that comes later gets its share within moments, even after
// another one has used up the limit.
func TestFair_WhoComesLater(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: Global, Rate: 1000, Burst: 1000}), 1)
	merchants{"hog": 20_000}.offer(l, 0, 10*time.Second)
	within(t, merchants{"hog": 20_000, "late": 400}.offer(l, 10*time.Second, 20*time.Second), "late", 400, 10*time.Second)
}

// TestFair_InventedMerchants: memory doesn't grow with names, and known merchants keep their share.
func TestFair_InventedMerchants(t *testing.T) {
	cfg := testConfig()
	cfg.Merchants = 50
	l := newLimiter(t, cfg, enforced(Policy{Key: Global, Rate: 1000, Burst: 500}), 1)
	for i := range 100_000 {
		now := time.Duration(i) * 100 * time.Microsecond
		l.Allow(&Request{Merchant: fmt.Sprint("invented", i)}, at(now))
	}
	if n := len(*l.fair.tenants.Load()); n > 50 {
		t.Errorf("%d merchants are kept, there is room for 50", n)
	}
	if n := len(l.fair.active); n > 50 {
		t.Errorf("%d merchants are active", n)
	}
}

// TestFair_OverNodes: a flooding merchant uses two nodes, a small merchant only the third, another
// one uses all.
func TestFair_OverNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, enforced(
			Policy{Key: Global, Rate: 1000, Burst: 500},
			Policy{Name: "sure", Key: Merchant, Match: "sure", Rate: 1000, Burst: 100, Guaranteed: 400},
		))
		nodes := []*siteNode{s.start(3), s.start(3), s.start(3)}
		let := make(map[string]int)
		owed := make(map[string]float64)
		ask := func(name string, n *siteNode) {
			s.done.Go(func() {
				if n.Allow(&Request{Merchant: name}, time.Now()).Allowed {
					s.mu.Lock()
					let[name]++
					s.mu.Unlock()
				}
			})
		}
		for ms := range 10_000 {
			for _, m := range []struct {
				name string
				rate float64
				node func(i int) int
			}{
				{"hog", 4000, func(i int) int { return i % 2 }}, {"sure", 400, func(int) int { return 2 }},
				{"small", 150, func(i int) int { return i % 3 }},
			} {
				for owed[m.name] += m.rate / 1000; owed[m.name] >= 1; owed[m.name]-- {
					ask(m.name, nodes[m.node(ms)])
				}
			}
			time.Sleep(time.Millisecond)
		}
		s.stop(nodes...)
		within(t, let, "sure", 400, 10*time.Second)
		within(t, let, "small", 150, 10*time.Second)
		if all := let["hog"] + let["sure"] + let["small"]; all > 1000*10+500+300 {
			t.Errorf("%d in all: more than the global limit", all)
		}
		if let["hog"] < 4000 {
			t.Errorf("the hog got %d: what the others leave is lost", let["hog"])
		}
	})
}

// TestFair_OverSomeOfTheNodes: purchases come to some of the nodes only, or mostly. Merchants
// within their share of the whole get it, also where the flood had all before they came.
func TestFair_OverSomeOfTheNodes(t *testing.T) {
	rates := merchants{"a": 180, "b": 90, "c": 180, "hog": 5000}
	only := func(node int) func(int) int { return func(int) int { return node } }
	two := func(i int) int { return i % 2 }
	for what, c := range map[string]struct {
		hog, others func(i int) int
		first       int // ms of the hog alone
	}{
		"all on one":            {only(0), only(0), 0},
		"on two of three":       {two, two, 0},
		"after the flood alone": {only(0), only(0), 4000},
		"elsewhere after it":    {only(0), func(i int) int { return 1 + i%2 }, 4000},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, enforced(Policy{Key: Global, Rate: 800, Burst: 400}))
				nodes := []*siteNode{s.start(3), s.start(3), s.start(3)}
				let, owed := make(map[string]int), make(map[string]float64)
				offer := func(name string, n *siteNode) {
					for owed[name] += rates[name] / 1000; owed[name] >= 1; owed[name]-- {
						s.done.Go(func() {
							if n.Allow(&Request{Merchant: name}, time.Now()).Allowed {
								s.mu.Lock()
								let[name]++
								s.mu.Unlock()
							}
						})
					}
				}
				for ms := range 10_000 + c.first {
					offer("hog", nodes[c.hog(ms)])
					for _, name := range []string{"a", "b", "c"} {
						if ms >= c.first {
							offer(name, nodes[c.others(ms)])
						}
					}
					time.Sleep(time.Millisecond)
				}
				s.stop(nodes...)
				sum := let["hog"]
				for _, name := range []string{"a", "b", "c"} {
					within(t, let, name, rates[name], 10*time.Second)
					sum += let[name]
				}
				if want := 780 * (10_000 + c.first) / 1000; sum < want {
					t.Errorf("%d in all of %d: what the others leave is lost", sum, want)
				}
				t.Logf("%v", let)
			})
		})
	}
}

// TestFair_GuaranteedAtLowRates: guaranteed rates of some tokens a second hold over two nodes,
// beside a flood, though tokens are leased and given back all the time.
func TestFair_GuaranteedAtLowRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sure := func(name string, rate float64) Policy {
			return Policy{Name: name, Key: Merchant, Match: name, Rate: 60, Burst: 60, Guaranteed: rate}
		}
		s := newSite(t, enforced(Policy{Key: Global, Rate: 60, Burst: 60}, sure("a", 15), sure("b", 10), sure("c", 5)))
		nodes := []*siteNode{s.start(2), s.start(2)}
		let, owed, sent := make(map[string]int), make(map[string]float64), make(map[string]int)
		rates := merchants{"a": 15, "b": 10, "c": 5, "d": 10, "hog": 400}
		for ms := range 23_000 {
			for _, name := range []string{"a", "b", "c", "d", "hog"} {
				for owed[name] += rates[name] / 1000; owed[name] >= 1; owed[name]-- {
					n := nodes[sent[name]%2]
					sent[name]++
					s.done.Go(func() {
						if n.Allow(&Request{Merchant: name}, time.Now()).Allowed && ms >= 3000 {
							s.mu.Lock()
							let[name]++
							s.mu.Unlock()
						}
					})
				}
			}
			time.Sleep(time.Millisecond)
		}
		s.stop(nodes...)
		for _, name := range []string{"a", "b", "c", "d"} {
			within(t, let, name, rates[name], 20*time.Second)
		}
		t.Logf("%v", let)
	})
}

// TestGuaranteed_IsSpentOnce: a token that Guaranteed has given isn't taken again by Allow.
func TestGuaranteed_IsSpentOnce(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(
		Policy{Key: Global, Rate: 100, Burst: 100},
		Policy{Name: "sure", Key: Merchant, Match: "sure", Rate: 100, Burst: 100, Guaranteed: 20},
	), 1)
	given := 0
	for range 50 {
		if l.Guaranteed("sure", at(0)) {
			given++
		}
	}
	if given != 10 { // half a second's
		t.Errorf("%d tokens of a guaranteed rate of 20 at once, want 10", given)
	}
	if l.Guaranteed("other", at(0)) || l.Guaranteed("", at(0)) {
		t.Error("a merchant without a guaranteed rate has a token of one")
	}
}

// TestDocument_Guarantees: guarantees that can't be kept are refused, with the field.
func TestDocument_Guarantees(t *testing.T) {
	all := Policy{Name: "all", Key: Global, Rate: 100, Burst: 100, Mode: Enforce}
	sure := func(name string, rate float64) Policy {
		return Policy{Name: name, Key: Merchant, Match: name, Rate: 100, Burst: 10, Mode: Enforce, Guaranteed: rate}
	}
	edited := func(p Policy, edit func(*Policy)) Policy { edit(&p); return p }
	for _, c := range []struct {
		policies []Policy
		want     string
	}{
		{[]Policy{all, sure("a", 60), sure("b", 40)}, ""},
		{[]Policy{all, sure("a", 60), sure("b", 41)}, "policies[2].guaranteed: makes the guaranteed rates 101 per second"},
		{[]Policy{sure("a", 60)}, "policies[0].guaranteed: needs an enforced global policy"},
		{[]Policy{edited(all, func(p *Policy) { p.Burst = 1 }), sure("a", 1)}, "policies[1].guaranteed: needs a burst of at least 2"},
		{[]Policy{all, sure("a", 101)}, "policies[1].guaranteed: must be at most the rate, 100"},
		{[]Policy{all, sure("a", -1)}, "policies[1].guaranteed: must be a number above 0"},
		{[]Policy{all, sure("a", math.Inf(1))}, "policies[1].guaranteed: must be a number above 0"},
		{[]Policy{all, edited(sure("a", 1), func(p *Policy) { p.Match = "" })}, "policies[1].guaranteed: is for one merchant"},
		{[]Policy{edited(all, func(p *Policy) { p.Weight = 2 })}, "policies[0].weight: is for merchants"},
		{[]Policy{all, edited(sure("a", 1), func(p *Policy) { p.Weight = -1 })}, "policies[1].weight: must be from 1 to 1000"},
		{[]Policy{edited(all, func(p *Policy) { p.Mode, p.Percent = Percent, 5 })}, "policies[0].mode: must not be percent"},
		{[]Policy{edited(sure("a", 0), func(p *Policy) { p.Mode = Percent })}, "policies[0].percent: must be from 1 to 99"},
		{[]Policy{edited(sure("a", 0), func(p *Policy) { p.Percent = 5 })}, "policies[0].percent: needs the mode percent"},
		{[]Policy{edited(sure("a", 0), func(p *Policy) { p.Temporary = &Temporary{Rate: -1, Burst: 1, Mode: Enforce} })},
			"policies[0].temporary.rate: must be above 0; policies[0].temporary.expires_at: is required"},
	} {
		err := (&Document{Policies: c.policies}).Validate()
		if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s, want %q", got, c.want)
		}
	}
}

// TestDocument_At: policies that have ended are gone, a temporary one applies until its end, and
// the time of the next change is returned.
func TestDocument_At(t *testing.T) {
	end := func(d time.Duration) End { return End{at(d)} }
	doc := Document{Policies: []Policy{
		{Name: "gone", Key: User, Rate: 1, Burst: 1, Mode: Enforce, ExpiresAt: end(time.Second)},
		{Name: "more", Key: Caller, Rate: 1, Burst: 1, Mode: Enforce, Temporary: &Temporary{Rate: 9, Burst: 9, Mode: Shadow, ExpiresAt: end(2 * time.Second)}},
	}}
	for _, c := range []struct {
		now  time.Duration
		want string
		next time.Duration
	}{
		{0, "gone 1 enforce, more 9 shadow", time.Second}, {time.Second, "more 9 shadow", 2 * time.Second}, {2 * time.Second, "more 1 enforce", 0},
	} {
		got, next := doc.At(at(c.now))
		var text []string
		for _, p := range got.Policies {
			text = append(text, fmt.Sprint(p.Name, " ", p.Rate, " ", p.Mode))
		}
		if strings.Join(text, ", ") != c.want || c.next > 0 && !next.Equal(at(c.next)) || c.next == 0 && !next.IsZero() {
			t.Errorf("at %v: %v, next %v", c.now, text, next)
		}
	}
	doc.Prune(at(2 * time.Second))
	if len(doc.Policies) != 1 || doc.Policies[0].Temporary != nil {
		t.Errorf("%+v", doc)
	}
}

// TestPercent: a policy in mode percent refuses as many of the keys, the same ones on every node.
func TestPercent(t *testing.T) {
	doc := enforced(Policy{Key: User, Rate: 0.001, Burst: 1, Mode: Percent, Percent: 30})
	a, b := newLimiter(t, DefaultConfig(), doc, 1), newLimiter(t, DefaultConfig(), doc, 1)
	refused := 0
	for i := range 2000 {
		req := Request{Merchant: "m", User: fmt.Sprint("u", i)}
		a.Allow(&req, at(0))
		b.Allow(&req, at(0))
		one, two := a.Allow(&req, at(0)), b.Allow(&req, at(0))
		if one.Allowed != two.Allowed {
			t.Fatalf("%s is refused on one node alone", req.User)
		}
		if !one.Allowed {
			refused++
		} else if one.Shadowed == nil {
			t.Fatalf("%s isn't counted", req.User)
		}
	}
	if refused < 540 || refused > 660 {
		t.Errorf("%d of 2000 users are refused, want 30 %%", refused)
	}
}

// TestGiveBack returns what a request took, to every bucket, and no more than it holds.
func TestGiveBack(t *testing.T) {
	var policies []Policy
	for _, key := range kindNames {
		policies = append(policies, Policy{Key: key, Rate: 0.01, Burst: 2})
	}
	l := newLimiter(t, testConfig(), enforced(policies...), 1)
	req := Request{Merchant: "m", Caller: "c", User: "u", Activity: "a", SKU: "s"}
	for range 20 {
		if d := l.Allow(&req, at(0)); !d.Allowed {
			t.Fatalf("refused by %+v, though each was given back", d.Policy)
		}
		l.GiveBack(&req, at(0))
	}
	l.GiveBack(&req, at(0))
	for i := range 3 {
		if d := l.Allow(&req, at(0)); d.Allowed != (i < 2) {
			t.Errorf("request %d of a burst of 2: %v", i, d.Allowed)
		}
	}
}

// TestFair_AloneOverNodes: a merchant alone gets the whole limit and its first burst over three
// nodes, though no node knows that the others are idle.
func TestFair_AloneOverNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, enforced(Policy{Key: Global, Rate: 300, Burst: 100}))
		n := []*siteNode{s.start(3), s.start(3), s.start(3)}
		s.offer(3000, 12*time.Second, Request{Merchant: "m"}, func(i int) *siteNode { return n[i%2] })
		s.stop(n...)
		if got := s.between(0, 12*time.Second); got > 300*12+100+90 || got < 300*12*95/100 {
			t.Errorf("%d in 12 s of 3,600", got)
		}
		if first := s.between(0, 100*time.Millisecond); first < 80 {
			t.Errorf("%d of a burst of 100 at once", first)
		}
	})
}
