package backoffice

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Rebuilder rebuilds shards from the store, under their next epochs: shards that Redis has
// forgotten, shards that have lost writes, shards that a crashed rebuild left closed, and shards
// that are ahead of a restored database. All shards that need it are rebuilt together:
//
//  1. close: each shard is closed under its next epoch, which the store gives out, and the replicas
//     have received that,
//  2. the wait-out passes after the last close, so that every 202 of earlier epochs has been sent,
//  3. a barrier passes, so that every promise has its row,
//  4. fence: the new epoch becomes the shard's, if it is the last one given out and the database
//     has the same incarnation as before the barrier; then the snapshot, in a transaction of its
//     own,
//  5. load and open, if the shard still has the close of this rebuild and all that was loaded.
//
// One wait and one barrier serve all of them. From step 4 on, the shards are written separately.
// The shard with the most wanted item comes first and alone, so that it sells soon. Then several
// are written at a time. If a step crashes, the shard stays closed, no purchase of it is accepted,
// and its owner begins again under a higher epoch. Two rebuilders of one shard do no harm: the
// later epoch wins.
type Rebuilder struct {
	// Fixed after NewRebuilder.
	cfg     seckill.Config
	stock   seckill.Stock
	store   seckill.Store
	barrier *Barrier
	owner   *Ownership
	hot     func(inventory.ShardID) Hot // the items to load first; may be nil
	opened  func(context.Context)       // called after a shard has opened
	log     *slog.Logger
	alone   bool // no other process serves buyers

	rebuilt atomic.Int64
	loading atomic.Int64 // holds loaded by rebuilds that are in progress

	work  sync.WaitGroup
	blind trouble // used by Run's goroutine only

	mu     sync.Mutex
	busy   map[inventory.ShardID]bool   // guarded by mu: shards under rebuild here
	mine   map[inventory.ShardID]bool   // shards that this process has opened; guarded by mu
	others map[inventory.ShardID]closed // guarded by mu: shards that another process has closed
}

// Hot has the items of a shard that buyers want most, in that order, and the number of orders of
// the first item. The zero value has none.
type Hot struct {
	Items  []inventory.ItemID
	Orders int
}

// closed is a shard that was seen closed under an epoch, and since when.
type closed struct {
	epoch inventory.Epoch
	since time.Time
}

// abandoned is how long a shard may stay closed under one epoch before its rebuilder counts as
// dead.
const abandoned = 5 * time.Second

// rebuildParallel is how many shards are read and loaded at a time.
const rebuildParallel = 4

// aloneFor is how long the first shard is written alone.
const aloneFor = 3 * time.Second

// loadParallel is how many calls load one shard at a time.
const loadParallel = 4

// NewRebuilder makes a rebuilder for the shards of owner. opened is called after each shard that it
// opened.
func NewRebuilder(cfg seckill.Config, stock seckill.Stock, store seckill.Store, barrier *Barrier, owner *Ownership,
	hot func(inventory.ShardID) Hot, opened func(context.Context), log *slog.Logger) *Rebuilder {
	return &Rebuilder{
		cfg: cfg, stock: stock, store: store, barrier: barrier, owner: owner, hot: hot, opened: opened, log: log,
		busy: make(map[inventory.ShardID]bool), mine: make(map[inventory.ShardID]bool),
		others: make(map[inventory.ShardID]closed),
		blind:  trouble{log: log, failing: "shards can't be looked at, so none is rebuilt", over: "shards are looked at again"},
	}
}

// Alone declares, before the first call, that no other process serves buyers now. So no 202 can be
// given for a shard that this process has not opened yet, and its first rebuild needn't wait.
func (r *Rebuilder) Alone() { r.alone = true }

// Rebuilt returns how many rebuilds opened a shard.
func (r *Rebuilder) Rebuilt() int64 { return r.rebuilt.Load() }

// Progress returns how many shards are being rebuilt here, and how many holds these have loaded.
func (r *Rebuilder) Progress() (shards int, holds int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.busy), r.loading.Load()
}

// Run rebuilds shards until ctx ends.
func (r *Rebuilder) Run(ctx context.Context) {
	pause := newBackoff()
	for wait.ForTick(ctx, r.cfg.Tick) {
		if err := r.Step(ctx); err != nil && ctx.Err() == nil {
			r.blind.note(err)
			pause.Wait(ctx)
			continue
		}
		pause.Reset()
	}
	r.work.Wait()
}

// Step looks at every owned shard once, and begins to rebuild, in the background, those that need
// it. Wait waits for the end of these rebuilds.
func (r *Rebuilder) Step(ctx context.Context) error {
	rows, err := r.store.Shards(ctx)
	if err != nil {
		return fmt.Errorf("read the shards: %w", err)
	}
	var idle, sick, unseen []inventory.ShardID
	var why error
	for _, shard := range r.owner.Shards() {
		if int(shard) < len(rows) && !r.isBusy(shard) {
			idle = append(idle, shard)
		}
	}
	levels, errs := r.stock.AllNumbers(ctx, idle)
	for i, shard := range idle {
		if errs[i] != nil {
			why, unseen = fmt.Errorf("read the shard: %w", errs[i]), append(unseen, shard)
			continue
		}
		need, err := r.needs(ctx, rows[shard], levels[i])
		if err != nil {
			why, unseen = err, append(unseen, shard)
			continue
		}
		if need {
			sick = append(sick, shard)
		}
	}
	if ctx.Err() == nil {
		r.blind.note(why, "shards", unseen)
	}
	if len(sick) > 0 {
		r.mu.Lock()
		for _, shard := range sick {
			r.busy[shard] = true
		}
		r.mu.Unlock()
		r.work.Go(func() { r.heal(ctx, sick) })
	}
	return nil
}

// Wait returns when this process has no rebuild in progress.
func (r *Rebuilder) Wait() { r.work.Wait() }

func (r *Rebuilder) isBusy(shard inventory.ShardID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.busy[shard]
}

// needs reports whether a shard, which was read after its row, has to be rebuilt by this process
// now.
func (r *Rebuilder) needs(ctx context.Context, row seckill.ShardRow, levels inventory.Numbers) (bool, error) {
	switch {
	case levels.Epoch == 0 || levels.Epoch < row.Ref.Epoch:
		return true, nil // Redis has forgotten the shard
	case levels.Closed:
		return r.isAbandoned(row.Ref.Shard, levels.Epoch), nil
	case levels.Epoch == row.Ref.Epoch && !row.Unloaded:
		return row.Suspect, nil
	}
	return r.isRestored(ctx, row.Ref.Shard, levels.Epoch)
}

// isAbandoned reports whether a shard has been closed under an epoch for too long.
func (r *Rebuilder) isAbandoned(shard inventory.ShardID, epoch inventory.Epoch) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, ok := r.others[shard]
	if !ok || seen.epoch != epoch {
		r.others[shard] = closed{epoch, time.Now()}
		return r.alone
	}
	return r.alone || time.Since(seen.since) >= abandoned
}

// isRestored reports whether an open shard has a later epoch than the database, or an epoch that
// has no snapshot there. The database is read after the shard. Both cases mean that a database was
// restored.
func (r *Rebuilder) isRestored(ctx context.Context, shard inventory.ShardID, epoch inventory.Epoch) (bool, error) {
	rows, err := r.store.Shards(ctx)
	if err != nil {
		return false, fmt.Errorf("read the shards again: %w", err)
	}
	return slices.ContainsFunc(rows, func(row seckill.ShardRow) bool {
		return row.Ref.Shard == shard && (row.Ref.Epoch < epoch || row.Ref.Epoch == epoch && row.Unloaded)
	}), nil
}

// heal takes shards through the five steps.
func (r *Rebuilder) heal(ctx context.Context, shards []inventory.ShardID) {
	began := time.Now()
	defer r.done(shards)
	first := r.neverOpened(ctx)
	var refs []inventory.Ref
	for _, shard := range shards {
		ref, err := r.close(ctx, shard)
		if err != nil {
			if ctx.Err() == nil {
				r.log.Warn("shard not closed, its rebuild begins again", "shard", shard, "err", err)
			}
			continue
		}
		refs = append(refs, ref)
	}
	if len(refs) == 0 {
		return
	}
	r.log.Info("shards are closed for a rebuild", "shards", len(refs))
	if !first && !r.dead(refs) && !wait.For(ctx, r.cfg.WaitOut()) {
		return
	}
	incarnation, err := r.store.Incarnation(ctx) // read before the barrier
	if err == nil {
		err = r.barrier.Pass(ctx)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.log.Warn("rebuild begins again", "shards", len(refs), "err", err)
		}
		return
	}
	r.writeAll(ctx, refs, incarnation, began)
}

// writeAll writes closed shards.
func (r *Rebuilder) writeAll(ctx context.Context, refs []inventory.Ref, incarnation string, began time.Time) {
	write := func(ref inventory.Ref, hot Hot) {
		if err := r.write(ctx, ref, hot.Items, incarnation, began); err != nil && ctx.Err() == nil {
			r.log.Warn("shard not rebuilt, it begins again", "shard", ref.Shard, "epoch", ref.Epoch, "err", err)
		}
	}
	hot := make(map[inventory.ShardID]Hot)
	if r.hot != nil {
		for _, ref := range refs {
			hot[ref.Shard] = r.hot(ref.Shard)
		}
	}
	slices.SortStableFunc(refs, func(a, b inventory.Ref) int { return cmp.Compare(hot[b.Shard].Orders, hot[a.Shard].Orders) })
	places := make(chan struct{}, rebuildParallel)
	var work sync.WaitGroup
	if first := refs[0]; hot[first.Shard].Orders > 0 {
		written := make(chan struct{})
		work.Go(func() {
			defer close(written)
			write(first, hot[first.Shard])
		})
		select {
		case <-written:
		case <-time.After(aloneFor): // its server may be slower than the others
		}
		refs = refs[1:]
	}
	for _, ref := range refs {
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			write(ref, hot[ref.Shard])
		})
	}
	work.Wait()
}

func (r *Rebuilder) done(shards []inventory.ShardID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, shard := range shards {
		delete(r.busy, shard)
		delete(r.others, shard)
	}
	if len(r.busy) == 0 {
		r.loading.Store(0)
	}
}

// neverOpened reports whether no shard was ever opened and no record ever read: in that case there
// is no promise to wait for. It is false after an error, because waiting does no harm.
func (r *Rebuilder) neverOpened(ctx context.Context) bool {
	rows, err := r.store.Shards(ctx)
	if err != nil || slices.ContainsFunc(rows, func(row seckill.ShardRow) bool { return row.Ref.Epoch != 0 || row.NextEpoch != 0 }) {
		return false
	}
	positions, err := r.store.Positions(ctx)
	return err == nil && !slices.ContainsFunc(positions, func(p seckill.Position) bool { return p.Next > 0 })
}

// dead reports whether all gateways that could have promised units of these shards are known to be
// dead.
func (r *Rebuilder) dead(refs []inventory.Ref) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alone && !slices.ContainsFunc(refs, func(ref inventory.Ref) bool { return r.mine[ref.Shard] })
}

// close takes a shard's next epoch and closes the shard under it.
func (r *Rebuilder) close(ctx context.Context, shard inventory.ShardID) (inventory.Ref, error) {
	epoch, err := r.store.NextEpoch(ctx, shard)
	if err != nil {
		return inventory.Ref{}, fmt.Errorf("take the next epoch: %w", err)
	}
	ref := inventory.Ref{Shard: shard, Epoch: epoch}
	if err := r.stock.Close(ctx, ref); err != nil {
		return ref, fmt.Errorf("close: %w", err)
	}
	return ref, nil
}

// write fences one shard, loads the snapshot, hot items first, and opens it.
func (r *Rebuilder) write(ctx context.Context, ref inventory.Ref, hot []inventory.ItemID, incarnation string, began time.Time) error {
	if err := r.store.Fence(ctx, ref, incarnation); err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	l := newLoader(r.stock, ref, r.cfg.BatchCap, &r.loading)
	err := r.store.Snapshot(ctx, ref, hot, func(items []inventory.Stocked, entries []inventory.Entry) error {
		return l.page(ctx, items, entries)
	})
	if err = l.end(err); err != nil {
		return fmt.Errorf("read the snapshot and load: %w", err)
	}
	r.mu.Lock()
	r.mine[ref.Shard] = true
	r.mu.Unlock()
	if err := r.stock.Open(ctx, ref, l.items, l.names); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	r.rebuilt.Add(1)
	r.log.Info("shard opened", "shard", ref.Shard, "epoch", ref.Epoch, "items", l.items, "names", l.names,
		"took", time.Since(began).Round(time.Millisecond))
	r.opened(ctx)
	return nil
}

// loader loads the pages of a snapshot into a shard, several calls at a time, in bounded memory.
type loader struct {
	stock  seckill.Repair
	ref    inventory.Ref
	size   int
	loaded *atomic.Int64
	places chan struct{}
	work   sync.WaitGroup

	items, names int64  // numbers that the shard must have at the end
	head         string // the head of the last hold: all holds of a head come together

	mu  sync.Mutex
	err error // the first error; guarded by mu
}

func newLoader(stock seckill.Repair, ref inventory.Ref, size int, loaded *atomic.Int64) *loader {
	return &loader{
		stock: stock, ref: ref, size: size, loaded: loaded,
		places: make(chan struct{}, loadParallel),
	}
}

// page takes a page of the snapshot. The loader owns its slices.
func (l *loader) page(ctx context.Context, items []inventory.Stocked, entries []inventory.Entry) error {
	l.items += int64(len(items))
	for i := range entries {
		if head := inventory.Head(entries[i].ID); head != l.head {
			l.names, l.head = l.names+1, head
		}
	}
	for len(items) > 0 {
		n := min(len(items), l.size)
		l.send(ctx, items[:n], nil)
		items = items[n:]
	}
	for len(entries) > 0 {
		n := min(len(entries), l.size)
		l.send(ctx, nil, entries[:n])
		entries = entries[n:]
	}
	return l.failed()
}

func (l *loader) send(ctx context.Context, items []inventory.Stocked, entries []inventory.Entry) {
	l.places <- struct{}{}
	l.work.Go(func() {
		defer func() { <-l.places }()
		if err := l.stock.Load(ctx, l.ref, items, entries); err != nil {
			l.mu.Lock()
			if l.err == nil {
				l.err = err
			}
			l.mu.Unlock()
			return
		}
		l.loaded.Add(int64(len(entries)))
	})
}

func (l *loader) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// end waits for all calls and returns the first error of the snapshot or of a call.
func (l *loader) end(err error) error {
	l.work.Wait()
	if failed := l.failed(); failed != nil {
		return failed
	}
	return err
}
