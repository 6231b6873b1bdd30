package node

import (
	"slices"
	"testing"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func TestSignals_Suspects(t *testing.T) {
	s := NewSignals()
	s.OnLost(inventory.Ref{Shard: 1, Epoch: 7})
	s.OnLost(inventory.Ref{Shard: 1, Epoch: 5}) // late news
	s.OnSuspect([]inventory.ShardID{1, 2})
	select {
	case <-s.suspected:
	default:
		t.Error("nobody is told")
	}
	got := s.suspects()
	slices.SortFunc(got, func(a, b inventory.Ref) int { return int(a.Shard) - int(b.Shard) })
	if want := []inventory.Ref{{Shard: 1, Epoch: 7}, {Shard: 2}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if again := s.suspects(); len(again) > 0 {
		t.Errorf("once more: %v", again)
	}
}

func TestSignals_Latest(t *testing.T) {
	s := NewSignals()
	rows := []seckill.ShardRow{{Ref: inventory.Ref{Shard: 0, Epoch: 3}}, {Ref: inventory.Ref{Shard: 1, Epoch: 3}}}
	s.OnEpoch(0, 9)
	s.OnEpoch(0, 4)
	s.OnEpoch(1, 2)
	got := s.latest(rows)
	if got[0].Ref.Epoch != 9 || got[1].Ref.Epoch != 3 {
		t.Errorf("%v", got)
	}
	if rows[0].Ref.Epoch != 3 {
		t.Error("the rows of the books were changed")
	}
}

func TestHotItems(t *testing.T) {
	h := newHotItems()
	order := func(item inventory.ItemID, n int) {
		for range n {
			h.count([]seckill.Acceptance{{Order: seckill.Order{Item: item}, Ref: inventory.Ref{Shard: 2}}})
		}
	}
	order(5, 10)
	order(9, 20)
	for item := range inventory.ItemID(3 * maxCounted) {
		order(1000+item, 1)
	}
	got := h.of(2)
	if items := got.Items; len(items) > maxHot || items[0] != 9 || items[1] != 5 || got.Orders < 2 {
		t.Errorf("%+v", got)
	}
	if n := len(h.shards[2]); n > maxCounted {
		t.Errorf("%d counts are kept", n)
	}
	if other := h.of(3); len(other.Items) > 0 || other.Orders > 0 {
		t.Errorf("another shard's: %+v", other)
	}
}
