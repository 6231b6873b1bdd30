package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

const activityColumns = `id, merchant, name, state, starts_at, ends_at, payment_window, ended_at, archived_at, archive_sum,
	changed, items_changed`

// activityRow is an activity without its items, and the catalog's versions of its last changes.
type activityRow struct {
	seckill.Activity
	changed, itemsChanged int64
}

func scanActivity(rows *sql.Rows) (activityRow, error) {
	var a activityRow
	var starts, ends int64
	var ended, archived sql.NullInt64
	err := rows.Scan(&a.ID, &a.Merchant, &a.Name, &a.State, &starts, &ends, &a.PaymentWindow, &ended, &archived,
		&a.Archive.Sum, &a.changed, &a.itemsChanged)
	a.StartsAt, a.EndsAt = fromMicros(starts), fromMicros(ends)
	if ended.Valid {
		a.EndedAt = fromMicros(ended.Int64)
	}
	if archived.Valid {
		a.Archive.At = fromMicros(archived.Int64)
	}
	return a, err
}

const itemsOfActivities = `SELECT i.activity, i.id, i.sku, i.price, i.currency, i.per_user, i.max_orders, i.spread,
		(SELECT sum(total) FROM stock WHERE stock.item = i.id)
	FROM (VALUES {(?)}) AS wanted CROSS JOIN items AS i ON i.activity = wanted.column1 ORDER BY i.activity, i.position`

// readItems reads the items of activities, each activity's in the order of their places.
func readItems(ctx context.Context, q querier, ids []seckill.ActivityID, add func(seckill.ActivityID, seckill.Item)) error {
	return lookup(ctx, q, itemsOfActivities, nil, ids, text[seckill.ActivityID], func(rows *sql.Rows) error {
		var of seckill.ActivityID
		var i seckill.Item
		err := rows.Scan(&of, &i.ID, &i.SKU, &i.Price.Minor, &i.Price.Currency, &i.PerUser, &i.MaxOrders, &i.Spread, &i.Quantity)
		add(of, i)
		return err
	})
}

// findActivity returns nil if there is none.
func findActivity(ctx context.Context, q querier, id seckill.ActivityID) (*seckill.Activity, error) {
	var found *seckill.Activity
	rows, err := q.query(ctx, "SELECT "+activityColumns+" FROM activities WHERE id = ?", string(id))
	err = each(rows, err, func(rows *sql.Rows) error {
		a, err := scanActivity(rows)
		found = &a.Activity
		return err
	})
	if err != nil || found == nil {
		return nil, err
	}
	err = readItems(ctx, q, []seckill.ActivityID{id}, func(_ seckill.ActivityID, i seckill.Item) {
		found.Items = append(found.Items, i)
	})
	return found, err
}

// FindActivity implements seckill.CatalogStore.
func (s *Store) FindActivity(ctx context.Context, id seckill.ActivityID) (*seckill.Activity, error) {
	var found *seckill.Activity
	err := s.readSnapshot(ctx, "find activity "+string(id), func(sn snapshot) (err error) {
		found, err = findActivity(ctx, sn, id)
		if err == nil && found == nil {
			err = seckill.ErrNotFound
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// UpdateActivity implements seckill.CatalogStore. An item keeps its SKU, and an item that was on
// sale is not deleted, because it may have orders. If change returns its input, nothing is
// recorded.
func (s *Store) UpdateActivity(ctx context.Context, id seckill.ActivityID, by seckill.Author,
	change func(*seckill.Activity) (*seckill.Activity, error)) (*seckill.Activity, error) {
	if id == "" {
		return nil, errors.New("update activity: no id")
	}
	var stored *seckill.Activity
	var refused error
	err := s.write(ctx, "update activity "+string(id), func(ctx context.Context, tx *transaction) error {
		old, err := findActivity(ctx, tx, id)
		if err != nil {
			return err
		}
		wanted, err := change(old.Clone())
		switch {
		case err != nil:
			refused = err
			return err
		case wanted != nil && wanted.ID != id:
			return fmt.Errorf("the change made something else of it: %+v", wanted)
		}
		stored, err = tx.putActivity(ctx, by, old, wanted.Clone())
		return err
	})
	if refused != nil {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// edit is a change of an activity in progress.
type edit struct {
	*seckill.ActivityEdit
	version int64 // the catalog's, of this change
}

// putActivity writes the new activity, and returns it as stored.
func (tx *transaction) putActivity(ctx context.Context, by seckill.Author, old, next *seckill.Activity) (*seckill.Activity, error) {
	e := edit{ActivityEdit: &seckill.ActivityEdit{Old: old, Next: next, Shards: tx.shards}}
	if old != nil {
		if _, err := one(ctx, tx, "SELECT published FROM activities WHERE id = ?", []any{string(old.ID)}, &e.WasPublished); err != nil {
			return nil, err
		}
	}
	if gone, err := e.Deletes(); err != nil {
		return nil, err
	} else if gone {
		return nil, tx.deleteDraft(ctx, by, old)
	}
	if err := tx.needMerchant(ctx, next.Merchant); err != nil {
		return nil, err
	}
	if err := e.Settle(); err != nil {
		return nil, err
	}
	if old != nil {
		if _, changed, err := seckill.RecordActivity(old, next); err != nil || !changed {
			return old, err
		}
	}
	var err error
	if e.version, err = tx.raiseVersion(ctx); err != nil {
		return nil, err
	}
	if err := tx.writeActivity(ctx, &e); err != nil {
		return nil, err
	}
	if err := tx.writeItems(ctx, &e); err != nil {
		return nil, err
	}
	record, _, err := seckill.RecordActivity(old, next)
	if err != nil {
		return nil, err
	}
	return next, tx.record(ctx, by, record)
}

// deleteDraft deletes an activity that was never on sale, with a change record.
func (tx *transaction) deleteDraft(ctx context.Context, by seckill.Author, a *seckill.Activity) error {
	items := make([]inventory.ItemID, len(a.Items))
	for i := range a.Items {
		items[i] = a.Items[i].ID
	}
	if err := tx.deleteItems(ctx, items); err != nil {
		return err
	}
	if err := tx.forgetActivity(ctx, a.ID); err != nil {
		return err
	}
	record, _, err := seckill.RecordActivity(a, nil)
	if err != nil {
		return err
	}
	return tx.record(ctx, by, record)
}

func (tx *transaction) writeActivity(ctx context.Context, e *edit) error {
	a := e.Next
	_, err := tx.exec(ctx, `INSERT INTO activities (id, merchant, name, state, starts_at, ends_at, payment_window, ended_at,
			published, changed, items_changed, archived_at, archive_sum)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?12, ?13)
		ON CONFLICT (id) DO UPDATE SET merchant = excluded.merchant, name = excluded.name, state = excluded.state,
			starts_at = excluded.starts_at, ends_at = excluded.ends_at, payment_window = excluded.payment_window,
			ended_at = excluded.ended_at, archived_at = excluded.archived_at, archive_sum = excluded.archive_sum,
			published = excluded.published, changed = excluded.changed,
			items_changed = iif(?11, excluded.items_changed, items_changed)`,
		string(a.ID), string(a.Merchant), a.Name, string(a.State), a.StartsAt.UnixMicro(), a.EndsAt.UnixMicro(),
		int64(a.PaymentWindow), nullMicros(a.EndedAt), e.Published, e.version, e.ItemsChanged(), nullMicros(a.Archive.At), a.Archive.Sum)
	if err != nil || e.Old != nil {
		return err
	}
	_, err = tx.exec(ctx, "DELETE FROM dropped_activities WHERE id = ?", string(a.ID))
	return err
}

// nullMicros turns the zero time into NULL.
func nullMicros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// writeItems deletes the items that are missing, writes those that differ and those that are new,
// and writes the restocks that publish them into the outbox.
func (tx *transaction) writeItems(ctx context.Context, e *edit) error {
	gone := maps.Clone(e.Known)
	for i := range e.Next.Items {
		delete(gone, e.Next.Items[i].ID)
	}
	if err := tx.deleteItems(ctx, slices.Sorted(maps.Keys(gone))); err != nil {
		return err
	}
	for i := range e.Next.Items {
		item := &e.Next.Items[i]
		was := e.Known[item.ID]
		if was == nil || i < len(e.Old.Items) && e.Old.Items[i] == *item {
			continue
		}
		_, err := tx.exec(ctx, `UPDATE items SET position = ?, price = ?, currency = ?, per_user = ?, max_orders = ?, spread = ?
			WHERE id = ?`, i, item.Price.Minor, item.Price.Currency, item.PerUser, item.MaxOrders, item.Spread, int64(item.ID))
		if err != nil {
			return err
		}
		if e.ChangeRows(was, item) {
			if _, err := tx.exec(ctx, "DELETE FROM stock WHERE item = ?", int64(item.ID)); err != nil {
				return err
			}
		}
	}
	if err := tx.addItems(ctx, e); err != nil {
		return err
	}
	if err := tx.addRows(ctx, e.Made); err != nil {
		return err
	}
	return tx.publish(ctx, e)
}

// deleteItems deletes items that were never on sale, with the stock changes that they had.
func (tx *transaction) deleteItems(ctx context.Context, ids []inventory.ItemID) error {
	if len(ids) == 0 {
		return nil
	}
	for _, query := range []string{
		"DELETE FROM stock WHERE item IN (SELECT value FROM json_each(?))",
		"DELETE FROM stock_changes WHERE item IN (SELECT value FROM json_each(?))",
		"DELETE FROM items WHERE id IN (SELECT value FROM json_each(?))",
	} {
		if _, err := tx.exec(ctx, query, list(ids)); err != nil {
			return err
		}
	}
	return nil
}

// addItems gives ids to items that have none, and writes them.
func (tx *transaction) addItems(ctx context.Context, e *edit) error {
	var last inventory.ItemID
	if _, err := one(ctx, tx, "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'items'", nil, &last); err != nil {
		return err
	}
	type row struct {
		*seckill.Item
		position int
	}
	var rows []row
	for i := range e.Next.Items {
		if item := &e.Next.Items[i]; item.ID == 0 {
			last++
			item.ID = last
			rows = append(rows, row{item, i})
			e.Divide(item)
		}
	}
	const query = `INSERT INTO items (id, activity, position, sku, price, currency, per_user, max_orders, spread)
		VALUES {(?,?,?,?,?,?,?,?,?)}`
	return insert(ctx, tx.statements, query, rows, func(args []any, r *row) []any {
		return append(args, int64(r.ID), string(e.Next.ID), r.position, string(r.SKU), r.Price.Minor, r.Price.Currency,
			r.PerUser, r.MaxOrders, r.Spread)
	})
}

// stockTotal is a stock row that is made.
type stockTotal struct {
	seckill.StockKey
	total int64
}

func (tx *transaction) addRows(ctx context.Context, made map[seckill.StockKey]int64) error {
	rows := make([]stockTotal, 0, len(made))
	for key, total := range made {
		rows = append(rows, stockTotal{key, total})
	}
	slices.SortFunc(rows, func(a, b stockTotal) int {
		return cmp.Or(cmp.Compare(a.Item, b.Item), cmp.Compare(a.Shard, b.Shard))
	})
	return insert(ctx, tx.statements, "INSERT INTO stock (item, shard, total) VALUES {(?,?,?)}", rows,
		func(args []any, r *stockTotal) []any { return append(bindKey(args, &r.StockKey), r.total) })
}

// publish writes into the outbox the restocks that bring items on sale: of all items if the
// activity was a draft, otherwise of the new rows only.
func (tx *transaction) publish(ctx context.Context, e *edit) error {
	if !e.Published {
		return nil
	}
	if !e.WasPublished {
		rows, err := tx.query(ctx, `SELECT s.item, s.shard, s.total FROM items AS i CROSS JOIN stock AS s ON s.item = i.id
			WHERE i.activity = ?`, string(e.Next.ID))
		err = each(rows, err, func(rows *sql.Rows) error {
			var key seckill.StockKey
			var total int64
			err := rows.Scan(&key.Item, &key.Shard, &total)
			e.Made[key] = total
			return err
		})
		if err != nil {
			return err
		}
	}
	return tx.insertOutbox(ctx, seckill.PublishRestocks(e.Made))
}
