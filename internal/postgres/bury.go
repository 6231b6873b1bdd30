package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Bury implements seckill.OrderStore. The shard's row is locked under its two conditions; the
// primary key decides whether an order or its tombstone comes first.
func (s *Store) Bury(ctx context.Context, ref inventory.Ref, incarnation string, holds []inventory.Hold) ([]bool, error) {
	var out []bool
	what := fmt.Sprintf("bury holds of shard %d in epoch %d", ref.Shard, ref.Epoch)
	err := s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		b, err := s.readBuried(ctx, tx, ref, incarnation, holds)
		if err != nil {
			return err
		}
		out = make([]bool, len(holds))
		for i := range holds {
			out[i] = b.bury(&holds[i], ref, tx)
		}
		queueChanges(tx, b.found, b.week, b.changes)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// buried has the rows for holds that are about to get tombstones.
type buried struct {
	*found
	withdrawals map[string]bool // withdrawals by their hold, and whether each is buried
	stock       map[seckill.StockKey]*seckill.Ledger
	places      places
	changes     *seckill.Changes
}

// readBuried locks the shard's row under the epoch and the incarnation, and reads the rows of the
// holds.
func (s *Store) readBuried(ctx context.Context, tx *transaction, ref inventory.Ref, incarnation string,
	holds []inventory.Hold) (*buried, error) {
	var ids []seckill.OrderID
	var withdrawals []string
	keys := make(map[seckill.StockKey]bool)
	for i := range holds {
		keys[seckill.StockKey{Item: holds[i].Item, Shard: ref.Shard}] = true
		if seckill.IsWithdrawal(holds[i].ID) {
			withdrawals = append(withdrawals, holds[i].ID)
		} else {
			ids = append(ids, seckill.OrderID(holds[i].ID))
		}
	}
	pl, err := s.placesOf(ctx, tx.pipe, ids)
	if err != nil {
		return nil, err
	}
	current := false
	tx.each(func(pgx.Rows) error {
		current = true
		return nil
	}, "SELECT FROM shards WHERE id = $1 AND epoch = $2 AND penstock_incarnation() = $3 FOR SHARE",
		int32(ref.Shard), int64(ref.Epoch), incarnation)
	tx.readClock()
	b := &buried{places: pl, withdrawals: make(map[string]bool), changes: seckill.NewChanges()}
	b.found = queueOrders(tx.pipe, findOrders, pl)
	b.stock = readLedgers(tx.pipe, keysInOrder(keys))
	tx.each(func(rows pgx.Rows) error {
		var hold string
		var buried bool
		err := rows.Scan(&hold, &buried)
		b.withdrawals[hold] = buried
		return err
	}, "SELECT hold, buried FROM withdrawals WHERE hold = ANY($1)", withdrawals)
	if err := tx.flush(ctx); err != nil {
		return nil, err
	}
	if !current {
		return nil, whyFenced(ctx, tx.pipe, ref)
	}
	return b, nil
}

// week returns the partition of a tombstone.
func (b *buried) week(o *seckill.Order) int32 {
	if b.stock[o.Stock()] == nil {
		return strays
	}
	return b.places.week(o.Item)
}

// bury makes the tombstone of a hold if there is neither an order nor a tombstone, and reports
// whether there is an order.
func (b *buried) bury(h *inventory.Hold, ref inventory.Ref, tx *transaction) bool {
	if seckill.IsWithdrawal(h.ID) {
		buried, ok := b.withdrawals[h.ID]
		if !ok {
			b.withdrawals[h.ID] = true
			insertWithdrawal(tx, h, ref.Shard, true)
			b.changes.Outbox = append(b.changes.Outbox, seckill.SettleTaken(&seckill.Taken{Ref: ref, Hold: *h}, inventory.SettleVoid))
		}
		return ok && !buried
	}
	id := seckill.OrderID(h.ID)
	if order, ok := b.orders[id]; ok {
		return order.Reason != seckill.ReasonNotAccepted // a tombstone was written before, with its settlement
	}
	row := b.stock[seckill.StockKey{Item: h.Item, Shard: ref.Shard}]
	hold := *h
	hold.Buyer = clean(hold.Buyer)
	b.orders[id] = seckill.DecideBury(hold, ref, row, tx.now, b.changes)
	return false
}

// readLedgers queues the reading of stock rows without locking them.
func readLedgers(p *pipe, keys []seckill.StockKey) map[seckill.StockKey]*seckill.Ledger {
	return queueLedgers(p, ledgers, keys)
}
