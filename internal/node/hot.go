package node

import (
	"cmp"
	"slices"
	"sync"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
	"github.com/penstock/penstock/seckill/backoffice"
)

// hotItems counts roughly which items are ordered most. These are loaded first when their shard is
// rebuilt. It keeps few counts: if a shard has too many, it halves all of them and drops zeros. It
// is safe for concurrent use.
type hotItems struct {
	mu     sync.Mutex
	shards map[inventory.ShardID]map[inventory.ItemID]int // guarded by mu
}

// Bounds of the items that are counted and returned for a shard.
const (
	maxCounted = 1024
	maxHot     = 64
)

func newHotItems() *hotItems {
	return &hotItems{shards: make(map[inventory.ShardID]map[inventory.ItemID]int)}
}

// count counts the orders of a worker's transaction.
func (h *hotItems) count(accepted []seckill.Acceptance) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range accepted {
		item, shard := accepted[i].Order.Item, accepted[i].Ref.Shard
		if item == 0 {
			continue
		}
		counts := h.shards[shard]
		if counts == nil {
			counts = make(map[inventory.ItemID]int)
			h.shards[shard] = counts
		}
		counts[item]++
		for len(counts) > maxCounted {
			for id, n := range counts {
				if n /= 2; n == 0 {
					delete(counts, id)
				} else {
					counts[id] = n
				}
			}
		}
	}
}

// of returns the items of the shard that are ordered most.
func (h *hotItems) of(shard inventory.ShardID) backoffice.Hot {
	h.mu.Lock()
	defer h.mu.Unlock()
	counts := h.shards[shard]
	items := make([]inventory.ItemID, 0, len(counts))
	for id := range counts {
		items = append(items, id)
	}
	slices.SortFunc(items, func(a, b inventory.ItemID) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	hot := backoffice.Hot{Items: items[:min(len(items), maxHot)]}
	if len(items) > 0 {
		hot.Orders = counts[items[0]]
	}
	return hot
}
