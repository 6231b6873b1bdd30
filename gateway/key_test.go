package gateway

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/seckill"
)

// TestCallerKeys_SayWhyTheyAreNotValid: the answer says that the key has expired or was revoked.
// The time of arrival decides, by the database's clock.
func TestCallerKeys_SayWhyTheyAreNotValid(t *testing.T) {
	s := start(t, nil)
	s.sales.become(buying(testOrder(seckill.OrderQueued), false, nil))
	now := time.Now()
	key := func(id, secret string, expires time.Time, revoked bool) seckill.CallerKey {
		return seckill.CallerKey{ID: seckill.KeyID(id), Prefix: secret, Hash: sha256.Sum256([]byte(secret)), Expires: expires, Revoked: revoked}
	}
	shop := testCaller("shop", "web", "unused", seckill.RightBuy)
	shop.Keys = []seckill.CallerKey{
		key("k-1", "psk-valid", time.Time{}, false), key("k-2", "psk-soon", now.Add(time.Hour), false),
		key("k-3", "psk-late", now.Add(-time.Minute), false), key("k-4", "psk-dead", time.Time{}, true),
	}
	gone := testCaller("shop", "gone", "psk-gone", seckill.RightBuy)
	gone.Revoked = true
	sale := seckill.Activity{
		ID: "618-phones", Merchant: "shop", State: seckill.ActivityPublished, StartsAt: opening, EndsAt: closing,
		Items: []seckill.Item{{ID: 1, SKU: "phone-x", Price: seckill.Money{Minor: 1999, Currency: "CNY"}, Quantity: 10, Spread: 1}},
	}
	catalog := catalogOf(2, seckill.CatalogChange{Caller: &shop}, seckill.CatalogChange{Caller: &gone}, seckill.CatalogChange{Activity: &sale})
	s.sales.setCatalog(catalog)
	f := func(secret string, status int, challenge, detail string) {
		t.Helper()
		resp, body := do(t, s.request(t, "POST", "/v1/orders", goodBody, "Authorization", "Bearer "+secret))
		if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != status || !strings.Contains(body, detail) ||
			challenge != "" && !strings.HasSuffix(got, challenge) {
			t.Errorf("%s: status %d, challenge %q: %s", secret, resp.StatusCode, got, body)
		}
	}
	expired := `error_description="the key has expired"`
	f("psk-valid", 202, "", "")
	f("psk-soon", 202, "", "")
	f("psk-late", 401, expired, "The caller key psk-late… expired at "+now.Add(-time.Minute).UTC().Format("2006-01-02T15:04:05"))
	f("psk-dead", 401, `error="invalid_token"`, "The caller key psk-dead… was revoked.")
	f("psk-gone", 401, `error="invalid_token"`, "The caller key psk-… was revoked.")
	catalog.SetClock(-2 * time.Minute)
	f("psk-late", 202, "", "")
	catalog.SetClock(2 * time.Hour)
	f("psk-soon", 401, expired, "psk-soon")
	catalog.SetClock(0)
	uses, _ := catalog.UnnotedUses(10)
	if len(uses) != 3 {
		t.Errorf("keys that were used: %+v", uses)
	}
}

// TestCallerKeys_ThatExpireWhileTheirRequestIsWorkedOn: the request still succeeds, because its key
// was valid on arrival.
func TestCallerKeys_ThatExpireWhileTheirRequestIsWorkedOn(t *testing.T) {
	s := start(t, nil)
	shop := testCaller("shop", "web", buyerKey, seckill.RightBuy)
	shop.Keys[0].Expires = time.Now().Add(time.Hour)
	catalog := catalogOf(2, seckill.CatalogChange{Caller: &shop})
	s.sales.setCatalog(catalog)
	s.sales.become(func(sales *stubSales) {
		sales.find = func(context.Context, *seckill.Caller, seckill.OrderID, time.Duration) (seckill.Order, error) {
			catalog.SetClock(2 * time.Hour)
			return testOrder(seckill.OrderQueued), nil
		}
	})
	if resp, body := do(t, s.request(t, "GET", orderPath, "", "Prefer", "wait=5")); resp.StatusCode != 200 {
		t.Errorf("status %d: %s", resp.StatusCode, body)
	}
	if resp, body := do(t, s.request(t, "GET", orderPath, "")); resp.StatusCode != 401 || !strings.Contains(body, "expired at") {
		t.Errorf("afterwards: status %d: %s", resp.StatusCode, body)
	}
}
