package storetest

import (
	"context"
	"testing"

	"penstock/inventory"
	"penstock/seckill"
)

func outboxCases() []testCase {
	return []testCase{
		selling("AnEmptyOutboxCallsNobody", relayEmpty),
		{"DeletesWhatWasDeliveredAndNothingElse", relaySome},
		{"GoesThroughTheOutboxInPages", relayPages},
		selling("NamesTheItemsEpochOfNow", relayEpoch),
		selling("DeliverMayUseTheStore", relayReenters),
		selling("ARowWrittenMeanwhileIsNotDeleted", relayMeanwhile),
		selling("TwoRelaysMayDeliverTheSame", relayTwice),
		{"ARestockOfAnItemThatNeverOpenedWaits", relayUnopened},
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
	last, err := s.store.Relay(s.ctx, 0, 10, func(context.Context, []seckill.Outgoing) []int {
		s.t.Error("deliver was called without rows")
		return nil
	})
	s.must(err)
	equal(s, "last row", last, 0)
}

func relaySome(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0})
	orders := s.cancelled(0, 5)
	var want []seckill.Outgoing
	for _, o := range orders {
		want = append(want, settlement(s.ref(0, 1), o, inventory.SettleVoid))
	}
	equal(s, "rows", s.relay(func([]seckill.Outgoing) []int { return []int{3, 1} }), want)
	want = []seckill.Outgoing{want[0], want[2], want[4]}
	equal(s, "rows", s.drain(), want)
	equal(s, "rows", s.outbox(), nil)
}

func relayPages(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0})
	orders := s.cancelled(0, 5)
	var after int64
	var seen []string
	for _, want := range []int{2, 2, 1, 0} {
		rows := 0
		last, err := s.store.Relay(s.ctx, after, 2, func(_ context.Context, page []seckill.Outgoing) []int {
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

func relayEpoch(s *shop) {
	s.cancelled(0, 1)
	equal(s, "epoch", s.outbox()[0].Ref, s.ref(0, 1))
	s.fence(s.ref(0, 5))
	equal(s, "epoch", s.outbox()[0].Ref, s.ref(0, 5))
}

func relayReenters(s *shop) {
	orders := s.cancelled(0, 2)
	open := s.order(0, "u-9", "k", 1)
	s.relay(func(rows []seckill.Outgoing) []int {
		equal(s, "order", s.find(orders[0].ID), orders[0])
		if s.find(open.ID).Units == seckill.UnitsOpen {
			s.cancel(open)
		}
		return []int{0}
	})
	s.counts(0, 10, 0, 0)
}

// relayMeanwhile: a slow relay delivers a row that a fast one has delivered and deleted; a row that was written since must
// not be taken for it.
func relayMeanwhile(s *shop) {
	s.cancelled(0, 1)
	var later seckill.Order
	_, err := s.store.Relay(s.ctx, 0, 10, func(_ context.Context, rows []seckill.Outgoing) []int {
		s.drain()
		later = s.cancel(s.order(0, "u-9", "k", 1))
		return []int{0}
	})
	s.must(err)
	equal(s, "outbox", s.outbox(), []seckill.Outgoing{settlement(s.ref(0, 1), later, inventory.SettleVoid)})
}

// relayTwice: while rows are being delivered another relay gets the same ones, or none of them. What both delivered is gone.
func relayTwice(s *shop) {
	s.cancelled(0, 2)
	_, err := s.store.Relay(s.ctx, 0, 10, func(_ context.Context, rows []seckill.Outgoing) []int {
		if other := s.drain(); len(other) > 0 {
			equal(s, "rows of the other relay", other, rows)
		}
		return []int{0, 1}
	})
	s.must(err)
	equal(s, "outbox", s.outbox(), nil)
}

func relayUnopened(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 0})
	draft := s.putActivity(s.draft("books", goods{"a", 5, 0}))
	item := draft.Items[0].ID
	total, _, err := s.store.Restock(s.ctx, seckill.StockChange{Item: item, Key: "k", Delta: 3}, author)
	s.must(err)
	equal(s, "total", total, 8)
	equal(s, "rows for a shard that doesn't exist", s.outbox(), nil)
	snapshot := s.fence(inventory.Ref{Item: item, Epoch: 1})
	equal(s, "total in the first snapshot", snapshot.Total, 8)
	equal(s, "rows after it", s.outbox(), nil)
}
