package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"penstock/inventory"
	"penstock/seckill"
)

// readActivities returns the activity of that id, or all of them for "", each with its items.
func readActivities(ctx context.Context, q querier, id seckill.ActivityID) ([]seckill.Activity, error) {
	var all []seckill.Activity
	place := make(map[seckill.ActivityID]int)
	rows, err := q.query(ctx, `SELECT id, merchant, name, state, starts_at, ends_at, payment_window, ended_at FROM activities
		WHERE ?1 = '' OR id = ?1 ORDER BY id`, string(id))
	err = each(rows, err, func(rows *sql.Rows) error {
		var a seckill.Activity
		var starts, ends int64
		var ended sql.NullInt64
		if err := rows.Scan(&a.ID, &a.Merchant, &a.Name, &a.State, &starts, &ends, &a.PaymentWindow, &ended); err != nil {
			return err
		}
		a.StartsAt, a.EndsAt = fromMicros(starts), fromMicros(ends)
		if ended.Valid {
			a.EndedAt = fromMicros(ended.Int64)
		}
		place[a.ID] = len(all)
		all = append(all, a)
		return nil
	})
	if err != nil {
		return nil, err
	}
	rows, err = q.query(ctx, `SELECT activity, id, sku, price, currency, total, per_user, epoch, epoch > 0 AND suspect_epoch = epoch
		FROM items WHERE ?1 = '' OR activity = ?1 ORDER BY activity, position`, string(id))
	err = each(rows, err, func(rows *sql.Rows) error {
		var of seckill.ActivityID
		var i seckill.Item
		err := rows.Scan(&of, &i.ID, &i.SKU, &i.Price.Minor, &i.Price.Currency, &i.Quantity, &i.PerUser, &i.Epoch, &i.Suspect)
		if err != nil {
			return err
		}
		a := &all[place[of]] // a foreign key: every item has its activity
		a.Items = append(a.Items, i)
		return nil
	})
	return all, err
}

// findActivity returns nil where there is none.
func findActivity(ctx context.Context, q querier, id seckill.ActivityID) (*seckill.Activity, error) {
	found, err := readActivities(ctx, q, id)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// UpdateActivity implements seckill.CatalogStore. An item that was opened once is not deleted: it may have orders. An item
// keeps its SKU. Where change returns what it was given, nothing is recorded.
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
		// change may keep or change what it is given, so it gets a reading of its own.
		given, err := findActivity(ctx, tx, id)
		if err != nil {
			return err
		}
		wanted, err := change(given)
		if err != nil {
			refused = err
			return err
		}
		if err := tx.putActivity(ctx, id, old, wanted); err != nil {
			return err
		}
		if stored, err = findActivity(ctx, tx, id); err != nil {
			return err
		}
		return tx.recordActivity(ctx, by, id, old, stored)
	})
	if refused != nil {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	return stored, nil
}

func (tx *transaction) recordActivity(ctx context.Context, by seckill.Author, id seckill.ActivityID,
	old, stored *seckill.Activity) error {
	if old == nil {
		return tx.recordCatalog(ctx, by, kindActivity, string(id), nil, stored)
	}
	before, err := json.Marshal(old)
	if err != nil {
		return err
	}
	after, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	if bytes.Equal(before, after) {
		return nil
	}
	return tx.recordCatalog(ctx, by, kindActivity, string(id), json.RawMessage(before), json.RawMessage(after))
}

// putActivity writes the activity and its items. old is nil when it is new.
func (tx *transaction) putActivity(ctx context.Context, id seckill.ActivityID, old, a *seckill.Activity) error {
	if a == nil || a.ID != id {
		return fmt.Errorf("the change made something else of it: %+v", a)
	}
	switch ok, err := exists(ctx, tx, "SELECT 1 FROM merchants WHERE id = ?", string(a.Merchant)); {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("merchant %s: %w", a.Merchant, seckill.ErrNotFound)
	}
	_, err := tx.exec(ctx, `INSERT INTO activities (id, merchant, name, state, starts_at, ends_at, payment_window, ended_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET merchant = excluded.merchant, name = excluded.name, state = excluded.state,
			starts_at = excluded.starts_at, ends_at = excluded.ends_at, payment_window = excluded.payment_window,
			ended_at = excluded.ended_at`,
		string(a.ID), string(a.Merchant), a.Name, string(a.State), a.StartsAt.UnixMicro(), a.EndsAt.UnixMicro(),
		int64(a.PaymentWindow), nullMicros(a.EndedAt))
	if err != nil {
		return err
	}
	known := make(map[inventory.ItemID]seckill.SKU)
	if old != nil {
		for i := range old.Items {
			known[old.Items[i].ID] = old.Items[i].SKU
		}
	}
	return tx.putItems(ctx, a, known)
}

// putItems deletes the known items that a doesn't have, then writes those it has.
func (tx *transaction) putItems(ctx context.Context, a *seckill.Activity, known map[inventory.ItemID]seckill.SKU) error {
	for i := range a.Items {
		item := &a.Items[i]
		if item.ID == 0 {
			continue
		}
		sku, ok := known[item.ID]
		if !ok || sku != item.SKU {
			return fmt.Errorf("item %d is not the activity's %s", item.ID, item.SKU)
		}
		delete(known, item.ID) // what remains is left out; an item that comes twice is refused by the line above
	}
	for id, sku := range known {
		if err := tx.deleteItem(ctx, id); err != nil {
			return fmt.Errorf("delete item %s: %w", sku, err)
		}
	}
	for i := range a.Items {
		item := &a.Items[i]
		var err error
		if item.ID == 0 {
			_, err = tx.exec(ctx, `INSERT INTO items (activity, position, sku, price, currency, per_user, total)
				VALUES (?, ?, ?, ?, ?, ?, ?)`,
				string(a.ID), i, string(item.SKU), item.Price.Minor, item.Price.Currency, item.PerUser, item.Quantity)
		} else {
			_, err = tx.exec(ctx, `UPDATE items SET position = ?, price = ?, currency = ?, per_user = ?,
				total = iif(epoch = 0, ?, total) WHERE id = ?`,
				i, item.Price.Minor, item.Price.Currency, item.PerUser, item.Quantity, int64(item.ID))
		}
		if err != nil {
			return fmt.Errorf("item %s: %w", item.SKU, err)
		}
	}
	return nil
}

// deleteItem deletes an item that was never opened, with the stock changes it had.
func (tx *transaction) deleteItem(ctx context.Context, id inventory.ItemID) error {
	n, err := tx.change(ctx, "DELETE FROM items WHERE id = ? AND epoch = 0", int64(id))
	if err != nil {
		return err
	}
	if n == 0 {
		return errors.New("it was opened for sale")
	}
	if _, err := tx.exec(ctx, "DELETE FROM stock_changes WHERE item = ?", int64(id)); err != nil {
		return err
	}
	_, err = tx.exec(ctx, "DELETE FROM outbox WHERE item = ? AND stock = 1", int64(id))
	return err
}

// nullMicros is NULL for the zero time.
func nullMicros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}
