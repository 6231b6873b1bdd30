package seckill_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"penstock/internal/proof/stocktest"
	"penstock/seckill"
)

// TestAnEndedDraftNeedsNoStock: an item that was never on sale is neither opened nor waited for. There is no store to ask: a
// rebuild would not survive the attempt.
func TestAnEndedDraftNeedsNoStock(t *testing.T) {
	now := time.Now()
	catalog := seckill.NewCatalog(&seckill.CatalogData{Activities: []seckill.Activity{{
		ID: "a", Merchant: "m", State: seckill.ActivityEnded, EndedAt: now, StartsAt: now, EndsAt: now.Add(time.Hour),
		Items: []seckill.Item{{ID: 1, SKU: "s", Quantity: 5}},
	}}}, nil, now)
	stock := stocktest.NewModel()
	r := seckill.NewRebuilder(seckill.DefaultConfig(), stock, nil, nil, func() *seckill.Catalog { return catalog },
		func(context.Context) {}, slog.New(slog.DiscardHandler))
	r.Step(t.Context())
	if levels, err := stock.Levels(t.Context(), 1); err != nil || levels.Epoch != 0 {
		t.Errorf("the shard is %+v, %v", levels, err)
	}
	if shut, err := r.Unhealthy(t.Context()); err != nil || len(shut) != 0 {
		t.Errorf("waited for %v, %v", shut, err)
	}
}
