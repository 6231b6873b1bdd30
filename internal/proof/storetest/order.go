package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func orderCases() []testCase {
	return []testCase{
		selling("FindOrders_InTheOrderOfTheIDs", findInOrder),
		{"OrdersOf_PageByPage", ordersOf},
		selling("Cancel_GivesTheUnitsBack", cancelOpen),
		selling("TestL4_CancelTwiceSettlesOnce", cancelTwice),
		selling("Cancel_LeavesWhatHasEnded", cancelEnded),
		selling("Cancel_MakesAQueuedOrderCancelledAtOnce", cancelQueued),
		selling("TestL4_ARecordBehindItsCancelCreatesNothing", cancelThenAccept),
		selling("Epoch_AQueuedOrderOfAnotherOneIsNone", cancelFenced),
		selling("TimeOut_WaitsUntilPayByHasPassed", timeOutWaits),
		{"TimeOut_TakesTheOldestFirst", timeOutOldest},
		{"TimeOut_IsForItsShardsOnly", timeOutShards},
		selling("TestL4_TimeOutEndsAnOrderOnce", timeOutOnce),
	}
}

// given returns cancellations of orders that have rows.
func given(ids ...seckill.OrderID) []seckill.Cancellation {
	out := make([]seckill.Cancellation, len(ids))
	for i := range ids {
		out[i].Order = ids[i]
	}
	return out
}

// cancel cancels an open order and returns it.
func (s *shop) cancel(o seckill.Order) seckill.Order {
	s.t.Helper()
	got, err := s.store.Cancel(s.ctx, given(o.ID))
	s.must(err)
	if !got[0].Now {
		s.t.Fatalf("order did not move: %+v", got[0])
	}
	return got[0].Order
}

func (s *shop) timeOut(limit int) int {
	s.t.Helper()
	n, err := s.store.TimeOut(s.ctx, allShards, nil, limit)
	s.must(err)
	return n
}

func findInOrder(s *shop) {
	a, b := s.order(0, "u-1", "k", 1), s.order(0, "u-2", "k", 2)
	unknown := s.promise(0, "u-3", "k", 1).Order
	got, err := s.store.FindOrders(s.ctx, []seckill.OrderID{b.ID, unknown, a.ID, b.ID, "garbage"})
	s.must(err)
	equal(s, "orders", got, []seckill.Order{b, {}, a, b, {}})
	got, err = s.store.FindOrders(s.ctx, nil)
	s.must(err)
	equal(s, "no orders", len(got), 0)
}

func ordersOf(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 0, 2}, goods{"phone-y", 100, 0, 1})
	all := make(map[seckill.OrderID]bool)
	for i := range 7 {
		all[s.order(0, user(i), "k", 1).ID] = true
		s.order(1, user(i), "k", 1)
	}
	var after seckill.OrderID
	for _, want := range []int{3, 3, 1, 0} {
		page, err := s.store.OrdersOf(s.ctx, s.item(0), after, 3)
		s.must(err)
		equal(s, "orders on a page", len(page), want)
		for _, id := range page {
			if !all[id] || id <= after {
				t.Fatalf("order %s comes behind %s", id, after)
			}
			delete(all, id)
			after = id
		}
	}
	equal(s, "orders left out", len(all), 0)
	none, err := s.store.OrdersOf(s.ctx, 4711, "", 3)
	s.must(err)
	equal(s, "orders of no item", len(none), 0)
}

func cancelOpen(s *shop) {
	o := s.order(0, "u-1", "k", 2)
	s.clock.advance(time.Minute)
	unknown := s.promise(0, "u-9", "k", 1).Order
	got, err := s.store.Cancel(s.ctx, given(unknown, o.ID))
	s.must(err)
	o.State, o.Reason, o.Units, o.UpdatedAt = seckill.OrderCancelled, seckill.ReasonBuyer, seckill.UnitsVoid, s.clock.read()
	o.EndedAt = o.UpdatedAt
	equal(s, "moved", got, []seckill.Moved{{}, {Order: o, Now: true}})
	equal(s, "order", s.find(o.ID), o)
	s.counts(0, 10, 0, 0)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0), o, inventory.SettleVoid)})
	s.sums()
}

func cancelTwice(s *shop) {
	o, other := s.order(0, "u-1", "k", 2), s.order(0, "u-2", "k", 1)
	cancels := given(o.ID, other.ID, o.ID)
	got, err := s.store.Cancel(s.ctx, cancels)
	s.must(err)
	equal(s, "moved now", []bool{got[0].Now, got[1].Now, got[2].Now}, []bool{true, true, false})
	equal(s, "the order the second time", got[2].Order, got[0].Order)
	s.clock.advance(time.Minute)
	again, err := s.store.Cancel(s.ctx, cancels)
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
	got, err := s.store.Cancel(s.ctx, given(paid.ID))
	s.must(err)
	equal(s, "moved", got, []seckill.Moved{{Order: before}})
	s.counts(0, 10, 0, 1)
	equal(s, "outbox", s.outbox(), nil)
}

// queued returns the cancellation of a promise without a row, whose hold was seen under ref.
func queued(r seckill.Promise, ref inventory.Ref) seckill.Cancellation {
	return seckill.Cancellation{Order: r.Order, Queued: &r, Ref: ref}
}

func cancelQueued(s *shop) {
	r := s.promise(0, "u-1", "k", 2)
	s.clock.advance(time.Minute)
	got, err := s.store.Cancel(s.ctx, []seckill.Cancellation{queued(r, s.ref(0)), queued(r, s.ref(0))})
	s.must(err)
	want := s.row(r, seckill.OrderCancelled, seckill.ReasonBuyer, seckill.UnitsVoid)
	want.Grant.Seq, want.Node = 0, ""
	equal(s, "moved", got, []seckill.Moved{{Order: want, Now: true}, {Order: want}})
	equal(s, "order", s.find(r.Order), want)
	s.counts(0, 10, 0, 0)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0), want, inventory.SettleVoid)})
	s.sums()
}

func cancelThenAccept(s *shop) {
	r := s.promise(0, "u-1", "k", 2)
	got, err := s.store.Cancel(s.ctx, []seckill.Cancellation{queued(r, s.ref(0))})
	s.must(err)
	met := s.accept([]seckill.Outcome{exists}, r)[0]
	equal(s, "order", met.Order, got[0].Order)
	s.counts(0, 10, 0, 0)
	equal(s, "settlements", len(s.outbox()), 1)

	// An existing row decides, whatever is known of the hold.
	o := s.order(0, "u-2", "k", 1)
	got, err = s.store.Cancel(s.ctx, []seckill.Cancellation{queued(s.promise(0, "u-2", "k", 1), beside(s.ref(0), -1))})
	s.must(err)
	equal(s, "moved", []any{got[0].Now, got[0].Order.ID}, []any{true, o.ID})
}

func cancelFenced(s *shop) {
	r, before := s.promise(0, "u-1", "k", 2), s.ref(0)
	s.fence(s.shard(0))
	for _, ref := range []inventory.Ref{before, beside(s.ref(0), 1), {}} {
		got, err := s.store.Cancel(s.ctx, []seckill.Cancellation{queued(r, ref)})
		s.must(err)
		equal(s, "moved", got, []seckill.Moved{{}})
	}
	equal(s, "order", s.find(r.Order), seckill.Order{})
	equal(s, "outbox", s.outbox(), nil)
}

func timeOutWaits(s *shop) {
	o := s.order(0, "u-1", "k", 2)
	paid := s.order(0, "u-2", "k", 1)
	s.pay(seckill.PaymentBooked, paid, "p-1")
	s.drain()
	for _, wait := range []time.Duration{window - time.Microsecond, time.Microsecond} { // at pay_by it has not passed
		s.clock.advance(wait)
		equal(s, "timed out too early", s.timeOut(10), 0)
	}
	s.clock.advance(time.Microsecond)
	equal(s, "timed out", s.timeOut(10), 1)
	o.State, o.Reason, o.Units, o.UpdatedAt = seckill.OrderCancelled, seckill.ReasonPaymentTimeout, seckill.UnitsVoid, s.clock.read()
	o.EndedAt = o.UpdatedAt
	equal(s, "order", s.find(o.ID), o)
	s.counts(0, 10, 0, 1)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0), o, inventory.SettleVoid)})
	s.sums()
}

func timeOutOldest(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 0, 1})
	var ids []seckill.OrderID
	for i := range 7 {
		ids = append(ids, s.order(0, user(i), "k", 1).ID)
		s.clock.advance(time.Second)
	}
	s.clock.advance(window)
	for left := 7; left > 0; left -= 3 {
		n := s.timeOut(3)
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

func timeOutShards(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 0, Shards})
	on := make(map[inventory.ShardID]int)
	for n := 0; len(on) < Shards; n++ {
		on[s.order(0, user(n), "k", 1).Grant.Shard]++
	}
	s.clock.advance(window + time.Second)
	n, err := s.store.TimeOut(s.ctx, nil, nil, 100)
	s.must(err)
	equal(s, "timed out on no shard", n, 0)
	for _, shard := range allShards {
		n, err := s.store.TimeOut(s.ctx, []inventory.ShardID{shard}, nil, 100)
		s.must(err)
		equal(s, fmt.Sprint("timed out on shard ", shard), n, on[shard])
	}
}

func timeOutOnce(s *shop) {
	for i := range 3 {
		s.order(0, user(i), "k", 1)
	}
	s.clock.advance(window + time.Second)
	for i, want := range []int{3, 0, 0} {
		equal(s, fmt.Sprint("timed out by call ", i), s.timeOut(10), want)
	}
	equal(s, "settlements", len(s.outbox()), 3)
	s.counts(0, 10, 0, 0)
}
