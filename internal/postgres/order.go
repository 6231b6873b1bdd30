package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"penstock/inventory"
	"penstock/seckill"
)

const orderColumns = `id, item, merchant, caller, activity, sku, "user", quantity, amount, currency, state, reason, units,
	created_at, pay_by, updated_at, shard, epoch, seq`

// scanOrder scans the columns of an order, behind others that go to first.
func scanOrder(rows pgx.Rows, first ...any) (seckill.Order, error) {
	var o seckill.Order
	var item, epoch, seq int64
	var shard int32
	err := rows.Scan(append(first, (*string)(&o.ID), &item, (*string)(&o.Caller.Merchant), (*string)(&o.Caller.Caller),
		(*string)(&o.Activity), (*string)(&o.SKU), (*string)(&o.User), &o.Quantity, &o.Amount.Minor, &o.Amount.Currency,
		(*string)(&o.State), (*string)(&o.Reason), (*string)(&o.Units), &o.CreatedAt, &o.PayBy, &o.UpdatedAt, &shard, &epoch, &seq)...)
	o.Item = inventory.ItemID(item)
	o.CreatedAt, o.PayBy, o.UpdatedAt = o.CreatedAt.UTC(), o.PayBy.UTC(), o.UpdatedAt.UTC()
	o.Grant = seckill.Provenance{Shard: uint16(shard), Epoch: inventory.Epoch(epoch), Seq: uint64(seq)}
	return o, err
}

// insertOrders queues new rows. One statement takes them as columns: what it costs is the same for one row and for hundreds, and
// the server parses nothing. The caller has the rows of the orders' items locked, so that nobody else can insert the same.
func insertOrders(tx *transaction, sale func(inventory.ItemID) int32, orders []seckill.Order) {
	if len(orders) == 0 {
		return
	}
	n := len(orders)
	sales, quantities, shards := make([]int32, n), make([]int32, n), make([]int32, n)
	items, amounts, epochs, seqs := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	ids, merchants, callers, activities := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	skus, users, currencies := make([]string, n), make([]string, n), make([]string, n)
	states, reasons, units := make([]string, n), make([]string, n), make([]string, n)
	created, payBy, updated := make([]time.Time, n), make([]time.Time, n), make([]time.Time, n)
	for i := range orders {
		o := &orders[i]
		sales[i], items[i], ids[i] = sale(o.Item), int64(o.Item), string(o.ID)
		merchants[i], callers[i], activities[i] = string(o.Caller.Merchant), string(o.Caller.Caller), string(o.Activity)
		skus[i], users[i], quantities[i] = string(o.SKU), string(o.User), int32(o.Quantity)
		amounts[i], currencies[i] = o.Amount.Minor, o.Amount.Currency
		states[i], reasons[i], units[i] = string(o.State), string(o.Reason), string(o.Units)
		created[i], payBy[i], updated[i] = o.CreatedAt, o.PayBy, o.UpdatedAt
		shards[i], epochs[i], seqs[i] = int32(o.Grant.Shard), int64(o.Grant.Epoch), int64(o.Grant.Seq)
	}
	tx.exec(`INSERT INTO orders (sale, `+orderColumns+`) SELECT * FROM unnest($1::int[], $2::text[], $3::bigint[], $4::text[], $5::text[],
		$6::text[], $7::text[], $8::text[], $9::int[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::text[],
		$15::timestamptz[], $16::timestamptz[], $17::timestamptz[], $18::int[], $19::bigint[], $20::bigint[])`,
		sales, ids, items, merchants, callers, activities, skus, users, quantities, amounts, currencies, states, reasons, units,
		created, payBy, updated, shards, epochs, seqs)
}

const findOrders = "SELECT " + orderColumns + " FROM orders WHERE sale = $1 AND id = ANY($2)"

// queueFind queues the reading of the orders that exist; they are in found after the flush.
func queueFind(p *pipe, text string, groups map[int32][]string, found map[seckill.OrderID]seckill.Order) {
	for _, sale := range inOrder(groups) {
		p.each(func(rows pgx.Rows) error {
			o, err := scanOrder(rows)
			found[o.ID] = o
			return err
		}, text, sale, groups[sale])
	}
}

// lockOrders queues the reading of the orders that exist and keeps others from changing them; in the order of sale and id, as
// everybody does.
func lockOrders(p *pipe, groups map[int32][]string, found map[seckill.OrderID]seckill.Order) {
	queueFind(p, findOrders+" ORDER BY id FOR NO KEY UPDATE", groups, found)
}

// moves collects what a transaction makes of orders, and writes it: the orders, their items' counts, the outbox, their steps.
type moves struct {
	orders map[target][]string
	counts map[inventory.ItemID]*counts
	outbox []outboxRow
	steps  []step
}

// target is what an order becomes, and where it is. A batch has few, so its orders are written in few statements.
type target struct {
	sale    int32
	state   seckill.OrderState
	reason  seckill.Reason
	units   seckill.UnitState
	updated time.Time
}

// counts are changes of an item's row.
type counts struct{ open, sold, skipped, rejected int64 }

func newMoves() *moves {
	return &moves{orders: make(map[target][]string), counts: make(map[inventory.ItemID]*counts)}
}

func (m *moves) of(item inventory.ItemID) *counts {
	c := m.counts[item]
	if c == nil {
		c = new(counts)
		m.counts[item] = c
	}
	return c
}

// move notes that an order of the sale became another. An order whose units end leaves a settlement.
func (m *moves) move(sale int32, before, after *seckill.Order) {
	t := target{sale, after.State, after.Reason, after.Units, after.UpdatedAt}
	m.orders[t] = append(m.orders[t], string(after.ID))
	m.steps = append(m.steps, stepOf(sale, after))
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

// queue queues the writes. Orders come before items, and items in the order of their ids: that is the order of all locks.
func (m *moves) queue(tx *transaction) {
	for t, ids := range m.orders {
		tx.exec("UPDATE orders SET state = $3, reason = $4, units = $5, updated_at = $6 WHERE sale = $1 AND id = ANY($2)",
			t.sale, ids, string(t.state), string(t.reason), string(t.units), t.updated)
	}
	var items, open, sold, skipped, rejected []int64
	for _, id := range inOrder(m.counts) {
		c := m.counts[id]
		if *c == (counts{}) {
			continue
		}
		items, open, sold = append(items, int64(id)), append(open, c.open), append(sold, c.sold)
		skipped, rejected = append(skipped, c.skipped), append(rejected, c.rejected)
	}
	if len(items) > 1 {
		// An UPDATE takes its rows in whatever order its plan has.
		tx.exec("SELECT FROM items WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", items)
	}
	if len(items) > 0 {
		tx.exec(`UPDATE items AS i SET open = i.open + c.open, sold = i.sold + c.sold, skipped = i.skipped + c.skipped,
			rejected = i.rejected + c.rejected
			FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS c (item, open, sold, skipped, rejected)
			WHERE i.id = c.item`, items, open, sold, skipped, rejected)
	}
	insertOutbox(tx, m.outbox)
	insertSteps(tx, m.steps)
}

// FindOrders implements seckill.OrderStore.
func (s *Store) FindOrders(ctx context.Context, ids []seckill.OrderID) ([]seckill.Order, error) {
	out := make([]seckill.Order, len(ids))
	if len(ids) == 0 {
		return out, nil
	}
	err := s.read(ctx, "find orders", func(ctx context.Context, p *pipe) error {
		sales, err := s.salesOf(ctx, p, itemsOf(ids))
		if err != nil {
			return err
		}
		found := make(map[seckill.OrderID]seckill.Order, len(ids))
		queueFind(p, findOrders, bySale(sales, ids), found)
		if err := p.flush(ctx); err != nil {
			return err
		}
		for i, id := range ids {
			out[i] = found[id]
		}
		return nil
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
		sales, err := s.salesOf(ctx, tx.pipe, itemsOf(ids))
		if err != nil {
			return err
		}
		orders := make(map[seckill.OrderID]seckill.Order, len(ids))
		lockOrders(tx.pipe, bySale(sales, ids), orders)
		tx.readClock()
		if err := tx.flush(ctx); err != nil {
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
				m.move(sales[after.Item], &before, &after)
				orders[id] = after
				out[i].Now = true
			}
			out[i].Order = after
		}
		m.queue(tx)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// selling has the sales that may have orders to time out. There are few, so their partitions alone are looked at, however many
// there were before.
const selling = "SELECT DISTINCT sale FROM items WHERE open > 0"

// due has the orders whose time is over, oldest first. now() is the transaction's begin: never too early.
const due = " FROM orders WHERE sale = ANY($1) AND state = 'pending_payment' AND pay_by < coalesce($2, now())"

// dueOrder is the order of the index, and planDue has it used: without statistics, which a partition doesn't have in its first
// minutes, the planner takes what is due for a handful of rows that are sorted quickly. When a sale's orders are due all at once, they
// would be read and sorted again for every batch.
const (
	dueOrder = " ORDER BY pay_by"
	planDue  = "SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)"
)

// TimeOut implements seckill.OrderStore. Orders that somebody is about to pay or cancel are left out.
func (s *Store) TimeOut(ctx context.Context, limit int) (int, error) {
	const what = "time out orders"
	var sales []int32
	idle := true // mostly nothing is due
	err := s.read(ctx, what, func(ctx context.Context, p *pipe) (err error) {
		sales = nil
		p.each(func(rows pgx.Rows) error {
			var sale int32
			err := rows.Scan(&sale)
			sales = append(sales, sale)
			return err
		}, selling)
		if err := p.flush(ctx); err != nil || len(sales) == 0 {
			return err
		}
		due, err := p.exists(ctx, "SELECT 1"+due+" LIMIT 1", sales, s.testTime())
		idle = !due
		return err
	})
	if err != nil || idle || limit <= 0 {
		return 0, err
	}
	count := 0
	err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		var places []int32
		var orders []seckill.Order
		tx.exec(planDue)
		tx.each(func(rows pgx.Rows) error {
			var sale int32
			o, err := scanOrder(rows, &sale)
			places, orders = append(places, sale), append(orders, o)
			return err
		}, "SELECT sale, "+orderColumns+due+dueOrder+" LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED", sales, s.testTime(), limit)
		tx.readClock()
		if err := tx.flush(ctx); err != nil {
			return err
		}
		m := newMoves()
		count = 0
		for i := range orders {
			after := orders[i]
			if after.Apply(seckill.EventTimedOut, tx.now) {
				m.move(places[i], &orders[i], &after)
				count++
			}
		}
		m.queue(tx)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return count, nil
}

// testTime is what stands in for now() in tests, NULL otherwise.
func (s *Store) testTime() any {
	if s.clock == nil {
		return nil
	}
	return s.clock()
}
