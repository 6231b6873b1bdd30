package seckill

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"penstock/inventory"
)

// Relay tells the stock what the store has decided: it settles the holds of ended orders and applies restocks, then deletes
// the outbox rows. Each step can be repeated: settling twice does nothing, a restock is applied once per epoch by its id.
// One Relay runs in one goroutine; any number of processes may run one.
type Relay struct {
	// Fixed after NewRelay.
	cfg   Config
	stock Stock
	store OrderStore
	log   *slog.Logger

	delivered atomic.Int64
	refused   atomic.Int64
}

// NewRelay makes a relay.
func NewRelay(cfg Config, stock Stock, store OrderStore, log *slog.Logger) *Relay {
	return &Relay{cfg: cfg, stock: stock, store: store, log: log}
}

// Delivered returns how many rows were delivered, and how many tries the stock refused.
func (r *Relay) Delivered() (delivered, refused int64) { return r.delivered.Load(), r.refused.Load() }

// relayPause is how long an empty outbox is left alone: it is what a cancelled unit waits before it is sold again.
const relayPause = 25 * time.Millisecond

// Run works until ctx ends.
func (r *Relay) Run(ctx context.Context) {
	pause := newBackoff()
	for ctx.Err() == nil {
		delivered := r.delivered.Load()
		if err := r.Step(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("outbox not relayed", "err", err)
			pause.wait(ctx)
			continue
		}
		pause.reset()
		if r.delivered.Load() == delivered {
			pauseFor(ctx, relayPause)
		}
	}
}

// Step goes through the outbox once, from its oldest row to its newest.
func (r *Relay) Step(ctx context.Context) error {
	for after := int64(0); ; {
		last, err := r.store.Relay(ctx, after, r.cfg.BatchCap, r.deliver)
		if err != nil || last == 0 {
			return err
		}
		after = last
	}
}

// deliver sends rows to the stock and returns the indexes of those that arrived.
func (r *Relay) deliver(ctx context.Context, rows []Outgoing) []int {
	arrived := make([]int, 0, len(rows))
	var settlements byRef[int]
	for i := range rows {
		if row := &rows[i]; row.Restock == 0 {
			settlements.add(row.Ref, i)
		} else if r.sent(ctx, row.Ref, 1, r.stock.Restock(ctx, row.Ref, row.RestockID, row.Restock)) {
			arrived = append(arrived, i)
		}
	}
	for _, group := range settlements {
		ends := make([]inventory.Settlement, len(group.list))
		for j, i := range group.list {
			ends[j] = rows[i].Settlement
		}
		if r.sent(ctx, group.ref, len(ends), r.stock.Settle(ctx, group.ref, ends)) {
			arrived = append(arrived, group.list...)
		}
	}
	return arrived
}

// sent counts and reports a delivery. A shard that is closed or of another epoch is being rebuilt: the rows wait for it.
func (r *Relay) sent(ctx context.Context, ref inventory.Ref, rows int, err error) bool {
	if err == nil {
		r.delivered.Add(int64(rows))
		return true
	}
	r.refused.Add(int64(rows))
	if ctx.Err() == nil && !rebuilding(err) {
		r.log.Warn("stock not told", "item", ref.Item, "epoch", ref.Epoch, "rows", rows, "err", err)
	}
	return false
}
