package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// gated is an admission with these limits and switches in force, and its log.
func gated(t testing.TB, limits, switches string) (*Admission, *degrade.Controller, *bytes.Buffer) {
	t.Helper()
	limit, err := limiter.New(limiter.DefaultConfig(), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var document limiter.Document
	if err := json.Unmarshal([]byte(limits), &document); err != nil {
		t.Fatal(err)
	}
	if err := limit.Apply(document, 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	controller := degrade.NewController()
	set, err := degrade.ParseDocument([]byte(switches))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := controller.Apply(set, time.Now()); err != nil {
		t.Fatal(err)
	}
	log := new(bytes.Buffer)
	cfg := AdmissionConfig{ShedRate: 4000, LongestPause: 2 * time.Second, Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	g := NewAdmission(cfg, controller, limit, slog.New(slog.NewTextHandler(log, nil)))
	g.SetLimits(&document)
	return g, controller, log
}

const noLimits, noSwitches = `{"policies":[]}`, `{"switches":[]}`

// visit returns a visit of a caller behind a proxy.
func visit(route, user string) *Visit {
	v := &Visit{
		Route: route, Peer: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, Arrived: time.Now(), Forwarded: "192.0.2.1",
		Caller: &seckill.Caller{CallerRef: seckill.CallerRef{Merchant: "m1", Caller: "web"}},
	}
	if route == "buy" {
		v.Activity, v.SKU, v.User = "618", "x", seckill.UserID(user)
	}
	return v
}

func TestAdmission_NamesTheLimit(t *testing.T) {
	for _, c := range []struct {
		policy, code, limit, field, policyField string
	}{
		{`{"name":"callers","key":"caller","rate":0.5,"burst":1,"mode":"enforce"}`, "rate-limited", "callers", `"callers";r=0;t=2`, `"callers";q=1;w=2`},
		{`{"name":"addresses","key":"ip","match":"192.0.2.1","rate":0.01,"burst":1,"mode":"enforce"}`, "rate-limited", "addresses",
			`"addresses";r=0;t=100`, `"addresses";q=1;w=100`},
		{`{"name":"all","key":"global","rate":0.5,"burst":1,"mode":"enforce"}`, "overloaded", "", "", ""},
	} {
		g, room, _ := gated(t, `{"policies":[`+c.policy+`]}`, noSwitches)
		first := visit("buy", "u1")
		if denial := g.Enter(first); denial != nil {
			t.Fatalf("%s: the first is denied: %+v", c.policy, denial)
		}
		g.Leave(first, 202, time.Millisecond)
		for range 2 { // made, and kept
			denial := closedByLimit(t, g, visit("buy", "u2"))
			if string(denial.Problem.Code) != c.code || denial.Problem.Limit != c.limit || denial.RateLimit != c.field ||
				denial.RateLimitPolicy != c.policyField || denial.Problem.RetryAfter < time.Second {
				t.Errorf("%s: %+v", c.policy, denial)
			}
		}
		for _, route := range []string{"order", "cancel", "activity", "pay"} {
			v := visit(route, "")
			if route == "pay" {
				v.Caller = nil
			}
			if denial := g.Enter(v); denial != nil {
				t.Errorf("%s: %s is denied: %+v", c.policy, route, denial)
				continue
			}
			g.Leave(v, 200, time.Millisecond)
		}
		if n := room.Stats().InFlight; n != 0 {
			t.Errorf("%s: %d are inside for ever", c.policy, n)
		}
	}
}

// TestAdmission_ChargesByClass: reads of pages and orders are refused where a policy charges for
// them. A refused request keeps no place.
func TestAdmission_ChargesByClass(t *testing.T) {
	g, room, _ := gated(t, `{"policies":[{"name":"callers","key":"caller","rate":0.001,"burst":7,"mode":"enforce","concurrency":9,
		"cost":{"purchase":1,"unit":2,"page":1,"status":1}}]}`, noSwitches)
	enter := func(route string, quantity int) *Denial {
		v := visit(route, "u")
		v.Quantity = quantity
		denial := g.Enter(v)
		switch {
		case denial == nil && v.Limited != nil:
			denial = v.Limited
			g.Leave(v, 429, time.Millisecond)
		case denial == nil:
			g.Leave(v, 200, time.Millisecond)
		}
		return denial
	}
	for i, c := range []struct {
		route    string
		quantity int
		denied   bool
	}{
		{"buy", 2, false}, {"activity", 0, false}, {"buy", 1, true}, {"order", 0, false}, {"activity", 0, true}, {"order", 0, true},
		{"cancel", 0, false}, {"pay", 0, false},
	} {
		denial := enter(c.route, c.quantity)
		if (denial != nil) != c.denied || denial != nil && (denial.Problem.Code != "rate-limited" || denial.Problem.Limit != "callers") {
			t.Errorf("visit %d, %s: %+v", i, c.route, denial)
		}
	}
	if s := g.limits.(*limiter.Limiter).Stats(time.Now()); room.Stats().InFlight != 0 || s.Places.InFlight != 0 {
		t.Errorf("%d are inside for ever, %+v", room.Stats().InFlight, s.Places)
	}
}

// TestAdmission_ForeignPages: reading the page of another merchant's activity takes nothing from
// the activity's limit.
func TestAdmission_ForeignPages(t *testing.T) {
	g, _, _ := gated(t, `{"policies":[{"name":"pages","key":"activity","rate":0.001,"burst":1,"mode":"enforce","cost":{"page":1}}]}`, noSwitches)
	page := func(foreign bool) *Denial {
		v := visit("activity", "")
		v.Activity, v.Foreign = "618", foreign
		denial := g.Enter(v)
		if denial == nil {
			g.Leave(v, 200, time.Millisecond)
		}
		return denial
	}
	for range 5 {
		if denial := page(true); denial != nil {
			t.Fatalf("%+v", denial)
		}
	}
	if page(false) != nil || page(false) == nil {
		t.Error("the activity's own limit isn't whole")
	}
}

// TestAdmission_BoundsWhatIsInFlight: a visit above the bound is refused with this reason, and each
// one that leaves makes room for one.
func TestAdmission_BoundsWhatIsInFlight(t *testing.T) {
	g, _, _ := gated(t, `{"policies":[{"name":"flight","key":"caller","concurrency":2,"mode":"enforce"},
		{"name":"rate","key":"caller","match":"m1/app","rate":0.001,"burst":1,"mode":"enforce"}]}`, noSwitches)
	inside := []*Visit{visit("buy", "u1"), visit("buy", "u2")}
	for _, v := range inside {
		if denial := g.Enter(v); denial != nil || v.Limited != nil {
			t.Fatalf("%+v, %+v", denial, v.Limited)
		}
	}
	for range 2 { // made, and kept
		denial := closedByLimit(t, g, visit("buy", "u3"))
		if p := denial.Problem; p.Code != "rate-limited" || p.Limit != "flight" || p.RetryAfter != time.Second || !strings.Contains(p.Detail, "in flight") ||
			denial.RateLimitPolicy != `"flight";q=2;qu="concurrent-requests"` || denial.RateLimit != `"flight";r=0;t=1` {
			t.Errorf("%+v", denial)
		}
	}
	inside[0].Replayed = true
	g.Leave(inside[0], 200, time.Millisecond)
	next := visit("buy", "u4")
	if denial := g.Enter(next); denial != nil || next.Limited != nil {
		t.Errorf("after one has left: %+v, %+v", denial, next.Limited)
	}
	closedByLimit(t, g, visit("buy", "u5"))
}

// closedByLimit is the answer to a visit that a limit closes, and that has no order.
func closedByLimit(t *testing.T, g *Admission, v *Visit) *Denial {
	t.Helper()
	if denial := g.Enter(v); denial != nil || v.Limited == nil || v.Closed == nil || v.Closed.Code != v.Limited.Problem.Code {
		t.Fatalf("denied %+v, limited %+v, closed %+v", denial, v.Limited, v.Closed)
	}
	if back := v.Arrived.Sub(v.ClosedSince); back < 2*time.Second {
		t.Errorf("closed since %v: a repeat of an earlier key would be refused from memory", back)
	}
	g.Leave(v, v.Limited.Problem.Status(), time.Millisecond)
	return v.Limited
}

// TestAdmission_PacesLimits: refusals by limits wait for their turn above the rate, and are counted
// once.
func TestAdmission_PacesLimits(t *testing.T) {
	g, room, _ := gated(t, `{"policies":[{"name":"a","key":"caller","rate":0.001,"burst":1,"mode":"enforce"}]}`, noSwitches)
	g.Enter(visit("buy", "u0"))
	at, paused := time.Now(), 0
	for range 1000 { // in one moment; 400 are what goes out at once
		v := visit("buy", "u1")
		v.Arrived = at
		denial := g.Enter(v)
		if v.Pause > 0 {
			paused++
			if denial == nil || v.Ticket != 0 {
				t.Fatalf("paused with %+v, ticket %d", denial, v.Ticket)
			}
			g.Enter(v)
		}
		if v.Limited == nil {
			t.Fatal("let in")
		}
		g.Leave(v, 429, time.Millisecond)
	}
	if paused < 500 || paused > 650 {
		t.Errorf("%d of 1000 were paused", paused)
	}
	if n := g.limits.(*limiter.Limiter).Stats(time.Now()).Policies[0].Refused; n != 1000 {
		t.Errorf("%d were counted", n)
	}
	if n := room.Stats().InFlight; n != 1 {
		t.Errorf("%d are inside", n)
	}
}

// TestAdmission_PacesUnknownKeys: refusals of keys share the rate with the others, and wait above
// it.
func TestAdmission_PacesUnknownKeys(t *testing.T) {
	g, _, _ := gated(t, noLimits, noSwitches)
	at, paused, longest := time.Now(), 0, time.Duration(0)
	for range 20_000 { // in one moment; 400 are what goes out at once
		v := Visit{Route: "order", Arrived: at}
		if denial := g.Stranger(&v); denial != nil {
			t.Fatalf("denied without an address: %+v", denial)
		}
		wait := v.Pause
		if wait > 0 {
			paused++
		}
		longest = max(longest, wait)
	}
	if paused < 19_500 || paused > 19_650 || longest != 2*time.Second {
		t.Errorf("%d of 20,000 were paused, for at most %v", paused, longest)
	}
}

// A purchase that memory refuses takes no token and no place, and is answered when there are none.
// Switches are asked before.
func TestAdmission_ChargesNothingForWhatIsSettled(t *testing.T) {
	settled := func() *Visit {
		v := visit("buy", "u1")
		v.Settled = true
		return v
	}
	g, room, _ := gated(t, `{"policies":[{"name":"a","key":"caller","rate":0.001,"burst":1,"mode":"enforce"}]}`, noSwitches)
	room.Resize(1)
	enter := func(v *Visit) *Denial {
		denial := g.Enter(v)
		if denial == nil {
			g.Leave(v, 409, time.Millisecond)
		}
		return denial
	}
	for range 3 {
		if denial := enter(settled()); denial != nil {
			t.Fatalf("denied: %+v", denial)
		}
	}
	inside := visit("buy", "u2")
	if denial := g.Enter(inside); denial != nil {
		t.Fatalf("the token is gone: %+v", denial)
	}
	for name, denial := range map[string]*Denial{"full, no token": enter(visit("buy", "u3")), "settled": enter(settled())} {
		if (denial == nil) != (name == "settled") {
			t.Errorf("%s: %+v", name, denial)
		}
	}
	g.Leave(inside, 202, time.Millisecond)
	if n := room.Stats().InFlight; n != 0 {
		t.Errorf("%d are inside", n)
	}
	g, _, _ = gated(t, noLimits, `{"switches":[{"name":"orders","value":"off","reason":"x","by":"ann","since":"2026-06-18T12:00:00Z"}]}`)
	if v := settled(); g.Enter(v) != nil || v.Closed == nil {
		t.Errorf("orders are off, but %+v", v)
	}
}

// TestAdmission_LetsRepeatsThroughWhenOrdersAreOff: the sale decides, because only it knows whether
// a key has an order.
func TestAdmission_LetsRepeatsThroughWhenOrdersAreOff(t *testing.T) {
	for _, body := range []string{`{"name":"orders","value":"off"`, `{"name":"admission","value":"0"`} {
		body = `{"switches":[` + body + `,"reason":"x","by":"ann","since":"2026-06-18T12:00:00Z"}]}`
		g, room, _ := gated(t, `{"policies":[{"name":"a","key":"caller","rate":1,"burst":1,"mode":"enforce"}]}`, body)
		for range 3 { // none of them takes a token
			v := visit("buy", "u1")
			if denial := g.Enter(v); denial != nil || v.Closed == nil || v.Closed.Code != problem.Degraded || v.ClosedSince.IsZero() {
				t.Fatalf("%s: %+v, %+v", body, denial, v)
			}
			if n := room.Stats().InFlight; n != 1 {
				t.Errorf("%d are inside: a repeat is looked for, which takes a place", n)
			}
			g.Leave(v, 503, time.Millisecond)
		}
		if n := room.Stats().InFlight; n != 0 {
			t.Errorf("%d are inside", n)
		}
	}
}

func TestAdmission_RefusesWithoutAllocating(t *testing.T) {
	const since = `,"reason":"x","by":"ann","since":"2026-06-18T12:00:00Z"}]}`
	for name, c := range map[string]struct{ limits, switches, route string }{
		"limit":      {`{"policies":[{"name":"a","key":"user","rate":1,"burst":1,"mode":"enforce"}]}`, noSwitches, "buy"},
		"orders off": {noLimits, `{"switches":[{"name":"orders","value":"off"` + since, "buy"},
		"browse off": {noLimits, `{"switches":[{"name":"browse","value":"off"` + since, "activity"},
	} {
		g, _, _ := gated(t, c.limits, c.switches)
		g.Enter(visit(c.route, "u1"))
		v, fresh := visit(c.route, "u1"), visit(c.route, "u1")
		enter := func() {
			*v = *fresh
			if g.Enter(v) == nil && v.Closed == nil {
				t.Fatalf("%s: let in", name)
			}
		}
		if n := testing.AllocsPerRun(100, enter); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestAdmission_KeepsNoRefusalOfAnotherDocument: after a change of the settings, no answer comes
// from the former document.
func TestAdmission_KeepsNoRefusalOfAnotherDocument(t *testing.T) {
	old := limiter.Document{Policies: []limiter.Policy{{Name: "old", Key: limiter.Caller, Rate: 1, Burst: 1}}}
	r := newLimitRefusals(&old)
	decision := limiter.Decision{Policy: &limiter.Policy{Name: "new", Key: limiter.Caller, Rate: 1, Burst: 5}, RetryAfter: time.Second}
	for _, index := range []int{0, 1, -1} {
		decision.Index = index
		if got := r.of(&decision); got.Problem.Limit != "new" || got.RateLimitPolicy != `"new";q=5;w=5` {
			t.Errorf("%+v", got)
		}
	}
	decision.Policy, decision.Index = &old.Policies[0], 0
	if first, second := r.of(&decision), r.of(&decision); first != second || first.Problem.Limit != "old" {
		t.Errorf("%+v, %+v", first, second)
	}
}

func TestAdmission_LogsSomeVisits(t *testing.T) {
	g, _, log := gated(t, noLimits, `{"switches":[{"name":"log-detail","value":"on","reason":"x","by":"ann","since":"2026-06-18T12:00:00Z"}]}`)
	for range 3 * maxVisitsLogged {
		v := visit("order", "")
		g.Enter(v)
		g.Leave(v, 200, time.Millisecond)
	}
	// A second or two may pass during the test.
	if n := strings.Count(log.String(), "msg=visit route=order status=200"); n < maxVisitsLogged || n >= 3*maxVisitsLogged {
		t.Errorf("%d lines for %d visits", n, 3*maxVisitsLogged)
	}
}

func BenchmarkAdmission(b *testing.B) {
	const five = `{"policies":[{"name":"g","key":"global","rate":1e7,"burst":100000000,"mode":"enforce"},{"name":"m","key":"merchant","rate":1e7,
		"burst":100000000,"mode":"enforce"},{"name":"c","key":"caller","rate":%s,"burst":%s,"mode":"enforce"},{"name":"u","key":"user","rate":1e7,
		"burst":100000000,"mode":"enforce"},{"name":"i","key":"ip","rate":1e7,"burst":100000000,"mode":"enforce"}]}`
	for _, c := range []struct{ name, limits string }{
		{"none", noLimits}, {"five levels, let in", fmt.Sprintf(five, "1e7", "100000000")}, {"refused", fmt.Sprintf(five, "0.001", "1")},
	} {
		b.Run(c.name, func(b *testing.B) {
			g, _, _ := gated(b, c.limits, noSwitches)
			b.ReportAllocs()
			var next atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				fresh := visit("buy", "u1")
				var v Visit
				key, n := make([]byte, 0, 16), next.Add(1)<<32
				for ; pb.Next(); n++ { // each with its own key
					v = *fresh
					key = strconv.AppendInt(key[:0], n, 36)
					v.Key, v.Arrived = view(key), time.Now()
					if g.Enter(&v) == nil {
						g.Leave(&v, 202, 0)
					}
				}
			})
		})
	}
}

// TestAdmission_PacesRefusals: without room a burst is refused at once, the rest after a pause, and
// each visit counts as refused once.
func TestAdmission_PacesRefusals(t *testing.T) {
	g, room, _ := gated(t, noLimits, noSwitches)
	g.pacer = degrade.NewPacer(100, time.Second)
	room.Resize(1)
	inside := visit("buy", "u0")
	if denial := g.Enter(inside); denial != nil {
		t.Fatal("the first is refused")
	}
	at := time.Now()
	paused := 0
	for i := range 20 {
		v := visit("buy", fmt.Sprint("u", i+1))
		v.Arrived = at
		denial := g.Enter(v)
		if denial != nil && v.Pause > 0 {
			paused++
			denial = g.Enter(v)
		}
		if denial == nil || denial.Problem.Code != problem.Overloaded {
			t.Fatalf("%d: %+v", i, denial)
		}
	}
	if paused != 9 { // of 20: those due now and within the next tenth of a second are not
		t.Errorf("%d were paused, want 9", paused)
	}
	if refused := room.Stats().Refused[degrade.Full]; refused != 20 {
		t.Errorf("%d count as refused, want 20", refused)
	}
	waited := visit("buy", "u99")
	waited.Arrived = at
	if g.Enter(waited); waited.Pause == 0 {
		t.Fatal("the last is not paused")
	}
	g.Leave(inside, 202, 0)
	if denial := g.Enter(waited); denial != nil {
		t.Errorf("with room after the pause: %+v", denial)
	}
}

// TestAdmission_NamesWhatCanNeverFit: a quantity that costs more than a full bucket is answered as
// the client's mistake, without Retry-After.
func TestAdmission_NamesWhatCanNeverFit(t *testing.T) {
	for _, key := range []string{"caller", "global"} {
		g, _, _ := gated(t, `{"policies":[{"name":"units","key":"`+key+`","rate":1,"burst":4,"mode":"enforce","cost":{"unit":2,"purchase":0}}]}`, noSwitches)
		v := visit("buy", "u1")
		v.Quantity = 3
		denial := closedByLimit(t, g, v)
		want := problem.FieldError{Field: "quantity", Detail: `costs 6 tokens of the limit "units", which has 4 at most: ask for less`}
		p := &denial.Problem
		if p.Code != problem.InvalidRequest || len(p.Errors) != 1 || p.Errors[0] != want || p.RetryAfter != 0 || denial.RateLimit != "" {
			t.Errorf("%s: %+v", key, denial)
		}
		v = visit("buy", "u1")
		v.Quantity = 2
		if denial := g.Enter(v); denial != nil || v.Closed != nil {
			t.Errorf("%s: what fits is refused: %+v", key, v.Limited)
		}
	}
}
