package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"penstock/inventory"
	"penstock/seckill"
)

// Accept implements seckill.OrderStore. It is two round trips: one that begins, takes the items' rows and reads what the
// decision needs, and one that writes and commits.
func (s *Store) Accept(ctx context.Context, records []seckill.Record) ([]seckill.Acceptance, error) {
	if len(records) == 0 {
		return nil, nil
	}
	ids := make([]seckill.OrderID, len(records))
	for i := range records {
		ids[i] = records[i].Order
	}
	var out []seckill.Acceptance
	err := s.write(ctx, "accept records", func(ctx context.Context, tx *transaction) error {
		sales, err := s.salesOf(ctx, tx.pipe, itemsOf(ids))
		if err != nil {
			return err
		}
		items := lockItems(tx.pipe, sales)
		tx.readClock()
		existing := make(map[seckill.OrderID]seckill.Order)
		queueFind(tx.pipe, findOrders, bySale(sales, ids), existing)
		bought := queueBought(tx.pipe, sales, records)
		if err := tx.flush(ctx); err != nil {
			return err
		}
		out = seckill.DecideAccept(records, items, existing, bought, tx.now)
		tx.writeAccepted(sales, records, out)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// writeAccepted queues the new rows, and the counts of their items.
func (tx *transaction) writeAccepted(sales map[inventory.ItemID]int32, records []seckill.Record, decided []seckill.Acceptance) {
	m := newMoves()
	orders := make([]seckill.Order, 0, len(decided))
	for i := range decided {
		a := &decided[i]
		switch a.Outcome {
		case seckill.OutcomeOpened:
			m.of(a.Order.Item).open += int64(a.Order.Quantity)
		case seckill.OutcomeRejected:
			m.of(a.Order.Item).rejected++
			m.settle(&a.Order, inventory.SettleVoid)
		case seckill.OutcomeSkipped:
			m.of(records[i].Item()).skipped++
			continue
		default:
			continue
		}
		orders = append(orders, a.Order)
		m.steps = append(m.steps, stepOf(sales[a.Order.Item], &a.Order))
	}
	insertOrders(tx, func(item inventory.ItemID) int32 { return sales[item] }, orders)
	m.queue(tx)
}

const ledgerColumns = `i.id, a.id, a.merchant, i.sku, i.epoch, i.total, i.open, i.sold, i.per_user, a.payment_window
	FROM items AS i JOIN activities AS a USING (sale)`

func scanLedger(rows pgx.Rows) (inventory.ItemID, *seckill.Ledger, error) {
	var l seckill.Ledger
	var id, epoch, window int64
	err := rows.Scan(&id, (*string)(&l.Activity), (*string)(&l.Merchant), (*string)(&l.SKU), &epoch, &l.Total, &l.Open, &l.Sold,
		&l.PerUser, &window)
	l.Epoch, l.PaymentWindow = inventory.Epoch(epoch), time.Duration(window)
	return inventory.ItemID(id), &l, err
}

// lockItems queues the reading of items and keeps others from changing them, in the order of their ids. They are in the
// result after the flush.
func lockItems(p *pipe, sales map[inventory.ItemID]int32) map[inventory.ItemID]*seckill.Ledger {
	items := make(map[inventory.ItemID]*seckill.Ledger, len(sales))
	ids := make([]int64, 0, len(sales))
	for item := range sales {
		ids = append(ids, int64(item))
	}
	p.each(func(rows pgx.Rows) error {
		id, ledger, err := scanLedger(rows)
		items[id] = ledger
		return err
	}, "SELECT "+ledgerColumns+" WHERE i.id = ANY($1) ORDER BY i.id FOR NO KEY UPDATE OF i", ids)
	return items
}

// queueBought queues the reading of what the records' buyers have, of items with a limit. Whether a record is new isn't
// known yet, so all are asked for: one more look into an index costs less than a round trip under the item's lock.
func queueBought(p *pipe, sales map[inventory.ItemID]int32, records []seckill.Record) map[seckill.BuyerKey]int64 {
	bought := make(map[seckill.BuyerKey]int64)
	type columns struct {
		items []int64
		users []string
	}
	groups := make(map[int32]*columns)
	for i := range records {
		key := seckill.BuyerKey{Item: records[i].Item(), User: records[i].User}
		sale, ok := sales[key.Item]
		if _, asked := bought[key]; asked || !ok {
			continue
		}
		bought[key] = 0
		g := groups[sale]
		if g == nil {
			g = new(columns)
			groups[sale] = g
		}
		g.items, g.users = append(g.items, int64(key.Item)), append(g.users, string(key.User))
	}
	for _, sale := range inOrder(groups) {
		g := groups[sale]
		p.each(func(rows pgx.Rows) error {
			var item, units int64
			var key seckill.BuyerKey
			err := rows.Scan(&item, (*string)(&key.User), &units)
			key.Item = inventory.ItemID(item)
			bought[key] = units
			return err
		}, boughtBy, sale, g.items, g.users)
	}
	return bought
}

// boughtBy sums up buyer by buyer: a join would be free to read the whole partition.
const boughtBy = `SELECT b.item, b."user", o.units
	FROM unnest($2::bigint[], $3::text[]) AS b (item, "user") JOIN items AS i ON i.id = b.item AND i.per_user > 0
	CROSS JOIN LATERAL (SELECT sum(quantity) AS units FROM orders
		WHERE sale = $1 AND item = b.item AND "user" = b."user" AND units <> 'void') AS o
	WHERE o.units IS NOT NULL`

// lockItemAt locks the row of ref's item for a change that is meant for ref's epoch.
func (tx *transaction) lockItemAt(ctx context.Context, ref inventory.Ref) (*seckill.Ledger, error) {
	items := lockItems(tx.pipe, map[inventory.ItemID]int32{ref.Item: 0})
	tx.readClock()
	if err := tx.flush(ctx); err != nil {
		return nil, err
	}
	item := items[ref.Item]
	switch {
	case item == nil:
		return nil, errNoItem(ref.Item)
	case item.Epoch != ref.Epoch:
		return nil, fmt.Errorf("%w: it is %d", seckill.ErrFenced, item.Epoch)
	}
	return item, nil
}

func errNoItem(item inventory.ItemID) error {
	return fmt.Errorf("item %d: %w", item, seckill.ErrNotFound)
}

// Bury implements seckill.OrderStore.
func (s *Store) Bury(ctx context.Context, ref inventory.Ref, holds []inventory.Hold) ([]bool, error) {
	var out []bool
	what := fmt.Sprintf("bury holds of item %d in epoch %d", ref.Item, ref.Epoch)
	err := s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		out = make([]bool, len(holds))
		sales, err := s.salesOf(ctx, tx.pipe, []inventory.ItemID{ref.Item})
		if err != nil {
			return err
		}
		item, err := tx.lockItemAt(ctx, ref)
		if err != nil {
			return err
		}
		b, err := readBuried(ctx, tx.pipe, ref.Item, sales[ref.Item], holds)
		if err != nil {
			return err
		}
		m := newMoves()
		var tombstones []seckill.Order
		for i, h := range holds {
			if seckill.IsWithdrawal(h.ID) {
				if out[i] = b.committed[h.ID]; !out[i] && !b.tombstones[h.ID] {
					b.tombstones[h.ID] = true
					tx.buryWithdrawal(m, ref.Item, h)
				}
				continue
			}
			if order, ok := b.orders[seckill.OrderID(h.ID)]; ok {
				out[i] = order.Reason != seckill.ReasonNotAccepted // a tombstone was buried before, with its settlement
				continue
			}
			tombstone := seckill.Tombstone(h, ref.Item, item, tx.now)
			b.orders[tombstone.ID] = tombstone
			tombstones = append(tombstones, tombstone)
			m.settle(&tombstone, inventory.SettleVoid)
		}
		insertOrders(tx, func(inventory.ItemID) int32 { return sales[ref.Item] }, tombstones)
		m.queue(tx)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// buried is what there is of holds that are to be buried.
type buried struct {
	orders     map[seckill.OrderID]seckill.Order
	committed  map[string]bool // withdrawals' holds
	tombstones map[string]bool // of withdrawals' holds
}

// readBuried reads what there is of the holds. The caller has the item locked, so nothing is added meanwhile.
func readBuried(ctx context.Context, p *pipe, item inventory.ItemID, sale int32, holds []inventory.Hold) (buried, error) {
	b := buried{make(map[seckill.OrderID]seckill.Order), make(map[string]bool), make(map[string]bool)}
	var orders, withdrawals []string
	for i := range holds {
		if seckill.IsWithdrawal(holds[i].ID) {
			withdrawals = append(withdrawals, holds[i].ID)
		} else {
			orders = append(orders, holds[i].ID)
		}
	}
	if len(orders) > 0 {
		queueFind(p, findOrders, map[int32][]string{sale: orders}, b.orders)
	}
	if len(withdrawals) > 0 {
		set := func(into map[string]bool) func(rows pgx.Rows) error {
			return func(rows pgx.Rows) error {
				var hold string
				err := rows.Scan(&hold)
				into[hold] = true
				return err
			}
		}
		p.each(set(b.committed), "SELECT hold FROM stock_changes WHERE item = $1 AND hold = ANY($2) AND hold <> ''", int64(item), withdrawals)
		p.each(set(b.tombstones), "SELECT hold FROM withdrawal_tombstones WHERE item = $1 AND hold = ANY($2)", int64(item), withdrawals)
	}
	return b, p.flush(ctx)
}

// buryWithdrawal queues the tombstone of a withdrawal's hold.
func (tx *transaction) buryWithdrawal(m *moves, item inventory.ItemID, h inventory.Hold) {
	tx.exec("INSERT INTO withdrawal_tombstones (item, hold, quantity, at) VALUES ($1, $2, $3, $4)",
		int64(item), h.ID, h.Quantity, tx.now)
	m.outbox = append(m.outbox, outboxRow{item: item, kind: outboxVoid, stock: true, name: h.ID, quantity: h.Quantity})
}
