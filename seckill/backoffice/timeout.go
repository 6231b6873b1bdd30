package backoffice

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// TimeoutStore is the part of the store that Timeouts uses.
type TimeoutStore interface {
	TimeOut(ctx context.Context, shards []inventory.ShardID, held []seckill.ActivityID, limit int) (int, error)
	ApplyEarly(ctx context.Context, limit int) (int, error)
}

// Held names orders that are not timed out for now, while a payment provider is away: all, or those
// of some activities.
type Held struct {
	All        bool
	Activities []seckill.ActivityID
}

// Timeouts cancels orders whose time to pay is over. The store decides each by one conditional
// update, so that a payment and a timeout can never both take effect. Before that, it applies
// payments that came before their orders had rows.
type Timeouts struct {
	// Fixed after NewTimeouts.
	cfg   seckill.Config
	store TimeoutStore
	held  func(ctx context.Context) (Held, error)
	owner *Ownership
	stuck trouble // used by Run's goroutine only

	cancelled atomic.Int64
	applied   atomic.Int64
}

// NewTimeouts makes a Timeouts for the shards that owner names. held is called before each look for
// orders; nil means that none are held.
func NewTimeouts(cfg seckill.Config, store TimeoutStore, held func(ctx context.Context) (Held, error), owner *Ownership,
	log *slog.Logger) *Timeouts {
	if held == nil {
		held = func(context.Context) (Held, error) { return Held{}, nil }
	}
	return &Timeouts{cfg: cfg, store: store, held: held, owner: owner,
		stuck: trouble{log: log, failing: "orders can't be timed out", over: "orders are timed out again"}}
}

// Cancelled returns how many orders were cancelled.
func (t *Timeouts) Cancelled() int64 { return t.cancelled.Load() }

// Applied returns how many payments were applied that had come before their orders.
func (t *Timeouts) Applied() int64 { return t.applied.Load() }

// Run works until ctx ends.
func (t *Timeouts) Run(ctx context.Context) {
	pause, idle := newBackoff(), idlePause(t.cfg)
	for idle.Wait(ctx) {
		before := t.cancelled.Load() + t.applied.Load()
		err := t.Step(ctx)
		if ctx.Err() == nil {
			t.stuck.note(err)
		}
		if t.cancelled.Load()+t.applied.Load() != before {
			idle.Reset()
		}
		if err != nil {
			pause.Wait(ctx)
			continue
		}
		pause.Reset()
	}
}

// Step cancels all orders of the owned shards that are due now, and not held.
func (t *Timeouts) Step(ctx context.Context) error {
	shards := t.owner.Shards()
	if len(shards) == 0 {
		return nil
	}
	if err := t.applyEarly(ctx); err != nil {
		return err
	}
	for {
		held, err := t.held(ctx)
		if err != nil || held.All {
			return err
		}
		n, err := t.store.TimeOut(ctx, shards, held.Activities, t.cfg.BatchCap)
		t.cancelled.Add(int64(n))
		if err != nil || n < t.cfg.BatchCap {
			return err
		}
	}
}

// applyEarly applies early payments whose orders have rows now. Several workers may call it at
// once, and each payment is still applied only once.
func (t *Timeouts) applyEarly(ctx context.Context) error {
	for {
		n, err := t.store.ApplyEarly(ctx, t.cfg.BatchCap)
		t.applied.Add(int64(n))
		if err != nil || n < t.cfg.BatchCap {
			return err
		}
	}
}

// Unparker tries parked orders again: those whose item's row was locked when their page came, or
// whose item was not there.
type Unparker struct {
	// Fixed after NewUnparker.
	cfg   seckill.Config
	store seckill.Store
	owner *Ownership
	told  func([]seckill.Acceptance)
	stuck trouble // of Run's goroutine

	waiting atomic.Int64
}

// Waiting returns how many orders of the owned shards the last pass found locked, up to a batch.
func (u *Unparker) Waiting() int64 { return u.waiting.Load() }

// unparkEvery is the pause between two tries.
const unparkEvery = time.Second

// NewUnparker makes an Unparker. It calls told with the outcome of each order.
func NewUnparker(cfg seckill.Config, store seckill.Store, owner *Ownership, told func([]seckill.Acceptance), log *slog.Logger) *Unparker {
	return &Unparker{cfg: cfg, store: store, owner: owner, told: told,
		stuck: trouble{log: log, failing: "parked orders can't be tried again", over: "parked orders are tried again"}}
}

// Run works until ctx ends.
func (u *Unparker) Run(ctx context.Context) {
	for wait.ForTick(ctx, unparkEvery) {
		if err := u.Step(ctx); ctx.Err() == nil {
			u.stuck.note(err)
		}
	}
}

// Step tries each parked order of the owned shards at most once.
func (u *Unparker) Step(ctx context.Context) error {
	shards := u.owner.Shards()
	if len(shards) == 0 {
		u.waiting.Store(0)
		return nil
	}
	for {
		accepted, err := u.store.Unpark(ctx, shards, u.cfg.BatchCap)
		if err != nil {
			return err
		}
		u.told(accepted)
		parked := countParked(accepted)
		u.waiting.Store(int64(parked))
		if len(accepted) < u.cfg.BatchCap || parked == len(accepted) {
			return nil
		}
	}
}

func countParked(accepted []seckill.Acceptance) (n int) {
	for i := range accepted {
		if accepted[i].Outcome == seckill.OutcomeParked {
			n++
		}
	}
	return n
}
