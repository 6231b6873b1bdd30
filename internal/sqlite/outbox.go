package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"penstock/inventory"
	"penstock/seckill"
)

// What an outbox row tells Redis.
const (
	outboxSold    = "sold"
	outboxVoid    = "void"
	outboxRestock = "restock"
)

// outboxRow is a settlement of an order's or a withdrawal's hold, or a restock.
type outboxRow struct {
	item     inventory.ItemID
	kind     string
	stock    bool   // a restock or a withdrawal's hold
	name     string // the hold's, or the restock's key
	buyer    string
	quantity int
}

func outboxKind(kind inventory.Kind) string {
	if kind == inventory.SettleSold {
		return outboxSold
	}
	return outboxVoid
}

func insertOutbox(ctx context.Context, tx *transaction, rows []outboxRow) error {
	const text = "INSERT INTO outbox (item, kind, stock, name, buyer, quantity) VALUES {(?,?,?,?,?,?)}"
	return insert(ctx, tx.statements, text, rows, func(args []any, r *outboxRow) []any {
		return append(args, int64(r.item), r.kind, r.stock, r.name, r.buyer, r.quantity)
	})
}

// Relay implements seckill.OrderStore. Restocks of an item that no fence has opened yet stay: there is no shard to tell,
// and its first snapshot counts them. Nothing is locked while deliver runs.
func (s *Store) Relay(ctx context.Context, after int64, limit int,
	deliver func(context.Context, []seckill.Outgoing) []int) (int64, error) {
	const what = "relay the outbox"
	if limit <= 0 {
		return 0, fmt.Errorf("%s: %d rows at most", what, limit)
	}
	if !s.enter() { // also for the time of deliver: Close waits for it
		return 0, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.leave()
	ids, rows, err := s.readOutbox(ctx, after, limit)
	if err != nil {
		return 0, describe(what, err)
	}
	if len(rows) == 0 {
		return 0, nil
	}
	last := ids[len(ids)-1]
	delivered := deliver(ctx, rows)
	if len(delivered) == 0 {
		return last, nil
	}
	done := make([]int64, len(delivered))
	for i, index := range delivered {
		done[i] = ids[index]
	}
	list, err := json.Marshal(done)
	if err != nil {
		return 0, describe(what, err)
	}
	err = s.inTurn(ctx, func(ctx context.Context, tx *transaction) error {
		_, err := tx.exec(ctx, "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?))", string(list))
		return err
	}, nil)
	if err != nil {
		return 0, describe(what, err)
	}
	return last, nil
}

func (s *Store) readOutbox(ctx context.Context, after int64, limit int) ([]int64, []seckill.Outgoing, error) {
	var ids []int64
	var out []seckill.Outgoing
	rows, err := s.readers.query(ctx, `SELECT o.id, o.item, i.epoch, o.kind, o.name, o.buyer, o.quantity
		FROM outbox AS o CROSS JOIN items AS i ON i.id = o.item WHERE o.id > ? AND i.epoch > 0 ORDER BY o.id LIMIT ?`, after, limit)
	err = each(rows, err, func(rows *sql.Rows) error {
		var id int64
		var r outboxRow
		var row seckill.Outgoing
		if err := rows.Scan(&id, &row.Ref.Item, &row.Ref.Epoch, &r.kind, &r.name, &r.buyer, &r.quantity); err != nil {
			return err
		}
		switch r.kind {
		case outboxRestock:
			row.RestockID, row.Restock = r.name, r.quantity
		default:
			row.Settlement.Hold = inventory.Hold{ID: r.name, Buyer: r.buyer, Quantity: r.quantity}
			row.Settlement.Kind = inventory.SettleVoid
			if r.kind == outboxSold {
				row.Settlement.Kind = inventory.SettleSold
			}
		}
		ids, out = append(ids, id), append(out, row)
		return nil
	})
	return ids, out, err
}
