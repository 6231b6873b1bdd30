package postgres

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"penstock/inventory"
	"penstock/seckill"
)

// sales remembers which sale each item belongs to: it names the partition of the item's orders, is given out with the
// item, and never changes. A sale that was dropped has an empty partition, which costs nothing to ask.
type sales struct {
	mu   sync.Mutex
	item map[inventory.ItemID]int32 // guarded by mu; at most maxSales
}

// maxSales bounds the map (L8). It is emptied then: what is asked for comes back with the next question.
const maxSales = 100_000

func newSales() *sales { return &sales{item: make(map[inventory.ItemID]int32)} }

// known returns the sales of those items that it knows, and the others.
func (s *sales) known(items []inventory.ItemID) (found map[inventory.ItemID]int32, missing []int64) {
	found = make(map[inventory.ItemID]int32, len(items))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range items {
		if sale, ok := s.item[id]; ok {
			found[id] = sale
		} else {
			missing = append(missing, int64(id))
		}
	}
	return found, missing
}

func (s *sales) add(found map[inventory.ItemID]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.item)+len(found) > maxSales {
		clear(s.item)
	}
	maps.Copy(s.item, found)
}

// salesOf returns the sales of the items that exist. It asks p for those that it doesn't know.
func (s *Store) salesOf(ctx context.Context, p *pipe, items []inventory.ItemID) (map[inventory.ItemID]int32, error) {
	found, missing := s.sales.known(items)
	if len(missing) == 0 {
		return found, nil
	}
	asked := make(map[inventory.ItemID]int32)
	p.each(func(rows pgx.Rows) error {
		var id int64
		var sale int32
		err := rows.Scan(&id, &sale)
		asked[inventory.ItemID(id)] = sale
		return err
	}, "SELECT id, sale FROM items WHERE id = ANY($1)", missing)
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	s.sales.add(asked)
	maps.Copy(found, asked)
	return found, nil
}

// itemsOf returns the items that the ids name, each once, in order.
func itemsOf(ids []seckill.OrderID) []inventory.ItemID {
	seen := make(map[inventory.ItemID]bool)
	for _, id := range ids {
		if item := id.Item(); item != 0 {
			seen[item] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// bySale groups ids by the sale that they are of. An id of no item, or of one that doesn't exist, is of none.
func bySale(sales map[inventory.ItemID]int32, ids []seckill.OrderID) map[int32][]string {
	groups := make(map[int32][]string)
	for _, id := range ids {
		if sale, ok := sales[id.Item()]; ok {
			groups[sale] = append(groups[sale], string(id))
		}
	}
	return groups
}

// inOrder iterates over a map in the order of its keys: transactions that take their locks in one order can't block each
// other for ever.
func inOrder[K interface{ ~int32 | ~uint32 | ~string }, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}
