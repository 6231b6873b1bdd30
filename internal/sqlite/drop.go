package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// closes is when an activity stops selling, as seckill.Activity.Closes says; it is indexed.
const closes = "min(ends_at, ifnull(ended_at, ends_at))"

// done is the condition that activity a has no open or parked order, no outbox row, and no refund
// due.
const done = `NOT EXISTS (SELECT 1 FROM payments AS p
	WHERE p.state IN ('due', 'done') AND p.state = 'due' AND p.activity = a.id)
	AND NOT EXISTS (SELECT 1 FROM items AS i CROSS JOIN stock AS s ON s.item = i.id WHERE i.activity = a.id AND
	(s.open > 0 OR ` + parkedOf + ` > 0 OR EXISTS (SELECT 1 FROM outbox WHERE outbox.shard = s.shard AND outbox.item = s.item)))`

// over is the condition that activity a closed before a time, or before another time with a
// complete archive: no order was made or paid since. A payment after the close is a refund due, so
// looking for it needs no index of its own.
const over = "(" + closes + " < ?1 OR archived_at IS NOT NULL AND " + closes + ` < ?2 AND NOT EXISTS (SELECT 1 FROM payments AS p
	WHERE p.state IN ('due', 'done') AND p.kept_at >= a.archived_at AND p.activity = a.id)
	AND NOT EXISTS (SELECT 1 FROM orders AS o WHERE o.activity = a.id AND o.created_at >= a.archived_at))`

// dropChunk is how many orders one transaction deletes, so that other writers don't wait too long.
const dropChunk = 1000

// MayDrop implements seckill.CatalogStore.
func (s *Store) MayDrop(ctx context.Context, id seckill.ActivityID, before, archived time.Time) (may bool, err error) {
	err = s.read(ctx, "look whether an activity may be dropped", func(q *statements) error {
		may, err = exists(ctx, q, "SELECT 1 FROM activities AS a WHERE a.id = ?3 AND "+over+" AND "+done,
			before.UnixMicro(), archived.UnixMicro(), string(id))
		return err
	})
	return may, err
}

// DropEnded implements seckill.CatalogStore. The activities, their items and the names of their
// orders in the digests are deleted at once. The orders follow in small transactions. Payments
// stay.
func (s *Store) DropEnded(ctx context.Context, before, archived time.Time, limit int) ([]seckill.ActivityID, error) {
	const what = "drop ended activities"
	if err := s.sweepDropped(ctx); err != nil { // orders that an earlier call has left
		return nil, describe(what, err)
	}
	var ended []endedActivity
	err := s.readState(ctx, s.loads, what, func(sn snapshot) (err error) {
		ended, err = readEnded(ctx, sn, before, archived, limit)
		return err
	})
	if err != nil || len(ended) == 0 {
		return nil, err
	}
	var dropped []seckill.ActivityID
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		dropped = nil
		for i := range ended {
			gone, err := tx.dropActivity(ctx, &ended[i], before, archived)
			if err != nil {
				return err
			}
			if gone {
				dropped = append(dropped, ended[i].id)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	_ = s.sweepDropped(ctx) // the activities are dropped; the next call deletes orders that this one leaves
	return dropped, nil
}

// endedActivity is an activity without unfinished work, as a reader saw it.
type endedActivity struct {
	id    seckill.ActivityID
	items []inventory.ItemID
	sold  int64                                  // sold units of all items
	names map[inventory.ShardID]inventory.Digest // of the sold orders
}

// readEnded reads activities that may be dropped. Their sold orders can't change, so adding up the
// names, which takes long, needs no lock.
func readEnded(ctx context.Context, sn snapshot, before, archived time.Time, limit int) ([]endedActivity, error) {
	const query = "SELECT id FROM activities AS a WHERE " + over + " AND " + done + " ORDER BY " + closes + " LIMIT ?3"
	var out []endedActivity
	rows, err := sn.query(ctx, query, before.UnixMicro(), archived.UnixMicro(), max(limit, 0))
	err = each(rows, err, func(rows *sql.Rows) error {
		e := endedActivity{names: make(map[inventory.ShardID]inventory.Digest)}
		err := rows.Scan(&e.id)
		out = append(out, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		if err := out[i].read(ctx, sn); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (e *endedActivity) read(ctx context.Context, sn snapshot) error {
	rows, err := sn.query(ctx, "SELECT id FROM items WHERE activity = ? ORDER BY position", string(e.id))
	err = each(rows, err, func(rows *sql.Rows) error {
		var item inventory.ItemID
		err := rows.Scan(&item)
		e.items = append(e.items, item)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := one(ctx, sn, soldOfActivity, []any{string(e.id)}, &e.sold); err != nil {
		return err
	}
	return lookup(ctx, sn, soldOfItems, nil, e.items, bindRange, func(rows *sql.Rows) error {
		var shard inventory.ShardID
		var id string
		err := rows.Scan(&shard, &id)
		e.names[shard] = e.names[shard].Add(inventory.NameDigest(id))
		return err
	})
}

const (
	soldOfActivity = `SELECT ifnull(sum(s.sold), 0) FROM items AS i CROSS JOIN stock AS s ON s.item = i.id WHERE i.activity = ?`
	soldOfItems    = `SELECT shard, id FROM (VALUES {(?,?)}) AS wanted
		CROSS JOIN orders ON orders.id BETWEEN wanted.column1 AND wanted.column2 AND units = 'sold'`
)

// dropActivity drops an activity, unless something of it is in progress again: a record that was
// read again may have made an order.
func (tx *transaction) dropActivity(ctx context.Context, e *endedActivity, before, archived time.Time) (bool, error) {
	var sold int64
	still, err := exists(ctx, tx, "SELECT 1 FROM activities AS a WHERE a.id = ?3 AND "+over+" AND "+done,
		before.UnixMicro(), archived.UnixMicro(), string(e.id))
	if err != nil || !still {
		return false, err
	}
	if _, err := one(ctx, tx, soldOfActivity, []any{string(e.id)}, &sold); err != nil || sold != e.sold {
		return false, err
	}
	for _, query := range []string{
		"INSERT INTO dropped_items (id) SELECT value FROM json_each(?)",
		`DELETE FROM withdrawals WHERE (shard, item) IN
			(SELECT shard, item FROM stock WHERE item IN (SELECT value FROM json_each(?)))`,
	} {
		if _, err := tx.exec(ctx, query, list(e.items)); err != nil {
			return false, err
		}
	}
	if err := tx.deleteItems(ctx, e.items); err != nil {
		return false, err
	}
	changes := seckill.NewChanges()
	for shard, names := range e.names {
		changes.Shards[shard] = &seckill.ShardDelta{Sold: inventory.Digest(0).Sub(names)}
	}
	if err := tx.writeCounts(ctx, changes); err != nil {
		return false, err
	}
	err = tx.forgetActivity(ctx, e.id)
	return err == nil, err
}

// forgetActivity deletes an activity whose items are gone, and tells readers of the catalog.
func (tx *transaction) forgetActivity(ctx context.Context, id seckill.ActivityID) error {
	if _, err := tx.exec(ctx, "DELETE FROM activities WHERE id = ?", string(id)); err != nil {
		return err
	}
	version, err := tx.raiseVersion(ctx)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, "INSERT INTO dropped_activities (id, changed) VALUES (?, ?)", string(id), version)
	return err
}

// sweepDropped deletes the orders of items that are gone, a chunk a transaction.
func (s *Store) sweepDropped(ctx context.Context) error {
	const what = "delete orders of activities that are gone"
	for {
		some := false
		err := s.read(ctx, what, func(q *statements) (err error) {
			some, err = exists(ctx, q, "SELECT 1 FROM dropped_items LIMIT 1")
			return err
		})
		if err != nil || !some {
			return err
		}
		err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error { return tx.sweepDropped(ctx) })
		if err != nil {
			return err
		}
	}
}

// sweepDropped deletes a chunk of orders, of as many items as that takes.
func (tx *transaction) sweepDropped(ctx context.Context) error {
	for left := int64(dropChunk); left > 0; {
		var item inventory.ItemID
		found, err := one(ctx, tx, "SELECT id FROM dropped_items ORDER BY id LIMIT 1", nil, &item)
		if err != nil || !found {
			return err
		}
		first, last := orderRange(item)
		n, err := tx.change(ctx, `DELETE FROM orders WHERE rowid IN
			(SELECT rowid FROM orders WHERE id BETWEEN ? AND ? LIMIT ?)`, first, last, left)
		if err != nil || n == left {
			return err // the item may have more orders
		}
		if _, err := tx.exec(ctx, "DELETE FROM dropped_items WHERE id = ?", int64(item)); err != nil {
			return err
		}
		left -= max(n, 1)
	}
	return nil
}
