package storetest

import (
	"bytes"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func letterCases() []testCase {
	return []testCase{
		{"AreKeptOnce", deadLetters},
		selling("OfAnUnfitPromise_NamesItAndKeepsItsPage", unfitLetter),
		selling("TestL2_AReplayMakesOrdersOfParkedPromises", replayUnfit),
		selling("Replay_OfWhatIsStillUnfitKeepsTheLetter", replayAgain),
		selling("Replay_OfALockedRowKeepsTheLetter", replayLocked),
		{"TestL1_AReplayRejectsWhatIsNotThere", replaySoldOut},
		selling("TestL2_ADamagedPageIsParkedByItsHeader", replayRecord),
		selling("Discard_RejectsParkedOrders", discardUnfit),
		selling("Discard_OfADamagedPage", discardRecord),
		{"Discard_CountsAndRecords", discardDeadLetters},
		selling("TestL4_ALetterIsReplayedOrDiscardedOnce", lettersOnce),
	}
}

func (s *shop) letters() []seckill.DeadLetter {
	s.t.Helper()
	got, err := s.store.DeadLetters(s.ctx, 0, 1000)
	s.must(err)
	return got
}

func (s *shop) keep(letters ...seckill.DeadLetter) {
	s.t.Helper()
	s.acceptBatch(nil, seckill.Batch{Letters: letters})
}

// replay replays letters and checks the outcome of each order.
func (s *shop) replay(want []seckill.Outcome, ids ...int64) []seckill.Acceptance {
	s.t.Helper()
	got, err := s.store.ReplayDeadLetters(s.ctx, ids, author)
	s.must(err)
	outcomes := make([]seckill.Outcome, len(got))
	for i := range got {
		outcomes[i] = got[i].Outcome
	}
	equal(s, "outcomes of the replay", outcomes, want)
	return got
}

func deadLetters(t *testing.T, open Open) {
	s := emptyShop(t, open)
	letters := []seckill.DeadLetter{
		{Partition: 1, Offset: 7, Problem: "bad quantity", Value: []byte{0, 1, 2, 255}},
		{Partition: 0, Offset: 7, Problem: "no record", Value: []byte{}},
		{Partition: 1, Offset: 7, Problem: "a record of a topic made anew", Value: []byte("another")},
	}
	s.keep(append(letters, letters[0])...)
	first := s.clock.read()
	s.clock.advance(time.Minute)
	late := seckill.DeadLetter{Partition: 1, Offset: 1 << 40, Problem: "late", Value: []byte("x")}
	s.keep(letters[0], late)
	got := s.letters()
	equal(s, "number of letters", len(got), 4)
	for i, want := range append(letters, late) {
		want.ID, want.At = got[i].ID, first
		if i == 3 {
			want.At = s.clock.read()
		}
		if i > 0 && got[i].ID <= got[i-1].ID {
			t.Fatalf("letter %d follows %d", got[i].ID, got[i-1].ID)
		}
		equal(s, "value", string(got[i].Value), string(want.Value))
		got[i].Value, want.Value = nil, nil
		equal(s, "letter", got[i], want)
	}
	page, err := s.store.DeadLetters(s.ctx, got[0].ID, 1)
	s.must(err)
	equal(s, "page", []any{len(page), page[0].ID}, []any{1, got[1].ID})
}

func unfitLetter(s *shop) {
	r := s.unfit(0, "u-1", "k", 2)
	page := s.page(s.ref(0), s.promise(0, "u-2", "k", 1), r)
	page.Partition, page.Offset = 3, 77
	got := s.acceptBatch([]seckill.Outcome{opened, parked}, seckill.Batch{Pages: []seckill.Page{page}})
	row := s.parkedRow(r, seckill.ReasonUnfit)
	row.Grant.Partition, row.Grant.Offset = 3, 77
	equal(s, "order", got[1].Order, row)
	letters := s.letters()
	equal(s, "letters", len(letters), 1)
	l := letters[0]
	equal(s, "letter", []any{l.Order, l.Partition, l.Offset, l.At}, []any{r.Order, int32(3), int64(77), s.clock.read()})
	kept, err := seckill.ParsePage(l.Value)
	s.must(err)
	equal(s, "promises kept", []any{len(kept.Promises), kept.Promises[0].Order}, []any{1, r.Order})
	equal(s, "parked units", s.book(0).Parked, 2)
	s.sums()
}

// reprice changes the price of the shop's items.
func (s *shop) reprice(minor int64) {
	s.t.Helper()
	got, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		for i := range a.Items {
			a.Items[i].Price.Minor = minor
		}
		return a, nil
	})
	s.must(err)
	s.items = got.Items
}

func replayUnfit(s *shop) {
	r := s.unfit(0, "u-1", "k", 1)
	o := s.accept([]seckill.Outcome{parked}, r)[0].Order
	letters := s.letters()
	s.reprice(price.Minor + 1)
	s.clock.advance(time.Minute)
	got := s.replay([]seckill.Outcome{opened}, letters[0].ID)[0]
	o.State, o.Reason, o.Units = seckill.OrderPending, "", seckill.UnitsOpen
	o.UpdatedAt, o.PayBy = s.clock.read(), s.clock.read().Add(window)
	equal(s, "acceptance", got, seckill.Acceptance{Outcome: opened, Order: o, Ref: s.ref(0)})
	equal(s, "order", s.find(r.Order), o)
	equal(s, "letters", s.letters(), nil)
	change := s.lastChange("dead-letters", "")
	var before []seckill.DeadLetter
	s.decode(change.Before, &before)
	equal(s, "recorded letters", before, letters)
	s.counts(0, 10, 1, 0)
	s.sums()
}

func replayAgain(s *shop) {
	r := s.unfit(0, "u-1", "k", 1)
	s.accept([]seckill.Outcome{parked}, r)
	letters := s.letters()
	got := s.replay([]seckill.Outcome{parked}, letters[0].ID)
	equal(s, "reason", got[0].Order.Reason, seckill.ReasonUnfit)
	equal(s, "letters", s.letters(), letters)
	equal(s, "state", s.find(r.Order).State, seckill.OrderParked)
	s.replay(nil)
	s.replay(nil, 4711)
	s.sums()
}

func replayLocked(s *shop) {
	s.accept([]seckill.Outcome{parked}, s.unfit(0, "u-1", "k", 1))
	letters := s.letters()
	s.reprice(price.Minor + 1)
	unlock := s.lock(0, s.shard(0))
	s.replay([]seckill.Outcome{parked}, letters[0].ID)
	equal(s, "letters", s.letters(), letters)
	unlock()
	s.unpark(10) // its letter is replayed by people
	s.replay([]seckill.Outcome{opened}, letters[0].ID)
	equal(s, "letters", s.letters(), nil)
	s.sums()
}

func replaySoldOut(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 2, 0, 1})
	s.order(0, "u-1", "k", 2)
	s.accept([]seckill.Outcome{parked}, s.unfit(0, "u-2", "k", 1)) // a shard that forgot an order gave it a unit
	letters := s.letters()
	s.reprice(price.Minor + 1)
	got := s.replay([]seckill.Outcome{rejected}, letters[0].ID)[0]
	s.isRejected(got.Order, seckill.ReasonSoldOut)
	equal(s, "order", s.find(got.Order.ID), got.Order)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0), got.Order, inventory.SettleVoid)})
	equal(s, "letters", s.letters(), nil)
	s.counts(0, 2, 2, 0)
	s.sums()
}

// damaged is a page whose header can be read, and whose body can't.
func (s *shop) damaged(promises ...seckill.Promise) (header seckill.Page, value []byte) {
	s.t.Helper()
	page := s.page(s.ref(0), promises...)
	value = seckill.AppendPage(nil, &page)
	value[len(value)-1] ^= 1
	header, err := seckill.ParsePage(value)
	s.wants(err, seckill.ErrPage)
	return header, value
}

// parkDamaged parks a damaged page as a worker does: each order with the data in the header, and
// one letter for the whole record.
func (s *shop) parkDamaged(promises ...seckill.Promise) (value []byte) {
	s.t.Helper()
	page, value := s.damaged(promises...)
	want := make([]seckill.Outcome, len(page.Orders))
	for i, claimed := range page.Orders {
		page.Promises = append(page.Promises, seckill.Promise{Order: claimed.Order, Quantity: claimed.Quantity, Accepted: page.Put})
		want[i] = parked
	}
	letter := seckill.DeadLetter{Partition: 2, Offset: 9, Problem: "damaged", Value: value}
	s.acceptBatch(want, seckill.Batch{Pages: []seckill.Page{page}, Letters: []seckill.DeadLetter{letter}})
	return value
}

// replayRecord: a damaged page parks its orders. When a worker can read the page, a replay decides
// them.
func replayRecord(s *shop) {
	a, b := s.promise(0, "u-1", "k", 1), s.promise(0, "u-2", "k", 2)
	value := s.parkDamaged(a, b)
	letters := s.letters()
	equal(s, "letters", []any{len(letters), letters[0].Order}, []any{1, seckill.OrderID("")})
	equal(s, "parked units", s.book(0).Parked, 3)
	s.sums()
	s.replay(nil, letters[0].ID)
	equal(s, "letters", s.letters(), letters)

	value[len(value)-1] ^= 1
	s.keep(seckill.DeadLetter{Partition: 2, Offset: 9, Problem: "mended", Value: value})
	mended := s.letters()[1]
	s.clock.advance(time.Minute)
	got := s.replay([]seckill.Outcome{opened, opened}, mended.ID)
	for i, r := range []seckill.Promise{a, b} {
		want := s.row(r, seckill.OrderPending, "", seckill.UnitsOpen)
		want.CreatedAt = got[i].Order.CreatedAt
		equal(s, "order", s.find(r.Order), want)
		equal(s, "acceptance", got[i].Order.ID, want.ID)
	}
	s.counts(0, 10, 3, 0)
	equal(s, "parked units", s.book(0).Parked, 0)
	equal(s, "letters", s.letters(), letters)
	s.sums()

	// A record that was kept whole is read like a record of the log, even if its orders have no
	// rows.
	page := s.page(s.ref(0), s.promise(0, "u-3", "k", 1), a)
	s.keep(seckill.DeadLetter{Partition: 2, Offset: 10, Problem: "late", Value: seckill.AppendPage(nil, &page)})
	s.replay([]seckill.Outcome{opened, exists}, s.letters()[1].ID)
	s.counts(0, 10, 4, 0)
	s.sums()
}

func discardUnfit(s *shop) {
	r := s.unfit(0, "u-1", "k", 2)
	o := s.accept([]seckill.Outcome{parked}, r)[0].Order
	s.clock.advance(time.Minute)
	n, err := s.store.DiscardDeadLetters(s.ctx, []int64{s.letters()[0].ID}, author)
	s.must(err)
	equal(s, "discarded", n, 1)
	o.State, o.Reason, o.Units, o.UpdatedAt = seckill.OrderRejected, seckill.ReasonDiscarded, seckill.UnitsVoid, s.clock.read()
	o.EndedAt = o.UpdatedAt
	equal(s, "order", s.find(r.Order), o)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0), o, inventory.SettleVoid)})
	b := s.book(0)
	equal(s, "book", []int64{b.Parked, b.Rejected}, []int64{0, 1})
	s.accept([]seckill.Outcome{exists}, r)
	s.sums()
}

func discardRecord(s *shop) {
	s.parkDamaged(s.promise(0, "u-1", "k", 1), s.promise(0, "u-2", "k", 2))
	n, err := s.store.DiscardDeadLetters(s.ctx, []int64{s.letters()[0].ID}, author)
	s.must(err)
	equal(s, "discarded", n, 1)
	for _, id := range []seckill.UserID{"u-1", "u-2"} {
		s.isRejected(s.find(s.promise(0, id, "k", 1).Order), seckill.ReasonDiscarded)
	}
	equal(s, "settlements", len(s.outbox()), 2)
	equal(s, "parked units", s.book(0).Parked, 0)
	s.sums()
}

func discardDeadLetters(t *testing.T, open Open) {
	s := emptyShop(t, open)
	for i := range 4 {
		s.keep(seckill.DeadLetter{Partition: 0, Offset: int64(i), Problem: "p", Value: bytes.Repeat([]byte{byte(i)}, 3)})
	}
	all := s.letters()
	ids := []int64{all[2].ID, all[0].ID, 4711, all[2].ID}
	n, err := s.store.DiscardDeadLetters(s.ctx, ids, author)
	s.must(err)
	equal(s, "discarded", n, 2)
	change := s.lastChange("dead-letters", "")
	var before []seckill.DeadLetter
	s.decode(change.Before, &before)
	equal(s, "after", change.After, "")
	equal(s, "recorded letters", before, []seckill.DeadLetter{all[0], all[2]})
	equal(s, "left", s.letters(), []seckill.DeadLetter{all[1], all[3]})
	s.unchanged(func() {
		n, err := s.store.DiscardDeadLetters(s.ctx, ids, author)
		s.must(err)
		equal(s, "discarded again", n, 0)
		_, err = s.store.DiscardDeadLetters(s.ctx, nil, author)
		s.must(err)
	})
}

func lettersOnce(s *shop) {
	s.accept([]seckill.Outcome{parked, parked}, s.unfit(0, "u-1", "k", 1), s.unfit(0, "u-2", "k", 1))
	letters := s.letters()
	s.reprice(price.Minor + 1)
	s.replay([]seckill.Outcome{opened}, letters[0].ID)
	n, err := s.store.DiscardDeadLetters(s.ctx, []int64{letters[0].ID, letters[1].ID}, author)
	s.must(err)
	equal(s, "discarded", n, 1)
	s.replay(nil, letters[0].ID, letters[1].ID)
	equal(s, "the order that was replayed", s.find(letters[0].Order).State, seckill.OrderPending)
	equal(s, "settlements", len(s.outbox()), 1)
	s.sums()
}
