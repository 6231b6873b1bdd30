package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func dropCases() []testCase {
	return []testCase{
		{"ForgetsWhatIsOver", dropOver},
		{"WaitsForOpenOrdersAndTheOutbox", dropWaits},
		{"TakesUpToALimit", dropLimit},
		{"WithAnArchive", dropArchived},
		{"KeepsWhatWasPaidForSinceItsArchive", dropPaidSince},
		{"KeepsWhatWasOrderedSinceItsArchive", dropOrderedSince},
		{"ANameMayComeBack", dropAgain},
		{"ADraftIsDeletedByItsEdit", deleteDraft},
		{"KeepsTheDigestsOfItemsBetweenItsOwn", dropAround},
	}
}

// dropEnded drops what closed before now.
func (s *shop) dropEnded(limit int) []seckill.ActivityID {
	s.t.Helper()
	got, err := s.store.DropEnded(s.ctx, s.clock.read(), time.Time{}, limit)
	s.must(err)
	return got
}

func dropOver(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 2}, goods{"phone-y", 10, 0, 1})
	later := s.draft("later", goods{"a", 5, 0, 1})
	later.EndsAt = later.EndsAt.Add(time.Hour)
	s.putActivity(later)
	s.pay(seckill.PaymentBooked, s.order(0, "u-1", "k", 1), "p-1")
	s.cancel(s.order(1, "u-2", "k", 1))
	s.bury(s.ref(1), []bool{false}, s.hold(1, "u-3", "k", 1))
	s.withdraw(1, "w", 1)
	s.drain()
	version := s.catalog().Version
	s.clock.advance(time.Hour)
	equal(s, "dropped when it closes", s.dropEnded(10), nil)
	s.clock.advance(time.Microsecond)
	changes := len(s.changes())
	equal(s, "dropped", s.dropEnded(10), []seckill.ActivityID{activity})
	equal(s, "changes by people", len(s.changes()), changes)

	got := s.since(version)
	equal(s, "dropped in the catalog", []any{got.Dropped, len(got.Activities)}, []any{[]seckill.ActivityID{activity}, 0})
	equal(s, "activities", len(s.catalog().Activities), 1)
	_, err := s.store.FindActivity(s.ctx, activity)
	s.wants(err, seckill.ErrNotFound)
	books, err := s.store.ActivityBooks(s.ctx, activity)
	s.must(err)
	equal(s, "books", len(books), 0)
	_, _, err = s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(0), Key: "k", Delta: 1}, author)
	s.wants(err, seckill.ErrNotFound)
	for _, shard := range allShards {
		equal(s, "snapshot", s.fence(shard), snapshot{})
		sums, err := s.store.ShardSums(s.ctx, shard)
		s.must(err)
		equal(s, "sums", sums, seckill.ShardSums{Ref: s.refs[shard]})
	}
	equal(s, "dropped again", s.dropEnded(10), nil)
}

// dropAround: an activity that got an item later has items on both sides of another one's.
func dropAround(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1})
	later := s.draft("later", goods{"a", 5, 0, 1})
	later.State, later.EndsAt = seckill.ActivityPublished, later.EndsAt.Add(time.Hour)
	s.items = append(s.items, s.putActivity(later).Items...)
	got, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		a.Items = append(a.Items, seckill.Item{SKU: "phone-z", Price: price, Quantity: 5, Spread: 1})
		return a, nil
	})
	s.must(err)
	s.items = append(s.items, got.Items[1])
	others := s.promise(1, "u-1", "k", 1)
	others.Activity = "later"
	kept := s.accept([]seckill.Outcome{opened}, others)[0].Order
	s.pay(seckill.PaymentBooked, kept, "p-1")
	s.pay(seckill.PaymentBooked, s.order(0, "u-1", "k", 1), "p-2")
	s.pay(seckill.PaymentBooked, s.order(2, "u-1", "k", 1), "p-3")
	s.drain()
	s.clock.advance(time.Hour + time.Second)
	equal(s, "dropped", s.dropEnded(10), []seckill.ActivityID{activity})
	var sold inventory.Digest
	for _, shard := range allShards {
		sums, err := s.store.ShardSums(s.ctx, shard)
		s.must(err)
		sold = sold.Add(sums.Sold)
	}
	equal(s, "digest of what is sold", sold, inventory.NameDigest(string(kept.ID)))
}

func dropWaits(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1})
	o := s.order(0, "u-1", "k", 1)
	_, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		a.State, a.EndedAt = seckill.ActivityEnded, s.clock.read() // by hand, before its end
		return a, nil
	})
	s.must(err)
	s.clock.advance(time.Second)
	equal(s, "dropped with an open order", s.dropEnded(10), nil)
	s.cancel(o)
	equal(s, "dropped with an outbox row", s.dropEnded(10), nil)
	s.drain()
	s.accept([]seckill.Outcome{parked}, s.unfit(0, "u-2", "k", 1))
	equal(s, "dropped with a parked order", s.dropEnded(10), nil)
	_, err = s.store.DiscardDeadLetters(s.ctx, []int64{s.letters()[0].ID}, author)
	s.must(err)
	s.drain()
	equal(s, "dropped", s.dropEnded(10), []seckill.ActivityID{activity})
}

// end ends the shop's activity now.
func (s *shop) end() {
	s.t.Helper()
	s.edit(func(a *seckill.Activity) { a.State, a.EndedAt = seckill.ActivityEnded, s.clock.read() })
}

// archive records an archive of the shop's activity, made now.
func (s *shop) archive() *seckill.Activity {
	s.t.Helper()
	return s.edit(func(a *seckill.Activity) { a.Archive = seckill.Archive{At: s.clock.read(), Sum: "c0ffee"} })
}

func (s *shop) edit(change func(*seckill.Activity)) *seckill.Activity {
	s.t.Helper()
	got, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		change(a)
		return a, nil
	})
	s.must(err)
	return got
}

// dropArchivedBefore drops only activities with an archive that closed before a time.
func (s *shop) dropArchivedBefore(t time.Time) []seckill.ActivityID {
	s.t.Helper()
	may, err := s.store.MayDrop(s.ctx, activity, time.Time{}, t)
	s.must(err)
	got, err := s.store.DropEnded(s.ctx, time.Time{}, t, 10)
	s.must(err)
	equal(s, "it was said to be one that may be dropped", slices.Contains(got, activity), may)
	return got
}

func dropArchived(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1})
	s.pay(seckill.PaymentBooked, s.order(0, "u-1", "k", 1), "p-1")
	s.end()
	closed := s.clock.read()
	s.drain()
	s.clock.advance(time.Hour)
	equal(s, "dropped without an archive", s.dropArchivedBefore(s.clock.read()), nil)
	s.raises(func() { s.archive() })
	equal(s, "in the catalog", s.catalog().Activities[0].Archive, seckill.Archive{At: s.clock.read(), Sum: "c0ffee"})
	change := s.lastChange("activity", string(activity))
	if !strings.Contains(change.After, "c0ffee") || strings.Contains(change.After, "phone-x") {
		t.Errorf("recorded: %s", change.After)
	}
	s.unchanged(func() { s.edit(func(a *seckill.Activity) {}) })
	equal(s, "dropped as soon as it closed", s.dropArchivedBefore(closed), nil)
	equal(s, "dropped", s.dropArchivedBefore(closed.Add(time.Microsecond)), []seckill.ActivityID{activity})
	_, err := s.store.FindActivity(s.ctx, activity)
	s.wants(err, seckill.ErrNotFound)
}

func dropPaidSince(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1})
	first, second := s.order(0, "u-1", "k", 1), s.order(0, "u-2", "k", 1)
	s.cancel(first)
	s.cancel(second)
	s.end()
	s.drain()
	s.clock.advance(time.Hour)
	s.pay(seckill.PaymentLate, first, "p-1")
	s.refund("p-1")
	s.clock.advance(time.Minute)
	s.archive()
	s.clock.advance(time.Minute)
	s.pay(seckill.PaymentLate, second, "p-2")
	s.clock.advance(time.Hour)
	equal(s, "dropped while money must be refunded", s.dropEnded(10), nil)
	s.refund("p-2")
	equal(s, "dropped though its archive is of before", s.dropArchivedBefore(s.clock.read()), nil)
	s.archive()
	equal(s, "dropped", s.dropArchivedBefore(s.clock.read()), []seckill.ActivityID{activity})
	equal(s, "the payment stays", s.payment("p-2").State, seckill.PaymentStateDone)
}

// dropOrderedSince: the workers were behind when the archive was made.
func dropOrderedSince(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1})
	s.end()
	s.clock.advance(time.Hour)
	s.archive()
	s.clock.advance(time.Minute)
	s.pay(seckill.PaymentBooked, s.order(0, "u-1", "k", 1), "p-1")
	s.drain()
	s.clock.advance(time.Hour)
	equal(s, "dropped though its archive lacks an order", s.dropArchivedBefore(s.clock.read()), nil)
	s.archive()
	equal(s, "dropped", s.dropArchivedBefore(s.clock.read()), []seckill.ActivityID{activity})
}

func dropLimit(t *testing.T, open Open) {
	s := newShop(t, open)
	for _, id := range []seckill.ActivityID{"c", "a", "b"} {
		s.putActivity(s.draft(id, goods{"a", 5, 0, 1}))
		s.clock.advance(time.Minute)
	}
	s.clock.advance(2 * time.Hour)
	equal(s, "dropped", len(s.dropEnded(2)), 2)
	equal(s, "dropped", len(s.dropEnded(2)), 2) // the shop's own, too
	equal(s, "dropped", s.dropEnded(2), nil)
	equal(s, "activities", len(s.catalog().Activities), 0)
}

// dropAgain: an activity of the same name is another one, with other items.
func dropAgain(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1})
	r := s.promise(0, "u-1", "k", 1)
	s.cancel(s.accept([]seckill.Outcome{opened}, r)[0].Order)
	s.drain()
	version, old := s.catalog().Version, s.item(0)
	s.clock.advance(time.Hour + time.Second)
	s.dropEnded(10)
	a := s.draft(activity, goods{"phone-x", 10, 0, 1})
	a.State = seckill.ActivityPublished
	s.items = s.putActivity(a).Items
	if s.item(0) == old {
		t.Fatalf("item id %d was given out twice", old)
	}
	got := s.since(version)
	equal(s, "changed activities, kept and dropped", []any{len(got.Activities), len(got.Kept), got.Dropped},
		[]any{1, 0, []seckill.ActivityID(nil)})
	s.fenceAll()
	s.order(0, "u-1", "k", 1)
	// A record of the earlier one that is read again fits no item.
	s.acceptAt(inventory.Ref{Shard: inventory.Home(old, Shards), Epoch: s.refs[inventory.Home(old, Shards)].Epoch},
		[]seckill.Outcome{parked}, s.old(r))
}

// old is a promise of a deleted item, with another key.
func (s *shop) old(r seckill.Promise) seckill.Promise {
	r.Order = seckill.NewOrderID(r.Item(), caller, r.User, "another key")
	return r
}

func deleteDraft(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1})
	draft := s.putActivity(s.draft("books", goods{"a", 5, 0, 2}))
	item := draft.Items[0].ID
	_, _, err := s.store.Restock(s.ctx, seckill.StockChange{Item: item, Key: "k", Delta: 3}, author)
	s.must(err)
	version := s.catalog().Version
	gone := func(*seckill.Activity) (*seckill.Activity, error) { return nil, nil }
	got, err := s.store.UpdateActivity(s.ctx, "books", author, gone)
	s.must(err)
	if got != nil {
		t.Errorf("deleted: %+v", got)
	}
	_, err = s.store.FindActivity(s.ctx, "books")
	s.wants(err, seckill.ErrNotFound)
	_, _, err = s.store.Restock(s.ctx, seckill.StockChange{Item: item, Key: "l", Delta: 1}, author)
	s.wants(err, seckill.ErrNotFound)
	change := s.lastChange("activity", "books")
	equal(s, "after", change.After, "")
	equal(s, "dropped in the catalog", s.since(version).Dropped, []seckill.ActivityID{"books"})
	// An activity that was once on sale, or doesn't exist, can't be deleted this way.
	s.unchanged(func() {
		for _, id := range []seckill.ActivityID{activity, "books"} {
			if _, err := s.store.UpdateActivity(s.ctx, id, author, gone); err == nil {
				t.Errorf("%s is deleted", id)
			}
		}
	})
	s.putActivity(s.draft("books", goods{"a", 5, 0, 1})) // the name may come back
}
