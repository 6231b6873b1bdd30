package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func paymentCases() []testCase {
	return []testCase{
		selling("ABookedPaymentSellsTheUnits", payBooks),
		selling("TestL4_ARepeatedPaymentIsBookedOnce", payAgain),
		selling("TestL4_ARepeatedPaymentInOneCall", payAgainInOneCall),
		selling("APaymentsIDIsItsMerchantsAndMeansOneThing", payOtherContent),
		selling("WithoutAnOrderNothingIsKept", payNoOrder),
		selling("AWrongAmountChangesNothing", payMismatch),
		selling("ALatePaymentIsKeptAndGoesBack", payLate),
		selling("ASecondPaymentOfAPaidOrderIsKept", paySecond),
		selling("APaymentOfATombstoneIsKeptWhateverTheAmount", payTombstone),
		selling("OfAParkedOrderIsLikeOneOfAQueuedOrder", payParked),
		{"ManyPayments", payMany},
	}
}

func paymentOf(o seckill.Order, id seckill.PaymentID) seckill.Payment {
	return seckill.Payment{Merchant: merchant, ID: id, Order: o.ID, Amount: o.Amount, Activity: o.Activity, SKU: o.SKU}
}

// pay pays an order in full, checks the verdict and returns the order afterwards.
func (s *shop) pay(want seckill.PaymentVerdict, o seckill.Order, id seckill.PaymentID) seckill.Order {
	s.t.Helper()
	return s.notice(want, paymentOf(o, id))
}

func (s *shop) notice(want seckill.PaymentVerdict, p seckill.Payment) seckill.Order {
	s.t.Helper()
	got, err := s.store.Pay(s.ctx, []seckill.Payment{p})
	s.must(err)
	if len(got) != 1 || got[0].Verdict != want {
		s.t.Fatalf("payment %+v: %+v, want verdict %d", p, got, want)
	}
	if want != seckill.PaymentNoOrder {
		equal(s, "the order in the answer", got[0].Order, s.find(p.Order))
	}
	return got[0].Order
}

func payBooks(s *shop) {
	o := s.order(0, "u-1", "k", 2)
	s.clock.advance(time.Minute)
	got := s.pay(seckill.PaymentBooked, o, "p-1")
	o.State, o.Units, o.UpdatedAt = seckill.OrderPaid, seckill.UnitsSold, s.clock.read()
	o.EndedAt = o.UpdatedAt
	equal(s, "order", got, o)
	s.counts(0, 10, 0, 2)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0), o, inventory.SettleSold)})
	s.clock.advance(window)
	equal(s, "timed out after it was paid", s.timeOut(10), 0)
}

func payAgain(s *shop) {
	o := s.order(0, "u-1", "k", 2)
	first := s.pay(seckill.PaymentBooked, o, "p-1")
	s.clock.advance(time.Minute)
	equal(s, "order", s.pay(seckill.PaymentAgain, o, "p-1"), first)
	equal(s, "settlements", len(s.drain()), 1)
	s.pay(seckill.PaymentAgain, o, "p-1")
	equal(s, "settlements", len(s.drain()), 0)
	s.counts(0, 10, 0, 2)
}

func payAgainInOneCall(s *shop) {
	a, b := s.order(0, "u-1", "k", 2), s.order(0, "u-2", "k", 1)
	got, err := s.store.Pay(s.ctx, []seckill.Payment{
		paymentOf(a, "p-1"), paymentOf(a, "p-1"), paymentOf(a, "p-2"), paymentOf(b, "p-1"), paymentOf(b, "p-3"),
	})
	s.must(err)
	verdicts := make([]seckill.PaymentVerdict, len(got))
	for i := range got {
		verdicts[i] = got[i].Verdict
	}
	equal(s, "verdicts", verdicts, []seckill.PaymentVerdict{
		seckill.PaymentBooked, seckill.PaymentAgain, seckill.PaymentLate, seckill.PaymentOtherContent, seckill.PaymentBooked})
	s.counts(0, 10, 0, 3)
	equal(s, "settlements", len(s.outbox()), 2)
}

func payOtherContent(s *shop) {
	a, b := s.order(0, "u-1", "k", 1), s.order(0, "u-2", "k", 1)
	s.pay(seckill.PaymentBooked, a, "p-1")
	s.pay(seckill.PaymentOtherContent, b, "p-1")
	wrong := paymentOf(a, "p-1")
	wrong.Amount.Minor++
	s.notice(seckill.PaymentOtherContent, wrong)
	equal(s, "the other order", s.find(b.ID), b)
	s.counts(0, 10, 1, 1)

	// The same payment id of another merchant is another payment, and can't pay this merchant's
	// order.
	other := paymentOf(b, "p-1")
	other.Merchant = "m2"
	s.notice(seckill.PaymentNoOrder, other)
	equal(s, "the other order", s.find(b.ID), b)
}

func payNoOrder(s *shop) {
	r := s.promise(0, "u-1", "k", 1)
	p := seckill.Payment{Merchant: merchant, ID: "p-1", Order: r.Order, Amount: r.Amount}
	s.notice(seckill.PaymentNoOrder, p)
	// The notice comes again when the order has a row: then it is booked.
	s.accept([]seckill.Outcome{opened}, r)
	s.notice(seckill.PaymentBooked, p)
	s.counts(0, 10, 0, 1)
}

func payMismatch(s *shop) {
	o := s.order(0, "u-1", "k", 1)
	for _, amount := range []seckill.Money{{Minor: o.Amount.Minor - 1, Currency: "CNY"}, {Minor: o.Amount.Minor, Currency: "USD"}} {
		p := paymentOf(o, "p-1")
		p.Amount = amount
		equal(s, "order", s.notice(seckill.PaymentMismatch, p), o)
		equal(s, "what is kept", s.payment("p-1").Amount, seckill.Money{Minor: o.Amount.Minor - 1, Currency: "CNY"})
	}
	s.counts(0, 10, 1, 0)
	equal(s, "outbox", s.outbox(), nil)
	trail, err := s.store.OrderTrail(s.ctx, &o)
	s.must(err)
	equal(s, "refused notices", len(trail.Refused), 1)
	equal(s, "the refused one", []any{trail.Refused[0].Amount.Currency, trail.Refused[0].Problem}, []any{"USD", seckill.CodeAmountMismatch})
	s.pay(seckill.PaymentBooked, o, "p-1") // the id was not used up
}

func payLate(s *shop) {
	o := s.cancel(s.order(0, "u-1", "k", 1))
	s.drain()
	s.clock.advance(time.Minute)
	got := s.pay(seckill.PaymentLate, o, "p-1")
	o.State, o.UpdatedAt = seckill.OrderRefundDue, s.clock.read()
	equal(s, "order", got, o) // the reason stays, because it says why the money goes back
	s.counts(0, 10, 0, 0)
	equal(s, "outbox", s.outbox(), nil)
	s.pay(seckill.PaymentAgain, o, "p-1")
	s.pay(seckill.PaymentLate, o, "p-2") // somebody pays a third time: kept, nothing moves
	equal(s, "order", s.find(o.ID), o)

	late := s.order(0, "u-2", "k", 1)
	s.clock.advance(window + time.Second)
	equal(s, "timed out", s.timeOut(10), 1)
	got = s.pay(seckill.PaymentLate, late, "p-3")
	equal(s, "timed out order", []any{got.State, got.Reason}, []any{seckill.OrderRefundDue, seckill.ReasonPaymentTimeout})
}

func paySecond(s *shop) {
	o := s.order(0, "u-1", "k", 1)
	paid := s.pay(seckill.PaymentBooked, o, "p-1")
	s.clock.advance(time.Minute)
	equal(s, "order", s.pay(seckill.PaymentLate, o, "p-2"), paid)
	s.pay(seckill.PaymentAgain, o, "p-2")
	s.counts(0, 10, 0, 1)
	equal(s, "settlements", len(s.outbox()), 1)
}

func payTombstone(s *shop) {
	r := s.promise(0, "u-1", "k", 1)
	s.bury(s.ref(0), []bool{false}, r.Hold())
	got := s.notice(seckill.PaymentLate, seckill.Payment{Merchant: merchant, ID: "p-1", Order: r.Order, Amount: r.Amount})
	equal(s, "tombstone", []any{got.State, got.Reason}, []any{seckill.OrderRefundDue, seckill.ReasonNotAccepted})
	s.bury(s.ref(0), []bool{false}, r.Hold()) // it is a tombstone still
	s.notice(seckill.PaymentNoOrder, seckill.Payment{Merchant: "m2", ID: "p-1", Order: r.Order, Amount: r.Amount})
}

func payParked(s *shop) {
	r := s.unfit(0, "u-1", "k", 1)
	s.accept([]seckill.Outcome{parked}, r)
	s.notice(seckill.PaymentNoOrder, seckill.Payment{Merchant: merchant, ID: "p-1", Order: r.Order, Amount: r.Amount})
	equal(s, "state", s.find(r.Order).State, seckill.OrderParked)
}

func payMany(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 2000, 0, 1})
	var promises []seckill.Promise
	for i := range 1100 {
		promises = append(promises, s.promise(0, user(i), "k", 1))
	}
	accepted, err := s.store.Accept(s.ctx, seckill.Batch{Pages: s.pages(promises...)})
	s.must(err)
	payments := make([]seckill.Payment, len(accepted))
	for i := range accepted {
		payments[i] = paymentOf(accepted[i].Order, seckill.PaymentID(fmt.Sprint("p-", i)))
	}
	for _, want := range []seckill.PaymentVerdict{seckill.PaymentBooked, seckill.PaymentAgain} {
		got, err := s.store.Pay(s.ctx, payments)
		s.must(err)
		for i := range got {
			if got[i].Verdict != want || got[i].Order.ID != payments[i].Order {
				t.Fatalf("payment %d: %+v", i, got[i])
			}
		}
	}
	s.counts(0, 2000, 0, 1100)
	equal(s, "settlements", len(s.drain()), 1100)
	equal(s, "outbox", s.outbox(), nil)
}
