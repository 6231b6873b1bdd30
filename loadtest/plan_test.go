package loadtest

import (
	"math"
	"testing"
	"time"
)

func TestPlan_DeparturesFollowTheRate(t *testing.T) {
	for name, c := range map[string]struct {
		phases []Phase
		count  int64
		due    map[int64]time.Duration
	}{
		"constant": {[]Phase{{Duration: 30 * time.Second, From: 5000, To: 5000}}, 150_000,
			map[int64]time.Duration{0: 0, 1: 200 * time.Microsecond, 75_000: 15 * time.Second, 149_999: 30*time.Second - 200*time.Microsecond}},
		"below one a second": {[]Phase{{Duration: 10 * time.Second, From: 0.5, To: 0.5}}, 5,
			map[int64]time.Duration{0: 0, 1: 2 * time.Second, 4: 8 * time.Second}},
		"a ramp from nothing": {[]Phase{{Duration: 10 * time.Second, From: 0, To: 100}}, 500,
			map[int64]time.Duration{0: 0, 125: 5 * time.Second, 499: 9989995 * time.Microsecond}},
		"a ramp to nothing": {[]Phase{{Duration: 10 * time.Second, From: 100, To: 0}}, 500,
			map[int64]time.Duration{0: 0, 375: 5 * time.Second}},
		"a pause between": {[]Phase{{Duration: time.Second, From: 10, To: 10}, {Duration: time.Minute}, {Duration: time.Second, From: 10, To: 10}}, 20,
			map[int64]time.Duration{9: 900 * time.Millisecond, 10: 61 * time.Second, 19: 61900 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlan(c.phases, 1, 10, taste{})
			if p.count != c.count {
				t.Errorf("%d departures, want %d", p.count, c.count)
			}
			for i, want := range c.due {
				if got := p.due(i); got < want-time.Microsecond || got > want+time.Microsecond {
					t.Errorf("departure %d is due at %v, want %v", i, got, want)
				}
			}
			last := time.Duration(0)
			for i := range p.count {
				due := p.due(i)
				if due < last || due > p.length {
					t.Fatalf("departure %d is due at %v, after %v, of %v", i, due, last, p.length)
				}
				last = due
			}
			if sum := p.sum(p.length); math.Abs(sum-float64(c.count)) > 1e-6 {
				t.Errorf("%v departures are due in the whole time, want %d", sum, c.count)
			}
		})
	}
}

func TestPlan_SharesAndRepeats(t *testing.T) {
	mix := Mix{Browse: 0.2, Repeat: 0.1, DoubleClick: 0.05}
	const rate, count = 1000, 100_000
	p := newPlan([]Phase{{Duration: count / rate * time.Second, From: rate, To: rate, Mix: mix}}, 618, 5000, taste{})
	kinds := map[kind]int{}
	again := newPlan([]Phase{{Duration: count / rate * time.Second, From: rate, To: rate, Mix: mix}}, 618, 5000, taste{})
	other := newPlan([]Phase{{Duration: count / rate * time.Second, From: rate, To: rate, Mix: mix}}, 619, 5000, taste{})
	same := 0
	for i := range p.count {
		k, origin := p.kind(i), p.origin(i)
		kinds[k]++
		switch {
		case again.kind(i) != k || again.origin(i) != origin || again.user(i) != p.user(i):
			t.Fatalf("departure %d is not a function of the seed", i)
		case p.user(i) >= 5000:
			t.Fatalf("user %d of 5000", p.user(i))
		case k == buying && origin != i, origin > i, i > 10 && (k == doubling || k == coming) && origin == i:
			t.Fatalf("departure %d of kind %d has the key of %d", i, k, origin)
		case k == coming && p.due(i)-p.due(origin) > comesBackWithin+time.Second:
			t.Fatalf("departure %d repeats one of %v before", i, p.due(i)-p.due(origin))
		case origin != i && p.origin(origin) != origin:
			t.Fatalf("departure %d repeats %d, which repeats %d", i, origin, p.origin(origin))
		}
		if p.user(i) == other.user(i) {
			same++
		}
	}
	if same > 100 {
		t.Errorf("%d departures have the same user with another seed", same)
	}
	for k, want := range map[kind]float64{browsing: 0.2, coming: 0.08, doubling: 0.04, buying: 0.68} {
		if got := float64(kinds[k]) / count; math.Abs(got-want) > 0.01 {
			t.Errorf("kind %d: a share of %v, want %v", k, got, want)
		}
	}
}

func TestPlan_ARepeatWithNothingBeforeIsTheFirst(t *testing.T) {
	mix := Mix{Repeat: 0.9}
	for seed := range uint64(50) {
		p := newPlan([]Phase{{Duration: time.Second, From: 100, To: 100, Mix: mix}}, seed, 10, taste{})
		for i := range p.count {
			if origin := p.origin(i); origin < 0 || origin > i || p.origin(origin) != origin {
				t.Fatalf("seed %d: departure %d has the key of %d", seed, i, origin)
			}
		}
	}
}
