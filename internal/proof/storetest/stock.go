package storetest

import (
	"cmp"
	"slices"
	"testing"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func stockCases() []testCase {
	return []testCase{
		selling("Restock_RaisesTheTotal", restock),
		selling("TestL4_ARestockIsMadeOncePerKey", restockAgain),
		{"Restock_KeysAreAnItemsOwn", restockItems},
		{"Restock_OfASpreadItemIsDivided", restockSpread},
		selling("Restock_IsForMoreUnitsOnly", restockNothing),
		selling("Restock_StaysBelowTheMost", restockTooMuch),
		selling("TestL3_UnitsOfADraftTravelWithItsPublication", restockDraft),
		selling("Withdraw_LowersTheTotal", withdraw),
		selling("TestL4_AWithdrawalIsMadeOncePerKey", withdrawAgain),
		selling("TestL1_AWithdrawalLeavesWhatIsSoldAndOrdered", withdrawTooMuch),
		{"Withdraw_FromManyShards", withdrawSpread},
		selling("Epoch_AWithdrawalOnlyUnderItsHolds", withdrawFenced),
		selling("Withdraw_IsForTheSumOfItsHolds", withdrawNothing),
		{"MoveUnits_FromOneShardToAnother", moveUnits},
		{"TestL4_UnitsAreMovedOncePerHold", moveAgain},
		{"MoveUnits_Refuses", moveRefused},
		selling("FindStockChange", findStockChange),
		{"Books_HaveBothSidesOfWhatIsUnderWay", books},
		{"ShardBooks_PageByPage", shardBooks},
		{"ShardSums_AreTheSumsOverTheOrders", shardSums},
		{"Recount_FindsWhatTheRowsSay", recount},
	}
}

// restock raises the total of item i.
func (s *shop) restock(i int, key string, units int64) seckill.StockChange {
	s.t.Helper()
	c := seckill.StockChange{Item: s.item(i), Key: key, Delta: units}
	_, replayed, err := s.store.Restock(s.ctx, c, author)
	s.must(err)
	equal(s, "replayed", replayed, false)
	return c
}

// restockRow is the outbox row of a restock on a shard.
func (s *shop) restockRow(i int, shard inventory.ShardID, id string, units int64) seckill.Outgoing {
	return seckill.Outgoing{
		Ref: s.refs[shard], Restock: inventory.Restock{Item: s.item(i), ID: id, Units: units}, Stock: true}
}

func (s *shop) quantity(i int) int64 {
	s.t.Helper()
	a, err := s.store.FindActivity(s.ctx, activity)
	s.must(err)
	return a.Items[i].Quantity
}

func restock(s *shop) {
	version := s.version()
	total, replayed, err := s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(0), Key: "k", Delta: 5}, author)
	s.must(err)
	equal(s, "restock", []any{total, replayed}, []any{int64(15), false})
	equal(s, "version of the catalog", s.version(), version)
	s.counts(0, 15, 0, 0)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{s.restockRow(0, s.shard(0), "k", 5)})
	equal(s, "quantity", s.quantity(0), 15)
	change := s.lastChange("stock", string(activity)+"/phone-x")
	var before, after struct{ Total, Delta int64 }
	s.decode(change.Before, &before)
	s.decode(change.After, &after)
	equal(s, "recorded", []int64{before.Total, after.Total, after.Delta}, []int64{10, 15, 5})
	_, _, err = s.store.Restock(s.ctx, seckill.StockChange{Item: 4711, Key: "k", Delta: 5}, author)
	s.wants(err, seckill.ErrNotFound)
}

func restockAgain(s *shop) {
	c := s.restock(0, "k", 5)
	s.drain()
	s.unchanged(func() {
		total, replayed, err := s.store.Restock(s.ctx, c, author)
		s.must(err)
		equal(s, "repeat", []any{total, replayed}, []any{int64(15), true})
		c.Delta = 6
		_, _, err = s.store.Restock(s.ctx, c, author)
		s.wants(err, seckill.ErrKeyReused)
	})
	s.counts(0, 15, 0, 0)
	equal(s, "outbox", s.outbox(), nil)
	s.withdraw(0, "w", 1)
	_, _, err := s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(0), Key: "w", Delta: 1}, author)
	s.wants(err, seckill.ErrKeyReused)
}

func restockItems(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1}, goods{"phone-y", 20, 0, 1})
	for i := range 2 {
		s.restock(i, "k", int64(i+1))
	}
	s.counts(0, 11, 0, 0)
	s.counts(1, 22, 0, 0)
}

// restockSpread: each shard gets its share, the home first.
func restockSpread(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 7, 0, 3})
	s.restock(0, "k", 5)
	var want []seckill.Outgoing
	for i := range 3 {
		shard := (s.shard(0) + inventory.ShardID(i)) % Shards
		want = append(want, s.restockRow(0, shard, "k", seckill.Share(5, i, 3)))
		equal(s, "total", s.bookOn(0, shard).Total, seckill.Share(7, i, 3)+seckill.Share(5, i, 3))
	}
	equal(s, "outbox", sortedRows(s.drain()), sortedRows(want))
	s.restock(0, "l", 1) // for less units than shards
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{s.restockRow(0, s.shard(0), "l", 1)})
	equal(s, "quantity", s.quantity(0), 13)
}

func restockNothing(s *shop) {
	for _, delta := range []int64{0, -1} {
		_, _, err := s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(0), Key: "k", Delta: delta}, author)
		if err == nil {
			s.t.Errorf("restocked by %d", delta)
		}
	}
	s.counts(0, 10, 0, 0)
}

func restockTooMuch(s *shop) {
	s.unchanged(func() {
		for _, delta := range []int64{seckill.MaxItemQuantity, seckill.MaxItemQuantity - 9, 1 << 62} {
			_, _, err := s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(0), Key: "k", Delta: delta}, author)
			s.wants(err, seckill.ErrTooHigh)
		}
	})
	s.counts(0, 10, 0, 0)
	s.restock(0, "k", seckill.MaxItemQuantity-10) // the key was not used up
	equal(s, "quantity", s.quantity(0), seckill.MaxItemQuantity)
}

// restockDraft: an item that was never on sale has no units in Redis. The restock of its
// publication includes all its units, so a restock before that must not be relayed.
func restockDraft(s *shop) {
	draft := s.putActivity(s.draft("books", goods{"a", 5, 0, 1}))
	item := draft.Items[0].ID
	total, _, err := s.store.Restock(s.ctx, seckill.StockChange{Item: item, Key: "k", Delta: 3}, author)
	s.must(err)
	equal(s, "total", total, 8)
	equal(s, "outbox of a draft", s.outbox(), nil)
	got := s.fence(inventory.Home(item, Shards))
	equal(s, "a draft's item in a snapshot", len(got.Items), map[bool]int{true: 1}[inventory.Home(item, Shards) == s.shard(0)])
	s.publish("books")
	shard := inventory.Home(item, Shards)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{{
		Ref: s.refs[shard], Restock: inventory.Restock{Item: item, ID: "publish", Units: 8, Publish: true}, Stock: true}})
}

// publish publishes an activity.
func (s *shop) publish(id seckill.ActivityID) *seckill.Activity {
	s.t.Helper()
	got, err := s.store.UpdateActivity(s.ctx, id, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		a.State = seckill.ActivityPublished
		return a, nil
	})
	s.must(err)
	return got
}

// withdrawal is the hold by which the shop takes units of item i from a shard.
func (s *shop) withdrawal(i int, shard inventory.ShardID, key string, units int) inventory.Hold {
	return inventory.Hold{Item: s.item(i), ID: seckill.NewWithdrawalID(s.item(i), shard, key), Quantity: units}
}

// taken is such a hold, given under the shard's epoch.
func (s *shop) taken(i int, shard inventory.ShardID, key string, units int) seckill.Taken {
	return seckill.Taken{Ref: s.refs[shard], Hold: s.withdrawal(i, shard, key, units)}
}

func (s *shop) tryWithdraw(i int, key string, delta int64, holds ...seckill.Taken) (total int64, replayed bool, err error) {
	return s.store.Withdraw(s.ctx, seckill.StockChange{Item: s.item(i), Key: key, Delta: delta}, holds, author)
}

// withdraw takes units of item i back from its home shard.
func (s *shop) withdraw(i int, key string, units int) int64 {
	s.t.Helper()
	total, replayed, err := s.tryWithdraw(i, key, int64(-units), s.taken(i, s.shard(i), key, units))
	s.must(err)
	equal(s, "replayed", replayed, false)
	return total
}

// soldRow is the outbox row of a withdrawal's hold.
func soldRow(t seckill.Taken) seckill.Outgoing {
	return seckill.Outgoing{
		Ref: t.Ref, Settlement: inventory.Settlement{Hold: t.Hold, Kind: inventory.SettleSold}, Stock: true}
}

func withdraw(s *shop) {
	equal(s, "total", s.withdraw(0, "k", 4), 6)
	s.counts(0, 6, 0, 0)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{soldRow(s.taken(0, s.shard(0), "k", 4))})
	equal(s, "quantity", s.quantity(0), 6)
	change := s.lastChange("stock", string(activity)+"/phone-x")
	var before, after struct{ Total, Delta int64 }
	s.decode(change.Before, &before)
	s.decode(change.After, &after)
	equal(s, "recorded", []int64{before.Total, after.Total, after.Delta}, []int64{10, 6, -4})
	s.sums()
}

func withdrawAgain(s *shop) {
	s.withdraw(0, "k", 4)
	s.drain()
	for range 2 { // the units are taken, in any later epoch
		s.unchanged(func() {
			total, replayed, err := s.tryWithdraw(0, "k", -4, s.taken(0, s.shard(0), "k", 4))
			s.must(err)
			equal(s, "repeat", []any{total, replayed}, []any{int64(6), true})
		})
		s.fence(s.shard(0))
	}
	_, _, err := s.tryWithdraw(0, "k", -5, s.taken(0, s.shard(0), "k", 5))
	s.wants(err, seckill.ErrKeyReused)
	s.restock(0, "r", 1)
	_, _, err = s.tryWithdraw(0, "r", -1, s.taken(0, s.shard(0), "r", 1))
	s.wants(err, seckill.ErrKeyReused)
	s.counts(0, 7, 0, 0)
	equal(s, "outbox", len(s.outbox()), 1)
}

func withdrawTooMuch(s *shop) {
	s.order(0, "u-1", "k", 2)
	s.pay(seckill.PaymentBooked, s.order(0, "u-2", "k", 1), "p-1")
	s.drain()
	s.unchanged(func() {
		_, _, err := s.tryWithdraw(0, "k", -8, s.taken(0, s.shard(0), "k", 8))
		s.wants(err, seckill.ErrTooLow)
	})
	s.counts(0, 10, 2, 1)
	equal(s, "outbox", s.outbox(), nil)
	equal(s, "total", s.withdraw(0, "k", 7), 3) // the key was not used up; all remaining units are taken
	s.accept([]seckill.Outcome{rejected}, s.promise(0, "u-3", "k", 1))
}

func withdrawSpread(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 12, 0, 3})
	home, next := s.shard(0), (s.shard(0)+1)%Shards
	a, b := s.taken(0, home, "k", 3), s.taken(0, next, "k", 2)
	total, _, err := s.tryWithdraw(0, "k", -5, a, b)
	s.must(err)
	equal(s, "total", total, 7)
	equal(s, "totals", []int64{s.bookOn(0, home).Total, s.bookOn(0, next).Total}, []int64{1, 2})
	equal(s, "outbox", sortedRows(s.drain()), sortedRows([]seckill.Outgoing{soldRow(a), soldRow(b)}))
	// If one hold can't be taken, none is taken: it has another epoch, is too large, or its shard
	// doesn't have the item.
	late := s.taken(0, next, "l", 1)
	late.Ref.Epoch--
	for _, refused := range []struct {
		hold seckill.Taken
		want error
	}{
		{late, seckill.ErrFenced}, {s.taken(0, next, "l", 3), seckill.ErrTooLow},
		{s.taken(0, (home+3)%Shards, "l", 1), seckill.ErrNotFound},
	} {
		_, _, err = s.tryWithdraw(0, "l", int64(-1-refused.hold.Hold.Quantity), s.taken(0, home, "l", 1), refused.hold)
		s.wants(err, refused.want)
	}
	s.counts(0, 7, 0, 0)
	equal(s, "outbox", s.outbox(), nil)
}

func withdrawFenced(s *shop) {
	before := s.taken(0, s.shard(0), "k", 1)
	s.fence(s.shard(0))
	s.unchanged(func() {
		ahead := s.taken(0, s.shard(0), "k", 1)
		ahead.Ref.Epoch++
		for _, hold := range []seckill.Taken{before, ahead, {Ref: inventory.Ref{Shard: s.shard(0)}, Hold: before.Hold}} {
			_, _, err := s.tryWithdraw(0, "k", -1, hold)
			s.wants(err, seckill.ErrFenced)
		}
	})
	s.counts(0, 10, 0, 0)
	equal(s, "outbox", s.outbox(), nil)
	s.withdraw(0, "k", 1)
}

func withdrawNothing(s *shop) {
	hold := s.taken(0, s.shard(0), "k", 1)
	for _, delta := range []int64{0, 1, -2} {
		if _, _, err := s.tryWithdraw(0, "k", delta, hold); err == nil {
			s.t.Errorf("withdrawn by %d", delta)
		}
	}
	order := seckill.Taken{Ref: s.ref(0), Hold: s.hold(0, "u-1", "k", 1)}
	if _, _, err := s.tryWithdraw(0, "k", -1, order); err == nil {
		s.t.Error("withdrawn by an order's hold")
	}
	s.counts(0, 10, 0, 0)
}

func moveUnits(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 12, 0, 3})
	from, to := s.shard(0), (s.shard(0)+2)%Shards
	hold := s.taken(0, from, "m", 3)
	changes := len(s.changes())
	s.must(s.store.MoveUnits(s.ctx, hold, to))
	equal(s, "totals", []int64{s.bookOn(0, from).Total, s.bookOn(0, to).Total}, []int64{1, 7})
	s.counts(0, 12, 0, 0)
	want := []seckill.Outgoing{soldRow(hold), s.restockRow(0, to, hold.Hold.ID, 3)}
	equal(s, "outbox", sortedRows(s.outbox()), sortedRows(want))
	equal(s, "changes by people", len(s.changes()), changes)
	got := s.fence(from)
	equal(s, "items", got.Items, []inventory.Stocked{{Item: s.item(0), Total: 1, Available: 1}})
	equal(s, "holds", got.Entries, []inventory.Entry{entry(hold.Hold, inventory.Sold)})
	equal(s, "rows that the snapshot left", s.outbox(), []seckill.Outgoing{s.restockRow(0, to, hold.Hold.ID, 3)})
	s.sums()
}

func moveAgain(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 12, 0, 3})
	from, to := s.shard(0), (s.shard(0)+2)%Shards
	hold := s.taken(0, from, "m", 3)
	for range 3 {
		s.must(s.store.MoveUnits(s.ctx, hold, to))
		equal(s, "totals", []int64{s.bookOn(0, from).Total, s.bookOn(0, to).Total}, []int64{1, 7})
		equal(s, "rows", len(s.outbox()), 2)
		s.bury(s.refs[from], []bool{true}, hold.Hold)
	}
	s.fence(from)
	s.must(s.store.MoveUnits(s.ctx, hold, to)) // in any later epoch
	s.counts(0, 12, 0, 0)
}

func moveRefused(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 12, 0, 3})
	from, to := s.shard(0), (s.shard(0)+2)%Shards
	for n := 0; s.bookOn(0, from).Open == 0; n++ {
		s.order(0, user(n), "k", 1)
	}
	late := s.taken(0, from, "late", 1)
	late.Ref.Epoch--
	buried := s.taken(0, from, "buried", 1)
	s.bury(s.refs[from], []bool{false}, buried.Hold)
	s.drain()
	before, err := s.store.ActivityBooks(s.ctx, activity)
	s.must(err)
	s.wants(s.store.MoveUnits(s.ctx, late, to), seckill.ErrFenced)
	s.wants(s.store.MoveUnits(s.ctx, buried, to), seckill.ErrNotFound)
	s.wants(s.store.MoveUnits(s.ctx, s.taken(0, from, "much", 4), to), seckill.ErrTooLow)
	s.wants(s.store.MoveUnits(s.ctx, s.taken(0, from, "where", 1), (from+3)%Shards), seckill.ErrNotFound)
	if err := s.store.MoveUnits(s.ctx, s.taken(0, from, "same", 1), from); err == nil {
		t.Error("moved to where they are")
	}
	after, err := s.store.ActivityBooks(s.ctx, activity)
	s.must(err)
	equal(s, "books", after, before)
	equal(s, "outbox", s.outbox(), nil)
}

func findStockChange(s *shop) {
	find := func(key string) (seckill.StockChange, bool) {
		c, found, err := s.store.FindStockChange(s.ctx, s.item(0), key)
		s.must(err)
		return c, found
	}
	c, found := find("k")
	equal(s, "found", []any{c, found}, []any{seckill.StockChange{}, false})
	raise := s.restock(0, "k", 5)
	s.withdraw(0, "w", 2)
	for _, want := range []seckill.StockChange{raise, {Item: s.item(0), Key: "w", Delta: -2}} {
		c, found = find(want.Key)
		equal(s, "found", []any{c, found}, []any{want, true})
	}
	// A key that looks like a hold is a key like any other.
	_, found = find(s.withdrawal(0, s.shard(0), "w", 2).ID)
	equal(s, "found by its hold", found, false)
	s.restock(0, s.withdrawal(0, s.shard(0), "x", 1).ID, 1)
	s.withdraw(0, "x", 1)
}

func books(t *testing.T, open Open) {
	s := newShop(t, open, goods{"z", 20, 0, 1}, goods{"a", 5, 1, 1})
	s.pay(seckill.PaymentBooked, s.order(0, "u-1", "k", 3), "p-1") // 3 pending
	s.order(0, "u-2", "k", 4)
	s.cancel(s.order(0, "u-3", "k", 5))                                                                 // 5 pending
	s.accept([]seckill.Outcome{rejected}, s.promise(0, "u-4", "k", 14))                                 // 14 pending
	s.accept([]seckill.Outcome{opened, rejected}, s.promise(1, "u", "k", 1), s.promise(1, "u", "l", 1)) // 1 pending
	s.accept([]seckill.Outcome{parked}, s.unfit(0, "u-6", "k", 2))
	s.restock(0, "r", 100)
	s.withdraw(0, "w", 30)
	s.bury(s.ref(0), []bool{false}, s.withdrawal(0, s.shard(0), "lost", 9)) // changes no total
	want := []seckill.Book{
		{Item: s.item(0), SKU: "z", Shard: s.shard(0), Epoch: s.ref(0).Epoch, Published: true, Total: 90, Open: 4, Sold: 3,
			Parked: 2, PendingUnits: 22, PendingStock: 70, Rejected: 1},
		{Item: s.item(1), SKU: "a", Shard: s.shard(1), Epoch: s.ref(1).Epoch, Published: true, Total: 5, Open: 1,
			PendingUnits: 1, Rejected: 1},
	}
	check := func() {
		s.t.Helper()
		got, err := s.store.ActivityBooks(s.ctx, activity)
		s.must(err)
		equal(s, "books", got, want)
	}
	check()
	s.drain()
	before := s.ref(0)
	s.fence(s.shard(0))
	s.acceptAt(before, []seckill.Outcome{skipped}, s.promise(0, "u-5", "k", 1))
	want[0].Epoch, want[0].PendingUnits, want[0].PendingStock, want[0].Skipped = s.ref(0).Epoch, 0, 0, 1
	want[1].Epoch, want[1].PendingUnits = s.ref(1).Epoch, 0
	check()
	got, err := s.store.ActivityBooks(s.ctx, "nothing")
	s.must(err)
	equal(s, "books of nothing", len(got), 0)
}

func shardBooks(t *testing.T, open Open) {
	var list []goods
	for i := range 20 {
		list = append(list, goods{seckill.SKU(user(i)), int64(10 + i), 0, 1 + i%2})
	}
	s := newShop(t, open, list...)
	draft := s.putActivity(s.draft("books", goods{"a", 5, 0, Shards})).Items[0].ID
	s.order(0, "u", "k", 1)
	want := make(map[inventory.ShardID][]seckill.Book)
	for _, id := range []seckill.ActivityID{activity, "books"} {
		books, err := s.store.ActivityBooks(s.ctx, id)
		s.must(err)
		for _, b := range books {
			equal(s, "published", b.Published, b.Item != draft)
			want[b.Shard] = append(want[b.Shard], b)
		}
	}
	for _, shard := range allShards {
		slices.SortFunc(want[shard], func(a, b seckill.Book) int { return cmp.Compare(a.Item, b.Item) })
		var got []seckill.Book
		for after := inventory.ItemID(0); ; after = got[len(got)-1].Item {
			page, err := s.store.ShardBooks(s.ctx, shard, after, 3)
			s.must(err)
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
		}
		equal(s, "books of the shard", got, want[shard])
	}
}

func shardSums(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 0, Shards}, goods{"phone-y", 100, 0, 1})
	s.sums()
	var all []seckill.Order
	for n := range 24 {
		all = append(all, s.order(n%2, user(n), "k", 1))
	}
	s.sums()
	for n, o := range all {
		switch n % 3 {
		case 0:
			s.cancel(o)
		case 1:
			s.pay(seckill.PaymentBooked, o, seckill.PaymentID(o.ID))
		}
	}
	s.sums()
	s.drain()
	s.fenceAll()
	s.sums()
	_, err := s.store.ShardSums(s.ctx, Shards)
	s.wants(err, seckill.ErrNotFound)
}

// sums checks the digests and the pending rows of every shard against the orders of the shop's
// items, and against those of strangers.
func (s *shop) sums(strangers ...seckill.OrderID) {
	s.t.Helper()
	ids := strangers
	for i := range s.items {
		for after := seckill.OrderID(""); ; {
			page, err := s.store.OrdersOf(s.ctx, s.item(i), after, 1000)
			s.must(err)
			if len(page) == 0 {
				break
			}
			ids, after = append(ids, page...), page[len(page)-1]
		}
	}
	orders, err := s.store.FindOrders(s.ctx, ids)
	s.must(err)
	want := make(map[inventory.ShardID]seckill.ShardSums)
	for _, row := range s.outbox() {
		w := want[row.Ref.Shard]
		w.Pending++
		want[row.Ref.Shard] = w
	}
	for _, o := range orders {
		w, name := want[o.Grant.Shard], inventory.NameDigest(string(o.ID))
		switch o.Units {
		case seckill.UnitsOpen, seckill.UnitsParked:
			w.Open = w.Open.Add(name)
		case seckill.UnitsSold:
			w.Sold = w.Sold.Add(name)
		}
		want[o.Grant.Shard] = w
	}
	for _, shard := range allShards {
		got, err := s.store.ShardSums(s.ctx, shard)
		s.must(err)
		w := want[shard]
		w.Ref = s.refs[shard]
		equal(s, "sums of the shard", got, w)
		s.recounted(shard)
	}
}

// recounted compares a shard's counters and digests with its rows.
func (s *shop) recounted(shard inventory.ShardID) {
	s.t.Helper()
	r, err := s.store.Recount(s.ctx, shard, false, author)
	s.must(err)
	equal(s, "digests", r.Counted, r.Rows)
	for i := range r.Items {
		equal(s, "counters", r.Items[i].Counted, r.Items[i].Rows)
	}
}

// recount: correct numbers stay the same, also when a repair is requested, and make no record.
func recount(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 2}, goods{"phone-y", 10, 0, 1})
	sold := s.order(0, "u-1", "k", 2)
	s.pay(seckill.PaymentBooked, sold, "p-1")
	s.order(0, "u-2", "k", 1)
	s.cancel(s.order(1, "u-1", "k", 3))
	before, err := s.store.Changes(s.ctx, 0, 1)
	s.must(err)
	rows, units := int64(0), seckill.UnitCounts{}
	for _, shard := range allShards {
		r, err := s.store.Recount(s.ctx, shard, true, author)
		s.must(err)
		equal(s, "shard", r.Ref, s.refs[shard])
		rows += r.Orders
		for i := range r.Items {
			at := &r.Items[i].Rows
			units.Open, units.Sold, units.Parked = units.Open+at.Open, units.Sold+at.Sold, units.Parked+at.Parked
		}
	}
	equal(s, "orders whose units count", rows, 2)
	equal(s, "their units", units, seckill.UnitCounts{Open: 1, Sold: 2})
	s.sums()
	after, err := s.store.Changes(s.ctx, 0, 1)
	s.must(err)
	equal(s, "changes", after, before)
	_, err = s.store.Recount(s.ctx, Shards, false, author)
	s.wants(err, seckill.ErrNotFound)
}
