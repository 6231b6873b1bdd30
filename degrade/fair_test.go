package degrade

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// shop serves purchases one after the other, in virtual time.
type shop struct {
	c      *Controller
	rate   float64 // served per second
	line   []*Visit
	ready  float64
	came   map[string]int
	let    map[string]int
	owed   map[string]float64
	fitted bool
}

func newShop(capacity int, rate float64) *shop {
	s := &shop{c: NewController(), rate: rate, came: make(map[string]int), let: make(map[string]int), owed: make(map[string]float64)}
	s.c.Resize(capacity)
	return s
}

// run sends purchases of merchants for some milliseconds, each merchant evenly at its rate.
func (s *shop) run(offered map[string]float64, millis int) {
	for ms := range millis {
		for _, name := range slices.Sorted(maps.Keys(offered)) {
			for s.owed[name] += offered[name] / 1000; s.owed[name] >= 1; s.owed[name]-- {
				s.came[name]++
				v := &Visit{Class: NewOrder, Merchant: name}
				if s.c.Enter(v).Cause == None {
					s.let[name]++
					s.line = append(s.line, v)
				}
			}
		}
		for s.ready += s.rate / 1000; s.ready >= 1; s.ready-- {
			if len(s.line) > 0 {
				s.c.Leave(s.line[0])
				s.line = s.line[1:]
			}
		}
		if s.fitted && ms%100 == 0 {
			s.c.Fit(time.Duration(float64(len(s.line)) / s.rate * float64(time.Second)))
		}
	}
}

// crowdOf are four merchants within their share of 1000 per second, and one at twenty times its
// share.
func crowdOf() map[string]float64 {
	return map[string]float64{"a": 190, "b": 190, "c": 100, "d": 20, "hog": 4000}
}

func (s *shop) othersAreServed(t *testing.T) {
	t.Helper()
	for name, came := range s.came {
		if name != "hog" && float64(s.let[name]) < 0.95*float64(came) {
			t.Errorf("%s: %d of %d are let in beside one that takes all it can", name, s.let[name], came)
		}
	}
}

// TestPlaces_OneTakesNoneFromTheOthers: while all places are taken, merchants within their share
// find one.
func TestPlaces_OneTakesNoneFromTheOthers(t *testing.T) {
	s := newShop(400, 1000)
	s.run(map[string]float64{"hog": 4000}, 2000) // it is there first
	s.run(crowdOf(), 20_000)
	s.othersAreServed(t)
	if got, want := float64(s.let["hog"]), 0.95*22*500; got < want {
		t.Errorf("the hog got %.0f, want %.0f at least: what the others leave is lost", got, want)
	}
	for len(s.line) > 0 {
		s.c.Leave(s.line[0])
		s.line = s.line[1:]
	}
	if n := s.c.Stats().InFlight; n != 0 {
		t.Errorf("%d are inside for ever", n)
	}
	for name, t2 := range *s.c.places.tenants.Load() {
		if n := t2.inside.Load(); n != 0 {
			t.Errorf("%s has %d places for ever", name, n)
		}
	}
}

// TestPlaces_ByWeight: when all merchants want more places, each gets places by its weight.
func TestPlaces_ByWeight(t *testing.T) {
	s := newShop(800, 1000)
	s.c.Weigh(map[string]int{"heavy": 3})
	s.run(map[string]float64{"heavy": 3000, "light": 3000}, 20_000)
	if ratio := float64(s.let["heavy"]) / float64(s.let["light"]); ratio < 2.7 || ratio > 3.3 {
		t.Errorf("heavy got %d, light %d, want three to one", s.let["heavy"], s.let["light"])
	}
}

// TestPlaces_Fit: while the line is long, there are fewer places, so that no level has to refuse
// the others. All places come back afterwards.
func TestPlaces_Fit(t *testing.T) {
	s := newShop(8000, 1000)
	s.fitted = true
	s.run(crowdOf(), 20_000)
	s.othersAreServed(t)
	if delay := time.Duration(float64(len(s.line)) / s.rate * float64(time.Second)); delay > 450*time.Millisecond {
		t.Errorf("purchases wait for %v: that is D3", delay)
	}
	s.run(nil, 10_000)
	if fit := s.c.places.fit.Load(); fit != 0 {
		t.Errorf("%d places still are fewer than there are", fit)
	}
}

// TestPlaces_InventedMerchants: memory stays bounded whatever names come.
func TestPlaces_InventedMerchants(t *testing.T) {
	c := NewController()
	c.Resize(1000)
	m := make(map[string]*tenant)
	for i := range maxTenants {
		m[fmt.Sprint("m", i)] = &tenant{weight: 1}
	}
	c.places.tenants.Store(&m)
	for i := range 1000 {
		v := &Visit{Class: NewOrder, Merchant: fmt.Sprint("invented", i)}
		if c.Enter(v).Cause != None {
			t.Fatalf("merchant %d is turned away from an empty shop", i)
		}
		c.Leave(v)
	}
	if n := len(*c.places.tenants.Load()); n != maxTenants {
		t.Errorf("%d merchants are counted", n)
	}
}

// TestController_SparesTheGuaranteed: a level that refuses buyers spares the guaranteed ones, a
// person's switch doesn't.
func TestController_SparesTheGuaranteed(t *testing.T) {
	for _, c := range []struct {
		switches []string
		want     bool
	}{{[]string{"level: D4"}, true}, {[]string{"admission: 10"}, false}, {[]string{"level: D4", "admission merchant=m1: 10"}, false}} {
		controller, spared, refused := controller(t, c.switches...), 0, 0
		for i := range 100 {
			v := purchase()
			v.Merchant, v.User = "m1", fmt.Sprint("u", i)
			if got := controller.Enter(v); got.Cause == NotAdmitted {
				refused++
				if got.Spared {
					spared++
				}
			}
		}
		if refused < 50 || c.want && spared != refused || !c.want && c.switches[0] != "level: D4" && spared != 0 {
			t.Errorf("%v: %d refused, %d spared", c.switches, refused, spared)
		}
	}
}
