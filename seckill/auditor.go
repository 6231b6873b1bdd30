package seckill

import (
	"context"
	"fmt"
	"time"

	"penstock/inventory"
)

// auditEvery is the time between two looks of a rebuilder at an activity's books. A leak gets a minute to show itself and be
// healed (L3): two looks and a rebuild fit into that, and a look costs a query and a call for each item.
const auditEvery = 10 * time.Second

// imbalance is by how much an item's shard differs from its books, all told, and in what is held and sold. Zero is not at all.
type imbalance struct {
	epoch             inventory.Epoch
	units, held, sold int64
}

// imbalance compares one reading of the books with one of the shard. While a stock change is on its way nobody can say whether
// the shard has it already; held and sold are comparable while nothing at all is in flight.
func (b *Book) imbalance(l inventory.Levels) imbalance {
	var d imbalance
	if b.PendingStock == 0 {
		d.units = l.Available + l.Held + l.Sold - b.Total
	}
	if l.Fresh+b.PendingUnits+magnitude(b.PendingStock) == 0 {
		d.held, d.sold = l.Held-b.Open, l.Sold-b.Sold
	}
	if d != (imbalance{}) {
		d.epoch = b.Epoch
	}
	return d
}

// auditSale asks for a rebuild of the sale's items whose books don't balance. A failover forgets what was acknowledged, and mostly
// the shard's seq shows it; but where those who had seen more are gone, or others have driven the seq past it since, nothing is
// left that shows it but the books.
func (r *Rebuilder) auditSale(ctx context.Context, sale *Sale, now time.Time) error {
	r.mu.Lock()
	due := !now.Before(r.audits[sale.ID])
	if due {
		r.audits[sale.ID] = now.Add(auditEvery)
	}
	r.mu.Unlock()
	if !due {
		return nil
	}
	books, err := r.store.Books(ctx, sale.ID)
	if err != nil {
		return fmt.Errorf("read the books: %w", err)
	}
	for i := range books {
		if err := r.auditItem(ctx, sale, &books[i]); err != nil {
			return err
		}
	}
	return nil
}

// auditItem believes an imbalance that two looks in a row have found, just the same, while the books stood still: stock and store
// are read one after the other, and what moves between the two readings looks like a difference for a moment.
func (r *Rebuilder) auditItem(ctx context.Context, sale *Sale, b *Book) error {
	if b.Epoch == 0 {
		return nil
	}
	levels, err := r.stock.Levels(ctx, b.Item)
	if err != nil {
		return fmt.Errorf("read the shard: %w", err)
	}
	var found imbalance
	if !levels.Closed && levels.Epoch == b.Epoch {
		found = b.imbalance(levels)
	}
	r.mu.Lock()
	again := found != imbalance{} && r.odd[b.Item] == found
	if found == (imbalance{}) {
		delete(r.odd, b.Item)
	} else {
		r.odd[b.Item] = found
	}
	r.mu.Unlock()
	if !again {
		return nil
	}
	books, err := r.store.Books(ctx, sale.ID)
	if err != nil {
		return fmt.Errorf("read the books again: %w", err)
	}
	for i := range books {
		if books[i] != *b {
			continue
		}
		r.log.Error("the books don't balance, a rebuild is due: a store lost what nobody saw", "item", b.Item, "activity", sale.ID,
			"sku", b.SKU, "epoch", b.Epoch, "units", found.units, "held", found.held, "sold", found.sold)
		if err := r.store.MarkSuspect(ctx, inventory.Ref{Item: b.Item, Epoch: b.Epoch}); err != nil {
			return fmt.Errorf("ask for a rebuild: %w", err)
		}
	}
	return nil
}
