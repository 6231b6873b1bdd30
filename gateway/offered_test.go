package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// limitedGate refuses every purchase, as a limit does, and counts them.
type limitedGate struct {
	came   int
	denial Denial
	closed seckill.Refusal
}

func (g *limitedGate) Enter(v *Visit) *Denial {
	g.came++
	v.Closed, v.Limited = &g.closed, &g.denial
	return nil
}

func (g *limitedGate) Leave(*Visit, int, time.Duration) {}
func (g *limitedGate) Stranger(*Visit) *Denial          { return nil }

// TestBuy_OthersLimitsAreNotAsked: a purchase of an activity or item that doesn't exist, or isn't
// the caller's, asks no gate and takes no tokens.
func TestBuy_OthersLimitsAreNotAsked(t *testing.T) {
	gate := new(limitedGate)
	s := start(t, func(c *Config) { c.Gate = gate })
	body := func(activity, sku string) string {
		return `{"activity":"` + activity + `","sku":"` + sku + `","user":"u","quantity":1}`
	}
	for _, c := range []struct{ key, activity, sku, code string }{
		{strangerKey, "618-phones", "phone-x", "unknown-activity"},
		{buyerKey, "invented", "phone-x", "unknown-activity"},
		{buyerKey, "soon", "phone-x", "unknown-activity"},
		{buyerKey, "618-phones", "invented", "unknown-item"},
	} {
		resp, answer := do(t, s.request(t, "POST", "/v1/orders", body(c.activity, c.sku), "Authorization", "Bearer "+c.key))
		if resp.StatusCode != http.StatusNotFound || !strings.Contains(answer, `"code":"`+c.code+`"`) {
			t.Errorf("%+v: %d %s", c, resp.StatusCode, answer)
		}
	}
	if gate.came != 0 {
		t.Errorf("%d came to the gate", gate.came)
	}
}

// TestBuy_RepeatsAreNotLimited: when a limit refuses, a key with an order gets that order. Any
// other key gets the limit's name.
func TestBuy_RepeatsAreNotLimited(t *testing.T) {
	gate := new(limitedGate)
	decision := limiter.Decision{Policy: &limiter.Policy{Name: "callers", Key: limiter.Caller, Rate: 1, Burst: 1}, RetryAfter: time.Second}
	made := newLimitRefusal(&decision, 1)
	gate.denial, gate.closed = made.Denial, made.refusal
	s := start(t, func(c *Config) { c.Gate = gate })
	s.sales.become(func(sales *stubSales) {
		sales.buy = func(_ context.Context, p *seckill.Purchase) (seckill.Receipt, error) {
			if p.Closed == nil {
				return seckill.Receipt{}, errors.New("open")
			}
			if p.Key == "known" {
				return seckill.Receipt{Order: testOrder(seckill.OrderQueued), Replayed: true}, nil
			}
			return seckill.Receipt{}, p.Closed
		}
	})
	resp, answer := do(t, s.request(t, "POST", "/v1/orders", goodBody, "Idempotency-Key", "known"))
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a repeat: %d %s", resp.StatusCode, answer)
	}
	resp, answer = do(t, s.request(t, "POST", "/v1/orders", goodBody, "Idempotency-Key", "new"))
	if resp.StatusCode != http.StatusTooManyRequests || !strings.Contains(answer, `"code":"rate-limited"`) ||
		resp.Header.Get("RateLimit") != `"callers";r=0;t=1` || resp.Header.Get("RateLimit-Policy") != `"callers";q=1;w=1` {
		t.Errorf("a new one: %d %v %s", resp.StatusCode, resp.Header, answer)
	}
}

// While the catalog can't be refreshed, a missing key or sale may exist after all. A program that
// is told "unknown" would give up.
func TestServer_WhatIsNotSeenIsNotUnknown(t *testing.T) {
	s := start(t, nil)
	f := func(status int, method, path, key, body string) {
		t.Helper()
		if resp, answer := do(t, s.request(t, method, path, body, "Authorization", "Bearer "+key)); resp.StatusCode != status {
			t.Errorf("%s %s by %s: status %d, want %d: %s", method, path, key, resp.StatusCode, status, answer)
		}
	}
	other := strings.Replace(goodBody, "618-phones", "just-published", 1)
	item := strings.Replace(goodBody, "phone-x", "just-added", 1)
	for _, stale := range []bool{true, false} {
		s.sales.become(func(sales *stubSales) { sales.stale = stale })
		status := func(sure int) int {
			if stale {
				return 503
			}
			return sure
		}
		f(status(401), "POST", "/v1/orders", "just-made", goodBody)
		f(status(404), "POST", "/v1/orders", buyerKey, other)
		f(status(404), "POST", "/v1/orders", buyerKey, item)
		f(status(404), "GET", "/v1/activities/just-published", buyerKey, "")
	}
}
