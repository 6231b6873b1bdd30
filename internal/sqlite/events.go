package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/penstock/penstock/seckill"
)

// insertSteps keeps the steps of a transaction, where somebody wants to hear of them.
func insertSteps(ctx context.Context, tx *transaction, steps []seckill.Step) error {
	if !tx.events {
		return nil
	}
	const text = `INSERT INTO order_events (order_id, state, reason, at, payment, paid, currency, cause, money)
		VALUES {(?,?,?,?,?,?,?,?,?)}`
	return insert(ctx, tx.statements, text, steps, func(args []any, s *seckill.Step) []any {
		return append(args, string(s.ID), string(s.State), string(s.Reason), s.UpdatedAt.UnixMicro(), string(s.Payment),
			s.Paid.Minor, s.Paid.Currency, string(s.Cause), string(s.Money))
	})
}

// RelayEvents implements backoffice.EventStore. Nothing is locked while deliver runs. There is one
// writer, so steps commit in the order of their ids, and all up to the last one read were read.
func (s *Store) RelayEvents(ctx context.Context, limit int, deliver func(context.Context, []seckill.Step) error) (int, error) {
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
func (s *Store) readSteps(ctx context.Context, limit int) (last int64, out []seckill.Step, err error) {
	if err := context.Cause(ctx); err != nil {
		return 0, nil, err
	}
	var steps []seckill.Step
	var ids []seckill.OrderID
	rows, err := s.readers.query(ctx, `SELECT id, order_id, state, reason, at, payment, paid, currency, cause, money
		FROM order_events ORDER BY id LIMIT ?`, limit)
	err = each(rows, err, func(rows *sql.Rows) error {
		var st seckill.Step
		var at int64
		err := rows.Scan(&last, &st.ID, &st.State, &st.Reason, &at, &st.Payment, &st.Paid.Minor, &st.Paid.Currency, &st.Cause, &st.Money)
		st.UpdatedAt = fromMicros(at)
		steps, ids = append(steps, st), append(ids, st.ID)
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
		if o, ok := found[st.ID]; ok {
			out = append(out, st.Of(o))
		}
	}
	return last, out, nil
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
