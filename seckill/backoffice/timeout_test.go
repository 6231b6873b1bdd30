package backoffice

import (
	"context"
	"log/slog"
	"testing"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// parkedStore is a store whose parked orders come out one by one.
type parkedStore struct {
	seckill.Store
	locked int // orders whose row is locked still
}

func (p *parkedStore) Unpark(context.Context, []inventory.ShardID, int) ([]seckill.Acceptance, error) {
	out := []seckill.Acceptance{{Outcome: seckill.OutcomeOpened}}
	for range p.locked {
		out = append(out, seckill.Acceptance{Outcome: seckill.OutcomeParked})
	}
	return out, nil
}

// An unparker tells how many orders still wait for a lock, and none of shards that are another's.
func TestUnparker_Waiting(t *testing.T) {
	store, owned := &parkedStore{locked: 3}, []int32{0}
	owner := NewOwnership(2, func() ([]int32, int) { return owned, 1 })
	u := NewUnparker(seckill.DefaultConfig(), store, owner, func([]seckill.Acceptance) {}, slog.New(slog.DiscardHandler))
	waits := func(want int64) {
		t.Helper()
		if err := u.Step(t.Context()); err != nil || u.Waiting() != want {
			t.Errorf("%d wait, %v; want %d", u.Waiting(), err, want)
		}
	}
	waits(3)
	store.locked = 0
	waits(0)
	store.locked = 2
	waits(2)
	owned = nil
	waits(0)
}
