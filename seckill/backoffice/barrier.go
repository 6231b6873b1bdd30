package backoffice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/seckill"
)

// Barrier waits until every page that is acknowledged by now has its rows in the database. Reading
// the end of a log is not enough, since it is not linearizable: a leader that was replaced, and
// doesn't know it yet, answers with an old end. So a marker is written into every partition,
// acknowledged like a page, and the workers' positions in the store are watched until they have
// passed all markers.
//
// All calls that wait when a round begins share it; later calls take the next round. So one barrier
// serves every shard whose doom or close was complete before its first marker was sent. It is safe
// for concurrent use; Run must run.
type Barrier struct {
	// Fixed after NewBarrier.
	queue     seckill.Producer
	positions func(context.Context) ([]seckill.Position, error)
	log       *slog.Logger
	asked     chan struct{}

	mu   sync.Mutex
	next *round // guarded by mu: the round of the waiting calls; nil if none waits

	counts BarrierCounts
}

// BarrierCounts counts a barrier's rounds since it was made.
type BarrierCounts struct {
	Passed atomic.Int64
	Failed atomic.Int64 // rounds that did not end in time, and began again
}

// round is one barrier, and how it ended.
type round struct {
	over chan struct{}
	err  error // read after over is closed
}

// barrierTimeout is how long one barrier may take before its markers are written again: the log may
// have lost them.
const barrierTimeout = 30 * time.Second

// positionLook is the pause between two looks at the workers' positions.
const positionLook = 50 * time.Millisecond

var errBehind = errors.New("the workers have not passed the markers")

// NewBarrier makes a barrier.
func NewBarrier(queue seckill.Producer, positions func(context.Context) ([]seckill.Position, error), log *slog.Logger) *Barrier {
	return &Barrier{queue: queue, positions: positions, log: log, asked: make(chan struct{}, 1)}
}

// Counts returns the barrier's counters.
func (b *Barrier) Counts() *BarrierCounts { return &b.counts }

// Pass returns nil when everything that was acknowledged before the call has its row. After an
// error nothing is known, and the caller must begin again.
func (b *Barrier) Pass(ctx context.Context) error {
	b.mu.Lock()
	if b.next == nil {
		b.next = &round{over: make(chan struct{})}
	}
	r := b.next
	b.mu.Unlock()
	select {
	case b.asked <- struct{}{}:
	default:
	}
	select {
	case <-r.over:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run works until ctx ends.
func (b *Barrier) Run(ctx context.Context) {
	for wait.Woken(ctx, b.asked) {
		if err := b.Step(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("barrier not passed, sweeps and rebuilds wait", "err", err)
		}
	}
}

// Step runs one round for all calls that wait now.
func (b *Barrier) Step(ctx context.Context) error {
	b.mu.Lock()
	r := b.next
	b.next = nil // later calls wait for markers that are not sent yet
	b.mu.Unlock()
	if r == nil {
		return nil
	}
	r.err = b.pass(ctx)
	if r.err == nil {
		b.counts.Passed.Add(1)
	} else {
		b.counts.Failed.Add(1)
	}
	close(r.over)
	return r.err
}

func (b *Barrier) pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	markers, err := b.queue.Mark(ctx)
	if err != nil {
		return fmt.Errorf("write the markers: %w", err)
	}
	for {
		at, err := b.positions(ctx)
		if err == nil && seckill.Passed(at, markers) {
			return nil
		}
		if !wait.For(ctx, positionLook) {
			return errors.Join(errBehind, err)
		}
	}
}
