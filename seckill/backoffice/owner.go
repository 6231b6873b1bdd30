package backoffice

import (
	"sync"
	"time"

	"github.com/penstock/penstock/inventory"
)

// Ownership has the shards on which this process works: those whose preferred partitions the
// consumer group has given to it. While the group doesn't answer, the process keeps its shards.
// After the time orphaned it takes all shards: their servers may be healthy, and two processes that
// do the same work do no harm. It is safe for concurrent use.
type Ownership struct {
	// Fixed after NewOwnership.
	shards int
	owned  func() (partitions []int32, all int)

	mu    sync.Mutex
	last  []inventory.ShardID // guarded by mu
	heard time.Time           // when the group last answered; guarded by mu
}

// orphaned is how long the consumer group may be silent before this process takes all shards.
const orphaned = 30 * time.Second

// NewOwnership makes an Ownership for an installation with that many shards. owned returns the
// partitions of this process, and the number of all partitions, which is 0 while it isn't known.
func NewOwnership(shards int, owned func() (partitions []int32, all int)) *Ownership {
	return &Ownership{shards: shards, owned: owned, heard: time.Now()}
}

// Shards returns the shards to work on, in order. The caller must not change the list.
func (o *Ownership) Shards() []inventory.ShardID {
	partitions, all := o.owned()
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case all > 0:
		o.heard, o.last = time.Now(), o.of(partitions, all)
	case time.Since(o.heard) > orphaned:
		o.last = o.of([]int32{0}, 1)
	}
	return o.last
}

// of returns the shards that prefer one of the partitions.
func (o *Ownership) of(partitions []int32, all int) []inventory.ShardID {
	mine := make([]bool, all)
	for _, p := range partitions {
		if int(p) < all {
			mine[p] = true
		}
	}
	var shards []inventory.ShardID
	for s := range o.shards {
		if mine[s%all] {
			shards = append(shards, inventory.ShardID(s))
		}
	}
	return shards
}
