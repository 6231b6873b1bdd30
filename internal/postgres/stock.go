package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// stockItem is an item whose totals should change, with its rows in the order of its shards, all
// locked.
type stockItem struct {
	activity  seckill.ActivityID
	sku       seckill.SKU
	spread    int
	published bool
	rows      map[inventory.ShardID]*stockRow
}

type stockRow struct{ total, used int64 }

func (i *stockItem) total() (sum int64) {
	for _, row := range i.rows {
		sum += row.total
	}
	return sum
}

// lockItem queues the locking of all stock rows of an item.
func (tx *transaction) lockItem(item inventory.ItemID) *stockItem {
	it := &stockItem{rows: make(map[inventory.ShardID]*stockRow)}
	tx.lock(func(rows pgx.Rows) error {
		row := new(stockRow)
		var shard int32
		err := rows.Scan(&shard, &row.total, &row.used, (*string)(&it.activity), (*string)(&it.sku), &it.spread, &it.published)
		it.rows[inventory.ShardID(shard)] = row
		return err
	}, `SELECT s.shard, s.total, s.open + s.sold, a.id, i.sku, i.spread, a.published
		FROM stock AS s JOIN items AS i ON i.id = s.item JOIN activities AS a USING (sale)
		WHERE s.item = $1 ORDER BY s.shard FOR NO KEY UPDATE OF s`, int64(item))
	tx.each(func(rows pgx.Rows) error {
		var shard int32
		var parked int64
		err := rows.Scan(&shard, &parked)
		if row := it.rows[inventory.ShardID(shard)]; row != nil {
			row.used += parked
		}
		return err
	}, "SELECT shard, parked FROM stock_exceptions WHERE item = $1", int64(item))
	return it
}

// lockForChange locks the item of a stock change, and reports whether the change was made before
// under its key.
func (tx *transaction) lockForChange(ctx context.Context, c seckill.StockChange) (it *stockItem, replayed bool, err error) {
	it = tx.lockItem(c.Item)
	tx.readClock()
	earlier, found, err := findStockChange(ctx, tx.pipe, c.Item, c.Key)
	switch {
	case err != nil:
		return nil, false, err
	case len(it.rows) == 0:
		return nil, false, errNoItem(c.Item)
	case found && earlier != c:
		return nil, false, fmt.Errorf("%w: it changed the total by %+d", seckill.ErrKeyReused, earlier.Delta)
	}
	return it, found, nil
}

func errNoItem(item inventory.ItemID) error {
	return fmt.Errorf("item %d: %w", item, seckill.ErrNotFound)
}

// changeStock queues a change: new totals, and its record.
func (tx *transaction) changeStock(c seckill.StockChange, it *stockItem, deltas map[inventory.ShardID]int64, by seckill.Author) error {
	before := it.total()
	tx.exec("INSERT INTO stock_changes (item, key, delta, at) VALUES ($1, $2, $3, $4)",
		int64(c.Item), c.Key, c.Delta, tx.now)
	tx.addTotals(c.Item, deltas)
	r, err := seckill.RecordStock(it.activity, it.sku, c, before, before+c.Delta)
	if err != nil {
		return err
	}
	tx.record(by, r)
	return nil
}

func (tx *transaction) addTotals(item inventory.ItemID, deltas map[inventory.ShardID]int64) {
	for _, shard := range inOrder(deltas) {
		tx.exec("UPDATE stock SET total = total + $3 WHERE item = $1 AND shard = $2", int64(item), int32(shard), deltas[shard])
	}
}

// Restock implements seckill.StockStore. Units of a draft go on sale when it is published.
func (s *Store) Restock(ctx context.Context, c seckill.StockChange, by seckill.Author) (total int64, replayed bool, err error) {
	what := fmt.Sprintf("restock item %d", c.Item)
	if c.Delta <= 0 {
		return 0, false, fmt.Errorf("%s: by %d units", what, c.Delta)
	}
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		var it *stockItem
		it, replayed, err = tx.lockForChange(ctx, c)
		if err != nil {
			return err
		}
		total = it.total()
		if replayed {
			return nil
		}
		if total, err = seckill.Raise(total, c.Delta); err != nil {
			return err
		}
		deltas := make(map[inventory.ShardID]int64)
		var rows []seckill.Outgoing
		for i := range it.spread {
			shard, units := inventory.ShardAt(c.Item, i, s.shards), seckill.Share(c.Delta, i, it.spread)
			if units == 0 {
				break
			}
			deltas[shard] = units
			if it.published {
				rows = append(rows, seckill.AddUnits(c.Item, shard, c.Key, units))
			}
		}
		insertOutbox(tx, rows)
		return tx.changeStock(c, it, deltas, by)
	})
	if err != nil {
		return 0, false, err
	}
	return total, replayed, nil
}

// Withdraw implements seckill.StockStore. A repeat is recognized even if the epochs have changed:
// the units are gone.
func (s *Store) Withdraw(ctx context.Context, c seckill.StockChange, holds []seckill.Taken,
	by seckill.Author) (total int64, replayed bool, err error) {
	what := fmt.Sprintf("withdraw from item %d", c.Item)
	if err := checkTaken(c, holds); err != nil {
		return 0, false, describe(what, err)
	}
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		current := queueTaken(tx.pipe, holds)
		var it *stockItem
		it, replayed, err = tx.lockForChange(ctx, c)
		if err != nil {
			return err
		}
		total = it.total()
		if replayed {
			return nil
		}
		total += c.Delta
		deltas := make(map[inventory.ShardID]int64)
		var rows []seckill.Outgoing
		for i := range holds {
			t := &holds[i]
			deltas[t.Ref.Shard] -= int64(t.Hold.Quantity)
			rows = append(rows, seckill.SettleTaken(t, inventory.SettleSold))
			insertWithdrawal(tx, &t.Hold, t.Ref.Shard, false)
		}
		if err := current.check(it, holds, deltas); err != nil {
			return err
		}
		insertOutbox(tx, rows)
		return tx.changeStock(c, it, deltas, by)
	})
	if err != nil {
		return 0, false, err
	}
	return total, replayed, nil
}

func checkTaken(c seckill.StockChange, holds []seckill.Taken) error {
	sum := int64(0)
	for i := range holds {
		h := &holds[i].Hold
		if h.Item != c.Item || h.Quantity <= 0 || !seckill.IsWithdrawal(h.ID) {
			return fmt.Errorf("%d units of item %d by hold %q", h.Quantity, h.Item, h.ID)
		}
		sum += int64(h.Quantity)
	}
	if sum == 0 || sum != -c.Delta {
		return fmt.Errorf("%d units are held for a change of %+d", sum, c.Delta)
	}
	return nil
}

// taken has the rows that were read for holds by the shop.
type taken struct {
	epochs map[inventory.ShardID]inventory.Epoch
	buried map[string]bool // withdrawals that there are: whether they are buried
}

// queueTaken locks the shards' rows, and reads the rows of the holds. If a hold is buried after
// that, there is a conflict at the primary key, and the transaction begins again.
func queueTaken(p *pipe, holds []seckill.Taken) *taken {
	t := &taken{buried: make(map[string]bool)}
	var shards []int32
	var names []string
	for i := range holds {
		shards, names = append(shards, int32(holds[i].Ref.Shard)), append(names, holds[i].Hold.ID)
	}
	t.epochs = queueEpochs(p, "", shards)
	p.each(func(rows pgx.Rows) error {
		var hold string
		var buried bool
		err := rows.Scan(&hold, &buried)
		t.buried[hold] = buried
		return err
	}, "SELECT hold, buried FROM withdrawals WHERE hold = ANY($1)", names)
	return t
}

// check returns the reason why units can't be taken from their rows, if there is one.
func (t *taken) check(it *stockItem, holds []seckill.Taken, deltas map[inventory.ShardID]int64) error {
	for i := range holds {
		ref, hold := holds[i].Ref, holds[i].Hold.ID
		buried, known := t.buried[hold]
		switch epoch := t.epochs[ref.Shard]; {
		case buried:
			return fmt.Errorf("hold %s is buried: %w", hold, seckill.ErrNotFound)
		case known:
			return fmt.Errorf("hold %s: %w", hold, seckill.ErrKeyReused)
		case epoch != ref.Epoch:
			return fmt.Errorf("%w: the epoch of shard %d is %d", seckill.ErrFenced, ref.Shard, epoch)
		case it.rows[ref.Shard] == nil:
			return fmt.Errorf("shard %d: %w", ref.Shard, seckill.ErrNotFound)
		}
	}
	for shard, delta := range deltas {
		if row := it.rows[shard]; delta < 0 && row.total+delta < row.used {
			return fmt.Errorf("%w: %d of %d are sold or ordered", seckill.ErrTooLow, row.used, row.total)
		}
	}
	return nil
}

// insertWithdrawal queues the row of a hold by the shop. Its primary key decides between a
// withdrawal and its burial.
func insertWithdrawal(tx *transaction, h *inventory.Hold, shard inventory.ShardID, buried bool) {
	tx.exec("INSERT INTO withdrawals (hold, item, shard, quantity, buried, at) VALUES ($1, $2, $3, $4, $5, $6)",
		h.ID, int64(h.Item), int32(shard), int64(h.Quantity), buried, tx.now)
}

// MoveUnits implements seckill.StockStore.
func (s *Store) MoveUnits(ctx context.Context, from seckill.Taken, to inventory.ShardID) error {
	item, units := from.Hold.Item, int64(from.Hold.Quantity)
	what := fmt.Sprintf("move units of item %d from shard %d to %d", item, from.Ref.Shard, to)
	if units <= 0 || from.Ref.Shard == to || !seckill.IsWithdrawal(from.Hold.ID) {
		return fmt.Errorf("%s: %d units by hold %q", what, units, from.Hold.ID)
	}
	return s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		holds := []seckill.Taken{from}
		current := queueTaken(tx.pipe, holds)
		it := tx.lockItem(item)
		tx.readClock()
		if err := tx.flush(ctx); err != nil {
			return err
		}
		if buried, ok := current.buried[from.Hold.ID]; ok && !buried {
			return nil // it was moved before
		}
		if it.rows[to] == nil {
			return fmt.Errorf("shard %d: %w", to, seckill.ErrNotFound)
		}
		deltas := map[inventory.ShardID]int64{from.Ref.Shard: -units, to: units}
		if err := current.check(it, holds, deltas); err != nil {
			return err
		}
		insertWithdrawal(tx, &from.Hold, from.Ref.Shard, false)
		tx.addTotals(item, deltas)
		insertOutbox(tx, []seckill.Outgoing{seckill.SettleTaken(&from, inventory.SettleSold), seckill.AddUnits(item, to, from.Hold.ID, units)})
		return nil
	})
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
