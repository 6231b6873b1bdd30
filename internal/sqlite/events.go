package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"penstock/seckill"
)

// step is a row of order_events: what an order became, and when.
type step struct {
	order  seckill.OrderID
	state  seckill.OrderState
	reason seckill.Reason
	at     int64
}

// insertSteps keeps the steps of a transaction, where somebody wants to hear of them.
func insertSteps(ctx context.Context, tx *transaction, steps []seckill.Order) error {
	if !tx.events {
		return nil
	}
	const text = "INSERT INTO order_events (order_id, state, reason, at) VALUES {(?,?,?,?)}"
	return insert(ctx, tx.statements, text, steps, func(args []any, o *seckill.Order) []any {
		return append(args, string(o.ID), string(o.State), string(o.Reason), o.UpdatedAt.UnixMicro())
	})
}

// RelayEvents implements backoffice.EventStore. Nothing is locked while deliver runs. There is one
// writer, so steps commit in the order of their ids, and all up to the last one read were read.
func (s *Store) RelayEvents(ctx context.Context, limit int, deliver func(context.Context, []seckill.Order) error) (int, error) {
	const what = "relay order events"
	if limit <= 0 {
		return 0, fmt.Errorf("%s: %d at most", what, limit)
	}
	if !s.enter() { // also for the time of deliver: Close waits for it
		return 0, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.leave()
	if !s.relaying.TryLock() {
		return 0, nil
	}
	defer s.relaying.Unlock()
	last, steps, err := s.readSteps(ctx, limit)
	if err != nil {
		return 0, describe(what, err)
	}
	if last == 0 {
		return 0, nil
	}
	if len(steps) > 0 {
		if err := deliver(ctx, steps); err != nil {
			return 0, describe(what, err)
		}
	}
	err = s.inTurn(ctx, func(ctx context.Context, tx *transaction) error {
		_, err := tx.exec(ctx, "DELETE FROM order_events WHERE id <= ?", last)
		return err
	})
	if err != nil {
		return 0, describe(what, err)
	}
	return len(steps), nil
}

// readSteps reads the oldest steps, and the id of the last one.
func (s *Store) readSteps(ctx context.Context, limit int) (last int64, orders []seckill.Order, err error) {
	if err := context.Cause(ctx); err != nil {
		return 0, nil, err
	}
	var steps []step
	var ids []seckill.OrderID
	rows, err := s.readers.query(ctx, "SELECT id, order_id, state, reason, at FROM order_events ORDER BY id LIMIT ?", limit)
	err = each(rows, err, func(rows *sql.Rows) error {
		var st step
		err := rows.Scan(&last, &st.order, &st.state, &st.reason, &st.at)
		steps, ids = append(steps, st), append(ids, st.order)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	found, err := findOrders(ctx, s.readers, ids)
	if err != nil {
		return 0, nil, err
	}
	for _, st := range steps {
		if o, ok := found[st.order]; ok {
			o.State, o.Reason, o.UpdatedAt, o.Units = st.state, st.reason, fromMicros(st.at), ""
			orders = append(orders, o)
		}
	}
	return last, orders, nil
}

// EventsWaiting implements backoffice.EventStore.
func (s *Store) EventsWaiting(ctx context.Context) (time.Duration, error) {
	var at int64
	waits := false
	err := s.read(ctx, "look at the oldest order event", func(q *statements) (err error) {
		waits, err = one(ctx, q, "SELECT at FROM order_events ORDER BY id LIMIT 1", nil, &at)
		return errors.Join(err, context.Cause(ctx))
	})
	if err != nil || !waits {
		return 0, err
	}
	return max(0, s.now().Sub(fromMicros(at))), nil
}
