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

// Auditor compares the owned shards with the database. A failover may lose acknowledged writes. In
// most cases the shard's seq or the server's run id shows that. But when later writes have raised
// the seq again, only a comparison with the database shows it.
//
// It compares which holds are ordered and sold, by digests over their names. Counts alone are not
// enough: they agree when a failover has swapped two holds. It also compares the units of items.
// Each look compares one page of them, so that its cost does not grow with the number of items. If
// two looks find the same difference while nothing is in flight, the shard is suspect. A shard may
// forget an activity that is over before its rows are dropped; that counts as no difference.
type Auditor struct {
	// Fixed after NewAuditor.
	cfg   seckill.Config
	stock seckill.Stock
	store seckill.Store
	owner *Ownership
	over  *Upkeep
	log   *slog.Logger

	looks map[inventory.ShardID]*look // used by Run's goroutine only
	blind trouble                     // used by Run's goroutine only
}

// look is the state of a shard's audit.
type look struct {
	next  time.Time
	err   error            // of the last look
	after inventory.ItemID // the next page of items begins after this one
	again bool             // the next look goes to the same page
	sums  difference
	known difference // explained by what was forgotten
	odd   difference // not explained by it, although something was forgotten
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

// NewAuditor makes an auditor of the shards that owner names. over drops the data of ended
// activities.
func NewAuditor(cfg seckill.Config, stock seckill.Stock, store seckill.Store, owner *Ownership, over *Upkeep, log *slog.Logger) *Auditor {
	return &Auditor{cfg: cfg, stock: stock, store: store, owner: owner, over: over, log: log, looks: make(map[inventory.ShardID]*look),
		blind: trouble{log: log, failing: "books can't be compared with the stock", over: "books are compared with the stock again"}}
}

// Run works until ctx ends.
func (a *Auditor) Run(ctx context.Context) {
	for wait.ForTick(ctx, time.Second) {
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

// digests compares which holds are ordered and sold. They can be compared while nothing is in
// flight: no outbox row, no fresh hold, and no change of the books between two readings around that
// of the shard.
func (a *Auditor) digests(ctx context.Context, shard inventory.ShardID, at *look) error {
	sums, err := a.store.ShardSums(ctx, shard)
	if err != nil {
		return fmt.Errorf("read the sums: %w", err)
	}
	found, err := a.differs(ctx, &sums)
	if err != nil {
		return err
	}
	again := found != difference{} && found == at.sums
	at.sums = found
	if !again || found == at.known {
		return nil
	}
	if lost, err := a.isLoss(ctx, &sums, at); err != nil || !lost {
		return err
	}
	if now, err := a.store.ShardSums(ctx, shard); err != nil || now != sums {
		return err
	}
	a.log.Error("the books don't balance, a rebuild is due: a shard's holds don't match the orders",
		"shard", shard, "epoch", sums.Ref.Epoch)
	return a.suspect(ctx, sums.Ref)
}

// differs returns how much a shard differs from sums now; zero while it can't be compared.
func (a *Auditor) differs(ctx context.Context, sums *seckill.ShardSums) (difference, error) {
	levels, _, err := a.stock.ItemNumbers(ctx, sums.Ref.Shard, nil)
	if err != nil {
		return difference{}, fmt.Errorf("read the shard: %w", err)
	}
	still := sums.Pending == 0 && levels.Fresh == 0 && !levels.Closed && levels.Epoch == sums.Ref.Epoch
	if !still || levels.Ordered == sums.Open && levels.Sold == sums.Sold {
		return difference{}, nil
	}
	return difference{levels.Epoch, levels.Ordered.Sub(sums.Open), levels.Sold.Sub(sums.Sold)}, nil
}

// isLoss reports whether a difference is larger than what was forgotten. If a shard was only half
// forgotten, isLoss first completes that, because nobody knows which half is left. While something
// is being forgotten, two looks must agree, because a former owner of the shard may still be
// working on it.
func (a *Auditor) isLoss(ctx context.Context, sums *seckill.ShardSums, at *look) (bool, error) {
	gone, sold, err := a.over.forgotten(ctx, sums.Ref.Shard)
	if err != nil {
		return false, fmt.Errorf("look at what is forgotten: %w", err)
	}
	if len(gone) == 0 {
		return true, nil
	}
	found, err := a.differs(ctx, sums)
	if err != nil || found == (difference{}) {
		return false, err
	}
	at.sums = found
	if found == (difference{epoch: sums.Ref.Epoch, sold: inventory.Digest(0).Sub(sold)}) {
		at.known = found
		return false, nil
	}
	again := found == at.odd
	at.odd = found
	return again, nil
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
		if a.over.hasForgotten(&books[i], &items[i]) {
			continue
		}
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
			a.log.Error("the books don't balance, a rebuild is due: a store lost data unnoticed", "shard", shard, "item", b.Item,
				"sku", b.SKU, "epoch", b.Epoch, "units", d.units, "held", d.held, "sold", d.sold)
			return a.suspect(ctx, inventory.Ref{Shard: shard, Epoch: b.Epoch})
		}
	}
	return nil
}

// compare compares an item's book with the shard. While a stock change is in flight, the shard may
// or may not have it; held and sold can be compared only while nothing at all is in flight.
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
