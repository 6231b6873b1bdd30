package storetest

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func epochCases() []testCase {
	return []testCase{
		{"Shards_AreThereFromTheBeginning", shards},
		{"Incarnation_IsOneForThisLife", incarnation},
		{"NextEpoch_GivesEachOutOnce", nextEpoch},
		{"NextEpoch_FollowsTheClock", nextEpochClock},
		selling("NextEpoch_OnlyTheLastOneFences", fenceLast),
		selling("Incarnation_OnlyItsFence", fenceRestored),
		selling("Fence_RepeatedChangesNothing", fenceAgain),
		selling("Snapshot_HasTheShardAtThatMoment", takeAll),
		selling("Snapshot_IsForItsEpochOnly", takeFenced),
		selling("Snapshot_WithAFailedLoadIsNone", takeFails),
		selling("Snapshot_SeesNothingThatComesLater", takeMoment),
		{"Snapshot_AbsorbsStockChangesAndKeepsSettlements", takeOutbox},
		{"Snapshot_HotItemsFirst", takeHot},
		{"Snapshot_OfItsShardOnly", takeShard},
		{"Snapshot_OfMany", takeMany},
		selling("MarkSuspect_HoldsForOneEpoch", markSuspect),
	}
}

func (s *shop) rows() []seckill.ShardRow {
	s.t.Helper()
	got, err := s.store.Shards(s.ctx)
	s.must(err)
	return got
}

func shards(t *testing.T, open Open) {
	s := emptyShop(t, open)
	var want []seckill.ShardRow
	for _, shard := range allShards {
		want = append(want, seckill.ShardRow{Ref: inventory.Ref{Shard: shard}})
	}
	equal(s, "shards", s.rows(), want)
	epoch, err := s.store.NextEpoch(s.ctx, 1)
	s.must(err)
	want[1].NextEpoch = epoch
	equal(s, "shards", s.rows(), want)
	s.must(s.store.Fence(s.ctx, inventory.Ref{Shard: 1, Epoch: epoch}, s.incarnation()))
	want[1].Ref.Epoch, want[1].Unloaded = epoch, true
	equal(s, "shards", s.rows(), want)
}

func incarnation(t *testing.T, open Open) {
	s, other := emptyShop(t, open), emptyShop(t, open)
	first, again, third := s.incarnation(), s.incarnation(), other.incarnation()
	if first == "" || first != again || first == third {
		t.Fatalf("incarnations %q, %q and %q", first, again, third)
	}
}

func nextEpoch(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1})
	before := s.ref(0)
	var mu sync.Mutex
	given := make(map[inventory.Epoch]int)
	inParallel(t, 4, func(int) error {
		for range 10 {
			epoch, err := s.store.NextEpoch(s.ctx, s.shard(0))
			if err != nil {
				return err
			}
			mu.Lock()
			given[epoch]++
			mu.Unlock()
		}
		return nil
	})
	equal(s, "different epochs", len(given), 40)
	for epoch, n := range given {
		if n != 1 || epoch <= before.Epoch {
			t.Errorf("epoch %d was given out %d times, behind %d", epoch, n, before.Epoch)
		}
	}
	equal(s, "the shard's own epoch", s.book(0).Epoch, before.Epoch)
	_, err := s.store.NextEpoch(s.ctx, Shards)
	s.wants(err, seckill.ErrNotFound)
}

// nextEpochClock: a restored database never gives out an epoch a second time, because its clock
// went on.
func nextEpochClock(t *testing.T, open Open) {
	s := emptyShop(t, open)
	next := func() inventory.Epoch {
		t.Helper()
		epoch, err := s.store.NextEpoch(s.ctx, 2)
		s.must(err)
		return epoch
	}
	now := inventory.Epoch(s.clock.read().UnixMilli())
	equal(s, "epochs of one moment", []inventory.Epoch{next(), next()}, []inventory.Epoch{now, now + 1})
	s.clock.advance(time.Second)
	equal(s, "a second later", next(), now+1000)
	s.clock.advance(-time.Minute)
	equal(s, "with a clock that goes back", next(), now+1001)
}

// fenceLast: a slow rebuilder must not fence a shard that a later one has opened.
func fenceLast(s *shop) {
	first, err := s.store.NextEpoch(s.ctx, s.shard(0))
	s.must(err)
	before := s.book(0).Epoch
	second, err := s.store.NextEpoch(s.ctx, s.shard(0))
	s.must(err)
	for _, epoch := range []inventory.Epoch{first, before, 0, second + 1} {
		s.wants(s.store.Fence(s.ctx, inventory.Ref{Shard: s.shard(0), Epoch: epoch}, s.incarnation()), seckill.ErrFenced)
	}
	equal(s, "epoch", s.book(0).Epoch, before)
	s.must(s.store.Fence(s.ctx, inventory.Ref{Shard: s.shard(0), Epoch: second}, s.incarnation()))
	equal(s, "epoch", s.book(0).Epoch, second)
	s.wants(s.store.Fence(s.ctx, inventory.Ref{Shard: Shards, Epoch: second}, s.incarnation()), seckill.ErrNotFound)
}

// fenceRestored: a rebuild from before a restore has waited for records that are now read again.
func fenceRestored(s *shop) {
	epoch, err := s.store.NextEpoch(s.ctx, s.shard(0))
	s.must(err)
	for _, incarnation := range []string{"", "another life", s.incarnation() + "x"} {
		s.wants(s.store.Fence(s.ctx, inventory.Ref{Shard: s.shard(0), Epoch: epoch}, incarnation), seckill.ErrFenced)
	}
	equal(s, "epoch", s.book(0).Epoch, s.ref(0).Epoch)
}

func fenceAgain(s *shop) {
	before := s.ref(0)
	ref := s.fenceOnly(s.shard(0))
	rows := s.rows()
	s.must(s.store.Fence(s.ctx, ref, s.incarnation()))
	equal(s, "shards", s.rows(), rows)
	s.acceptAt(before, []seckill.Outcome{skipped}, s.promise(0, "u-1", "k", 1))
	s.accept([]seckill.Outcome{opened}, s.promise(0, "u-2", "k", 1))
	s.take(ref)
	s.must(s.store.Fence(s.ctx, ref, s.incarnation()))
	s.accept([]seckill.Outcome{opened}, s.promise(0, "u-3", "k", 1))
	_, err := s.store.NextEpoch(s.ctx, s.shard(0))
	s.must(err)
	s.wants(s.store.Fence(s.ctx, ref, s.incarnation()), seckill.ErrFenced)
}

func entry(h inventory.Hold, state inventory.State) inventory.Entry {
	return inventory.Entry{Hold: h, State: state}
}

// sorted makes snapshots comparable.
func sorted(got snapshot) snapshot {
	slices.SortFunc(got.Items, func(a, b inventory.Stocked) int { return cmp.Compare(a.Item, b.Item) })
	slices.SortFunc(got.Entries, compareEntries)
	return got
}

func compareEntries(a, b inventory.Entry) int {
	return cmp.Or(cmp.Compare(a.Item, b.Item), cmp.Compare(a.ID, b.ID))
}

func takeAll(s *shop) {
	open, paid, gone := s.order(0, "u-1", "k", 1), s.order(0, "u-2", "k", 2), s.order(0, "u-3", "k", 1)
	s.pay(seckill.PaymentBooked, paid, "p-1")
	s.cancel(gone)
	no := s.accept([]seckill.Outcome{rejected}, s.promise(0, "u-4", "k", 3))[0].Order
	odd := s.accept([]seckill.Outcome{parked}, s.unfit(0, "u-6", "k", 1))[0].Order
	buried := s.hold(0, "u-5", "k", 1)
	s.bury(s.ref(0), []bool{false}, buried)
	taken, lost := s.withdrawal(0, s.shard(0), "taken", 3), s.withdrawal(0, s.shard(0), "lost", 2)
	s.withdraw(0, "taken", 3)
	s.bury(s.ref(0), []bool{false}, lost)
	got := s.fence(s.shard(0))
	want := snapshot{
		Items: []inventory.Stocked{{Item: s.item(0), Total: 7, Available: 3, Sold: 2}},
		Entries: []inventory.Entry{
			entry(open.Hold(), inventory.Ordered), entry(paid.Hold(), inventory.Sold), entry(gone.Hold(), inventory.Void),
			entry(no.Hold(), inventory.Void), entry(buried, inventory.Void), entry(odd.Hold(), inventory.Ordered),
			entry(taken, inventory.Sold), entry(lost, inventory.Void),
		}}
	if !slices.IsSortedFunc(got.Entries, compareEntries) {
		s.t.Fatalf("an item's holds are not in the order of their names: %+v", got.Entries)
	}
	equal(s, "snapshot", got, sorted(want))
}

func takeFenced(s *shop) {
	before := s.ref(0)
	s.fenceOnly(s.shard(0))
	for _, ref := range []inventory.Ref{before, beside(s.ref(0), 1), {Shard: s.shard(0)}} {
		_, err := s.tryTake(ref)
		s.wants(err, seckill.ErrFenced)
	}
	s.take(s.ref(0))
}

func takeFails(s *shop) {
	s.order(0, "u-1", "k", 1)
	s.restock(0, "r", 5)
	s.fenceOnly(s.shard(0))
	broken := errors.New("no Redis")
	for _, want := range []string{"items", "holds"} {
		err := s.store.Snapshot(s.ctx, s.ref(0), nil, func(items []inventory.Stocked, _ []inventory.Entry) error {
			if (want == "items") == (len(items) > 0) {
				return broken
			}
			return nil
		})
		s.wants(err, broken)
	}
	s.fence(s.shard(0))
	s.restock(0, "s", 1)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{s.restockRow(0, s.shard(0), "s", 1)})
}

// takeMoment: changes during the loading of a snapshot are not in it, and are relayed afterwards.
func takeMoment(s *shop) {
	o := s.order(0, "u-1", "k", 2)
	s.fenceOnly(s.shard(0))
	var got snapshot
	pages := 0
	err := s.store.Snapshot(s.ctx, s.ref(0), nil, func(items []inventory.Stocked, entries []inventory.Entry) error {
		if pages++; pages == 1 {
			s.cancel(o)
			s.order(0, "u-2", "k", 1)
			s.restock(0, "r", 5)
		}
		got.Items, got.Entries = append(got.Items, items...), append(got.Entries, entries...)
		return nil
	})
	s.must(err)
	equal(s, "snapshot", got, snapshot{
		Items:   []inventory.Stocked{{Item: s.item(0), Total: 10, Available: 8}},
		Entries: []inventory.Entry{entry(o.Hold(), inventory.Ordered)},
	})
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{
		settlement(s.ref(0), s.find(o.ID), inventory.SettleVoid), s.restockRow(0, s.shard(0), "r", 5)})
	s.sums()
}

// otherItem returns an item that lies on another shard than the first.
func (s *shop) otherItem() int {
	s.t.Helper()
	for i := range s.items {
		if s.shard(i) != s.shard(0) {
			return i
		}
	}
	s.t.Fatal("all items are on one shard")
	return 0
}

func someGoods(n int) []goods {
	list := make([]goods, n)
	for i := range list {
		list[i] = goods{seckill.SKU(user(i)), 10, 0, 1}
	}
	return list
}

func takeOutbox(t *testing.T, open Open) {
	s := newShop(t, open, someGoods(5)...)
	other := s.otherItem()
	gone := s.cancel(s.order(0, "u-1", "k", 1))
	for _, i := range []int{0, other} {
		s.restock(i, "r", 2)
		s.withdraw(i, "w", 1)
		s.bury(s.ref(i), []bool{false}, s.withdrawal(i, s.shard(i), "lost", 1))
	}
	equal(s, "rows", len(s.outbox()), 7)
	s.fence(s.shard(0))
	rows := s.outbox()
	equal(s, "first row", rows[0], settlement(s.ref(0), gone, inventory.SettleVoid))
	for _, row := range rows[1:] {
		equal(s, "rows of the other shard", row.Ref, s.ref(other))
	}
	equal(s, "rows", len(rows), 4)
}

func takeHot(t *testing.T, open Open) {
	s := newShop(t, open, someGoods(40)...)
	var on []inventory.ItemID
	for i := range s.items {
		if s.shard(i) == s.shard(0) {
			on = append(on, s.item(i))
			s.order(i, "u", "k", 1)
		}
	}
	hot := []inventory.ItemID{on[len(on)-1], on[len(on)-2], 4711, s.item(s.otherItem())}
	s.fenceOnly(s.shard(0))
	got, err := s.tryTake(s.ref(0), hot...)
	s.must(err)
	equal(s, "items and holds", []int{len(got.Items), len(got.Entries)}, []int{len(on), len(on)})
	for i := range 2 {
		if !slices.Contains(hot, got.Items[i].Item) || !slices.Contains(hot, got.Entries[i].Item) {
			t.Errorf("place %d has item %d, and a hold of %d", i, got.Items[i].Item, got.Entries[i].Item)
		}
	}
}

// takeShard: each shard has its own part of a spread item.
func takeShard(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 30, 0, 3}, goods{"phone-y", 30, 0, 1})
	s.putActivity(s.draft("books", goods{"draft", 5, 0, Shards}))
	want := make(map[inventory.ShardID]*snapshot)
	for _, shard := range allShards {
		want[shard] = new(snapshot)
	}
	for n := range 20 {
		o := s.order(n%2, user(n), "k", 1)
		w := want[o.Grant.Shard]
		w.Entries = append(w.Entries, entry(o.Hold(), inventory.Ordered))
	}
	books, err := s.store.ActivityBooks(s.ctx, activity)
	s.must(err)
	for _, b := range books {
		w := want[b.Shard]
		w.Items = append(w.Items, inventory.Stocked{Item: b.Item, Total: b.Total, Available: b.Total - b.Open})
	}
	for _, shard := range allShards {
		got, w := sorted(s.fence(shard)), sorted(*want[shard])
		equal(s, "items", got.Items, w.Items)
		equal(s, "holds", got.Entries, w.Entries)
	}
}

func takeMany(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10_000, 0, 1}, goods{"phone-y", 10_000, 0, 1})
	var want []inventory.Entry
	for i := range 2 {
		var promises []seckill.Promise
		for k := range 4500 {
			promises = append(promises, s.promise(i, user(k), "k", 2))
			if s.shard(i) == s.shard(0) {
				want = append(want, entry(promises[k].Hold(), inventory.Ordered))
			}
		}
		_, err := s.store.Accept(s.ctx, seckill.Batch{Pages: s.pages(promises...)})
		s.must(err)
	}
	got := s.fence(s.shard(0))
	if !slices.IsSortedFunc(got.Entries, compareEntries) {
		t.Error("an item's holds are not together, in the order of their names")
	}
	equal(s, "holds", sorted(got).Entries, sorted(snapshot{Entries: want}).Entries)
}

func markSuspect(s *shop) {
	suspect := func() bool { return s.rows()[s.shard(0)].Suspect }
	s.must(s.store.MarkSuspect(s.ctx, beside(s.ref(0), -1))) // somebody who is late
	equal(s, "suspect", suspect(), false)
	for range 2 {
		s.must(s.store.MarkSuspect(s.ctx, s.ref(0)))
		equal(s, "suspect", suspect(), true)
	}
	for i, row := range s.rows() {
		equal(s, "suspect shards", row.Suspect, i == int(s.shard(0)))
	}
	s.fenceOnly(s.shard(0))
	equal(s, "suspect in the next epoch", suspect(), false)
	s.must(s.store.MarkSuspect(s.ctx, beside(s.ref(0), 5))) // the books are behind
	equal(s, "suspect", suspect(), true)
	s.must(s.store.Fence(s.ctx, s.ref(0), s.incarnation())) // a repeat doesn't end what was suspected since
	equal(s, "suspect", suspect(), true)
	s.fence(s.shard(0))
	equal(s, "suspect", suspect(), false)
}
