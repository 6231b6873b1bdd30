package limiter

import (
	"encoding/json"
	"testing"
	"time"
)

// TestCost_ByClass: for each kind of key, a class takes the policy's cost for it. A free class is
// not checked.
func TestCost_ByClass(t *testing.T) {
	for _, key := range []Kind{Caller, IP, Activity, Merchant, Global} {
		l := newLimiter(t, testConfig(), enforced(Policy{Key: key, Rate: 0.001, Burst: 20, Cost: &Cost{Purchase: 2, Unit: 3, Page: 1}}), 1)
		left := int64(20)
		ask := func(class Class, quantity int, cost int64) {
			t.Helper()
			req := everybody()
			req.Class, req.Quantity = class, quantity
			d := l.Allow(&req, at(0))
			if d.Allowed != (cost <= left) {
				t.Fatalf("%s: class %d of %d with %d tokens: %+v", key, class, quantity, left, d)
			}
			if d.Allowed {
				left -= cost
			}
			if cost > 0 && key != Global && d.Remaining != left {
				t.Errorf("%s: class %d of %d leaves %d tokens, want %d", key, class, quantity, d.Remaining, left)
			}
		}
		ask(Purchase, 0, 5) // counts as one
		ask(Purchase, 3, 11)
		ask(Page, 1, 1)
		ask(Status, 1, 0)
		ask(Purchase, 1, 5)
		for range 3 {
			ask(Page, 1, 1)
		}
		ask(Page, 1, 1)
		for range 10 {
			ask(Status, 1, 0)
		}
		if got := l.statsOf(t, string(key), 0); got.Allowed != 6 || got.Refused != 2 {
			t.Errorf("%s: %+v", key, got)
		}
	}
}

// TestCost_IsGivenBack: the taken tokens come back exactly once, also if the cost was edited
// meanwhile.
func TestCost_IsGivenBack(t *testing.T) {
	doc := func(unit int64) Document {
		return enforced(Policy{Key: Caller, Rate: 0.001, Burst: 100, Cost: &Cost{Unit: unit}}, Policy{Key: User, Rate: 0.001, Burst: 100, Cost: &Cost{Unit: unit}})
	}
	l := newLimiter(t, testConfig(), doc(2), 1)
	used := everybody()
	used.Quantity = 20
	l.Allow(&used, at(0))
	req := everybody()
	req.Quantity = 5
	l.Allow(&req, at(0))
	apply(t, l, doc(10), 1, 0)
	l.GiveBack(&req, at(0))
	l.GiveBack(&req, at(0))
	next := everybody()
	if d := l.Allow(&next, at(0)); !d.Allowed || d.Remaining != 60-10 {
		t.Errorf("%+v, want 50 tokens left", d)
	}
}

// TestCost_RefusedByAWiderLimit: costs differ by policy, and each policy gets back what it gave.
func TestCost_RefusedByAWiderLimit(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(
		Policy{Key: Caller, Rate: 0.001, Burst: 100, Cost: &Cost{Unit: 7}},
		Policy{Key: User, Rate: 0.001, Burst: 50, Cost: &Cost{Purchase: 1, Unit: 1}},
		Policy{Key: Merchant, Rate: 0.001, Burst: 5, Cost: &Cost{Unit: 5}},
	), 1)
	for i := range 20 {
		req := everybody()
		req.Quantity = 1
		if d := l.Allow(&req, at(0)); d.Allowed != (i == 0) || !d.Allowed && d.Policy.Key != Merchant {
			t.Fatalf("request %d: %+v", i, d)
		}
	}
	apply(t, l, enforced(Policy{Key: Caller, Rate: 0.001, Burst: 100, Cost: &Cost{Unit: 7}}, Policy{Key: User, Rate: 0.001, Burst: 50, Cost: &Cost{Purchase: 1, Unit: 1}}), 1, 0)
	req := everybody()
	if d := l.Allow(&req, at(0)); d.Policy == nil || d.Policy.Key != Caller || d.Remaining != 100-14 {
		t.Errorf("%+v", d)
	}
}

func TestCost_AsJSON(t *testing.T) {
	var doc Document
	if err := json.Unmarshal([]byte(`{"policies":[{"name":"a","key":"caller","rate":1,"burst":9,"mode":"enforce","cost":{"page":2}}]}`), &doc); err != nil {
		t.Fatal(err)
	}
	if got := *doc.Policies[0].Cost; got != (Cost{Purchase: 1, Page: 2}) {
		t.Errorf("%+v", got)
	}
	if err := json.Unmarshal([]byte(`{"policies":[{"cost":{"pages":2}}]}`), &doc); err == nil {
		t.Error("an unknown class is taken")
	}
}

// TestCost_NothingIsLimited: a class that no policy charges for is not checked.
func TestCost_NothingIsLimited(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: Caller, Rate: 0.001, Burst: 1}), 1)
	for range 5 {
		req := everybody()
		req.Class = Page
		if d := l.Allow(&req, at(time.Second)); !d.Allowed || d.Policy != nil || d.Index != -1 {
			t.Fatalf("%+v", d)
		}
	}
}
