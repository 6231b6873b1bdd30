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

// Auditor compares the owned shards with the database. A failover may lose acknowledged writes.
// Mostly the shard's seq or the server's run id shows that. If later writes have raised the seq
// again, only a comparison with the database shows it.
//
// It compares which holds are ordered and sold, by digests over their names; counts alone would
// agree if a failover had swapped two holds. It also compares the units of items, a page at each
// look, so that its cost doesn't grow with the number of items. If two looks show the same
// difference while nothing is in flight, the shard is marked for a rebuild.
type Auditor struct {
	// Fixed after NewAuditor.
	cfg   seckill.Config
	stock seckill.Stock
	store seckill.Store
	owner *Ownership
	log   *slog.Logger

	looks map[inventory.ShardID]*look // of Run's goroutine
	blind trouble                     // of Run's goroutine
}

// look is the state of a shard's audit.
type look struct {
	next  time.Time
	err   error            // of the last look
	after inventory.ItemID // the page of items begins behind this one
	again bool             // the next look goes to the same page
	sums  difference
	items map[inventory.ItemID]imbalance
}

// difference is the difference between a shard's digests and the database's; zero if they are
// equal.
type difference struct {
	epoch      inventory.Epoch
	open, sold inventory.Digest
}

// imbalance is the difference between an item's numbers on a shard and in the database; zero if
// they are equal.
type imbalance struct {
	epoch             inventory.Epoch
	units, held, sold int64
}

// auditEvery is the time between two looks at a shard. A leak must be found and repaired within a
// minute (L3): two looks and a rebuild fit into that.
const auditEvery = 10 * time.Second

// NewAuditor makes an auditor of the shards of owner.
func NewAuditor(cfg seckill.Config, stock seckill.Stock, store seckill.Store, owner *Ownership, log *slog.Logger) *Auditor {
	return &Auditor{cfg: cfg, stock: stock, store: store, owner: owner, log: log, looks: make(map[inventory.ShardID]*look),
		blind: trouble{log: log, failing: "books can't be compared with the stock", over: "books are compared with the stock again"}}
}

// Run works until ctx ends.
func (a *Auditor) Run(ctx context.Context) {
	for wait.For(ctx, time.Second) {
		a.Step(ctx)
	}
}

// Step looks at the owned shards that are due.
func (a *Auditor) Step(ctx context.Context) {
	var left []inventory.ShardID
	var why error
	for _, shard := range a.owner.Shards() {
		at := a.looks[shard]
		if at == nil {
			at = &look{items: make(map[inventory.ItemID]imbalance)}
			a.looks[shard] = at
		}
		if now := time.Now(); ctx.Err() == nil && !now.Before(at.next) {
			at.next = now.Add(auditEvery)
			at.err = a.shard(ctx, shard, at)
		}
		if at.err != nil {
			why, left = at.err, append(left, shard)
		}
	}
	if ctx.Err() == nil {
		a.blind.note(why, "shards", left)
	}
}

func (a *Auditor) shard(ctx context.Context, shard inventory.ShardID, at *look) error {
	if err := a.digests(ctx, shard, at); err != nil {
		return err
	}
	return a.items(ctx, shard, at)
}

// digests compares which holds are ordered and sold. They are comparable while nothing is in
// flight: no outbox row, no fresh hold, and no change of the books between two readings around that
// of the shard.
func (a *Auditor) digests(ctx context.Context, shard inventory.ShardID, at *look) error {
	sums, err := a.store.ShardSums(ctx, shard)
	if err != nil {
		return fmt.Errorf("read the sums: %w", err)
	}
	levels, _, err := a.stock.ItemNumbers(ctx, shard, nil)
	if err != nil {
		return fmt.Errorf("read the shard: %w", err)
	}
	var found difference
	still := sums.Pending == 0 && levels.Fresh == 0 && !levels.Closed && levels.Epoch == sums.Ref.Epoch
	if still && (levels.Ordered != sums.Open || levels.Sold != sums.Sold) {
		found = difference{levels.Epoch, levels.Ordered.Sub(sums.Open), levels.Sold.Sub(sums.Sold)}
	}
	again := found != difference{} && found == at.sums
	at.sums = found
	if !again {
		return nil
	}
	if now, err := a.store.ShardSums(ctx, shard); err != nil || now != sums {
		return err
	}
	a.log.Error("the books don't balance, a rebuild is due: a shard has other holds than the orders say",
		"shard", shard, "epoch", levels.Epoch)
	return a.suspect(ctx, sums.Ref)
}

func (a *Auditor) suspect(ctx context.Context, ref inventory.Ref) error {
	if err := a.store.MarkSuspect(ctx, ref); err != nil {
		return fmt.Errorf("ask for a rebuild: %w", err)
	}
	return nil
}

// items compares the numbers of a page of items. A page with a difference is looked at twice in a
// row.
func (a *Auditor) items(ctx context.Context, shard inventory.ShardID, at *look) error {
	books, err := a.store.ShardBooks(ctx, shard, at.after, a.cfg.BatchCap)
	if err != nil {
		return fmt.Errorf("read the books: %w", err)
	}
	if len(books) == 0 {
		at.after = 0
		return nil
	}
	ids := make([]inventory.ItemID, len(books))
	for i := range books {
		ids[i] = books[i].Item
	}
	levels, items, err := a.stock.ItemNumbers(ctx, shard, ids)
	if err != nil {
		return fmt.Errorf("read items of the shard: %w", err)
	}
	odd := make(map[inventory.ItemID]imbalance)
	for i := range books {
		if d := compare(&books[i], &levels, &items[i]); d != (imbalance{}) {
			odd[books[i].Item] = d
		}
	}
	before := at.items
	at.items = odd
	if len(odd) > 0 && !at.again {
		at.again = true
		return nil
	}
	at.again, at.after = false, ids[len(ids)-1]
	for i := range books {
		b := &books[i]
		if d, ok := odd[b.Item]; ok && before[b.Item] == d {
			a.log.Error("the books don't balance, a rebuild is due: a store lost what nobody saw", "shard", shard, "item", b.Item,
				"sku", b.SKU, "epoch", b.Epoch, "units", d.units, "held", d.held, "sold", d.sold)
			return a.suspect(ctx, inventory.Ref{Shard: shard, Epoch: b.Epoch})
		}
	}
	return nil
}

// compare compares an item's book with the shard. While a stock change is in flight, the shard may
// or may not have it; held and sold are comparable only while nothing at all is in flight.
func compare(b *seckill.Book, levels *inventory.Numbers, item *inventory.ItemNumbers) imbalance {
	var d imbalance
	if !b.Published || levels.Closed || levels.Epoch != b.Epoch || b.PendingStock != 0 {
		return d
	}
	d.units = item.Available + item.Held + item.Sold - b.Total
	if levels.Fresh == 0 && b.PendingUnits == 0 {
		d.held, d.sold = item.Held-b.Open-b.Parked, item.Sold-b.Sold
	}
	if d != (imbalance{}) {
		d.epoch = b.Epoch
	}
	return d
}
