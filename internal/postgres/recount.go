package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// recountTime and recountSettings are the timeout and the settings of a transaction that reads all
// orders of a shard.
const (
	recountTime     = 10 * time.Minute
	recountSettings = "SELECT set_config('lock_timeout', '1min', true)"
)

// The statements of a recount. Orders of a dropped activity stay for a while, but are not counted.
const (
	countedStock  = "SELECT item, total, open, sold FROM stock WHERE shard = $1"
	countedParked = "SELECT item, parked FROM stock_exceptions WHERE shard = $1 AND parked <> 0"
	countedOrders = `WITH known AS MATERIALIZED (SELECT item FROM stock WHERE shard = $1)
		SELECT item, id, quantity, units FROM orders WHERE shard = $1 AND (units = 'parked'
			OR units IN ('open', 'sold') AND item IN (SELECT item FROM known))`
)

// Recount implements seckill.StockStore. To mend, it first locks all rows of counters, in the order
// in which others lock them. Every transaction that changes an order's units also changes a row of
// the shard's digests before it commits. So what the recount reads doesn't change until the
// counters are set.
func (s *Store) Recount(ctx context.Context, shard inventory.ShardID, mend bool, by seckill.Author) (*seckill.Recount, error) {
	what := fmt.Sprintf("recount shard %d", shard)
	var r *seckill.Recount
	if !mend {
		err := s.readSnapshot(ctx, what, func(p *pipe) {
			r = nil
			queueRecount(p, shard, &r)
		})
		return finished(r, err)
	}
	err := s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		tx.takesLong(recountTime)
		tx.exec(recountSettings)
		for _, text := range []string{
			"SELECT FROM stock WHERE shard = $1 ORDER BY item FOR NO KEY UPDATE",
			"SELECT FROM stock_exceptions WHERE shard = $1 ORDER BY item FOR NO KEY UPDATE",
			"SELECT FROM shard_digests WHERE shard = $1 ORDER BY slot FOR NO KEY UPDATE",
		} {
			tx.exec(text, int32(shard))
		}
		tx.readClock()
		r = nil
		queueRecount(tx.pipe, shard, &r)
		if err := tx.flush(ctx); err != nil {
			return err
		}
		if r == nil {
			return seckill.ErrNotFound
		}
		r.Done()
		return tx.mend(r, by)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// finished completes a recount. If there is no such shard, nothing was filled.
func finished(r *seckill.Recount, err error) (*seckill.Recount, error) {
	switch {
	case err != nil:
		return nil, err
	case r == nil:
		return nil, seckill.ErrNotFound
	}
	r.Done()
	return r, nil
}

// queueRecount queues the reading of a shard into r.
func queueRecount(p *pipe, shard inventory.ShardID, r **seckill.Recount) {
	p.takesLong(recountTime)
	p.exec(recountSettings)
	p.each(func(rows pgx.Rows) error {
		sums := seckill.ShardSums{Ref: inventory.Ref{Shard: shard}}
		var epoch, open, sold int64
		err := rows.Scan(&epoch, &open, &sold, &sums.Pending)
		sums.Ref.Epoch, sums.Open, sums.Sold = inventory.Epoch(epoch), inventory.Digest(open), inventory.Digest(sold)
		*r = seckill.NewRecount(sums)
		return err
	}, shardSums, int32(shard), int64(inventory.DigestModulus))
	p.each(func(rows pgx.Rows) error {
		var item, total int64
		var counted seckill.UnitCounts
		err := rows.Scan(&item, &total, &counted.Open, &counted.Sold)
		(*r).AddStock(inventory.ItemID(item), total, counted)
		return err
	}, countedStock, int32(shard))
	p.each(func(rows pgx.Rows) error {
		var item, parked int64
		err := rows.Scan(&item, &parked)
		(*r).AddParked(inventory.ItemID(item), parked)
		return err
	}, countedParked, int32(shard))
	p.each(func(rows pgx.Rows) error {
		var item, quantity int64
		var id, units string
		err := rows.Scan(&item, &id, &quantity, &units)
		(*r).AddOrder(inventory.ItemID(item), seckill.OrderID(id), quantity, seckill.UnitState(units))
		return err
	}, countedOrders, int32(shard))
}

// mend queues the correction of counters and digests to match the rows.
func (tx *transaction) mend(r *seckill.Recount, by seckill.Author) error {
	items, sums := r.Mendable()
	if len(items) == 0 && !sums {
		return nil
	}
	for i := range items {
		at := &items[i]
		if at.Known {
			tx.exec("UPDATE stock SET open = $3, sold = $4 WHERE item = $1 AND shard = $2",
				int64(at.Item), int32(r.Ref.Shard), at.Rows.Open, at.Rows.Sold)
		}
		if at.Counted.Parked != at.Rows.Parked {
			tx.exec(`INSERT INTO stock_exceptions AS e (item, shard, parked, skipped, rejected) VALUES ($1, $2, $3, 0, 0)
				ON CONFLICT (item, shard) DO UPDATE SET parked = excluded.parked`, int64(at.Item), int32(r.Ref.Shard), at.Rows.Parked)
		}
	}
	if sums {
		tx.exec(`UPDATE shard_digests SET open = CASE slot WHEN 0 THEN $2::bigint ELSE 0 END,
			sold = CASE slot WHEN 0 THEN $3::bigint ELSE 0 END WHERE shard = $1`,
			int32(r.Ref.Shard), int64(r.Rows.Open), int64(r.Rows.Sold))
	}
	record, err := seckill.RecordRecount(r)
	if err == nil {
		tx.record(by, record)
	}
	return err
}
