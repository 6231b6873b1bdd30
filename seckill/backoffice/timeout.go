package backoffice

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"penstock/internal/wait"
	"penstock/seckill"
)

// Timeouts cancels orders whose time to pay is over. The store decides each by one conditional update, so
// that a payment and a timeout can never both win.
type Timeouts struct {
	// Fixed after NewTimeouts.
	cfg   seckill.Config
	store seckill.OrderStore
	owner *Ownership
	stuck trouble // of Run's goroutine

	cancelled atomic.Int64
}

// NewTimeouts makes the part for the shards that owner says.
func NewTimeouts(cfg seckill.Config, store seckill.OrderStore, owner *Ownership, log *slog.Logger) *Timeouts {
	return &Timeouts{cfg: cfg, store: store, owner: owner,
		stuck: trouble{log: log, failing: "orders can't be timed out", over: "orders are timed out again"}}
}

// Cancelled returns how many orders were cancelled.
func (t *Timeouts) Cancelled() int64 { return t.cancelled.Load() }

// Run works until ctx ends.
func (t *Timeouts) Run(ctx context.Context) {
	pause := newBackoff()
	for wait.For(ctx, t.cfg.Tick) {
		err := t.Step(ctx)
		if ctx.Err() == nil {
			t.stuck.note(err)
		}
		if err != nil {
			pause.Wait(ctx)
			continue
		}
		pause.Reset()
	}
}

// Step cancels all orders of the owned shards that are due now.
func (t *Timeouts) Step(ctx context.Context) error {
	shards := t.owner.Shards()
	for len(shards) > 0 {
		n, err := t.store.TimeOut(ctx, shards, t.cfg.BatchCap)
		t.cancelled.Add(int64(n))
		if err != nil || n < t.cfg.BatchCap {
			return err
		}
	}
	return nil
}

// Unparker tries parked orders again: those whose item's row was locked when their page came, or whose
// item was not there.
type Unparker struct {
	// Fixed after NewUnparker.
	cfg   seckill.Config
	store seckill.Store
	owner *Ownership
	told  func([]seckill.Acceptance)
	stuck trouble // of Run's goroutine
}

// unparkEvery is the pause between two tries.
const unparkEvery = time.Second

// NewUnparker makes the part. told is handed what became of each order.
func NewUnparker(cfg seckill.Config, store seckill.Store, owner *Ownership, told func([]seckill.Acceptance), log *slog.Logger) *Unparker {
	return &Unparker{cfg: cfg, store: store, owner: owner, told: told,
		stuck: trouble{log: log, failing: "parked orders can't be tried again", over: "parked orders are tried again"}}
}

// Run works until ctx ends.
func (u *Unparker) Run(ctx context.Context) {
	for wait.For(ctx, unparkEvery) {
		if err := u.Step(ctx); ctx.Err() == nil {
			u.stuck.note(err)
		}
	}
}

// Step tries each parked order of the owned shards once at most.
func (u *Unparker) Step(ctx context.Context) error {
	shards := u.owner.Shards()
	if len(shards) == 0 {
		return nil
	}
	for {
		accepted, err := u.store.Unpark(ctx, shards, u.cfg.BatchCap)
		if err != nil {
			return err
		}
		u.told(accepted)
		if len(accepted) < u.cfg.BatchCap || !anyUnparked(accepted) {
			return nil
		}
	}
}

func anyUnparked(accepted []seckill.Acceptance) bool {
	for i := range accepted {
		if accepted[i].Outcome != seckill.OutcomeParked {
			return true
		}
	}
	return false
}
