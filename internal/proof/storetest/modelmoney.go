package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock/penstock/seckill"
)

// applyEarly applies the early payments whose orders have rows that are free, and returns how many.
func (m *model) applyEarly(now time.Time) (n int) {
	for _, k := range m.kept(seckill.PaymentStateEarly) {
		o, ok := m.orders[k.Order]
		if ok && o.State != seckill.OrderParked && m.pay(k.Payment, now).Verdict != seckill.PaymentLocked {
			n++
		}
	}
	return n
}

// kept returns the payments in some states, in the order in which early ones are applied.
func (m *model) kept(states ...seckill.PaymentState) []seckill.KeptPayment {
	var out []seckill.KeptPayment
	for _, k := range m.payments {
		if slices.Contains(states, k.State) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b seckill.KeptPayment) int {
		return cmp.Or(a.KeptAt.Compare(b.KeptAt), cmp.Compare(a.Merchant, b.Merchant), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func (m *model) settleRefund(r seckill.Refund, by seckill.Author, now time.Time) (k seckill.KeptPayment, o seckill.Order, err error) {
	k, ok := m.payments[seckill.PaymentKey{Merchant: r.Merchant, ID: r.Payment}]
	o = m.orders[k.Order]
	switch {
	case !ok:
		return k, o, seckill.ErrNotFound
	case k.State == seckill.PaymentStateDone:
		return k, o, seckill.ErrRefunded
	case k.State != seckill.PaymentStateDue:
		return k, o, seckill.ErrNotDue
	case r.Amount != nil && *r.Amount != k.Amount:
		return k, o, seckill.ErrRefundAmount
	}
	k.State, k.DoneAt, k.DoneBy, k.Reference = seckill.PaymentStateDone, now, by.Actor, r.Reference
	m.payments[k.Key()] = k
	if o.State == seckill.OrderRefundDue && !slices.ContainsFunc(m.kept(seckill.PaymentStateDue), func(other seckill.KeptPayment) bool {
		return other.Order == o.ID
	}) {
		o.State, o.UpdatedAt = seckill.OrderRefunded, now
		m.orders[o.ID] = o
	}
	return k, o, nil
}

// sums adds the refunds of a state up.
func (m *model) refundSums(state seckill.PaymentState) []seckill.RefundSum {
	type key struct {
		merchant seckill.MerchantID
		cause    seckill.RefundCause
		currency string
	}
	sums := make(map[key]*seckill.RefundSum)
	for _, k := range m.kept(state) {
		at := key{k.Merchant, k.Cause, k.Amount.Currency}
		if sums[at] == nil {
			sums[at] = &seckill.RefundSum{Merchant: k.Merchant, Cause: k.Cause, Amount: seckill.Money{Currency: k.Amount.Currency}}
		}
		sums[at].Amount.Minor += k.Amount.Minor
		sums[at].Count++
	}
	var out []seckill.RefundSum
	for _, sum := range sums {
		out = append(out, *sum)
	}
	slices.SortFunc(out, func(a, b seckill.RefundSum) int {
		return cmp.Or(cmp.Compare(a.Merchant, b.Merchant), cmp.Compare(a.Cause, b.Cause), cmp.Compare(a.Amount.Currency, b.Amount.Currency))
	})
	return out
}

// statement adds up the payments and refunds in [from, to).
func (m *model) statement(from, to time.Time) []seckill.StatementRow {
	var s seckill.Statement
	add := func(at time.Time, a seckill.ActivityID, sku seckill.SKU, amount seckill.Money, what string, units int) {
		if at.Before(from) || !at.Before(to) {
			return
		}
		line := seckill.StatementRow{Day: at.UTC().Format(time.DateOnly), Activity: a, SKU: sku, Currency: amount.Currency}
		s.Add(line, what, seckill.Tally{Count: 1, Units: int64(units), Amount: amount.Minor})
	}
	for _, o := range m.orders {
		cancelled := o.Reason == seckill.ReasonBuyer || o.Reason == seckill.ReasonPaymentTimeout
		if o.Units == seckill.UnitsSold || o.Units == seckill.UnitsVoid && cancelled {
			add(o.EndedAt, o.Activity, o.SKU, o.Amount, string(o.Units), o.Quantity)
		}
	}
	for _, k := range m.kept(seckill.PaymentStateDue) {
		add(k.KeptAt, k.Activity, k.SKU, k.Amount, string(k.State), 0)
	}
	for _, k := range m.kept(seckill.PaymentStateDone) {
		add(k.DoneAt, k.Activity, k.SKU, k.Amount, string(k.State), 0)
	}
	return s.Lines()
}

// search returns the orders that a query finds.
func (m *model) search(q seckill.OrderQuery) []seckill.Order {
	var out []seckill.Order
	for _, o := range m.orders {
		if q.Fits(&o) && (q.Before == (seckill.OrderMark{}) || o.Mark().Compare(q.Before) > 0) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b seckill.Order) int { return a.Mark().Compare(b.Mark()) })
	return out[:min(len(out), q.Limit)]
}

func (r *modelRun) applyEarly(*rapid.T) {
	r.clock.advance(time.Microsecond)
	n, err := r.store.ApplyEarly(r.ctx, 100)
	r.must(err)
	equal(r.shop, "early payments applied", n, r.model.applyEarly(r.clock.read()))
}

func (r *modelRun) refund(t *rapid.T) {
	r.clock.advance(time.Microsecond)
	refund := seckill.Refund{
		Merchant: merchant, Payment: seckill.PaymentID(fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "payment"))), Reference: "ref",
	}
	if rapid.IntRange(0, 3).Draw(t, "of an amount") == 0 {
		refund.Amount = &seckill.Money{Minor: price.Minor * int64(rapid.IntRange(1, 3).Draw(t, "units")), Currency: price.Currency}
	}
	k, ok := r.model.payments[seckill.PaymentKey{Merchant: merchant, ID: refund.Payment}]
	if o := r.model.orders[k.Order]; ok && r.model.held(&o) && k.State == seckill.PaymentStateDue {
		return // a store may refuse that or not, because the order doesn't move
	}
	kept, order, err := r.store.SettleRefund(r.ctx, refund, author)
	wantKept, wantOrder, refused := r.model.settleRefund(refund, author, r.clock.read())
	if refused != nil {
		if !errors.Is(err, refused) {
			r.t.Fatalf("refund %+v of %+v: %v, want %v", refund, k, err, refused)
		}
		return
	}
	r.must(err)
	equal(r.shop, "refunded payment", kept, wantKept)
	equal(r.shop, "its order", order, wantOrder)
}

func (r *modelRun) extend(t *rapid.T) {
	r.clock.advance(time.Microsecond)
	by := time.Duration(rapid.IntRange(1, 5).Draw(t, "minutes")) * time.Minute
	n, err := r.store.ExtendOrders(r.ctx, activity, by, author)
	r.must(err)
	want := int64(0)
	for id, o := range r.model.orders {
		if o.State == seckill.OrderPending {
			o.PayBy, o.UpdatedAt = o.PayBy.Add(by), r.clock.read()
			r.model.orders[id] = o
			want++
		}
	}
	equal(r.shop, "orders extended", n, want)
}

// compareMoney compares the payments that a store shows.
func (r *modelRun) compareMoney() {
	for _, state := range []seckill.PaymentState{seckill.PaymentStateDue, seckill.PaymentStateDone} {
		want := r.model.kept(state)
		slices.Reverse(want)
		got, err := r.store.Refunds(r.ctx, seckill.RefundQuery{State: state, Merchant: merchant, Limit: 1000})
		r.must(err)
		equal(r.shop, "refunds", got, want)
		sums, err := r.store.RefundSums(r.ctx, state, "")
		r.must(err)
		equal(r.shop, "sums of refunds", sums, r.model.refundSums(state))
	}
	var all []seckill.KeptPayment
	for i := range 10 {
		found, err := r.store.FindPayments(r.ctx, "", seckill.PaymentID(fmt.Sprint(i)))
		r.must(err)
		all = append(all, found...)
	}
	equal(r.shop, "payments", len(all), len(r.model.payments))
	for _, k := range all {
		equal(r.shop, "payment", k, r.model.payments[k.Key()])
	}
}

// statement compares a statement with the model's, and its sold units with the ledger.
func (r *modelRun) statement(t *rapid.T) {
	from := r.clock.read().Add(-time.Duration(rapid.IntRange(0, 120).Draw(t, "minutes")) * time.Minute)
	to := r.clock.read().Add(time.Microsecond)
	got, err := r.store.Statement(r.ctx, merchant, from, to)
	r.must(err)
	equal(r.shop, "statement", got, r.model.statement(from, to))

	whole, err := r.store.Statement(r.ctx, merchant, time.Unix(0, 0), to)
	r.must(err)
	sold, due := make(map[seckill.SKU]int64), int64(0)
	for _, line := range whole {
		sold[line.SKU] += line.Sold.Units
		due += line.RefundDue.Amount
	}
	books, err := r.store.ActivityBooks(r.ctx, activity)
	r.must(err)
	for _, b := range books {
		sold[b.SKU] -= b.Sold
	}
	sums, err := r.store.RefundSums(r.ctx, seckill.PaymentStateDue, merchant)
	r.must(err)
	for _, sum := range sums {
		due -= sum.Amount.Minor
	}
	for sku, units := range sold {
		if units != 0 {
			r.t.Fatalf("the statement says %+d units of %s more than the ledger", units, sku)
		}
	}
	equal(r.shop, "money due by the statement, less by the refunds", due, 0)
}

// search asks for orders by some of the possible criteria, page by page.
func (r *modelRun) search(t *rapid.T) {
	q := seckill.OrderQuery{Activities: []seckill.ActivityID{activity, "none"}, Limit: rapid.IntRange(1, 4).Draw(t, "limit")}
	asked := func(what string) bool { return rapid.IntRange(0, 2).Draw(t, what) == 0 }
	if asked("by user") {
		q.User = user(rapid.IntRange(0, modelUsers-1).Draw(t, "user"))
	}
	if asked("by request") {
		q.Request = fmt.Sprint("req-", rapid.IntRange(0, modelKeys-1).Draw(t, "key"))
	}
	if asked("by caller") {
		q.Caller = caller.Caller
	}
	if asked("by merchant") {
		q.Merchant = merchant
	}
	if asked("by activity") {
		q.Activity = activity
	}
	if asked("by sku") {
		q.SKU = rapid.SampledFrom(r.items).Draw(t, "item").SKU
	}
	if asked("by state") {
		q.State = rapid.SampledFrom(seckill.OrderStates()).Draw(t, "state")
	}
	if asked("from") {
		q.From = r.clock.read().Add(-time.Duration(rapid.IntRange(0, 20).Draw(t, "minutes")) * time.Minute)
	}
	if asked("to") {
		q.To = r.clock.read().Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "minutes")) * time.Minute)
	}
	for {
		got, err := r.store.SearchOrders(r.ctx, q)
		r.must(err)
		equal(r.shop, fmt.Sprintf("orders of %+v", q), got, r.model.search(q))
		if len(got) < q.Limit {
			return
		}
		q.Before = got[len(got)-1].Mark()
	}
}
