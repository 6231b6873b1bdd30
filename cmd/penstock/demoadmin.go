package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// What the demo sells.
const (
	demoMerchant = "demo-shop"
	demoActivity = "demo-sale"
	demoSKU      = "phone-x"
	demoPrice    = 199_900 // in minor units
	demoCurrency = "CNY"
	demoPerUser  = 1
)

// demoShop opens and audits the demo's sale through the admin API, like any client.
type demoShop struct{ client *adminClient }

func newDemoShop(url, token string) *demoShop {
	client := newClient([]string{url}, token, 30*time.Second)
	client.reason = "demo"
	return &demoShop{client}
}

// demoSale has what the crowd needs to buy.
type demoSale struct {
	callerKey     string
	paymentSecret string
}

// open makes a merchant, a caller and an activity, and publishes it.
func (s *demoShop) open(ctx context.Context, units int, now time.Time) (demoSale, error) {
	var merchant struct {
		PaymentSecret string `json:"payment_secret"`
	}
	var caller struct {
		Key string `json:"key"`
	}
	activity := map[string]any{
		"merchant": demoMerchant, "name": "Demo sale", "payment_window": "15m",
		// It lasts a day, because a demo may keep running.
		"starts_at": now.Add(-time.Minute).UTC().Format(time.RFC3339), "ends_at": now.Add(24 * time.Hour).UTC().Format(time.RFC3339),
		"items": []any{map[string]any{
			"sku": demoSKU, "price": demoPrice, "currency": demoCurrency, "quantity": units, "per_user": demoPerUser,
		}},
	}
	for _, step := range []struct {
		request adminRequest
		answer  any
	}{
		{put(map[string]any{"name": "Demo shop"}, "merchants", demoMerchant), &merchant},
		{post(map[string]any{"name": "storefront", "rights": []string{"buy"}}, "merchants", demoMerchant, "callers"), &caller},
		{put(activity, "activities", demoActivity), nil},
		{post(nil, "activities", demoActivity, "publish"), nil},
	} {
		if err := s.call(ctx, step.request, step.answer); err != nil {
			return demoSale{}, fmt.Errorf("open the sale: %w", err)
		}
	}
	return demoSale{callerKey: caller.Key, paymentSecret: merchant.PaymentSecret}, nil
}

// settled reports whether nothing is in flight and the stock equation holds.
func (a *itemAudit) settled() bool {
	return a.Balanced && !a.Rebuilding && a.InFlight == 0 && a.Total == a.Available+a.Held+a.Sold
}

// auditWithin is the time after the end of the traffic in which L3 wants every unit accounted for.
// auditEvery is the time between two looks.
const (
	auditWithin = 60 * time.Second
	auditEvery  = 50 * time.Millisecond
)

// audit waits until nothing is in flight, for as long as L3 allows, and returns the equation as it
// is then.
func (s *demoShop) audit(ctx context.Context) (itemAudit, error) {
	over := time.NewTimer(auditWithin)
	defer over.Stop()
	look := time.NewTicker(auditEvery)
	defer look.Stop()
	for {
		var books activityAudit
		if err := s.call(ctx, get("activities", demoActivity, "audit"), &books); err != nil {
			return itemAudit{}, fmt.Errorf("audit: %w", err)
		}
		if len(books.Items) != 1 {
			return itemAudit{}, fmt.Errorf("audit: %d items, the sale has one", len(books.Items))
		}
		if books.Items[0].settled() {
			return books.Items[0], nil
		}
		select {
		case <-ctx.Done():
			return itemAudit{}, fmt.Errorf("audit: %w", ctx.Err())
		case <-over.C:
			return books.Items[0], nil
		case <-look.C:
		}
	}
}

// call sends a request, and decodes a successful answer into answer, unless that is nil.
func (s *demoShop) call(ctx context.Context, request adminRequest, answer any) error {
	text, _, err := s.client.call(ctx, request)
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}
