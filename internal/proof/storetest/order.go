package storetest

import (
	"fmt"
	"testing"
	"time"

	"penstock/inventory"
	"penstock/seckill"
)

func orderCases() []testCase {
	return []testCase{
		selling("FindOrders_InTheOrderOfTheIDs", findInOrder),
		selling("Cancel_GivesTheUnitsBack", cancelOpen),
		selling("TestL4_CancelTwiceSettlesOnce", cancelTwice),
		selling("Cancel_LeavesWhatHasEnded", cancelEnded),
		selling("TimeOut_WaitsUntilPayByHasPassed", timeOutWaits),
		{"TimeOut_TakesTheOldestFirst", timeOutOldest},
		selling("TestL4_TimeOutEndsAnOrderOnce", timeOutOnce),
	}
}

// cancel cancels an open order and returns it.
func (s *shop) cancel(o seckill.Order) seckill.Order {
	s.t.Helper()
	got, err := s.store.Cancel(s.ctx, []seckill.OrderID{o.ID})
	s.must(err)
	if !got[0].Now {
		s.t.Fatalf("order did not move: %+v", got[0].Order)
	}
	return got[0].Order
}

func findInOrder(s *shop) {
	a, b := s.order(0, "u-1", "k", 1), s.order(0, "u-2", "k", 2)
	unknown := s.record(0, "u-3", "k", 1).Order
	got, err := s.store.FindOrders(s.ctx, []seckill.OrderID{b.ID, unknown, a.ID, b.ID, "garbage"})
	s.must(err)
	equal(s, "orders", got, []seckill.Order{b, {}, a, b, {}})
	got, err = s.store.FindOrders(s.ctx, nil)
	s.must(err)
	equal(s, "no orders", len(got), 0)
}

func cancelOpen(s *shop) {
	o := s.order(0, "u-1", "k", 2)
	s.clock.advance(time.Minute)
	unknown := s.record(0, "u-9", "k", 1).Order
	got, err := s.store.Cancel(s.ctx, []seckill.OrderID{unknown, o.ID})
	s.must(err)
	o.State, o.Reason, o.Units, o.UpdatedAt = seckill.OrderCancelled, seckill.ReasonBuyer, seckill.UnitsVoid, s.clock.read()
	equal(s, "moved", got, []seckill.Moved{{}, {Order: o, Now: true}})
	equal(s, "order", s.find(o.ID), o)
	s.counts(0, 10, 0, 0)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0, 1), o, inventory.SettleVoid)})
}

func cancelTwice(s *shop) {
	o, other := s.order(0, "u-1", "k", 2), s.order(0, "u-2", "k", 1)
	ids := []seckill.OrderID{o.ID, other.ID, o.ID}
	got, err := s.store.Cancel(s.ctx, ids)
	s.must(err)
	equal(s, "moved now", []bool{got[0].Now, got[1].Now, got[2].Now}, []bool{true, true, false})
	equal(s, "the order the second time", got[2].Order, got[0].Order)
	s.clock.advance(time.Minute)
	again, err := s.store.Cancel(s.ctx, ids)
	s.must(err)
	for i := range again {
		equal(s, "moved again", again[i], seckill.Moved{Order: got[i].Order})
	}
	s.counts(0, 10, 0, 0)
	equal(s, "settlements", len(s.outbox()), 2)
}

func cancelEnded(s *shop) {
	paid := s.order(0, "u-1", "k", 1)
	s.pay(seckill.PaymentBooked, paid, "p-1")
	before := s.find(paid.ID)
	s.drain()
	s.clock.advance(time.Minute)
	got, err := s.store.Cancel(s.ctx, []seckill.OrderID{paid.ID})
	s.must(err)
	equal(s, "moved", got, []seckill.Moved{{Order: before}})
	s.counts(0, 10, 0, 1)
	equal(s, "outbox", s.outbox(), nil)
}

func timeOutWaits(s *shop) {
	o := s.order(0, "u-1", "k", 2)
	paid := s.order(0, "u-2", "k", 1)
	s.pay(seckill.PaymentBooked, paid, "p-1")
	s.drain()
	for _, wait := range []time.Duration{window - time.Microsecond, time.Microsecond} { // at pay_by it has not passed
		s.clock.advance(wait)
		n, err := s.store.TimeOut(s.ctx, 10)
		s.must(err)
		equal(s, "timed out too early", n, 0)
	}
	s.clock.advance(time.Microsecond)
	n, err := s.store.TimeOut(s.ctx, 10)
	s.must(err)
	equal(s, "timed out", n, 1)
	o.State, o.Reason, o.Units, o.UpdatedAt = seckill.OrderCancelled, seckill.ReasonPaymentTimeout, seckill.UnitsVoid, s.clock.read()
	equal(s, "order", s.find(o.ID), o)
	s.counts(0, 10, 0, 1)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0, 1), o, inventory.SettleVoid)})
}

func timeOutOldest(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 0})
	var ids []seckill.OrderID
	for i := range 7 {
		ids = append(ids, s.order(0, user(i), "k", 1).ID)
		s.clock.advance(time.Second)
	}
	s.clock.advance(window)
	for left := 7; left > 0; left -= 3 {
		n, err := s.store.TimeOut(s.ctx, 3)
		s.must(err)
		equal(s, "timed out", n, min(3, left))
		orders, err := s.store.FindOrders(s.ctx, ids)
		s.must(err)
		for i := range orders {
			if ended := orders[i].State == seckill.OrderCancelled; ended != (i < 7-left+n) {
				t.Fatalf("with %d left, order %d is %s", left-n, i, orders[i].State)
			}
		}
	}
	s.counts(0, 100, 0, 0)
}

func timeOutOnce(s *shop) {
	for i := range 3 {
		s.order(0, user(i), "k", 1)
	}
	s.clock.advance(window + time.Second)
	for i, want := range []int{3, 0, 0} {
		n, err := s.store.TimeOut(s.ctx, 10)
		s.must(err)
		equal(s, fmt.Sprint("timed out by call ", i), n, want)
	}
	equal(s, "settlements", len(s.outbox()), 3)
	s.counts(0, 10, 0, 0)
}
