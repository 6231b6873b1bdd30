package main

import (
	"context"
	"time"

	"penstock/seckill"
)

// dropper is a store that can forget ended activities with all their orders, cheaply.
type dropper interface {
	DropEnded(ctx context.Context, before time.Time) ([]seckill.ActivityID, error)
}

// upkeepEvery is how often ended activities are looked for.
const upkeepEvery = time.Hour

// dropEnded forgets the activities that closed longer ago than the setting says, for as long as the process works.
func (p *Process) dropEnded(ctx context.Context) {
	store, ok := p.store.(dropper)
	if !ok || p.cfg.DropAfter == 0 {
		return
	}
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		dropped, err := store.DropEnded(ctx, time.Now().Add(-p.cfg.DropAfter))
		if len(dropped) > 0 {
			p.log.Info("ended activities dropped, with their orders", "activities", dropped)
			p.desk.Nudge()
		}
		if err != nil && ctx.Err() == nil {
			p.log.Warn("ended activities not dropped, tried again in an hour", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
