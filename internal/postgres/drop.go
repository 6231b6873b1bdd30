package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// ended has the activities that closed before $1, or before $2 with a complete archive (no order
// was made and nothing was paid since). They must be finished: no open or parked order, no row in
// the outbox, and no refund due. A payment after the close is a refund due, so refunds are all that
// must be looked at. Each OFFSET 0 keeps the planner from making a join of what is asked for each
// activity: it would join whole tables. See also byIndex.
const ended = `SELECT a.sale, a.id, (SELECT coalesce(sum(s.sold), 0) FROM items AS i
			CROSS JOIN LATERAL (SELECT sold FROM stock WHERE item = i.id OFFSET 0) AS s WHERE i.sale = a.sale)::bigint AS sold
	FROM activities AS a WHERE (least(a.ends_at, a.ended_at) < $1
		OR a.archived_at IS NOT NULL AND least(a.ends_at, a.ended_at) < $2 AND NOT EXISTS (
			SELECT FROM payments AS p WHERE p.state IN ('due', 'done') AND p.kept_at >= a.archived_at AND p.activity = a.id OFFSET 0)
			AND NOT EXISTS (SELECT FROM orders AS o WHERE o.activity = a.id AND o.created_at >= a.archived_at OFFSET 0))
	AND NOT EXISTS (SELECT FROM payments AS p WHERE p.state = 'due' AND p.activity = a.id OFFSET 0)
	AND NOT EXISTS (
		SELECT FROM items AS i CROSS JOIN LATERAL (
			SELECT FROM stock AS s WHERE s.item = i.id AND (s.open > 0
				OR EXISTS (SELECT FROM stock_exceptions AS e WHERE e.item = s.item AND e.shard = s.shard AND e.parked > 0 OFFSET 0)
				OR EXISTS (SELECT FROM outbox AS o WHERE o.shard = s.shard AND o.item = s.item OFFSET 0)) OFFSET 0
		) AS s WHERE i.sale = a.sale OFFSET 0)`

// candidate is an activity that may be dropped, with the number of its sold units.
type candidate struct {
	sale int32
	id   seckill.ActivityID
	sold int64
}

func scanCandidate(rows pgx.Rows) (c candidate, err error) {
	err = rows.Scan(&c.sale, (*string)(&c.id), &c.sold)
	return c, err
}

// dropTime bounds each statement of a drop: an activity may have 20,000 items.
const dropTime = time.Minute

// MayDrop implements seckill.CatalogStore.
func (s *Store) MayDrop(ctx context.Context, id seckill.ActivityID, before, archived time.Time) (bool, error) {
	found, err := listByIndex(ctx, s, "look whether an activity may be dropped", scanCandidate,
		ended+" AND a.id = $3", before, archived, string(id))
	return len(found) > 0, err
}

// DropEnded implements seckill.CatalogStore. Payments and changes stay for ever, because they are
// about money and people. before must be so long ago that no purchase is repeated, and the queue
// has no record of it.
//
// An activity is dropped in a transaction of its own. Its orders can't be found after that. They
// stay until the week is over and its last activity is dropped; then their partition is dropped.
func (s *Store) DropEnded(ctx context.Context, before, archived time.Time, limit int) ([]seckill.ActivityID, error) {
	var dropped []seckill.ActivityID
	candidates, err := listByIndex(ctx, s, "look for ended activities", scanCandidate,
		ended+" ORDER BY a.sale LIMIT $3", before, archived, max(limit, 0))
	if err != nil {
		return nil, err
	}
	for _, c := range candidates {
		done, err := s.drop(ctx, c, before, archived)
		if err != nil {
			return dropped, err
		}
		if done {
			s.log.InfoContext(ctx, "activity dropped", "activity", c.id, "sale", c.sale)
			dropped = append(dropped, c.id)
		}
	}
	s.dropWeeks(ctx, before)
	return dropped, nil
}

// drop drops an activity if it may still be dropped. The names of its sold orders, which must leave
// the shards' digests, are read before. While no order is open, nothing more is sold, so the names
// are still right if the number of units is the same.
func (s *Store) drop(ctx context.Context, c candidate, before, archived time.Time) (done bool, err error) {
	sold, items, err := s.soldNames(ctx, c)
	if err != nil {
		return false, err
	}
	err = s.write(ctx, "drop activity "+string(c.id), func(ctx context.Context, tx *transaction) error {
		done = false
		tx.takesLong(dropTime)
		tx.lockCatalog()
		tx.exec(byIndex)
		tx.exec(`SELECT FROM stock AS s JOIN items AS i ON i.id = s.item WHERE i.sale = $1
			ORDER BY s.item, s.shard FOR UPDATE OF s`, c.sale)
		tx.readClock()
		still, err := tx.exists(ctx, "SELECT FROM ("+ended+" AND a.sale = $3) AS e WHERE e.sold = $4", before, archived, c.sale, c.sold)
		if err != nil || !still {
			return err
		}
		tx.deleteActivity(c.sale, c.id)
		updateDigests(tx, sold)
		done = true
		return nil
	})
	if done && err == nil {
		s.weeks.drop(items)
	}
	return done && err == nil, err
}

// deleteActivity queues the deletion of an activity with its items and their stock rows, and the
// notice of it for readers of the catalog.
func (tx *transaction) deleteActivity(sale int32, id seckill.ActivityID) {
	tx.exec(byIndex)
	for _, table := range []string{"stock_changes", "withdrawals", "stock_exceptions", "stock"} {
		tx.exec("DELETE FROM "+table+" WHERE item IN (SELECT id FROM items WHERE sale = $1)", sale)
	}
	tx.exec("DELETE FROM items WHERE sale = $1", sale)
	tx.exec("DELETE FROM activities WHERE sale = $1", sale)
	tx.exec("INSERT INTO dropped_activities (id, changed, at) VALUES ($1, $2, $3)", string(id), tx.raiseVersion(), tx.now)
	tx.forgetDropped()
}

// dropMemory is how long a reader of the catalog may be away and still learn of each drop.
const dropMemory = 7 * 24 * time.Hour

// forgetDropped queues the deletion of old notices of drops. A reader from before them reads the
// whole catalog.
func (tx *transaction) forgetDropped() {
	old := tx.now.Add(-dropMemory)
	tx.exec(`UPDATE catalog SET horizon = greatest(horizon, (SELECT max(changed) FROM dropped_activities WHERE at < $1))
		WHERE EXISTS (SELECT FROM dropped_activities WHERE at < $1)`, old)
	tx.exec("DELETE FROM dropped_activities WHERE at < $1", old)
}

// soldNames returns how the digests of shards change without the activity's sold orders, and the
// activity's items. It reads the orders page by page, in the order of their names.
func (s *Store) soldNames(ctx context.Context, c candidate) (map[inventory.ShardID]*seckill.ShardDelta, []inventory.ItemID, error) {
	var week int32
	ids, err := list(ctx, s, "read the items of an ended activity", func(rows pgx.Rows) (id int64, err error) {
		err = rows.Scan(&id, &week)
		return id, err
	}, "SELECT i.id, a.week FROM items AS i JOIN activities AS a USING (sale) WHERE a.sale = $1 ORDER BY i.id", c.sale)
	if err != nil || len(ids) == 0 {
		return nil, nil, err
	}
	items := make([]inventory.ItemID, len(ids))
	for i, id := range ids {
		items[i] = inventory.ItemID(id)
	}
	deltas := make(map[inventory.ShardID]*seckill.ShardDelta)
	from, _ := rangeOf(items[0])
	_, to := rangeOf(items[len(items)-1])
	for n := snapshotPage; n == snapshotPage && c.sold > 0; {
		n = 0
		_, err := list(ctx, s, "read the sold orders of an ended activity", func(rows pgx.Rows) (none struct{}, err error) {
			var shard int32
			err = rows.Scan(&from, &shard)
			d := deltas[inventory.ShardID(shard)]
			if d == nil {
				d = new(seckill.ShardDelta)
				deltas[inventory.ShardID(shard)] = d
			}
			d.Sold = d.Sold.Sub(inventory.NameDigest(from))
			n++
			return none, err
		}, `SELECT id, shard FROM orders WHERE week = $1 AND id > $2 AND id < $3 AND units = 'sold' AND item = ANY($4)
			ORDER BY id LIMIT $5`, week, from, to, ids, snapshotPage)
		if err != nil {
			return nil, nil, err
		}
	}
	return deltas, items, nil
}

// dropLockTimeout bounds how long a drop may wait for the orders table. While it waits, all later
// statements on the table wait, too.
const dropLockTimeout = 250 * time.Millisecond

// dropWeeks drops the partitions of weeks that are over and have no activity left, and old strays.
// If a sale keeps the table busy, it is tried another time. That is not an error, because nothing
// depends on it.
func (s *Store) dropWeeks(ctx context.Context, before time.Time) {
	const what = "drop the orders of a week"
	var weeks []int32
	err := s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		weeks = nil
		tx.readClock()
		if err := tx.flush(ctx); err != nil {
			return err
		}
		tx.exec("SELECT penstock_drop_strays($1)", before)
		tx.each(func(rows pgx.Rows) error {
			var week int32
			err := rows.Scan(&week)
			weeks = append(weeks, week)
			return err
		}, `SELECT week FROM weeks AS w WHERE week > 0 AND week < $1
			AND NOT EXISTS (SELECT FROM activities AS a WHERE a.week = w.week) ORDER BY week`, weekOf(tx.now, tx.now))
		return tx.flush(ctx)
	})
	for _, week := range weeks {
		if err != nil {
			break
		}
		err = s.write(ctx, what, func(_ context.Context, tx *transaction) error {
			tx.lockCatalog()
			setLockTimeout(tx.pipe, dropLockTimeout)
			tx.exec("SELECT penstock_drop_week($1)", week)
			return nil
		})
		if err == nil {
			s.log.InfoContext(ctx, "the orders of a week are dropped", "week", week)
		}
	}
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "old orders are not dropped now; it will be tried again", "err", err)
	}
}
