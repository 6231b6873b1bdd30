package storetest

import (
	"cmp"
	"context"
	"slices"
	"testing"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func outboxCases() []testCase {
	return []testCase{
		selling("AnEmptyOutboxCallsNobody", relayEmpty),
		{"DeletesWhatWasDeliveredAndNothingElse", relaySome},
		{"GoesThroughTheOutboxInPages", relayPages},
		{"IsForItsShardsOnly", relayShards},
		selling("NamesTheShardsEpochOfNow", relayEpoch),
		selling("DeliverMayUseTheStore", relayReenters),
		selling("ARowWrittenMeanwhileIsNotDeleted", relayMeanwhile),
		selling("TwoRelaysMayDeliverTheSame", relayTwice),
		selling("TestL3_AFencedShardsStockChangesWaitForItsSnapshot", relayFenced),
		{"AShardThatNeverOpenedIsToldNothing", relayUnopened},
	}
}

// cancelled makes n orders of item i and cancels them, in the order of the result.
func (s *shop) cancelled(i, n int) []seckill.Order {
	s.t.Helper()
	var out []seckill.Order
	for k := range n {
		out = append(out, s.cancel(s.order(i, user(k), "k", 1)))
	}
	return out
}

func relayEmpty(s *shop) {
	last, err := s.store.Relay(s.ctx, allShards, 0, 10, func(context.Context, []seckill.Outgoing) []int {
		s.t.Error("deliver was called without rows")
		return nil
	})
	s.must(err)
	equal(s, "last row", last, 0)
}

func relaySome(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1})
	orders := s.cancelled(0, 5)
	var want []seckill.Outgoing
	for _, o := range orders {
		want = append(want, settlement(s.ref(0), o, inventory.SettleVoid))
	}
	equal(s, "rows", s.relay(allShards, func([]seckill.Outgoing) []int { return []int{3, 1} }), want)
	want = []seckill.Outgoing{want[0], want[2], want[4]}
	equal(s, "rows", s.drain(), want)
	equal(s, "rows", s.outbox(), nil)
}

func relayPages(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0, 1})
	orders := s.cancelled(0, 5)
	var after int64
	var seen []string
	for _, want := range []int{2, 2, 1, 0} {
		rows := 0
		last, err := s.store.Relay(s.ctx, allShards, after, 2, func(_ context.Context, page []seckill.Outgoing) []int {
			rows = len(page)
			for i := range page {
				seen = append(seen, page[i].Settlement.ID)
			}
			return []int{0}
		})
		s.must(err)
		equal(s, "rows on a page", rows, want)
		equal(s, "the end", last == 0, want == 0)
		if want > 0 && last <= after {
			t.Fatalf("from row %d to row %d", after, last)
		}
		after = last
	}
	for i := range orders {
		equal(s, "row", seen[i], string(orders[i].ID))
	}
	equal(s, "rows left", len(s.outbox()), 2)
}

func relayShards(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 100, 0, Shards})
	on := make(map[inventory.ShardID]int)
	for _, o := range s.cancelled(0, 30) {
		on[o.Grant.Shard]++
	}
	equal(s, "rows of no shard", s.relay(nil, everyRow), nil)
	for _, shard := range allShards {
		sums, err := s.store.ShardSums(s.ctx, shard)
		s.must(err)
		equal(s, "rows pending", sums.Pending, int64(on[shard]))
		rows := s.relay([]inventory.ShardID{shard}, everyRow)
		equal(s, "rows of the shard", len(rows), on[shard])
		for _, row := range rows {
			equal(s, "row's shard", row.Ref, s.refs[shard])
		}
	}
	equal(s, "outbox", s.outbox(), nil)
}

func relayEpoch(s *shop) {
	s.cancelled(0, 1)
	equal(s, "epoch", s.outbox()[0].Ref, s.ref(0))
	before := s.ref(0)
	s.fenceOnly(s.shard(0))
	equal(s, "another epoch", s.ref(0) != before, true)
	equal(s, "epoch", s.outbox()[0].Ref, s.ref(0))
}

func relayReenters(s *shop) {
	orders := s.cancelled(0, 2)
	open := s.order(0, "u-9", "k", 1)
	s.relay(allShards, func(rows []seckill.Outgoing) []int {
		equal(s, "order", s.find(orders[0].ID), orders[0])
		if s.find(open.ID).Units == seckill.UnitsOpen {
			s.cancel(open)
		}
		return []int{0}
	})
	s.counts(0, 10, 0, 0)
}

// relayMeanwhile: a slow relay delivers a row that a fast one has delivered and deleted. It must
// not delete a row that was written since.
func relayMeanwhile(s *shop) {
	s.cancelled(0, 1)
	var later seckill.Order
	_, err := s.store.Relay(s.ctx, allShards, 0, 10, func(_ context.Context, rows []seckill.Outgoing) []int {
		s.drain()
		later = s.cancel(s.order(0, "u-9", "k", 1))
		return []int{0}
	})
	s.must(err)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0), later, inventory.SettleVoid)})
}

// relayTwice: while rows are being delivered, another relay gets the same ones, or none of them.
// Rows that both delivered are deleted.
func relayTwice(s *shop) {
	s.cancelled(0, 2)
	_, err := s.store.Relay(s.ctx, allShards, 0, 10, func(_ context.Context, rows []seckill.Outgoing) []int {
		if other := s.drain(); len(other) > 0 {
			equal(s, "rows of the other relay", other, rows)
		}
		return []int{0, 1}
	})
	s.must(err)
	equal(s, "outbox", s.outbox(), nil)
}

// relayFenced: a restock that is relayed between a fence and its snapshot would have the new epoch,
// and the snapshot counts it too. If it were delivered after the load, its units would count twice.
func relayFenced(s *shop) {
	gone := s.cancelled(0, 1)[0]
	restock := s.restock(0, "r", 5)
	s.withdraw(0, "w", 1)
	s.fenceOnly(s.shard(0))
	equal(s, "rows before the snapshot", s.outbox(), []seckill.Outgoing{settlement(s.ref(0), gone, inventory.SettleVoid)})
	later := s.restock(0, "s", 2)
	got := s.take(s.ref(0))
	equal(s, "items", got.Items, []inventory.Stocked{{Item: s.item(0), Total: 16, Available: 16}})
	equal(s, "rows behind it", s.drain(), []seckill.Outgoing{settlement(s.ref(0), gone, inventory.SettleVoid)})
	equal(s, "restocks", []string{restock.Key, later.Key}, []string{"r", "s"})
	s.restock(0, "t", 1)
	equal(s, "rows behind it", len(s.drain()), 1)

	// After the snapshot, rows are relayed. A second snapshot of the epoch would count them, too.
	_, err := s.tryTake(s.ref(0))
	s.wants(err, seckill.ErrFenced)
}

func relayUnopened(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell(goods{"phone-x", 10, 0, 1})
	equal(s, "rows for a shard that doesn't exist", s.outbox(), nil)
	s.refs = make(map[inventory.ShardID]inventory.Ref)
	got := s.fence(s.shard(0))
	equal(s, "items", got.Items, []inventory.Stocked{{Item: s.item(0), Total: 10, Available: 10}})
	equal(s, "rows after it", s.outbox(), nil)
}

// sortedRows makes outbox rows comparable if their order doesn't matter.
func sortedRows(rows []seckill.Outgoing) []seckill.Outgoing {
	slices.SortFunc(rows, func(a, b seckill.Outgoing) int {
		return cmp.Or(cmp.Compare(a.Ref.Shard, b.Ref.Shard), cmp.Compare(a.Restock.Item, b.Restock.Item),
			cmp.Compare(a.Settlement.ID, b.Settlement.ID), cmp.Compare(a.Restock.ID, b.Restock.ID))
	})
	return rows
}
