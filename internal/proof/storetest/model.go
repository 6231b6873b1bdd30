package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"penstock/inventory"
	"penstock/seckill"
)

// model is what a store must be equal to: maps and loops, too simple to be wrong. It keeps no counts but adds the orders up
// whenever one is asked for.
type model struct {
	items    []*modelItem
	orders   map[seckill.OrderID]seckill.Order
	payments map[seckill.PaymentID]seckill.Payment
	outbox   []seckill.Outgoing
	changes  map[seckill.StockChange]bool // that were made
	taken    map[string]int               // withdrawals' holds that were committed
	buried   map[string]int               // and those that were buried
}

type modelItem struct {
	seckill.Item
	next              inventory.Epoch
	skipped, rejected int64
}

func newModel(items []seckill.Item) *model {
	m := &model{
		orders: make(map[seckill.OrderID]seckill.Order), payments: make(map[seckill.PaymentID]seckill.Payment),
		changes: make(map[seckill.StockChange]bool), taken: make(map[string]int), buried: make(map[string]int),
	}
	for _, item := range items {
		m.items = append(m.items, &modelItem{Item: item, next: item.Epoch})
	}
	return m
}

// units adds up the units of an item's orders in a state, of one buyer or of all ("").
func (m *model) units(item inventory.ItemID, buyer seckill.UserID, states ...seckill.UnitState) (sum int64) {
	for _, o := range m.orders {
		if o.Item == item && (buyer == "" || o.User == buyer) && slices.Contains(states, o.Units) {
			sum += int64(o.Quantity)
		}
	}
	return sum
}

func (m *model) used(i *modelItem) int64 {
	return m.units(i.ID, "", seckill.UnitsOpen, seckill.UnitsSold)
}

// accept says what becomes of a record.
func (m *model) accept(i *modelItem, r seckill.Record, now time.Time) seckill.Acceptance {
	if o, ok := m.orders[r.Order]; ok {
		return seckill.Acceptance{Outcome: exists, Order: o, Epoch: i.Epoch}
	}
	if r.Grant.Epoch != i.Epoch {
		if r.Grant.Epoch < i.Epoch {
			i.skipped++
			return seckill.Acceptance{Outcome: skipped, Epoch: i.Epoch}
		}
		return seckill.Acceptance{Outcome: unfit, Epoch: i.Epoch}
	}
	o := seckill.Order{
		ID: r.Order, Item: i.ID, Caller: r.Caller, Activity: r.Activity, SKU: r.SKU, User: r.User, Quantity: r.Quantity, Amount: r.Amount,
		State: seckill.OrderPending, Units: seckill.UnitsOpen, CreatedAt: now, UpdatedAt: now, PayBy: now.Add(window), Grant: r.Grant,
	}
	outcome := opened
	switch {
	case m.used(i)+int64(r.Quantity) > i.Quantity:
		outcome, o.Reason = rejected, seckill.ReasonSoldOut
	case i.PerUser > 0 && m.units(i.ID, r.User, seckill.UnitsOpen, seckill.UnitsSold)+int64(r.Quantity) > int64(i.PerUser):
		outcome, o.Reason = rejected, seckill.ReasonPurchaseLimit
	}
	if outcome == rejected {
		o.State, o.Units = seckill.OrderRejected, seckill.UnitsVoid
		i.rejected++
		m.settle(o, inventory.SettleVoid)
	}
	m.orders[o.ID] = o
	return seckill.Acceptance{Outcome: outcome, Order: o, Epoch: i.Epoch}
}

func (m *model) settle(o seckill.Order, kind inventory.Kind) {
	m.outbox = append(m.outbox, settlement(inventory.Ref{Item: o.Item}, o, kind))
}

// end ends an open order and reports whether it was one.
func (m *model) end(id seckill.OrderID, state seckill.OrderState, reason seckill.Reason, now time.Time) bool {
	o, ok := m.orders[id]
	if !ok || o.State != seckill.OrderPending {
		return false
	}
	kind := inventory.SettleVoid
	o.State, o.Reason, o.UpdatedAt, o.Units = state, reason, now, seckill.UnitsVoid
	if state == seckill.OrderPaid {
		kind, o.Units = inventory.SettleSold, seckill.UnitsSold
	}
	m.orders[id] = o
	m.settle(o, kind)
	return true
}

func (m *model) pay(p seckill.Payment, now time.Time) seckill.PaymentResult {
	o, ok := m.orders[p.Order]
	if !ok || p.Merchant != merchant {
		return seckill.PaymentResult{Verdict: seckill.PaymentNoOrder}
	}
	if earlier, ok := m.payments[p.ID]; ok {
		if earlier == p {
			return seckill.PaymentResult{Verdict: seckill.PaymentAgain, Order: o}
		}
		return seckill.PaymentResult{Verdict: seckill.PaymentOtherContent, Order: o}
	}
	if o.Reason != seckill.ReasonNotAccepted && p.Amount != o.Amount {
		return seckill.PaymentResult{Verdict: seckill.PaymentMismatch, Order: o}
	}
	m.payments[p.ID] = p
	if m.end(p.Order, seckill.OrderPaid, "", now) {
		return seckill.PaymentResult{Verdict: seckill.PaymentBooked, Order: m.orders[p.Order]}
	}
	if o.State == seckill.OrderCancelled || o.State == seckill.OrderRejected {
		o.State, o.UpdatedAt = seckill.OrderRefundDue, now
		m.orders[o.ID] = o
	}
	return seckill.PaymentResult{Verdict: seckill.PaymentLate, Order: o}
}

// bury reports whether the hold's order exists.
func (m *model) bury(i *modelItem, h inventory.Hold, now time.Time) bool {
	if seckill.IsWithdrawal(h.ID) {
		_, taken := m.taken[h.ID]
		if _, buried := m.buried[h.ID]; !taken && !buried {
			m.buried[h.ID] = h.Quantity
			m.outbox = append(m.outbox, withdrawalRow(i.ID, h, inventory.SettleVoid))
		}
		return taken
	}
	if o, ok := m.orders[seckill.OrderID(h.ID)]; ok {
		return o.Reason != seckill.ReasonNotAccepted
	}
	o := seckill.Order{
		ID: seckill.OrderID(h.ID), Item: i.ID, Caller: seckill.CallerRef{Merchant: merchant}, Activity: activity, SKU: i.SKU,
		User: seckill.UserID(h.Buyer), Quantity: h.Quantity, State: seckill.OrderCancelled, Reason: seckill.ReasonNotAccepted,
		Units: seckill.UnitsVoid, CreatedAt: now, UpdatedAt: now, PayBy: now,
	}
	m.orders[o.ID] = o
	m.settle(o, inventory.SettleVoid)
	return false
}

func withdrawalRow(item inventory.ItemID, h inventory.Hold, kind inventory.Kind) seckill.Outgoing {
	return seckill.Outgoing{Ref: inventory.Ref{Item: item}, Settlement: inventory.Settlement{Hold: h, Kind: kind}}
}

// change makes a restock or a withdrawal. replayed says that it was made before, err what is against it.
func (m *model) change(i *modelItem, epoch inventory.Epoch, c seckill.StockChange) (replayed bool, err error) {
	if m.changes[c] {
		return true, nil
	}
	for made := range m.changes {
		if made.Item == c.Item && made.Key == c.Key {
			return false, seckill.ErrKeyReused
		}
	}
	if c.Delta > 0 {
		m.outbox = append(m.outbox, seckill.Outgoing{Ref: inventory.Ref{Item: i.ID}, RestockID: c.Key, Restock: int(c.Delta)})
	} else {
		hold := inventory.Hold{ID: seckill.NewWithdrawalID(i.ID, c.Key), Quantity: int(-c.Delta)}
		if epoch != i.Epoch {
			return false, seckill.ErrFenced
		}
		if _, buried := m.buried[hold.ID]; buried {
			return false, seckill.ErrNotFound
		}
		if i.Quantity+c.Delta < m.used(i) {
			return false, seckill.ErrTooLow
		}
		m.taken[hold.ID] = hold.Quantity
		m.outbox = append(m.outbox, withdrawalRow(i.ID, hold, inventory.SettleSold))
	}
	i.Quantity += c.Delta
	m.changes[c] = true
	return false, nil
}

// fence returns the item as a snapshot of it must be.
func (m *model) fence(i *modelItem, epoch inventory.Epoch) seckill.StockSnapshot {
	if epoch > i.Epoch {
		i.Epoch, i.Suspect = epoch, false
	}
	m.outbox = slices.DeleteFunc(m.outbox, func(row seckill.Outgoing) bool {
		return row.Ref.Item == i.ID && (row.Restock > 0 || seckill.IsWithdrawal(row.Settlement.ID))
	})
	out := seckill.StockSnapshot{
		Total: i.Quantity, Open: m.units(i.ID, "", seckill.UnitsOpen), Sold: m.units(i.ID, "", seckill.UnitsSold),
	}
	states := map[seckill.UnitState]inventory.State{
		seckill.UnitsOpen: inventory.Ordered, seckill.UnitsSold: inventory.Sold, seckill.UnitsVoid: inventory.Void,
	}
	for _, o := range m.orders {
		if o.Item == i.ID {
			out.Entries = append(out.Entries, entry(o.Hold(), states[o.Units]))
		}
	}
	for k := range modelKeys {
		hold := seckill.NewWithdrawalID(i.ID, fmt.Sprint(k))
		if n, ok := m.taken[hold]; ok {
			out.Entries = append(out.Entries, entry(inventory.Hold{ID: hold, Quantity: n}, inventory.Sold))
		}
		if n, ok := m.buried[hold]; ok {
			out.Entries = append(out.Entries, entry(inventory.Hold{ID: hold, Quantity: n}, inventory.Void))
		}
	}
	return out
}

// rows returns the outbox as a relay must see it, in some order.
func (m *model) rows() []seckill.Outgoing {
	out := slices.Clone(m.outbox)
	for k := range out {
		for _, i := range m.items {
			if i.ID == out[k].Ref.Item {
				out[k].Ref.Epoch = i.Epoch
			}
		}
	}
	return sortedRows(out)
}

func sortedRows(rows []seckill.Outgoing) []seckill.Outgoing {
	slices.SortFunc(rows, func(a, b seckill.Outgoing) int {
		return cmp.Or(cmp.Compare(a.Ref.Item, b.Ref.Item), cmp.Compare(a.Settlement.ID, b.Settlement.ID), cmp.Compare(a.RestockID, b.RestockID))
	})
	return rows
}

func (m *model) books() []seckill.Book {
	var out []seckill.Book
	for _, i := range m.items {
		b := seckill.Book{
			Item: i.ID, SKU: i.SKU, Epoch: i.Epoch, Total: i.Quantity, Skipped: i.skipped, Rejected: i.rejected,
			Open: m.units(i.ID, "", seckill.UnitsOpen), Sold: m.units(i.ID, "", seckill.UnitsSold),
		}
		for _, row := range m.outbox {
			switch {
			case row.Ref.Item != i.ID:
			case row.Restock > 0:
				b.PendingStock += int64(row.Restock)
			case !seckill.IsWithdrawal(row.Settlement.ID):
				b.PendingUnits += int64(row.Settlement.Quantity)
			case row.Settlement.Kind == inventory.SettleSold:
				b.PendingStock -= int64(row.Settlement.Quantity)
			}
		}
		out = append(out, b)
	}
	return out
}

// The world of the random sequences is small, so that its inhabitants meet.
const (
	modelUsers = 3
	modelKeys  = 3
)

// modelRun is one random sequence: a store, its model, and what the store's relay has delivered.
type modelRun struct {
	*shop
	model     *model
	delivered map[string]int // settlements by hold
}

// exerciseModel compares the store with the model after every step of random sequences. A failure is shrunk, and printed with
// the flag that repeats it.
func exerciseModel(t *testing.T, open Open) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newShop(t, open, goods{"phone-x", 6, 3}, goods{"phone-y", 4, 0})
		s.t = rt
		defer func() {
			if err := s.store.Close(); err != nil {
				rt.Error(err)
			}
		}()
		r := &modelRun{shop: s, model: newModel(s.items), delivered: make(map[string]int)}
		rt.Repeat(map[string]func(*rapid.T){
			"":         r.compare,
			"accept":   r.accept,
			"accept ":  r.accept, // twice as often
			"cancel":   r.cancel,
			"pay":      r.pay,
			"time out": r.timeOut,
			"bury":     r.bury,
			"fence":    r.fence,
			"change":   r.change,
			"relay":    r.relay,
			"suspect":  r.suspect,
		})
	})
}

// compare looks at everything a store shows.
func (r *modelRun) compare(*rapid.T) {
	var ids []seckill.OrderID
	var want []seckill.Order
	for i := range r.items {
		for u := range modelUsers {
			for k := range modelKeys {
				id := r.record(i, user(u), fmt.Sprint(k), 1).Order
				ids, want = append(ids, id), append(want, r.model.orders[id])
			}
		}
	}
	orders, err := r.store.FindOrders(r.ctx, ids)
	r.must(err)
	equal(r.shop, "orders", orders, want)
	books, err := r.store.Books(r.ctx, activity)
	r.must(err)
	equal(r.shop, "books", books, r.model.books())
	rows := r.outbox()
	equal(r.shop, "outbox", sortedRows(slices.Clone(rows)), r.model.rows())
	r.reload()
	for i, item := range r.model.items {
		equal(r.shop, "item in the catalog", r.items[i], item.Item)
	}
	r.laws(orders, books, rows)
}

// laws holds what the store shows against the laws, without the model.
func (r *modelRun) laws(orders []seckill.Order, books []seckill.Book, rows []seckill.Outgoing) {
	for _, b := range books {
		if b.Open < 0 || b.Sold < 0 || b.Open+b.Sold > b.Total {
			r.t.Fatalf("L1 broken: %+v", b)
		}
	}
	bought := make(map[seckill.BuyerKey]int)
	pending := make(map[string]int)
	for _, row := range rows {
		pending[row.Settlement.ID]++
	}
	for _, o := range orders {
		if o.ID == "" {
			continue
		}
		ended := 1
		if o.Units == seckill.UnitsOpen {
			ended = 0
		}
		if n := pending[string(o.ID)] + r.delivered[string(o.ID)]; n != ended {
			r.t.Fatalf("L4 broken: order %s, units %s, has left %d settlements", o.ID, o.Units, n)
		}
		if o.Units == seckill.UnitsVoid {
			continue
		}
		key := seckill.BuyerKey{Item: o.Item, User: o.User}
		if bought[key] += o.Quantity; o.Item == r.item(0) && bought[key] > r.items[0].PerUser {
			r.t.Fatalf("L5 broken: buyer %s has %d units of %d", o.User, bought[key], r.items[0].PerUser)
		}
	}
}

// pick draws an item and its place.
func (r *modelRun) pick(t *rapid.T) (int, *modelItem) {
	i := rapid.IntRange(0, len(r.items)-1).Draw(t, "item")
	return i, r.model.items[i]
}

// epochNear draws the item's epoch, mostly, or one beside it.
func epochNear(t *rapid.T, i *modelItem) inventory.Epoch {
	return inventory.Epoch(max(0, int(i.Epoch)+rapid.SampledFrom([]int{0, 0, 0, 0, -1, 1}).Draw(t, "epoch")))
}

func (r *modelRun) drawRecord(t *rapid.T) (seckill.Record, *modelItem) {
	i, item := r.pick(t)
	u, k := rapid.IntRange(0, modelUsers-1).Draw(t, "user"), rapid.IntRange(0, modelKeys-1).Draw(t, "key")
	return r.recordAt(i, epochNear(t, item), user(u), fmt.Sprint(k), rapid.IntRange(1, 3).Draw(t, "quantity")), item
}

func (r *modelRun) accept(t *rapid.T) {
	r.clock.advance(time.Microsecond)
	var records []seckill.Record
	var want []seckill.Acceptance
	for range rapid.IntRange(1, 6).Draw(t, "records") {
		record, item := r.drawRecord(t)
		records = append(records, record)
		want = append(want, r.model.accept(item, record, r.clock.read()))
	}
	got, err := r.store.Accept(r.ctx, records)
	r.must(err)
	equal(r.shop, "acceptances", got, want)
}

func (r *modelRun) cancel(t *rapid.T) {
	r.clock.advance(time.Microsecond)
	var ids []seckill.OrderID
	var want []seckill.Moved
	for range rapid.IntRange(1, 4).Draw(t, "orders") {
		record, _ := r.drawRecord(t)
		ids = append(ids, record.Order)
		now := r.model.end(record.Order, seckill.OrderCancelled, seckill.ReasonBuyer, r.clock.read())
		want = append(want, seckill.Moved{Order: r.model.orders[record.Order], Now: now})
	}
	got, err := r.store.Cancel(r.ctx, ids)
	r.must(err)
	equal(r.shop, "moved", got, want)
}

func (r *modelRun) pay(t *rapid.T) {
	r.clock.advance(time.Microsecond)
	var payments []seckill.Payment
	var want []seckill.PaymentResult
	for range rapid.IntRange(1, 4).Draw(t, "payments") {
		record, _ := r.drawRecord(t)
		p := seckill.Payment{Merchant: merchant, ID: seckill.PaymentID(fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "payment"))), Order: record.Order}
		p.Amount = record.Amount // of some quantity, so often a wrong one
		if rapid.IntRange(0, 9).Draw(t, "whose") == 0 {
			p.Merchant = "m2"
		}
		if o, ok := r.model.orders[p.Order]; ok && rapid.Bool().Draw(t, "right amount") {
			p.Amount = o.Amount
		}
		payments, want = append(payments, p), append(want, r.model.pay(p, r.clock.read()))
	}
	got, err := r.store.Pay(r.ctx, payments)
	r.must(err)
	equal(r.shop, "results", got, want)
}

// timeOut lets the store choose among orders of the same age, and checks that it took none before an older one.
func (r *modelRun) timeOut(t *rapid.T) {
	r.clock.advance(time.Duration(rapid.IntRange(0, 12).Draw(t, "minutes")) * time.Minute)
	limit := rapid.IntRange(1, 4).Draw(t, "limit")
	var due []seckill.Order
	for _, o := range r.model.orders {
		if o.State == seckill.OrderPending && o.PayBy.Before(r.clock.read()) {
			due = append(due, o)
		}
	}
	slices.SortFunc(due, func(a, b seckill.Order) int { return a.PayBy.Compare(b.PayBy) })
	n, err := r.store.TimeOut(r.ctx, limit)
	r.must(err)
	equal(r.shop, "timed out", n, min(limit, len(due)))
	moved := 0
	for _, o := range due {
		if r.find(o.ID).State != seckill.OrderCancelled {
			continue
		}
		if o.PayBy.After(due[n-1].PayBy) {
			r.t.Fatalf("%s was timed out before an older one", o.ID)
		}
		r.model.end(o.ID, seckill.OrderCancelled, seckill.ReasonPaymentTimeout, r.clock.read())
		moved++
	}
	equal(r.shop, "orders that moved", moved, n)
}

func (r *modelRun) bury(t *rapid.T) {
	r.clock.advance(time.Microsecond)
	i, item := r.pick(t)
	epoch := epochNear(t, item)
	var holds []inventory.Hold
	want := []bool{}
	for range rapid.IntRange(1, 4).Draw(t, "holds") {
		k := fmt.Sprint(rapid.IntRange(0, modelKeys-1).Draw(t, "key"))
		h := inventory.Hold{ID: seckill.NewWithdrawalID(item.ID, k), Quantity: 2}
		if rapid.Bool().Draw(t, "an order's") {
			h = r.hold(i, user(rapid.IntRange(0, modelUsers-1).Draw(t, "user")), k, 2)
		}
		holds = append(holds, h)
		if epoch == item.Epoch {
			want = append(want, r.model.bury(item, h, r.clock.read()))
		}
	}
	got, err := r.store.Bury(r.ctx, inventory.Ref{Item: item.ID, Epoch: epoch}, holds)
	if epoch != item.Epoch {
		r.wants(err, seckill.ErrFenced)
		return
	}
	r.must(err)
	equal(r.shop, "orders exist", got, want)
}

func (r *modelRun) fence(t *rapid.T) {
	_, item := r.pick(t)
	epoch := inventory.Epoch(rapid.IntRange(0, int(item.Epoch)).Draw(t, "epoch"))
	if rapid.IntRange(0, 3).Draw(t, "new") > 0 {
		item.next++
		next, err := r.store.NextEpoch(r.ctx, item.ID)
		r.must(err)
		equal(r.shop, "next epoch", next, item.next)
		if rapid.IntRange(0, 3).Draw(t, "crash") == 0 {
			return // the rebuilder died with its epoch
		}
		epoch = next
	}
	got, err := r.store.Fence(r.ctx, inventory.Ref{Item: item.ID, Epoch: epoch})
	if epoch < item.Epoch {
		r.wants(err, seckill.ErrFenced)
		return
	}
	r.must(err)
	r.must(checkSnapshot(got))
	equal(r.shop, "snapshot", sorted(got), sorted(r.model.fence(item, epoch)))
}

func (r *modelRun) change(t *rapid.T) {
	_, item := r.pick(t)
	epoch := epochNear(t, item)
	c := seckill.StockChange{
		Item: item.ID, Key: fmt.Sprint(rapid.IntRange(0, modelKeys-1).Draw(t, "key")),
		Delta: rapid.SampledFrom([]int64{1, 2, -1, -2, -5}).Draw(t, "delta"),
	}
	replayed, refused := r.model.change(item, epoch, c)
	var total int64
	var again bool
	var err error
	if c.Delta > 0 {
		total, again, err = r.store.Restock(r.ctx, c, author)
	} else {
		ref := inventory.Ref{Item: item.ID, Epoch: epoch}
		total, again, err = r.store.Withdraw(r.ctx, ref, seckill.NewWithdrawalID(item.ID, c.Key), c, author)
	}
	if refused != nil {
		r.wants(err, refused)
		return
	}
	r.must(err)
	equal(r.shop, "stock change", []any{total, again}, []any{item.Quantity, replayed})
}

func (r *modelRun) relay(t *rapid.T) {
	limit := rapid.IntRange(1, 5).Draw(t, "limit")
	_, err := r.store.Relay(r.ctx, 0, limit, func(_ context.Context, rows []seckill.Outgoing) []int {
		equal(r.shop, "rows handed out", len(rows), min(limit, len(r.model.outbox)))
		var delivered []int
		for k, row := range rows {
			if rapid.Bool().Draw(t, "lost") {
				continue
			}
			delivered = append(delivered, k)
			if row.Restock == 0 {
				r.delivered[row.Settlement.ID]++
			}
			row.Ref.Epoch = 0
			at := slices.Index(r.model.outbox, row)
			if at < 0 {
				r.t.Fatalf("row %+v is not in the model's outbox", row)
			}
			r.model.outbox = slices.Delete(r.model.outbox, at, at+1)
		}
		return delivered
	})
	r.must(err)
}

func (r *modelRun) suspect(t *rapid.T) {
	_, item := r.pick(t)
	epoch := epochNear(t, item)
	item.Suspect = item.Suspect || epoch == item.Epoch
	r.must(r.store.MarkSuspect(r.ctx, inventory.Ref{Item: item.ID, Epoch: epoch}))
}
