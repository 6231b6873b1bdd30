package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/seckill"
)

// TestProbe: a purchase with this process's own key takes the same way as a buyer's, calls
// Sales.Probe instead of Buy, and is counted nowhere.
func TestProbe(t *testing.T) {
	const key = "probe-of-the-test"
	catalog, err := seckill.ProbeCatalog(sha256.Sum256([]byte(key)), 4)
	if err != nil {
		t.Fatal(err)
	}
	gate := new(openGate)
	s := start(t, func(c *Config) { c.Probes, c.Gate = catalog, gate })
	s.sales.become(func(s *stubSales) {
		s.buy = func(context.Context, *seckill.Purchase) (seckill.Receipt, error) {
			t.Error("a probe bought")
			return seckill.Receipt{}, nil
		}
		s.find = func(_ context.Context, c *seckill.Caller, id seckill.OrderID, _ time.Duration) (seckill.Order, error) {
			if c.Merchant != seckill.ProbeMerchant || id.Item() != seckill.ProbeItem {
				t.Errorf("%v asks for %v", c.CallerRef, id)
			}
			return seckill.Order{}, &seckill.Refusal{Code: seckill.CodeUnknownOrder}
		}
	})
	before := s.Stats()
	ask := func(key, method, path, body string) (*http.Response, string) {
		return do(t, s.request(t, method, path, body, "Authorization", "Bearer "+key))
	}
	const body = `{"activity":":probe","sku":"probe","user":"probe-1","quantity":1}`
	resp, answer := ask(key, "POST", "/v1/orders", body)
	order := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(order, "/v1/orders/") || s.sales.probes != 1 {
		t.Fatalf("%d %s, %d probes", resp.StatusCode, answer, s.sales.probes)
	}
	if resp, answer := ask(key, "GET", order, ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
	if resp, answer := ask(key, "GET", "/v1/activities/:probe", ""); resp.StatusCode != http.StatusOK || !strings.Contains(answer, `"sku":"probe"`) {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
	s.sales.become(func(s *stubSales) {
		s.probe = &seckill.Failure{Code: seckill.CodeUnavailable, Err: errors.New("hold on shard 3: no redis")}
	})
	if resp, answer := ask(key, "POST", "/v1/orders", body); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(answer, "no redis") {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
	if got := s.Stats(); len(got.Routes) != len(before.Routes) || s.TakeTraffic().All.Accepted != 0 {
		for i := range got.Routes {
			if r := &got.Routes[i]; r.Route != "live" && len(r.Answers) > 0 {
				t.Errorf("probes are counted as %s: %+v", r.Route, r.Answers)
			}
		}
	}
	for _, c := range []struct{ key, method, path, body string }{
		{buyerKey, "POST", "/v1/orders", body}, {buyerKey, "GET", "/v1/activities/:probe", ""},
		{key, "POST", "/v1/orders", goodBody}, {key, "GET", "/v1/activities/618-phones", ""},
	} {
		if resp, answer := ask(c.key, c.method, c.path, c.body); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s %s: %d %s, want 404: the shop and the probes don't see each other", c.method, c.path, resp.StatusCode, answer)
		}
	}
}
