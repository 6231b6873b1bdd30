package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

const orderColumns = `id, item, merchant, caller, activity, sku, user, quantity, amount, currency, state, reason, units,
	created_at, pay_by, updated_at, ended_at, shard, epoch, seq, "partition", "offset", request, node, accepted`

func scanOrder(rows *sql.Rows) (seckill.Order, error) {
	var o seckill.Order
	var created, payBy, updated, ended, seq, accepted int64
	err := rows.Scan(&o.ID, &o.Item, &o.Caller.Merchant, &o.Caller.Caller, &o.Activity, &o.SKU, &o.User, &o.Quantity,
		&o.Amount.Minor, &o.Amount.Currency, &o.State, &o.Reason, &o.Units, &created, &payBy, &updated, &ended,
		&o.Grant.Shard, &o.Grant.Epoch, &seq, &o.Grant.Partition, &o.Grant.Offset, &o.Request, &o.Node, &accepted)
	o.CreatedAt, o.PayBy, o.UpdatedAt = fromMicros(created), fromMicros(payBy), fromMicros(updated)
	o.Grant.Seq, o.Accepted, o.EndedAt = uint64(seq), fromMicros(accepted), orZero(ended)
	return o, err
}

func bindOrder(args []any, o *seckill.Order) []any {
	return append(args, string(o.ID), int64(o.Item), string(o.Caller.Merchant), string(o.Caller.Caller), string(o.Activity),
		string(o.SKU), string(o.User), int64(o.Quantity), o.Amount.Minor, o.Amount.Currency, string(o.State), string(o.Reason),
		string(o.Units), o.CreatedAt.UnixMicro(), o.PayBy.UnixMicro(), o.UpdatedAt.UnixMicro(), micros(o.EndedAt),
		int64(o.Grant.Shard), int64(o.Grant.Epoch), int64(o.Grant.Seq), int64(o.Grant.Partition), o.Grant.Offset,
		o.Request, o.Node, o.Accepted.UnixMicro())
}

// micros and orZero store the zero time as 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func orZero(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return fromMicros(us)
}

// findOrders returns the orders that exist.
func findOrders(ctx context.Context, q querier, ids []seckill.OrderID) (map[seckill.OrderID]seckill.Order, error) {
	found := make(map[seckill.OrderID]seckill.Order)
	const query = "SELECT " + orderColumns + " FROM (VALUES {(?)}) AS wanted CROSS JOIN orders ON orders.id = wanted.column1"
	err := lookup(ctx, q, query, nil, ids, text[seckill.OrderID], func(rows *sql.Rows) error {
		o, err := scanOrder(rows)
		found[o.ID] = o
		return err
	})
	return found, err
}

// FindOrders implements seckill.OrderStore.
func (s *Store) FindOrders(ctx context.Context, ids []seckill.OrderID) ([]seckill.Order, error) {
	out := make([]seckill.Order, len(ids))
	if len(ids) == 0 {
		return out, nil
	}
	err := s.read(ctx, "find orders", func(q *statements) error {
		found, err := findOrders(ctx, q, ids)
		for i, id := range ids {
			out[i] = found[id]
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// held reports whether the order has open units on a locked stock row, whose counts an event would
// change.
func (tx *transaction) held(o *seckill.Order) bool {
	return o.Units == seckill.UnitsOpen && tx.locked[o.Stock()]
}

// OrdersOf implements seckill.OrderStore.
func (s *Store) OrdersOf(ctx context.Context, item inventory.ItemID, after seckill.OrderID, limit int) ([]seckill.OrderID, error) {
	first, last := orderRange(item)
	var out []seckill.OrderID
	err := s.read(ctx, fmt.Sprintf("read the orders of item %d", item), func(q *statements) error {
		rows, err := q.query(ctx, "SELECT id FROM orders WHERE id BETWEEN ? AND ? AND id > ? ORDER BY id LIMIT ?",
			first, last, string(after), max(limit, 0))
		return each(rows, err, func(rows *sql.Rows) error {
			var id seckill.OrderID
			err := rows.Scan(&id)
			out = append(out, id)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Cancel implements seckill.OrderStore.
func (s *Store) Cancel(ctx context.Context, cancels []seckill.Cancellation) ([]seckill.Moved, error) {
	if len(cancels) == 0 {
		return nil, nil
	}
	var out []seckill.Moved
	err := s.write(ctx, "cancel orders", func(ctx context.Context, tx *transaction) error {
		ids := make([]seckill.OrderID, len(cancels))
		var keys []seckill.StockKey
		for i := range cancels {
			ids[i] = cancels[i].Order
			keys = append(keys, seckill.StockKey{Shard: cancels[i].Ref.Shard})
		}
		orders, err := findOrders(ctx, tx, ids)
		if err != nil {
			return err
		}
		epochs, err := tx.epochs(ctx, keys)
		if err != nil {
			return err
		}
		changes := seckill.NewChanges()
		out = make([]seckill.Moved, len(cancels))
		for i := range cancels {
			before := orders[cancels[i].Order].State
			out[i] = tx.cancel(&cancels[i], orders, epochs, changes)
			if err := tx.recordCancel(ctx, &cancels[i], before, &out[i]); err != nil {
				return err
			}
		}
		return tx.writeChanges(ctx, changes)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// cancel decides one cancellation, and updates the order.
func (tx *transaction) cancel(c *seckill.Cancellation, orders map[seckill.OrderID]seckill.Order,
	epochs map[inventory.ShardID]inventory.Epoch, changes *seckill.Changes) seckill.Moved {
	before, exists := orders[c.Order]
	switch {
	case exists && tx.held(&before):
		return seckill.Moved{Order: before, Locked: true}
	case exists:
		moved := seckill.DecideEvent(before, seckill.EventCancelled, tx.now, changes)
		orders[c.Order] = moved.Order
		return moved
	case c.Queued == nil || c.Queued.Order != c.Order:
		return seckill.Moved{}
	}
	o, ok := seckill.DecideCancelQueued(c, epochs[c.Ref.Shard], tx.now, changes)
	if !ok {
		return seckill.Moved{}
	}
	orders[c.Order] = o
	return seckill.Moved{Order: o, Now: true}
}

// recordCancel records what an operator did instead of the buyer.
func (tx *transaction) recordCancel(ctx context.Context, c *seckill.Cancellation, before seckill.OrderState, m *seckill.Moved) error {
	if c.By.Actor == "" || !m.Now {
		return nil
	}
	r, err := seckill.RecordOrder(before, &m.Order)
	if err != nil {
		return err
	}
	return tx.record(ctx, c.By, r)
}

// TimeOut implements seckill.OrderStore.
func (s *Store) TimeOut(ctx context.Context, shards []inventory.ShardID, held []seckill.ActivityID, limit int) (int, error) {
	const what = "time out orders"
	const due = ` FROM orders INDEXED BY orders_to_time_out WHERE state = 'pending_payment' AND pay_by < ?
		AND shard IN (SELECT value FROM json_each(?)) AND activity NOT IN (SELECT value FROM json_each(?)) ORDER BY pay_by`
	without, err := json.Marshal(append([]seckill.ActivityID{}, held...)) // an empty list must be encoded as a list, too
	if err != nil {
		return 0, err
	}
	// In most cases nothing is due, and a reader can see that without the writer.
	idle := false
	err = s.read(ctx, what, func(q *statements) error {
		any, err := exists(ctx, q, "SELECT 1"+due+" LIMIT 1", s.now().UnixMicro(), list(shards), string(without))
		idle = !any
		return err
	})
	if err != nil || idle || limit <= 0 {
		return 0, err
	}
	count := 0
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		changes := seckill.NewChanges()
		count = 0
		// There is no LIMIT, because orders with a locked row are skipped and must not hide the
		// others.
		rows, err := tx.query(ctx, "SELECT "+orderColumns+due, tx.now.UnixMicro(), list(shards), string(without))
		err = each(rows, err, func(rows *sql.Rows) error {
			before, err := scanOrder(rows)
			switch {
			case err != nil:
				return err
			case tx.held(&before):
				return nil
			}
			seckill.DecideEvent(before, seckill.EventTimedOut, tx.now, changes)
			if count++; count == limit {
				return errEnough
			}
			return nil
		})
		if err != nil {
			return err
		}
		return tx.writeChanges(ctx, changes)
	})
	if err != nil {
		return 0, err
	}
	return count, nil
}

// Unpark implements seckill.OrderStore. It leaves out parked orders with a dead letter, because
// they were parked for another reason than a locked row.
func (s *Store) Unpark(ctx context.Context, shards []inventory.ShardID, limit int) ([]seckill.Acceptance, error) {
	const what = "try parked orders again"
	const parked = ` FROM orders INDEXED BY orders_to_unpark WHERE state = 'parked' AND reason = 'locked'
		AND shard IN (SELECT value FROM json_each(?)) ORDER BY updated_at LIMIT ?`
	idle := false
	err := s.read(ctx, what, func(q *statements) error {
		any, err := exists(ctx, q, "SELECT 1"+parked, list(shards), 1)
		idle = !any
		return err
	})
	if err != nil || idle || limit <= 0 {
		return nil, err
	}
	var out []seckill.Acceptance
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		out = nil
		var orders []seckill.Order
		var claims []claim
		rows, err := tx.query(ctx, "SELECT "+orderColumns+parked, list(shards), limit)
		err = each(rows, err, func(rows *sql.Rows) error {
			o, err := scanOrder(rows)
			orders, claims = append(orders, o), append(claims, claimOf(&o))
			return err
		})
		if err != nil {
			return err
		}
		in, err := tx.readInput(ctx, claims)
		if err != nil {
			return err
		}
		changes := seckill.NewChanges()
		for i := range orders {
			out = append(out, seckill.DecideUnpark(&orders[i], in, changes))
		}
		if err := tx.rewriteOrders(ctx, changes); err != nil {
			return err
		}
		return tx.keepLetters(ctx, changes.Letters)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// errNoItem says that there is no such item, or that it is not on the shard.
func errNoItem(item inventory.ItemID) error {
	return fmt.Errorf("item %d: %w", item, seckill.ErrNotFound)
}
