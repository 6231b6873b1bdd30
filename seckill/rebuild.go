package seckill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"penstock/inventory"
)

// Rebuilder writes an item's shard anew from the store and the queue, under the item's next epoch. It is the ordinary way
// in: publishing, starting on an empty Redis and healing one that forgot are all a rebuild.
//
//  1. close: the item's next epoch, given out by the store, goes into the shard, closed,
//  2. wait out the accept deadline: every 202 of the epoch before has been given,
//  3. drain: the workers pass the queue's end of a time after the wait, so that every promise has its row,
//  4. snapshot and fence: one transaction reads the item's orders and makes the new epoch the item's; from here on the store
//     takes no record and no tombstone of an older one,
//  5. load and open, only where the shard still shows this rebuild's own closed mark.
//
// Each step may crash: the shard stays shut, nobody is promised anything, and whoever takes the item's lock begins again
// under a higher epoch. internal/proof/protocol shows what breaks when a step is left out. A Rebuilder is safe for concurrent use.
type Rebuilder struct {
	// Fixed after NewRebuilder.
	cfg     Config
	stock   Stock
	queue   Queue
	store   Store
	catalog func() *Catalog
	opened  func(context.Context) // called after an item opened
	log     *slog.Logger
	alone   bool // no other process serves buyers

	rebuilt atomic.Int64

	mu      sync.Mutex
	mine    map[inventory.ItemID]bool      // guarded by mu: items this process has opened
	retired map[inventory.ItemID]bool      // guarded by mu: items whose shards are known to be empty
	audits  map[ActivityID]time.Time       // guarded by mu: when the activity's books are to be looked at
	odd     map[inventory.ItemID]imbalance // guarded by mu: items whose books did not balance at the last look
}

// NewRebuilder makes a rebuilder. opened is called after each item it opened, so that the catalog learns of the epoch.
func NewRebuilder(cfg Config, stock Stock, queue Queue, store Store, catalog func() *Catalog, opened func(context.Context),
	log *slog.Logger) *Rebuilder {
	return &Rebuilder{cfg: cfg, stock: stock, queue: queue, store: store, catalog: catalog, opened: opened, log: log,
		mine: make(map[inventory.ItemID]bool), retired: make(map[inventory.ItemID]bool),
		audits: make(map[ActivityID]time.Time), odd: make(map[inventory.ItemID]imbalance)}
}

// Alone tells, before the first call, that no other process serves buyers, and that those which did are dead: nobody can be
// given a 202 of an item that this process has not opened yet, so its first rebuild here need not wait one out.
func (r *Rebuilder) Alone() { r.alone = true }

// Rebuilt returns how many rebuilds opened an item.
func (r *Rebuilder) Rebuilt() int64 { return r.rebuilt.Load() }

// Run heals until ctx ends: at every tick it rebuilds the shards that are shut, behind, or suspect, unless somebody else does.
func (r *Rebuilder) Run(ctx context.Context) {
	for pauseFor(ctx, r.cfg.Tick) {
		r.Step(ctx)
	}
}

// Step looks at every shard once, one after another: it heals the live ones that need it and empties those whose keys may be
// forgotten. Now and then it compares the live ones with the books.
func (r *Rebuilder) Step(ctx context.Context) {
	now := time.Now()
	for _, offer := range r.catalog().offers {
		if ctx.Err() != nil || offer.Sale.State == ActivityDraft || offer.neverSold() {
			continue
		}
		what, step := "healed", r.Heal
		if !offer.Sale.live(now, r.cfg.Retention) {
			what, step = "retired", r.retire
		}
		if err := step(ctx, offer); err != nil && ctx.Err() == nil {
			r.log.Warn("item not "+what, "item", offer.ID, "activity", offer.Sale.ID, "sku", offer.SKU, "err", err)
		}
		if !offer.Sale.live(now, r.cfg.Retention) {
			continue
		}
		if err := r.auditSale(ctx, offer.Sale, now); err != nil && ctx.Err() == nil {
			r.log.Warn("books not looked at", "activity", offer.Sale.ID, "err", err)
		}
	}
}

// retire empties the shard of an item whose retention is over, once nothing of it is open or on its way (L8). It closes the shard
// under an epoch that is never opened.
func (r *Rebuilder) retire(ctx context.Context, offer *Offer) error {
	r.mu.Lock()
	done := r.retired[offer.ID]
	r.mu.Unlock()
	if done {
		return nil
	}
	levels, err := r.stock.Levels(ctx, offer.ID)
	if err != nil {
		return fmt.Errorf("read the shard: %w", err)
	}
	if levels.Epoch != 0 && (!levels.Closed || levels.Known > 0) {
		if ended, err := r.ended(ctx, offer); err != nil || !ended {
			return err
		}
		epoch, err := r.store.NextEpoch(ctx, offer.ID)
		if err != nil {
			return fmt.Errorf("take the next epoch: %w", err)
		}
		if err := r.stock.Close(ctx, inventory.Ref{Item: offer.ID, Epoch: epoch}); err != nil {
			return fmt.Errorf("close: %w", err)
		}
		r.log.Info("item retired", "item", offer.ID, "activity", offer.Sale.ID, "sku", offer.SKU, "names", levels.Known)
	}
	r.mu.Lock()
	r.retired[offer.ID] = true
	r.mu.Unlock()
	return nil
}

// ended reports whether the store has nothing more to tell the offer's shard.
func (r *Rebuilder) ended(ctx context.Context, offer *Offer) (bool, error) {
	books, err := r.store.Books(ctx, offer.Sale.ID)
	if err != nil {
		return false, fmt.Errorf("read the books: %w", err)
	}
	for i := range books {
		if b := &books[i]; b.Item == offer.ID {
			return b.Open == 0 && b.PendingUnits == 0 && b.PendingStock == 0, nil
		}
	}
	return false, nil
}

// Unhealthy returns the live items whose shard doesn't serve, as activity/sku.
func (r *Rebuilder) Unhealthy(ctx context.Context) ([]string, error) {
	var names []string
	now := time.Now()
	for _, offer := range r.catalog().offers {
		if offer.neverSold() || !offer.Sale.live(now, r.cfg.Retention) {
			continue
		}
		need, err := r.needs(ctx, offer)
		if err != nil {
			return nil, err
		}
		if need {
			names = append(names, string(offer.Sale.ID)+"/"+string(offer.SKU))
		}
	}
	return names, nil
}

// needs reports whether the offer's shard has to be rebuilt. A shard of a later epoch that is open only means that the
// catalog is behind.
func (r *Rebuilder) needs(ctx context.Context, offer *Offer) (bool, error) {
	levels, err := r.stock.Levels(ctx, offer.ID)
	if err != nil {
		return false, fmt.Errorf("read the shard: %w", err)
	}
	behind := levels.Epoch < offer.Epoch || levels.Epoch == 0
	return behind || levels.Closed || offer.Suspect && levels.Epoch == offer.Epoch, nil
}

// Heal rebuilds the offer's shard if it needs it and nobody else does.
func (r *Rebuilder) Heal(ctx context.Context, offer *Offer) error {
	need, err := r.needs(ctx, offer)
	if err != nil || !need {
		return err
	}
	unlock, ok, err := r.store.LockItem(ctx, offer.ID)
	if err != nil || !ok {
		return err
	}
	defer unlock()
	// Who had the lock a moment ago may have healed it.
	if need, err = r.needs(ctx, offer); err != nil || !need {
		return err
	}
	return r.rebuild(ctx, offer)
}

// rebuild takes the item through the five steps. The caller has the item's lock.
func (r *Rebuilder) rebuild(ctx context.Context, offer *Offer) error {
	began := time.Now()
	epoch, err := r.store.NextEpoch(ctx, offer.ID)
	if err != nil {
		return fmt.Errorf("take the next epoch: %w", err)
	}
	ref := inventory.Ref{Item: offer.ID, Epoch: epoch}
	if err := r.stock.Close(ctx, ref); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := r.settle(ctx, ref); err != nil {
		return err
	}
	snapshot, err := r.store.Fence(ctx, ref)
	if err != nil {
		return fmt.Errorf("snapshot and fence: %w", err)
	}
	for entries := snapshot.Entries; len(entries) > 0; {
		n := min(len(entries), r.cfg.BatchCap)
		if err := r.stock.Load(ctx, ref, entries[:n]); err != nil {
			return fmt.Errorf("load: %w", err)
		}
		entries = entries[n:]
	}
	r.mu.Lock()
	r.mine[ref.Item] = true
	delete(r.retired, ref.Item)
	r.mu.Unlock()
	available := snapshot.Total - snapshot.Open - snapshot.Sold
	if err := r.stock.Open(ctx, ref, available, snapshot.Open, snapshot.Sold, int64(len(snapshot.Entries))); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	r.rebuilt.Add(1)
	r.log.Info("item opened", "item", ref.Item, "activity", offer.Sale.ID, "sku", offer.SKU, "epoch", ref.Epoch,
		"available", available, "open", snapshot.Open, "sold", snapshot.Sold, "took", time.Since(began).Round(time.Millisecond))
	r.opened(ctx)
	return nil
}

// settle waits until no promise of an earlier epoch is left without a row: the wait-out, then the drain. An item's first
// epoch has none before it. Where the gateways died with an earlier process, there is no 202 to wait for, but records to drain.
func (r *Rebuilder) settle(ctx context.Context, ref inventory.Ref) error {
	if ref.Epoch == 1 {
		return nil
	}
	r.mu.Lock()
	dead := r.alone && !r.mine[ref.Item]
	r.mu.Unlock()
	if !dead && !pauseFor(ctx, r.cfg.WaitOut) {
		return ctx.Err()
	}
	end, err := r.queue.End(ctx)
	if err != nil {
		return fmt.Errorf("read the queue's end: %w", err)
	}
	return drain(ctx, r.queue, end)
}

// errStillShut is returned by OpenAll when ctx ends first.
var errStillShut = errors.New("items are not open yet")

// OpenAll heals until every live item of the catalog serves, or ctx ends.
func (r *Rebuilder) OpenAll(ctx context.Context) error {
	for {
		r.Step(ctx)
		shut, err := r.Unhealthy(ctx)
		if err == nil && len(shut) == 0 {
			return nil
		}
		if !pauseFor(ctx, drainLook) {
			return errors.Join(fmt.Errorf("%w: %v", errStillShut, shut), err)
		}
	}
}
