package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

const activityColumns = `a.sale, a.id, a.merchant, a.name, a.state, a.starts_at, a.ends_at, a.payment_window,
	a.ended_at, a.archived_at, a.archive_sum, a.published, a.items_changed`

// activityRow is an activity as the table has it, without its items.
type activityRow struct {
	seckill.Activity
	sale         int32
	published    bool
	itemsChanged int64
}

func scanActivity(rows pgx.Rows) (activityRow, error) {
	var a activityRow
	var window int64
	var ended, archived *time.Time
	err := rows.Scan(&a.sale, (*string)(&a.ID), (*string)(&a.Merchant), &a.Name, (*string)(&a.State), &a.StartsAt,
		&a.EndsAt, &window, &ended, &archived, &a.Archive.Sum, &a.published, &a.itemsChanged)
	a.StartsAt, a.EndsAt, a.PaymentWindow = a.StartsAt.UTC(), a.EndsAt.UTC(), time.Duration(window)
	if ended != nil {
		a.EndedAt = ended.UTC()
	}
	if archived != nil {
		a.Archive.At = archived.UTC()
	}
	return a, err
}

const itemColumns = `i.sale, i.id, i.sku, i.price, i.currency, i.per_user, i.max_orders, i.spread,
	(SELECT coalesce(sum(total), 0) FROM stock WHERE stock.item = i.id)::bigint`

func scanItem(rows pgx.Rows) (sale int32, i seckill.Item, err error) {
	var id int64
	err = rows.Scan(&sale, &id, (*string)(&i.SKU), &i.Price.Minor, &i.Price.Currency, &i.PerUser, &i.MaxOrders, &i.Spread, &i.Quantity)
	i.ID = inventory.ItemID(id)
	return sale, i, err
}

// queueActivity queues the reading of an activity; the result stays nil if there is none.
func queueActivity(p *pipe, id seckill.ActivityID) **activityRow {
	found := new(*activityRow)
	p.each(func(rows pgx.Rows) error {
		a, err := scanActivity(rows)
		*found = &a
		return err
	}, "SELECT "+activityColumns+" FROM activities AS a WHERE a.id = $1", string(id))
	p.each(func(rows pgx.Rows) error {
		_, item, err := scanItem(rows)
		if a := *found; a != nil {
			a.Items = append(a.Items, item)
		}
		return err
	}, "SELECT "+itemColumns+" FROM activities AS a JOIN items AS i USING (sale) WHERE a.id = $1 ORDER BY i.position", string(id))
	return found
}

// FindActivity implements seckill.CatalogStore.
func (s *Store) FindActivity(ctx context.Context, id seckill.ActivityID) (*seckill.Activity, error) {
	what := "find activity " + string(id)
	var found **activityRow
	if err := s.readSnapshot(ctx, what, func(p *pipe) { found = queueActivity(p, id) }); err != nil {
		return nil, err
	}
	if *found == nil {
		return nil, describe(what, seckill.ErrNotFound)
	}
	return &(*found).Activity, nil
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
		refused = nil
		tx.takesLong(activityTime)
		tx.exec(activitySettings)
		// A draft's stock rows are locked, too: what change sees of them must not change before it
		// is written.
		tx.lockCatalog()
		tx.exec(`SELECT FROM stock AS s JOIN items AS i ON i.id = s.item JOIN activities AS a USING (sale)
			WHERE a.id = $1 AND NOT a.published ORDER BY s.item, s.shard FOR NO KEY UPDATE OF s`, string(id))
		tx.readClock()
		found := queueActivity(tx.pipe, id)
		if err := tx.flush(ctx); err != nil {
			return err
		}
		e := &edit{ActivityEdit: &seckill.ActivityEdit{Shards: s.shards}, tx: tx, by: by}
		if row := *found; row != nil {
			e.Old, e.sale, e.WasPublished = &row.Activity, row.sale, row.published
		}
		wanted, err := change(e.Old.Clone())
		switch {
		case err != nil:
			refused = err
			return err
		case wanted != nil && wanted.ID != id:
			return fmt.Errorf("the change made something else of it: %+v", wanted)
		}
		e.Next = wanted.Clone()
		stored, err = e.write(ctx)
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

// activityTime is the longest time that an activity of 20,000 items takes on a busy machine.
// activitySettings allow it to wait while another activity is being written.
const (
	activityTime     = time.Minute
	activitySettings = "SELECT set_config('lock_timeout', '30s', true)"
)

// edit is a change of an activity in progress.
type edit struct {
	*seckill.ActivityEdit
	tx   *transaction
	by   seckill.Author
	sale int32   // 0 until it is written
	drop []int64 // items whose stock rows are replaced
}

// write writes the new activity, and returns it as stored.
func (e *edit) write(ctx context.Context) (*seckill.Activity, error) {
	if gone, err := e.Deletes(); err != nil {
		return nil, err
	} else if gone {
		return nil, e.deleteDraft()
	}
	if err := needMerchant(ctx, e.tx.pipe, e.Next.Merchant); err != nil {
		return nil, err
	}
	if err := e.Settle(); err != nil {
		return nil, err
	}
	if e.Old != nil {
		if _, changed, err := seckill.RecordActivity(e.Old, e.Next); err != nil || !changed {
			return e.Old, err
		}
	}
	if err := e.writeActivity(ctx); err != nil {
		return nil, err
	}
	if err := e.writeItems(ctx); err != nil {
		return nil, err
	}
	e.writeStock()
	if err := e.publish(ctx); err != nil {
		return nil, err
	}
	r, _, err := seckill.RecordActivity(e.Old, e.Next)
	if err != nil {
		return nil, err
	}
	e.tx.record(e.by, r)
	return e.Next, nil
}

// deleteDraft deletes the activity, with a change record.
func (e *edit) deleteDraft() error {
	e.tx.deleteActivity(e.sale, e.Old.ID)
	r, _, err := seckill.RecordActivity(e.Old, nil)
	if err != nil {
		return err
	}
	e.tx.record(e.by, r)
	return nil
}

// writeActivity writes the activity's row. A new one gets a week, and the partition for it.
func (e *edit) writeActivity(ctx context.Context) error {
	a, tx := e.Next, e.tx
	week := weekOf(a.EndsAt, tx.now)
	if e.Old == nil {
		tx.exec("SELECT penstock_add_week($1)", week)
		tx.exec("DELETE FROM dropped_activities WHERE id = $1", string(a.ID))
	}
	version, itemsChanged := tx.raiseVersion(), e.ItemsChanged()
	_, err := tx.one(ctx, `INSERT INTO activities AS a (id, merchant, name, state, starts_at, ends_at, payment_window, ended_at,
			published, week, changed, items_changed, archived_at, archive_sum)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $13, $14)
		ON CONFLICT (id) DO UPDATE SET merchant = excluded.merchant, name = excluded.name, state = excluded.state,
			starts_at = excluded.starts_at, ends_at = excluded.ends_at, payment_window = excluded.payment_window,
			ended_at = excluded.ended_at, archived_at = excluded.archived_at, archive_sum = excluded.archive_sum,
			published = excluded.published, changed = excluded.changed,
			items_changed = CASE WHEN $12 THEN excluded.items_changed ELSE a.items_changed END
		RETURNING sale`,
		[]any{
			string(a.ID), string(a.Merchant), a.Name, string(a.State), a.StartsAt, a.EndsAt, int64(a.PaymentWindow),
			orNull(a.EndedAt), e.Published, week, version, itemsChanged, orNull(a.Archive.At), a.Archive.Sum,
		}, &e.sale)
	return err
}

// itemRows are rows of items, in the form of columns.
type itemRows struct {
	ids, prices                             []int64
	positions, perUsers, maxOrders, spreads []int32
	skus, currencies                        []string
}

func (r *itemRows) add(position int, i *seckill.Item) {
	r.ids, r.prices, r.positions = append(r.ids, int64(i.ID)), append(r.prices, i.Price.Minor), append(r.positions, int32(position))
	r.perUsers, r.maxOrders = append(r.perUsers, int32(i.PerUser)), append(r.maxOrders, int32(i.MaxOrders))
	r.spreads, r.skus = append(r.spreads, int32(i.Spread)), append(r.skus, string(i.SKU))
	r.currencies = append(r.currencies, i.Price.Currency)
}

// writeItems deletes the items that are missing, and writes those that differ and those that are
// new. New items get their ids.
func (e *edit) writeItems(ctx context.Context) error {
	var changed, fresh itemRows
	var gone []int64
	left := make(map[inventory.ItemID]bool, len(e.Known))
	for id := range e.Known {
		left[id] = true
	}
	for i := range e.Next.Items {
		item := &e.Next.Items[i]
		delete(left, item.ID)
		switch was := e.Known[item.ID]; {
		case was == nil:
			fresh.add(i, item)
		case i >= len(e.Old.Items) || e.Old.Items[i] != *item:
			changed.add(i, item)
			if e.ChangeRows(was, item) {
				e.drop = append(e.drop, int64(item.ID))
			}
		}
	}
	for id := range left {
		gone = append(gone, int64(id))
	}
	e.tx.deleteItems(gone)
	e.tx.updateItems(&changed)
	return e.insertItems(ctx, &fresh)
}

// deleteItems queues the deletion of items that were never on sale, with their stock changes.
func (tx *transaction) deleteItems(ids []int64) {
	if len(ids) == 0 {
		return
	}
	for _, table := range []string{"stock", "stock_changes", "stock_exceptions"} {
		tx.exec("DELETE FROM "+table+" WHERE item = ANY($1)", ids)
	}
	tx.exec("DELETE FROM items WHERE id = ANY($1)", ids)
}

func (tx *transaction) updateItems(r *itemRows) {
	if len(r.ids) == 0 {
		return
	}
	tx.exec(`UPDATE items AS i SET position = c.position, price = c.price, currency = c.currency, per_user = c.per_user,
			max_orders = c.max_orders, spread = c.spread
		FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::text[], $5::int[], $6::int[], $7::int[])
			AS c (id, position, price, currency, per_user, max_orders, spread) WHERE i.id = c.id`,
		r.ids, r.positions, r.prices, r.currencies, r.perUsers, r.maxOrders, r.spreads)
}

// insertItems inserts new items, and records the ids that they get.
func (e *edit) insertItems(ctx context.Context, r *itemRows) error {
	if len(r.ids) > 0 {
		e.tx.each(func(rows pgx.Rows) error {
			var id int64
			var position int32
			err := rows.Scan(&id, &position)
			item := &e.Next.Items[position]
			item.ID = inventory.ItemID(id)
			e.Divide(item)
			return err
		}, `INSERT INTO items (sale, position, sku, price, currency, per_user, max_orders, spread)
			SELECT $1, c.* FROM unnest($2::int[], $3::text[], $4::bigint[], $5::text[], $6::int[], $7::int[], $8::int[])
				AS c (position, sku, price, currency, per_user, max_orders, spread) ORDER BY c.position RETURNING id, position`,
			e.sale, r.positions, r.skus, r.prices, r.currencies, r.perUsers, r.maxOrders, r.spreads)
	}
	return e.tx.flush(ctx)
}

// writeStock queues the stock rows to make.
func (e *edit) writeStock() {
	if len(e.drop) > 0 {
		e.tx.exec("DELETE FROM stock WHERE item = ANY($1)", e.drop)
	}
	if len(e.Made) == 0 {
		return
	}
	keys := keysInOrder(e.Made)
	items, shards := keyColumns(keys)
	totals := make([]int64, len(keys))
	for i, key := range keys {
		totals[i] = e.Made[key]
	}
	e.tx.exec("INSERT INTO stock (item, shard, total) SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[])",
		items, shards, totals)
}

// publish writes into the outbox the restocks that bring items on sale: of all items if the
// activity was a draft, otherwise of the new rows only.
func (e *edit) publish(ctx context.Context) error {
	if !e.Published {
		return nil
	}
	if !e.WasPublished && e.Old != nil {
		e.tx.each(func(rows pgx.Rows) error {
			var total int64
			key, err := scanKey(rows, &total)
			e.Made[key] = total
			return err
		}, "SELECT s.item, s.shard, s.total FROM items AS i JOIN stock AS s ON s.item = i.id WHERE i.sale = $1", e.sale)
		if err := e.tx.flush(ctx); err != nil {
			return err
		}
	}
	insertOutbox(e.tx, seckill.PublishRestocks(e.Made))
	return nil
}
