package seckill

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Timeouts cancels orders whose time to pay is over. The store decides each by one conditional update, so that a payment
// and a timeout can never both win; any number of processes may run it.
type Timeouts struct {
	// Fixed after NewTimeouts.
	cfg   Config
	store OrderStore
	log   *slog.Logger

	cancelled atomic.Int64
}

// NewTimeouts makes the part.
func NewTimeouts(cfg Config, store OrderStore, log *slog.Logger) *Timeouts {
	return &Timeouts{cfg: cfg, store: store, log: log}
}

// Cancelled returns how many orders were cancelled.
func (t *Timeouts) Cancelled() int64 { return t.cancelled.Load() }

// Run works until ctx ends.
func (t *Timeouts) Run(ctx context.Context) {
	for pauseFor(ctx, t.cfg.Tick) {
		if err := t.Step(ctx); err != nil && ctx.Err() == nil {
			t.log.Warn("orders not timed out", "err", err)
			pauseFor(ctx, time.Second)
		}
	}
}

// Step cancels all orders that are due now.
func (t *Timeouts) Step(ctx context.Context) error {
	for {
		n, err := t.store.TimeOut(ctx, t.cfg.BatchCap)
		t.cancelled.Add(int64(n))
		if err != nil || n < t.cfg.BatchCap {
			return err
		}
	}
}
