package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func parkCases() []testCase {
	return []testCase{
		selling("ALockedRowIsAnErrorFirst", lockedError),
		selling("TestL2_APromiseOfALockedRowIsParkedAndOpensLater", lockedParks),
		{"TestL10_ALockedRowStopsItsItemOnly", lockedAlone},
		{"TestL2_ParkingNeedsNoUnits", parkBeyondTotal},
		{"TestL1_AParkedOrderKeepsItsUnits", parkedKeepsUnits},
		{"TestL5_AParkedOrderOpensWithinTheLimit", unparkLimit},
		selling("Unpark_TriesTheOldestFirst", unparkOldest),
		selling("Unpark_IsForItsShardsOnly", unparkShards),
		selling("Unpark_TheUnfitHideNobody", unparkBesideUnfit),
		selling("Unpark_LeavesLettersAlone", unparkLetters),
		selling("TestL4_AParkedRecordThatComesAgain", parkedAgain),
		selling("Cancel_GivesAParkedOrderUp", cancelParked),
		{"TestL10_EventsOfALockedRowAreTriedAgain", lockedEvents},
	}
}

// unfit is a promise at a price that the item doesn't have.
func (s *shop) unfit(i int, user seckill.UserID, key string, quantity int) seckill.Promise {
	r := s.promise(i, user, key, quantity)
	r.Amount.Minor++
	return r
}

// park accepts promises with rows that may be locked.
func (s *shop) park(want []seckill.Outcome, promises ...seckill.Promise) []seckill.Acceptance {
	s.t.Helper()
	return s.acceptBatch(want, seckill.Batch{Pages: s.pages(promises...), Park: true})
}

func (s *shop) unpark(limit int, want ...seckill.Outcome) []seckill.Acceptance {
	s.t.Helper()
	got, err := s.store.Unpark(s.ctx, allShards, limit)
	s.must(err)
	outcomes := make([]seckill.Outcome, len(got))
	for i := range got {
		outcomes[i] = got[i].Outcome
	}
	equal(s, "outcomes", outcomes, want)
	return got
}

// parkedRow is the row of a promise that was just parked.
func (s *shop) parkedRow(r seckill.Promise, reason seckill.Reason) seckill.Order {
	return s.row(r, seckill.OrderParked, reason, seckill.UnitsParked)
}

func lockedError(s *shop) {
	unlock := s.lock(0, s.shard(0))
	defer unlock()
	r := s.promise(0, "u-1", "k", 1)
	s.must(s.store.AddPartitions(s.ctx, topic, 1))
	s.refuses(seckill.ErrLocked, seckill.Batch{
		Pages: s.pages(r), Moves: []seckill.Move{{From: at(0, 0, -1), To: at(0, 5, 2)}}})
	equal(s, "order", s.find(r.Order), seckill.Order{})
	equal(s, "positions", s.positions(), []seckill.Position{at(0, 0, -1)})
}

func lockedParks(s *shop) {
	unlock := s.lock(0, s.shard(0))
	r := s.promise(0, "u-1", "k", 2)
	got := s.park([]seckill.Outcome{parked}, r)[0]
	want := s.parkedRow(r, seckill.ReasonLocked)
	equal(s, "acceptance", got, seckill.Acceptance{Outcome: parked, Order: want, Ref: s.ref(0)})
	equal(s, "order", s.find(r.Order), want)
	equal(s, "letters", s.letters(), nil)
	equal(s, "parked units", s.book(0).Parked, 2)
	s.sums()

	s.clock.advance(time.Minute)
	s.unpark(10, parked) // it is locked still
	unlock()
	s.clock.advance(time.Minute)
	got = s.unpark(10, opened)[0]
	want.State, want.Reason, want.Units = seckill.OrderPending, "", seckill.UnitsOpen
	want.UpdatedAt, want.PayBy = s.clock.read(), s.clock.read().Add(window)
	equal(s, "acceptance", got, seckill.Acceptance{Outcome: opened, Order: want, Ref: s.ref(0)})
	equal(s, "order", s.find(r.Order), want)
	equal(s, "parked units", s.book(0).Parked, 0)
	s.counts(0, 10, 2, 0)
	equal(s, "outbox", s.outbox(), nil)
	s.sums()
	s.unpark(10)
	s.pay(seckill.PaymentBooked, want, "p-1")
	s.sums()
}

func lockedAlone(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1}, goods{"phone-y", 10, 0, 1}, goods{"phone-z", 10, 0, Shards})
	unlock := s.lock(0, s.shard(0))
	defer unlock()
	s.park([]seckill.Outcome{opened, parked, opened}, s.promise(1, "u-1", "k", 1), s.promise(0, "u-1", "k", 1),
		s.promise(2, "u-1", "k", 1))
	s.accept([]seckill.Outcome{opened, exists}, s.promise(1, "u-2", "k", 1), s.promise(0, "u-1", "k", 1))
	s.counts(1, 10, 2, 0)
	s.sums()
}

// parkBeyondTotal: the partition goes on, whatever is parked, and no matter how much a shard that
// forgot has sold.
func parkBeyondTotal(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 2, 0, 1})
	s.order(0, "u-1", "k", 2)
	s.accept([]seckill.Outcome{parked}, s.unfit(0, "u-2", "k", 2))
	stranger := seckill.Promise{
		Order: seckill.NewOrderID(4711, caller, "u-1", "k"), Caller: caller, User: "u-1", Quantity: 3, Accepted: s.clock.read()}
	s.acceptAt(s.ref(0), []seckill.Outcome{parked}, stranger) // of no item at all
	b := s.book(0)
	equal(s, "book", []int64{b.Total, b.Open, b.Parked}, []int64{2, 2, 2})
	got := s.fence(s.shard(0))
	equal(s, "items", got.Items, []inventory.Stocked{{Item: s.item(0), Total: 2, Available: -2}})
	equal(s, "holds", len(got.Entries), 3)
	s.sums(stranger.Order)
}

func parkedKeepsUnits(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1})
	s.accept([]seckill.Outcome{parked}, s.unfit(0, "u-1", "k", 4))
	s.accept([]seckill.Outcome{rejected, opened}, s.promise(0, "u-2", "k", 7), s.promise(0, "u-3", "k", 3))
	_, _, err := s.tryWithdraw(0, "w", -4, s.taken(0, s.shard(0), "w", 4))
	s.wants(err, seckill.ErrTooLow)
	s.withdraw(0, "w", 3)
	got := s.fence(s.shard(0))
	equal(s, "items", got.Items, []inventory.Stocked{{Item: s.item(0), Total: 7, Available: 0}})
	_, err = s.store.DiscardDeadLetters(s.ctx, []int64{s.letters()[0].ID}, author)
	s.must(err)
	s.accept([]seckill.Outcome{opened}, s.promise(0, "u-2", "l", 4))
	s.sums()
}

func unparkLimit(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 4, 3, 1})
	s.order(0, "u-1", "before", 1)
	unlock := s.lock(0, s.shard(0))
	for k := range 3 {
		s.park([]seckill.Outcome{parked}, s.promise(0, "u-1", fmt.Sprint(k), 1))
		s.clock.advance(time.Second)
	}
	unlock()
	got := s.unpark(10, opened, opened, rejected)
	s.isRejected(got[2].Order, seckill.ReasonPurchaseLimit)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0), got[2].Order, inventory.SettleVoid)})
	s.counts(0, 4, 3, 0)
	equal(s, "rejected", s.book(0).Rejected, 1)
	s.sums()
}

func unparkOldest(s *shop) {
	unlock := s.lock(0, s.shard(0))
	var ids []seckill.OrderID
	for k := range 4 {
		ids = append(ids, s.park([]seckill.Outcome{parked}, s.promise(0, user(k), "k", 1))[0].Order.ID)
		s.clock.advance(time.Second)
	}
	tried := func(want ...seckill.OrderID) {
		s.t.Helper()
		var got []seckill.OrderID
		outcomes := make([]seckill.Outcome, len(want))
		for i := range outcomes {
			outcomes[i] = parked
		}
		for _, a := range s.unpark(len(want), outcomes...) {
			got = append(got, a.Order.ID)
		}
		equal(s, "tried", got, want)
		s.clock.advance(time.Second)
	}
	tried(ids[0])
	tried(ids[1], ids[2])
	tried(ids[3], ids[0]) // those that were tried go to the end
	unlock()
	s.unpark(100, opened, opened, opened, opened)
	s.counts(0, 10, 4, 0)
}

func unparkShards(s *shop) {
	unlock := s.lock(0, s.shard(0))
	s.park([]seckill.Outcome{parked}, s.promise(0, "u-1", "k", 1))
	unlock()
	for _, shards := range [][]inventory.ShardID{nil, {(s.shard(0) + 1) % Shards}} {
		got, err := s.store.Unpark(s.ctx, shards, 10)
		s.must(err)
		equal(s, "tried of other shards", len(got), 0)
	}
	got, err := s.store.Unpark(s.ctx, []inventory.ShardID{s.shard(0)}, 10)
	s.must(err)
	equal(s, "tried", len(got), 1)
}

// unparkBesideUnfit: orders that wait for their letters take no place from one that can be opened.
func unparkBesideUnfit(s *shop) {
	s.accept([]seckill.Outcome{parked}, s.unfit(0, "u-1", "k", 1))
	s.clock.advance(time.Second)
	unlock := s.lock(0, s.shard(0))
	s.park([]seckill.Outcome{parked}, s.promise(0, "u-2", "k", 1))
	unlock()
	s.unpark(1, opened)
}

// unparkLetters: an order that is parked because of its own fault waits for its letter. If the
// fault is found when the order is tried again, it gets a letter, too.
func unparkLetters(s *shop) {
	s.accept([]seckill.Outcome{parked}, s.unfit(0, "u-1", "k", 1))
	equal(s, "letters", len(s.letters()), 1)
	s.unpark(10)

	unlock := s.lock(0, s.shard(0))
	r := s.unfit(0, "u-2", "k", 1)
	s.park([]seckill.Outcome{parked}, r)
	equal(s, "letters", len(s.letters()), 1)
	unlock()
	got := s.unpark(10, parked)
	equal(s, "reason", got[0].Order.Reason, seckill.ReasonUnfit)
	letters := s.letters()
	equal(s, "letters", []any{len(letters), letters[1].Order}, []any{2, r.Order})
	s.unpark(10)
	s.sums()
}

func parkedAgain(s *shop) {
	r := s.unfit(0, "u-1", "k", 1)
	first := s.accept([]seckill.Outcome{parked}, r)[0].Order
	equal(s, "order", s.accept([]seckill.Outcome{exists}, r)[0].Order, first)
	equal(s, "letters", len(s.letters()), 1)
	s.bury(s.ref(0), []bool{true}, r.Hold())
	equal(s, "outbox", s.outbox(), nil)
	s.sums()
}

// cancelParked: a parked order can be cancelled, whatever the cause. A replay of its letter then
// finds it cancelled.
func cancelParked(s *shop) {
	odd := s.unfit(0, "u-1", "k", 1)
	unlock := s.lock(0, s.shard(0))
	late := s.promise(0, "u-2", "k", 1)
	s.park([]seckill.Outcome{parked}, late)
	unlock()
	s.accept([]seckill.Outcome{parked}, odd)
	s.clock.advance(time.Minute)
	var want []seckill.Outgoing
	for _, r := range []seckill.Promise{late, odd} {
		o := s.find(r.Order)
		got, err := s.store.Cancel(s.ctx, []seckill.Cancellation{queued(r, s.ref(0))})
		s.must(err)
		o.State, o.Reason, o.Units, o.UpdatedAt = seckill.OrderCancelled, seckill.ReasonBuyer, seckill.UnitsVoid, s.clock.read()
		o.EndedAt = o.UpdatedAt
		equal(s, "moved", got, []seckill.Moved{{Order: o, Now: true}})
		equal(s, "order", s.find(r.Order), o)
		want = append(want, settlement(s.ref(0), o, inventory.SettleVoid))
	}
	equal(s, "outbox", s.outbox(), want)
	equal(s, "parked units", s.book(0).Parked, 0)
	s.unpark(10)
	s.replay([]seckill.Outcome{exists}, s.letters()[0].ID)
	equal(s, "letters", s.letters(), nil)
	s.sums()
}

// lockedEvents: a cancel, a payment or a time-out of a locked row changes nothing and returns an
// error. Those of other rows go on.
func lockedEvents(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1}, goods{"phone-y", 10, 0, 1})
	a, b, c := s.order(0, "u-1", "k", 1), s.order(1, "u-1", "k", 1), s.order(1, "u-2", "k", 1)
	s.clock.advance(time.Second)
	late := s.order(1, "u-3", "k", 1)
	unlock := s.lock(0, s.shard(0))
	moved, err := s.store.Cancel(s.ctx, given(a.ID, b.ID))
	s.must(err)
	equal(s, "moved", []bool{moved[0].Now, moved[0].Locked, moved[1].Now, moved[1].Locked}, []bool{false, true, true, false})
	paid, err := s.store.Pay(s.ctx, []seckill.Payment{paymentOf(a, "p-1"), paymentOf(c, "p-2")})
	s.must(err)
	equal(s, "verdicts", []seckill.PaymentVerdict{paid[0].Verdict, paid[1].Verdict},
		[]seckill.PaymentVerdict{seckill.PaymentLocked, seckill.PaymentBooked})
	s.clock.advance(window + time.Second)
	equal(s, "timed out", s.timeOut(1), 1)
	equal(s, "the order that timed out", s.find(late.ID).State, seckill.OrderCancelled)
	equal(s, "the order of the locked row", s.find(a.ID), a)
	unlock()
	s.pay(seckill.PaymentBooked, a, "p-1")
	s.counts(0, 10, 0, 1)
	s.counts(1, 10, 0, 1)
	s.sums()
}
