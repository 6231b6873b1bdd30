package backoffice

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Upkeep deletes the data of sales that are over, so that nothing grows without bound (L8). It does
// that some time after an activity closed, or earlier if there is an archive of its orders. First
// it drops the items and holds from the shards. Then it deletes the activity and its orders from
// the store. Between the two steps a shard may be unreachable for long, so the audit asks Upkeep
// what was forgotten.
type Upkeep struct {
	// Fixed after NewUpkeep.
	cfg       seckill.Config
	dropAfter time.Duration // 0 keeps activities without an archive
	stock     seckill.Stock
	store     seckill.Store
	catalog   func() *seckill.Catalog
	owner     *Ownership
	nudge     func() // asks for a fresh catalog
	log       *slog.Logger
}

// upkeepEvery is the pause between two looks.
const upkeepEvery = 10 * time.Minute

// dropBatch is how many activities one transaction deletes.
const dropBatch = 16

// NewUpkeep makes an Upkeep. Activities are dropped when the time dropAfter has passed since their
// close; 0 keeps them. Those with an archive are dropped as soon as their keys may be forgotten and
// none of their orders can be paid.
func NewUpkeep(cfg seckill.Config, dropAfter time.Duration, stock seckill.Stock, store seckill.Store,
	catalog func() *seckill.Catalog, owner *Ownership, nudge func(), log *slog.Logger) *Upkeep {
	return &Upkeep{
		cfg: cfg, dropAfter: dropAfter, stock: stock, store: store, catalog: catalog, owner: owner, nudge: nudge, log: log,
	}
}

// Run works until ctx ends.
func (u *Upkeep) Run(ctx context.Context) {
	for {
		if err := u.Step(ctx); err != nil && ctx.Err() == nil {
			u.log.Warn("upkeep goes on later", "err", err)
		}
		// All workers look at the same moments. So the last worker that forgets its part of an
		// activity finds that all others have done it, and drops the rows.
		now := u.catalog().Now()
		if !wait.For(ctx, now.Truncate(upkeepEvery).Add(upkeepEvery).Sub(now)) {
			return
		}
	}
}

// Step drops the ended activities that the store may delete now. It only changes shards of this
// process; others wait for their owners. An activity is deleted from the store when no shard knows
// its items.
func (u *Upkeep) Step(ctx context.Context) error {
	before, archived := u.bounds(u.catalog().Now())
	for sale := range u.catalog().Sales() {
		if !u.isOver(sale, before, archived) {
			continue
		}
		may, err := u.store.MayDrop(ctx, sale.ID, before, archived)
		if err != nil {
			return fmt.Errorf("look at activity %s: %w", sale.ID, err)
		}
		if !may {
			continue
		}
		known, err := u.forget(ctx, sale)
		if err != nil {
			return fmt.Errorf("forget the stock of activity %s: %w", sale.ID, err)
		}
		if known {
			return nil
		}
	}
	return u.drop(ctx, before, archived)
}

// isOver reports whether a sale may be forgotten, judged by its times only.
func (u *Upkeep) isOver(sale *seckill.Sale, before, archived time.Time) bool {
	return sale.State != seckill.ActivityDraft && !sale.Live(time.Now(), u.cfg.Retention) && over(sale, before, archived)
}

// over reports whether a sale should be forgotten: it closed before the time before, or it has an
// archive and closed before archived.
func over(sale *seckill.Sale, before, archived time.Time) bool {
	return sale.Closes().Before(before) || sale.Archive.Sum != "" && sale.Closes().Before(archived)
}

// bounds returns the times before which an activity must have closed to be dropped now: without and
// with an archive.
func (u *Upkeep) bounds(now time.Time) (before, archived time.Time) {
	if u.dropAfter > 0 {
		before = now.Add(-max(u.dropAfter, u.cfg.Retention))
	}
	return before, now.Add(-u.cfg.KeptFor())
}

func (u *Upkeep) drop(ctx context.Context, before, archived time.Time) error {
	for {
		dropped, err := u.store.DropEnded(ctx, before, archived, dropBatch)
		if err != nil {
			return fmt.Errorf("drop ended activities: %w", err)
		}
		if len(dropped) > 0 {
			u.log.Info("ended activities are dropped, with their orders", "activities", dropped)
			u.nudge()
		}
		if len(dropped) < dropBatch {
			return nil
		}
	}
}

// forget drops the items of a sale from the shards that this process owns, and reports whether any
// shard still knows one.
func (u *Upkeep) forget(ctx context.Context, sale *seckill.Sale) (known bool, err error) {
	mine := make(map[inventory.ShardID]bool)
	for _, shard := range u.owner.Shards() {
		mine[shard] = true
	}
	for shard, items := range u.places(sale) {
		left, err := u.forgetAllOn(ctx, shard, items, mine[shard])
		if err != nil {
			return false, err
		}
		known = known || left
	}
	return known, nil
}

// places returns the items of a sale by their shards.
func (u *Upkeep) places(sale *seckill.Sale) map[inventory.ShardID][]inventory.ItemID {
	on := make(map[inventory.ShardID][]inventory.ItemID)
	for i := range sale.Items {
		item := &sale.Items[i]
		for j := range item.Spread {
			shard := inventory.ShardAt(item.ID, j, u.cfg.Shards)
			on[shard] = append(on[shard], item.ID)
		}
	}
	return on
}

// forgetAllOn is forgetOn for any number of items.
func (u *Upkeep) forgetAllOn(ctx context.Context, shard inventory.ShardID, items []inventory.ItemID, mine bool) (known bool, err error) {
	for len(items) > 0 {
		n := min(len(items), u.cfg.BatchCap)
		left, err := u.forgetOn(ctx, shard, items[:n], mine)
		if err != nil {
			return false, fmt.Errorf("shard %d: %w", shard, err)
		}
		known = known || left
		items = items[n:]
	}
	return known, nil
}

// forgotten completes the half-forgotten activities on a shard of this process. It returns the
// items that the shard has forgotten and the store still has, and the digest of their sold orders.
func (u *Upkeep) forgotten(ctx context.Context, shard inventory.ShardID) ([]inventory.ItemID, inventory.Digest, error) {
	before, archived := u.bounds(u.catalog().Now())
	var all []inventory.ItemID
	for sale := range u.catalog().Sales() {
		if !u.isOver(sale, before, archived) {
			continue
		}
		items := u.places(sale)[shard]
		if len(items) == 0 {
			continue
		}
		may, err := u.store.MayDrop(ctx, sale.ID, before, archived)
		if err == nil && may {
			_, err = u.forgetAllOn(ctx, shard, items, true)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("activity %s: %w", sale.ID, err)
		}
		all = append(all, items...)
	}
	return seckill.FindForgotten(ctx, u.stock, u.store, shard, all, u.cfg.BatchCap)
}

// hasForgotten reports whether a shard has forgotten an item of an ended activity, and has nothing
// left of it.
func (u *Upkeep) hasForgotten(book *seckill.Book, item *inventory.ItemNumbers) bool {
	if item.Known || book.Open != 0 || book.Parked != 0 {
		return false
	}
	before, archived := u.bounds(u.catalog().Now())
	offer, ok := u.catalog().Offer(book.Item)
	return ok && u.isOver(offer.Sale, before, archived)
}

// forgetOn drops the given items from a shard, if the shard belongs to this process. Holds go first
// and items last, so that a crash leaves something that a later attempt finds. It reports whether
// the shard still knows one of the items.
func (u *Upkeep) forgetOn(ctx context.Context, shard inventory.ShardID, ids []inventory.ItemID, mine bool) (known bool, err error) {
	levels, items, err := u.stock.ItemNumbers(ctx, shard, ids)
	if err != nil {
		return false, err
	}
	if levels.Closed || levels.Epoch == 0 {
		return true, nil
	}
	ref := inventory.Ref{Shard: shard, Epoch: levels.Epoch}
	var over []inventory.ItemID
	for i := range items {
		switch {
		case !items[i].Known:
		case !mine || items[i].Held != 0:
			known = true
		default:
			if err := u.forgetHolds(ctx, ref, items[i].Item); err != nil {
				return false, err
			}
			over = append(over, items[i].Item)
		}
	}
	if len(over) == 0 {
		return known, nil
	}
	return known, u.stock.Forget(ctx, ref, over, nil)
}

// forgetHolds drops all holds of an item. The store knows the names of buyers' holds. The heads of
// the shop's own holds can be computed.
func (u *Upkeep) forgetHolds(ctx context.Context, ref inventory.Ref, item inventory.ItemID) error {
	for after := seckill.OrderID(""); ; {
		page, err := u.store.OrdersOf(ctx, item, after, u.cfg.BatchCap)
		if err != nil {
			return fmt.Errorf("read the orders of item %d: %w", item, err)
		}
		if len(page) == 0 {
			return u.stock.Forget(ctx, ref, nil, seckill.WithdrawalHeads(item, ref.Shard))
		}
		heads := make([]string, len(page))
		for j, id := range page {
			heads[j] = inventory.Head(string(id))
		}
		if err := u.stock.Forget(ctx, ref, nil, heads); err != nil {
			return err
		}
		after = page[len(page)-1]
	}
}
