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

	"penstock/inventory"
	"penstock/seckill"
)

const activityColumns = "id, merchant, name, state, starts_at, ends_at, payment_window, ended_at, changed, items_changed"

// activityRow is an activity without its items, and the catalog's versions of its last changes.
type activityRow struct {
	seckill.Activity
	changed, itemsChanged int64
}

func scanActivity(rows *sql.Rows) (activityRow, error) {
	var a activityRow
	var starts, ends int64
	var ended sql.NullInt64
	err := rows.Scan(&a.ID, &a.Merchant, &a.Name, &a.State, &starts, &ends, &a.PaymentWindow, &ended,
		&a.changed, &a.itemsChanged)
	a.StartsAt, a.EndsAt = fromMicros(starts), fromMicros(ends)
	if ended.Valid {
		a.EndedAt = fromMicros(ended.Int64)
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

// findActivity returns nil where there is none.
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

// UpdateActivity implements seckill.CatalogStore. An item keeps its SKU, and one that was on sale
// is not deleted: it may have orders. Where change returns what it was given, nothing is recorded.
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
		wanted, err := change(clone(old))
		switch {
		case err != nil:
			refused = err
			return err
		case wanted == nil || wanted.ID != id:
			return fmt.Errorf("the change made something else of it: %+v", wanted)
		}
		stored, err = tx.putActivity(ctx, by, old, clone(wanted))
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

// clone copies an activity: a change may keep what it is given, and what it returns.
func clone(a *seckill.Activity) *seckill.Activity {
	if a == nil {
		return nil
	}
	out := *a
	out.Items = slices.Clone(a.Items)
	return &out
}

// edit is an activity under way from old (nil: it is new) to next.
type edit struct {
	old, next *seckill.Activity
	// wasPublished and published say whether it was on sale before, and whether it is or was
	// afterwards.
	wasPublished, published bool
	version                 int64 // the catalog's, of this change
}

// putActivity writes what an activity becomes, and returns it as it is then.
func (tx *transaction) putActivity(ctx context.Context, by seckill.Author, old, next *seckill.Activity) (*seckill.Activity, error) {
	e := edit{old: old, next: next}
	if old != nil {
		if _, err := one(ctx, tx, "SELECT published FROM activities WHERE id = ?", []any{string(old.ID)}, &e.wasPublished); err != nil {
			return nil, err
		}
	}
	e.published = e.wasPublished || next.State == seckill.ActivityPublished || next.State == seckill.ActivityPaused
	known, err := tx.settle(ctx, &e)
	if err != nil {
		return nil, err
	}
	if old != nil {
		if _, changed, err := seckill.RecordActivity(old, next); err != nil || !changed {
			return old, err
		}
	}
	if e.version, err = tx.raiseVersion(ctx); err != nil {
		return nil, err
	}
	if err := tx.writeActivity(ctx, &e); err != nil {
		return nil, err
	}
	if err := tx.writeItems(ctx, &e, known); err != nil {
		return nil, err
	}
	record, _, err := seckill.RecordActivity(old, next)
	if err != nil {
		return nil, err
	}
	return next, tx.record(ctx, by, record)
}

// settle makes of e.next what will be stored: its times as the file keeps them, and the quantities
// of items that were on sale as they are. It returns the items that there are, by id.
func (tx *transaction) settle(ctx context.Context, e *edit) (map[inventory.ItemID]*seckill.Item, error) {
	a := e.next
	switch ok, err := exists(ctx, tx, "SELECT 1 FROM merchants WHERE id = ?", string(a.Merchant)); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("merchant %s: %w", a.Merchant, seckill.ErrNotFound)
	}
	for _, t := range []*time.Time{&a.StartsAt, &a.EndsAt, &a.EndedAt} {
		if !t.IsZero() {
			*t = fromMicros(t.UnixMicro())
		}
	}
	known := make(map[inventory.ItemID]*seckill.Item)
	if e.old != nil {
		for i := range e.old.Items {
			known[e.old.Items[i].ID] = &e.old.Items[i]
		}
	}
	seen := make(map[inventory.ItemID]bool, len(a.Items))
	for i := range a.Items {
		item := &a.Items[i]
		if item.Spread < 1 || item.Spread > tx.shards {
			return nil, fmt.Errorf("item %s: spread %d is not between 1 and %d", item.SKU, item.Spread, tx.shards)
		}
		if item.ID == 0 {
			continue
		}
		was := known[item.ID]
		switch {
		case was == nil || was.SKU != item.SKU || seen[item.ID]:
			return nil, fmt.Errorf("item %d is not the activity's %s", item.ID, item.SKU)
		case e.wasPublished && item.Spread < was.Spread:
			return nil, fmt.Errorf("item %s: it was on sale on %d shards, and can't be on %d", item.SKU, was.Spread, item.Spread)
		case e.wasPublished:
			item.Quantity = was.Quantity
		}
		seen[item.ID] = true
	}
	if e.wasPublished && len(seen) != len(known) {
		return nil, errors.New("an item that was on sale is left out")
	}
	return known, nil
}

func (tx *transaction) writeActivity(ctx context.Context, e *edit) error {
	a := e.next
	itemsChanged := e.old == nil || !slices.Equal(e.old.Items, a.Items)
	_, err := tx.exec(ctx, `INSERT INTO activities (id, merchant, name, state, starts_at, ends_at, payment_window, ended_at,
			published, changed, items_changed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)
		ON CONFLICT (id) DO UPDATE SET merchant = excluded.merchant, name = excluded.name, state = excluded.state,
			starts_at = excluded.starts_at, ends_at = excluded.ends_at, payment_window = excluded.payment_window,
			ended_at = excluded.ended_at, published = excluded.published, changed = excluded.changed,
			items_changed = iif(?11, excluded.items_changed, items_changed)`,
		string(a.ID), string(a.Merchant), a.Name, string(a.State), a.StartsAt.UnixMicro(), a.EndsAt.UnixMicro(),
		int64(a.PaymentWindow), nullMicros(a.EndedAt), e.published, e.version, itemsChanged)
	if err != nil || e.old != nil {
		return err
	}
	_, err = tx.exec(ctx, "DELETE FROM dropped_activities WHERE id = ?", string(a.ID))
	return err
}

// nullMicros is NULL for the zero time.
func nullMicros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// writeItems deletes the known items that are left out, writes those that differ and those that are
// new, and leaves what publishes them in the outbox.
func (tx *transaction) writeItems(ctx context.Context, e *edit, known map[inventory.ItemID]*seckill.Item) error {
	gone := maps.Clone(known)
	for i := range e.next.Items {
		delete(gone, e.next.Items[i].ID)
	}
	if err := tx.deleteItems(ctx, slices.Sorted(maps.Keys(gone))); err != nil {
		return err
	}
	made := make(map[seckill.StockKey]int64)
	for i := range e.next.Items {
		item := &e.next.Items[i]
		was := known[item.ID]
		if was == nil || i < len(e.old.Items) && e.old.Items[i] == *item {
			continue
		}
		_, err := tx.exec(ctx, `UPDATE items SET position = ?, price = ?, currency = ?, per_user = ?, max_orders = ?, spread = ?
			WHERE id = ?`, i, item.Price.Minor, item.Price.Currency, item.PerUser, item.MaxOrders, item.Spread, int64(item.ID))
		if err != nil {
			return err
		}
		if err := tx.changeRows(ctx, e, was, item, made); err != nil {
			return err
		}
	}
	if err := tx.addItems(ctx, e, made); err != nil {
		return err
	}
	if err := tx.addRows(ctx, made); err != nil {
		return err
	}
	return tx.publish(ctx, e, made)
}

// changeRows decides about the stock rows of an item that changes. Those that are to be made go to
// made.
func (tx *transaction) changeRows(ctx context.Context, e *edit, was, item *seckill.Item, made map[seckill.StockKey]int64) error {
	switch {
	case e.wasPublished:
		for i := was.Spread; i < item.Spread; i++ { // empty ones: units are moved there
			made[seckill.StockKey{Item: item.ID, Shard: inventory.ShardAt(item.ID, i, tx.shards)}] = 0
		}
	case was.Quantity != item.Quantity || was.Spread != item.Spread:
		if _, err := tx.exec(ctx, "DELETE FROM stock WHERE item = ?", int64(item.ID)); err != nil {
			return err
		}
		tx.divide(item, made)
	}
	return nil
}

// divide gives each of the item's shards its share.
func (tx *transaction) divide(item *seckill.Item, made map[seckill.StockKey]int64) {
	for i := range item.Spread {
		key := seckill.StockKey{Item: item.ID, Shard: inventory.ShardAt(item.ID, i, tx.shards)}
		made[key] = seckill.Share(item.Quantity, i, item.Spread)
	}
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
func (tx *transaction) addItems(ctx context.Context, e *edit, made map[seckill.StockKey]int64) error {
	var last inventory.ItemID
	if _, err := one(ctx, tx, "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'items'", nil, &last); err != nil {
		return err
	}
	type row struct {
		*seckill.Item
		position int
	}
	var rows []row
	for i := range e.next.Items {
		if item := &e.next.Items[i]; item.ID == 0 {
			last++
			item.ID = last
			rows = append(rows, row{item, i})
			tx.divide(item, made)
		}
	}
	const query = `INSERT INTO items (id, activity, position, sku, price, currency, per_user, max_orders, spread)
		VALUES {(?,?,?,?,?,?,?,?,?)}`
	return insert(ctx, tx.statements, query, rows, func(args []any, r *row) []any {
		return append(args, int64(r.ID), string(e.next.ID), r.position, string(r.SKU), r.Price.Minor, r.Price.Currency,
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

// publish leaves in the outbox what brings items on sale: all of them where the activity was a
// draft, and afterwards the rows that were made now.
func (tx *transaction) publish(ctx context.Context, e *edit, made map[seckill.StockKey]int64) error {
	if !e.published {
		return nil
	}
	if !e.wasPublished {
		rows, err := tx.query(ctx, `SELECT s.item, s.shard, s.total FROM items AS i CROSS JOIN stock AS s ON s.item = i.id
			WHERE i.activity = ?`, string(e.next.ID))
		err = each(rows, err, func(rows *sql.Rows) error {
			var key seckill.StockKey
			var total int64
			err := rows.Scan(&key.Item, &key.Shard, &total)
			made[key] = total
			return err
		})
		if err != nil {
			return err
		}
	}
	out := seckill.PublishRestocks(made)
	slices.SortFunc(out, func(a, b seckill.Outgoing) int {
		return cmp.Or(cmp.Compare(a.Restock.Item, b.Restock.Item), cmp.Compare(a.Ref.Shard, b.Ref.Shard))
	})
	return tx.insertOutbox(ctx, out)
}
