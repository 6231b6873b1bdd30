package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// insertOrders writes new rows. A violated constraint is a bug and ends the transaction. With OR
// ROLLBACK, SQLite knows that before, and needs no copies of the touched pages to undo a single
// statement.
func (tx *transaction) insertOrders(ctx context.Context, orders []seckill.Order) error {
	const query = "INSERT OR ROLLBACK INTO orders (" + orderColumns +
		") VALUES {(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)}"
	return insert(ctx, tx.statements, query, orders, bindOrder)
}

// target is an order's new state. A batch has few targets, so its orders are written in few
// statements.
type target struct {
	state   seckill.OrderState
	reason  seckill.Reason
	units   seckill.UnitState
	updated int64
	ended   bool // at the time of the change
}

// writeChanges writes the changes that package seckill has decided.
func (tx *transaction) writeChanges(ctx context.Context, c *seckill.Changes) error {
	if err := tx.insertOrders(ctx, c.Inserted); err != nil {
		return err
	}
	moved := make(map[target][]seckill.OrderID)
	for i := range c.Updated {
		o := &c.Updated[i]
		t := target{o.State, o.Reason, o.Units, o.UpdatedAt.UnixMicro(), o.EndedAt.Equal(o.UpdatedAt)}
		moved[t] = append(moved[t], o.ID)
	}
	for t, ids := range moved {
		_, err := update(ctx, tx.statements,
			"UPDATE orders SET state = ?1, reason = ?2, units = ?3, updated_at = ?4, ended_at = iif(?5, ?4, ended_at) WHERE id IN ({?})",
			[]any{string(t.state), string(t.reason), string(t.units), t.updated, t.ended}, ids, text[seckill.OrderID])
		if err != nil {
			return err
		}
	}
	return tx.writeCounts(ctx, c)
}

// rewriteOrders is writeChanges for orders that were parked: more than their state may change, and
// an order may come twice.
func (tx *transaction) rewriteOrders(ctx context.Context, c *seckill.Changes) error {
	if err := tx.insertOrders(ctx, c.Inserted); err != nil {
		return err
	}
	for i := range c.Updated {
		o := &c.Updated[i]
		_, err := tx.exec(ctx, `UPDATE orders SET merchant = ?, caller = ?, activity = ?, sku = ?, user = ?, amount = ?,
			currency = ?, state = ?, reason = ?, units = ?, pay_by = ?, updated_at = ?, ended_at = ?, request = ?, node = ?, accepted = ?
			WHERE id = ?`,
			string(o.Caller.Merchant), string(o.Caller.Caller), string(o.Activity), string(o.SKU), string(o.User),
			o.Amount.Minor, o.Amount.Currency, string(o.State), string(o.Reason), string(o.Units), o.PayBy.UnixMicro(),
			o.UpdatedAt.UnixMicro(), micros(o.EndedAt), o.Request, o.Node, o.Accepted.UnixMicro(), string(o.ID))
		if err != nil {
			return err
		}
	}
	return tx.writeCounts(ctx, c)
}

// writeCounts writes all changes except those of the orders.
func (tx *transaction) writeCounts(ctx context.Context, c *seckill.Changes) error {
	if err := tx.writeStock(ctx, c.Stock); err != nil {
		return err
	}
	for _, shard := range slices.Sorted(maps.Keys(c.Shards)) {
		d := c.Shards[shard]
		_, err := tx.exec(ctx, "UPDATE shard_digests SET open = (open + ?2) % ?4, sold = (sold + ?3) % ?4 WHERE shard = ?1",
			int64(shard), int64(d.Open), int64(d.Sold), int64(inventory.DigestModulus))
		if err != nil {
			return err
		}
	}
	if err := insertSteps(ctx, tx, c.Steps); err != nil {
		return err
	}
	if err := tx.writePayments(ctx, c); err != nil {
		return err
	}
	return tx.insertOutbox(ctx, c.Outbox)
}

// stockDelta is the change of one row.
type stockDelta struct {
	seckill.StockKey
	seckill.StockDelta
}

// writeStock changes the counts of stock rows. Parked units are not stored: see the schema.
// Promises that are skipped, or rejected after they were parked, may have no row.
func (tx *transaction) writeStock(ctx context.Context, deltas map[seckill.StockKey]*seckill.StockDelta) error {
	var units, others []stockDelta
	for key, d := range deltas {
		switch {
		case d.Open != 0 || d.Sold != 0:
			units = append(units, stockDelta{key, *d})
		case d.Skipped != 0 || d.Rejected != 0:
			others = append(others, stockDelta{key, *d})
		}
	}
	n, err := tx.addStock(ctx, units)
	if err != nil {
		return err
	}
	if n != int64(len(units)) {
		return fmt.Errorf("%d of %d stock rows are missing", int64(len(units))-n, len(units))
	}
	_, err = tx.addStock(ctx, others)
	return err
}

func (tx *transaction) addStock(ctx context.Context, deltas []stockDelta) (int64, error) {
	slices.SortFunc(deltas, func(a, b stockDelta) int {
		return cmp.Or(cmp.Compare(a.Item, b.Item), cmp.Compare(a.Shard, b.Shard))
	})
	return update(ctx, tx.statements, `UPDATE stock SET open = open + d.column3, sold = sold + d.column4,
			skipped = skipped + d.column5, rejected = rejected + d.column6
		FROM (VALUES {(?,?,?,?,?,?)}) AS d WHERE stock.item = d.column1 AND stock.shard = d.column2`,
		nil, deltas, func(args []any, d *stockDelta) []any {
			return append(args, int64(d.Item), int64(d.Shard), d.Open, d.Sold, d.Skipped, d.Rejected)
		})
}
