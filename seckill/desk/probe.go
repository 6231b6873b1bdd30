package desk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Probe does what Buy does, with an item that has no units (seckill.ProbeItem), and reports the
// first failure: it takes a slot, waits in the line of its shard, runs the stock's script together
// with the holds of buyers, and puts a page without promises. Only that page is written, and
// workers skip it. Nothing is taken or promised. p must be a purchase from seckill.ProbeCatalog,
// and offer its item.
//
// nil means that a purchase of an available unit would have been accepted now. An error is a
// *seckill.Failure that names the step.
func (d *Desk) Probe(ctx context.Context, offer seckill.Offer, p *seckill.Purchase) error {
	if offer.ID != seckill.ProbeItem {
		return failure(seckill.CodeUnavailable, fmt.Errorf("item %d is not an item of probes", offer.ID))
	}
	id := p.OrderID(offer.ID)
	shard := offer.Place(string(id), d.cfg.Shards)
	ref, err := d.probeHold(ctx, shard, offer, p, id)
	if err != nil {
		return fmt.Errorf("hold on shard %d: %w", shard, err)
	}
	if err := d.probePage(ctx, ref, p); err != nil {
		return fmt.Errorf("page of shard %d: %w", shard, err)
	}
	return nil
}

// probeHold asks the stock for a unit of an item that doesn't exist.
func (d *Desk) probeHold(ctx context.Context, shard inventory.ShardID, offer seckill.Offer, p *seckill.Purchase, id seckill.OrderID) (
	ref inventory.Ref, err error) {
	if err := d.queue.Reserve(); errors.Is(err, seckill.ErrNoSlot) {
		return ref, errNoSlot
	} else if err != nil {
		return ref, failure(seckill.CodeUnavailable, err)
	}
	s := d.seat(ctx, offer, p, id)
	if err := d.lineOf(shard).join(s, shard); err != nil {
		d.queue.Release(1)
		d.leave(s)
		return ref, err
	}
	<-s.done
	defer d.leave(s)
	switch {
	case s.err != nil:
		var known *seckill.Failure
		if errors.As(s.err, &known) {
			return ref, known
		}
		if errors.Is(s.err, inventory.ErrEpoch) {
			d.isBehind()
		}
		return ref, failure(seckill.CodeUnavailable, s.err)
	case s.verdict != inventory.Unopened:
		return ref, failure(seckill.CodeUnavailable, fmt.Errorf("the stock has the item of probes, which must not exist: verdict %d", s.verdict))
	}
	return inventory.Ref{Shard: shard, Epoch: d.stock.Epoch(shard)}, nil
}

// probePage puts a page without promises into the shard's preferred partition.
func (d *Desk) probePage(ctx context.Context, ref inventory.Ref, p *seckill.Purchase) error {
	if err := d.queue.Reserve(); errors.Is(err, seckill.ErrNoSlot) {
		return errNoSlot
	} else if err != nil {
		return failure(seckill.CodeUnavailable, err)
	}
	page := seckill.Page{PageHeader: seckill.PageHeader{Ref: ref, Node: d.node, Put: time.Now()}}
	done := make(chan error, 1)
	d.queue.Put(ref.Shard, seckill.AppendPage(nil, &page), 1, func(err error) { done <- err })
	late := time.NewTimer(d.cfg.AcceptDeadline - elapsed(p.Arrived, time.Now()))
	defer late.Stop()
	select {
	case err := <-done:
		if err != nil {
			return failure(seckill.CodeUnavailable, err)
		}
		return nil
	case <-late.C:
		return failure(seckill.CodeUnavailable, errNoAnswer)
	case <-ctx.Done():
		return failure(seckill.CodeUnavailable, ctx.Err())
	}
}
