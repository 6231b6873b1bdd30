package node

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock/inventory"
)

// ringWanted begins the message by which a gateway asks for units of a spread item. The shard and
// the item follow.
const ringWanted = "wanted "

// wantedEvery is the least time between two requests of a gateway for units of one item on one
// shard, even if many buyers get the answer busy.
const wantedEvery = 100 * time.Millisecond

// maxWanted is how many requests are remembered, one for each item and shard (L8).
const maxWanted = 10_000

// wants tells the worker that moves units where units of spread items are wanted; that worker may
// be in any process. It is safe for concurrent use.
type wants struct {
	ring func(message string) // sends a message to every process of the installation; it does not block

	mu    sync.Mutex
	asked map[wanted]time.Time // guarded by mu
}

type wanted struct {
	shard inventory.ShardID
	item  inventory.ItemID
}

// want asks for units of an item on a shard.
func (w *wants) want(shard inventory.ShardID, item inventory.ItemID) {
	at, now := wanted{shard, item}, time.Now()
	w.mu.Lock()
	asked, again := w.asked[at]
	if again && now.Sub(asked) < wantedEvery {
		w.mu.Unlock()
		return
	}
	if w.asked == nil || len(w.asked) >= maxWanted {
		w.asked = make(map[wanted]time.Time)
	}
	w.asked[at] = now
	w.mu.Unlock()
	w.ring(fmt.Sprintf("%s%d %d", ringWanted, shard, item))
}

// parseWanted reads a message that want has sent.
func parseWanted(message string) (shard inventory.ShardID, item inventory.ItemID, ok bool) {
	rest, ok := strings.CutPrefix(message, ringWanted)
	if !ok {
		return 0, 0, false
	}
	n, err := fmt.Sscanf(rest, "%d %d", &shard, &item)
	return shard, item, err == nil && n == 2
}
