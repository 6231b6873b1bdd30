package postgres

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

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

// ended has the activities that closed before a time and have nothing left to do: no open order, and nothing that Redis has
// yet to be told. Drafts never opened.
const ended = `SELECT a.sale, a.id FROM activities AS a
	WHERE a.state <> 'draft' AND least(a.ends_at, a.ended_at) < $1
		AND NOT EXISTS (SELECT FROM items AS i WHERE i.sale = a.sale AND i.open > 0)
		AND NOT EXISTS (SELECT FROM items AS i JOIN outbox AS o ON o.item = i.id WHERE i.sale = a.sale)`

// dropLockTimeout bounds how long a drop may wait for the orders table: while it does, everybody who comes after it waits, too.
const dropLockTimeout = "250ms"

// DropEnded drops the activities that closed before a time: their orders, by dropping their partition, and their items. It
// returns which. One that has an open order, or that Redis has yet to be told of, stays for another time. Payments and changes
// stay for ever: they are about money and people. before must be so long ago that nobody repeats a purchase any more
// (seckill.Config.Retention): a repeat would find nothing, and records of it become dead letters.
//
// An activity is dropped in a transaction of its own. Where a sale keeps the orders table busy it fails after a quarter of a second,
// and the ones before it are dropped.
func (s *Store) DropEnded(ctx context.Context, before time.Time) ([]seckill.ActivityID, error) {
	var dropped []seckill.ActivityID
	candidates, err := list(ctx, s, "look for ended activities", func(rows pgx.Rows) (c candidate, err error) {
		err = rows.Scan(&c.sale, (*string)(&c.id))
		return c, err
	}, ended+" ORDER BY a.sale", before)
	if err != nil {
		return nil, err
	}
	for _, c := range candidates {
		done := false
		err := s.write(ctx, "drop activity "+string(c.id), func(ctx context.Context, tx *transaction) (err error) {
			done, err = tx.drop(ctx, c, before)
			return err
		})
		if err != nil {
			return dropped, err
		}
		if done {
			s.log.InfoContext(ctx, "activity dropped", "activity", c.id, "sale", c.sale)
			dropped = append(dropped, c.id)
		}
	}
	return dropped, nil
}

// candidate is an activity that may be dropped.
type candidate struct {
	sale int32
	id   seckill.ActivityID
}

// drop drops an activity if it is still one that may be. The table goes last: its lock keeps all orders waiting.
func (tx *transaction) drop(ctx context.Context, c candidate, before time.Time) (bool, error) {
	tx.lockCatalog()
	tx.exec("SELECT FROM items WHERE sale = $1 ORDER BY id FOR UPDATE", c.sale)
	tx.readClock()
	found, err := tx.exists(ctx, ended+" AND a.sale = $2", before, c.sale)
	if err != nil || !found {
		return false, err
	}
	activity, err := findActivity(ctx, tx.pipe, c.id)
	if err != nil {
		return false, err
	}
	for _, table := range []string{"stock_changes", "withdrawal_tombstones"} {
		tx.exec("DELETE FROM "+table+" WHERE item IN (SELECT id FROM items WHERE sale = $1)", c.sale)
	}
	tx.exec("DELETE FROM items WHERE sale = $1", c.sale)
	tx.exec("DELETE FROM activities WHERE sale = $1", c.sale)
	by := seckill.Author{Actor: "penstock", Reason: "it ended before " + before.UTC().Format(time.RFC3339)}
	if err := tx.recordCatalog(by, kindActivity, string(c.id), activity, nil); err != nil {
		return false, err
	}
	tx.exec("SET LOCAL lock_timeout = '" + dropLockTimeout + "'")
	tx.exec("SELECT penstock_drop_sale($1)", c.sale)
	return true, tx.flush(ctx)
}
