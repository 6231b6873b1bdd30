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

// toUnpark has the parked orders of shards whose last try is longest ago. Those with a dead letter
// fit no item, and wait until the letter is replayed.
const toUnpark = `SELECT o.week, o.id, o.updated_at FROM unnest($1::int[]) AS s (shard) CROSS JOIN LATERAL (
		SELECT week, id, updated_at FROM orders WHERE week = ANY($2) AND orders.shard = s.shard
			AND state = 'parked' AND reason = 'locked' ORDER BY updated_at LIMIT $3
	) AS o`

// Unpark implements seckill.OrderStore.
func (s *Store) Unpark(ctx context.Context, shards []inventory.ShardID, limit int) ([]seckill.Acceptance, error) {
	ids, err := s.findParked(ctx, shardColumn(shards), max(limit, 0))
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	var out []seckill.Acceptance
	err = s.write(ctx, "try parked orders again", func(ctx context.Context, tx *transaction) error {
		out = nil
		un, err := s.lockParked(ctx, tx, lockOrders, ids, nil)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if o, ok := un.orders[id]; ok && o.State == seckill.OrderParked && o.Reason == seckill.ReasonLocked {
				a := seckill.DecideUnpark(&o, un.in.AcceptInput, un.changes)
				un.orders[id] = a.Order
				out = append(out, a)
			}
		}
		queueChanges(tx, un.found, un.in.weekOf(un.places), un.changes)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// findParked returns the ids of up to limit parked orders; those that were tried longest ago come
// first. In most cases none is parked, and one read shows that.
func (s *Store) findParked(ctx context.Context, shards []int32, limit int) ([]seckill.OrderID, error) {
	type parked struct {
		id    string
		tried time.Time
	}
	var all []parked
	err := s.read(ctx, "look for parked orders", func(ctx context.Context, p *pipe) error {
		all = nil
		some, err := p.exists(ctx, "SELECT FROM stock_exceptions WHERE shard = ANY($1) AND parked > 0 LIMIT 1", shards)
		if err != nil || !some {
			return err
		}
		return eachWeeks(ctx, p, func(weeks []int32) error {
			p.each(func(rows pgx.Rows) error {
				var one parked
				var week int32
				err := rows.Scan(&week, &one.id, &one.tried)
				all = append(all, one)
				return err
			}, toUnpark, shards, weeks, limit)
			return p.flush(ctx)
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b parked) int {
		return cmp.Or(a.tried.Compare(b.tried), cmp.Compare(a.id, b.id))
	})
	ids := make([]seckill.OrderID, 0, limit)
	for _, one := range all[:min(limit, len(all))] {
		ids = append(ids, seckill.OrderID(one.id))
	}
	return ids, nil
}

// unparking are parked orders that are tried again, with the data for their decision.
type unparking struct {
	*found
	places  places
	in      input
	changes *seckill.Changes
}

// lockParked locks the orders of a query, and their stock rows if those are free, and reads what
// the decision needs. It also does that for the promises of pages, whose orders are ids. It locks
// the shards' rows, too, as for every order that is opened.
func (s *Store) lockParked(ctx context.Context, tx *transaction, text string, ids []seckill.OrderID,
	pages []seckill.Page) (*unparking, error) {
	pl, err := s.placesOf(ctx, tx.pipe, ids)
	if err != nil {
		return nil, err
	}
	un := &unparking{places: pl, changes: seckill.NewChanges()}
	un.found = queueOrders(tx.pipe, text, pl)
	if err := tx.flush(ctx); err != nil {
		return nil, err
	}
	var shards []int32
	wanted := make(map[seckill.StockKey]bool)
	who := newBuyers()
	for _, o := range un.orders {
		shards, wanted[o.Stock()] = append(shards, int32(o.Grant.Shard)), true
		if h, ok := pl.homes[o.Item]; ok {
			who.add(h, o.ID, o.Item, o.User)
		}
	}
	for i := range pages {
		p := &pages[i]
		shards = append(shards, int32(p.Ref.Shard))
		for j := range p.Promises {
			r := &p.Promises[j]
			wanted[seckill.StockKey{Item: r.Item(), Shard: p.Ref.Shard}] = true
			if h, ok := pl.homes[r.Item()]; ok {
				who.add(h, r.Order, r.Item(), r.User)
			}
		}
	}
	return un, tx.readParked(ctx, un, shards, keysInOrder(wanted), who)
}

func (tx *transaction) readParked(ctx context.Context, un *unparking, shards []int32, keys []seckill.StockKey, who *buyers) error {
	epochs := queueEpochs(tx.pipe, "", shards)
	stock := queueLedgers(tx.pipe, lockFreeLedgers, keys)
	un.in.there = queueKeys(tx.pipe, keys)
	tx.readClock()
	bought := who.queue(tx.pipe)
	if err := tx.flush(ctx); err != nil {
		return err
	}
	un.in.AcceptInput = &seckill.AcceptInput{
		Epochs: epochs, Stock: stock, Locked: lockedKeys(un.in.there, stock), Existing: un.orders, Bought: bought, Now: tx.now,
	}
	return nil
}
