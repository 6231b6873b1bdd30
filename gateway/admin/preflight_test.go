package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/penstock/penstock/seckill"
)

// preflight returns the results of a check of a sale, by the check's name, as "state: detail".
func (s *shop) preflight(activity string, fields ...string) map[string]string {
	s.t.Helper()
	var doc struct{ Checks []checkDoc }
	if err := json.Unmarshal([]byte(s.must(200, "GET", "/admin/v1/activities/"+activity+"/preflight", "", fields...).body), &doc); err != nil {
		s.t.Fatal(err)
	}
	out := make(map[string]string)
	for _, c := range doc.Checks {
		if _, twice := out[c.Check]; twice || (c.State != checkOK) != (c.Hint != "") && c.State != checkOK {
			s.t.Errorf("check %s is there twice, or has no hint: %+v", c.Check, c)
		}
		out[c.Check] = c.State + ": " + c.Detail
	}
	return out
}

func checksAre(t *testing.T, got map[string]string, want map[string]string) {
	t.Helper()
	for check, prefix := range want {
		if !strings.HasPrefix(got[check], prefix) {
			t.Errorf("%s is %q, want %q", check, got[check], prefix)
		}
	}
}

func TestPreflight_OfASaleThatCantGoWell(t *testing.T) {
	s := open(t, nil)
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Shop"}`)
	s.must(200, "PUT", "/admin/v1/activities/618", `{"merchant":"m1","name":"S","starts_at":"2026-01-01T00:00:00Z","ends_at":"2096-12-31T00:00:00Z",
		"payment_window":"15m","items":[{"sku":"a","price":199900,"currency":"CNY","quantity":10,"per_user":1},
		{"sku":"b","price":1999,"currency":"CNY","quantity":0,"per_user":1},{"sku":"c","price":209900,"currency":"CNY","quantity":2,"per_user":2}]}`)
	s.must(200, "PUT", "/admin/v1/switches/orders", `{"value":"off","reason":"test"}`)
	s.must(200, "PUT", "/admin/v1/switches/wait", `{"value":"off","reason":"x","scope":{"activity":"618"},"expires_in":"1h"}`)
	checksAre(t, s.preflight("618"), map[string]string{
		"window": "fail: it is a draft", "length": "warn: the sale lasts 2", "callers": "fail: m1 has none with a key that may buy",
		"stock": "warn: without units: b", "per_user": "warn: one buyer may take all units of c",
		"prices":        "warn: b costs 19.99 CNY, others 1999.00 CNY",
		"switch orders": "fail: orders is off for everybody since", "switch wait": "warn: wait is off for activity 618 since",
		"limits": "warn: there are none", "redis r:1": "ok: ok", "shards": "ok: 4 open",
	})
}

func TestPreflight_OfASoundSale(t *testing.T) {
	s := open(t, nil)
	s.sell()
	s.must(201, "POST", "/admin/v1/merchants/m1/callers", `{"name":"app","rights":["buy"]}`)
	s.must(200, "PUT", "/admin/v1/merchants/m2", `{"name":"Other"}`)
	s.must(200, "PUT", "/admin/v1/switches/wait", `{"value":"off","reason":"x","scope":{"merchant":"m2"}}`)
	tag := s.must(200, "GET", "/admin/v1/limits", "").Header.Get("ETag")
	s.must(200, "PUT", "/admin/v1/limits", `{"policies":[{"name":"user","key":"user","rate":4,"burst":4}],"reason":"sale"}`, "If-Match", tag)
	got := s.preflight("618")
	checksAre(t, got, map[string]string{
		"callers": "ok: m1 has 1 that may buy", "stock": "ok: ", "prices": "ok: all alike", "switches": "ok: none is set that applies to the sale",
		"limits": "ok: 1 policy, all enforced", "lag": "ok: 2 records in 1 partition", "settings": "ok: ok",
		"settings in force": "ok: all nodes have the newest", "shards": "ok: 4 open",
	})
	// A token that is bound to the merchant sees nothing of the installation.
	bound := s.preflight("618", s.as(`{"name":"shop","role":"viewer","merchant":"m1"}`)...)
	for _, check := range []string{"limits", "nodes", "settings in force", "settings", "lag", "redis r:1", "shards"} {
		if _, there := bound[check]; there {
			t.Errorf("a merchant's token sees %s: %s", check, bound[check])
		}
	}
	if bound["stock"] != got["stock"] {
		t.Errorf("stock is %q", bound["stock"])
	}
}

func TestPreflight_MemoryForTheHolds(t *testing.T) {
	for want, c := range map[string]struct {
		quantity int64
		servers  []StockMemory
		err      error
	}{
		"ok: the sale's holds need up to 19 MB, 200 MB are free":    {100_000, []StockMemory{{Used: 0, Max: 100 << 20}, {Used: 0, Max: 100 << 20}}, nil},
		"warn: the sale's holds need up to 19 MB of 30 MB":          {100_000, []StockMemory{{Used: 70 << 20, Max: 100 << 20}}, nil},
		"fail: the sale's holds need up to 190 MB, and 30 MB":       {1_000_000, []StockMemory{{Used: 70 << 20, Max: 100 << 20}}, nil},
		"fail: the sale's holds need up to 19 MB, and 0 MB are":     {100_000, []StockMemory{{Used: 170 << 20, Max: 100 << 20}}, nil},
		"warn: a Redis has no maxmemory: 70 MB are used":            {100_000, []StockMemory{{Used: 70 << 20}}, nil},
		"warn: it can't be checked now: redis r:1 does not answer.": {100_000, nil, errors.New("redis r:1 does not answer.")},
	} {
		s := open(t, func(_ *Config, d *Deps) {
			d.Memory = func(context.Context) ([]StockMemory, error) { return c.servers, c.err }
		})
		p := &preflight{
			call: &call{server: s.server, r: httptest.NewRequestWithContext(t.Context(), "GET", "/", http.NoBody)}, sale: &seckill.Activity{Items: []seckill.Item{{Quantity: c.quantity}}},
		}
		p.memory()
		if got := fmt.Sprintf("%s: %s", p.checks[0].State, p.checks[0].Detail); !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
