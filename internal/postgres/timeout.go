package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// weeksAtOnce is how many partitions one statement searches. A statement locks each of its
// partitions and their indexes, so this bounds a call's part of the server's lock table.
const weeksAtOnce = 8

// eachWeeks calls fn with the existing partitions, some at a time. Each call is a separate round
// trip, so that no more locks are held at once.
func eachWeeks(ctx context.Context, p *pipe, fn func(weeks []int32) error) error {
	var weeks []int32
	p.each(func(rows pgx.Rows) error {
		var week int32
		err := rows.Scan(&week)
		weeks = append(weeks, week)
		return err
	}, "SELECT week FROM weeks ORDER BY week")
	if err := p.flush(ctx); err != nil {
		return err
	}
	for some := range slices.Chunk(weeks, weeksAtOnce) {
		if err := fn(some); err != nil {
			return err
		}
	}
	return nil
}

// due has the orders of shards whose time is over, oldest first in each shard. now() is the
// beginning of the statement, so it is never too late.
const due = `SELECT o.week, o.id, o.pay_by FROM unnest($1::int[]) AS s (shard) CROSS JOIN LATERAL (
		SELECT week, id, pay_by FROM orders WHERE week = ANY($2) AND orders.shard = s.shard
			AND state = 'pending_payment' AND pay_by < coalesce($3, now()) AND item <> ALL($4) AND activity <> ALL($6)
		ORDER BY pay_by LIMIT $5
	) AS o`

// dueOrder is an order whose time was over when it was looked for.
type dueOrder struct {
	week  int32
	id    string
	payBy time.Time
}

// findDue returns up to limit orders whose time is over, oldest first.
func (s *Store) findDue(ctx context.Context, shards []int32, without []int64, held []string,
	limit int) ([]dueOrder, error) {
	var all []dueOrder
	err := s.read(ctx, "look for orders to time out", func(ctx context.Context, p *pipe) error {
		all = nil
		return eachWeeks(ctx, p, func(weeks []int32) error {
			p.each(func(rows pgx.Rows) error {
				var d dueOrder
				err := rows.Scan(&d.week, &d.id, &d.payBy)
				all = append(all, d)
				return err
			}, due, shards, weeks, s.testTime(), without, limit, held)
			return p.flush(ctx)
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b dueOrder) int {
		return cmp.Or(a.payBy.Compare(b.payBy), cmp.Compare(a.id, b.id))
	})
	return all[:min(limit, len(all))], nil
}

// timeOutRounds bounds how often TimeOut looks for more orders when all that it found were locked.
const timeOutRounds = 4

// TimeOut implements seckill.OrderStore. It leaves out orders whose rows another transaction has
// locked, to pay or cancel them. It also leaves out orders of items with locked rows, without
// hiding others.
func (s *Store) TimeOut(ctx context.Context, shards []inventory.ShardID, held []seckill.ActivityID, limit int) (int, error) {
	count := 0
	without, apart := []int64{}, make([]string, len(held))
	for i, id := range held {
		apart[i] = string(id)
	}
	for range timeOutRounds {
		if limit <= count {
			break
		}
		found, err := s.findDue(ctx, shardColumn(shards), without, apart, limit-count)
		if err != nil || len(found) == 0 {
			return count, err
		}
		n, locked, err := s.timeOut(ctx, found)
		count += n
		if err != nil || len(locked) == 0 {
			return count, err
		}
		without = append(without, locked...)
	}
	return count, nil
}

// timeOut times out orders, and returns the items whose stock rows are locked.
func (s *Store) timeOut(ctx context.Context, list []dueOrder) (count int, locked []int64, err error) {
	ids := make([]seckill.OrderID, len(list))
	pl := places{ids: make(map[int32][]string)}
	for i, d := range list {
		ids[i] = seckill.OrderID(d.id)
		pl.ids[d.week] = append(pl.ids[d.week], d.id)
	}
	err = s.write(ctx, "time out orders", func(ctx context.Context, tx *transaction) error {
		count, locked = 0, nil
		e := &ends{changes: seckill.NewChanges()}
		e.found = queueOrders(tx.pipe, lockOrders, pl)
		e.stock = queueOrderStock(tx.pipe, pl)
		tx.readClock()
		if err := tx.flush(ctx); err != nil {
			return err
		}
		if err := tx.awaitStock(ctx, e.stock, e.keys()); err != nil {
			return err
		}
		busy := make(map[inventory.ItemID]bool)
		for _, id := range ids {
			before, ok := e.orders[id]
			switch {
			case !ok || !before.PayBy.Before(tx.now):
			case !e.free(&before):
				busy[before.Item] = true
			case seckill.DecideEvent(before, seckill.EventTimedOut, tx.now, e.changes).Now:
				count++
			}
		}
		for _, item := range inOrder(busy) {
			locked = append(locked, int64(item))
		}
		queueChanges(tx, e.found, e.week, e.changes)
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	return count, locked, nil
}

func shardColumn(shards []inventory.ShardID) []int32 {
	column := make([]int32, len(shards))
	for i, shard := range shards {
		column[i] = int32(shard)
	}
	return column
}

// testTime replaces now() in tests; otherwise it is NULL.
func (s *Store) testTime() any {
	if s.clock == nil {
		return nil
	}
	return s.clock()
}
