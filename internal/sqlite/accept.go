package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"penstock/inventory"
	"penstock/seckill"
)

// Accept implements seckill.OrderStore.
func (s *Store) Accept(ctx context.Context, records []seckill.Record) ([]seckill.Acceptance, error) {
	if len(records) == 0 {
		return nil, nil
	}
	var out []seckill.Acceptance
	err := s.write(ctx, "accept records", func(ctx context.Context, tx *transaction) error {
		items, err := tx.lockItems(ctx, records)
		if err != nil {
			return err
		}
		ids := make([]seckill.OrderID, len(records))
		for i := range records {
			ids[i] = records[i].Order
		}
		existing, err := findOrders(ctx, tx.statements, ids)
		if err != nil {
			return err
		}
		bought, err := tx.bought(ctx, records, items, existing)
		if err != nil {
			return err
		}
		out = seckill.DecideAccept(records, items, existing, bought, tx.now)
		return tx.writeAccepted(ctx, records, out)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// writeAccepted inserts the new rows, and moves the counts of their items.
func (tx *transaction) writeAccepted(ctx context.Context, records []seckill.Record, decided []seckill.Acceptance) error {
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
		m.steps = append(m.steps, stepOf(&a.Order))
	}
	if err := insertOrders(ctx, tx, orders); err != nil {
		return err
	}
	return m.write(ctx, tx)
}

// lockItems reads the items of records; the write lock keeps them as they are.
func (tx *transaction) lockItems(ctx context.Context, records []seckill.Record) (map[inventory.ItemID]*seckill.Ledger, error) {
	items := make(map[inventory.ItemID]*seckill.Ledger)
	for i := range records {
		id := records[i].Item()
		if _, ok := items[id]; ok {
			continue
		}
		ledger, err := tx.ledger(ctx, id)
		if err != nil {
			return nil, err
		}
		items[id] = ledger // nil, too: it is not asked for again
	}
	for id, ledger := range items {
		if ledger == nil {
			delete(items, id)
		}
	}
	return items, nil
}

// ledger reads an item's row, nil where there is none.
func (tx *transaction) ledger(ctx context.Context, id inventory.ItemID) (*seckill.Ledger, error) {
	var l seckill.Ledger
	ok, err := one(ctx, tx, `SELECT i.activity, a.merchant, i.sku, i.epoch, i.total, i.open, i.sold, i.per_user, a.payment_window
		FROM items AS i JOIN activities AS a ON a.id = i.activity WHERE i.id = ?`, []any{int64(id)},
		&l.Activity, &l.Merchant, &l.SKU, &l.Epoch, &l.Total, &l.Open, &l.Sold, &l.PerUser, &l.PaymentWindow)
	if err != nil || !ok {
		return nil, err
	}
	return &l, nil
}

// ledgerAt reads the row of ref's item for a change that is meant for ref's epoch.
func (tx *transaction) ledgerAt(ctx context.Context, ref inventory.Ref) (*seckill.Ledger, error) {
	item, err := tx.ledger(ctx, ref.Item)
	switch {
	case err != nil:
		return nil, err
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

// bought returns what the buyers of new records have, of items with a limit.
func (tx *transaction) bought(ctx context.Context, records []seckill.Record, items map[inventory.ItemID]*seckill.Ledger,
	existing map[seckill.OrderID]seckill.Order) (map[seckill.BuyerKey]int64, error) {
	bought := make(map[seckill.BuyerKey]int64)
	buyers := make(map[inventory.ItemID][]seckill.UserID)
	for i := range records {
		id := records[i].Item()
		item := items[id]
		if _, repeat := existing[records[i].Order]; repeat || item == nil || item.PerUser == 0 {
			continue
		}
		key := seckill.BuyerKey{Item: id, User: records[i].User}
		if _, asked := bought[key]; !asked {
			bought[key] = 0
			buyers[id] = append(buyers[id], key.User)
		}
	}
	for id, users := range buyers {
		err := lookup(ctx, tx.statements, `SELECT user, quantity FROM (SELECT ? AS item) AS one CROSS JOIN (VALUES {(?)}) AS buyer
			CROSS JOIN orders ON orders.item = one.item AND orders.user = buyer.column1 AND units <> 'void'`,
			[]any{int64(id)}, users, func(rows *sql.Rows) error {
				key, units := seckill.BuyerKey{Item: id}, int64(0)
				err := rows.Scan(&key.User, &units)
				bought[key] += units
				return err
			})
		if err != nil {
			return nil, err
		}
	}
	return bought, nil
}

// Bury implements seckill.OrderStore.
func (s *Store) Bury(ctx context.Context, ref inventory.Ref, holds []inventory.Hold) ([]bool, error) {
	var out []bool
	what := fmt.Sprintf("bury holds of item %d in epoch %d", ref.Item, ref.Epoch)
	err := s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		out = make([]bool, len(holds))
		item, err := tx.ledgerAt(ctx, ref)
		if err != nil {
			return err
		}
		var ids []seckill.OrderID
		for i := range holds {
			if !seckill.IsWithdrawal(holds[i].ID) {
				ids = append(ids, seckill.OrderID(holds[i].ID))
			}
		}
		orders, err := findOrders(ctx, tx.statements, ids)
		if err != nil {
			return err
		}
		m := newMoves()
		var tombstones []seckill.Order
		for i, h := range holds {
			if seckill.IsWithdrawal(h.ID) {
				out[i], err = tx.buryWithdrawal(ctx, m, ref.Item, h)
				if err != nil {
					return err
				}
				continue
			}
			if order, ok := orders[seckill.OrderID(h.ID)]; ok {
				out[i] = order.Reason != seckill.ReasonNotAccepted // a tombstone was buried before, with its settlement
				continue
			}
			tombstone := seckill.Tombstone(h, ref.Item, item, tx.now)
			orders[tombstone.ID] = tombstone
			tombstones = append(tombstones, tombstone)
			m.settle(&tombstone, inventory.SettleVoid)
		}
		return errors.Join(insertOrders(ctx, tx, tombstones), m.write(ctx, tx))
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// buryWithdrawal writes the tombstone of a withdrawal's hold unless it has one, or reports that the withdrawal is committed.
func (tx *transaction) buryWithdrawal(ctx context.Context, m *moves, item inventory.ItemID, h inventory.Hold) (bool, error) {
	committed, err := exists(ctx, tx, "SELECT 1 FROM stock_changes WHERE item = ? AND hold = ? AND hold <> ''", int64(item), h.ID)
	if err != nil || committed {
		return committed, err
	}
	made, err := tx.change(ctx, `INSERT INTO withdrawal_tombstones (item, hold, quantity, at) VALUES (?, ?, ?, ?)
		ON CONFLICT DO NOTHING`,
		int64(item), h.ID, h.Quantity, tx.now.UnixMicro())
	if err != nil {
		return false, err
	}
	if made == 1 {
		m.outbox = append(m.outbox, outboxRow{item: item, kind: outboxVoid, stock: true, name: h.ID, quantity: h.Quantity})
	}
	return false, nil
}
