package backoffice

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// outbox is a store with one row for each of two shards, and a stock whose shard 0 is closed.
type outbox struct {
	seckill.OrderStore
	seckill.Books

	mu sync.Mutex // guards done and asked

	asked map[inventory.ShardID]int // passes that read the shard's row
	done  map[inventory.ShardID]bool
}

func (o *outbox) Relay(ctx context.Context, shards []inventory.ShardID, after int64, _ int,
	deliver func(context.Context, []seckill.Outgoing) []int) (int64, error) {
	var rows []seckill.Outgoing
	o.mu.Lock()
	for _, shard := range shards {
		if !o.done[shard] && after < 1 {
			o.asked[shard]++
			rows = append(rows, seckill.Outgoing{Ref: inventory.Ref{Shard: shard, Epoch: 1}})
		}
	}
	o.mu.Unlock()
	if len(rows) == 0 {
		return 0, nil
	}
	for _, i := range deliver(ctx, rows) {
		o.set(rows[i].Ref.Shard, true)
	}
	return 1, nil
}

func (o *outbox) set(shard inventory.ShardID, done bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done[shard] = done
}

func (o *outbox) Settle(_ context.Context, ref inventory.Ref, _ []inventory.Settlement) error {
	if ref.Shard == 0 {
		return inventory.ErrClosed
	}
	return nil
}

// A row that can't be delivered is not read again at every pass, and doesn't delay the rows of
// other shards.
func TestL10_RelayLeavesAShardAloneThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{asked: make(map[inventory.ShardID]int), done: make(map[inventory.ShardID]bool)}
		owner := NewOwnership(2, func() ([]int32, int) { return []int32{0}, 1 })
		r := NewRelay(seckill.DefaultConfig(), o, o, owner, nil, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r.Run(ctx)
		if !o.done[1] || o.asked[1] != 1 {
			t.Errorf("the other shard's row was taken %d times", o.asked[1])
		}
		if n := o.asked[0]; n < 30 || n > 200 {
			t.Errorf("the row was taken %d times in a minute", n)
		}
		if awake := r.awake(time.Now()); !slices.Contains(awake, 1) {
			t.Errorf("awake %v", awake)
		}
	})
}

// run runs a relay; stop returns when it has ended.
func run(t *testing.T, r *Relay) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// A relay that is woken looks at the outbox at once, no matter how long it has been empty.
func TestRelay_IsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{asked: make(map[inventory.ShardID]int), done: map[inventory.ShardID]bool{0: true, 1: true}}
		owner := NewOwnership(2, func() ([]int32, int) { return []int32{0}, 1 })
		woken := make(chan struct{}, 1)
		r := NewRelay(seckill.DefaultConfig(), o, o, owner, woken, slog.New(slog.DiscardHandler))
		stop := run(t, r)
		time.Sleep(time.Minute)
		synctest.Wait()
		o.set(1, false) // a row comes
		woken <- struct{}{}
		synctest.Wait()
		if !o.done[1] {
			t.Error("the row was not told at once")
		}
		stop()
	})
}

// How long rows wait is known also where a shard takes none, and nothing is waited for once they
// have gone another way.
func TestRelay_KnowsHowLongRowsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{asked: make(map[inventory.ShardID]int), done: map[inventory.ShardID]bool{0: true, 1: true}}
		owner := NewOwnership(2, func() ([]int32, int) { return []int32{0}, 1 })
		r := NewRelay(seckill.DefaultConfig(), o, o, owner, nil, slog.New(slog.DiscardHandler))
		waits := func(what string, least, most time.Duration) {
			t.Helper()
			synctest.Wait()
			if _, oldest := r.Took(); oldest < least || oldest > most {
				t.Errorf("%s, the oldest row waits for %v, want %v to %v", what, oldest, least, most)
			}
		}
		waits("before the first pass", 0, 0)
		stop := run(t, r)
		time.Sleep(time.Minute)
		waits("with an empty outbox", 0, longestRelayPause)
		o.set(1, false)
		time.Sleep(time.Second)
		waits("after a row that was taken", 0, longestRelayPause)
		if took, _ := r.Took(); took.Sum() <= 0 || took.Sum() > time.Second {
			t.Errorf("it waited for %v", took.Sum())
		}
		o.set(0, false) // its shard takes nothing
		time.Sleep(time.Minute)
		waits("with a row that isn't taken", time.Minute, time.Minute+time.Second)
		o.set(0, true) // a snapshot has counted it
		time.Sleep(3 * time.Second)
		waits("after the row has gone", 0, longestRelayPause)
		stop()
	})
}

// strange is a stock that doesn't know the item of a restock.
type strange struct {
	*outbox
}

func (strange) Restock(_ context.Context, _ inventory.Ref, restocks []inventory.Restock) ([]bool, error) {
	return make([]bool, len(restocks)), nil
}

// A row that the stock answers and doesn't take is not delivered: the relay would go on at once,
// for as long as the row is there.
func TestRelay_CountsWhatTheStockHasTaken(t *testing.T) {
	o := &outbox{asked: make(map[inventory.ShardID]int), done: make(map[inventory.ShardID]bool)}
	owner := NewOwnership(2, func() ([]int32, int) { return []int32{0}, 1 })
	r := NewRelay(seckill.DefaultConfig(), strange{o}, o, owner, nil, slog.New(slog.DiscardHandler))
	ref := inventory.Ref{Shard: 1, Epoch: 1}
	arrived := r.deliver(t.Context(), []seckill.Outgoing{{Ref: ref}, {Ref: ref, Restock: inventory.Restock{Item: 7, ID: "r", Units: 3}}})
	if delivered, refused := r.Delivered(); delivered != 1 || refused != 0 || !slices.Equal(arrived, []int{0}) {
		t.Errorf("%d delivered, %d refused, arrived %v", delivered, refused, arrived)
	}
}
