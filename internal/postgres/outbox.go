package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

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

func insertOutbox(tx *transaction, rows []outboxRow) {
	if len(rows) == 0 {
		return
	}
	n := len(rows)
	items, kinds, stocks := make([]int64, n), make([]string, n), make([]bool, n)
	names, buyers, quantities := make([]string, n), make([]string, n), make([]int32, n)
	for i := range rows {
		r := &rows[i]
		items[i], kinds[i], stocks[i] = int64(r.item), r.kind, r.stock
		names[i], buyers[i], quantities[i] = r.name, r.buyer, int32(r.quantity)
	}
	tx.exec(`INSERT INTO outbox (item, kind, stock, name, buyer, quantity)
		SELECT * FROM unnest($1::bigint[], $2::text[], $3::boolean[], $4::text[], $5::text[], $6::int[])`,
		items, kinds, stocks, names, buyers, quantities)
}

// deliverTimeout is how long a delivery may keep its rows from other relays. Settling a batch takes milliseconds; what takes
// longer is a stock that is away, and its rows come again.
const deliverTimeout = 5 * time.Second

// Relay implements seckill.OrderStore. The rows are locked while deliver runs, so that relays of several processes share the work
// instead of doing it all, each of them: who finds rows locked takes the next. A relay that dies leaves its rows to the others.
// Restocks of an item that no fence has opened yet stay: there is no shard to tell, and its first snapshot counts them.
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
	if err := s.park(ctx); err != nil { // deliver may ask the store
		return 0, describe(what, err)
	}
	defer s.unpark()
	var last int64
	handedOut := false
	err := s.transact(ctx, what, func(ctx context.Context, tx *transaction) error {
		if handedOut {
			return errHandedOut
		}
		ids, rows, err := tx.lockOutbox(ctx, after, limit)
		if err != nil || len(rows) == 0 {
			return err
		}
		handedOut, last = true, ids[len(ids)-1]
		delivering, cancel := context.WithTimeout(ctx, deliverTimeout)
		defer cancel()
		done := []int64{}
		for _, index := range deliver(delivering, rows) {
			done = append(done, ids[index])
		}
		if len(done) > 0 {
			tx.exec("DELETE FROM outbox WHERE id = ANY($1)", done)
		}
		return nil
	})
	if err != nil {
		return 0, describe(what, err)
	}
	return last, nil
}

// errHandedOut ends a relay whose transaction failed after the delivery: its rows come again with the next call.
var errHandedOut = errors.New("delivered, but not deleted")

func (tx *transaction) lockOutbox(ctx context.Context, after int64, limit int) ([]int64, []seckill.Outgoing, error) {
	var ids []int64
	var out []seckill.Outgoing
	tx.each(func(rows pgx.Rows) error {
		var id, item, epoch int64
		var r outboxRow
		var row seckill.Outgoing
		if err := rows.Scan(&id, &item, &epoch, &r.kind, &r.name, &r.buyer, &r.quantity); err != nil {
			return err
		}
		row.Ref = inventory.Ref{Item: inventory.ItemID(item), Epoch: inventory.Epoch(epoch)}
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
	}, `SELECT o.id, o.item, i.epoch, o.kind, o.name, o.buyer, o.quantity
		FROM outbox AS o JOIN items AS i ON i.id = o.item WHERE o.id > $1 AND i.epoch > 0
		ORDER BY o.id LIMIT $2 FOR UPDATE OF o SKIP LOCKED`, after, limit)
	return ids, out, tx.flush(ctx)
}
