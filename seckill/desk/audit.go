package desk

import (
	"context"
	"errors"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Audit is an item's stock equation: total = available + held + sold. Total is the store's;
// available, held and sold are the stock's, summed over the item's shards. InFlight counts the
// units on their way between the two systems: held without an order yet, ended but not settled yet,
// restocked but not applied yet. If nothing is in flight, held and sold must equal the store's open
// and sold orders.
type Audit struct {
	Item      inventory.ItemID
	SKU       seckill.SKU
	Total     int64
	Available int64
	Held      int64
	Sold      int64
	InFlight  int64
	Balanced  bool
	// Open, Parked and Ordered come from the store: units of open, parked and sold orders.
	Open    int64
	Parked  int64
	Ordered int64
	// Rejected and Skipped are about the past: accepted orders that became impossible, and promises
	// of older epochs that were never acknowledged.
	Rejected int64
	Skipped  int64
	Closed   bool // a shard is being rebuilt, so the equation can't be checked
}

// How many times an item is read before an imbalance is reported, and the pause between two reads.
// Stock and store are two systems, and orders move between the two readings.
const (
	auditLooks = 5
	auditPause = 50 * time.Millisecond
)

// auditBatch is the most items of one call to the stock.
const auditBatch = 1000

// Audit checks the stock equation of an activity's items, in their order. An item that was balanced
// at one look is not read again.
func (o *Office) Audit(ctx context.Context, id seckill.ActivityID) ([]Audit, error) {
	var audits []Audit
	done := make(map[inventory.ItemID]bool)
	for look := 1; ; look++ {
		books, err := o.store.ActivityBooks(ctx, id)
		if err != nil && !errors.Is(err, seckill.ErrNotFound) {
			return nil, storeFailure("read the books", err)
		}
		if len(books) == 0 {
			return nil, errNoSuchActivity
		}
		seen, err := o.look(ctx, id, books, done)
		if err != nil {
			return nil, err
		}
		if look == 1 {
			audits = seen
		}
		again := make(map[inventory.ItemID]*Audit, len(seen))
		for i := range seen {
			again[seen[i].Item] = &seen[i]
		}
		for i := range audits {
			if now := again[audits[i].Item]; now != nil {
				audits[i] = *now
				done[now.Item] = now.Balanced
			}
		}
		if len(again) == 0 || balanced(audits) || look == auditLooks {
			return audits, nil
		}
		if err := pause(ctx, auditPause); err != nil {
			return nil, failure(seckill.CodeUnavailable, err)
		}
	}
}

func balanced(audits []Audit) bool {
	for i := range audits {
		if !audits[i].Balanced {
			return false
		}
	}
	return true
}

// pause waits for d, or returns the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// look reads the stock of the items that are not done, and compares each with its books.
func (o *Office) look(ctx context.Context, id seckill.ActivityID, books []seckill.Book, done map[inventory.ItemID]bool) ([]Audit, error) {
	byShard := make(map[inventory.ShardID][]inventory.ItemID)
	for i := range books {
		if b := &books[i]; b.Published && !done[b.Item] {
			byShard[b.Shard] = append(byShard[b.Shard], b.Item)
		}
	}
	stock := make(map[seckill.StockKey]reading)
	for shard, items := range byShard {
		for len(items) > 0 {
			n := min(auditBatch, len(items))
			levels, each, err := o.stock.ItemNumbers(ctx, shard, items[:n])
			if err == nil && len(each) != n {
				err = errors.New("the stock did not return all levels")
			}
			if err != nil {
				return nil, failure(seckill.CodeUnavailable, err)
			}
			for i := range each {
				stock[seckill.StockKey{Item: items[i], Shard: shard}] = reading{levels, each[i]}
			}
			items = items[n:]
		}
	}
	sale := o.desk.Catalog().Activity(id)
	over := sale != nil && !sale.Live(time.Now(), o.desk.cfg.Retention)
	var audits []Audit
	for i := range books {
		b := &books[i]
		if done[b.Item] {
			continue
		}
		if n := len(audits); n == 0 || audits[n-1].Item != b.Item {
			audits = append(audits, Audit{Item: b.Item, SKU: b.SKU, Balanced: true})
		}
		audits[len(audits)-1].add(b, stock[seckill.StockKey{Item: b.Item, Shard: b.Shard}], over)
	}
	return audits, nil
}

// reading is an item on a shard together with the shard's numbers, read at one moment.
type reading struct {
	shard inventory.Numbers
	item  inventory.ItemNumbers
}

// add adds a shard of the item. over means that the stock may have forgotten the activity.
func (a *Audit) add(b *seckill.Book, r reading, over bool) {
	a.Total += b.Total
	a.Open, a.Parked, a.Ordered = a.Open+b.Open, a.Parked+b.Parked, a.Ordered+b.Sold
	a.Rejected, a.Skipped = a.Rejected+b.Rejected, a.Skipped+b.Skipped
	switch {
	case !b.Published:
		a.Available += b.Total
		a.Balanced = a.Balanced && b.Open+b.Parked+b.Sold == 0
		return
	case !r.item.Known && over:
		a.Available, a.Sold = a.Available+b.Total-b.Sold, a.Sold+b.Sold
		a.Balanced = a.Balanced && b.Open+b.Parked == 0
		return
	}
	a.Available, a.Held, a.Sold = a.Available+r.item.Available, a.Held+r.item.Held, a.Sold+r.item.Sold
	a.InFlight += inFlight(b, r)
	if r.shard.Closed || r.shard.Epoch != b.Epoch {
		a.Closed, a.Balanced = true, false
		return
	}
	a.Balanced = a.Balanced && balances(b, r)
}

// inFlight counts the item's units on their way. Held units without a row are those of fresh holds;
// an item has at most as many fresh holds as its shard.
func inFlight(b *seckill.Book, r reading) int64 {
	rowless := min(max(r.item.Held-b.Open-b.Parked-b.PendingUnits, 0), r.shard.Fresh)
	return rowless + b.PendingUnits + magnitude(b.PendingStock)
}

// balances checks the equation of one reading.
func balances(b *seckill.Book, r reading) bool {
	if r.item.Available < 0 || b.Open+b.Sold > b.Total {
		return false
	}
	if r.item.Available+r.item.Held+r.item.Sold != b.Total-b.PendingStock {
		return false
	}
	if inFlight(b, r) > 0 {
		return true
	}
	return r.item.Held == b.Open+b.Parked && r.item.Sold == b.Sold
}

func magnitude(n int64) int64 { return max(n, -n) }
