package storetest

import (
	"testing"

	"penstock/inventory"
	"penstock/seckill"
)

func stockCases() []testCase {
	return []testCase{
		selling("Restock_RaisesTheTotal", restock),
		selling("TestL4_ARestockIsMadeOncePerKey", restockAgain),
		{"Restock_KeysAreAnItemsOwn", restockItems},
		selling("Restock_IsForMoreUnitsOnly", restockNothing),
		selling("Withdraw_LowersTheTotal", withdraw),
		selling("TestL4_AWithdrawalIsMadeOncePerKey", withdrawAgain),
		selling("TestL1_AWithdrawalLeavesWhatIsSoldAndOrdered", withdrawTooMuch),
		selling("Withdraw_OnlyUnderTheHoldsEpoch", withdrawFenced),
		selling("Withdraw_IsForFewerUnitsOnly", withdrawNothing),
		selling("FindStockChange", findStockChange),
		{"Books_HaveBothSidesOfWhatIsUnderWay", books},
	}
}

func restock(s *shop) {
	s.raises(func() {
		total, replayed, err := s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(0), Key: "k", Delta: 5}, author)
		s.must(err)
		equal(s, "restock", []any{total, replayed}, []any{int64(15), false})
	})
	s.counts(0, 15, 0, 0)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{{Ref: s.ref(0, 1), RestockID: "k", Restock: 5}})
	s.reload()
	equal(s, "quantity in the catalog", s.items[0].Quantity, 15)
	change := s.lastChange("stock", string(activity)+"/phone-x")
	var before, after struct{ Total, Delta int64 }
	s.decode(change.Before, &before)
	s.decode(change.After, &after)
	equal(s, "recorded", []int64{before.Total, after.Total, after.Delta}, []int64{10, 15, 5})
	_, _, err := s.store.Restock(s.ctx, seckill.StockChange{Item: 4711, Key: "k", Delta: 5}, author)
	s.wants(err, seckill.ErrNotFound)
}

func restockAgain(s *shop) {
	c := seckill.StockChange{Item: s.item(0), Key: "k", Delta: 5}
	_, _, err := s.store.Restock(s.ctx, c, author)
	s.must(err)
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
	s.withdraw(0, 1, "w", 1)
	_, _, err = s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(0), Key: "w", Delta: 1}, author)
	s.wants(err, seckill.ErrKeyReused)
}

func restockItems(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0}, goods{"phone-y", 20, 0})
	for i := range 2 {
		_, replayed, err := s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(i), Key: "k", Delta: int64(i + 1)}, author)
		s.must(err)
		equal(s, "replayed", replayed, false)
	}
	s.counts(0, 11, 0, 0)
	s.counts(1, 22, 0, 0)
}

func restockNothing(s *shop) {
	for _, delta := range []int64{0, -1} {
		if _, _, err := s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(0), Key: "k", Delta: delta}, author); err == nil {
			s.t.Errorf("restocked by %d", delta)
		}
	}
	s.counts(0, 10, 0, 0)
}

// tryWithdraw changes item i's total by delta, as the key's hold of that epoch did before.
func (s *shop) tryWithdraw(i int, epoch inventory.Epoch, key string, delta int64) (total int64, replayed bool, err error) {
	hold := seckill.NewWithdrawalID(s.item(i), key)
	return s.store.Withdraw(s.ctx, s.ref(i, epoch), hold, seckill.StockChange{Item: s.item(i), Key: key, Delta: delta}, author)
}

// withdraw takes units of item i back.
func (s *shop) withdraw(i int, epoch inventory.Epoch, key string, units int64) int64 {
	s.t.Helper()
	total, replayed, err := s.tryWithdraw(i, epoch, key, -units)
	s.must(err)
	equal(s, "replayed", replayed, false)
	return total
}

func withdraw(s *shop) {
	s.raises(func() { equal(s, "total", s.withdraw(0, 1, "k", 4), 6) })
	s.counts(0, 6, 0, 0)
	hold := inventory.Hold{ID: seckill.NewWithdrawalID(s.item(0), "k"), Quantity: 4}
	row := seckill.Outgoing{Ref: s.ref(0, 1), Settlement: inventory.Settlement{Hold: hold, Kind: inventory.SettleSold}}
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{row})
	s.reload()
	equal(s, "quantity in the catalog", s.items[0].Quantity, 6)
	change := s.lastChange("stock", string(activity)+"/phone-x")
	var before, after struct{ Total, Delta int64 }
	s.decode(change.Before, &before)
	s.decode(change.After, &after)
	equal(s, "recorded", []int64{before.Total, after.Total, after.Delta}, []int64{10, 6, -4})
}

func withdrawAgain(s *shop) {
	s.withdraw(0, 1, "k", 4)
	s.drain()
	for _, epoch := range []inventory.Epoch{1, 2} { // the units are gone, whatever epoch it is by now
		s.unchanged(func() {
			total, replayed, err := s.tryWithdraw(0, epoch, "k", -4)
			s.must(err)
			equal(s, "repeat", []any{total, replayed}, []any{int64(6), true})
		})
		s.fence(s.ref(0, 3))
	}
	_, _, err := s.tryWithdraw(0, 3, "k", -5)
	s.wants(err, seckill.ErrKeyReused)
	_, _, err = s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(0), Key: "r", Delta: 1}, author)
	s.must(err)
	_, _, err = s.tryWithdraw(0, 3, "r", -1)
	s.wants(err, seckill.ErrKeyReused)
	s.counts(0, 7, 0, 0)
	equal(s, "outbox", len(s.outbox()), 1)
}

func withdrawTooMuch(s *shop) {
	s.order(0, "u-1", "k", 2)
	s.pay(seckill.PaymentBooked, s.order(0, "u-2", "k", 1), "p-1")
	s.drain()
	s.unchanged(func() {
		_, _, err := s.tryWithdraw(0, 1, "k", -8)
		s.wants(err, seckill.ErrTooLow)
	})
	s.counts(0, 10, 2, 1)
	equal(s, "outbox", s.outbox(), nil)
	equal(s, "total", s.withdraw(0, 1, "k", 7), 3) // the key was not used up; what is left is all gone
	s.accept([]seckill.Outcome{rejected}, s.record(0, "u-3", "k", 1))
}

func withdrawFenced(s *shop) {
	s.fence(s.ref(0, 3))
	s.unchanged(func() {
		for _, epoch := range []inventory.Epoch{1, 2, 4} {
			_, _, err := s.tryWithdraw(0, epoch, "k", -1)
			s.wants(err, seckill.ErrFenced)
		}
	})
	s.counts(0, 10, 0, 0)
	equal(s, "outbox", s.outbox(), nil)
	s.withdraw(0, 3, "k", 1)
}

func withdrawNothing(s *shop) {
	for _, delta := range []int64{0, 1} {
		if _, _, err := s.tryWithdraw(0, 1, "k", delta); err == nil {
			s.t.Errorf("withdrawn by %d", delta)
		}
	}
	s.counts(0, 10, 0, 0)
}

func findStockChange(s *shop) {
	find := func(key string) (seckill.StockChange, bool) {
		c, found, err := s.store.FindStockChange(s.ctx, s.item(0), key)
		s.must(err)
		return c, found
	}
	c, found := find("k")
	equal(s, "found", []any{c, found}, []any{seckill.StockChange{}, false})
	raise := seckill.StockChange{Item: s.item(0), Key: "k", Delta: 5}
	_, _, err := s.store.Restock(s.ctx, raise, author)
	s.must(err)
	s.withdraw(0, 1, "w", 2)
	for _, want := range []seckill.StockChange{raise, {Item: s.item(0), Key: "w", Delta: -2}} {
		c, found = find(want.Key)
		equal(s, "found", []any{c, found}, []any{want, true})
	}
	// A key that looks like a hold is a key like any other.
	_, found = find(seckill.NewWithdrawalID(s.item(0), "w"))
	equal(s, "found by its hold", found, false)
	like := seckill.StockChange{Item: s.item(0), Key: seckill.NewWithdrawalID(s.item(0), "x"), Delta: 1}
	_, replayed, err := s.store.Restock(s.ctx, like, author)
	s.must(err)
	equal(s, "replayed", replayed, false)
	s.withdraw(0, 1, "x", 1)
}

func books(t *testing.T, open Open) {
	s := newShop(t, open, goods{"z", 20, 0}, goods{"a", 5, 1})
	s.pay(seckill.PaymentBooked, s.order(0, "u-1", "k", 3), "p-1") // 3 pending
	s.order(0, "u-2", "k", 4)
	s.cancel(s.order(0, "u-3", "k", 5))                                                               // 5 pending
	s.accept([]seckill.Outcome{rejected}, s.record(0, "u-4", "k", 14))                                // 14 pending
	s.accept([]seckill.Outcome{opened, rejected}, s.record(1, "u", "k", 1), s.record(1, "u", "l", 1)) // 1 pending
	_, _, err := s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(0), Key: "r", Delta: 100}, author)
	s.must(err)
	s.withdraw(0, 1, "w", 30)
	s.bury([]bool{false}, s.ref(0, 1), inventory.Hold{ID: seckill.NewWithdrawalID(s.item(0), "lost"), Quantity: 9}) // changes no total
	want := []seckill.Book{
		{Item: s.item(0), SKU: "z", Epoch: 1, Total: 90, Open: 4, Sold: 3, PendingUnits: 22, PendingStock: 70, Rejected: 1},
		{Item: s.item(1), SKU: "a", Epoch: 1, Total: 5, Open: 1, PendingUnits: 1, Rejected: 1},
	}
	got, err := s.store.Books(s.ctx, activity)
	s.must(err)
	equal(s, "books", got, want)
	s.drain()
	s.fence(s.ref(0, 2))
	s.accept([]seckill.Outcome{skipped}, s.record(0, "u-5", "k", 1))
	want[0].Epoch, want[0].PendingUnits, want[0].PendingStock, want[0].Skipped = 2, 0, 0, 1
	want[1].PendingUnits = 0
	got, err = s.store.Books(s.ctx, activity)
	s.must(err)
	equal(s, "books", got, want)
	got, err = s.store.Books(s.ctx, "nothing")
	s.must(err)
	equal(s, "books of nothing", len(got), 0)
}
