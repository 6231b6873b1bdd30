package storetest

import (
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func buryCases() []testCase {
	return []testCase{
		selling("AHoldWithoutAnOrderGetsATombstone", buryAbsent),
		selling("AHoldWithAnOrderIsLeftAlone", buryOrdered),
		selling("TestL4_BuryingTwiceSettlesOnce", buryTwice),
		selling("TestL4_ARecordBehindItsTombstoneCreatesNothing", buryThenAccept),
		selling("Epoch_OnlyUnderTheShards", buryFenced),
		selling("Incarnation_OnlyUnderTheDatabases", buryRestored),
		selling("AWithdrawalsHoldOnlyUntilItIsCommitted", buryWithdrawal),
		selling("AHoldOfAnItemThatIsGone", buryStranger),
		{"ManyHolds", buryMany},
	}
}

// bury buries holds and checks for each whether its order exists.
func (s *shop) bury(ref inventory.Ref, want []bool, holds ...inventory.Hold) {
	s.t.Helper()
	got, err := s.store.Bury(s.ctx, ref, s.incarnation(), holds)
	s.must(err)
	equal(s, "orders exist", got, want)
}

// tombstone is the row of a hold that was buried just now.
func (s *shop) tombstone(h inventory.Hold, ref inventory.Ref) seckill.Order {
	now := s.clock.read()
	return seckill.Order{
		ID: seckill.OrderID(h.ID), Item: h.Item, Caller: seckill.CallerRef{Merchant: merchant}, Activity: activity,
		SKU: "phone-x", User: seckill.UserID(h.Buyer), Quantity: h.Quantity, State: seckill.OrderCancelled,
		Reason: seckill.ReasonNotAccepted, Units: seckill.UnitsVoid, CreatedAt: now, UpdatedAt: now, EndedAt: now,
		PayBy: now, Accepted: now,
		Grant: seckill.Provenance{Shard: ref.Shard, Epoch: ref.Epoch},
	}
}

func buryAbsent(s *shop) {
	r := s.promise(0, "u-1", "k", 2)
	s.clock.advance(time.Minute)
	s.bury(s.ref(0), []bool{false}, r.Hold())
	want := s.tombstone(r.Hold(), s.ref(0))
	equal(s, "tombstone", s.find(r.Order), want)
	s.counts(0, 10, 0, 0)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0), want, inventory.SettleVoid)})
	s.sums()
}

func buryOrdered(s *shop) {
	open, gone := s.order(0, "u-1", "k", 1), s.cancel(s.order(0, "u-2", "k", 1))
	paid := s.pay(seckill.PaymentBooked, s.order(0, "u-3", "k", 1), "p-1")
	s.drain()
	absent := s.promise(0, "u-4", "k", 1)
	s.bury(s.ref(0), []bool{true, true, false, true}, open.Hold(), gone.Hold(), absent.Hold(), paid.Hold())
	for _, o := range []seckill.Order{open, gone, paid} {
		equal(s, "order", s.find(o.ID), o)
	}
	equal(s, "settlements", len(s.outbox()), 1)
	s.counts(0, 10, 1, 1)
}

func buryTwice(s *shop) {
	a, b := s.hold(0, "u-1", "k", 1), s.hold(0, "u-2", "k", 1)
	s.bury(s.ref(0), []bool{false, false, false}, a, b, a)
	equal(s, "settlements", len(s.outbox()), 2)
	s.bury(s.ref(0), []bool{false, false}, b, a) // a sweeper begins again after a crash
	equal(s, "settlements", len(s.drain()), 2)
	s.bury(s.ref(0), []bool{false, false}, b, a)
	equal(s, "settlements", len(s.outbox()), 0)
}

func buryThenAccept(s *shop) {
	r := s.promise(0, "u-1", "k", 1)
	s.bury(s.ref(0), []bool{false}, r.Hold())
	tombstone := s.find(r.Order)
	got := s.accept([]seckill.Outcome{exists}, r)[0]
	equal(s, "order", got.Order, tombstone)
	s.counts(0, 10, 0, 0)
	equal(s, "settlements", len(s.outbox()), 1)
	moved, err := s.store.Cancel(s.ctx, []seckill.Cancellation{queued(r, s.ref(0))})
	s.must(err)
	equal(s, "cancelled", moved[0], seckill.Moved{Order: tombstone})
	s.order(0, "u-1", "l", 2) // a buried hold counts against no limit
}

func buryFenced(s *shop) {
	before, r := s.ref(0), s.promise(0, "u-1", "k", 1)
	s.fence(s.shard(0))
	withdrawal := s.withdrawal(0, s.shard(0), "w", 1)
	for _, ref := range []inventory.Ref{before, beside(s.ref(0), -1), beside(s.ref(0), 1), {Shard: s.shard(0)}} {
		for _, h := range []inventory.Hold{r.Hold(), withdrawal} {
			_, err := s.store.Bury(s.ctx, ref, s.incarnation(), []inventory.Hold{h})
			s.wants(err, seckill.ErrFenced)
		}
	}
	equal(s, "order", s.find(r.Order), seckill.Order{})
	equal(s, "outbox", s.outbox(), nil)
	s.bury(s.ref(0), []bool{false}, r.Hold())
	s.bury(s.ref(0), []bool{})

	// An epoch that was given out does not fence yet: the sweeper of the last epoch may go on.
	_, err := s.store.NextEpoch(s.ctx, s.shard(0))
	s.must(err)
	s.bury(s.ref(0), []bool{false}, s.hold(0, "u-2", "k", 1))
}

// buryRestored: after a restore of the database, a sweep from before it must not decide.
func buryRestored(s *shop) {
	r := s.promise(0, "u-1", "k", 1)
	for _, incarnation := range []string{"", "another life", s.incarnation() + "x"} {
		_, err := s.store.Bury(s.ctx, s.ref(0), incarnation, []inventory.Hold{r.Hold()})
		s.wants(err, seckill.ErrFenced)
	}
	equal(s, "order", s.find(r.Order), seckill.Order{})
	equal(s, "outbox", s.outbox(), nil)
}

func buryWithdrawal(s *shop) {
	lost, done := s.withdrawal(0, s.shard(0), "lost", 2), s.withdrawal(0, s.shard(0), "done", 3)
	s.withdraw(0, "done", 3)
	s.drain()
	order := s.order(0, "u-1", "k", 1)
	s.bury(s.ref(0), []bool{false, true, true, false}, lost, done, order.Hold(), lost)
	row := seckill.Outgoing{
		Ref: s.ref(0), Settlement: inventory.Settlement{Hold: lost, Kind: inventory.SettleVoid}, Stock: true}
	equal(s, "outbox", s.drain(), []seckill.Outgoing{row})
	s.bury(s.ref(0), []bool{false, true}, lost, done)
	equal(s, "outbox", s.outbox(), nil)
	s.counts(0, 7, 1, 0)

	_, _, err := s.tryWithdraw(0, "lost", -2, s.taken(0, s.shard(0), "lost", 2))
	s.wants(err, seckill.ErrNotFound)
	s.counts(0, 7, 1, 0)
	_, found, err := s.store.FindStockChange(s.ctx, s.item(0), "lost")
	s.must(err)
	equal(s, "a tombstone is a stock change", found, false)
}

// buryStranger: the hold's item is not in the books, as after a restore.
func buryStranger(s *shop) {
	h := inventory.Hold{
		Item: 4711, ID: string(seckill.NewOrderID(4711, caller, "u-1", "k")), Buyer: "u-1", Quantity: 1}
	s.bury(s.ref(0), []bool{false}, h)
	want := s.tombstone(h, s.ref(0))
	want.Caller, want.Activity, want.SKU = seckill.CallerRef{}, "", ""
	equal(s, "tombstone", s.find(want.ID), want)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0), want, inventory.SettleVoid)})
}

func buryMany(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 5000, 0, 1})
	var promises []seckill.Promise
	for i := range 1100 {
		promises = append(promises, s.promise(0, user(i), "k", 1))
	}
	_, err := s.store.Accept(s.ctx, seckill.Batch{Pages: s.pages(promises[:500]...)})
	s.must(err)
	holds := make([]inventory.Hold, len(promises))
	for i := range promises {
		holds[i] = promises[i].Hold()
	}
	got, err := s.store.Bury(s.ctx, s.ref(0), s.incarnation(), holds)
	s.must(err)
	for i := range got {
		if got[i] != (i < 500) {
			t.Fatalf("hold %d: its order exists: %v", i, got[i])
		}
	}
	equal(s, "settlements", len(s.drain()), 600)
	s.counts(0, 5000, 500, 0)
	s.sums()
}
