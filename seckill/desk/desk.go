package desk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/batch"
	"github.com/penstock/penstock/internal/timing"
	"github.com/penstock/penstock/internal/trace"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Parts are the parts that a desk works with. All are needed unless a comment says otherwise.
type Parts struct {
	Stock seckill.Holder
	Queue seckill.Producer
	Store seckill.Store
	Node  string // the name of this gateway, written into its pages
	// Wanted is called for a spread item if a buyer's shard has no unit but another shard has some:
	// units should be moved. It must not block. It may be nil.
	Wanted func(shard inventory.ShardID, item inventory.ItemID)
	// Full reports whether the memory of the shard's server is nearly used up: new purchases are
	// refused there. It must not block. nil means never.
	Full func(shard inventory.ShardID) bool
	// Moved is called with an order that the desk has paid or cancelled. It must not block. nil: no
	// call.
	Moved func(o *seckill.Order)
	// Open decrypts a payment secret of the catalog. nil means that secrets are not encrypted.
	Open func(sealed, owner string) (string, error)
	// Trace records what purchases wait for; nil records nothing.
	Trace *trace.Tracer
	Log   *slog.Logger // with its component
}

// Desk serves buyers: it sells, tells an order's status, cancels and books payments. It is safe for
// concurrent use and keeps no lock across calls.
type Desk struct {
	// Fixed after New.
	cfg      seckill.Config
	stock    seckill.Holder
	queue    seckill.Producer
	store    seckill.Store
	node     string
	wanted   func(shard inventory.ShardID, item inventory.ItemID)
	full     func(shard inventory.ShardID) bool
	open     func(sealed, owner string) (string, error)
	moved    func(o *seckill.Order)
	made     time.Time // the desk measures times as durations since then
	log      *slog.Logger
	trace    *trace.Tracer
	statuses *batch.Batcher[seckill.OrderID, seckill.Order]
	cancels  *batch.Batcher[seckill.Cancellation, seckill.Moved]
	payments *batch.Batcher[seckill.Payment, seckill.PaymentResult]
	misses   *batch.Batcher[struct{}, struct{}] // looks for a newer catalog
	lines    []*line                            // by lane
	draining chan struct{}                      // closed by StopWaiting
	behind   chan struct{}                      // capacity 1
	loading  chan struct{}                      // capacity 1: taken while a refresh is in progress

	seats   sync.Pool // of *seat
	flights sync.Pool // of *flight
	rounds  sync.WaitGroup

	catalog atomic.Pointer[seckill.Catalog]
	offset  atomic.Int64 // how far the database's clock is ahead of this one, in nanoseconds
	drained atomic.Bool
	failing atomic.Bool // the last refresh by Run failed
	counts  Counts
	hops    Hops
}

// Hops has how long purchases take from one step to the next. It has a sample: one purchase of each
// page.
type Hops struct {
	Hold timing.Histogram // from the arrival of the longest waiting purchase until its unit is held
	Page timing.Histogram // from then until the page is acknowledged
}

// Hops returns the desk's histograms. They only grow.
func (d *Desk) Hops() *Hops { return &d.hops }

// Counts are a desk's counters since it was made.
type Counts struct {
	Accepted atomic.Int64 // a 202 or 201 that was not a replay
	Replayed atomic.Int64
	Unknown  atomic.Int64 // answered with an unknown outcome
	Late     atomic.Int64 // those of Unknown that were acknowledged after the accept deadline
	Full     atomic.Int64 // refused, since the memory of the shard's server is nearly used up
	Stale    atomic.Int64 // not found in a catalog that could not be refreshed
}

// New makes a desk. It sells nothing until it has a catalog (Refresh) and shards (Follow).
func New(cfg seckill.Config, parts Parts) (*Desk, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if parts.Stock == nil || parts.Queue == nil || parts.Store == nil || parts.Log == nil {
		return nil, errors.New("desk: stock, queue, store and log are needed")
	}
	d := &Desk{
		cfg: cfg, stock: parts.Stock, queue: parts.Queue, store: parts.Store, node: parts.Node, wanted: parts.Wanted,
		moved: parts.Moved, log: parts.Log, trace: parts.Trace,
		made:     time.Now(),
		draining: make(chan struct{}), behind: make(chan struct{}, 1), loading: make(chan struct{}, 1),
	}
	if d.open = parts.Open; d.open == nil {
		d.open = func(secret, _ string) (string, error) { return secret, nil }
	}
	if d.moved == nil {
		d.moved = func(*seckill.Order) {}
	}
	if d.full = parts.Full; d.full == nil {
		d.full = func(inventory.ShardID) bool { return false }
	}
	d.seats.New = func() any { return &seat{done: make(chan struct{}, 1)} }
	d.flights.New = func() any { return newFlight(d) }
	d.catalog.Store((*seckill.Catalog)(nil).Edit(true, time.Now()).Done(seckill.CatalogVersion{}))
	d.lines = make([]*line, cfg.Shards)
	for lane := range d.lines {
		d.lines[lane] = newLine(d)
	}
	return d, d.batchers()
}

// batchers makes the batchers.
func (d *Desk) batchers() error {
	sizes := batch.Config{Cap: d.cfg.BatchCap, Queue: d.cfg.Queue, Timeout: d.cfg.StoreTimeout}
	var errs [4]error
	d.statuses, errs[0] = batch.New(sizes, func(ctx context.Context, ids []seckill.OrderID, out []seckill.Order) error {
		return fill(out)(d.store.FindOrders(ctx, ids))
	})
	d.cancels, errs[1] = batch.New(sizes, func(ctx context.Context, c []seckill.Cancellation, out []seckill.Moved) error {
		return fill(out)(d.store.Cancel(ctx, c))
	})
	d.payments, errs[2] = batch.New(sizes, func(ctx context.Context, p []seckill.Payment, out []seckill.PaymentResult) error {
		return fill(out)(d.store.Pay(ctx, p))
	})
	sizes.Queue = freshWaiting
	d.misses, errs[3] = batch.New(sizes, func(ctx context.Context, _, _ []struct{}) error { return d.Refresh(ctx) })
	return errors.Join(errs[:]...)
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

// Close stops the desk's lines and batches, and waits for them. It doesn't wait for pages that the
// queue still has, so close the queue after the desk.
func (d *Desk) Close() {
	d.StopWaiting()
	for _, l := range d.lines {
		l.close()
	}
	d.rounds.Wait()
	d.statuses.Close()
	d.cancels.Close()
	d.payments.Close()
	d.misses.Close()
}

// StopWaiting ends all waits for orders, at the beginning of a drain: each request gets the answer
// of that moment.
func (d *Desk) StopWaiting() {
	if d.drained.CompareAndSwap(false, true) {
		close(d.draining)
	}
}

// Counts returns the desk's counters.
func (d *Desk) Counts() *Counts { return &d.counts }

// Queues returns the batches' statistics, by name, for metrics.
func (d *Desk) Queues() map[string]batch.Stats {
	return map[string]batch.Stats{
		"status": d.statuses.Stats(), "cancel": d.cancels.Stats(), "payment": d.payments.Stats(),
	}
}

// Lines returns the lines' statistics, by lane, for metrics. It has those lanes that were ever
// used.
func (d *Desk) Lines() map[int]LineStats {
	all := make(map[int]LineStats)
	for lane, l := range d.lines {
		if s := l.stats(); s != (LineStats{}) {
			all[lane] = s
		}
	}
	return all
}

// Follow tells the stock the epoch of each shard: the epoch in rows, or a later one that the stock
// has seen. rows come from store.Shards. A shard of epoch 0 was never opened.
func (d *Desk) Follow(rows []seckill.ShardRow) {
	refs := make([]inventory.Ref, 0, len(rows))
	for _, row := range rows {
		ref := row.Ref
		ref.Epoch = max(ref.Epoch, d.stock.Epoch(ref.Shard))
		if ref.Epoch > 0 {
			refs = append(refs, ref)
		}
	}
	d.stock.Watch(refs)
}

// Behind gets a value after a shard answered with a later epoch than this process knows. Then read
// the shards' rows and call Follow.
func (d *Desk) Behind() <-chan struct{} { return d.behind }

// isBehind signals that a shard has a later epoch.
func (d *Desk) isBehind() {
	select {
	case d.behind <- struct{}{}:
	default:
	}
}

// now is the time since the desk was made.
func (d *Desk) now() time.Duration { return time.Since(d.made) }

// SetOffset sets how far the database's clock is ahead of this process's. Sales open and close by
// the database's clock.
func (d *Desk) SetOffset(ahead time.Duration) {
	d.offset.Store(int64(ahead))
	d.Catalog().SetClock(ahead)
}

// Now returns the time on the database's clock, as far as this process knows.
func (d *Desk) Now() time.Time { return time.Now().Add(time.Duration(d.offset.Load())) }

// ref returns the shard that has the offer's hold of that name, with its current epoch.
func (d *Desk) ref(offer seckill.Offer, id string) inventory.Ref {
	shard := offer.Place(id, d.cfg.Shards)
	return inventory.Ref{Shard: shard, Epoch: d.stock.Epoch(shard)}
}

// Shards returns the shards of an offer.
func (d *Desk) Shards(offer seckill.Offer) []inventory.ShardID {
	shards := make([]inventory.ShardID, offer.Spread)
	for i := range shards {
		shards[i] = d.shard(offer, i)
	}
	return shards
}

// shard returns the i-th shard of an offer.
func (d *Desk) shard(offer seckill.Offer, i int) inventory.ShardID {
	return inventory.ShardAt(offer.ID, i, d.cfg.Shards)
}

// InStock reports whether the offer was last seen with a unit on any of its shards, and how old
// that is. A draft is in stock if it will have a unit.
func (d *Desk) InStock(offer seckill.Offer) (inStock bool, age time.Duration) {
	if offer.Sale.State == seckill.ActivityDraft {
		return offer.Quantity > 0, 0
	}
	for i := range offer.Spread {
		has, seen := d.stock.InStock(d.shard(offer, i), offer.ID)
		if has {
			return true, seen
		}
		age = max(age, seen)
	}
	return false, age
}

// Gone reports whether the offer is known to have no unit on any of its shards. It is false if a
// shard is unknown, for which InStock is true.
func (d *Desk) Gone(offer seckill.Offer) bool {
	for i := range offer.Spread {
		shard := d.shard(offer, i)
		if has, _ := d.stock.InStock(shard, offer.ID); has || d.stock.Epoch(shard) == 0 {
			return false
		}
	}
	return true
}

// elsewhere reports whether another shard may have a unit of the offer: its last known state had
// one, or this process doesn't know that shard.
func (d *Desk) elsewhere(offer seckill.Offer, but inventory.ShardID) bool {
	for i := range offer.Spread {
		if shard := d.shard(offer, i); shard != but {
			if has, _ := d.stock.InStock(shard, offer.ID); has || d.stock.Epoch(shard) == 0 {
				return true
			}
		}
	}
	return false
}
