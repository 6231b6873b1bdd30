package postgres

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// strays is the partition of orders whose item is not known, so that they have no week. An order
// moves to its item's week when it is opened, so no order here is open or sold.
const strays int32 = 0

const (
	secondsOfWeek = 7 * 24 * 60 * 60
	// weeksAhead bounds how many partitions there are: sales that end later share the last one.
	weeksAhead = 60
)

// weekOf returns the partition of a sale that is made now and will end at ends.
func weekOf(ends, now time.Time) int32 {
	this := now.Unix() / secondsOfWeek
	return int32(min(max(ends.Unix()/secondsOfWeek, this), this+weeksAhead))
}

// home is the remembered data of an item. week names the partition of its orders; it is fixed when
// the item is made. limited says whether the item had a limit per buyer when it was read; it is
// only a hint.
type home struct {
	week    int32
	limited bool
}

// weeks remembers the homes of items.
type weeks struct {
	mu sync.Mutex
	// Guarded by mu. Both have at most maxWeeks. Items that are asked for move to young. When young
	// is full it becomes old, and the former old is forgotten (L8).
	young, old map[inventory.ItemID]home
}

// maxWeeks bounds each of the maps: about 2.5 MB.
const maxWeeks = 1 << 17

func newWeeks() *weeks { return &weeks{young: make(map[inventory.ItemID]home)} }

// known returns the remembered homes of items, and the items without one.
func (w *weeks) known(items []inventory.ItemID) (found map[inventory.ItemID]home, missing []int64) {
	found = make(map[inventory.ItemID]home, len(items))
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range items {
		h, ok := w.young[id]
		if !ok {
			if h, ok = w.old[id]; ok {
				w.add(id, h)
			}
		}
		if ok {
			found[id] = h
		} else {
			missing = append(missing, int64(id))
		}
	}
	return found, missing
}

// add remembers an item. The caller holds mu.
func (w *weeks) add(id inventory.ItemID, h home) {
	if len(w.young) >= maxWeeks {
		w.old, w.young = w.young, make(map[inventory.ItemID]home)
	}
	w.young[id] = h
}

// remember adds an item, or changes it.
func (w *weeks) remember(id inventory.ItemID, h home) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add(id, h)
}

// drop forgets items that are gone.
func (w *weeks) drop(items []inventory.ItemID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range items {
		delete(w.young, id)
		delete(w.old, id)
	}
}

// homesOf returns the homes of the items that exist. It asks p for those that it doesn't know.
func (s *Store) homesOf(ctx context.Context, p *pipe, items []inventory.ItemID) (map[inventory.ItemID]home, error) {
	found, missing := s.weeks.known(items)
	if len(missing) == 0 {
		return found, nil
	}
	asked := queueHomes(p, missing)
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	s.weeks.mu.Lock()
	for id, h := range asked {
		s.weeks.add(id, h)
	}
	s.weeks.mu.Unlock()
	maps.Copy(found, asked)
	return found, nil
}

// places says where to look for orders: the home of each item, and the ids by week. All ids are
// also looked for among the strays.
type places struct {
	homes map[inventory.ItemID]home
	ids   map[int32][]string
}

// placesOf returns where the orders are looked for.
func (s *Store) placesOf(ctx context.Context, p *pipe, ids []seckill.OrderID) (places, error) {
	items := make([]inventory.ItemID, len(ids))
	seen := make(map[inventory.ItemID]bool)
	list := make([]inventory.ItemID, 0, 16)
	for i, id := range ids {
		items[i] = id.Item()
		if items[i] != 0 && !seen[items[i]] {
			seen[items[i]] = true
			list = append(list, items[i])
		}
	}
	found, err := s.homesOf(ctx, p, list)
	if err != nil {
		return places{}, err
	}
	pl := places{found, make(map[int32][]string)}
	for i, id := range ids {
		if items[i] == 0 {
			continue
		}
		if h, ok := found[items[i]]; ok {
			pl.ids[h.week] = append(pl.ids[h.week], string(id))
		}
		pl.ids[strays] = append(pl.ids[strays], string(id))
	}
	return pl, nil
}

// week returns the partition of new orders of an item.
func (pl places) week(item inventory.ItemID) int32 { return pl.homes[item].week } // the strays, if the item is unknown

// inOrder iterates over a map in the order of its keys. If all transactions take their locks in
// this order, they can't deadlock.
func inOrder[K interface {
	~int32 | ~uint16 | ~uint32 | ~string
}, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}

// queueHomes queues the reading of items' homes, even of remembered ones.
func queueHomes(p *pipe, items []int64) map[inventory.ItemID]home {
	homes := make(map[inventory.ItemID]home)
	p.each(func(rows pgx.Rows) error {
		var id int64
		var h home
		err := rows.Scan(&id, &h.week, &h.limited)
		homes[inventory.ItemID(id)] = h
		return err
	}, "SELECT i.id, a.week, i.per_user > 0 FROM items AS i JOIN activities AS a USING (sale) WHERE i.id = ANY($1)", items)
	return homes
}
