package sqlite

import (
	"sync"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// stockLocks are stock rows that are treated as locked by another process.
type stockLocks struct {
	mu  sync.Mutex
	had map[seckill.StockKey]int // how often each is locked; guarded by mu
}

// LockStock makes the store behave as if another process had locked the row of an item on a shard,
// until unlock is called. It is for tests and the simulator, because only one process uses the
// file, so that no row is ever locked otherwise.
func (s *Store) LockStock(item inventory.ItemID, shard inventory.ShardID) (unlock func()) {
	key := seckill.StockKey{Item: item, Shard: shard}
	s.locks.add(key, 1)
	return sync.OnceFunc(func() { s.locks.add(key, -1) })
}

func (l *stockLocks) add(key seckill.StockKey, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.had == nil {
		l.had = make(map[seckill.StockKey]int)
	}
	if l.had[key] += n; l.had[key] == 0 {
		delete(l.had, key)
	}
}

// locked returns a copy for a transaction to read.
func (l *stockLocks) locked() map[seckill.StockKey]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.had) == 0 {
		return nil
	}
	out := make(map[seckill.StockKey]bool, len(l.had))
	for key := range l.had {
		out[key] = true
	}
	return out
}
