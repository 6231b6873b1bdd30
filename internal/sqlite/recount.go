package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Recount implements seckill.StockStore. Parked units are not counted here, because they have no
// counter that could differ.
func (s *Store) Recount(ctx context.Context, shard inventory.ShardID, mend bool, by seckill.Author) (r *seckill.Recount, err error) {
	what := fmt.Sprintf("recount shard %d", shard)
	if !mend {
		err = s.readState(ctx, s.loads, what, func(sn snapshot) error {
			r, err = recount(ctx, sn, shard)
			return err
		})
	} else {
		err = s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
			if r, err = recount(ctx, tx, shard); err != nil {
				return err
			}
			return tx.mend(ctx, r, by)
		})
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func recount(ctx context.Context, q querier, shard inventory.ShardID) (*seckill.Recount, error) {
	sums := seckill.ShardSums{Ref: inventory.Ref{Shard: shard}}
	ok, err := one(ctx, q, "SELECT s.epoch, d.open, d.sold FROM shards AS s CROSS JOIN shard_digests AS d ON d.shard = s.id WHERE s.id = ?",
		[]any{int64(shard)}, &sums.Ref.Epoch, &sums.Open, &sums.Sold)
	if err == nil && !ok {
		err = seckill.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	r := seckill.NewRecount(sums)
	rows, err := q.query(ctx, "SELECT item, total, open, sold FROM stock WHERE shard = ?", int64(shard))
	err = each(rows, err, func(rows *sql.Rows) error {
		var item, total int64
		var counted seckill.UnitCounts
		err := rows.Scan(&item, &total, &counted.Open, &counted.Sold)
		r.AddStock(inventory.ItemID(item), total, counted)
		return err
	})
	if err != nil {
		return nil, err
	}
	rows, err = q.query(ctx, `SELECT item, id, quantity, units FROM orders WHERE shard = ?1 AND (units = 'parked'
		OR units IN ('open', 'sold') AND item IN (SELECT item FROM stock WHERE shard = ?1))`, int64(shard))
	err = each(rows, err, func(rows *sql.Rows) error {
		var item, quantity int64
		var id seckill.OrderID
		var units seckill.UnitState
		err := rows.Scan(&item, &id, &quantity, &units)
		r.AddOrder(inventory.ItemID(item), id, quantity, units)
		if units == seckill.UnitsParked {
			r.AddParked(inventory.ItemID(item), quantity)
		}
		return err
	})
	r.Done()
	return r, err
}

// mend corrects counters and digests to match the rows.
func (tx *transaction) mend(ctx context.Context, r *seckill.Recount, by seckill.Author) error {
	items, sums := r.Mendable()
	if len(items) == 0 && !sums {
		return nil
	}
	for i := range items {
		_, err := tx.exec(ctx, "UPDATE stock SET open = ?3, sold = ?4 WHERE item = ?1 AND shard = ?2",
			int64(items[i].Item), int64(r.Ref.Shard), items[i].Rows.Open, items[i].Rows.Sold)
		if err != nil {
			return err
		}
	}
	_, err := tx.exec(ctx, "UPDATE shard_digests SET open = ?2, sold = ?3 WHERE shard = ?1",
		int64(r.Ref.Shard), int64(r.Rows.Open), int64(r.Rows.Sold))
	if err != nil {
		return err
	}
	record, err := seckill.RecordRecount(r)
	if err != nil {
		return err
	}
	return tx.record(ctx, by, record)
}
