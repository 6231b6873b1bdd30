package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"penstock/seckill"
)

// insertSteps queues the steps of a transaction, where somebody wants to hear of them.
func insertSteps(tx *transaction, steps []seckill.Step) {
	if !tx.events || len(steps) == 0 {
		return
	}
	n := len(steps)
	ids, states, reasons := make([]string, n), make([]string, n), make([]string, n)
	payments, currencies, causes, moneys := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	times, paid := make([]time.Time, n), make([]int64, n)
	for i := range steps {
		s := &steps[i]
		ids[i], states[i], reasons[i], times[i] = string(s.ID), string(s.State), string(s.Reason), s.UpdatedAt
		payments[i], paid[i], currencies[i] = string(s.Payment), s.Paid.Minor, s.Paid.Currency
		causes[i], moneys[i] = string(s.Cause), string(s.Money)
	}
	tx.exec(`INSERT INTO order_events (order_id, state, reason, at, payment, paid, currency, cause, money)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::bigint[], $7::text[], $8::text[],
			$9::text[])`, ids, states, reasons, times, payments, paid, currencies, causes, moneys)
}

// eventsLock is the advisory lock of the process that relays order events: "Pstk", 2.
const eventsLock = 0x5073746b_00000002

// RelayEvents implements backoffice.EventStore. The process that relays has an advisory lock of its
// transaction, so that the steps of one order go out in their order. The transaction is open while
// deliver runs, and idle: it has no snapshot and has written nothing, so it keeps nobody from
// vacuuming. A process that stops in the middle loses it with its session
// (idle_in_transaction_session_timeout).
//
// The ids are given out before the commits, so a step may appear below others that were relayed
// already; it is the oldest then. Two steps of one order never are in that case: the second is made
// by a transaction that has seen the first.
func (s *Store) RelayEvents(ctx context.Context, limit int, deliver func(context.Context, []seckill.Step) error) (n int, err error) {
	const what = "relay order events"
	if limit <= 0 {
		return 0, fmt.Errorf("%s: %d at most", what, limit)
	}
	if !s.enter() { // also for the time of deliver: Close waits for it
		return 0, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.leave()
	defer func() { err = describe(what, err) }()
	conn, done, err := s.keep(ctx) // deliver may ask the store
	if err != nil {
		return 0, err
	}
	defer done()
	p := newPipe(conn.Conn())
	defer func() { err = errors.Join(err, p.rollback(ctx)) }()
	p.exec(begin)
	if locked, err := p.exists(ctx, "SELECT 1 WHERE pg_try_advisory_xact_lock($1)", int64(eventsLock)); err != nil || !locked {
		return 0, err
	}
	return s.relaySteps(ctx, p, limit, deliver)
}

// relaySteps reads steps, delivers and deletes them, and commits.
func (s *Store) relaySteps(ctx context.Context, p *pipe, limit int, deliver func(context.Context, []seckill.Step) error) (int, error) {
	var ids []int64
	var orders []seckill.OrderID
	var steps []seckill.Step
	p.each(func(rows pgx.Rows) error {
		var id int64
		var st seckill.Step
		err := rows.Scan(&id, (*string)(&st.ID), (*string)(&st.State), (*string)(&st.Reason), &st.UpdatedAt, (*string)(&st.Payment),
			&st.Paid.Minor, &st.Paid.Currency, (*string)(&st.Cause), (*string)(&st.Money))
		st.UpdatedAt = st.UpdatedAt.UTC()
		ids, orders, steps = append(ids, id), append(orders, st.ID), append(steps, st)
		return err
	}, `SELECT id, order_id, state, reason, at, payment, paid, currency, cause, money FROM order_events
		ORDER BY id LIMIT $1`, limit)
	if err := p.flush(ctx); err != nil || len(ids) == 0 {
		return 0, err
	}
	pl, err := s.placesOf(ctx, p, orders)
	if err != nil {
		return 0, err
	}
	f := queueOrders(p, findOrders, pl)
	if err := p.flush(ctx); err != nil {
		return 0, err
	}
	out := make([]seckill.Step, 0, len(steps))
	for _, st := range steps {
		if o, ok := f.orders[st.ID]; ok {
			out = append(out, st.Of(o))
		}
	}
	if len(out) > 0 {
		if err := deliver(ctx, out); err != nil {
			return 0, err
		}
	}
	p.exec("DELETE FROM order_events WHERE id = ANY($1)", ids)
	p.commit()
	return len(out), p.flush(ctx)
}

// EventsWaiting implements backoffice.EventStore.
func (s *Store) EventsWaiting(ctx context.Context) (time.Duration, error) {
	var micros int64
	err := s.read(ctx, "look at the oldest order event", func(ctx context.Context, p *pipe) error {
		_, err := p.one(ctx, `SELECT (extract(epoch FROM coalesce($1::timestamptz, clock_timestamp()) - at) * 1e6)::bigint
			FROM order_events ORDER BY id LIMIT 1`, []any{s.testTime()}, &micros)
		return err
	})
	return max(0, time.Duration(micros)*time.Microsecond), err
}
