package seckill

import (
	"context"
	"time"

	"penstock/inventory"
)

// Audit is an item's stock equation: total = available + held + sold. Total is the store's; available, held and sold are the
// stock's. InFlight counts the units that are on their way between the two: held but not ordered yet, ended but not settled
// yet, restocked but not applied yet. Once nothing is in flight, held and sold must be the store's open and sold orders too.
type Audit struct {
	Item      inventory.ItemID
	SKU       SKU
	Total     int64
	Available int64
	Held      int64
	Sold      int64
	InFlight  int64
	Balanced  bool
	// Open and Ordered are the store's: units of open orders, and of sold ones.
	Open    int64
	Ordered int64
	// Epoch, Rejected and Skipped tell of the past: how often the item was rebuilt, accepted orders that became impossible,
	// and records of older epochs that nobody was promised.
	Epoch    inventory.Epoch
	Rejected int64
	Skipped  int64
	Closed   bool // the shard is being rebuilt: nothing can be said
}

// auditLooks is how often an item is read before an imbalance is believed: stock and store are two systems, and orders move
// between the two readings.
const auditLooks = 5

// Audit checks the stock equation of an activity's items.
func (o *Office) Audit(ctx context.Context, id ActivityID) ([]Audit, error) {
	var audits []Audit
	for look := 0; ; look++ {
		books, err := o.store.Books(ctx, id)
		if err != nil {
			return nil, storeFailure("read the books", err)
		}
		if len(books) == 0 {
			return nil, errNoSuchActivity
		}
		audits = audits[:0]
		balanced := true
		for i := range books {
			audit, err := o.auditItem(ctx, &books[i])
			if err != nil {
				return nil, err
			}
			audits = append(audits, audit)
			balanced = balanced && audit.Balanced
		}
		if balanced || look == auditLooks {
			return audits, nil
		}
		if !pauseFor(ctx, drainLook) {
			return nil, &Failure{CodeUnavailable, time.Second, ctx.Err()}
		}
	}
}

// auditItem compares an item's books with its shard.
func (o *Office) auditItem(ctx context.Context, b *Book) (Audit, error) {
	a := Audit{
		Item: b.Item, SKU: b.SKU, Total: b.Total, Open: b.Open, Ordered: b.Sold,
		Epoch: b.Epoch, Rejected: b.Rejected, Skipped: b.Skipped,
	}
	if b.Epoch == 0 {
		a.Available, a.Balanced = b.Total, b.Open == 0 && b.Sold == 0
		return a, nil
	}
	levels, err := o.stock.Levels(ctx, b.Item)
	if err != nil {
		return Audit{}, &Failure{CodeUnavailable, time.Second, err}
	}
	a.Available, a.Held, a.Sold = levels.Available, levels.Held, levels.Sold
	a.InFlight = levels.Fresh + b.PendingUnits + magnitude(b.PendingStock)
	a.Closed = levels.Closed || levels.Epoch != b.Epoch
	a.Balanced = !a.Closed && b.balances(levels)
	return a, nil
}

// balances checks the equation of one reading.
func (b *Book) balances(l inventory.Levels) bool {
	if l.Available < 0 || b.Open+b.Sold > b.Total {
		return false
	}
	if l.Available+l.Held+l.Sold != b.Total-b.PendingStock {
		return false
	}
	if l.Fresh+b.PendingUnits+magnitude(b.PendingStock) > 0 {
		return true
	}
	return l.Held == b.Open && l.Sold == b.Sold
}

func magnitude(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}
