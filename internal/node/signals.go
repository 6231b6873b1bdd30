package node

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Signals keeps the callbacks of a stock until the sale takes them. It is made before both. Its
// methods don't block and are safe for concurrent use. It keeps at most one note for each shard.
type Signals struct {
	// Fixed after NewSignals.
	suspected chan struct{} // has a value after a shard became suspect; capacity 1
	changed   chan struct{} // has a value when the shards' rows are to be read again; capacity 1
	outbox    chan struct{} // has a value when units have come back, and wait in the outbox; capacity 1

	mu    sync.Mutex
	lost  map[inventory.ShardID]inventory.Epoch // guarded by mu: suspect under this epoch; 0 is whichever it has
	later map[inventory.ShardID]inventory.Epoch // guarded by mu: the latest epoch that the stock has reported

	crossed atomic.Pointer[itemFunc] // of an item that went or came back
	wanted  atomic.Pointer[itemFunc] // of an item that is wanted on a shard
}

// itemFunc is a callback about an item on a shard.
type itemFunc struct {
	call func(shard inventory.ShardID, item inventory.ItemID)
}

// NewSignals makes an empty Signals.
func NewSignals() *Signals {
	return &Signals{
		suspected: make(chan struct{}, 1), changed: make(chan struct{}, 1), outbox: make(chan struct{}, 1),
		lost: make(map[inventory.ShardID]inventory.Epoch), later: make(map[inventory.ShardID]inventory.Epoch),
	}
}

// OnLost is called for an answer that showed lost writes.
func (s *Signals) OnLost(ref inventory.Ref) {
	s.mu.Lock()
	s.lost[ref.Shard] = max(s.lost[ref.Shard], ref.Epoch)
	s.mu.Unlock()
	signal(s.suspected)
}

// OnSuspect is called with the shards of a server that may have lost writes.
func (s *Signals) OnSuspect(shards []inventory.ShardID) {
	s.mu.Lock()
	for _, shard := range shards {
		if _, known := s.lost[shard]; !known {
			s.lost[shard] = 0
		}
	}
	s.mu.Unlock()
	signal(s.suspected)
}

// OnEpoch is called for a shard with a later epoch than the watched one.
func (s *Signals) OnEpoch(shard inventory.ShardID, epoch inventory.Epoch) {
	s.mu.Lock()
	s.later[shard] = max(s.later[shard], epoch)
	s.mu.Unlock()
	signal(s.changed)
}

// OnCrossing is called for an item that had units and has none, or the other way round.
func (s *Signals) OnCrossing(shard inventory.ShardID, item inventory.ItemID, _ bool) {
	if f := s.crossed.Load(); f != nil {
		f.call(shard, item)
	}
}

// OnWanted is called for a spread item that is wanted on a shard without a unit.
func (s *Signals) OnWanted(shard inventory.ShardID, item inventory.ItemID) {
	if f := s.wanted.Load(); f != nil {
		f.call(shard, item)
	}
}

// nudge makes the shards' rows be read again soon.
func (s *Signals) nudge() { signal(s.changed) }

// suspects returns the suspect shards, in their order, and forgets them.
func (s *Signals) suspects() (refs []inventory.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for shard, epoch := range s.lost {
		refs = append(refs, inventory.Ref{Shard: shard, Epoch: epoch})
	}
	clear(s.lost)
	slices.SortFunc(refs, func(a, b inventory.Ref) int { return cmp.Compare(a.Shard, b.Shard) })
	return refs
}

// latest returns the rows, each with the later one of its epoch and the epoch that the stock has
// reported.
func (s *Signals) latest(rows []seckill.ShardRow) []seckill.ShardRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := append([]seckill.ShardRow(nil), rows...)
	for i := range out {
		ref := &out[i].Ref
		ref.Epoch = max(ref.Epoch, s.later[ref.Shard])
	}
	return out
}

// signal puts a value into a channel of capacity 1 that has none.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// newBackoff returns the back-off of a loop that can't go on.
func newBackoff() *wait.Backoff {
	return &wait.Backoff{First: 100 * time.Millisecond, Longest: 5 * time.Second}
}
