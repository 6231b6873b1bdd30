package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// snapshotPage is how many items or holds are passed to load at once: about 1 MB.
const snapshotPage = 4096

// snapshotRange is how many items' orders one statement reads.
const snapshotRange = 64

// loader passes on a snapshot in pages.
type loader struct {
	load    func(items []inventory.Stocked, entries []inventory.Entry) error
	items   []inventory.Stocked
	entries []inventory.Entry
}

func (l *loader) addItem(i inventory.Stocked) error {
	if l.items = append(l.items, i); len(l.items) == snapshotPage {
		return l.flush()
	}
	return nil
}

func (l *loader) addEntry(e inventory.Entry) error {
	if l.entries = append(l.entries, e); len(l.entries) == snapshotPage {
		return l.flush()
	}
	return nil
}

// flush passes the collected rows to load, which may keep them.
func (l *loader) flush() error {
	if len(l.items) == 0 && len(l.entries) == 0 {
		return nil
	}
	items, entries := l.items, l.entries
	l.items, l.entries = nil, nil
	return l.load(items, entries)
}

// Snapshot implements seckill.StockStore. A reader fixes the moment that it reads, so no other call
// waits while it is loaded. It includes those outbox rows that the reader saw, because ids are
// given out in the order of commits. These rows are deleted at the end, and only under the same
// epoch.
//
// A snapshot is taken only once in an epoch. After it stock changes are relayed, and a second
// snapshot would count those on their way twice.
func (s *Store) Snapshot(ctx context.Context, ref inventory.Ref, hot []inventory.ItemID,
	load func(items []inventory.Stocked, entries []inventory.Entry) error) error {
	what := fmt.Sprintf("take a snapshot of shard %d in epoch %d", ref.Shard, ref.Epoch)
	var absorbed int64
	err := s.readState(ctx, s.loads, what, func(sn snapshot) error {
		ok, err := exists(ctx, sn, "SELECT 1 FROM shards WHERE id = ? AND epoch = ? AND epoch > 0 AND loaded_epoch < epoch",
			int64(ref.Shard), int64(ref.Epoch))
		if err != nil || !ok {
			return errors.Join(err, fencedUnless(err))
		}
		_, err = one(ctx, sn, "SELECT ifnull(max(id), 0) FROM outbox WHERE shard = ? AND stock = 1",
			[]any{int64(ref.Shard)}, &absorbed)
		if err != nil {
			return err
		}
		return loadShard(ctx, sn, ref.Shard, hot, &loader{load: load})
	})
	if err != nil {
		return err
	}
	return s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		n, err := tx.change(ctx, "UPDATE shards SET loaded_epoch = epoch WHERE id = ? AND epoch = ? AND loaded_epoch < epoch",
			int64(ref.Shard), int64(ref.Epoch))
		if err != nil || n == 0 {
			return errors.Join(err, fencedUnless(err))
		}
		_, err = tx.exec(ctx, "DELETE FROM outbox WHERE shard = ? AND stock = 1 AND id <= ?", int64(ref.Shard), absorbed)
		return err
	})
}

// fencedUnless returns ErrFenced if there was no other error.
func fencedUnless(err error) error {
	if err != nil {
		return nil
	}
	return fmt.Errorf("%w: the shard has another epoch, or this one's snapshot was taken", seckill.ErrFenced)
}

// loadShard passes the shard's items to l, then its holds.
func loadShard(ctx context.Context, sn snapshot, shard inventory.ShardID, hot []inventory.ItemID, l *loader) error {
	ids, err := loadItems(ctx, sn, shard, hot, l)
	if err != nil {
		return err
	}
	if err := l.flush(); err != nil {
		return err
	}
	for len(ids) > 0 {
		n := min(len(ids), snapshotRange)
		if err := loadHolds(ctx, sn, shard, ids[:n], l); err != nil {
			return err
		}
		ids = ids[n:]
	}
	rows, err := sn.query(ctx, parkedStrangers, int64(shard))
	err = each(rows, err, func(rows *sql.Rows) error {
		e, err := scanEntry(rows)
		if err != nil {
			return err
		}
		return l.addEntry(e)
	})
	if err != nil {
		return err
	}
	return l.flush()
}

// loadHolds passes on the holds of items, item by item, in the order of their names.
func loadHolds(ctx context.Context, sn snapshot, shard inventory.ShardID, ids []inventory.ItemID, l *loader) error {
	withdrawn := make(map[inventory.ItemID][]inventory.Entry) // few, in the order of their names
	err := lookup(ctx, sn, withdrawalsOfItems, []any{int64(shard)}, ids, bindItem, func(rows *sql.Rows) error {
		e, err := scanEntry(rows)
		withdrawn[e.Item] = append(withdrawn[e.Item], e)
		return err
	})
	if err != nil {
		return err
	}
	// before passes on the item's withdrawals whose names come before a name.
	before := func(item inventory.ItemID, name string) error {
		for len(withdrawn[item]) > 0 && (name == "" || withdrawn[item][0].ID < name) {
			if err := l.addEntry(withdrawn[item][0]); err != nil {
				return err
			}
			withdrawn[item] = withdrawn[item][1:]
		}
		return nil
	}
	err = lookup(ctx, sn, ordersOfItems, []any{int64(shard)}, ids, bindRange, func(rows *sql.Rows) error {
		e, err := scanEntry(rows)
		if err != nil {
			return err
		}
		for ids[0] != e.Item { // the items come in the order of ids
			if err := before(ids[0], ""); err != nil {
				return err
			}
			ids = ids[1:]
		}
		return errors.Join(before(e.Item, e.ID), l.addEntry(e))
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := before(id, ""); err != nil {
			return err
		}
	}
	return nil
}

// loadItems passes on the shard's items, the hot ones first, and returns their ids in that order.
func loadItems(ctx context.Context, sn snapshot, shard inventory.ShardID, hot []inventory.ItemID, l *loader) ([]inventory.ItemID, error) {
	var ids []inventory.ItemID
	first := make(map[inventory.ItemID]bool, len(hot))
	for _, id := range hot {
		first[id] = true
	}
	for _, want := range []bool{true, false} {
		if want && len(hot) == 0 {
			continue
		}
		rows, err := sn.query(ctx, stockOfShard, int64(shard), int64(0), int64(math.MaxInt64))
		err = each(rows, err, func(rows *sql.Rows) error {
			var i inventory.Stocked
			if err := rows.Scan(&i.Item, &i.Total, &i.Available, &i.Sold); err != nil || first[i.Item] != want {
				return err
			}
			ids = append(ids, i.Item)
			return l.addItem(i)
		})
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// The items of a shard that are or were on sale, and all holds of it: those of withdrawals, those
// of orders, and those of parked orders that have no stock row on sale.
const (
	stockOfShard = `SELECT s.item, s.total, s.total - s.open - s.sold - ` + parkedOf + `, s.sold
		FROM stock AS s CROSS JOIN items AS i ON i.id = s.item CROSS JOIN activities AS a ON a.id = i.activity
		WHERE s.shard = ? AND s.item > ? AND a.published = 1 ORDER BY s.item LIMIT ?`
	ordersOfItems = `SELECT item, id, user, quantity, units FROM (SELECT ? AS shard) AS one CROSS JOIN (VALUES {(?,?)}) AS item
		CROSS JOIN orders ON orders.id BETWEEN item.column1 AND item.column2 AND orders.shard = one.shard`
	withdrawalsOfItems = `SELECT w.item, w.hold, '', w.quantity, iif(w.buried, 'void', 'sold')
		FROM (SELECT ? AS shard) AS one CROSS JOIN (VALUES {(?)}) AS item
		CROSS JOIN withdrawals AS w ON w.shard = one.shard AND w.item = item.column1 ORDER BY w.item, w.hold`
	parkedStrangers = `SELECT item, id, user, quantity, units FROM orders WHERE shard = ? AND units = 'parked'
		AND NOT EXISTS (SELECT 1 FROM stock CROSS JOIN items AS i ON i.id = stock.item
			CROSS JOIN activities AS a ON a.id = i.activity
			WHERE stock.item = orders.item AND stock.shard = orders.shard AND a.published = 1) ORDER BY item, id`
)

func bindItem(args []any, item *inventory.ItemID) []any { return append(args, int64(*item)) }

func bindRange(args []any, item *inventory.ItemID) []any {
	first, last := orderRange(*item)
	return append(args, first, last)
}

func scanEntry(rows *sql.Rows) (inventory.Entry, error) {
	var e inventory.Entry
	var units seckill.UnitState
	err := rows.Scan(&e.Item, &e.ID, &e.Buyer, &e.Quantity, &units)
	e.State = units.HoldState()
	return e, err
}

// orderRange returns the first and the last id that an item's orders may have: an order id is
// lower-case base32 that sorts like its bytes, and begins with the item.
func orderRange(item inventory.ItemID) (first, last string) {
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	const length, itemBits = 40, 32
	low, high := make([]byte, length), make([]byte, length)
	for i := range low {
		// The 5 bits of place i, of the item's 32 bits followed by zeros, or by ones.
		shift := itemBits - 5*(i+1)
		l, h := uint64(0), uint64(31)
		switch {
		case shift >= 0:
			l = uint64(item) >> shift & 31
			h = l
		case shift > -5:
			l = uint64(item) << -shift & 31
			h = l | (1<<-shift - 1)
		}
		low[i], high[i] = alphabet[l], alphabet[h]
	}
	return string(low), string(high)
}
