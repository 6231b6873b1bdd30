package limiter

import (
	"testing"
	"time"
)

func TestRateLimitFields(t *testing.T) {
	f := func(d Decision, limit, policy string) {
		t.Helper()
		if got := string(AppendRateLimit([]byte("x"), &d)); got != "x"+limit {
			t.Errorf("RateLimit %q, want %q", got[1:], limit)
		}
		if got := string(AppendPolicy([]byte("x"), &d)); got != "x"+policy {
			t.Errorf("RateLimit-Policy %q, want %q", got[1:], policy)
		}
	}
	caller := &Policy{Name: "caller", Key: Caller, Rate: 200, Burst: 200}
	f(Decision{Policy: caller, RetryAfter: time.Millisecond, Reset: time.Hour}, `"caller";r=0;t=1`, `"caller";q=200;w=1`)
	f(Decision{Policy: caller, RetryAfter: time.Second}, `"caller";r=0;t=1`, `"caller";q=200;w=1`)
	f(Decision{Policy: caller, RetryAfter: time.Second + 1}, `"caller";r=0;t=2`, `"caller";q=200;w=1`)
	f(Decision{Policy: caller}, `"caller";r=0;t=1`, `"caller";q=200;w=1`) // never "now" to who was refused
	slow := &Policy{Name: "once.an_hour~", Key: User, Rate: 1.0 / 3600, Burst: 2}
	f(Decision{Policy: slow, Allowed: true, Remaining: 1, Reset: 3600*time.Second - 1}, `"once.an_hour~";r=1;t=3600`, `"once.an_hour~";q=2;w=7200`)
	f(Decision{Policy: slow, Allowed: true, Remaining: 2}, `"once.an_hour~";r=2;t=0`, `"once.an_hour~";q=2;w=7200`)
	f(Decision{Policy: &Policy{Name: "odd", Key: IP, Rate: 137, Burst: 10}}, `"odd";r=0;t=1`, `"odd";q=10;w=1`)
	f(Decision{Policy: caller, Bound: ByQuota, Limit: 5000, RetryAfter: time.Hour}, `"caller";r=0;t=3600`, `"caller";q=5000;w=86400`)
	f(Decision{Policy: caller, Bound: ByConcurrency, Limit: 50, RetryAfter: time.Second}, `"caller";r=0;t=1`, `"caller";q=50;qu="concurrent-requests"`)
	f(Decision{Allowed: true}, "", "")
	f(Decision{Policy: &Policy{Name: "all", Key: Global, Rate: 1, Burst: 1}, Global: true, RetryAfter: time.Second}, "", "")
}

// The header of a 429 has the wait of the decision, and the cluster's quota.
func TestFieldsOfARefusal(t *testing.T) {
	l := newLimiter(t, testConfig(), enforced(Policy{Key: User, Rate: 0.2, Burst: 4, Cost: &Cost{Unit: 1}}), 2)
	req := Request{Merchant: "m", User: "u", Quantity: 2}
	l.Allow(&req, at(0))
	d := l.Allow(&req, at(5*time.Second))
	if got := string(AppendRateLimit(nil, &d)) + " " + string(AppendPolicy(nil, &d)); got != `"user";r=0;t=15 "user";q=4;w=20` {
		t.Error(got)
	}
}
