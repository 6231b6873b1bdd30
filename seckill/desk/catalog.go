package desk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock/penstock/internal/batch"
	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Catalog returns the catalog in force. It is never nil.
func (d *Desk) Catalog() *seckill.Catalog { return d.catalog.Load() }

// Install puts in force a catalog that an earlier process has kept, so that this process can sell
// while the database can't be reached. It does nothing if a catalog was loaded already.
func (d *Desk) Install(kept *seckill.Catalog) {
	d.loading <- struct{}{}
	defer func() { <-d.loading }()
	if d.Catalog().Version == (seckill.CatalogVersion{}) {
		kept.SetClock(time.Duration(d.offset.Load()))
		d.catalog.Store(kept)
	}
}

// Run refreshes the catalog at every tick until ctx ends. While the store can't be reached, the
// last catalog stays in force.
func (d *Desk) Run(ctx context.Context) {
	tick := wait.NewTicker(d.cfg.Tick)
	defer tick.Stop()
	for tick.Wait(ctx) {
		err := d.Refresh(ctx)
		if ctx.Err() != nil || d.failing.Swap(err != nil) == (err != nil) {
			continue
		}
		if err != nil {
			d.log.Warn("the catalog can't be refreshed: the last one stays in force", "err", err)
		} else {
			d.log.Info("the catalog is refreshed again")
		}
	}
}

// loadTimeout bounds one loading of the catalog: a million items take some ten seconds when a
// process starts, and when the database has another incarnation.
const loadTimeout = 2 * time.Minute

// Refresh loads the changes of the catalog since the last time, and puts them in force. One refresh
// runs at a time. A change that was written before the call is in force when Refresh returns nil.
func (d *Desk) Refresh(ctx context.Context) error {
	turn, cancel := context.WithTimeout(ctx, d.cfg.StoreTimeout)
	defer cancel()
	select {
	case d.loading <- struct{}{}:
		defer func() { <-d.loading }()
	case <-turn.Done():
		return turn.Err()
	}
	ctx, cancel = context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	next, err := d.load(ctx, d.Catalog(), d.Catalog().Version)
	if errors.Is(err, errApply) { // the changes don't fit the catalog in force
		next, err = d.load(ctx, d.Catalog(), seckill.CatalogVersion{})
	}
	if err == nil {
		d.catalog.Store(next)
	}
	return err
}

// errApply means that a change could not be applied: the catalog must be loaded as a whole.
var errApply = errors.New("a change of the catalog can't be applied")

// load makes the next catalog from the changes since a version. If nothing changed, it returns the
// current one.
func (d *Desk) load(ctx context.Context, current *seckill.Catalog, since seckill.CatalogVersion) (*seckill.Catalog, error) {
	now := time.Now()
	var edit *seckill.CatalogEdit
	version, err := d.store.LoadCatalog(ctx, since, func(whole bool) {
		edit = nil // the store may load the catalog from the beginning
		if whole {
			edit = current.Edit(true, now)
		}
	}, func(change seckill.CatalogChange) error {
		if edit == nil {
			edit = current.Edit(false, now)
		}
		if err := edit.Apply(change); err != nil {
			return fmt.Errorf("%w: %w", errApply, err)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case edit != nil:
		return edit.Done(version), nil
	case version != current.Version:
		return current.Edit(false, now).Done(version), nil
	}
	return current, nil
}

// errNotSeen is the answer if something is not in the catalog and the catalog can't be refreshed:
// it may exist after all.
var errNotSeen = &seckill.Failure{
	Code: seckill.CodeUnavailable, RetryAfter: time.Second, Err: errors.New("not in the catalog, which can't be refreshed"),
}

// activity finds an activity. If this process doesn't know it, another process may have published
// it a moment ago. So a miss refreshes the catalog once, together with all other misses of that
// moment. sure is false if the refresh failed.
func (d *Desk) activity(ctx context.Context, id seckill.ActivityID) (sale *seckill.Sale, sure bool) {
	if sale := d.Catalog().Activity(id); sale != nil && sale.State != seckill.ActivityDraft {
		return sale, true
	}
	catalog, sure := d.Fresh(ctx)
	return catalog.Activity(id), sure
}

// offer finds the item that p asks for, like activity.
func (d *Desk) offer(ctx context.Context, p *seckill.Purchase) (seckill.Offer, error) {
	sale, sure := d.activity(ctx, p.Activity)
	offer, err := find(sale, p)
	if err != nil && !sure {
		return seckill.Offer{}, errNotSeen
	}
	return offer, err
}

// item finds the item of an order, like activity.
func (d *Desk) item(ctx context.Context, id inventory.ItemID) (seckill.Offer, error) {
	if offer, ok := d.Catalog().Offer(id); ok {
		return offer, nil
	}
	catalog, sure := d.Fresh(ctx)
	switch offer, ok := catalog.Offer(id); {
	case ok:
		return offer, nil
	case !sure:
		return seckill.Offer{}, errNotSeen
	}
	return seckill.Offer{}, errUnknownOrder
}

// Bounds of a look for a newer catalog: its time, and the number of requests that may wait for it.
// Further requests use the catalog in force, so that a flood of invented names and keys can't fill
// the desk.
const (
	freshTimeout = 500 * time.Millisecond
	freshWaiting = 256
)

// Fresh returns the catalog after a look for a newer one. All callers of that moment share one
// look. If the store can't be asked, or too many wait, it returns the catalog in force. sure is
// false if the store can't be asked: then a missing entry may exist after all.
func (d *Desk) Fresh(ctx context.Context) (catalog *seckill.Catalog, sure bool) {
	sure = !d.failing.Load()
	if sure {
		ctx, cancel := context.WithTimeout(ctx, freshTimeout)
		defer cancel()
		if _, err := d.misses.Do(ctx, struct{}{}); err != nil {
			d.counts.Stale.Add(1)
			sure = errors.Is(err, batch.ErrFull)
		}
	}
	catalog = d.Catalog()
	return catalog, sure && catalog.Version != (seckill.CatalogVersion{})
}
