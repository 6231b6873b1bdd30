package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Shards implements seckill.StockStore.
func (s *Store) Shards(ctx context.Context) ([]seckill.ShardRow, error) {
	return list(ctx, s, "read the shards", func(rows pgx.Rows) (row seckill.ShardRow, err error) {
		var shard int32
		var epoch, next int64
		err = rows.Scan(&shard, &epoch, &next, &row.Suspect, &row.Unloaded)
		row.Ref = inventory.Ref{Shard: inventory.ShardID(shard), Epoch: inventory.Epoch(epoch)}
		row.NextEpoch = inventory.Epoch(next)
		return row, err
	}, `SELECT s.id, s.epoch, s.next_epoch, s.epoch > 0 AND s.suspect_epoch = s.epoch, l.epoch < s.epoch
		FROM shards AS s JOIN shard_loads AS l ON l.shard = s.id ORDER BY s.id`)
}

// Incarnation implements seckill.StockStore.
func (s *Store) Incarnation(ctx context.Context) (string, error) {
	var name string
	err := s.read(ctx, "read the incarnation", func(ctx context.Context, p *pipe) error {
		_, err := p.one(ctx, "SELECT penstock_incarnation()", nil, &name)
		return err
	})
	return name, err
}

// NextEpoch implements seckill.StockStore.
func (s *Store) NextEpoch(ctx context.Context, shard inventory.ShardID) (inventory.Epoch, error) {
	var epoch int64
	what := fmt.Sprintf("take the next epoch of shard %d", shard)
	err := s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		ok, err := tx.one(ctx, `UPDATE shards SET next_epoch = greatest(next_epoch + 1, epoch + 1,
				(extract(epoch FROM coalesce($2::timestamptz, clock_timestamp())) * 1000)::bigint)
			WHERE id = $1 RETURNING next_epoch`, []any{int32(shard), s.testTime()}, &epoch)
		if err == nil && !ok {
			return seckill.ErrNotFound
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return inventory.Epoch(epoch), nil
}

// Fence implements seckill.StockStore. The UPDATE waits for transactions that have locked the row
// FOR SHARE, and they wait for the UPDATE. So writes of an older epoch are committed before the
// fence, or not at all.
func (s *Store) Fence(ctx context.Context, ref inventory.Ref, incarnation string) error {
	what := fmt.Sprintf("fence shard %d with epoch %d", ref.Shard, ref.Epoch)
	return s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		n, err := tx.change(ctx, `UPDATE shards SET epoch = $2
			WHERE id = $1 AND next_epoch = $2 AND next_epoch > 0 AND penstock_incarnation() = $3`,
			int32(ref.Shard), int64(ref.Epoch), incarnation)
		if err == nil && n == 0 {
			return whyFenced(ctx, tx.pipe, ref)
		}
		return err
	})
}

// whyFenced returns ErrFenced with the shard's row, or ErrNotFound if there is no such shard.
func whyFenced(ctx context.Context, p *pipe, ref inventory.Ref) error {
	var epoch, next int64
	var life string
	ok, err := p.one(ctx, "SELECT epoch, next_epoch, penstock_incarnation() FROM shards WHERE id = $1", []any{int32(ref.Shard)},
		&epoch, &next, &life)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("shard %d: %w", ref.Shard, seckill.ErrNotFound)
	}
	return fmt.Errorf("%w: shard %d has epoch %d, the last one given out is %d, in incarnation %s",
		seckill.ErrFenced, ref.Shard, epoch, next, life)
}

// MarkSuspect implements seckill.StockStore.
func (s *Store) MarkSuspect(ctx context.Context, ref inventory.Ref) error {
	what := fmt.Sprintf("mark shard %d suspect", ref.Shard)
	return s.write(ctx, what, func(_ context.Context, tx *transaction) error {
		tx.exec("UPDATE shards SET suspect_epoch = epoch WHERE id = $1 AND epoch <= $2 AND suspect_epoch <> epoch",
			int32(ref.Shard), int64(ref.Epoch))
		return nil
	})
}

// shardSums has the sums of a shard. One statement sees one moment.
const shardSums = `SELECT s.epoch, (sum(d.open) % $2::bigint)::bigint, (sum(d.sold) % $2::bigint)::bigint,
		(SELECT count(*) FROM outbox AS o WHERE o.shard = s.id)
	FROM shards AS s JOIN shard_digests AS d ON d.shard = s.id WHERE s.id = $1 GROUP BY s.id`

// ShardSums implements seckill.StockStore.
func (s *Store) ShardSums(ctx context.Context, shard inventory.ShardID) (seckill.ShardSums, error) {
	var sums seckill.ShardSums
	err := s.read(ctx, fmt.Sprintf("read the sums of shard %d", shard), func(ctx context.Context, p *pipe) error {
		var epoch, open, sold int64
		ok, err := p.one(ctx, shardSums, []any{int32(shard), int64(inventory.DigestModulus)}, &epoch, &open, &sold, &sums.Pending)
		if err == nil && !ok {
			return seckill.ErrNotFound
		}
		sums.Ref = inventory.Ref{Shard: shard, Epoch: inventory.Epoch(epoch)}
		sums.Open, sums.Sold = inventory.Digest(open), inventory.Digest(sold)
		return err
	})
	return sums, err
}
