package sqlite

import (
	"context"
	"fmt"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Bury implements seckill.OrderStore.
func (s *Store) Bury(ctx context.Context, ref inventory.Ref, incarnation string, holds []inventory.Hold) ([]bool, error) {
	var out []bool
	what := fmt.Sprintf("bury holds of shard %d in epoch %d", ref.Shard, ref.Epoch)
	err := s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		out = make([]bool, len(holds))
		if err := tx.atEpochOf(ctx, ref, incarnation); err != nil {
			return err
		}
		var ids []seckill.OrderID
		var keys []seckill.StockKey
		for i := range holds {
			if !seckill.IsWithdrawal(holds[i].ID) {
				ids = append(ids, seckill.OrderID(holds[i].ID))
				keys = append(keys, seckill.StockKey{Item: holds[i].Item, Shard: ref.Shard})
			}
		}
		orders, err := findOrders(ctx, tx, ids)
		if err != nil {
			return err
		}
		stock, err := tx.ledgers(ctx, keys)
		if err != nil {
			return err
		}
		changes := seckill.NewChanges()
		for i, h := range holds {
			if seckill.IsWithdrawal(h.ID) {
				if out[i], err = tx.buryWithdrawal(ctx, ref, h, changes); err != nil {
					return err
				}
				continue
			}
			order, exists := orders[seckill.OrderID(h.ID)]
			if !exists {
				row := stock[seckill.StockKey{Item: h.Item, Shard: ref.Shard}]
				order = seckill.DecideBury(h, ref, row, tx.now, changes)
				orders[order.ID] = order
			}
			out[i] = order.Reason != seckill.ReasonNotAccepted // a tombstone may have been written before
		}
		return tx.writeChanges(ctx, changes)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// buryWithdrawal writes the tombstone of a withdrawal's hold unless it has one, or reports that the
// withdrawal is committed.
func (tx *transaction) buryWithdrawal(ctx context.Context, ref inventory.Ref, h inventory.Hold, changes *seckill.Changes) (bool, error) {
	made, err := tx.insertWithdrawal(ctx, ref.Shard, h, true)
	if err != nil {
		return false, err
	}
	if made {
		changes.Outbox = append(changes.Outbox, seckill.SettleTaken(&seckill.Taken{Ref: ref, Hold: h}, inventory.SettleVoid))
		return false, nil
	}
	return exists(ctx, tx, "SELECT 1 FROM withdrawals WHERE hold = ? AND buried = 0", h.ID)
}

// insertWithdrawal writes the end of a withdrawal's hold, and reports whether it had none before.
func (tx *transaction) insertWithdrawal(ctx context.Context, shard inventory.ShardID, h inventory.Hold, buried bool) (bool, error) {
	n, err := tx.change(ctx, `INSERT INTO withdrawals (hold, item, shard, quantity, buried, at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`, h.ID, int64(h.Item), int64(shard), h.Quantity, buried, tx.now.UnixMicro())
	return n == 1, err
}
