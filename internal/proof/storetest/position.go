package storetest

import (
	"testing"

	"github.com/penstock/penstock/seckill"
)

func positionCases() []testCase {
	return []testCase{
		{"AddPartitions_MakesThemKnownAtTheBeginning", addPartitions},
		{"AddPartitions_OfATopicMadeAnewBeginAgain", addPartitionsAnew},
		{"AddPartitions_RefusesAnotherLayout", addPartitionsFewer},
		selling("Position_MovesWithItsRows", positionMoves),
		selling("Position_OfTwoWorkersTheSecondLoses", positionCompared),
		selling("Position_IsMoreThanItsOffset", positionWhole),
		selling("Position_OneThatMovedUndoesTheBatch", positionUndoes),
	}
}

var (
	topic = seckill.TopicID{1, 15: 9}
	anew  = seckill.TopicID{2}
)

func (s *shop) positions() []seckill.Position {
	s.t.Helper()
	got, err := s.store.Positions(s.ctx)
	s.must(err)
	return got
}

// at is a position of the shop's topic.
func at(partition int32, next int64, leaderEpoch int32) seckill.Position {
	return seckill.Position{Topic: topic, Partition: partition, Next: next, LeaderEpoch: leaderEpoch}
}

func addPartitions(t *testing.T, open Open) {
	s := emptyShop(t, open)
	equal(s, "positions", s.positions(), nil)
	s.must(s.store.AddPartitions(s.ctx, topic, 2))
	equal(s, "positions", s.positions(), []seckill.Position{at(0, 0, -1), at(1, 0, -1)})
	s.acceptBatch(nil, seckill.Batch{Moves: []seckill.Move{{From: at(1, 0, -1), To: at(1, 7, 3)}}})
	for range 2 {
		s.must(s.store.AddPartitions(s.ctx, topic, 3))
		equal(s, "positions", s.positions(), []seckill.Position{at(0, 0, -1), at(1, 7, 3), at(2, 0, -1)})
	}
	for _, n := range []int32{0, -1} {
		if err := s.store.AddPartitions(s.ctx, topic, n); err == nil {
			t.Errorf("a topic of %d partitions", n)
		}
	}
}

func addPartitionsAnew(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.must(s.store.AddPartitions(s.ctx, topic, 2))
	s.acceptBatch(nil, seckill.Batch{Moves: []seckill.Move{{From: at(1, 0, -1), To: at(1, 7, 3)}}})
	s.must(s.store.AddPartitions(s.ctx, anew, 3))
	var want []seckill.Position
	for partition := range int32(3) {
		want = append(want, seckill.Position{Topic: anew, Partition: partition, LeaderEpoch: -1})
	}
	equal(s, "positions", s.positions(), want)
	// A worker that has read the earlier topic comes too late.
	s.refuses(seckill.ErrMoved, seckill.Batch{Moves: []seckill.Move{{From: at(1, 7, 3), To: at(1, 9, 3)}}})
	s.refuses(seckill.ErrMoved, seckill.Batch{Moves: []seckill.Move{{From: at(0, 0, -1), To: at(0, 9, 3)}}})
	equal(s, "positions", s.positions(), want)
}

func addPartitionsFewer(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.must(s.store.AddPartitions(s.ctx, topic, 3))
	before := s.positions()
	for _, id := range []seckill.TopicID{topic, anew} {
		s.wants(s.store.AddPartitions(s.ctx, id, 2), seckill.ErrLayout)
	}
	equal(s, "positions", s.positions(), before)
}

// refuses checks that the store refuses a batch.
func (s *shop) refuses(want error, b seckill.Batch) {
	s.t.Helper()
	_, err := s.store.Accept(s.ctx, b)
	s.wants(err, want)
}

func positionMoves(s *shop) {
	s.must(s.store.AddPartitions(s.ctx, topic, 2))
	s.acceptBatch([]seckill.Outcome{opened}, seckill.Batch{
		Pages: []seckill.Page{s.page(s.ref(0), s.promise(0, "u-1", "k", 1))},
		Moves: []seckill.Move{{From: at(0, 0, -1), To: at(0, 5, 2)}, {From: at(1, 0, -1), To: at(1, 1, 0)}},
	})
	equal(s, "positions", s.positions(), []seckill.Position{at(0, 5, 2), at(1, 1, 0)})
	// Two moves of a partition follow each other.
	s.acceptBatch(nil, seckill.Batch{
		Moves: []seckill.Move{{From: at(0, 5, 2), To: at(0, 6, 2)}, {From: at(0, 6, 2), To: at(0, 8, 3)}}})
	s.refuses(seckill.ErrMoved, seckill.Batch{
		Moves: []seckill.Move{{From: at(0, 8, 3), To: at(0, 9, 3)}, {From: at(0, 10, 3), To: at(0, 11, 3)}}})
	equal(s, "positions", s.positions(), []seckill.Position{at(0, 8, 3), at(1, 1, 0)})
}

// positionCompared: two workers have read the same records; the loser begins again from the store.
func positionCompared(s *shop) {
	s.must(s.store.AddPartitions(s.ctx, topic, 1))
	batch := seckill.Batch{
		Pages: []seckill.Page{s.page(s.ref(0), s.promise(0, "u-1", "k", 1))},
		Moves: []seckill.Move{{From: at(0, 0, -1), To: at(0, 1, 0)}},
	}
	s.acceptBatch([]seckill.Outcome{opened}, batch)
	s.refuses(seckill.ErrMoved, batch)
	batch.Pages[0] = s.page(s.ref(0), s.promise(0, "u-2", "k", 1))
	batch.Moves[0].To.Next = 2
	s.refuses(seckill.ErrMoved, batch)
	equal(s, "positions", s.positions(), []seckill.Position{at(0, 1, 0)})
	s.counts(0, 10, 1, 0)
}

// positionWhole: a log that lost its tail has other records at the same offsets.
func positionWhole(s *shop) {
	s.must(s.store.AddPartitions(s.ctx, topic, 1))
	s.acceptBatch(nil, seckill.Batch{Moves: []seckill.Move{{From: at(0, 0, -1), To: at(0, 5, 2)}}})
	other := at(0, 5, 2)
	other.Topic = anew
	for _, from := range []seckill.Position{at(0, 4, 2), at(0, 6, 2), at(0, 5, 1), at(0, 5, 3), at(0, 5, -1), at(1, 5, 2), other} {
		to := from
		to.Next = 9
		s.refuses(seckill.ErrMoved, seckill.Batch{Moves: []seckill.Move{{From: from, To: to}}})
	}
	equal(s, "positions", s.positions(), []seckill.Position{at(0, 5, 2)})
}

func positionUndoes(s *shop) {
	s.must(s.store.AddPartitions(s.ctx, topic, 2))
	r := s.promise(0, "u-1", "k", 1)
	s.refuses(seckill.ErrMoved, seckill.Batch{
		Pages:   []seckill.Page{s.page(s.ref(0), r)},
		Letters: []seckill.DeadLetter{{Partition: 0, Offset: 3, Problem: "p", Value: []byte{1}}},
		Moves:   []seckill.Move{{From: at(0, 0, -1), To: at(0, 5, 2)}, {From: at(1, 3, 0), To: at(1, 4, 0)}},
	})
	equal(s, "positions", s.positions(), []seckill.Position{at(0, 0, -1), at(1, 0, -1)})
	equal(s, "order", s.find(r.Order), seckill.Order{})
	equal(s, "letters", s.letters(), nil)
	s.counts(0, 10, 0, 0)
	s.sums()
}
