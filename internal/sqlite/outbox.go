package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func (tx *transaction) insertOutbox(ctx context.Context, rows []seckill.Outgoing) error {
	const query = "INSERT INTO outbox (shard, item, kind, stock, name, buyer, quantity) VALUES {(?,?,?,?,?,?,?)}"
	return insert(ctx, tx.statements, query, rows, func(args []any, r *seckill.Outgoing) []any {
		row := r.Row()
		return append(args, int64(r.Ref.Shard), int64(row.Item), row.Kind, r.Stock, row.Name, row.Buyer, row.Quantity)
	})
}

// Relay implements seckill.OrderStore. Nothing is locked while deliver runs.
func (s *Store) Relay(ctx context.Context, shards []inventory.ShardID, after int64, limit int,
	deliver func(context.Context, []seckill.Outgoing) []int) (int64, error) {
	const what = "relay the outbox"
	if limit <= 0 {
		return 0, fmt.Errorf("%s: %d rows at most", what, limit)
	}
	if !s.calls.Enter() { // held while deliver runs, so that Close waits for it
		return 0, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.calls.Leave()
	ids, rows, err := s.readOutbox(ctx, shards, after, limit)
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
	err = s.inTurn(ctx, func(ctx context.Context, tx *transaction) error {
		_, err := tx.exec(ctx, "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?))", list(done))
		return err
	})
	if err != nil {
		return 0, describe(what, err)
	}
	return last, nil
}

// readOutbox reads rows with their shards' epochs in one statement. A row from before a fence then
// comes with the earlier epoch, and Redis refuses it.
//
// Stock changes wait until the snapshot of the shard's epoch was taken. A stock change that is
// relayed under the new epoch before that would be counted twice: by the snapshot, and by its
// delivery.
func (s *Store) readOutbox(ctx context.Context, shards []inventory.ShardID, after int64, limit int) ([]int64, []seckill.Outgoing, error) {
	var ids []int64
	var out []seckill.Outgoing
	rows, err := s.readers.query(ctx, `SELECT o.id, o.shard, s.epoch, o.item, o.kind, o.stock, o.name, o.buyer, o.quantity
		FROM outbox AS o CROSS JOIN shards AS s ON s.id = o.shard
		WHERE o.id > ? AND o.shard IN (SELECT value FROM json_each(?))
			AND s.epoch > 0 AND (o.stock = 0 OR s.loaded_epoch = s.epoch)
		ORDER BY o.id LIMIT ?`, after, list(shards), limit)
	err = each(rows, err, func(rows *sql.Rows) error {
		var id int64
		row, err := scanOutgoing(rows, &id)
		ids, out = append(ids, id), append(out, row)
		return err
	})
	return ids, out, err
}

func scanOutgoing(rows *sql.Rows, id *int64) (seckill.Outgoing, error) {
	var r seckill.Outgoing
	var row seckill.OutboxRow
	err := rows.Scan(id, &r.Ref.Shard, &r.Ref.Epoch, &row.Item, &row.Kind, &r.Stock, &row.Name, &row.Buyer, &row.Quantity)
	r.SetRow(&row)
	return r, err
}
