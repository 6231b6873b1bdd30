package seckill

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock/inventory"
)

// StockKey names a stock row: an item on one of its shards.
type StockKey struct {
	Item  inventory.ItemID
	Shard inventory.ShardID
}

// Ledger is a stock row that a transaction has locked, with the data of its item for decisions. The
// functions of this file move its counts.
type Ledger struct {
	Activity      ActivityID
	Merchant      MerchantID
	SKU           SKU
	Price         Money
	PerUser       int
	PaymentWindow time.Duration
	Total         int64
	Open          int64
	Sold          int64
	Parked        int64
}

// Raise returns the total of an item, over all of its shards, after a restock of delta units, or
// ErrTooHigh if an item may not have that many.
func Raise(total, units int64) (int64, error) {
	if units > MaxItemQuantity-total {
		return total, fmt.Errorf("%w: %d and %d", ErrTooHigh, total, units)
	}
	return total + units, nil
}

// BuyerKey names a buyer of an item.
type BuyerKey struct {
	Item inventory.ItemID
	User UserID
}

// AcceptInput has what a worker's transaction has read under its locks, for DecideAccept.
// DecideAccept updates the maps, so that a promise that comes twice in a batch finds its first
// order.
type AcceptInput struct {
	Epochs   map[inventory.ShardID]inventory.Epoch // the epochs of the pages' shards, locked FOR SHARE
	Stock    map[StockKey]*Ledger                  // locked
	Locked   map[StockKey]bool                     // another transaction has the row
	Existing map[OrderID]Order                     // those orders of the promises that have a row
	Bought   map[BuyerKey]int64                    // open and sold units, of items with a limit
	Now      time.Time                             // the database's clock
}

// DecideAccept decides which promises of a page become orders. It is called inside the transaction
// that has locked the rows, and checks L1 and L5 there. Everything to write is added to out. The
// result has one Acceptance per promise.
//
//   - A promise whose order has a row: the order exists, and the page doesn't matter.
//   - A page of an older epoch: promises without a row were never acknowledged with a 202, so they
//     are skipped and counted.
//   - A page of a later epoch: it is treated like a page of the shard's epoch, because the database
//     is behind.
//   - A promise whose row is locked, or that fits no item, is parked: it keeps its unit.
//   - A promise that would break L1 or L5 is rejected. It means that a store has lost data that it
//     had acknowledged.
func DecideAccept(p *Page, in *AcceptInput, out *Changes) []Acceptance {
	accepted := make([]Acceptance, len(p.Promises))
	out.Inserted, out.Steps = slices.Grow(out.Inserted, len(p.Promises)), slices.Grow(out.Steps, len(p.Promises))
	epoch := in.Epochs[p.Ref.Shard]
	for i := range p.Promises {
		r := &p.Promises[i]
		a := Acceptance{Ref: inventory.Ref{Shard: p.Ref.Shard, Epoch: epoch}, Ahead: p.Ref.Epoch > epoch}
		key := StockKey{r.Item(), p.Ref.Shard}
		switch order, exists := in.Existing[r.Order]; {
		case exists:
			a.Outcome, a.Order = OutcomeExists, order
		case p.Ref.Epoch < epoch:
			a.Outcome = OutcomeSkipped
			out.stock(key).Skipped++
		default:
			a.Order = r.order(p, key.Item, in.Now)
			a.Outcome = decideNew(&a.Order, in, key)
			out.insert(&a.Order, key)
			in.Existing[r.Order] = a.Order
			if a.Order.Reason == ReasonUnfit {
				out.Letters = append(out.Letters, r.letter(p))
			}
		}
		accepted[i] = a
	}
	return accepted
}

// CheckLocked returns ErrLocked if a promise was parked for a locked row, because a batch must
// first wait for the row.
func CheckLocked(accepted []Acceptance) error {
	for i := range accepted {
		if o := &accepted[i].Order; accepted[i].Outcome == OutcomeParked && o.Reason == ReasonLocked {
			return fmt.Errorf("item %d on shard %d: %w", o.Item, o.Grant.Shard, ErrLocked)
		}
	}
	return nil
}

// order returns the row of a promise that may become an order; its state is not decided yet.
func (r *Promise) order(p *Page, item inventory.ItemID, now time.Time) Order {
	return Order{
		ID: r.Order, Item: item, Caller: r.Caller, Activity: r.Activity, SKU: r.SKU, User: r.User,
		Quantity: r.Quantity, Amount: r.Amount,
		Grant:   Provenance{p.Ref.Shard, p.Ref.Epoch, p.Seq, p.Partition, p.Offset},
		Request: r.Request, Node: p.Node, Accepted: r.Accepted, CreatedAt: now, UpdatedAt: now, PayBy: now,
	}
}

// decideNew gives an order without a row its state, and moves the counts in the input.
func decideNew(o *Order, in *AcceptInput, key StockKey) Outcome {
	row := in.Stock[key]
	o.Reason = ReasonNone
	if in.Locked[key] || row == nil || !row.fits(o) {
		o.State, o.Units, o.Reason = OrderParked, UnitsParked, ReasonUnfit
		if in.Locked[key] {
			o.Reason = ReasonLocked
		}
		if row != nil {
			row.Parked += int64(o.Quantity)
		}
		return OutcomeParked
	}
	buyer, units := BuyerKey{o.Item, o.User}, int64(o.Quantity)
	switch {
	case row.Open+row.Sold+row.Parked+units > row.Total:
		o.State, o.Units, o.Reason, o.EndedAt = OrderRejected, UnitsVoid, ReasonSoldOut, in.Now
		return OutcomeRejected
	case row.PerUser > 0 && in.Bought[buyer]+units > int64(row.PerUser):
		o.State, o.Units, o.Reason, o.EndedAt = OrderRejected, UnitsVoid, ReasonPurchaseLimit, in.Now
		return OutcomeRejected
	}
	row.Open += units
	in.Bought[buyer] += units
	o.State, o.Units, o.PayBy = OrderPending, UnitsOpen, in.Now.Add(row.PaymentWindow)
	return OutcomeOpened
}

// fits reports whether the order fits the row: it has the same names and the same price.
func (l *Ledger) fits(o *Order) bool {
	return l.Activity == o.Activity && l.SKU == o.SKU && l.Merchant == o.Caller.Merchant &&
		o.Amount == Money{l.Price.Minor * int64(o.Quantity), l.Price.Currency}
}

// DecideUnpark decides about a parked order again, under its stock row, and writes the result. Its
// own units count as parked until then.
func DecideUnpark(before *Order, in *AcceptInput, out *Changes) Acceptance {
	key := before.Stock()
	after := *before
	if row := in.Stock[key]; row != nil {
		row.Parked -= int64(before.Quantity)
	}
	after.UpdatedAt = in.Now
	outcome := decideNew(&after, in, key)
	out.move(before, &after)
	if after.Reason == ReasonUnfit && before.Reason == ReasonLocked {
		out.Letters = append(out.Letters, letterOf(&after))
	}
	ref := inventory.Ref{Shard: key.Shard, Epoch: in.Epochs[key.Shard]}
	return Acceptance{Outcome: outcome, Order: after, Ref: ref}
}

// DecideCancelQueued makes the row of an order that is cancelled before a worker has made it. The
// row is cancelled at once and never open, because an open row must have a record in the log. ok is
// false if the hold that the desk saw belongs to a former epoch: then there is nothing to cancel.
func DecideCancelQueued(c *Cancellation, epoch inventory.Epoch, now time.Time, out *Changes) (o Order, ok bool) {
	if c.Ref.Epoch != epoch {
		return Order{}, false
	}
	o = c.Queued.order(&Page{PageHeader: PageHeader{Ref: c.Ref}}, c.Queued.Item(), now)
	o.State, o.Units, o.Reason, o.EndedAt = OrderCancelled, UnitsVoid, ReasonBuyer, now
	out.insert(&o, o.Stock())
	return o, true
}

// DecideEvent applies an event to an order with a row, and writes the order if its state changes.
func DecideEvent(before Order, e Event, now time.Time, out *Changes) Moved {
	after := before
	if !after.Apply(e, now) {
		return Moved{Order: before}
	}
	out.move(&before, &after)
	return Moved{Order: after, Now: true}
}

// DecideBury makes the tombstone of a hold whose order never came: cancelled, not accepted, nothing
// held. Its primary key makes a later record harmless. row has the names of its item; nil if the
// item is gone. A tombstone has no caller, so only the caller with the order id's tag can read it.
func DecideBury(h inventory.Hold, ref inventory.Ref, row *Ledger, now time.Time, out *Changes) Order {
	o := Order{
		ID: OrderID(h.ID), Item: h.Item, User: UserID(h.Buyer), Quantity: h.Quantity,
		State: OrderCancelled, Reason: ReasonNotAccepted, Units: UnitsVoid,
		Grant:     Provenance{Shard: ref.Shard, Epoch: ref.Epoch},
		CreatedAt: now, UpdatedAt: now, EndedAt: now, PayBy: now, Accepted: now,
	}
	if row != nil {
		o.Caller.Merchant, o.Activity, o.SKU = row.Merchant, row.Activity, row.SKU
	}
	out.insert(&o, o.Stock())
	return o
}

// PublishRestocks returns the restocks that bring the items of a published activity on sale: one
// for each stock row, by item and shard. shares has the total of each row.
func PublishRestocks(shares map[StockKey]int64) []Outgoing {
	rows := make([]Outgoing, 0, len(shares))
	for key, total := range shares {
		rows = append(rows, Outgoing{
			Ref:     inventory.Ref{Shard: key.Shard},
			Restock: inventory.Restock{Item: key.Item, ID: "publish", Units: total, Publish: true},
			Stock:   true,
		})
	}
	slices.SortFunc(rows, func(a, b Outgoing) int {
		return cmp.Or(cmp.Compare(a.Restock.Item, b.Restock.Item), cmp.Compare(a.Ref.Shard, b.Ref.Shard))
	})
	return rows
}

// AddUnits returns the restock of units that come to a shard with a stock change or a move; id is
// that of the change or move.
func AddUnits(item inventory.ItemID, shard inventory.ShardID, id string, units int64) Outgoing {
	return Outgoing{
		Ref:     inventory.Ref{Shard: shard},
		Restock: inventory.Restock{Item: item, ID: id, Units: units}, Stock: true,
	}
}

// SettleTaken returns the settlement of a hold by the shop: sold if the total was lowered by its
// units, void if the hold has a tombstone.
func SettleTaken(t *Taken, kind inventory.Kind) Outgoing {
	return Outgoing{Ref: t.Ref, Settlement: inventory.Settlement{Hold: t.Hold, Kind: kind}, Stock: true}
}

// Share returns the part of units that goes to the i-th of k shards, from 0 on. The parts add up to
// units, and differ by at most one.
func Share(units int64, i, k int) int64 {
	share := units / int64(k)
	if int64(i) < units%int64(k) {
		share++
	}
	return share
}

// Changes collects what a transaction writes: rows, counts, and events for other systems. The
// functions of this file fill it; a store writes it without knowing its meaning.
type Changes struct {
	Inserted []Order
	Updated  []Order // with their new values
	Stock    map[StockKey]*StockDelta
	Shards   map[inventory.ShardID]*ShardDelta
	Outbox   []Outgoing
	Steps    []Step // to publish as events
	Letters  []DeadLetter
	Payments []KeptPayment // new and changed ones
	Refused  []RefusedPayment
}

// StockDelta is by how much a stock row's counts change.
type StockDelta struct{ Open, Sold, Parked, Skipped, Rejected int64 }

// ShardDelta is by how much a shard's digests change, modulo inventory.DigestModulus.
type ShardDelta struct{ Open, Sold inventory.Digest }

// NewChanges returns empty Changes.
func NewChanges() *Changes {
	return &Changes{Stock: make(map[StockKey]*StockDelta), Shards: make(map[inventory.ShardID]*ShardDelta)}
}

func (c *Changes) stock(key StockKey) *StockDelta {
	d := c.Stock[key]
	if d == nil {
		d = new(StockDelta)
		c.Stock[key] = d
	}
	return d
}

func (c *Changes) shard(id inventory.ShardID) *ShardDelta {
	d := c.Shards[id]
	if d == nil {
		d = new(ShardDelta)
		c.Shards[id] = d
	}
	return d
}

// insert adds a new row.
func (c *Changes) insert(o *Order, key StockKey) {
	c.Inserted = append(c.Inserted, *o)
	c.count(o, key, 1)
	if o.Units == UnitsVoid {
		c.settle(o, inventory.SettleVoid)
	}
	if o.State == OrderRejected {
		c.stock(key).Rejected++
	}
	if o.State != OrderParked {
		c.Steps = append(c.Steps, Step{Order: *o})
	}
}

// movePaid is move for a step that a payment caused.
func (c *Changes) movePaid(before, after *Order, k *KeptPayment) {
	c.move(before, after)
	c.Steps[len(c.Steps)-1] = stepOf(after, k, false)
}

// move adds a changed row. If its units reached their end, it also adds a settlement.
func (c *Changes) move(before, after *Order) {
	c.Updated = append(c.Updated, *after)
	if after.State != before.State {
		c.Steps = append(c.Steps, Step{Order: *after})
		if after.State == OrderRejected {
			c.stock(after.Stock()).Rejected++
		}
	}
	if before.Units == after.Units {
		return
	}
	c.count(before, before.Stock(), -1)
	c.count(after, after.Stock(), 1)
	switch after.Units {
	case UnitsSold:
		c.settle(after, inventory.SettleSold)
	case UnitsVoid:
		c.settle(after, inventory.SettleVoid)
	}
}

// count adds an order to the counts and digests of its units' state, or subtracts it.
func (c *Changes) count(o *Order, key StockKey, sign int64) {
	units := sign * int64(o.Quantity)
	name := inventory.NameDigest(string(o.ID))
	if sign < 0 {
		name = inventory.Digest(0).Sub(name)
	}
	switch o.Units {
	case UnitsOpen:
		c.stock(key).Open += units
		c.shard(key.Shard).Open = c.shard(key.Shard).Open.Add(name)
	case UnitsParked:
		c.stock(key).Parked += units
		c.shard(key.Shard).Open = c.shard(key.Shard).Open.Add(name)
	case UnitsSold:
		c.stock(key).Sold += units
		c.shard(key.Shard).Sold = c.shard(key.Shard).Sold.Add(name)
	}
}

// settle adds the end of the order's hold to the outbox.
func (c *Changes) settle(o *Order, kind inventory.Kind) {
	c.Outbox = append(c.Outbox, Outgoing{
		Ref:        inventory.Ref{Shard: o.Grant.Shard},
		Settlement: inventory.Settlement{Hold: o.Hold(), Kind: kind},
	})
}
