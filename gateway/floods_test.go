package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/degrade"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// guardedAdmission has a limit of addresses that doesn't refill within a test.
func guardedAdmission(t testing.TB, trusted ...netip.Prefix) (*Admission, *degrade.Controller, *limiter.Limiter) {
	t.Helper()
	limits, err := limiter.New(limiter.DefaultConfig(), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	controller := degrade.NewController()
	cfg := AdmissionConfig{
		ShedRate: 100_000, LongestPause: time.Second, Trusted: trusted,
		Addresses: limiter.AddressConfig{Rate: 1e-4, Burst: 3, Room: 100}, Probes: limiter.AddressConfig{Rate: 1e-4, Burst: 2, Room: 100},
	}
	return NewAdmission(cfg, controller, limits, slog.New(slog.DiscardHandler)), controller, limits
}

// TestFloods_WithoutAKey: a request without a valid key counts against its address, for any path
// and any X-Forwarded-For. Health checks have their own limit. Requests with a key have none of
// these.
func TestFloods_WithoutAKey(t *testing.T) {
	g, _, _ := guardedAdmission(t)
	s := start(t, func(c *Config) { c.Gate = g })
	code := func(method, path string, fields ...string) string {
		resp, body := do(t, s.request(t, method, path, "", fields...))
		for _, code := range []problem.Code{problem.Unauthenticated, problem.NotFound, problem.RateLimited, problem.InvalidSignature} {
			if strings.Contains(body, `"code":"`+string(code)+`"`) {
				if code == problem.RateLimited && (resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, `"address"`)) {
					t.Errorf("%s %s: %d %v %s", method, path, resp.StatusCode, resp.Header, body)
				}
				return string(code)
			}
		}
		return http.StatusText(resp.StatusCode)
	}
	if got := code("GET", "/v1/activities/618-phones", "Authorization", "Bearer wrong"); got != "unauthenticated" {
		t.Errorf("the first: %s", got)
	}
	if got := code("POST", "/v1/payments", "Authorization", ""); got != "invalid-signature" {
		t.Errorf("the second: %s", got)
	}
	if got := code("GET", "/nowhere", "Authorization", ""); got != "not-found" {
		t.Errorf("the third: %s", got)
	}
	for _, path := range []string{"/v1/activities/618-phones", "/v1/orders/x", "/nowhere", "/openapi.yaml", "/problems", "/problems/sold-out"} {
		if got := code("GET", path, "Authorization", "Bearer wrong", "X-Forwarded-For", "198.51.100.7"); got != "rate-limited" {
			t.Errorf("%s: %s", path, got)
		}
	}
	if got := code("POST", "/v1/payments", "Authorization", "", "Penstock-Signature", "t=1,v1=x"); got != "rate-limited" {
		t.Errorf("a signature that can't be read: %s", got)
	}
	if got := code("GET", "/v1/activities/618-phones"); got != "OK" {
		t.Errorf("with a good key: %s", got)
	}
	if got := code("GET", "/livez", "Authorization", ""); got != "OK" { // start has asked once
		t.Errorf("a health check: %s", got)
	}
	if got := code("GET", "/readyz", "Authorization", ""); got != "rate-limited" {
		t.Errorf("a third health check of two: %s", got)
	}
}

// TestFloods_BadSignatures: a payment with a wrong signature counts too, and holds no place while
// it waits.
func TestFloods_BadSignatures(t *testing.T) {
	g, room, _ := guardedAdmission(t)
	s := start(t, func(c *Config) { c.Gate = g })
	s.sales.become(func(sales *stubSales) {
		sales.pay = func(context.Context, *seckill.Notice) (seckill.Order, error) {
			return seckill.Order{}, &seckill.Refusal{Code: problem.InvalidSignature}
		}
	})
	body := `{"payment":"p1","order":"` + string(testOrder(seckill.OrderPending).ID) + `","amount":1999,"currency":"CNY"}`
	signature := "t=1,v1=" + strings.Repeat("0", 64)
	for i, want := range []int{401, 401, 401, 429} {
		resp, answer := do(t, s.request(t, "POST", "/v1/payments", body, "Authorization", "", "Penstock-Signature", signature))
		if resp.StatusCode != want {
			t.Errorf("payment %d: %d %s, want %d", i, resp.StatusCode, answer, want)
		}
	}
	if n := room.Stats().InFlight; n != 0 {
		t.Errorf("%d are inside", n)
	}
}

// TestFloods_BehindAProxy: each client behind a trusted proxy counts for itself. The header of an
// untrusted sender is ignored.
func TestFloods_BehindAProxy(t *testing.T) {
	g, _, _ := guardedAdmission(t, netip.MustParsePrefix("10.0.0.0/8"))
	ask := func(peer, forwarded string) bool {
		v := &Visit{Route: "order", Peer: &net.TCPAddr{IP: net.ParseIP(peer), Port: 1}, Forwarded: forwarded, Arrived: time.Now()}
		return g.Stranger(v) == nil
	}
	for range 3 {
		ask("10.0.0.1", "192.0.2.1")
		ask("203.0.113.9", "192.0.2.50")
	}
	for _, c := range []struct {
		peer, forwarded string
		want            bool
	}{
		{"10.0.0.1", "192.0.2.1", false},
		{"10.0.0.2", "198.51.100.1, 192.0.2.1", false}, // the client's own value comes first
		{"10.0.0.1", "192.0.2.2", true},
		{"203.0.113.9", "192.0.2.51", false}, // forged
		{"203.0.113.10", "192.0.2.1", true},  // not through the proxy
	} {
		if got := ask(c.peer, c.forwarded); got != c.want {
			t.Errorf("from %s, which says %q: %v", c.peer, c.forwarded, got)
		}
	}
}

// TestFloods_SettledRefusalsArePaced: refusals from memory are delayed while the processor is busy,
// and sent at once otherwise.
func TestFloods_SettledRefusalsArePaced(t *testing.T) {
	g, _, _ := gated(t, noLimits, noSwitches)
	paced := func() (n int) {
		at := time.Now()
		for range 1000 {
			v := visit("buy", "u1")
			v.Settled, v.Arrived = true, at
			if denial := g.Enter(v); v.Pause > 0 {
				n++
				if denial == nil {
					t.Fatal("a pause that is no denial yet isn't waited for")
				}
				denial = g.Enter(v)
				if denial != nil {
					t.Fatalf("denied after its pause: %+v", denial)
				}
			}
			g.Leave(v, 409, time.Millisecond)
		}
		return n
	}
	if n := paced(); n != 0 {
		t.Errorf("%d of 1000 sold-out answers wait, though nobody is short of anything", n)
	}
	g.SetShort(true)
	if n := paced(); n < 850 || n > 950 { // 100 go out at once
		t.Errorf("%d of 1000 sold-out answers wait while the processor is short", n)
	}
}

// TestRepeats_AreFree: a repeat gets its tokens back. While all places are taken, a repeat that
// memory knows uses the places for existing orders.
func TestRepeats_AreFree(t *testing.T) {
	g, room, limits := guardedAdmission(t)
	document := limiter.Document{Policies: []limiter.Policy{{Name: "callers", Key: limiter.Caller, Rate: 1e-4, Burst: 2, Mode: limiter.Enforce}}}
	if err := limits.Apply(document, 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	g.SetLimits(&document)
	s := start(t, func(c *Config) { c.Gate = g })
	s.sales.become(func(sales *stubSales) {
		sales.repeats = map[string]bool{"known": true}
		sales.buy = func(_ context.Context, p *seckill.Purchase) (seckill.Receipt, error) {
			isNew := strings.HasPrefix(p.Key, "new")
			if p.Closed != nil && isNew {
				return seckill.Receipt{}, p.Closed
			}
			return seckill.Receipt{Order: testOrder(seckill.OrderQueued), Replayed: !isNew}, nil
		}
	})
	buy := func(key string) int {
		resp, _ := do(t, s.request(t, "POST", "/v1/orders", goodBody, "Idempotency-Key", key))
		return resp.StatusCode
	}
	for i := range 5 {
		if got := buy(fmt.Sprint("repeat-", i)); got != http.StatusAccepted {
			t.Fatalf("a repeat: %d", got)
		}
	}
	for i, want := range []int{202, 202, 429} {
		if got := buy(fmt.Sprint("new-", i)); got != want {
			t.Errorf("purchase %d of a burst of 2, after repeats: %d, want %d", i, got, want)
		}
	}
	for i := range 4 {
		if got := buy(fmt.Sprint("new-", i%2)); got != http.StatusAccepted {
			t.Errorf("a repeat of what was let in: %d", got)
		}
	}
	room.Resize(1)
	other := &degrade.Visit{Class: degrade.NewOrder}
	room.Enter(other)
	if got := buy("new"); got != http.StatusServiceUnavailable {
		t.Errorf("a new purchase where all places are taken: %d", got)
	}
	if got := buy("known"); got != http.StatusAccepted {
		t.Errorf("a known repeat where all places are taken: %d", got)
	}
	room.Leave(other)
	if n := room.Stats().InFlight; n != 0 {
		t.Errorf("%d are inside", n)
	}
}

// TestGuaranteed_BeatsALevel: while a level admits one in ten buyers, a merchant within its
// guaranteed rate loses none. Above that rate it is treated like the others.
func TestGuaranteed_BeatsALevel(t *testing.T) {
	g, room, _ := gated(t, `{"policies":[{"name":"all","key":"global","rate":1000,"burst":1000,"mode":"enforce"},
		{"name":"sure","key":"merchant","match":"m1","rate":1000,"burst":1000,"guaranteed":100,"mode":"enforce"}]}`,
		`{"switches":[{"name":"level","value":"D4","reason":"x","by":"ann","since":"2026-06-18T12:00:00Z"}]}`)
	at := time.Now()
	in := func(merchant string, n int) (let int) {
		for i := range n {
			v := visit("buy", "u"+strings.Repeat("x", i))
			v.Caller.Merchant, v.Arrived = seckill.MerchantID(merchant), at
			if denial := g.Enter(v); denial != nil {
				t.Fatalf("%+v", denial)
			}
			if v.Closed == nil {
				let++
			}
			g.Leave(v, 202, time.Millisecond)
		}
		return let
	}
	if let := in("m1", 50); let != 50 {
		t.Errorf("%d of 50 buyers of a merchant within its guaranteed rate are let in", let)
	}
	if let := in("m1", 100); let > 40 {
		t.Errorf("%d of 100 further ones are let in at the same moment", let)
	}
	if let := in("m2", 100); let > 30 {
		t.Errorf("%d of 100 buyers of another merchant are let in", let)
	}
	if n := room.Stats().Refused[degrade.NotAdmitted]; n == 0 {
		t.Error("what a level turned away isn't counted")
	}
}

// TestRepeats_OfWhatWasLetInAreFree: a repeat that comes before the answer to the first request, or
// just after it, costs nothing, and no limit refuses it. Another purchase with the same key is no
// repeat.
func TestRepeats_OfWhatWasLetInAreFree(t *testing.T) {
	g, room, _ := gated(t, `{"policies":[{"name":"users","key":"user","rate":0.001,"burst":2,"concurrency":1,"mode":"enforce"}]}`, noSwitches)
	buy := func(user, key string, change func(v *Visit)) *Visit {
		v := visit("buy", user)
		v.Key, v.Quantity = key, 1
		if change != nil {
			change(v)
		}
		if denial := g.Enter(v); denial != nil {
			t.Fatalf("%+v", denial)
		}
		return v
	}
	leave := func(v *Visit) { g.Leave(v, 202, time.Millisecond) }
	first := buy("u1", "k1", nil)
	for range 5 { // it isn't answered yet, and the user may have one in flight
		if v := buy("u1", "k1", nil); v.Closed != nil {
			t.Fatalf("a repeat before the answer is refused: %+v", v.Limited)
		} else {
			leave(v)
		}
	}
	leave(first)
	leave(buy("u1", "k2", nil)) // the repeats have left a token
	for _, key := range []string{"k1", "k2"} {
		v := buy("u1", key, nil)
		if v.Closed != nil {
			t.Errorf("a repeat of %s is refused: %+v", key, v.Limited)
		}
		leave(v)
	}
	if n := g.Repeats(); n != 7 {
		t.Errorf("%d repeats are counted, want 7", n)
	}
	for _, c := range []struct {
		name   string
		change func(v *Visit)
	}{
		{"another key", func(v *Visit) { v.Key = "k3" }},
		{"another quantity", func(v *Visit) { v.Quantity = 2 }},
		{"another item", func(v *Visit) { v.SKU = "y" }},
		{"another activity", func(v *Visit) { v.Activity = "619" }},
		{"long ago", func(v *Visit) { v.Arrived = v.Arrived.Add(letSpan) }}, // last, because arrivals delay refusals
	} {
		v := buy("u1", "k1", c.change)
		if v.Closed == nil || v.Limited.Problem.Limit != "users" {
			t.Errorf("%s: it is let in", c.name)
		}
		leave(v)
	}
	again, flood := buy("u2", "k1", nil), 0
	for range 5 * freeBurst { // the contract doesn't ask for it, and limits are asked again
		v := visit("buy", "u2")
		v.Key, v.Quantity, v.Arrived = "k1", 1, again.Arrived
		if denial := g.Enter(v); denial != nil {
			continue
		}
		if v.Closed == nil {
			flood++
		}
		leave(v)
	}
	if leave(again); flood != freeBurst {
		t.Errorf("%d of a flood of repeats are free, want %d", flood, freeBurst)
	}
	if n := room.Stats().InFlight; n != 0 {
		t.Errorf("%d are inside", n)
	}
}

// TestRepeats_ThatMemoryMakesUpBuyNothing: memory mistakes one in a hundred purchases for a repeat.
// A flood that a limit refuses must not buy anything this way.
func TestRepeats_ThatMemoryMakesUpBuyNothing(t *testing.T) {
	g, _, _ := gated(t, `{"policies":[{"name":"callers","key":"caller","rate":0.001,"burst":1,"mode":"enforce"}]}`, noSwitches)
	g.SetShort(true)
	enter := func(i int) *Visit { // as a request does
		v := visit("buy", fmt.Sprint("u", i))
		v.Key, v.Quantity = "k", 1
		if denial := g.Enter(v); denial != nil {
			v.Repeat, v.Pause = true, 0
			if denial = g.Enter(v); denial != nil {
				t.Fatalf("%+v", denial)
			}
		}
		g.Leave(v, 429, 0)
		return v
	}
	let, recalled := 0, 0
	for i := range 1000 {
		v := enter(i)
		if v.Closed == nil {
			let++
		} else if v.Limited.Problem.Limit != "callers" {
			t.Fatalf("%+v", v.Limited)
		}
		if v.Repeat {
			recalled++
		}
	}
	if let != 1 || recalled == 0 {
		t.Errorf("%d are let in, %d as repeats", let, recalled)
	}
}

// slowLimits takes a while to admit a visit.
type slowLimits struct {
	*limiter.Limiter
	asked, open chan struct{}
}

func (l *slowLimits) Allow(r *limiter.Request, now time.Time) limiter.Decision {
	d := l.Limiter.Allow(r, now)
	if d.Allowed {
		l.asked <- struct{}{}
		<-l.open
	}
	return d
}

// TestRepeats_WaitForTheFirst: while limits are asked about a key, a second purchase with this key
// waits a moment, and is then a repeat.
func TestRepeats_WaitForTheFirst(t *testing.T) {
	g, room, _ := gated(t, `{"policies":[{"name":"users","key":"user","rate":0.001,"burst":1,"mode":"enforce"}]}`, noSwitches)
	slow := &slowLimits{g.limits.(*limiter.Limiter), make(chan struct{}), make(chan struct{})}
	g.limits = slow
	come := func() *Visit {
		v := visit("buy", "u1")
		v.Key, v.Quantity = "k", 1
		return v
	}
	first, second, done := come(), come(), false
	var wait sync.WaitGroup
	wait.Go(func() {
		if denial := g.Enter(first); denial != nil || first.Closed != nil {
			t.Errorf("the first: %+v", denial)
		}
	})
	<-slow.asked
	if denial := g.Enter(second); denial == nil || second.Pause != askSpan || second.limited != nil {
		t.Errorf("the second is not told to wait: %+v, %+v", denial, second.Limited)
	}
	close(slow.open)
	wait.Wait()
	second.Arrived = second.Arrived.Add(second.Pause)
	if denial := g.Enter(second); denial != nil || second.Closed != nil {
		t.Errorf("after the wait it is refused: %+v", denial)
	} else {
		g.Leave(second, 202, 0)
		done = true
	}
	g.Leave(first, 202, 0)
	if n := room.Stats().InFlight; n != 0 || !done {
		t.Errorf("%d are inside", n)
	}
	other := come()
	other.Key = "other"
	if denial := g.Enter(other); denial != nil || other.Pause != 0 || other.Closed == nil {
		t.Errorf("another key: %+v, pause %v", denial, other.Pause)
	}
}

// TestRepeats_OfOtherGatewaysAreLookedFor: when a limit refuses a key that memory can't know yet,
// the stock is asked, a bounded number of times per second. Memory alone decides about the rest.
func TestRepeats_OfOtherGatewaysAreLookedFor(t *testing.T) {
	g, _, _ := gated(t, `{"policies":[{"name":"users","key":"user","rate":0.001,"burst":1,"mode":"enforce"}]}`, noSwitches)
	at := time.Now()
	asked, remembered := 0, 0
	for i := range 2 * lookUps {
		for _, key := range []string{"first-", "second-"} {
			v := visit("buy", fmt.Sprint("u", i))
			v.Key, v.Quantity, v.Arrived = fmt.Sprint(key, i), 1, at
			if denial := g.Enter(v); denial != nil {
				t.Fatalf("%+v", denial)
			}
			switch g.Leave(v, 429, 0); {
			case key == "first-":
				if v.Closed != nil {
					t.Fatal("a first purchase is refused")
				}
			case v.ClosedSince.Equal(at.Add(-2 * time.Second)): // the accept deadline, counted from now
				asked++
			case v.ClosedSince.Equal(at.Add(-2*time.Second - freshKeys)):
				remembered++
			}
		}
	}
	if asked != lookUps || remembered != lookUps {
		t.Errorf("the stock is asked about %d, memory about %d", asked, remembered)
	}
}
