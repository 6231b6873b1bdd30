package desk

import (
	"context"
	"fmt"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// FindingKind is the kind of a difference.
type FindingKind string

// The kinds of findings. A person must decide about FindingOversold; the others can be repaired.
const (
	// FindingOversold is a broken L1: the rows of an item have more units than its total.
	FindingOversold FindingKind = "oversold"
	// FindingCounters are counters of an item that differ from the sums of its orders' rows.
	FindingCounters FindingKind = "counters"
	// FindingDigests are digests of a shard that differ from those of its rows.
	FindingDigests FindingKind = "digests"
	// FindingStock is an item whose numbers in the stock differ from those in the database.
	FindingStock FindingKind = "stock"
	// FindingHolds is a shard whose holds don't match the orders.
	FindingHolds FindingKind = "holds"
)

// Finding is something that is wrong with a shard, or with an item on it.
type Finding struct {
	Kind   FindingKind
	Item   inventory.ItemID // 0 for the shard as a whole
	Detail string           // for a person
	// Mended says how it was repaired; "" means that it was not. Counters and digests are set to
	// the sums of the rows; a shard whose stock differs is rebuilt.
	Mended string
}

// ShardAudit is what a deep audit of one shard has found.
type ShardAudit struct {
	Ref      inventory.Ref
	Shards   int   // of the whole installation
	Items    int   // on the shard
	Orders   int64 // orders whose units count
	Closed   bool  // the shard is being rebuilt, so its stock was not compared
	Findings []Finding
}

// AuditShard reads every order of a shard, and compares the rows with the counters and digests, and
// these with the stock. It takes time, because it reads the whole shard. Units in flight between
// store and stock are not reported: a difference counts only if several looks show it. With mend it
// repairs what is safe to repair; a broken L1 is not. seckill.ErrNotFound: there is no such shard.
func (o *Office) AuditShard(ctx context.Context, shard int, mend bool, by seckill.Author) (*ShardAudit, error) {
	if shard < 0 || shard >= o.desk.cfg.Shards {
		return nil, fmt.Errorf("shard %d of %d: %w", shard, o.desk.cfg.Shards, seckill.ErrNotFound)
	}
	r, err := o.store.Recount(ctx, inventory.ShardID(shard), mend, by)
	if err != nil {
		return nil, storeFailure("recount the shard", err)
	}
	a := &ShardAudit{Ref: r.Ref, Shards: o.desk.cfg.Shards, Items: len(r.Items), Orders: r.Orders}
	a.addRows(r, mend)
	differ, err := o.compareStock(ctx, a)
	if err != nil {
		return nil, err
	}
	if mend && differ {
		if err := o.store.MarkSuspect(ctx, r.Ref); err != nil {
			return nil, storeFailure("ask for a rebuild", err)
		}
		for i := range a.Findings {
			if f := &a.Findings[i]; f.Kind == FindingStock || f.Kind == FindingHolds {
				f.Mended = "the shard is rebuilt"
			}
		}
	}
	return a, nil
}

// addRows adds the findings of the recount.
func (a *ShardAudit) addRows(r *seckill.Recount, mend bool) {
	for i := range r.Items {
		item := &r.Items[i]
		if item.Oversold() {
			a.Findings = append(a.Findings, Finding{Kind: FindingOversold, Item: item.Item, Detail: fmt.Sprintf(
				"the rows have %d units open and %d sold, and the total is %d", item.Rows.Open, item.Rows.Sold, item.Total)})
		}
		if !item.Differs() {
			continue
		}
		f := Finding{Kind: FindingCounters, Item: item.Item, Detail: fmt.Sprintf(
			"the counters say %d open, %d sold and %d parked, but the rows have %d, %d and %d",
			item.Counted.Open, item.Counted.Sold, item.Counted.Parked, item.Rows.Open, item.Rows.Sold, item.Rows.Parked)}
		if mend && item.Mendable() {
			f.Mended = "the counters were set to the sums of the rows"
		}
		a.Findings = append(a.Findings, f)
	}
	if r.Counted != r.Rows {
		f := Finding{Kind: FindingDigests, Detail: "the digests of the shard differ from those of its rows"}
		if mend {
			f.Mended = "the digests were set to those of the rows"
		}
		a.Findings = append(a.Findings, f)
	}
}

// compareStock adds the differences between stock and database, and reports whether there are any.
func (o *Office) compareStock(ctx context.Context, a *ShardAudit) (differ bool, err error) {
	suspects, err := o.unbalanced(ctx, a, 0, auditBatch, true)
	for look := 2; err == nil && len(suspects) > 0 && look <= auditLooks; look++ {
		if err := pause(ctx, auditPause); err != nil {
			return false, failure(seckill.CodeUnavailable, err)
		}
		var still []Finding
		for i := range suspects {
			again, err := o.unbalanced(ctx, a, suspects[i].Item-1, 1, false)
			if err != nil {
				return false, err
			}
			if len(again) > 0 && again[0].Item == suspects[i].Item {
				still = append(still, again[0])
			}
		}
		suspects = still
	}
	if err != nil || a.Closed {
		return false, err
	}
	a.Findings = append(a.Findings, suspects...)
	others, err := o.otherHolds(ctx, a.Ref.Shard)
	if others {
		a.Findings = append(a.Findings, Finding{Kind: FindingHolds, Detail: "the holds in the stock don't match the orders"})
	}
	return others || len(suspects) > 0, err
}

// unbalanced returns the items after `after` whose numbers in the stock don't match the books. It
// reads one page of limit items, or all.
func (o *Office) unbalanced(ctx context.Context, a *ShardAudit, after inventory.ItemID, limit int, all bool) (found []Finding, err error) {
	for {
		books, err := o.store.ShardBooks(ctx, a.Ref.Shard, after, limit)
		if err != nil {
			return nil, storeFailure("read the books", err)
		}
		if len(books) == 0 {
			return found, nil
		}
		items := make([]inventory.ItemID, len(books))
		for i := range books {
			items[i] = books[i].Item
		}
		levels, each, err := o.stock.ItemNumbers(ctx, a.Ref.Shard, items)
		if err != nil || len(each) != len(items) {
			return nil, failure(seckill.CodeUnavailable, fmt.Errorf("read the stock: %w", err))
		}
		for i := range books {
			b, r := &books[i], reading{levels, each[i]}
			switch {
			case !b.Published, !r.item.Known && o.isOver(b.Item):
			case levels.Closed || levels.Epoch != b.Epoch:
				a.Closed = true
			case !balances(b, r):
				found = append(found, Finding{Kind: FindingStock, Item: b.Item, Detail: fmt.Sprintf(
					"the stock has %d available, %d held and %d sold; the books have a total of %d, %d open, %d parked and %d sold",
					r.item.Available, r.item.Held, r.item.Sold, b.Total, b.Open, b.Parked, b.Sold)})
			}
		}
		if !all || len(books) < limit {
			return found, nil
		}
		after = books[len(books)-1].Item
	}
}

// isOver reports whether the stock may already have forgotten an item, after its activity.
func (o *Office) isOver(id inventory.ItemID) bool {
	offer, ok := o.desk.Catalog().Offer(id)
	return !ok || !offer.Sale.Live(time.Now(), o.desk.cfg.Retention)
}

// otherHolds reports whether the holds of a shard don't match the orders. Several looks must agree,
// nothing may be in flight, and the difference must be larger than what was forgotten.
func (o *Office) otherHolds(ctx context.Context, shard inventory.ShardID) (bool, error) {
	var first seckill.ShardSums
	for look := range auditLooks {
		sums, err := o.store.ShardSums(ctx, shard)
		if err != nil {
			return false, storeFailure("read the digests", err)
		}
		levels, _, err := o.stock.ItemNumbers(ctx, shard, nil)
		if err != nil {
			return false, failure(seckill.CodeUnavailable, fmt.Errorf("read the stock: %w", err))
		}
		if look == 0 {
			first = sums
		}
		still := sums == first && sums.Pending == 0 && levels.Fresh == 0 && !levels.Closed && levels.Epoch == sums.Ref.Epoch
		if !still || levels.Ordered == sums.Open && levels.Sold == sums.Sold {
			return false, nil
		}
		if look < auditLooks-1 {
			if err := pause(ctx, auditPause); err != nil {
				return false, failure(seckill.CodeUnavailable, err)
			}
			continue
		}
		_, sold, err := seckill.FindForgotten(ctx, o.stock, o.store, shard, o.overOn(shard), auditBatch)
		if err != nil {
			return false, storeFailure("look at what is forgotten", err)
		}
		return levels.Ordered != sums.Open || levels.Sold != sums.Sold.Sub(sold), nil
	}
	return false, nil
}

// overOn returns the items of a shard that the stock may have forgotten.
func (o *Office) overOn(shard inventory.ShardID) (items []inventory.ItemID) {
	cfg := &o.desk.cfg
	for sale := range o.desk.Catalog().Sales() {
		if sale.State == seckill.ActivityDraft || sale.Live(time.Now(), cfg.Retention) {
			continue
		}
		for i := range sale.Items {
			for j := range sale.Items[i].Spread {
				if inventory.ShardAt(sale.Items[i].ID, j, cfg.Shards) == shard {
					items = append(items, sale.Items[i].ID)
				}
			}
		}
	}
	return items
}
