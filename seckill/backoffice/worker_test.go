package backoffice

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// script is a queue and a store for one worker. It returns hauls and answers transactions, in the
// given order.
type script struct {
	seckill.Consumer
	seckill.Store

	hauls   []seckill.Haul
	answers []error // of Accept; nil if there is none left

	refuses map[int32]error // the answer of Accept to batches with a move of a partition
	silent  bool            // the store doesn't answer

	taken   []seckill.Batch
	rewinds int
}

func (s *script) Poll(context.Context) (seckill.Haul, error) {
	haul := s.hauls[0]
	s.hauls = s.hauls[1:]
	return haul, nil
}

func (s *script) Rewind(context.Context) error   { s.rewinds++; return nil }
func (s *script) Committed(moves []seckill.Move) {}
func (s *script) Owned() ([]int32, int)          { return []int32{0, 1, 2}, 3 }
func (s *script) Incarnation(context.Context) (string, error) {
	if s.silent {
		return "", errors.New("no answer")
	}
	return "life", nil
}
func (s *script) Accept(_ context.Context, b seckill.Batch) ([]seckill.Acceptance, error) {
	var err error
	if len(s.answers) > 0 {
		err, s.answers = s.answers[0], s.answers[1:]
	}
	for _, m := range b.Moves {
		err = cmp.Or(err, s.refuses[m.From.Partition])
	}
	if err == nil {
		s.taken = append(s.taken, b)
	}
	return nil, err
}

func (s *script) worker() *Worker {
	return NewWorker(s, s, func([]seckill.Acceptance) {}, nil, slog.New(slog.DiscardHandler))
}

func pageOf(users ...seckill.UserID) *seckill.Page {
	p := &seckill.Page{PageHeader: seckill.PageHeader{Ref: inventory.Ref{Shard: 1, Epoch: 5}, Put: time.UnixMilli(1 << 40)}}
	for _, user := range users {
		c := seckill.CallerRef{Merchant: "m", Caller: "c"}
		p.Promises = append(p.Promises, seckill.Promise{
			Order: seckill.NewOrderID(7, c, user, "k"), Caller: c, User: user, Quantity: 1, Accepted: p.Put,
		})
	}
	return p
}

// haulOf returns a haul of one partition from an offset on.
func haulOf(partition int32, from int64, values ...[]byte) seckill.Haul {
	h := seckill.Haul{Moves: []seckill.Move{{
		From: seckill.Position{Partition: partition, Next: from}, To: seckill.Position{Partition: partition, Next: from + int64(len(values))},
	}}}
	for i, v := range values {
		h.Messages = append(h.Messages, seckill.Message{Partition: partition, Offset: from + int64(i), Value: v})
	}
	return h
}

func usersOf(b seckill.Batch) (users []seckill.UserID) {
	for _, p := range b.Pages {
		for _, r := range p.Promises {
			users = append(users, r.User)
		}
	}
	return users
}

func TestL2_AWorkerGivesNothingUp(t *testing.T) {
	good := seckill.AppendPage(nil, pageOf("ann"))
	later := seckill.AppendPage(nil, pageOf("bob"))

	t.Run("an error of the store is waited out, whatever it is", func(t *testing.T) {
		s := &script{hauls: []seckill.Haul{haulOf(0, 3, good)}, silent: true,
			answers: []error{errors.New("out of shared memory"), errors.New("disk full"), errors.New("no connection is free")}}
		w := s.worker()
		if err := w.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(s.taken) != 1 || w.Counts().Retries.Load() != 1 || len(s.taken[0].Letters) != 0 {
			t.Errorf("taken %+v after %d retries", s.taken, w.Counts().Retries.Load())
		}
	})
	t.Run("locked rows are parked in the next try", func(t *testing.T) {
		s := &script{hauls: []seckill.Haul{haulOf(0, 3, good)}, answers: []error{seckill.ErrLocked}}
		if err := s.worker().Step(t.Context()); err != nil || !s.taken[0].Park {
			t.Errorf("%v, taken %+v", err, s.taken)
		}
	})
	t.Run("a position that moved is read from again", func(t *testing.T) {
		s := &script{hauls: []seckill.Haul{haulOf(0, 3, good)}, answers: []error{seckill.ErrMoved}}
		if err := s.worker().Step(t.Context()); err != nil || s.rewinds != 1 || len(s.taken) != 0 {
			t.Errorf("%v, %d rewinds, taken %+v", err, s.rewinds, s.taken)
		}
	})
	t.Run("a partition stands still before a record of another version, and the others go on", func(t *testing.T) {
		newer := append([]byte{99}, good[1:]...)
		haul := haulOf(0, 3, good, newer, later)
		other := haulOf(1, 8, later)
		haul.Messages, haul.Moves = append(haul.Messages, other.Messages...), append(haul.Moves, other.Moves...)
		s := &script{hauls: []seckill.Haul{haul, haulOf(0, 6, later)}}
		w := s.worker()
		for range 2 {
			if err := w.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(s.taken) != 1 {
			t.Fatalf("%d transactions, want one: the stuck partition goes no further", len(s.taken))
		}
		if got, want := usersOf(s.taken[0]), []seckill.UserID{"ann", "bob"}; !reflect.DeepEqual(got, want) {
			t.Errorf("taken %v, want %v", got, want)
		}
		if moves := s.taken[0].Moves; len(moves) != 2 || moves[0].To.Next != 4 || moves[1].To.Next != 9 || len(s.taken[0].Letters) != 0 {
			t.Errorf("moves %+v, letters %d", moves, len(s.taken[0].Letters))
		}
	})
	t.Run("a damaged record has its orders parked, and is kept", func(t *testing.T) {
		damaged := append([]byte(nil), good...)
		damaged[len(damaged)-1] ^= 1
		s := &script{hauls: []seckill.Haul{haulOf(0, 3, damaged, later)}}
		if err := s.worker().Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		b := s.taken[0]
		if len(b.Letters) != 1 || b.Letters[0].Offset != 3 || len(b.Pages) != 2 || b.Pages[0].Promises[0].Order != pageOf("ann").Promises[0].Order {
			t.Errorf("got %+v", b)
		}
	})
	t.Run("a record without a readable header stops its partition", func(t *testing.T) {
		s := &script{hauls: []seckill.Haul{haulOf(0, 3, []byte{2, 1, 1})}}
		w := s.worker()
		if err := w.Step(t.Context()); err != nil || len(s.taken) != 0 || w.Counts().Stuck.Load() != 1 {
			t.Errorf("%v, taken %+v", err, s.taken)
		}
	})
}

// join puts hauls of several partitions into one.
func join(hauls ...seckill.Haul) (all seckill.Haul) {
	for _, h := range hauls {
		all.Messages, all.Moves = append(all.Messages, h.Messages...), append(all.Moves, h.Moves...)
	}
	return all
}

func TestL10_APartitionThatCantBeCommittedStopsItselfOnly(t *testing.T) {
	ann, bob := seckill.AppendPage(nil, pageOf("ann")), seckill.AppendPage(nil, pageOf("bob"))
	cid := seckill.AppendPage(nil, pageOf("cid"))
	locked := errors.New("canceling statement due to lock timeout")
	users := func(s *script) (all []seckill.UserID) {
		for _, b := range s.taken {
			all = append(all, usersOf(b)...)
		}
		return all
	}
	synctest.Test(t, func(t *testing.T) {
		s := &script{
			hauls:   []seckill.Haul{join(haulOf(0, 3, ann), haulOf(1, 8, bob)), haulOf(1, 8, bob), haulOf(0, 4, cid), haulOf(1, 8, bob)},
			refuses: map[int32]error{1: locked},
		}
		w := s.worker()
		step := func(wantRewinds int, want ...seckill.UserID) {
			t.Helper()
			if err := w.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := users(s); !reflect.DeepEqual(got, want) || s.rewinds != wantRewinds {
				t.Errorf("taken %v after %d rewinds, want %v after %d", got, s.rewinds, want, wantRewinds)
			}
		}
		step(0, "ann") // the other partition goes on in the same step
		if partition, why := w.Aside(); partition != 1 || why == nil {
			t.Errorf("partition %d is aside: %v", partition, why)
		}
		step(0, "ann") // records of the partition are skipped meanwhile
		time.Sleep(asidePause)
		step(1, "ann", "cid") // the row is still locked, and the worker doesn't wait for it
		delete(s.refuses, 1)
		step(1, "ann", "cid", "bob")
		if n := w.Counts().Aside.Load(); n != 1 {
			t.Errorf("set aside %d times", n)
		}
		time.Sleep(apartPatience + 2*asidePause)
		if partition, why := w.Aside(); why != nil {
			t.Errorf("partition %d is still told to be aside: %v", partition, why)
		}
	})
}

// Two attempts with lost answers have moved both positions. Each partition alone is refused then,
// and the worker reads again from the new positions.
func TestL3_PositionsThatMovedAreReadAgain(t *testing.T) {
	ann, bob := seckill.AppendPage(nil, pageOf("ann")), seckill.AppendPage(nil, pageOf("bob"))
	synctest.Test(t, func(t *testing.T) {
		s := &script{
			hauls:   []seckill.Haul{join(haulOf(0, 3, ann), haulOf(1, 8, bob))},
			answers: []error{errors.New("the answer was lost")},
			refuses: map[int32]error{0: seckill.ErrMoved, 1: seckill.ErrMoved},
		}
		if err := s.worker().Step(t.Context()); err != nil || s.rewinds != 1 || len(s.taken) > 0 {
			t.Errorf("%v after %d rewinds, %d taken", err, s.rewinds, len(s.taken))
		}
	})
}
