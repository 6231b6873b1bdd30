package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Shards implements seckill.StockStore.
func (s *Store) Shards(ctx context.Context) ([]seckill.ShardRow, error) {
	var out []seckill.ShardRow
	err := s.read(ctx, "read the shards", func(q *statements) error {
		rows, err := q.query(ctx, "SELECT id, epoch, next_epoch, suspect_epoch = epoch, loaded_epoch < epoch FROM shards ORDER BY id")
		return each(rows, err, func(rows *sql.Rows) error {
			var r seckill.ShardRow
			err := rows.Scan(&r.Ref.Shard, &r.Ref.Epoch, &r.NextEpoch, &r.Suspect, &r.Unloaded)
			out = append(out, r)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Incarnation implements seckill.StockStore. Each Open begins another one.
func (s *Store) Incarnation(ctx context.Context) (string, error) {
	var out string
	err := s.read(ctx, "read the incarnation", func(q *statements) error {
		_, err := one(ctx, q, "SELECT incarnation FROM installation", nil, &out)
		return err
	})
	return out, err
}

// NextEpoch implements seckill.StockStore.
func (s *Store) NextEpoch(ctx context.Context, shard inventory.ShardID) (inventory.Epoch, error) {
	var epoch inventory.Epoch
	err := s.write(ctx, fmt.Sprintf("take the next epoch of shard %d", shard), func(ctx context.Context, tx *transaction) error {
		ok, err := one(ctx, tx, `UPDATE shards SET next_epoch = max(next_epoch + 1, epoch + 1, ?2) WHERE id = ?1
			RETURNING next_epoch`, []any{int64(shard), tx.now.UnixMilli()}, &epoch)
		if err == nil && !ok {
			return seckill.ErrNotFound
		}
		return err
	})
	return epoch, err
}

// Fence implements seckill.StockStore.
func (s *Store) Fence(ctx context.Context, ref inventory.Ref, incarnation string) error {
	what := fmt.Sprintf("fence shard %d with epoch %d", ref.Shard, ref.Epoch)
	return s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		n, err := tx.change(ctx, `UPDATE shards SET epoch = ?2 WHERE id = ?1 AND next_epoch = ?2 AND next_epoch > 0
			AND (SELECT incarnation FROM installation) = ?3`, int64(ref.Shard), int64(ref.Epoch), incarnation)
		if err == nil && n == 0 {
			return tx.whyFenced(ctx, ref)
		}
		return err
	})
}

// atEpoch refuses a change that is meant for another epoch of the shard.
func (tx *transaction) atEpoch(ctx context.Context, ref inventory.Ref) error {
	ok, err := exists(ctx, tx, "SELECT 1 FROM shards WHERE id = ? AND epoch = ?", int64(ref.Shard), int64(ref.Epoch))
	if err == nil && !ok {
		return tx.whyFenced(ctx, ref)
	}
	return err
}

// atEpochOf is atEpoch for a change that is also meant for one incarnation.
func (tx *transaction) atEpochOf(ctx context.Context, ref inventory.Ref, incarnation string) error {
	ok, err := exists(ctx, tx, `SELECT 1 FROM shards WHERE id = ? AND epoch = ?
		AND (SELECT incarnation FROM installation) = ?`, int64(ref.Shard), int64(ref.Epoch), incarnation)
	if err == nil && !ok {
		return tx.whyFenced(ctx, ref)
	}
	return err
}

// whyFenced returns ErrFenced with the shard's row, or ErrNotFound if there is no such shard.
func (tx *transaction) whyFenced(ctx context.Context, ref inventory.Ref) error {
	var epoch, next int64
	var incarnation string
	ok, err := one(ctx, tx, "SELECT epoch, next_epoch, incarnation FROM shards, installation WHERE id = ?",
		[]any{int64(ref.Shard)}, &epoch, &next, &incarnation)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("shard %d: %w", ref.Shard, seckill.ErrNotFound)
	}
	return fmt.Errorf("%w: shard %d has epoch %d, the last one given out is %d, in incarnation %s",
		seckill.ErrFenced, ref.Shard, epoch, next, incarnation)
}

// MarkSuspect implements seckill.StockStore.
func (s *Store) MarkSuspect(ctx context.Context, ref inventory.Ref) error {
	return s.write(ctx, fmt.Sprintf("mark shard %d suspect", ref.Shard), func(ctx context.Context, tx *transaction) error {
		_, err := tx.exec(ctx, "UPDATE shards SET suspect_epoch = epoch WHERE id = ? AND epoch <= ?",
			int64(ref.Shard), int64(ref.Epoch))
		return err
	})
}
