package backoffice

import (
	"sync"
	"time"

	"github.com/penstock/penstock/inventory"
)

// Ownership has the shards on which this process works: those whose preferred partitions the
// consumer group has given to it. While the group doesn't answer, it keeps its shards. After
// orphaned it takes all shards, since their servers may be well, and two processes that do the same
// do no harm. It is safe for concurrent use.
type Ownership struct {
	// Fixed after NewOwnership.
	shards int
	owned  func() (partitions []int32, all int)

	mu    sync.Mutex
	last  []inventory.ShardID // guarded by mu
	heard time.Time           // guarded by mu: when the group last said something
}

// orphaned is how long the consumer group may be silent before this process takes all shards.
const orphaned = 30 * time.Second

// NewOwnership makes one for an installation of so many shards. owned tells the partitions of this
// process and their number in all, which is 0 while it isn't known.
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
