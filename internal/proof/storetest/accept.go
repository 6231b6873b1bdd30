package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

const (
	opened   = seckill.OutcomeOpened
	exists   = seckill.OutcomeExists
	rejected = seckill.OutcomeRejected
	skipped  = seckill.OutcomeSkipped
	parked   = seckill.OutcomeParked
)

func acceptCases() []testCase {
	return []testCase{
		selling("OpensAnOrder", acceptOpens),
		selling("TestL4_ARecordThatComesAgainMeetsItsOrder", acceptAgain),
		selling("TestL4_ARecordThatComesTwiceInABatch", acceptTwice),
		selling("Epoch_AnOlderOneWithoutARowIsSkipped", acceptSkips),
		selling("Epoch_ALaterOneIsTakenAndToldOf", acceptAhead),
		{"TestL1_RejectsWhatIsNotThere", acceptSoldOut},
		{"TestL1_CountsWhatIsSold", acceptCountsSold},
		{"TestL1_AShardOfASpreadItemHasItsShareOnly", acceptSpread},
		{"TestL5_RejectsWhatABuyerMayNotHave", acceptLimit},
		{"TestL5_CountsOpenAndSoldButNotVoid", acceptLimitCounts},
		{"NoLimitIsNoLimit", acceptUnlimited},
		{"ManyPromisesOfManyItems", acceptMany},
		{"KeepsNamesAsTheyCome", acceptNames},
		{"NothingIsNothing", acceptNothing},
	}
}

func acceptOpens(s *shop) {
	s.clock.advance(time.Minute + 123456*time.Microsecond)
	r := s.promise(0, "u-1", "key", 2)
	s.clock.advance(time.Second)
	got := s.accept([]seckill.Outcome{opened}, r)[0]
	want := s.row(r, seckill.OrderPending, "", seckill.UnitsOpen)
	equal(s, "acceptance", got, seckill.Acceptance{Outcome: opened, Order: want, Ref: s.ref(0)})
	equal(s, "order", s.find(r.Order), want)
	s.counts(0, 10, 2, 0)
	equal(s, "outbox", s.outbox(), nil)
	s.sums()
}

func acceptAgain(s *shop) {
	r := s.promise(0, "u-1", "key", 2)
	first := s.accept([]seckill.Outcome{opened}, r)[0].Order
	s.clock.advance(time.Minute)
	again := s.accept([]seckill.Outcome{exists}, r)[0]
	equal(s, "order", again.Order, first)
	s.counts(0, 10, 2, 0)

	// In any state of the order, and in any later epoch.
	gone, old := s.cancel(first), s.ref(0)
	s.fence(s.shard(0))
	again = s.acceptAt(old, []seckill.Outcome{exists}, r)[0]
	equal(s, "acceptance", again, seckill.Acceptance{Outcome: exists, Order: gone, Ref: s.ref(0)})
	s.counts(0, 10, 0, 0)
	equal(s, "skipped", s.book(0).Skipped, 0)
}

func acceptTwice(s *shop) {
	r, other := s.promise(0, "u-1", "key", 2), s.promise(0, "u-2", "key", 2)
	got := s.accept([]seckill.Outcome{opened, opened, exists, exists}, r, other, r, other)
	equal(s, "the repeat's order", got[2].Order, got[0].Order)
	// In another page of the batch, and in another batch.
	pages := []seckill.Page{s.page(s.ref(0), s.promise(0, "u-3", "key", 1)), s.page(s.ref(0), s.promise(0, "u-3", "key", 1))}
	s.acceptBatch([]seckill.Outcome{opened, exists}, seckill.Batch{Pages: pages})
	s.acceptBatch([]seckill.Outcome{exists, exists}, seckill.Batch{Pages: pages})
	s.counts(0, 10, 5, 0)
	s.sums()
}

func acceptSkips(s *shop) {
	old, before := s.promise(0, "u-1", "key", 1), s.ref(0)
	s.fence(s.shard(0))
	got := s.acceptAt(before, []seckill.Outcome{skipped, skipped}, old, old)
	equal(s, "skipped", got[0], seckill.Acceptance{Outcome: skipped, Ref: s.ref(0)})
	s.accept([]seckill.Outcome{opened}, s.promise(0, "u-2", "key", 1))
	equal(s, "order", s.find(old.Order), seckill.Order{})
	equal(s, "skipped", s.book(0).Skipped, 2)
	s.counts(0, 10, 1, 0)
	equal(s, "outbox", s.outbox(), nil)
}

func acceptAhead(s *shop) {
	r, ahead := s.promise(0, "u-1", "key", 1), beside(s.ref(0), 7)
	got := s.acceptAt(ahead, []seckill.Outcome{opened}, r)[0]
	equal(s, "ahead, under the epoch of the books", []any{got.Ahead, got.Ref}, []any{true, s.ref(0)})
	equal(s, "granted in", s.find(r.Order).Grant.Epoch, ahead.Epoch)
	s.counts(0, 10, 1, 0)
	again := s.acceptAt(ahead, []seckill.Outcome{exists}, r)[0]
	equal(s, "ahead", again.Ahead, true)
}

func acceptSoldOut(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 5, 0, 1}, goods{"phone-y", 1, 0, 1})
	got := s.accept([]seckill.Outcome{opened, rejected, opened, rejected, opened},
		s.promise(0, "u-1", "k", 3), s.promise(0, "u-2", "k", 3), s.promise(0, "u-3", "k", 2), s.promise(0, "u-4", "k", 1),
		s.promise(1, "u-4", "k", 1))
	for _, i := range []int{1, 3} {
		o := got[i].Order
		s.isRejected(o, seckill.ReasonSoldOut)
		equal(s, "what the buyer reads", s.find(o.ID), o)
	}
	s.counts(0, 5, 5, 0)
	s.counts(1, 1, 1, 0)
	equal(s, "rejected", s.book(0).Rejected, 2)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{
		settlement(s.ref(0), got[1].Order, inventory.SettleVoid), settlement(s.ref(0), got[3].Order, inventory.SettleVoid)})
	// A repeat gets the rejection, and is not counted again.
	s.accept([]seckill.Outcome{exists}, s.promise(0, "u-2", "k", 3))
	equal(s, "rejected", s.book(0).Rejected, 2)
	equal(s, "outbox", len(s.outbox()), 2)
	s.sums()
}

func (s *shop) isRejected(o seckill.Order, reason seckill.Reason) {
	s.t.Helper()
	equal(s, "rejected order", []any{o.State, o.Reason, o.Units}, []any{seckill.OrderRejected, reason, seckill.UnitsVoid})
}

// settlement is the outbox row that an order leaves when it ends.
func settlement(ref inventory.Ref, o seckill.Order, kind inventory.Kind) seckill.Outgoing {
	return seckill.Outgoing{Ref: ref, Settlement: inventory.Settlement{Hold: o.Hold(), Kind: kind}}
}

func acceptCountsSold(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 3, 0, 1})
	paid, kept, gone := s.order(0, "u-1", "k", 1), s.order(0, "u-2", "k", 1), s.order(0, "u-3", "k", 1)
	s.pay(seckill.PaymentBooked, paid, "p-1")
	s.cancel(gone)
	s.counts(0, 3, 1, 1)
	s.accept([]seckill.Outcome{opened, rejected}, s.promise(0, "u-4", "k", 1), s.promise(0, "u-5", "k", 1))
	s.cancel(kept)
	s.accept([]seckill.Outcome{opened, rejected}, s.promise(0, "u-6", "k", 1), s.promise(0, "u-7", "k", 1))
	s.counts(0, 3, 2, 1)
	s.sums()
}

// acceptSpread: each shard of a spread item has its own row, its own CHECK, and its own share.
func acceptSpread(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 7, 0, 3})
	on := make(map[inventory.ShardID]int64)
	for n := 0; len(on) < 3 || on[s.shard(0)] < 5; n++ {
		r := s.promise(0, user(n), "k", 1)
		shard := s.place(&r).Shard
		b := s.bookOn(0, shard)
		want := opened
		if b.Open == b.Total {
			want = rejected
		}
		s.accept([]seckill.Outcome{want}, r)
		on[shard]++
	}
	totals := make(map[int64]int)
	books, err := s.store.ActivityBooks(s.ctx, activity)
	s.must(err)
	for i, b := range books {
		totals[b.Total]++
		if b.Open > b.Total || i > 0 && b.Shard <= books[i-1].Shard {
			t.Fatalf("books %+v", books)
		}
	}
	equal(s, "shares", totals, map[int64]int{3: 1, 2: 2})
	equal(s, "the home's share", s.book(0).Total, 3)
	s.sums()
}

func acceptLimit(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 2, 1}, goods{"phone-y", 100, 2, 1})
	got := s.accept([]seckill.Outcome{opened, opened, rejected, opened, opened, rejected},
		s.promise(0, "u-1", "a", 1), s.promise(0, "u-1", "b", 1), s.promise(0, "u-1", "c", 1), // two keys too many
		s.promise(1, "u-1", "a", 2), // another item
		s.promise(0, "u-2", "a", 1), // another buyer
		s.promise(0, "u-2", "b", 2))
	for _, i := range []int{2, 5} {
		s.isRejected(got[i].Order, seckill.ReasonPurchaseLimit)
	}
	s.accept([]seckill.Outcome{rejected, opened}, s.promise(0, "u-1", "d", 1), s.promise(0, "u-2", "c", 1)) // a later batch
	s.counts(0, 100, 4, 0)
	s.counts(1, 100, 2, 0)
}

func acceptLimitCounts(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 2, 1})
	first, second := s.order(0, "u-1", "a", 1), s.order(0, "u-1", "b", 1)
	s.pay(seckill.PaymentBooked, first, "p-1")
	s.accept([]seckill.Outcome{rejected}, s.promise(0, "u-1", "c", 1)) // one sold, one open
	s.cancel(second)
	s.accept([]seckill.Outcome{opened, rejected}, s.promise(0, "u-1", "d", 1), s.promise(0, "u-1", "e", 1))
	s.clock.advance(window + time.Second)
	equal(s, "timed out", s.timeOut(10), 1)
	s.accept([]seckill.Outcome{opened, rejected}, s.promise(0, "u-1", "f", 1), s.promise(0, "u-1", "g", 1))
	s.counts(0, 100, 1, 1)
}

func acceptUnlimited(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 0, 1})
	for i := range 30 {
		s.order(0, "u-1", fmt.Sprint(i), 3)
	}
	s.counts(0, 100, 90, 0)
}

// acceptMany accepts more promises than fit in one statement, with repeats at every position.
func acceptMany(t *testing.T, open Open) {
	s := newShop(t, open, goods{"a", 400, 0, 1}, goods{"b", 10_000, 3, 1}, goods{"c", 10_000, 0, 2})
	var promises []seckill.Promise
	for i := range 1500 {
		promises = append(promises, s.promise(i/100%3, user(i%700), fmt.Sprint(i), 1))
	}
	first, err := s.store.Accept(s.ctx, seckill.Batch{Pages: s.pages(promises[:900]...)})
	s.must(err)
	all, err := s.store.Accept(s.ctx, seckill.Batch{Pages: s.pages(promises...)})
	s.must(err)
	count := make(map[seckill.Outcome]int)
	ids := make([]seckill.OrderID, len(all))
	want := make([]seckill.Order, len(all))
	for i, a := range all {
		count[a.Outcome]++
		ids[i], want[i] = promises[i].Order, a.Order
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
	s.sums()
}

func acceptNames(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 1, 1})
	names := []seckill.UserID{
		"a'b\"c\\d", "x; DROP TABLE orders; --", "日本語🙂", " space ", "A", "a", "%_", "[1]", "{}", "é", "e\u0301",
	}
	for _, name := range names {
		o := s.order(0, name, "k", 1)
		equal(s, "user", s.find(o.ID).User, name)
		s.accept([]seckill.Outcome{rejected}, s.promise(0, name, "l", 1)) // L5 counts each under its own name only
	}
	s.counts(0, 100, int64(len(names)), 0)
}

func acceptNothing(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 1, 1})
	s.acceptBatch(nil, seckill.Batch{})
	s.acceptBatch(nil, seckill.Batch{Pages: []seckill.Page{s.page(s.ref(0))}}) // a marker
	s.sums()
}
