package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"penstock/inventory"
	"penstock/seckill"
)

// LockItem implements seckill.StockStore. One process has the file, so the lock is a set in its memory.
func (s *Store) LockItem(ctx context.Context, item inventory.ItemID) (func(), bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, false, fmt.Errorf("lock item %d: %w", item, err)
	}
	s.locks.Lock()
	defer s.locks.Unlock()
	if s.locked[item] {
		return nil, false, nil
	}
	s.locked[item] = true
	return sync.OnceFunc(func() {
		s.locks.Lock()
		defer s.locks.Unlock()
		delete(s.locked, item)
	}), true, nil
}

// NextEpoch implements seckill.StockStore.
func (s *Store) NextEpoch(ctx context.Context, item inventory.ItemID) (inventory.Epoch, error) {
	var epoch inventory.Epoch
	err := s.write(ctx, fmt.Sprintf("take the next epoch of item %d", item), func(ctx context.Context, tx *transaction) error {
		ok, err := one(ctx, tx, "UPDATE items SET next_epoch = next_epoch + 1 WHERE id = ? RETURNING next_epoch",
			[]any{int64(item)}, &epoch)
		if err == nil && !ok {
			return seckill.ErrNotFound
		}
		return err
	})
	return epoch, err
}

// Fence implements seckill.StockStore. The snapshot is pinned before another write can follow the fence, and read when the
// writer is free again: a rebuild of a million orders keeps nobody waiting.
func (s *Store) Fence(ctx context.Context, ref inventory.Ref) (seckill.StockSnapshot, error) {
	what := fmt.Sprintf("fence item %d with epoch %d", ref.Item, ref.Epoch)
	if !s.enter() {
		return seckill.StockSnapshot{}, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.leave()
	var sn snapshot
	err := s.inTurn(ctx,
		func(ctx context.Context, tx *transaction) error { return tx.fence(ctx, ref) },
		func(ctx context.Context) (err error) {
			sn, err = s.beginSnapshot(ctx)
			return err
		})
	if err != nil {
		return seckill.StockSnapshot{}, describe(what, err)
	}
	out, err := readStock(ctx, sn, ref.Item)
	if err := errors.Join(err, sn.end()); err != nil {
		return seckill.StockSnapshot{}, describe(what, err)
	}
	return out, nil
}

func (tx *transaction) fence(ctx context.Context, ref inventory.Ref) error {
	var epoch inventory.Epoch
	ok, err := one(ctx, tx, "SELECT epoch FROM items WHERE id = ?", []any{int64(ref.Item)}, &epoch)
	switch {
	case err != nil:
		return err
	case !ok:
		return errNoItem(ref.Item)
	case epoch > ref.Epoch:
		return fmt.Errorf("%w: it is %d", seckill.ErrFenced, epoch)
	}
	if _, err := tx.exec(ctx, "DELETE FROM outbox WHERE item = ? AND stock = 1", int64(ref.Item)); err != nil {
		return err
	}
	if epoch == ref.Epoch {
		return nil // a repeat
	}
	_, err = tx.exec(ctx, "UPDATE items SET epoch = ?1, next_epoch = max(next_epoch, ?1) WHERE id = ?2",
		int64(ref.Epoch), int64(ref.Item))
	if err != nil {
		return err
	}
	return tx.raiseVersion(ctx)
}

// The holds of an item that have an order, and those that had or were to have a withdrawal.
const (
	holdsOfOrders      = "SELECT id, user, quantity, units FROM orders WHERE id BETWEEN ? AND ?"
	holdsOfWithdrawals = `SELECT hold, '', -delta, 'sold' FROM stock_changes WHERE item = ?1 AND hold <> ''
		UNION ALL SELECT hold, '', quantity, 'void' FROM withdrawal_tombstones WHERE item = ?1`
)

// readStock reads an item and all its holds: orders, and withdrawals with their tombstones.
func readStock(ctx context.Context, sn snapshot, item inventory.ItemID) (seckill.StockSnapshot, error) {
	var out seckill.StockSnapshot
	_, err := one(ctx, sn, "SELECT total, open, sold FROM items WHERE id = ?", []any{int64(item)}, &out.Total, &out.Open, &out.Sold)
	if err != nil {
		return out, err
	}
	scan := func(rows *sql.Rows) error {
		var e inventory.Entry
		var units seckill.UnitState
		if err := rows.Scan(&e.ID, &e.Buyer, &e.Quantity, &units); err != nil {
			return err
		}
		switch units {
		case seckill.UnitsOpen:
			e.State = inventory.Ordered
		case seckill.UnitsSold:
			e.State = inventory.Sold
		default:
			e.State = inventory.Void
		}
		out.Entries = append(out.Entries, e)
		return nil
	}
	rows, err := sn.query(ctx, holdsOfOrders, string(firstOrderID(item)), string(lastOrderID(item)))
	if err := each(rows, err, scan); err != nil {
		return out, err
	}
	rows, err = sn.query(ctx, holdsOfWithdrawals, int64(item))
	return out, each(rows, err, scan)
}

// MarkSuspect implements seckill.StockStore.
func (s *Store) MarkSuspect(ctx context.Context, ref inventory.Ref) error {
	return s.write(ctx, fmt.Sprintf("mark item %d suspect", ref.Item), func(ctx context.Context, tx *transaction) error {
		n, err := tx.change(ctx, "UPDATE items SET suspect_epoch = epoch WHERE id = ? AND epoch = ? AND suspect_epoch <> epoch",
			int64(ref.Item), int64(ref.Epoch))
		if err != nil || n == 0 {
			return err
		}
		return tx.raiseVersion(ctx)
	})
}

// Restock implements seckill.StockStore.
func (s *Store) Restock(ctx context.Context, c seckill.StockChange, by seckill.Author) (total int64, replayed bool, err error) {
	what := fmt.Sprintf("restock item %d", c.Item)
	if c.Delta <= 0 {
		return 0, false, fmt.Errorf("%s: by %d units", what, c.Delta)
	}
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		total, replayed, err = tx.replayStock(ctx, c)
		if err != nil || replayed {
			return err
		}
		before := total
		total += c.Delta
		if err := tx.changeStock(ctx, c, "", before, total, by); err != nil {
			return err
		}
		return insertOutbox(ctx, tx, []outboxRow{{item: c.Item, kind: outboxRestock, stock: true, name: c.Key, quantity: int(c.Delta)}})
	})
	return total, replayed, err
}

// Withdraw implements seckill.StockStore. A repeat is told so whatever the epoch is by then: the units are gone.
func (s *Store) Withdraw(ctx context.Context, ref inventory.Ref, hold string, c seckill.StockChange,
	by seckill.Author) (total int64, replayed bool, err error) {
	what := fmt.Sprintf("withdraw from item %d in epoch %d", ref.Item, ref.Epoch)
	if c.Delta >= 0 || c.Item != ref.Item || !seckill.IsWithdrawal(hold) {
		return 0, false, fmt.Errorf("%s: %d units of item %d by hold %q", what, c.Delta, c.Item, hold)
	}
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		total, replayed, err = tx.replayStock(ctx, c)
		if err != nil || replayed {
			return err
		}
		item, err := tx.ledgerAt(ctx, ref)
		if err != nil {
			return err
		}
		buried, err := exists(ctx, tx, "SELECT 1 FROM withdrawal_tombstones WHERE item = ? AND hold = ?", int64(c.Item), hold)
		switch {
		case err != nil:
			return err
		case buried:
			return fmt.Errorf("hold %s is buried: %w", hold, seckill.ErrNotFound)
		case item.Total+c.Delta < item.Open+item.Sold:
			return fmt.Errorf("%w: %d of %d are sold or ordered", seckill.ErrTooLow, item.Open+item.Sold, item.Total)
		}
		total = item.Total + c.Delta
		if err := tx.changeStock(ctx, c, hold, item.Total, total, by); err != nil {
			return err
		}
		return insertOutbox(ctx, tx, []outboxRow{{item: c.Item, kind: outboxSold, stock: true, name: hold, quantity: int(-c.Delta)}})
	})
	return total, replayed, err
}

// replayStock returns the item's total, and whether the change was made before under its key.
func (tx *transaction) replayStock(ctx context.Context, c seckill.StockChange) (total int64, replayed bool, err error) {
	ok, err := one(ctx, tx, "SELECT total FROM items WHERE id = ?", []any{int64(c.Item)}, &total)
	if err != nil {
		return 0, false, err
	}
	if !ok {
		return 0, false, errNoItem(c.Item)
	}
	earlier, found, err := findStockChange(ctx, tx, c.Item, c.Key)
	switch {
	case err != nil:
		return 0, false, err
	case found && earlier != c:
		return 0, false, fmt.Errorf("%w: it changed the total by %+d", seckill.ErrKeyReused, earlier.Delta)
	}
	return total, found, nil
}

// changeStock keeps a change and writes the new total.
func (tx *transaction) changeStock(ctx context.Context, c seckill.StockChange, hold string, before, after int64,
	by seckill.Author) error {
	_, err := tx.exec(ctx, "INSERT INTO stock_changes (item, key, delta, hold, at) VALUES (?, ?, ?, ?, ?)",
		int64(c.Item), c.Key, c.Delta, hold, tx.now.UnixMicro())
	if err != nil {
		return err
	}
	if _, err := tx.exec(ctx, "UPDATE items SET total = ? WHERE id = ?", after, int64(c.Item)); err != nil {
		return err
	}
	var activity, sku string
	if _, err := one(ctx, tx, "SELECT activity, sku FROM items WHERE id = ?", []any{int64(c.Item)}, &activity, &sku); err != nil {
		return err
	}
	return tx.recordCatalog(ctx, by, kindStock, activity+"/"+sku, stockLevel{c.Item, before}, stockChange{c, after})
}

// FindStockChange implements seckill.StockStore.
func (s *Store) FindStockChange(ctx context.Context, item inventory.ItemID, key string) (seckill.StockChange, bool, error) {
	var c seckill.StockChange
	found := false
	err := s.read(ctx, fmt.Sprintf("find a stock change of item %d", item), func(q *statements) error {
		var err error
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

// Books implements seckill.StockStore.
func (s *Store) Books(ctx context.Context, id seckill.ActivityID) ([]seckill.Book, error) {
	var out []seckill.Book
	err := s.readSnapshot(ctx, "read the books of activity "+string(id), func(sn snapshot) error {
		rows, err := sn.query(ctx, `WITH pending AS (
				SELECT item, sum(iif(stock, 0, quantity)) AS units,
					sum(CASE WHEN kind = 'restock' THEN quantity WHEN stock AND kind = 'sold' THEN -quantity ELSE 0 END) AS stock
				FROM outbox GROUP BY item)
			SELECT i.id, i.sku, i.epoch, i.total, i.open, i.sold, ifnull(p.units, 0), ifnull(p.stock, 0), i.skipped, i.rejected
			FROM items AS i LEFT JOIN pending AS p ON p.item = i.id WHERE i.activity = ? ORDER BY i.position`, string(id))
		return each(rows, err, func(rows *sql.Rows) error {
			var b seckill.Book
			err := rows.Scan(&b.Item, &b.SKU, &b.Epoch, &b.Total, &b.Open, &b.Sold, &b.PendingUnits, &b.PendingStock,
				&b.Skipped, &b.Rejected)
			out = append(out, b)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
