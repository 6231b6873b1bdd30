package seckill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"penstock/internal/batch"
	"penstock/inventory"
)

// Desk serves buyers: it sells, tells an order's status, cancels and books payments. It is safe for concurrent use and
// keeps no lock across calls.
type Desk struct {
	// Fixed after NewDesk.
	cfg      Config
	stock    Stock
	queue    Queue
	store    Store
	log      *slog.Logger
	statuses *batch.Batcher[OrderID, Order]
	accepts  *batch.Batcher[Record, Acceptance] // of queued orders that are cancelled
	cancels  *batch.Batcher[OrderID, Moved]
	payments *batch.Batcher[Payment, PaymentResult]
	misses   *batch.Batcher[struct{}, struct{}] // refreshes asked for by who didn't find something in the catalog
	refresh  chan struct{}
	draining chan struct{}

	postings sync.Pool // of *posting, none of which the queue knows any more

	catalog atomic.Pointer[Catalog]
	drained atomic.Bool
	failing atomic.Bool // Run's last refresh failed
	counts  DeskCounts
}

// DeskCounts counts what happened at a desk since it was made.
type DeskCounts struct {
	Accepted atomic.Int64 // a 202 or 201 that was not a replay
	Replayed atomic.Int64
	Unknown  atomic.Int64 // answered with an unknown outcome
	Late     atomic.Int64 // of those: acknowledged after the accept deadline
	Stale    atomic.Int64 // looked up in a catalog that could not be refreshed, and not found
}

// NewDesk makes a desk; it sells nothing until Refresh has loaded a catalog.
func NewDesk(cfg Config, stock Stock, queue Queue, store Store, log *slog.Logger) (*Desk, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Desk{
		cfg: cfg, stock: stock, queue: queue, store: store, log: log,
		refresh: make(chan struct{}, 1), draining: make(chan struct{}),
	}
	d.catalog.Store(NewCatalog(&CatalogData{}, nil, time.Now()))
	sizes := batch.Config{Cap: cfg.BatchCap, Queue: cfg.Queue, Parallel: 1, Timeout: cfg.StoreTimeout}
	var err error
	if d.statuses, err = batch.New(sizes, func(ctx context.Context, ids []OrderID, out []Order) error {
		return fill(out)(store.FindOrders(ctx, ids))
	}); err != nil {
		return nil, err
	}
	if d.accepts, err = batch.New(sizes, func(ctx context.Context, records []Record, out []Acceptance) error {
		return fill(out)(store.Accept(ctx, records))
	}); err != nil {
		return nil, err
	}
	if d.cancels, err = batch.New(sizes, func(ctx context.Context, ids []OrderID, out []Moved) error {
		return fill(out)(store.Cancel(ctx, ids))
	}); err != nil {
		return nil, err
	}
	if d.payments, err = batch.New(sizes, func(ctx context.Context, p []Payment, out []PaymentResult) error {
		return fill(out)(store.Pay(ctx, p))
	}); err != nil {
		return nil, err
	}
	sizes.Queue = freshWaiting
	if d.misses, err = batch.New(sizes, func(ctx context.Context, _, _ []struct{}) error { return d.Refresh(ctx) }); err != nil {
		return nil, err
	}
	return d, nil
}

// fill returns a function that copies a store's answers into a batch's results.
func fill[T any](out []T) func([]T, error) error {
	return func(got []T, err error) error {
		if err == nil && len(got) != len(out) {
			return fmt.Errorf("store answered %d of %d", len(got), len(out))
		}
		copy(out, got)
		return err
	}
}

// Close stops the desk's batches. It returns when all is still.
func (d *Desk) Close() {
	d.StopWaiting()
	d.statuses.Close()
	d.accepts.Close()
	d.cancels.Close()
	d.payments.Close()
	d.misses.Close()
}

// StopWaiting ends all waits for orders at once, as a drain begins: those who wait get the answer there is.
func (d *Desk) StopWaiting() {
	if d.drained.CompareAndSwap(false, true) {
		close(d.draining)
	}
}

// Catalog returns the catalog in force.
func (d *Desk) Catalog() *Catalog { return d.catalog.Load() }

// InStock reports whether the offer was last seen with a unit available; of one that was never opened, whether it will have one.
func (d *Desk) InStock(o *Offer) bool {
	if o.Epoch == 0 && o.Sale.State != ActivityEnded {
		return o.Quantity > 0
	}
	return d.stock.InStock(o.ID)
}

// Counts returns the desk's counters.
func (d *Desk) Counts() *DeskCounts { return &d.counts }

// Queues returns the batches' statistics, by name, for metrics.
func (d *Desk) Queues() map[string]batch.Stats {
	return map[string]batch.Stats{
		"status": d.statuses.Stats(), "accept": d.accepts.Stats(), "cancel": d.cancels.Stats(), "payment": d.payments.Stats(),
	}
}

// Run keeps the catalog fresh until ctx ends: at every tick, and at once after Nudge. A store that is away leaves the
// catalog that was loaded last in force.
func (d *Desk) Run(ctx context.Context) {
	tick := time.NewTicker(d.cfg.Tick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-d.refresh:
		}
		err := d.Refresh(ctx)
		if ctx.Err() != nil || d.failing.Swap(err != nil) == (err != nil) {
			continue
		}
		if err != nil {
			d.log.Warn("catalog can't be refreshed, the last one stays in force", "err", err)
		} else {
			d.log.Info("catalog is fresh again")
		}
	}
}

// Nudge asks Run for a refresh now.
func (d *Desk) Nudge() {
	select {
	case d.refresh <- struct{}{}:
	default:
	}
}

// Refresh loads the catalog if it changed, and puts it in force.
func (d *Desk) Refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.StoreTimeout)
	defer cancel()
	current := d.catalog.Load()
	data, err := d.store.LoadCatalog(ctx, current.Version)
	if err != nil || data == nil {
		return err
	}
	now := time.Now()
	next := NewCatalog(data, current, now)
	d.stock.Watch(next.live(now, d.cfg.Retention))
	// A refresh by hand may race with Run's: the newer catalog stays.
	for !d.catalog.CompareAndSwap(current, next) {
		if current = d.catalog.Load(); current.Version >= next.Version {
			return nil
		}
	}
	return nil
}

// activity finds an activity. What this process doesn't know may have been published on another a moment ago, so a miss looks
// once more, with all other misses of that moment; a store that can't be asked leaves it a miss.
func (d *Desk) activity(ctx context.Context, id ActivityID) *Sale {
	if sale := d.Catalog().Activity(id); sale != nil && sale.State != ActivityDraft {
		return sale
	}
	return d.Fresh(ctx).Activity(id)
}

// item finds an item, like activity.
func (d *Desk) item(ctx context.Context, id inventory.ItemID) *Offer {
	if offer := d.Catalog().Offer(id); offer != nil {
		return offer
	}
	return d.Fresh(ctx).Offer(id)
}

// Bounds of a look for a newer catalog: what it may take, and how many may wait for one. Who comes then makes do with what is
// in force, so that a flood of invented names and keys can't fill the desk.
const (
	freshTimeout = 500 * time.Millisecond
	freshWaiting = 256
)

// Fresh returns the catalog after a look whether there is a newer one, together with all who ask at that moment. Where the
// store can't be asked, or too many wait, it is the one in force.
func (d *Desk) Fresh(ctx context.Context) *Catalog {
	if !d.failing.Load() {
		ctx, cancel := context.WithTimeout(ctx, freshTimeout)
		defer cancel()
		if _, err := d.misses.Do(ctx, struct{}{}); err != nil {
			d.counts.Stale.Add(1)
		}
	}
	return d.Catalog()
}

// unavailable turns a failed call into what the public may know: nothing happened, or it may have.
func (d *Desk) unavailable(id OrderID, err error) error {
	switch unknown := (*inventory.UnknownError)(nil); {
	case errors.As(err, &unknown), errors.Is(err, batch.ErrAbandoned):
		d.counts.Unknown.Add(1)
		return &Unknown{Order: id, RetryAfter: time.Second, Err: err}
	case errors.Is(err, inventory.ErrFull), errors.Is(err, batch.ErrFull):
		return &Failure{Code: CodeOverloaded, RetryAfter: time.Second, Err: err}
	case errors.Is(err, inventory.ErrEpoch):
		d.Nudge()
	}
	return &Failure{Code: CodeUnavailable, RetryAfter: time.Second, Err: err}
}

// Live returns the shards of every item that may have been sold, until its keys may be forgotten.
func (d *Desk) Live() []inventory.Ref { return d.Catalog().live(time.Now(), d.cfg.Retention) }
