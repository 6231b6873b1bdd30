package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Cancel implements seckill.OrderStore. It waits only for stock rows, and only for a moment.
func (s *Store) Cancel(ctx context.Context, cancels []seckill.Cancellation) ([]seckill.Moved, error) {
	ids := make([]seckill.OrderID, len(cancels))
	var shards []int32 // the shards of orders that may have no row yet
	for i := range cancels {
		ids[i] = cancels[i].Order
		if cancels[i].Queued != nil {
			shards = append(shards, int32(cancels[i].Ref.Shard))
		}
	}
	var out []seckill.Moved
	err := s.write(ctx, "cancel orders", func(ctx context.Context, tx *transaction) error {
		pl, err := s.placesOf(ctx, tx.pipe, ids)
		if err != nil {
			return err
		}
		epochs := queueEpochs(tx.pipe, skipLocked, shards)
		e, err := tx.lockForEvents(ctx, pl, ids, nil)
		if err != nil {
			return err
		}
		out = make([]seckill.Moved, len(cancels))
		for i := range cancels {
			before := e.orders[cancels[i].Order].State
			out[i] = e.cancel(&cancels[i], epochs, tx)
			if err := recordCancel(tx, &cancels[i], before, &out[i]); err != nil {
				return err
			}
		}
		queueChanges(tx, e.found, e.week, e.changes)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// recordCancel queues the change record of an operator's cancellation.
func recordCancel(tx *transaction, c *seckill.Cancellation, before seckill.OrderState, m *seckill.Moved) error {
	if c.By.Actor == "" || !m.Now {
		return nil
	}
	r, err := seckill.RecordOrder(before, &m.Order)
	if err != nil {
		return err
	}
	tx.record(c.By, r)
	return nil
}

// ends are orders that should end, and the rows that were locked for that.
type ends struct {
	*found
	stock   map[seckill.StockKey]bool // the rows that are locked by this transaction
	locked  map[seckill.OrderID]bool  // the orders that another transaction has locked
	homes   map[inventory.ItemID]home
	changes *seckill.Changes
}

// lockForEvents locks the orders that exist and are free, and the stock rows whose units they may
// change. behind queues further reads after the locks; it may be nil.
func (tx *transaction) lockForEvents(ctx context.Context, pl places, ids []seckill.OrderID, behind func()) (*ends, error) {
	e := &ends{changes: seckill.NewChanges()}
	e.found = queueOrders(tx.pipe, lockOrders, pl)
	e.stock = queueOrderStock(tx.pipe, pl)
	tx.readClock()
	if behind != nil {
		behind()
	}
	if err := tx.flush(ctx); err != nil {
		return nil, err
	}
	if err := tx.readMissing(ctx, e, pl, ids); err != nil {
		return nil, err
	}
	return e, tx.awaitStock(ctx, e.stock, e.keys())
}

// readMissing finds out which of the orders that were not locked exist: another transaction has
// these. For the others it reads the homes again, because new rows may be made for them.
func (tx *transaction) readMissing(ctx context.Context, e *ends, pl places, ids []seckill.OrderID) error {
	e.homes, e.locked = pl.homes, make(map[seckill.OrderID]bool)
	var missing []string
	var items []int64
	for _, id := range ids {
		if _, ok := e.orders[id]; !ok {
			missing, items = append(missing, string(id)), append(items, int64(id.Item()))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, week := range inOrder(pl.ids) {
		tx.each(func(rows pgx.Rows) error {
			var id seckill.OrderID
			err := rows.Scan((*string)(&id))
			e.locked[id] = true
			return err
		}, "SELECT id FROM orders WHERE week = $1 AND id = ANY($2)", week, missing)
	}
	e.homes = queueHomes(tx.pipe, items)
	return tx.flush(ctx)
}

// keys returns the stock rows of the orders whose units may change.
func (e *ends) keys() (keys []seckill.StockKey) {
	for _, o := range e.orders {
		if o.Units == seckill.UnitsOpen {
			keys = append(keys, o.Stock())
		}
	}
	return keys
}

func (e *ends) week(o *seckill.Order) int32 { return e.homes[o.Item].week } // the strays, if the item is gone

// free reports whether the order's units may change now.
func (e *ends) free(o *seckill.Order) bool {
	return o.Units != seckill.UnitsOpen || e.stock[o.Stock()]
}

func (e *ends) cancel(c *seckill.Cancellation, epochs map[inventory.ShardID]inventory.Epoch, tx *transaction) seckill.Moved {
	before, ok := e.orders[c.Order]
	switch {
	case !ok && e.locked[c.Order]:
		return seckill.Moved{Locked: true}
	case ok && !e.free(&before):
		return seckill.Moved{Order: before, Locked: true}
	case ok:
		m := seckill.DecideEvent(before, seckill.EventCancelled, tx.now, e.changes)
		e.orders[c.Order] = m.Order
		return m
	case c.Queued == nil:
		return seckill.Moved{}
	}
	epoch, ok := epochs[c.Ref.Shard]
	if !ok {
		return seckill.Moved{Locked: true} // a fence is about to change the epoch
	}
	order, ok := seckill.DecideCancelQueued(c, epoch, tx.now, e.changes)
	if !ok {
		return seckill.Moved{}
	}
	e.orders[c.Order] = order // for a repeat of the order in the same call
	return seckill.Moved{Order: order, Now: true}
}
