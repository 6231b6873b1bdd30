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

// Signals keeps the callbacks of a stock until the sale takes them. It is made before the stock and
// the sale. Its methods don't block and are safe for concurrent use. It keeps at most one note for
// each shard.
type Signals struct {
	// Fixed after NewSignals.
	suspected chan struct{} // gets a value after a shard became suspect; capacity 1
	changed   chan struct{} // gets a value when the shards' rows must be read again; capacity 1
	outbox    chan struct{} // gets a value when units have come back and their rows wait in the outbox; capacity 1

	mu    sync.Mutex
	lost  map[inventory.ShardID]inventory.Epoch // suspect under this epoch; 0 means under any epoch; guarded by mu
	later map[inventory.ShardID]inventory.Epoch // the latest epoch that the stock has reported; guarded by mu

	crossed atomic.Pointer[itemFunc] // called when an item's last unit has gone, or a unit came back
	wanted  atomic.Pointer[itemFunc] // called when an item is wanted on a shard
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

// OnCrossing is called for an item that had units and now has none, or the reverse.
func (s *Signals) OnCrossing(shard inventory.ShardID, item inventory.ItemID, _ bool) {
	if f := s.crossed.Load(); f != nil {
		f.call(shard, item)
	}
}

// OnWanted is called for a spread item whose units are wanted on a shard without a unit.
func (s *Signals) OnWanted(shard inventory.ShardID, item inventory.ItemID) {
	if f := s.wanted.Load(); f != nil {
		f.call(shard, item)
	}
}

// nudge makes sure that the shards' rows are read again soon.
func (s *Signals) nudge() { signal(s.changed) }

// suspects returns the suspect shards, in order, and forgets them.
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

// latest returns the rows. If the stock has reported a later epoch than a row has, the row gets
// that epoch.
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

// signal puts a value into a channel of capacity 1, if the channel is empty.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// newBackoff returns the back-off for a loop that meets errors.
func newBackoff() *wait.Backoff {
	return &wait.Backoff{First: 100 * time.Millisecond, Longest: 5 * time.Second}
}
