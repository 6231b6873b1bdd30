package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"penstock/inventory"
	"penstock/seckill"
)

// NextEpoch implements seckill.StockStore.
func (s *Store) NextEpoch(ctx context.Context, item inventory.ItemID) (inventory.Epoch, error) {
	var epoch int64
	err := s.write(ctx, fmt.Sprintf("take the next epoch of item %d", item), func(ctx context.Context, tx *transaction) error {
		ok, err := tx.one(ctx, "UPDATE items SET next_epoch = greatest(next_epoch, epoch) + 1 WHERE id = $1 RETURNING next_epoch",
			[]any{int64(item)}, &epoch)
		if err == nil && !ok {
			return seckill.ErrNotFound
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return inventory.Epoch(epoch), nil
}

// Fence implements seckill.StockStore. While the fence has the item's row, no order of the item can end or begin: another
// connection pins that state, and reads it when the row is free again. So a rebuild of a million orders keeps nobody waiting.
func (s *Store) Fence(ctx context.Context, ref inventory.Ref) (seckill.StockSnapshot, error) {
	var out seckill.StockSnapshot
	what := fmt.Sprintf("fence item %d with epoch %d", ref.Item, ref.Epoch)
	if !s.enter() {
		return out, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.leave()
	if err := s.park(ctx); err != nil { // two connections at once
		return out, describe(what, err)
	}
	defer s.unpark()
	err := s.retry(ctx, what, func() (err error) {
		conn, err := s.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		out, err = s.fence(ctx, conn, ref)
		return err
	})
	if err != nil {
		return seckill.StockSnapshot{}, describe(what, err)
	}
	return out, nil
}

// fence fences the item, and reads it on conn.
func (s *Store) fence(ctx context.Context, conn *pgxpool.Conn, ref inventory.Ref) (out seckill.StockSnapshot, err error) {
	p := newPipe(conn.Conn())
	defer func() { err = errors.Join(err, p.rollback(ctx)) }() // it has written nothing
	sales, err := s.salesOf(ctx, p, []inventory.ItemID{ref.Item})
	if err != nil {
		return out, err
	}
	err = s.try(ctx, func(ctx context.Context, tx *transaction) error {
		if err := tx.fence(ctx, ref); err != nil {
			return err
		}
		p.exec(beginSnapshot)
		_, err := p.one(ctx, "SELECT total, open, sold FROM items WHERE id = $1", []any{int64(ref.Item)}, &out.Total, &out.Open, &out.Sold)
		return err
	})
	if err != nil {
		return out, err
	}
	out.Entries, err = readEntries(ctx, p, ref.Item, sales[ref.Item])
	return out, err
}

func (tx *transaction) fence(ctx context.Context, ref inventory.Ref) error {
	var epoch int64
	ok, err := tx.one(ctx, "SELECT epoch FROM items WHERE id = $1 FOR NO KEY UPDATE", []any{int64(ref.Item)}, &epoch)
	switch {
	case err != nil:
		return err
	case !ok:
		return errNoItem(ref.Item)
	case epoch > int64(ref.Epoch):
		return fmt.Errorf("%w: it is %d", seckill.ErrFenced, epoch)
	}
	tx.exec("DELETE FROM outbox WHERE item = $1 AND stock", int64(ref.Item))
	if epoch < int64(ref.Epoch) { // else it is a repeat
		tx.exec("UPDATE items SET epoch = $1, next_epoch = greatest(next_epoch, $1) WHERE id = $2", int64(ref.Epoch), int64(ref.Item))
		tx.raiseVersion()
	}
	return tx.flush(ctx)
}

// fencePage is how many orders one statement of a fence reads: enough to make round trips cheap, few enough for its timeout.
const fencePage = 50_000

// The holds of an item that have an order, and those that had or were to have a withdrawal.
const (
	holdsOfOrders = `SELECT id, "user", quantity, units FROM orders WHERE sale = $1 AND item = $2 AND id > $3
		ORDER BY id LIMIT $4`
	holdsOfWithdrawals = `SELECT hold, '', (-delta)::int, 'sold' FROM stock_changes WHERE item = $1 AND hold <> ''
		UNION ALL SELECT hold, '', quantity, 'void' FROM withdrawal_tombstones WHERE item = $1`
)

// readEntries reads all holds of an item: orders page by page, and withdrawals with their tombstones. All orders of an item
// have ids that begin with the item, so a page is a range of the primary key.
func readEntries(ctx context.Context, p *pipe, item inventory.ItemID, sale int32) ([]inventory.Entry, error) {
	var out []inventory.Entry
	scan := func(rows pgx.Rows) error {
		var e inventory.Entry
		var units string
		if err := rows.Scan(&e.ID, &e.Buyer, &e.Quantity, &units); err != nil {
			return err
		}
		switch seckill.UnitState(units) {
		case seckill.UnitsOpen:
			e.State = inventory.Ordered
		case seckill.UnitsSold:
			e.State = inventory.Sold
		default:
			e.State = inventory.Void
		}
		out = append(out, e)
		return nil
	}
	for last, before := "", -1; len(out) > before; {
		before = len(out)
		p.each(scan, holdsOfOrders, sale, int64(item), last, fencePage)
		if err := p.flush(ctx); err != nil {
			return nil, err
		}
		if len(out) > before {
			last = out[len(out)-1].ID
		}
	}
	p.each(scan, holdsOfWithdrawals, int64(item))
	return out, p.flush(ctx)
}

// MarkSuspect implements seckill.StockStore.
func (s *Store) MarkSuspect(ctx context.Context, ref inventory.Ref) error {
	return s.write(ctx, fmt.Sprintf("mark item %d suspect", ref.Item), func(ctx context.Context, tx *transaction) error {
		n, err := tx.change(ctx, "UPDATE items SET suspect_epoch = epoch WHERE id = $1 AND epoch = $2 AND suspect_epoch <> epoch",
			int64(ref.Item), int64(ref.Epoch))
		if err == nil && n > 0 {
			tx.raiseVersion()
		}
		return err
	})
}

// Restock implements seckill.StockStore.
func (s *Store) Restock(ctx context.Context, c seckill.StockChange, by seckill.Author) (total int64, replayed bool, err error) {
	what := fmt.Sprintf("restock item %d", c.Item)
	if c.Delta <= 0 {
		return 0, false, fmt.Errorf("%s: by %d units", what, c.Delta)
	}
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		var item *seckill.Ledger
		item, replayed, err = tx.lockForChange(ctx, c)
		if err != nil {
			return err
		}
		total = item.Total
		if replayed {
			return nil
		}
		total += c.Delta
		insertOutbox(tx, []outboxRow{{item: c.Item, kind: outboxRestock, stock: true, name: c.Key, quantity: int(c.Delta)}})
		return tx.changeStock(c, "", item, by)
	})
	if err != nil {
		return 0, false, err
	}
	return total, replayed, nil
}

// Withdraw implements seckill.StockStore. A repeat is told so whatever the epoch is by then: the units are gone.
func (s *Store) Withdraw(ctx context.Context, ref inventory.Ref, hold string, c seckill.StockChange,
	by seckill.Author) (total int64, replayed bool, err error) {
	what := fmt.Sprintf("withdraw from item %d in epoch %d", ref.Item, ref.Epoch)
	if c.Delta >= 0 || c.Item != ref.Item || !seckill.IsWithdrawal(hold) {
		return 0, false, fmt.Errorf("%s: %d units of item %d by hold %q", what, c.Delta, c.Item, hold)
	}
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		var item *seckill.Ledger
		item, replayed, err = tx.lockForChange(ctx, c)
		if err != nil {
			return err
		}
		total = item.Total
		if replayed {
			return nil
		}
		if item.Epoch != ref.Epoch {
			return fmt.Errorf("%w: it is %d", seckill.ErrFenced, item.Epoch)
		}
		buried, err := tx.exists(ctx, "SELECT FROM withdrawal_tombstones WHERE item = $1 AND hold = $2", int64(c.Item), hold)
		switch {
		case err != nil:
			return err
		case buried:
			return fmt.Errorf("hold %s is buried: %w", hold, seckill.ErrNotFound)
		case item.Total+c.Delta < item.Open+item.Sold:
			return fmt.Errorf("%w: %d of %d are sold or ordered", seckill.ErrTooLow, item.Open+item.Sold, item.Total)
		}
		total += c.Delta
		insertOutbox(tx, []outboxRow{{item: c.Item, kind: outboxSold, stock: true, name: hold, quantity: int(-c.Delta)}})
		return tx.changeStock(c, hold, item, by)
	})
	if err != nil {
		return 0, false, err
	}
	return total, replayed, nil
}

// lockForChange locks the item of a stock change, and reports whether the change was made before under its key.
func (tx *transaction) lockForChange(ctx context.Context, c seckill.StockChange) (item *seckill.Ledger, replayed bool, err error) {
	items := lockItems(tx.pipe, map[inventory.ItemID]int32{c.Item: 0})
	tx.readClock()
	earlier, found, err := findStockChange(ctx, tx.pipe, c.Item, c.Key)
	switch {
	case err != nil:
		return nil, false, err
	case items[c.Item] == nil:
		return nil, false, errNoItem(c.Item)
	case found && earlier != c:
		return nil, false, fmt.Errorf("%w: it changed the total by %+d", seckill.ErrKeyReused, earlier.Delta)
	}
	return items[c.Item], found, nil
}

// changeStock queues a change and the new total.
func (tx *transaction) changeStock(c seckill.StockChange, hold string, item *seckill.Ledger, by seckill.Author) error {
	tx.exec("INSERT INTO stock_changes (item, key, delta, hold, at) VALUES ($1, $2, $3, $4, $5)",
		int64(c.Item), c.Key, c.Delta, hold, tx.now)
	after := item.Total + c.Delta
	tx.exec("UPDATE items SET total = $1 WHERE id = $2", after, int64(c.Item))
	key := string(item.Activity) + "/" + string(item.SKU)
	return tx.recordCatalog(by, kindStock, key, stockLevel{c.Item, item.Total}, stockChange{c, after})
}

// FindStockChange implements seckill.StockStore.
func (s *Store) FindStockChange(ctx context.Context, item inventory.ItemID, key string) (seckill.StockChange, bool, error) {
	var c seckill.StockChange
	found := false
	err := s.read(ctx, fmt.Sprintf("find a stock change of item %d", item), func(ctx context.Context, p *pipe) (err error) {
		c, found, err = findStockChange(ctx, p, item, key)
		return err
	})
	return c, found, err
}

func findStockChange(ctx context.Context, p *pipe, item inventory.ItemID, key string) (seckill.StockChange, bool, error) {
	c := seckill.StockChange{Item: item, Key: key}
	found, err := p.one(ctx, "SELECT delta FROM stock_changes WHERE item = $1 AND key = $2", []any{int64(item), key}, &c.Delta)
	if err != nil || !found {
		return seckill.StockChange{}, false, err
	}
	return c, true, nil
}

// books has the books of an activity's items, and what the outbox still has to say of each.
const books = `SELECT i.id, i.sku, i.epoch, i.total, i.open, i.sold,
		coalesce(sum(o.quantity) FILTER (WHERE NOT o.stock), 0),
		coalesce(sum(CASE WHEN o.kind = 'restock' THEN o.quantity WHEN o.stock AND o.kind = 'sold' THEN -o.quantity END), 0),
		i.skipped, i.rejected
	FROM activities AS a JOIN items AS i USING (sale) LEFT JOIN outbox AS o ON o.item = i.id
	WHERE a.id = $1 GROUP BY i.id ORDER BY i.position`

// Books implements seckill.StockStore. One statement sees one state.
func (s *Store) Books(ctx context.Context, id seckill.ActivityID) ([]seckill.Book, error) {
	var out []seckill.Book
	err := s.read(ctx, "read the books of activity "+string(id), func(ctx context.Context, p *pipe) error {
		out = nil
		p.each(func(rows pgx.Rows) error {
			var b seckill.Book
			var item, epoch int64
			err := rows.Scan(&item, (*string)(&b.SKU), &epoch, &b.Total, &b.Open, &b.Sold, &b.PendingUnits, &b.PendingStock,
				&b.Skipped, &b.Rejected)
			b.Item, b.Epoch = inventory.ItemID(item), inventory.Epoch(epoch)
			out = append(out, b)
			return err
		}, books, string(id))
		return p.flush(ctx)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
