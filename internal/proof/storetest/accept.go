package storetest

import (
	"fmt"
	"testing"
	"time"

	"penstock/inventory"
	"penstock/seckill"
)

const (
	opened   = seckill.OutcomeOpened
	exists   = seckill.OutcomeExists
	rejected = seckill.OutcomeRejected
	skipped  = seckill.OutcomeSkipped
	unfit    = seckill.OutcomeUnfit
)

func acceptCases() []testCase {
	return []testCase{
		selling("OpensAnOrder", acceptOpens),
		selling("TestL4_ARecordThatComesAgainMeetsItsOrder", acceptAgain),
		selling("TestL4_ARecordThatComesTwiceInABatch", acceptTwice),
		selling("SkipsOlderEpochsWithoutARow", acceptSkips),
		selling("CallsUnfitWhatCanNeverBecomeAnOrder", acceptUnfit),
		{"TestL1_RejectsWhatIsNotThere", acceptSoldOut},
		{"TestL1_CountsWhatIsSold", acceptCountsSold},
		{"TestL5_RejectsWhatABuyerMayNotHave", acceptLimit},
		{"TestL5_CountsOpenAndSoldButNotVoid", acceptLimitCounts},
		{"NoLimitIsNoLimit", acceptUnlimited},
		{"ManyRecordsOfManyItems", acceptMany},
		{"KeepsNamesAsTheyCome", acceptNames},
		{"NothingIsNothing", acceptNothing},
	}
}

func acceptOpens(s *shop) {
	s.clock.advance(time.Minute + 123456*time.Microsecond)
	r := s.record(0, "u-1", "key", 2)
	got := s.accept([]seckill.Outcome{opened}, r)[0]
	now := s.clock.read()
	want := seckill.Order{
		ID: r.Order, Item: s.item(0), Caller: caller, Activity: activity, SKU: "phone-x", User: "u-1", Quantity: 2,
		Amount: seckill.Money{Minor: 3998, Currency: "CNY"}, State: seckill.OrderPending, Units: seckill.UnitsOpen,
		CreatedAt: now, UpdatedAt: now, PayBy: now.Add(window), Grant: r.Grant,
	}
	equal(s, "acceptance", got, seckill.Acceptance{Outcome: opened, Order: want, Epoch: 1})
	equal(s, "order", s.find(r.Order), want)
	s.counts(0, 10, 2, 0)
	equal(s, "outbox", s.outbox(), nil)
}

func acceptAgain(s *shop) {
	r := s.record(0, "u-1", "key", 2)
	first := s.accept([]seckill.Outcome{opened}, r)[0].Order
	s.clock.advance(time.Minute)
	again := s.accept([]seckill.Outcome{exists}, r)[0]
	equal(s, "order", again.Order, first)
	s.counts(0, 10, 2, 0)

	// Whatever became of it, and whatever epoch it is by now.
	moved, err := s.store.Cancel(s.ctx, []seckill.OrderID{r.Order})
	s.must(err)
	s.fence(s.ref(0, 2))
	again = s.accept([]seckill.Outcome{exists}, r)[0]
	equal(s, "acceptance", again, seckill.Acceptance{Outcome: exists, Order: moved[0].Order, Epoch: 2})
	s.counts(0, 10, 0, 0)
	equal(s, "skipped", s.book(0).Skipped, 0)
}

func acceptTwice(s *shop) {
	r, other := s.record(0, "u-1", "key", 2), s.record(0, "u-2", "key", 2)
	got := s.accept([]seckill.Outcome{opened, opened, exists, exists}, r, other, r, other)
	equal(s, "the repeat's order", got[2].Order, got[0].Order)
	s.counts(0, 10, 4, 0)
}

func acceptSkips(s *shop) {
	old := s.record(0, "u-1", "key", 1)
	s.fence(s.ref(0, 2))
	got := s.accept([]seckill.Outcome{skipped, opened, skipped}, old, s.recordAt(0, 2, "u-2", "key", 1), old)
	equal(s, "epoch", got[0].Epoch, 2)
	equal(s, "order", s.find(old.Order), seckill.Order{})
	equal(s, "skipped", s.book(0).Skipped, 2)
	s.counts(0, 10, 1, 0)
	equal(s, "outbox", s.outbox(), nil)
}

func acceptUnfit(s *shop) {
	change := func(f func(*seckill.Record)) seckill.Record {
		r := s.record(0, "u-1", "key", 1)
		f(&r)
		return r
	}
	records := []seckill.Record{
		change(func(r *seckill.Record) { r.Grant.Epoch = 2 }), // nobody gave that out
		change(func(r *seckill.Record) { r.Order = seckill.NewOrderID(4711, caller, activity, "phone-x", "u-1", "key") }),
		change(func(r *seckill.Record) { r.Order = "garbage" }),
		change(func(r *seckill.Record) { r.Activity = "other" }),
		change(func(r *seckill.Record) { r.SKU = "other" }),
		change(func(r *seckill.Record) { r.Caller.Merchant = "other" }),
	}
	want := make([]seckill.Outcome, len(records))
	for i := range want {
		want[i] = unfit
	}
	s.accept(want, records...)
	s.accept(append(want, opened), append(records, s.record(0, "u-1", "key", 1))...)
	s.counts(0, 10, 1, 0)
}

func acceptSoldOut(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 5, 0}, goods{"phone-y", 1, 0})
	got := s.accept([]seckill.Outcome{opened, rejected, opened, rejected, opened},
		s.record(0, "u-1", "k", 3), s.record(0, "u-2", "k", 3), s.record(0, "u-3", "k", 2), s.record(0, "u-4", "k", 1),
		s.record(1, "u-4", "k", 1))
	for _, i := range []int{1, 3} {
		o := got[i].Order
		s.isRejected(o, seckill.ReasonSoldOut)
		equal(s, "what the buyer reads", s.find(o.ID), o)
	}
	s.counts(0, 5, 5, 0)
	s.counts(1, 1, 1, 0)
	equal(s, "rejected", s.book(0).Rejected, 2)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{
		settlement(s.ref(0, 1), got[1].Order, inventory.SettleVoid), settlement(s.ref(0, 1), got[3].Order, inventory.SettleVoid)})
	// A repeat meets the rejection, and is not counted again.
	s.accept([]seckill.Outcome{exists}, s.record(0, "u-2", "k", 3))
	equal(s, "rejected", s.book(0).Rejected, 2)
	equal(s, "outbox", len(s.outbox()), 2)
}

func (s *shop) isRejected(o seckill.Order, reason seckill.Reason) {
	s.t.Helper()
	equal(s, "rejected order", []any{o.State, o.Reason, o.Units}, []any{seckill.OrderRejected, reason, seckill.UnitsVoid})
}

// settlement is the outbox row that an order leaves when it ends.
func settlement(ref inventory.Ref, o seckill.Order, kind inventory.Kind) seckill.Outgoing {
	return seckill.Outgoing{Ref: ref, Settlement: inventory.Settlement{
		Hold: inventory.Hold{ID: string(o.ID), Buyer: string(o.User), Quantity: o.Quantity}, Kind: kind}}
}

func acceptCountsSold(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 3, 0})
	paid, kept, gone := s.order(0, "u-1", "k", 1), s.order(0, "u-2", "k", 1), s.order(0, "u-3", "k", 1)
	s.pay(seckill.PaymentBooked, paid, "p-1")
	s.cancel(gone)
	s.counts(0, 3, 1, 1)
	s.accept([]seckill.Outcome{opened, rejected}, s.record(0, "u-4", "k", 1), s.record(0, "u-5", "k", 1))
	s.cancel(kept)
	s.accept([]seckill.Outcome{opened, rejected}, s.record(0, "u-6", "k", 1), s.record(0, "u-7", "k", 1))
	s.counts(0, 3, 2, 1)
}

func acceptLimit(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 2}, goods{"phone-y", 100, 2})
	got := s.accept([]seckill.Outcome{opened, opened, rejected, opened, opened, rejected},
		s.record(0, "u-1", "a", 1), s.record(0, "u-1", "b", 1), s.record(0, "u-1", "c", 1), // one buyer, two keys too many
		s.record(1, "u-1", "a", 2), // another item
		s.record(0, "u-2", "a", 1), // another buyer
		s.record(0, "u-2", "b", 2))
	for _, i := range []int{2, 5} {
		s.isRejected(got[i].Order, seckill.ReasonPurchaseLimit)
	}
	s.accept([]seckill.Outcome{rejected, opened}, s.record(0, "u-1", "d", 1), s.record(0, "u-2", "c", 1)) // in a later batch
	s.counts(0, 100, 4, 0)
	s.counts(1, 100, 2, 0)
}

func acceptLimitCounts(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 2})
	first, second := s.order(0, "u-1", "a", 1), s.order(0, "u-1", "b", 1)
	s.pay(seckill.PaymentBooked, first, "p-1")
	s.accept([]seckill.Outcome{rejected}, s.record(0, "u-1", "c", 1)) // one sold, one open
	s.cancel(second)
	s.accept([]seckill.Outcome{opened, rejected}, s.record(0, "u-1", "d", 1), s.record(0, "u-1", "e", 1))
	s.clock.advance(window + time.Second)
	n, err := s.store.TimeOut(s.ctx, 10)
	s.must(err)
	equal(s, "timed out", n, 1)
	s.accept([]seckill.Outcome{opened, rejected}, s.record(0, "u-1", "f", 1), s.record(0, "u-1", "g", 1))
	s.counts(0, 100, 1, 1)
}

func acceptUnlimited(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 0})
	for i := range 30 {
		s.order(0, "u-1", fmt.Sprint(i), 3)
	}
	s.counts(0, 100, 90, 0)
}

// acceptMany is larger than any statement's list, with repeats in every place.
func acceptMany(t *testing.T, open Open) {
	s := newShop(t, open, goods{"a", 400, 0}, goods{"b", 10_000, 3}, goods{"c", 10_000, 0})
	var records []seckill.Record
	for i := range 1500 {
		records = append(records, s.record(i%3, user(i%700), fmt.Sprint(i), 1))
	}
	first, err := s.store.Accept(s.ctx, records[:900])
	s.must(err)
	all, err := s.store.Accept(s.ctx, records)
	s.must(err)
	count := make(map[seckill.Outcome]int)
	ids := make([]seckill.OrderID, len(all))
	want := make([]seckill.Order, len(all))
	for i, a := range all {
		count[a.Outcome]++
		ids[i], want[i] = records[i].Order, a.Order
		if i < len(first) {
			equal(s, "the order met again", a.Order, first[i].Order)
		}
	}
	equal(s, "outcomes", count, map[seckill.Outcome]int{exists: 900, opened: 500, rejected: 100})
	got, err := s.store.FindOrders(s.ctx, ids)
	s.must(err)
	equal(s, "orders", got, want)
	s.counts(0, 400, 400, 0)
	s.counts(1, 10_000, 500, 0)
	s.counts(2, 10_000, 500, 0)
	equal(s, "settlements", len(s.drain()), 100)
}

func acceptNames(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 1})
	names := []seckill.UserID{
		"a'b\"c\\d", "x; DROP TABLE orders; --", "日本語🙂", " space ", "A", "a", "%_", "[1]", "{}", "é", "e\u0301",
	}
	for _, name := range names {
		o := s.order(0, name, "k", 1)
		equal(s, "user", s.find(o.ID).User, name)
		s.accept([]seckill.Outcome{rejected}, s.record(0, name, "l", 1)) // L5 finds each under its own name only
	}
	s.counts(0, 100, int64(len(names)), 0)
}

func acceptNothing(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 1})
	got, err := s.store.Accept(s.ctx, nil)
	s.must(err)
	equal(s, "acceptances", len(got), 0)
}
