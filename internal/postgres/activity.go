package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"penstock/inventory"
	"penstock/seckill"
)

// queueActivities queues the reading of the activity of that id, or of all of them for "", each with its items.
func queueActivities(p *pipe, id seckill.ActivityID, all *[]seckill.Activity) {
	place := make(map[int32]int)
	p.each(func(rows pgx.Rows) error {
		var a seckill.Activity
		var sale int32
		var window int64
		var ended *time.Time
		err := rows.Scan(&sale, (*string)(&a.ID), (*string)(&a.Merchant), &a.Name, (*string)(&a.State), &a.StartsAt, &a.EndsAt,
			&window, &ended)
		a.StartsAt, a.EndsAt, a.PaymentWindow = a.StartsAt.UTC(), a.EndsAt.UTC(), time.Duration(window)
		if ended != nil {
			a.EndedAt = ended.UTC()
		}
		place[sale] = len(*all)
		*all = append(*all, a)
		return err
	}, `SELECT sale, id, merchant, name, state, starts_at, ends_at, payment_window, ended_at FROM activities
		WHERE $1 = '' OR id = $1 ORDER BY id`, string(id))
	p.each(func(rows pgx.Rows) error {
		var i seckill.Item
		var sale int32
		var item, epoch int64
		err := rows.Scan(&sale, &item, (*string)(&i.SKU), &i.Price.Minor, &i.Price.Currency, &i.Quantity, &i.PerUser, &epoch, &i.Suspect)
		i.ID, i.Epoch = inventory.ItemID(item), inventory.Epoch(epoch)
		at, ok := place[sale]
		if err == nil && !ok {
			return fmt.Errorf("item %d has no activity", item)
		}
		if err == nil {
			a := &(*all)[at]
			a.Items = append(a.Items, i)
		}
		return err
	}, `SELECT i.sale, i.id, i.sku, i.price, i.currency, i.total, i.per_user, i.epoch, i.epoch > 0 AND i.suspect_epoch = i.epoch
		FROM items AS i JOIN activities AS a USING (sale) WHERE $1 = '' OR a.id = $1 ORDER BY i.sale, i.position`, string(id))
}

// findActivity returns nil where there is none.
func findActivity(ctx context.Context, p *pipe, id seckill.ActivityID) (*seckill.Activity, error) {
	var found []seckill.Activity
	queueActivities(p, id, &found)
	if err := p.flush(ctx); err != nil || len(found) == 0 {
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
		refused = nil
		// The items' rows, too: what change sees of them must not move until it is written.
		tx.lockCatalog()
		tx.exec(`SELECT FROM items AS i JOIN activities AS a USING (sale) WHERE a.id = $1 ORDER BY i.id FOR NO KEY UPDATE OF i`, string(id))
		tx.readClock()
		old, err := findActivity(ctx, tx.pipe, id)
		if err != nil {
			return err
		}
		// change may keep or change what it is given, so it gets a reading of its own.
		given, err := findActivity(ctx, tx.pipe, id)
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
		if stored, err = findActivity(ctx, tx.pipe, id); err != nil {
			return err
		}
		return tx.recordActivity(by, id, old, stored)
	})
	if refused != nil {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	return stored, nil
}

func (tx *transaction) recordActivity(by seckill.Author, id seckill.ActivityID, old, stored *seckill.Activity) error {
	if old == nil {
		return tx.recordCatalog(by, kindActivity, string(id), nil, stored)
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
	return tx.recordCatalog(by, kindActivity, string(id), json.RawMessage(before), json.RawMessage(after))
}

// putActivity writes the activity and its items. old is nil when it is new: then it gets a partition for its orders.
func (tx *transaction) putActivity(ctx context.Context, id seckill.ActivityID, old, a *seckill.Activity) error {
	if a == nil || a.ID != id {
		return fmt.Errorf("the change made something else of it: %+v", a)
	}
	if err := needMerchant(ctx, tx.pipe, a.Merchant); err != nil {
		return err
	}
	var ended *time.Time
	if !a.EndedAt.IsZero() {
		ended = &a.EndedAt
	}
	var sale int32
	_, err := tx.one(ctx, `INSERT INTO activities (id, merchant, name, state, starts_at, ends_at, payment_window, ended_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET merchant = excluded.merchant, name = excluded.name, state = excluded.state,
			starts_at = excluded.starts_at, ends_at = excluded.ends_at, payment_window = excluded.payment_window,
			ended_at = excluded.ended_at
		RETURNING sale`,
		[]any{string(a.ID), string(a.Merchant), a.Name, string(a.State), a.StartsAt, a.EndsAt, int64(a.PaymentWindow), ended}, &sale)
	if err != nil {
		return err
	}
	if old == nil {
		tx.exec("SELECT penstock_add_sale($1)", sale)
	}
	known := make(map[inventory.ItemID]seckill.SKU)
	if old != nil {
		for i := range old.Items {
			known[old.Items[i].ID] = old.Items[i].SKU
		}
	}
	return tx.putItems(ctx, sale, a, known)
}

// putItems deletes the known items that a doesn't have, then writes those it has.
func (tx *transaction) putItems(ctx context.Context, sale int32, a *seckill.Activity, known map[inventory.ItemID]seckill.SKU) error {
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
	for _, id := range inOrder(known) {
		if err := tx.deleteItem(ctx, id); err != nil {
			return fmt.Errorf("delete item %s: %w", known[id], err)
		}
	}
	for i := range a.Items {
		item := &a.Items[i]
		if item.ID == 0 {
			tx.exec(`INSERT INTO items (sale, position, sku, price, currency, per_user, total) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
				sale, i, string(item.SKU), item.Price.Minor, item.Price.Currency, item.PerUser, item.Quantity)
		} else {
			tx.exec(`UPDATE items SET position = $1, price = $2, currency = $3, per_user = $4,
				total = CASE WHEN epoch = 0 THEN $5 ELSE total END WHERE id = $6`,
				i, item.Price.Minor, item.Price.Currency, item.PerUser, item.Quantity, int64(item.ID))
		}
	}
	return tx.flush(ctx)
}

// deleteItem deletes an item that was never opened, with the stock changes it had.
func (tx *transaction) deleteItem(ctx context.Context, id inventory.ItemID) error {
	n, err := tx.change(ctx, "DELETE FROM items WHERE id = $1 AND epoch = 0", int64(id))
	if err != nil {
		return err
	}
	if n == 0 {
		return errors.New("it was opened for sale")
	}
	tx.exec("DELETE FROM stock_changes WHERE item = $1", int64(id))
	tx.exec("DELETE FROM outbox WHERE item = $1 AND stock", int64(id))
	return nil
}
