package storetest

import (
	"testing"
	"time"

	"penstock/inventory"
	"penstock/seckill"
)

func buryCases() []testCase {
	return []testCase{
		selling("AHoldWithoutAnOrderGetsATombstone", buryAbsent),
		selling("AHoldWithAnOrderIsLeftAlone", buryOrdered),
		selling("TestL4_BuryingTwiceSettlesOnce", buryTwice),
		selling("TestL4_ARecordBehindItsTombstoneCreatesNothing", buryThenAccept),
		selling("OnlyUnderTheItemsEpoch", buryFenced),
		selling("AWithdrawalsHoldOnlyUntilItIsCommitted", buryWithdrawal),
		{"ManyHolds", buryMany},
	}
}

// bury buries holds and checks for each whether its order exists.
func (s *shop) bury(want []bool, ref inventory.Ref, holds ...inventory.Hold) {
	s.t.Helper()
	got, err := s.store.Bury(s.ctx, ref, holds)
	s.must(err)
	equal(s, "orders exist", got, want)
}

func buryAbsent(s *shop) {
	r := s.record(0, "u-1", "k", 2)
	s.clock.advance(time.Minute)
	s.bury([]bool{false}, s.ref(0, 1), r.Hold())
	now := s.clock.read()
	want := seckill.Order{
		ID: r.Order, Item: s.item(0), Caller: seckill.CallerRef{Merchant: merchant}, Activity: activity, SKU: "phone-x",
		User: "u-1", Quantity: 2, State: seckill.OrderCancelled, Reason: seckill.ReasonNotAccepted, Units: seckill.UnitsVoid,
		CreatedAt: now, UpdatedAt: now, PayBy: now,
	}
	equal(s, "tombstone", s.find(r.Order), want)
	s.counts(0, 10, 0, 0)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0, 1), want, inventory.SettleVoid)})
}

func buryOrdered(s *shop) {
	open, gone := s.order(0, "u-1", "k", 1), s.cancel(s.order(0, "u-2", "k", 1))
	paid := s.pay(seckill.PaymentBooked, s.order(0, "u-3", "k", 1), "p-1")
	s.drain()
	absent := s.record(0, "u-4", "k", 1)
	s.bury([]bool{true, true, false, true}, s.ref(0, 1), open.Hold(), gone.Hold(), absent.Hold(), paid.Hold())
	for _, o := range []seckill.Order{open, gone, paid} {
		equal(s, "order", s.find(o.ID), o)
	}
	equal(s, "settlements", len(s.outbox()), 1)
	s.counts(0, 10, 1, 1)
}

func buryTwice(s *shop) {
	a, b := s.hold(0, "u-1", "k", 1), s.hold(0, "u-2", "k", 1)
	s.bury([]bool{false, false, false}, s.ref(0, 1), a, b, a)
	equal(s, "settlements", len(s.outbox()), 2)
	s.bury([]bool{false, false}, s.ref(0, 1), b, a) // a sweeper that crashed begins again
	equal(s, "settlements", len(s.drain()), 2)
	s.bury([]bool{false, false}, s.ref(0, 1), b, a)
	equal(s, "settlements", len(s.outbox()), 0)
}

func buryThenAccept(s *shop) {
	r := s.record(0, "u-1", "k", 1)
	s.bury([]bool{false}, s.ref(0, 1), r.Hold())
	tombstone := s.find(r.Order)
	got := s.accept([]seckill.Outcome{exists}, r)[0]
	equal(s, "order", got.Order, tombstone)
	s.counts(0, 10, 0, 0)
	equal(s, "settlements", len(s.outbox()), 1)
	moved, err := s.store.Cancel(s.ctx, []seckill.OrderID{r.Order})
	s.must(err)
	equal(s, "cancelled", moved[0], seckill.Moved{Order: tombstone})
	s.order(0, "u-1", "l", 2) // what is buried counts against nobody's limit
}

func buryFenced(s *shop) {
	s.fence(s.ref(0, 3))
	r := s.record(0, "u-1", "k", 1)
	for _, epoch := range []inventory.Epoch{0, 1, 2, 4} {
		withdrawal := inventory.Hold{ID: seckill.NewWithdrawalID(s.item(0), "w"), Quantity: 1}
		_, err := s.store.Bury(s.ctx, s.ref(0, epoch), []inventory.Hold{r.Hold(), withdrawal})
		s.wants(err, seckill.ErrFenced)
	}
	equal(s, "order", s.find(r.Order), seckill.Order{})
	equal(s, "outbox", s.outbox(), nil)
	_, err := s.store.Bury(s.ctx, inventory.Ref{Item: 4711, Epoch: 1}, []inventory.Hold{r.Hold()})
	s.wants(err, seckill.ErrNotFound)
	s.bury([]bool{false}, s.ref(0, 3), r.Hold())
	s.bury([]bool{}, s.ref(0, 3))
}

func buryWithdrawal(s *shop) {
	lost := inventory.Hold{ID: seckill.NewWithdrawalID(s.item(0), "lost"), Quantity: 2}
	done := inventory.Hold{ID: seckill.NewWithdrawalID(s.item(0), "done"), Quantity: 3}
	s.withdraw(0, 1, "done", 3)
	s.drain()
	order := s.order(0, "u-1", "k", 1)
	s.bury([]bool{false, true, true, false}, s.ref(0, 1), lost, done, order.Hold(), lost)
	row := seckill.Outgoing{Ref: s.ref(0, 1), Settlement: inventory.Settlement{Hold: lost, Kind: inventory.SettleVoid}}
	equal(s, "outbox", s.drain(), []seckill.Outgoing{row})
	s.bury([]bool{false, true}, s.ref(0, 1), lost, done)
	equal(s, "outbox", s.outbox(), nil)
	s.counts(0, 7, 1, 0)

	_, _, err := s.tryWithdraw(0, 1, "lost", -2)
	s.wants(err, seckill.ErrNotFound)
	s.counts(0, 7, 1, 0)
	_, found, err := s.store.FindStockChange(s.ctx, s.item(0), "lost")
	s.must(err)
	equal(s, "a tombstone is a stock change", found, false)
}

func buryMany(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 5000, 0})
	var records []seckill.Record
	for i := range 1100 {
		records = append(records, s.record(0, user(i), "k", 1))
	}
	_, err := s.store.Accept(s.ctx, records[:500])
	s.must(err)
	holds := make([]inventory.Hold, len(records))
	for i := range records {
		holds[i] = records[i].Hold()
	}
	got, err := s.store.Bury(s.ctx, s.ref(0, 1), holds)
	s.must(err)
	for i := range got {
		if got[i] != (i < 500) {
			t.Fatalf("hold %d: its order exists: %v", i, got[i])
		}
	}
	equal(s, "settlements", len(s.drain()), 600)
	s.counts(0, 5000, 500, 0)
}
