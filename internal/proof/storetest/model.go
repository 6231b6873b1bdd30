package storetest

import (
	"cmp"
	"slices"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// model is a simple store of maps and loops, which a real store must be equal to. It keeps no
// counts and no digests, but computes them from the orders each time. It doesn't use seckill's
// decisions.
type model struct {
	items    []*modelItem
	shards   map[inventory.ShardID]*modelShard
	orders   map[seckill.OrderID]seckill.Order
	letters  map[seckill.OrderID]bool // of parked orders
	payments map[seckill.PaymentKey]seckill.KeptPayment
	outbox   []seckill.Outgoing           // without epochs
	changes  map[seckill.StockChange]bool // that were made
	holds    map[string]modelHold         // of withdrawals, that were committed or buried
	locked   map[seckill.StockKey]bool
}

type modelItem struct {
	seckill.Item
	rows map[inventory.ShardID]*modelRow
}

type modelRow struct{ total, skipped, rejected int64 }

type modelShard struct {
	epoch, next, taken inventory.Epoch // taken is the epoch of the last snapshot
	suspect            bool
}

type modelHold struct {
	inventory.Hold
	shard  inventory.ShardID
	buried bool
}

// newModel is of a shop whose shards were fenced, and whose snapshots were taken.
func newModel(s *shop) *model {
	m := &model{
		shards: make(map[inventory.ShardID]*modelShard), orders: make(map[seckill.OrderID]seckill.Order),
		letters: make(map[seckill.OrderID]bool), payments: make(map[seckill.PaymentKey]seckill.KeptPayment),
		changes: make(map[seckill.StockChange]bool), holds: make(map[string]modelHold),
		locked: make(map[seckill.StockKey]bool),
	}
	for _, item := range s.items {
		i := &modelItem{Item: item, rows: make(map[inventory.ShardID]*modelRow)}
		for k := range item.Spread {
			i.rows[i.on(k)] = &modelRow{total: seckill.Share(item.Quantity, k, item.Spread)}
		}
		m.items = append(m.items, i)
	}
	for shard, ref := range s.refs {
		m.shards[shard] = &modelShard{epoch: ref.Epoch, next: ref.Epoch, taken: ref.Epoch}
	}
	return m
}

// on returns the item's k-th shard.
func (i *modelItem) on(k int) inventory.ShardID {
	return (inventory.Home(i.ID, Shards) + inventory.ShardID(k)) % Shards
}

func (i *modelItem) key(shard inventory.ShardID) seckill.StockKey {
	return seckill.StockKey{Item: i.ID, Shard: shard}
}

func (m *model) item(id inventory.ItemID) *modelItem {
	return m.items[slices.IndexFunc(m.items, func(i *modelItem) bool { return i.ID == id })]
}

// ref returns a shard under its epoch.
func (m *model) ref(shard inventory.ShardID) inventory.Ref {
	return inventory.Ref{Shard: shard, Epoch: m.shards[shard].epoch}
}

// units adds up the units of the orders of a stock row, or of a buyer over all rows of an item.
func (m *model) units(item inventory.ItemID, of func(o *seckill.Order) bool, states ...seckill.UnitState) (sum int64) {
	for _, o := range m.orders {
		if o.Item == item && of(&o) && slices.Contains(states, o.Units) {
			sum += int64(o.Quantity)
		}
	}
	return sum
}

func onShard(shard inventory.ShardID) func(*seckill.Order) bool {
	return func(o *seckill.Order) bool { return o.Grant.Shard == shard }
}

func ofBuyer(user seckill.UserID) func(*seckill.Order) bool {
	return func(o *seckill.Order) bool { return o.User == user }
}

// used returns the units of a stock row that are not available.
func (m *model) used(key seckill.StockKey) int64 {
	return m.units(key.Item, onShard(key.Shard), seckill.UnitsOpen, seckill.UnitsSold, seckill.UnitsParked)
}

// accept returns the outcome of a promise of a page under ref.
func (m *model) accept(ref inventory.Ref, r seckill.Promise, now time.Time) seckill.Acceptance {
	item, at := m.item(r.Item()), m.ref(ref.Shard)
	a := seckill.Acceptance{Ref: at, Ahead: ref.Epoch > at.Epoch}
	if o, ok := m.orders[r.Order]; ok {
		a.Outcome, a.Order = exists, o
		return a
	}
	if ref.Epoch < at.Epoch {
		item.rows[ref.Shard].skipped++
		a.Outcome = skipped
		return a
	}
	o := seckill.Order{
		ID: r.Order, Item: item.ID, Caller: r.Caller, Activity: r.Activity, SKU: r.SKU, User: r.User, Quantity: r.Quantity,
		Amount: r.Amount, CreatedAt: now, UpdatedAt: now, PayBy: now, Request: r.Request, Node: pageNode, Accepted: r.Accepted,
		Grant: seckill.Provenance{Shard: ref.Shard, Epoch: ref.Epoch, Seq: pageSeq},
	}
	a.Outcome = m.become(&o, now)
	a.Order = o
	return a
}

// become decides about an order without a row, or a parked one, and keeps the result.
func (m *model) become(o *seckill.Order, now time.Time) (outcome seckill.Outcome) {
	item, key := m.item(o.Item), o.Stock()
	delete(m.orders, o.ID) // it does not count against itself
	defer func() { m.orders[o.ID] = *o }()
	switch {
	case m.locked[key]:
		o.State, o.Reason, o.Units = seckill.OrderParked, seckill.ReasonLocked, seckill.UnitsParked
		return parked
	case o.Amount.Minor != item.Price.Minor*int64(o.Quantity):
		o.State, o.Reason, o.Units = seckill.OrderParked, seckill.ReasonUnfit, seckill.UnitsParked
		m.letters[o.ID] = true
		return parked
	case m.used(key)+int64(o.Quantity) > item.rows[key.Shard].total:
		o.Reason = seckill.ReasonSoldOut
	case item.PerUser > 0 &&
		m.units(o.Item, ofBuyer(o.User), seckill.UnitsOpen, seckill.UnitsSold)+int64(o.Quantity) > int64(item.PerUser):
		o.Reason = seckill.ReasonPurchaseLimit
	default:
		o.State, o.Reason, o.Units, o.PayBy = seckill.OrderPending, "", seckill.UnitsOpen, now.Add(window)
		return opened
	}
	m.reject(o)
	return rejected
}

func (m *model) reject(o *seckill.Order) {
	o.State, o.Units, o.EndedAt = seckill.OrderRejected, seckill.UnitsVoid, o.UpdatedAt
	m.item(o.Item).rows[o.Grant.Shard].rejected++
	m.settle(*o, inventory.SettleVoid)
}

// unpark tries a parked order again.
func (m *model) unpark(id seckill.OrderID, now time.Time) seckill.Acceptance {
	o := m.orders[id]
	o.UpdatedAt = now
	outcome := m.become(&o, now)
	return seckill.Acceptance{Outcome: outcome, Order: o, Ref: m.ref(o.Grant.Shard)}
}

// replay tries the order of a letter again.
func (m *model) replay(id seckill.OrderID, now time.Time) seckill.Acceptance {
	o := m.orders[id]
	if o.State != seckill.OrderParked {
		delete(m.letters, id)
		return seckill.Acceptance{Outcome: exists, Order: o, Ref: m.ref(o.Grant.Shard)}
	}
	if m.locked[o.Stock()] {
		return seckill.Acceptance{Outcome: parked, Order: o, Ref: m.ref(o.Grant.Shard)}
	}
	delete(m.letters, id)
	return m.unpark(id, now)
}

func (m *model) discard(id seckill.OrderID, now time.Time) {
	o := m.orders[id]
	delete(m.letters, id)
	if o.State != seckill.OrderParked {
		return
	}
	o.Reason, o.UpdatedAt = seckill.ReasonDiscarded, now
	m.reject(&o)
	m.orders[id] = o
}

func (m *model) settle(o seckill.Order, kind inventory.Kind) {
	m.outbox = append(m.outbox, settlement(inventory.Ref{Shard: o.Grant.Shard}, o, kind))
}

// held reports whether an event of the order would change a locked row.
func (m *model) held(o *seckill.Order) bool {
	return o.Units == seckill.UnitsOpen && m.locked[o.Stock()]
}

// end ends an open order and reports whether it was open. A buyer may cancel a parked one, too.
func (m *model) end(id seckill.OrderID, state seckill.OrderState, reason seckill.Reason, now time.Time) bool {
	o, ok := m.orders[id]
	given := state == seckill.OrderCancelled && reason == seckill.ReasonBuyer
	if !ok || o.State != seckill.OrderPending && !(given && o.State == seckill.OrderParked) {
		return false
	}
	kind := inventory.SettleVoid
	o.State, o.Reason, o.UpdatedAt, o.EndedAt, o.Units = state, reason, now, now, seckill.UnitsVoid
	if state == seckill.OrderPaid {
		kind, o.Units = inventory.SettleSold, seckill.UnitsSold
	}
	m.orders[id] = o
	m.settle(o, kind)
	return true
}

// cancel cancels an order. If there is only a hold under c.Ref, it makes a cancelled row.
func (m *model) cancel(c seckill.Cancellation, now time.Time) seckill.Moved {
	o, ok := m.orders[c.Order]
	switch {
	case ok && m.held(&o):
		return seckill.Moved{Order: o, Locked: true}
	case ok:
		moved := m.end(c.Order, seckill.OrderCancelled, seckill.ReasonBuyer, now)
		return seckill.Moved{Order: m.orders[c.Order], Now: moved}
	case c.Queued == nil || c.Ref != m.ref(c.Ref.Shard):
		return seckill.Moved{}
	}
	r := c.Queued
	o = seckill.Order{
		ID: r.Order, Item: r.Item(), Caller: r.Caller, Activity: r.Activity, SKU: r.SKU, User: r.User, Quantity: r.Quantity,
		Amount: r.Amount, State: seckill.OrderCancelled, Reason: seckill.ReasonBuyer, Units: seckill.UnitsVoid,
		CreatedAt: now, UpdatedAt: now, EndedAt: now, PayBy: now, Request: r.Request, Accepted: r.Accepted,
		Grant: seckill.Provenance{Shard: c.Ref.Shard, Epoch: c.Ref.Epoch},
	}
	m.orders[o.ID] = o
	m.settle(o, inventory.SettleVoid)
	return seckill.Moved{Order: o, Now: true}
}

// pay books a payment, or keeps it.
func (m *model) pay(p seckill.Payment, now time.Time) seckill.PaymentResult {
	o, ok := m.orders[p.Order]
	if ok && m.held(&o) {
		return seckill.PaymentResult{Verdict: seckill.PaymentLocked, Order: o}
	}
	queued := p.Queued
	p.Queued = false
	earlier, known := m.payments[p.Key()]
	same := known && earlier.Order == p.Order && earlier.Amount == p.Amount
	k := seckill.KeptPayment{Payment: p, KeptAt: now, State: seckill.PaymentStateDue}
	if ok && p.Merchant != merchant {
		return seckill.PaymentResult{Verdict: seckill.PaymentNoOrder}
	}
	if !ok || o.State == seckill.OrderParked {
		switch {
		case same:
			return seckill.PaymentResult{Verdict: seckill.PaymentAgain}
		case known:
			return seckill.PaymentResult{Verdict: seckill.PaymentOtherContent}
		case !queued:
			return seckill.PaymentResult{Verdict: seckill.PaymentNoOrder}
		}
		k.State = seckill.PaymentStateEarly
		m.payments[p.Key()] = k
		return seckill.PaymentResult{Verdict: seckill.PaymentEarly}
	}
	wrong := earlier.State == seckill.PaymentStateDue && earlier.Cause == seckill.CauseWrongAmount
	switch {
	case same && earlier.Cause == seckill.CauseWrongAmount:
		return seckill.PaymentResult{Verdict: seckill.PaymentMismatch, Order: o}
	case same && earlier.State == seckill.PaymentStateEarly:
		k.KeptAt = earlier.KeptAt
	case same:
		return seckill.PaymentResult{Verdict: seckill.PaymentAgain, Order: o}
	case wrong && earlier.Order == p.Order && p.Amount != o.Amount:
		return seckill.PaymentResult{Verdict: seckill.PaymentMismatch, Order: o}
	case known && !(wrong && earlier.Order == p.Order):
		return seckill.PaymentResult{Verdict: seckill.PaymentOtherContent, Order: o}
	}
	return m.keep(k, o, now)
}

// keep keeps a payment of an order that has a row.
func (m *model) keep(k seckill.KeptPayment, o seckill.Order, now time.Time) seckill.PaymentResult {
	verdict := seckill.PaymentLate
	switch {
	case o.Reason != seckill.ReasonNotAccepted && k.Amount != o.Amount:
		k.Cause, verdict = seckill.CauseWrongAmount, seckill.PaymentMismatch
	case m.end(o.ID, seckill.OrderPaid, "", now):
		k.State, verdict = seckill.PaymentStateBooked, seckill.PaymentBooked
	default:
		k.Cause = map[seckill.OrderState]seckill.RefundCause{
			seckill.OrderCancelled: seckill.CauseLate, seckill.OrderRejected: seckill.CauseRejected, seckill.OrderPaid: seckill.CauseSecond,
			seckill.OrderRefundDue: seckill.CauseSecond, seckill.OrderRefunded: seckill.CauseSecond,
		}[o.State]
		if o.State != seckill.OrderPaid && o.State != seckill.OrderRefundDue {
			o.State, o.UpdatedAt = seckill.OrderRefundDue, now
			m.orders[o.ID] = o
		}
	}
	m.payments[k.Key()] = k
	return seckill.PaymentResult{Verdict: verdict, Order: m.orders[o.ID]}
}

// bury reports whether the hold's order exists.
func (m *model) bury(ref inventory.Ref, h inventory.Hold, now time.Time) bool {
	if seckill.IsWithdrawal(h.ID) {
		known, ok := m.holds[h.ID]
		if !ok {
			m.holds[h.ID] = modelHold{h, ref.Shard, true}
			m.withdrawn(ref.Shard, h, inventory.SettleVoid)
		}
		return ok && !known.buried
	}
	if o, ok := m.orders[seckill.OrderID(h.ID)]; ok {
		return o.Reason != seckill.ReasonNotAccepted
	}
	o := seckill.Order{
		ID: seckill.OrderID(h.ID), Item: h.Item, Caller: seckill.CallerRef{Merchant: merchant}, Activity: activity,
		SKU: m.item(h.Item).SKU, User: seckill.UserID(h.Buyer), Quantity: h.Quantity, State: seckill.OrderCancelled,
		Reason: seckill.ReasonNotAccepted, Units: seckill.UnitsVoid, CreatedAt: now, UpdatedAt: now, EndedAt: now,
		PayBy: now, Accepted: now, Grant: seckill.Provenance{Shard: ref.Shard, Epoch: ref.Epoch},
	}
	m.orders[o.ID] = o
	m.settle(o, inventory.SettleVoid)
	return false
}

// withdrawn puts the end of a withdrawal's hold into the outbox.
func (m *model) withdrawn(shard inventory.ShardID, h inventory.Hold, kind inventory.Kind) {
	m.outbox = append(m.outbox, seckill.Outgoing{
		Ref: inventory.Ref{Shard: shard}, Settlement: inventory.Settlement{Hold: h, Kind: kind}, Stock: true})
}

func (m *model) restocked(shard inventory.ShardID, item inventory.ItemID, id string, units int64) {
	m.outbox = append(m.outbox, seckill.Outgoing{
		Ref: inventory.Ref{Shard: shard}, Restock: inventory.Restock{Item: item, ID: id, Units: units}, Stock: true})
}

// once reports whether a stock change was made before under its key, or returns the error for it.
func (m *model) once(c seckill.StockChange) (replayed bool, err error) {
	for made := range m.changes {
		if made.Item == c.Item && made.Key == c.Key {
			if made != c {
				return false, seckill.ErrKeyReused
			}
			return true, nil
		}
	}
	return false, nil
}

func (m *model) restock(c seckill.StockChange) (replayed bool, err error) {
	if replayed, err = m.once(c); replayed || err != nil {
		return replayed, err
	}
	item := m.item(c.Item)
	if item.Quantity+c.Delta > seckill.MaxItemQuantity {
		return false, seckill.ErrTooHigh
	}
	for k := range item.Spread {
		if units := seckill.Share(c.Delta, k, item.Spread); units > 0 {
			item.rows[item.on(k)].total += units
			m.restocked(item.on(k), item.ID, c.Key, units)
		}
	}
	item.Quantity += c.Delta
	m.changes[c] = true
	return false, nil
}

// mayTake returns the error of taking a hold's units; again means that they were taken before.
func (m *model) mayTake(t seckill.Taken) (again bool, err error) {
	known, ok := m.holds[t.Hold.ID]
	row := m.item(t.Hold.Item).rows[t.Ref.Shard]
	switch {
	case ok && known.buried:
		return false, seckill.ErrNotFound
	case ok:
		return true, nil
	case t.Ref != m.ref(t.Ref.Shard):
		return false, seckill.ErrFenced
	case row.total-int64(t.Hold.Quantity) < m.used(seckill.StockKey{Item: t.Hold.Item, Shard: t.Ref.Shard}):
		return false, seckill.ErrTooLow
	}
	return false, nil
}

func (m *model) take(t seckill.Taken) {
	m.item(t.Hold.Item).rows[t.Ref.Shard].total -= int64(t.Hold.Quantity)
	m.holds[t.Hold.ID] = modelHold{t.Hold, t.Ref.Shard, false}
	m.withdrawn(t.Ref.Shard, t.Hold, inventory.SettleSold)
}

func (m *model) withdraw(c seckill.StockChange, holds []seckill.Taken) (replayed bool, err error) {
	if replayed, err = m.once(c); replayed || err != nil {
		return replayed, err
	}
	for _, t := range holds {
		again, err := m.mayTake(t)
		if again {
			err = seckill.ErrKeyReused
		}
		if err != nil {
			return false, err
		}
	}
	for _, t := range holds {
		m.take(t)
	}
	m.item(c.Item).Quantity += c.Delta
	m.changes[c] = true
	return false, nil
}

func (m *model) moveUnits(t seckill.Taken, to inventory.ShardID) error {
	again, err := m.mayTake(t)
	if again || err != nil {
		return err
	}
	m.take(t)
	m.item(t.Hold.Item).rows[to].total += int64(t.Hold.Quantity)
	m.restocked(to, t.Hold.Item, t.Hold.ID, int64(t.Hold.Quantity))
	return nil
}

// snapshot returns the expected snapshot of the shard, and absorbs its stock changes.
func (m *model) snapshot(shard inventory.ShardID) snapshot {
	m.shards[shard].taken = m.shards[shard].epoch
	m.outbox = slices.DeleteFunc(m.outbox, func(row seckill.Outgoing) bool { return row.Ref.Shard == shard && row.Stock })
	var out snapshot
	for _, i := range m.items {
		if row := i.rows[shard]; row != nil {
			out.Items = append(out.Items, inventory.Stocked{
				Item: i.ID, Total: row.total, Available: row.total - m.used(i.key(shard)),
				Sold: m.units(i.ID, onShard(shard), seckill.UnitsSold),
			})
		}
	}
	states := map[seckill.UnitState]inventory.State{
		seckill.UnitsOpen: inventory.Ordered, seckill.UnitsParked: inventory.Ordered,
		seckill.UnitsSold: inventory.Sold, seckill.UnitsVoid: inventory.Void,
	}
	for _, o := range m.orders {
		if o.Grant.Shard == shard {
			out.Entries = append(out.Entries, entry(o.Hold(), states[o.Units]))
		}
	}
	for _, h := range m.holds {
		switch {
		case h.shard != shard:
		case h.buried:
			out.Entries = append(out.Entries, entry(h.Hold, inventory.Void))
		default:
			out.Entries = append(out.Entries, entry(h.Hold, inventory.Sold))
		}
	}
	return out
}

// rows returns the expected outbox, in any order.
func (m *model) rows() []seckill.Outgoing {
	var out []seckill.Outgoing
	for _, row := range m.outbox {
		shard := m.shards[row.Ref.Shard]
		if row.Stock && shard.taken != shard.epoch {
			continue
		}
		row.Ref.Epoch = shard.epoch
		out = append(out, row)
	}
	return sortedRows(out)
}

func (m *model) books() []seckill.Book {
	var out []seckill.Book
	for _, i := range m.items {
		from := len(out)
		for shard, row := range i.rows {
			of := onShard(shard)
			b := seckill.Book{
				Item: i.ID, SKU: i.SKU, Shard: shard, Epoch: m.shards[shard].epoch, Published: true, Total: row.total,
				Skipped: row.skipped, Rejected: row.rejected, Open: m.units(i.ID, of, seckill.UnitsOpen),
				Sold: m.units(i.ID, of, seckill.UnitsSold), Parked: m.units(i.ID, of, seckill.UnitsParked),
			}
			for _, row := range m.outbox {
				switch {
				case row.Ref.Shard != shard || row.Restock.Item+row.Settlement.Item != i.ID:
				case row.Restock.Item != 0:
					b.PendingStock += row.Restock.Units
				case !row.Stock:
					b.PendingUnits += int64(row.Settlement.Quantity)
				case row.Settlement.Kind == inventory.SettleSold:
					b.PendingStock -= int64(row.Settlement.Quantity)
				}
			}
			out = append(out, b)
		}
		slices.SortFunc(out[from:], func(a, b seckill.Book) int { return cmp.Compare(a.Shard, b.Shard) })
	}
	return out
}

// sums returns the sums of a shard that the audit compares.
func (m *model) sums(shard inventory.ShardID) seckill.ShardSums {
	out := seckill.ShardSums{Ref: m.ref(shard)}
	for _, o := range m.orders {
		name := inventory.NameDigest(string(o.ID))
		switch {
		case o.Grant.Shard != shard:
		case o.Units == seckill.UnitsOpen || o.Units == seckill.UnitsParked:
			out.Open = out.Open.Add(name)
		case o.Units == seckill.UnitsSold:
			out.Sold = out.Sold.Add(name)
		}
	}
	for _, row := range m.outbox {
		if row.Ref.Shard == shard {
			out.Pending++
		}
	}
	return out
}

// shardRows returns the expected list of shards.
func (m *model) shardRows() []seckill.ShardRow {
	out := make([]seckill.ShardRow, Shards)
	for shard, at := range m.shards {
		out[shard] = seckill.ShardRow{Ref: m.ref(shard), NextEpoch: at.next, Suspect: at.suspect, Unloaded: at.taken < at.epoch}
	}
	return out
}

// nextEpoch gives out an epoch.
func (m *model) nextEpoch(shard inventory.ShardID, now time.Time) inventory.Epoch {
	at := m.shards[shard]
	at.next = max(at.next+1, at.epoch+1, inventory.Epoch(now.UnixMilli()))
	return at.next
}
