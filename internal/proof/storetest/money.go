package storetest

import (
	"fmt"
	"time"

	"github.com/penstock/penstock/seckill"
)

func moneyCases() []testCase {
	return []testCase{
		selling("EveryPaymentThatGoesBackIsOneRefund", refundsOfAllCauses),
		selling("SettleRefund_MakesTheOrderRefunded", refundMakesRefunded),
		selling("SettleRefund_WaitsForAllPaymentsOfTheOrder", refundOfSeveral),
		selling("SettleRefund_RefusesWhatIsNotDue", refundRefused),
		selling("SettleRefund_RemembersARefundedOrderThatIsPaidAgain", refundedAndPaidAgain),
		selling("TestL4_TwoWhoSettleOneRefund", refundTogether),
		selling("Early_IsAppliedWhenTheOrderHasARow", earlyApplied),
		selling("Early_OfAnOrderThatNeverWas", earlyBuried),
		selling("Early_IsOnePaymentHoweverOftenItComes", earlyAgain),
		selling("Refused_NoticesAreKeptAndCounted", refusedKept),
		selling("TimeOut_LeavesHeldActivities", timeOutHeld),
		selling("Extend_MovesWhatIsOpen", extendOpen),
		selling("Extend_NoSuchActivity", extendNothing),
		selling("Trail_HasAllThatIsKept", trailOfAnOrder),
		selling("Search_PagesThroughOrdersOfOneMoment", searchOneMoment),
		selling("Refunds_PageByPage", refundPages),
		selling("Statement_SplitsDays", statementDays),
	}
}

// payment returns the payment with an id.
func (s *shop) payment(id seckill.PaymentID) seckill.KeptPayment {
	s.t.Helper()
	found, err := s.store.FindPayments(s.ctx, merchant, id)
	s.must(err)
	if len(found) != 1 {
		s.t.Fatalf("payment %s: %+v", id, found)
	}
	return found[0]
}

// refund settles the refund of a payment.
func (s *shop) refund(id seckill.PaymentID) (seckill.KeptPayment, seckill.Order) {
	s.t.Helper()
	k, o, err := s.store.SettleRefund(s.ctx, seckill.Refund{Merchant: merchant, Payment: id, Reference: "re-" + string(id)}, author)
	s.must(err)
	return k, o
}

func (s *shop) refunds(state seckill.PaymentState) []seckill.KeptPayment {
	s.t.Helper()
	got, err := s.store.Refunds(s.ctx, seckill.RefundQuery{State: state, Limit: 100})
	s.must(err)
	return got
}

// wrongly pays one yuan more than an order costs.
func (s *shop) wrongly(o seckill.Order, id seckill.PaymentID) {
	s.t.Helper()
	p := paymentOf(o, id)
	p.Amount.Minor += 100
	s.notice(seckill.PaymentMismatch, p)
}

func refundsOfAllCauses(s *shop) {
	paid, given := s.order(0, "u-1", "k", 1), s.cancel(s.order(0, "u-2", "k", 1))
	rejected := s.accept([]seckill.Outcome{seckill.OutcomeRejected}, s.promise(0, "u-3", "k", 9))[0].Order
	s.pay(seckill.PaymentBooked, paid, "p-1")
	var want []seckill.KeptPayment
	for _, c := range []struct {
		cause seckill.RefundCause
		order seckill.Order
	}{{seckill.CauseSecond, paid}, {seckill.CauseLate, given}, {seckill.CauseRejected, rejected}, {seckill.CauseWrongAmount, paid}} {
		s.clock.advance(time.Second)
		id := seckill.PaymentID("p-" + string(c.cause))
		k := seckill.KeptPayment{Payment: paymentOf(c.order, id), State: seckill.PaymentStateDue, Cause: c.cause, KeptAt: s.clock.read()}
		if c.cause == seckill.CauseWrongAmount {
			s.wrongly(c.order, id)
			k.Amount.Minor += 100
		} else {
			s.pay(seckill.PaymentLate, c.order, id)
		}
		want = append([]seckill.KeptPayment{k}, want...) // the last one first
	}
	equal(s, "refunds", s.refunds(seckill.PaymentStateDue), want)
	sums, err := s.store.RefundSums(s.ctx, seckill.PaymentStateDue, merchant)
	s.must(err)
	total := int64(0)
	for _, sum := range sums {
		total += sum.Amount.Minor
	}
	equal(s, "causes", len(sums), 4)
	equal(s, "sum due", total, paid.Amount.Minor*2+100+given.Amount.Minor+rejected.Amount.Minor)
	sums, err = s.store.RefundSums(s.ctx, seckill.PaymentStateDue, "m2")
	s.must(err)
	equal(s, "sums of another merchant", sums, nil)
}

func refundMakesRefunded(s *shop) {
	o := s.cancel(s.order(0, "u-1", "k", 1))
	due := s.pay(seckill.PaymentLate, o, "p-1")
	s.clock.advance(time.Hour)
	k, got := s.refund("p-1")
	due.State, due.UpdatedAt = seckill.OrderRefunded, s.clock.read()
	equal(s, "order", got, due)
	equal(s, "order as it is read", s.find(o.ID), due)
	equal(s, "payment", []any{k.State, k.DoneAt, k.DoneBy, k.Reference},
		[]any{seckill.PaymentStateDone, s.clock.read(), author.Actor, "re-p-1"})
	equal(s, "payment as it is read", s.payment("p-1"), k)
	equal(s, "due", s.refunds(seckill.PaymentStateDue), nil)
	equal(s, "done", s.refunds(seckill.PaymentStateDone), []seckill.KeptPayment{k})
	s.lastChange(seckill.ChangeRefund, "m1/p-1")
	s.pay(seckill.PaymentAgain, o, "p-1")
}

func refundOfSeveral(s *shop) {
	o := s.cancel(s.order(0, "u-1", "k", 1))
	s.pay(seckill.PaymentLate, o, "p-1")
	s.pay(seckill.PaymentLate, o, "p-2")
	s.wrongly(o, "p-3")
	for i, want := range []seckill.OrderState{seckill.OrderRefundDue, seckill.OrderRefundDue, seckill.OrderRefunded} {
		_, got := s.refund(seckill.PaymentID(fmt.Sprint("p-", i+1)))
		equal(s, "state", got.State, want)
	}

	// A paid order stays paid when its second payment went back.
	paid := s.order(0, "u-2", "k", 1)
	s.pay(seckill.PaymentBooked, paid, "p-4")
	s.pay(seckill.PaymentLate, paid, "p-5")
	_, got := s.refund("p-5")
	equal(s, "state of a paid order", got.State, seckill.OrderPaid)
}

func refundRefused(s *shop) {
	o := s.order(0, "u-1", "k", 1)
	settle := func(want error, r seckill.Refund) {
		s.t.Helper()
		changes := len(s.changes())
		_, _, err := s.store.SettleRefund(s.ctx, r, author)
		s.wants(err, want)
		equal(s, "number of changes", len(s.changes()), changes)
	}
	settle(seckill.ErrNotFound, seckill.Refund{Merchant: merchant, Payment: "p-1"})
	s.pay(seckill.PaymentBooked, o, "p-1")
	settle(seckill.ErrNotDue, seckill.Refund{Merchant: merchant, Payment: "p-1"})
	s.pay(seckill.PaymentLate, o, "p-2")
	settle(seckill.ErrNotFound, seckill.Refund{Merchant: "m2", Payment: "p-2"})
	for _, amount := range []seckill.Money{{Minor: o.Amount.Minor + 1, Currency: "CNY"}, {Minor: o.Amount.Minor, Currency: "USD"}} {
		settle(seckill.ErrRefundAmount, seckill.Refund{Merchant: merchant, Payment: "p-2", Amount: &amount})
	}
	_, _, err := s.store.SettleRefund(s.ctx, seckill.Refund{Merchant: merchant, Payment: "p-2", Amount: &o.Amount}, author)
	s.must(err)
	settle(seckill.ErrRefunded, seckill.Refund{Merchant: merchant, Payment: "p-2"})
}

func refundedAndPaidAgain(s *shop) {
	o := s.cancel(s.order(0, "u-1", "k", 1))
	s.pay(seckill.PaymentLate, o, "p-1")
	s.refund("p-1")
	equal(s, "state", s.pay(seckill.PaymentLate, o, "p-2").State, seckill.OrderRefundDue)
	equal(s, "cause", s.payment("p-2").Cause, seckill.CauseSecond)
	_, got := s.refund("p-2")
	equal(s, "state", got.State, seckill.OrderRefunded)
}

func refundTogether(s *shop) {
	s.pay(seckill.PaymentLate, s.cancel(s.order(0, "u-1", "k", 1)), "p-1")
	const clerks = 4
	errs := make(chan error, clerks)
	for range clerks {
		go func() {
			_, _, err := s.store.SettleRefund(s.ctx, seckill.Refund{Merchant: merchant, Payment: "p-1"}, author)
			errs <- err
		}()
	}
	done := 0
	for range clerks {
		if <-errs == nil {
			done++
		}
	}
	equal(s, "clerks that settled it", done, 1)
	equal(s, "state", s.payment("p-1").State, seckill.PaymentStateDone)
}

// early is a payment of a promise that has no row yet.
func (s *shop) early(r seckill.Promise, id seckill.PaymentID) seckill.Payment {
	return seckill.Payment{Merchant: merchant, ID: id, Order: r.Order, Amount: r.Amount, Activity: r.Activity, SKU: r.SKU, Queued: true}
}

// payEarly reports an early payment, and checks the verdict.
func (s *shop) payEarly(want seckill.PaymentVerdict, p seckill.Payment) {
	s.t.Helper()
	got, err := s.store.Pay(s.ctx, []seckill.Payment{p})
	s.must(err)
	equal(s, "verdict", got[0], seckill.PaymentResult{Verdict: want})
}

func (s *shop) applyEarly(want int) {
	s.t.Helper()
	n, err := s.store.ApplyEarly(s.ctx, 10)
	s.must(err)
	equal(s, "early payments applied", n, want)
}

func earlyApplied(s *shop) {
	r, parkedLater := s.promise(0, "u-1", "k", 1), s.unfit(0, "u-2", "k", 1)
	s.payEarly(seckill.PaymentEarly, s.early(r, "p-1"))
	s.payEarly(seckill.PaymentEarly, s.early(parkedLater, "p-2"))
	notice := s.clock.read()
	equal(s, "order", s.find(r.Order), seckill.Order{})
	s.applyEarly(0)
	s.clock.advance(time.Minute)
	s.accept([]seckill.Outcome{opened, parked}, r, parkedLater)
	s.applyEarly(1)
	o := s.find(r.Order)
	equal(s, "order", []any{o.State, o.Units, o.EndedAt}, []any{seckill.OrderPaid, seckill.UnitsSold, s.clock.read()})
	k := s.payment("p-1")
	equal(s, "payment", []any{k.State, k.KeptAt}, []any{seckill.PaymentStateBooked, notice})
	equal(s, "payment of the parked order", s.payment("p-2").State, seckill.PaymentStateEarly)
	s.applyEarly(0)
	s.pay(seckill.PaymentAgain, o, "p-1")

	// The notice may also come again by itself, when the order has its row.
	second := s.promise(0, "u-3", "k", 1)
	s.payEarly(seckill.PaymentEarly, s.early(second, "p-3"))
	s.accept([]seckill.Outcome{opened}, second)
	s.notice(seckill.PaymentBooked, s.early(second, "p-3"))
	s.applyEarly(0)
}

func earlyBuried(s *shop) {
	r := s.promise(0, "u-1", "k", 1)
	s.payEarly(seckill.PaymentEarly, s.early(r, "p-1"))
	s.bury(s.ref(0), []bool{false}, r.Hold())
	s.applyEarly(1)
	k := s.payment("p-1")
	equal(s, "payment", []any{k.State, k.Cause, k.SKU}, []any{seckill.PaymentStateDue, seckill.CauseLate, r.SKU})
	equal(s, "order", s.find(r.Order).State, seckill.OrderRefundDue)
}

func earlyAgain(s *shop) {
	r := s.promise(0, "u-1", "k", 1)
	p := s.early(r, "p-1")
	s.payEarly(seckill.PaymentEarly, p)
	s.payEarly(seckill.PaymentAgain, p)
	other := p
	other.Amount.Minor++
	s.payEarly(seckill.PaymentOtherContent, other)
	other = s.early(s.promise(0, "u-2", "k", 1), "p-1")
	s.payEarly(seckill.PaymentOtherContent, other)

	// Two payments come before the order. One pays it, the other must be refunded. A wrong amount
	// must be refunded, too.
	wrong := s.early(r, "p-3")
	wrong.Amount.Minor++
	s.clock.advance(time.Second)
	s.payEarly(seckill.PaymentEarly, s.early(r, "p-2"))
	s.payEarly(seckill.PaymentEarly, wrong)
	s.accept([]seckill.Outcome{opened}, r)
	s.applyEarly(3)
	equal(s, "states", []seckill.PaymentState{s.payment("p-1").State, s.payment("p-2").State, s.payment("p-3").State},
		[]seckill.PaymentState{seckill.PaymentStateBooked, seckill.PaymentStateDue, seckill.PaymentStateDue})
	equal(s, "causes", []seckill.RefundCause{s.payment("p-2").Cause, s.payment("p-3").Cause},
		[]seckill.RefundCause{seckill.CauseSecond, seckill.CauseWrongAmount})
	s.counts(0, 10, 0, 1)
}

func refusedKept(s *shop) {
	o := s.order(0, "u-1", "k", 1)
	s.pay(seckill.PaymentBooked, o, "p-1")
	wrong := paymentOf(o, "p-1")
	wrong.Amount.Minor++
	for range 3 {
		s.clock.advance(time.Second)
		s.notice(seckill.PaymentOtherContent, wrong)
	}
	s.must(s.store.RefusePayment(s.ctx, seckill.RefusedPayment{Payment: paymentOf(o, "p-9"), Problem: seckill.CodeInvalidSignature}))
	trail, err := s.store.OrderTrail(s.ctx, &o)
	s.must(err)
	equal(s, "refused notices", len(trail.Refused), 2)
	r := trail.Refused[0]
	equal(s, "the first", []any{r.ID, r.Amount, r.Problem, r.Count, r.At},
		[]any{wrong.ID, wrong.Amount, seckill.CodeKeyReused, 3, s.clock.read()})
	equal(s, "the second", []any{trail.Refused[1].ID, trail.Refused[1].Problem, trail.Refused[1].Count},
		[]any{seckill.PaymentID("p-9"), seckill.CodeInvalidSignature, 1})
	for i := range 2 * seckill.MaxRefused { // no more than so many are kept
		p := paymentOf(o, seckill.PaymentID(fmt.Sprint("x-", i)))
		s.must(s.store.RefusePayment(s.ctx, seckill.RefusedPayment{Payment: p, Problem: seckill.CodeInvalidSignature}))
	}
	s.must(s.store.RefusePayment(s.ctx, seckill.RefusedPayment{Payment: paymentOf(o, "p-9"), Problem: seckill.CodeInvalidSignature}))
	trail, err = s.store.OrderTrail(s.ctx, &o)
	s.must(err)
	equal(s, "refused notices", len(trail.Refused), seckill.MaxRefused)
	for _, r := range trail.Refused {
		if want := int64(2); r.ID == "p-9" { // one that is kept is counted on
			equal(s, "an equal one", int64(r.Count), want)
		}
	}
}

func timeOutHeld(s *shop) {
	o := s.order(0, "u-1", "k", 1)
	s.clock.advance(window + time.Second)
	n, err := s.store.TimeOut(s.ctx, allShards, []seckill.ActivityID{"other", activity}, 10)
	s.must(err)
	equal(s, "timed out while held", n, 0)
	equal(s, "order", s.find(o.ID), o)
	s.pay(seckill.PaymentBooked, o, "p-1") // it can still be paid
	other := s.order(0, "u-2", "k", 1)
	s.clock.advance(window + time.Second)
	n, err = s.store.TimeOut(s.ctx, allShards, []seckill.ActivityID{"other"}, 10)
	s.must(err)
	equal(s, "timed out", n, 1)
	equal(s, "state", s.find(other.ID).State, seckill.OrderCancelled)
}

func extendOpen(s *shop) {
	o, given := s.order(0, "u-1", "k", 1), s.cancel(s.order(0, "u-2", "k", 1))
	s.clock.advance(time.Minute)
	n, err := s.store.ExtendOrders(s.ctx, activity, 30*time.Minute, author)
	s.must(err)
	equal(s, "orders extended", n, 1)
	s.lastChange(seckill.ChangeExtension, string(activity))
	o.PayBy, o.UpdatedAt = o.PayBy.Add(30*time.Minute), s.clock.read()
	equal(s, "open order", s.find(o.ID), o)
	equal(s, "cancelled order", s.find(given.ID), given)
	s.clock.advance(window)
	equal(s, "timed out", s.timeOut(10), 0)
	s.clock.advance(30 * time.Minute)
	equal(s, "timed out afterwards", s.timeOut(10), 1)
}

func extendNothing(s *shop) {
	changes := len(s.changes())
	_, err := s.store.ExtendOrders(s.ctx, "none", time.Minute, author)
	s.wants(err, seckill.ErrNotFound)
	equal(s, "number of changes", len(s.changes()), changes)
}

func trailOfAnOrder(s *shop) {
	o, other := s.order(0, "u-1", "k", 1), s.order(0, "u-2", "k", 1)
	_, err := s.store.ExtendOrders(s.ctx, activity, time.Minute, author)
	s.must(err)
	for _, id := range []seckill.OrderID{o.ID, other.ID, other.ID} { // an order that doesn't move is no change
		_, err = s.store.Cancel(s.ctx, []seckill.Cancellation{{Order: id, By: author}})
		s.must(err)
	}
	s.pay(seckill.PaymentLate, o, "p-1")
	s.pay(seckill.PaymentLate, other, "p-2")
	trail, err := s.store.OrderTrail(s.ctx, &o)
	s.must(err)
	equal(s, "payments", trail.Payments, []seckill.KeptPayment{s.payment("p-1")})
	equal(s, "settling", trail.Settling, true)
	var kinds []string
	for _, c := range trail.Changes {
		kinds = append(kinds, c.Kind+" "+c.Key)
	}
	equal(s, "changes", kinds, []string{"extension " + string(activity), "order " + string(o.ID)})
	s.drain()
	trail, err = s.store.OrderTrail(s.ctx, &o)
	s.must(err)
	equal(s, "settling afterwards", trail.Settling, false)
	trail, err = s.store.OrderTrail(s.ctx, &seckill.Order{ID: s.promise(0, "u-9", "k", 1).Order})
	s.must(err)
	equal(s, "of an order that isn't there", len(trail.Payments)+len(trail.Changes), 0)
}

// searchOneMoment: all orders of a page of the queue have the same time. Pages of a search must not
// lose or repeat any of them.
func searchOneMoment(s *shop) {
	var all []seckill.Promise
	for i := range 7 {
		all = append(all, s.promise(0, "u-1", fmt.Sprint("k", i), 1))
	}
	got, err := s.store.Accept(s.ctx, seckill.Batch{Pages: s.pages(all...)})
	s.must(err)
	equal(s, "accepted", len(got), 7)
	seen := make(map[seckill.OrderID]bool)
	q := seckill.OrderQuery{User: "u-1", Limit: 3}
	for {
		found, err := s.store.SearchOrders(s.ctx, q)
		s.must(err)
		for _, o := range found {
			if seen[o.ID] {
				s.t.Fatalf("%s comes twice", o.ID)
			}
			seen[o.ID] = true
			q.Before = o.Mark()
		}
		if len(found) < q.Limit {
			break
		}
	}
	equal(s, "orders found", len(seen), 7)
	none, err := s.store.SearchOrders(s.ctx, seckill.OrderQuery{User: "u", Limit: 10})
	s.must(err)
	equal(s, "orders of nobody", none, nil)
}

func refundPages(s *shop) {
	o := s.cancel(s.order(0, "u-1", "k", 1))
	for i := range 5 {
		s.pay(seckill.PaymentLate, o, seckill.PaymentID(fmt.Sprint("p-", i)))
		s.clock.advance(time.Duration(i%2) * time.Second) // some come at one moment
	}
	all := s.refunds(seckill.PaymentStateDue)
	var pages []seckill.KeptPayment
	for _, of := range []seckill.MerchantID{"", merchant} {
		pages = nil
		q := seckill.RefundQuery{State: seckill.PaymentStateDue, Merchant: of, Limit: 2}
		for {
			got, err := s.store.Refunds(s.ctx, q)
			s.must(err)
			if pages = append(pages, got...); len(got) < q.Limit {
				break
			}
			q.Before = got[len(got)-1].Mark()
		}
		equal(s, "page by page", pages, all)
	}
	got, err := s.store.Refunds(s.ctx, seckill.RefundQuery{State: seckill.PaymentStateDue, Merchant: "m2", Limit: 2})
	s.must(err)
	equal(s, "of another merchant", got, nil)
}

func statementDays(s *shop) {
	first := s.clock.read()
	paid := s.order(0, "u-1", "k", 2)
	s.pay(seckill.PaymentBooked, paid, "p-1")
	given := s.cancel(s.order(0, "u-2", "k", 1))
	s.clock.advance(12 * time.Hour) // the next day, in UTC
	s.pay(seckill.PaymentLate, given, "p-2")
	s.pay(seckill.PaymentLate, paid, "p-3")
	s.refund("p-2")
	line := seckill.StatementRow{Day: "2026-06-18", Activity: activity, SKU: "phone-x", Currency: "CNY"}
	line.Sold = seckill.Tally{Count: 1, Units: 2, Amount: paid.Amount.Minor}
	line.Cancelled = seckill.Tally{Count: 1, Units: 1, Amount: given.Amount.Minor}
	next := seckill.StatementRow{Day: "2026-06-19", Activity: activity, SKU: "phone-x", Currency: "CNY"}
	next.RefundDue = seckill.Tally{Count: 1, Amount: paid.Amount.Minor}
	next.Refunded = seckill.Tally{Count: 1, Amount: given.Amount.Minor}
	got, err := s.store.Statement(s.ctx, merchant, first, s.clock.read().Add(time.Hour))
	s.must(err)
	equal(s, "statement", got, []seckill.StatementRow{line, next})
	got, err = s.store.Statement(s.ctx, merchant, first.Add(time.Hour), s.clock.read().Add(time.Hour))
	s.must(err)
	equal(s, "statement of the second day", got, []seckill.StatementRow{next})
	got, err = s.store.Statement(s.ctx, "m2", first, s.clock.read().Add(time.Hour))
	s.must(err)
	equal(s, "statement of another merchant", got, nil)
}
