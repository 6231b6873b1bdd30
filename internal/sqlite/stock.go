package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// stockItem is an item whose total changes.
type stockItem struct {
	activity  seckill.ActivityID
	sku       seckill.SKU
	spread    int
	published bool
	total     int64 // over all shards
}

// stockItem reads an item; ErrNotFound if there is none.
func (tx *transaction) stockItem(ctx context.Context, id inventory.ItemID) (stockItem, error) {
	var i stockItem
	ok, err := one(ctx, tx, `SELECT i.activity, i.sku, i.spread, a.published, (SELECT sum(total) FROM stock WHERE stock.item = i.id)
		FROM items AS i CROSS JOIN activities AS a ON a.id = i.activity WHERE i.id = ?`, []any{int64(id)},
		&i.activity, &i.sku, &i.spread, &i.published, &i.total)
	if err == nil && !ok {
		err = errNoItem(id)
	}
	return i, err
}

// Restock implements seckill.StockStore. An item that was never on sale has no units in Redis: its
// new ones go there with its publication.
func (s *Store) Restock(ctx context.Context, c seckill.StockChange, by seckill.Author) (total int64, replayed bool, err error) {
	what := fmt.Sprintf("restock item %d", c.Item)
	if c.Delta <= 0 {
		return 0, false, fmt.Errorf("%s: by %d units", what, c.Delta)
	}
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		item, again, err := tx.changeOnce(ctx, c, by)
		total, replayed = item.total, again
		if err != nil || replayed {
			return err
		}
		if total, err = seckill.Raise(total, c.Delta); err != nil {
			return err
		}
		var rows []seckill.Outgoing
		for i := range item.spread {
			share, shard := seckill.Share(c.Delta, i, item.spread), inventory.ShardAt(c.Item, i, tx.shards)
			if share == 0 {
				break
			}
			if err := tx.addTotal(ctx, seckill.StockKey{Item: c.Item, Shard: shard}, share); err != nil {
				return err
			}
			rows = append(rows, seckill.AddUnits(c.Item, shard, c.Key, share))
		}
		if !item.published {
			return nil
		}
		return tx.insertOutbox(ctx, rows)
	})
	return total, replayed, err
}

// addTotal raises the total of a stock row.
func (tx *transaction) addTotal(ctx context.Context, key seckill.StockKey, units int64) error {
	n, err := tx.change(ctx, "UPDATE stock SET total = total + ? WHERE item = ? AND shard = ?",
		units, int64(key.Item), int64(key.Shard))
	if err == nil && n == 0 {
		return fmt.Errorf("item %d on shard %d: %w", key.Item, key.Shard, seckill.ErrNotFound)
	}
	return err
}

// changeOnce keeps a stock change under its key, with a change record. It returns the item before
// the change, and whether the change was made before.
func (tx *transaction) changeOnce(ctx context.Context, c seckill.StockChange, by seckill.Author) (stockItem, bool, error) {
	item, err := tx.stockItem(ctx, c.Item)
	if err != nil {
		return item, false, err
	}
	earlier, found, err := findStockChange(ctx, tx, c.Item, c.Key)
	switch {
	case err != nil:
		return item, false, err
	case found && earlier != c:
		return item, false, fmt.Errorf("%w: it changed the total by %+d", seckill.ErrKeyReused, earlier.Delta)
	case found:
		return item, true, nil
	}
	_, err = tx.exec(ctx, "INSERT INTO stock_changes (item, key, delta, at) VALUES (?, ?, ?, ?)",
		int64(c.Item), c.Key, c.Delta, tx.now.UnixMicro())
	if err != nil {
		return item, false, err
	}
	record, err := seckill.RecordStock(item.activity, item.sku, c, item.total, item.total+c.Delta)
	if err != nil {
		return item, false, err
	}
	return item, false, tx.record(ctx, by, record)
}

// Withdraw implements seckill.StockStore. A repeat is recognized even if the epochs have changed:
// the units are gone.
func (s *Store) Withdraw(ctx context.Context, c seckill.StockChange, holds []seckill.Taken,
	by seckill.Author) (total int64, replayed bool, err error) {
	what := fmt.Sprintf("withdraw from item %d", c.Item)
	sum := c.Delta
	for i := range holds {
		if h := &holds[i].Hold; !seckill.IsWithdrawal(h.ID) || h.Item != c.Item || h.Quantity <= 0 {
			return 0, false, fmt.Errorf("%s: by the hold %+v", what, *h)
		}
		sum += int64(holds[i].Hold.Quantity)
	}
	if c.Delta >= 0 || sum != 0 {
		return 0, false, fmt.Errorf("%s: %+d units, with holds of %d", what, c.Delta, sum-c.Delta)
	}
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		item, again, err := tx.changeOnce(ctx, c, by)
		total, replayed = item.total, again
		if err != nil || replayed {
			return err
		}
		total += c.Delta
		for i := range holds {
			made, err := tx.takeUnits(ctx, &holds[i])
			if err == nil && !made {
				err = fmt.Errorf("hold %s: %w", holds[i].Hold.ID, seckill.ErrKeyReused)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return total, replayed, err
}

// takeUnits takes a hold's units out of its stock row, under the epoch of the hold, and leaves the
// hold's settlement in the outbox. made is false where that was done before.
func (tx *transaction) takeUnits(ctx context.Context, t *seckill.Taken) (made bool, err error) {
	var buried bool
	found, err := one(ctx, tx, "SELECT buried FROM withdrawals WHERE hold = ?", []any{t.Hold.ID}, &buried)
	switch {
	case err != nil:
		return false, err
	case found && buried:
		return false, fmt.Errorf("hold %s is buried: %w", t.Hold.ID, seckill.ErrNotFound)
	case found:
		return false, nil
	}
	if err := tx.atEpoch(ctx, t.Ref); err != nil {
		return false, err
	}
	if _, err := tx.insertWithdrawal(ctx, t.Ref.Shard, t.Hold, false); err != nil {
		return false, err
	}
	key := seckill.StockKey{Item: t.Hold.Item, Shard: t.Ref.Shard}
	n, err := tx.change(ctx, `UPDATE stock AS s SET total = total - ?3 WHERE item = ?1 AND shard = ?2
		AND open + sold + `+parkedOf+` <= total - ?3`, int64(key.Item), int64(key.Shard), t.Hold.Quantity)
	if err != nil {
		return false, err
	}
	if n == 0 {
		return false, tx.whyNotTaken(ctx, key)
	}
	return true, tx.insertOutbox(ctx, []seckill.Outgoing{seckill.SettleTaken(t, inventory.SettleSold)})
}

// whyNotTaken returns ErrTooLow with the row's counts, or ErrNotFound if there is no row.
func (tx *transaction) whyNotTaken(ctx context.Context, key seckill.StockKey) error {
	stock, err := tx.ledgers(ctx, []seckill.StockKey{key})
	if err != nil {
		return err
	}
	row := stock[key]
	if row == nil {
		return fmt.Errorf("item %d on shard %d: %w", key.Item, key.Shard, seckill.ErrNotFound)
	}
	return fmt.Errorf("%w: on shard %d, %d of %d are sold, ordered or parked",
		seckill.ErrTooLow, key.Shard, row.Open+row.Sold+row.Parked, row.Total)
}

// MoveUnits implements seckill.StockStore.
func (s *Store) MoveUnits(ctx context.Context, from seckill.Taken, to inventory.ShardID) error {
	what := fmt.Sprintf("move units of item %d from shard %d to shard %d", from.Hold.Item, from.Ref.Shard, to)
	if !seckill.IsWithdrawal(from.Hold.ID) || from.Hold.Quantity <= 0 || from.Ref.Shard == to {
		return fmt.Errorf("%s: by the hold %+v", what, from.Hold)
	}
	return s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		made, err := tx.takeUnits(ctx, &from)
		if err != nil || !made {
			return err
		}
		units := int64(from.Hold.Quantity)
		if err := tx.addTotal(ctx, seckill.StockKey{Item: from.Hold.Item, Shard: to}, units); err != nil {
			return err
		}
		return tx.insertOutbox(ctx, []seckill.Outgoing{seckill.AddUnits(from.Hold.Item, to, from.Hold.ID, units)})
	})
}

// FindStockChange implements seckill.StockStore.
func (s *Store) FindStockChange(ctx context.Context, item inventory.ItemID, key string) (seckill.StockChange, bool, error) {
	var c seckill.StockChange
	found := false
	err := s.read(ctx, fmt.Sprintf("find a stock change of item %d", item), func(q *statements) (err error) {
		c, found, err = findStockChange(ctx, q, item, key)
		return err
	})
	return c, found, err
}

func findStockChange(ctx context.Context, q querier, item inventory.ItemID, key string) (seckill.StockChange, bool, error) {
	c := seckill.StockChange{Item: item, Key: key}
	found, err := one(ctx, q, "SELECT delta FROM stock_changes WHERE item = ? AND key = ?", []any{int64(item), key}, &c.Delta)
	if err != nil || !found {
		return seckill.StockChange{}, false, err
	}
	return c, true, nil
}

// bookColumns are the columns for a stock row s of an item i of an activity a. Its outbox rows are
// summed up per row: the outbox is short, or its index is used.
const bookColumns = `s.item, i.sku, s.shard, (SELECT epoch FROM shards WHERE id = s.shard), a.published,
	s.total, s.open, s.sold, ` + parkedOf + `,
	(SELECT ifnull(sum(quantity), 0) FROM outbox WHERE shard = s.shard AND item = s.item AND stock = 0),
	(SELECT ifnull(sum(CASE WHEN kind IN ('restock', 'publish') THEN quantity WHEN kind = 'sold' THEN -quantity ELSE 0 END), 0)
		FROM outbox WHERE shard = s.shard AND item = s.item AND stock = 1),
	s.skipped, s.rejected`

func scanBook(rows *sql.Rows) (seckill.Book, error) {
	var b seckill.Book
	err := rows.Scan(&b.Item, &b.SKU, &b.Shard, &b.Epoch, &b.Published, &b.Total, &b.Open, &b.Sold, &b.Parked,
		&b.PendingUnits, &b.PendingStock, &b.Skipped, &b.Rejected)
	return b, err
}

// books reads the books that a query selects. One statement sees one moment.
func (s *Store) books(ctx context.Context, what, query string, args ...any) ([]seckill.Book, error) {
	var out []seckill.Book
	err := s.read(ctx, what, func(q *statements) error {
		rows, err := q.query(ctx, query, args...)
		return each(rows, err, func(rows *sql.Rows) error {
			b, err := scanBook(rows)
			out = append(out, b)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

const (
	booksOfActivity = "SELECT " + bookColumns + ` FROM items AS i CROSS JOIN activities AS a ON a.id = i.activity
		CROSS JOIN stock AS s ON s.item = i.id WHERE i.activity = ? ORDER BY i.position, s.shard`
	booksOfShard = "SELECT " + bookColumns + ` FROM stock AS s CROSS JOIN items AS i ON i.id = s.item
		CROSS JOIN activities AS a ON a.id = i.activity WHERE s.shard = ? AND s.item > ? ORDER BY s.item LIMIT ?`
)

// ActivityBooks implements seckill.StockStore. The books of an item come in the order of its
// shards' ids.
func (s *Store) ActivityBooks(ctx context.Context, id seckill.ActivityID) ([]seckill.Book, error) {
	return s.books(ctx, "read the books of activity "+string(id), booksOfActivity, string(id))
}

// ShardBooks implements seckill.StockStore.
func (s *Store) ShardBooks(ctx context.Context, shard inventory.ShardID, after inventory.ItemID, limit int) ([]seckill.Book, error) {
	return s.books(ctx, fmt.Sprintf("read the books of shard %d", shard), booksOfShard, int64(shard), int64(after), max(limit, 0))
}

// ShardSums implements seckill.StockStore.
func (s *Store) ShardSums(ctx context.Context, shard inventory.ShardID) (seckill.ShardSums, error) {
	sums := seckill.ShardSums{Ref: inventory.Ref{Shard: shard}}
	err := s.read(ctx, fmt.Sprintf("read the sums of shard %d", shard), func(q *statements) error {
		ok, err := one(ctx, q, `SELECT s.epoch, d.open, d.sold, (SELECT count(*) FROM outbox WHERE outbox.shard = s.id)
			FROM shards AS s CROSS JOIN shard_digests AS d ON d.shard = s.id WHERE s.id = ?`, []any{int64(shard)},
			&sums.Ref.Epoch, &sums.Open, &sums.Sold, &sums.Pending)
		if err == nil && !ok {
			return seckill.ErrNotFound
		}
		return err
	})
	return sums, err
}

// Unpublished implements seckill.StockStore.
func (s *Store) Unpublished(ctx context.Context, id seckill.ActivityID) (int, error) {
	n := 0
	err := s.read(ctx, "count what activity "+string(id)+" has still to publish", func(q *statements) error {
		_, err := one(ctx, q, `SELECT count(*) FROM outbox CROSS JOIN items ON items.id = outbox.item
			WHERE outbox.kind = 'publish' AND items.activity = ?`, []any{string(id)}, &n)
		return err
	})
	return n, err
}
