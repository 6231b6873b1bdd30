package sqlite

import (
	"context"
	"database/sql"
	"encoding/base32"
	"encoding/binary"
	"maps"
	"slices"

	"penstock/inventory"
	"penstock/seckill"
)

const orderColumns = `id, item, merchant, caller, activity, sku, user, quantity, amount, currency, state, reason, units,
	created_at, pay_by, updated_at, shard, epoch, seq`

func scanOrder(rows *sql.Rows) (seckill.Order, error) {
	var o seckill.Order
	var created, payBy, updated, seq int64
	err := rows.Scan(&o.ID, &o.Item, &o.Caller.Merchant, &o.Caller.Caller, &o.Activity, &o.SKU, &o.User, &o.Quantity,
		&o.Amount.Minor, &o.Amount.Currency, &o.State, &o.Reason, &o.Units, &created, &payBy, &updated,
		&o.Grant.Shard, &o.Grant.Epoch, &seq)
	o.CreatedAt, o.PayBy, o.UpdatedAt = fromMicros(created), fromMicros(payBy), fromMicros(updated)
	o.Grant.Seq = uint64(seq)
	return o, err
}

func bindOrder(args []any, o *seckill.Order) []any {
	return append(args, string(o.ID), int64(o.Item), string(o.Caller.Merchant), string(o.Caller.Caller), string(o.Activity),
		string(o.SKU), string(o.User), int64(o.Quantity), o.Amount.Minor, o.Amount.Currency, string(o.State), string(o.Reason),
		string(o.Units), o.CreatedAt.UnixMicro(), o.PayBy.UnixMicro(), o.UpdatedAt.UnixMicro(),
		int64(o.Grant.Shard), int64(o.Grant.Epoch), int64(o.Grant.Seq))
}

// insertOrders writes new rows. A violated constraint is a bug and ends the transaction; OR ROLLBACK says so beforehand, and
// spares SQLite the copies of all touched pages that it keeps where one statement alone may have to be undone.
func insertOrders(ctx context.Context, tx *transaction, orders []seckill.Order) error {
	const text = "INSERT OR ROLLBACK INTO orders (" + orderColumns + ") VALUES {(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)}"
	return insert(ctx, tx.statements, text, orders, bindOrder)
}

// findOrders returns the orders that exist.
func findOrders(ctx context.Context, s *statements, ids []seckill.OrderID) (map[seckill.OrderID]seckill.Order, error) {
	found := make(map[seckill.OrderID]seckill.Order)
	const text = "SELECT " + orderColumns + " FROM (VALUES {(?)}) AS wanted CROSS JOIN orders ON orders.id = wanted.column1"
	err := lookup(ctx, s, text, nil, ids, func(rows *sql.Rows) error {
		o, err := scanOrder(rows)
		found[o.ID] = o
		return err
	})
	return found, err
}

// orderIDEncoding is that of seckill.OrderID, whose text sorts like its bytes and begins with the item.
var orderIDEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// firstOrderID and lastOrderID bound the ids of an item's orders.
func firstOrderID(item inventory.ItemID) seckill.OrderID { return boundOrderID(item, 0) }
func lastOrderID(item inventory.ItemID) seckill.OrderID  { return boundOrderID(item, 0xff) }

func boundOrderID(item inventory.ItemID, fill byte) seckill.OrderID {
	var raw [20]byte
	for i := range raw {
		raw[i] = fill
	}
	binary.BigEndian.PutUint32(raw[:4], uint32(item))
	return seckill.OrderID(orderIDEncoding.EncodeToString(raw[:]))
}

// moves collects what a transaction makes of orders, and writes it: the orders, their items' counts, their steps, the outbox.
type moves struct {
	orders map[target][]seckill.OrderID
	counts map[inventory.ItemID]*counts
	outbox []outboxRow
	steps  []step
}

// target is what an order becomes. A batch has few, so its orders are written in few statements.
type target struct {
	state   seckill.OrderState
	reason  seckill.Reason
	units   seckill.UnitState
	updated int64
}

// counts are changes of an item's row.
type counts struct{ open, sold, skipped, rejected int64 }

func newMoves() *moves {
	return &moves{orders: make(map[target][]seckill.OrderID), counts: make(map[inventory.ItemID]*counts)}
}

func (m *moves) of(item inventory.ItemID) *counts {
	c := m.counts[item]
	if c == nil {
		c = new(counts)
		m.counts[item] = c
	}
	return c
}

// move notes that an order became another. An order whose units end leaves a settlement.
func (m *moves) move(before, after *seckill.Order) {
	t := target{after.State, after.Reason, after.Units, after.UpdatedAt.UnixMicro()}
	m.orders[t] = append(m.orders[t], after.ID)
	m.steps = append(m.steps, stepOf(after))
	if before.Units == after.Units {
		return
	}
	c, units := m.of(after.Item), int64(after.Quantity)
	c.open -= units // units leave "open" once and for all
	kind := inventory.SettleVoid
	if after.Units == seckill.UnitsSold {
		c.sold += units
		kind = inventory.SettleSold
	}
	m.settle(after, kind)
}

func (m *moves) settle(o *seckill.Order, kind inventory.Kind) {
	row := outboxRow{item: o.Item, kind: outboxKind(kind), name: string(o.ID), buyer: string(o.User), quantity: o.Quantity}
	m.outbox = append(m.outbox, row)
}

func (m *moves) write(ctx context.Context, tx *transaction) error {
	for t, ids := range m.orders {
		err := update(ctx, tx.statements, "UPDATE orders SET state = ?, reason = ?, units = ?, updated_at = ? WHERE id IN ({?})",
			[]any{string(t.state), string(t.reason), string(t.units), t.updated}, ids)
		if err != nil {
			return err
		}
	}
	for _, item := range slices.Sorted(maps.Keys(m.counts)) {
		c := m.counts[item]
		if *c == (counts{}) {
			continue
		}
		_, err := tx.exec(ctx, `UPDATE items SET open = open + ?, sold = sold + ?, skipped = skipped + ?,
			rejected = rejected + ? WHERE id = ?`,
			c.open, c.sold, c.skipped, c.rejected, int64(item))
		if err != nil {
			return err
		}
	}
	if err := insertSteps(ctx, tx, m.steps); err != nil {
		return err
	}
	return insertOutbox(ctx, tx, m.outbox)
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

// Cancel implements seckill.OrderStore.
func (s *Store) Cancel(ctx context.Context, ids []seckill.OrderID) ([]seckill.Moved, error) {
	var out []seckill.Moved
	err := s.write(ctx, "cancel orders", func(ctx context.Context, tx *transaction) error {
		out = make([]seckill.Moved, len(ids))
		orders, err := findOrders(ctx, tx.statements, ids)
		if err != nil {
			return err
		}
		m := newMoves()
		for i, id := range ids {
			before, ok := orders[id]
			if !ok {
				continue
			}
			after := before
			if after.Apply(seckill.EventCancelled, tx.now) {
				m.move(&before, &after)
				orders[id] = after
				out[i].Now = true
			}
			out[i].Order = after
		}
		return m.write(ctx, tx)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// TimeOut implements seckill.OrderStore.
func (s *Store) TimeOut(ctx context.Context, limit int) (int, error) {
	const what = "time out orders"
	const due = " FROM orders WHERE state = 'pending_payment' AND pay_by < ? ORDER BY pay_by LIMIT ?"
	// Mostly nothing is due, and a reader can tell without the writer.
	idle := false
	err := s.read(ctx, what, func(q *statements) error {
		any, err := exists(ctx, q, "SELECT 1"+due, s.now().UnixMicro(), 1)
		idle = !any
		return err
	})
	if err != nil || idle || limit <= 0 {
		return 0, err
	}
	count := 0
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		m := newMoves()
		count = 0
		rows, err := tx.query(ctx, "SELECT "+orderColumns+due, tx.now.UnixMicro(), limit)
		err = each(rows, err, func(rows *sql.Rows) error {
			before, err := scanOrder(rows)
			if err != nil {
				return err
			}
			after := before
			if after.Apply(seckill.EventTimedOut, tx.now) {
				m.move(&before, &after)
				count++
			}
			return nil
		})
		if err != nil {
			return err
		}
		return m.write(ctx, tx)
	})
	if err != nil {
		return 0, err
	}
	return count, nil
}
