package storetest

import (
	"cmp"
	"slices"
	"sync"
	"testing"

	"penstock/inventory"
	"penstock/seckill"
)

func epochCases() []testCase {
	return []testCase{
		{"NextEpoch_GivesEachOutOnce", nextEpoch},
		selling("Fence_ReturnsTheItemAtThatMoment", fence),
		selling("Fence_RepeatedReturnsTheSame", fenceAgain),
		selling("Fence_IsRefusedWhereALaterOneStands", fenceLate),
		{"Fence_AbsorbsStockChangesAndKeepsSettlements", fenceOutbox},
		{"Fence_OfManyOrders", fenceMany},
		selling("MarkSuspect_HoldsForOneEpoch", markSuspect),
		{"LockItem_IsOneHoldersAtATime", lockItem},
	}
}

func nextEpoch(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0}, goods{"phone-y", 10, 0})
	s.fence(s.ref(0, 5))
	var mu sync.Mutex
	given := make(map[inventory.Epoch]int)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				epoch, err := s.store.NextEpoch(s.ctx, s.item(0))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				given[epoch]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for epoch := inventory.Epoch(6); epoch < 46; epoch++ {
		if given[epoch] != 1 {
			t.Errorf("epoch %d was given out %d times", epoch, given[epoch])
		}
	}
	equal(s, "the item's own epoch", s.book(0).Epoch, 5)
	other, err := s.store.NextEpoch(s.ctx, s.item(1))
	s.must(err)
	equal(s, "the other item's next epoch", other, 2)
	_, err = s.store.NextEpoch(s.ctx, 4711)
	s.wants(err, seckill.ErrNotFound)
}

// sorted makes snapshots comparable: the order of entries is nobody's business.
func sorted(snapshot seckill.StockSnapshot) seckill.StockSnapshot {
	slices.SortFunc(snapshot.Entries, func(a, b inventory.Entry) int { return cmp.Compare(a.ID, b.ID) })
	return snapshot
}

func entry(h inventory.Hold, state inventory.State) inventory.Entry {
	return inventory.Entry{Hold: h, State: state}
}

func fence(s *shop) {
	open, paid, gone := s.order(0, "u-1", "k", 1), s.order(0, "u-2", "k", 2), s.order(0, "u-3", "k", 1)
	s.pay(seckill.PaymentBooked, paid, "p-1")
	s.cancel(gone)
	no := s.accept([]seckill.Outcome{rejected}, s.record(0, "u-4", "k", 3))[0].Order
	buried := s.hold(0, "u-5", "k", 1)
	s.bury([]bool{false}, s.ref(0, 1), buried)
	taken := inventory.Hold{ID: seckill.NewWithdrawalID(s.item(0), "taken"), Quantity: 3}
	s.withdraw(0, 1, "taken", 3)
	lost := inventory.Hold{ID: seckill.NewWithdrawalID(s.item(0), "lost"), Quantity: 2}
	s.bury([]bool{false}, s.ref(0, 1), lost)
	epoch, err := s.store.NextEpoch(s.ctx, s.item(0))
	s.must(err)
	var got seckill.StockSnapshot
	s.raises(func() { got = s.fence(s.ref(0, epoch)) })
	want := seckill.StockSnapshot{Total: 7, Open: 1, Sold: 2, Entries: []inventory.Entry{
		entry(open.Hold(), inventory.Ordered), entry(paid.Hold(), inventory.Sold), entry(gone.Hold(), inventory.Void),
		entry(no.Hold(), inventory.Void), entry(buried, inventory.Void), entry(taken, inventory.Sold), entry(lost, inventory.Void),
	}}
	equal(s, "snapshot", sorted(got), sorted(want))
	s.reload()
	equal(s, "epoch in the catalog", s.items[0].Epoch, epoch)
}

func fenceAgain(s *shop) {
	s.order(0, "u-1", "k", 1)
	first := s.fence(s.ref(0, 2))
	s.unchanged(func() { equal(s, "snapshot", sorted(s.fence(s.ref(0, 2))), sorted(first)) })
	s.accept([]seckill.Outcome{opened}, s.recordAt(0, 2, "u-2", "k", 1))
}

func fenceLate(s *shop) {
	s.fence(s.ref(0, 3))
	s.unchanged(func() {
		for _, epoch := range []inventory.Epoch{0, 1, 2} {
			_, err := s.store.Fence(s.ctx, s.ref(0, epoch))
			s.wants(err, seckill.ErrFenced)
		}
	})
	equal(s, "epoch", s.book(0).Epoch, 3)
	_, err := s.store.Fence(s.ctx, inventory.Ref{Item: 4711, Epoch: 1})
	s.wants(err, seckill.ErrNotFound)
	next, err := s.store.NextEpoch(s.ctx, s.item(0))
	s.must(err)
	if next <= 3 {
		s.t.Fatalf("next epoch %d of an item in epoch 3", next)
	}
}

func fenceOutbox(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0}, goods{"phone-y", 10, 0})
	gone := s.cancel(s.order(0, "u-1", "k", 1))
	for i := range 2 {
		_, _, err := s.store.Restock(s.ctx, seckill.StockChange{Item: s.item(i), Key: "r", Delta: 2}, author)
		s.must(err)
		s.withdraw(i, 1, "w", 1)
		s.bury([]bool{false}, s.ref(i, 1), inventory.Hold{ID: seckill.NewWithdrawalID(s.item(i), "lost"), Quantity: 1})
	}
	equal(s, "rows", len(s.outbox()), 7)
	snapshot := s.fence(s.ref(0, 2))
	equal(s, "total", snapshot.Total, 11)
	rows := s.outbox()
	equal(s, "first row", rows[0], settlement(s.ref(0, 2), gone, inventory.SettleVoid))
	for _, row := range rows[1:] {
		equal(s, "rows of the other item", row.Ref, s.ref(1, 1))
	}
	equal(s, "rows", len(rows), 4)
}

func fenceMany(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 5000, 0}, goods{"phone-y", 5000, 0})
	var want []inventory.Entry
	for i := range 2 {
		var records []seckill.Record
		for k := range 1500 {
			records = append(records, s.record(i, user(k), "k", 2))
			if i == 0 {
				want = append(want, entry(records[k].Hold(), inventory.Ordered))
			}
		}
		_, err := s.store.Accept(s.ctx, records)
		s.must(err)
	}
	got := s.fence(s.ref(0, 2))
	equal(s, "snapshot", sorted(got), sorted(seckill.StockSnapshot{Total: 5000, Open: 3000, Entries: want}))
}

func markSuspect(s *shop) {
	suspect := func() bool {
		s.reload()
		return s.items[0].Suspect
	}
	s.unchanged(func() {
		s.must(s.store.MarkSuspect(s.ctx, s.ref(0, 2)))
		s.must(s.store.MarkSuspect(s.ctx, s.ref(0, 0)))
	})
	equal(s, "suspect", suspect(), false)
	s.raises(func() { s.must(s.store.MarkSuspect(s.ctx, s.ref(0, 1))) })
	equal(s, "suspect", suspect(), true)
	s.unchanged(func() { s.must(s.store.MarkSuspect(s.ctx, s.ref(0, 1))) })
	s.fence(s.ref(0, 2))
	equal(s, "suspect in the next epoch", suspect(), false)
	s.unchanged(func() { s.must(s.store.MarkSuspect(s.ctx, s.ref(0, 1))) }) // somebody who is late
	s.must(s.store.MarkSuspect(s.ctx, s.ref(0, 2)))
	s.fence(s.ref(0, 2)) // a repeat of the fence doesn't end what was suspected since
	equal(s, "suspect", suspect(), true)
}

func lockItem(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0}, goods{"phone-y", 10, 0})
	lock := func(i int) (func(), bool) {
		unlock, ok, err := s.store.LockItem(s.ctx, s.item(i))
		s.must(err)
		return unlock, ok
	}
	unlock, ok := lock(0)
	equal(s, "locked", ok, true)
	_, ok = lock(0)
	equal(s, "locked twice", ok, false)
	other, ok := lock(1)
	equal(s, "the other item", ok, true)
	other()
	s.order(0, "u-1", "k", 1) // it keeps nobody but other rebuilders out
	unlock()
	again, ok := lock(0)
	equal(s, "locked again", ok, true)
	unlock() // a late repeat doesn't unlock what somebody else holds
	_, ok = lock(0)
	equal(s, "locked twice", ok, false)
	again()
}
