package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/seckill"
)

// insertSteps queues the steps of a transaction, where somebody wants to hear of them.
func insertSteps(tx *transaction, steps []seckill.Step) {
	if !tx.events || len(steps) == 0 {
		return
	}
	var ids, states, reasons, payments, currencies, causes, moneys []string
	var times []time.Time
	var paid []int64
	for len(steps) > 0 {
		s := &steps[0]
		same, rest := sameStep(steps)
		ids = append(ids, same)
		states, reasons, times = append(states, string(s.State)), append(reasons, string(s.Reason)), append(times, s.UpdatedAt)
		payments, paid = append(payments, string(s.Payment)), append(paid, s.Paid.Minor)
		currencies = append(currencies, s.Paid.Currency)
		causes, moneys = append(causes, string(s.Cause)), append(moneys, string(s.Money))
		steps = rest
	}
	tx.exec(`INSERT INTO order_events (order_ids, state, reason, at, payment, paid, currency, cause, money)
		SELECT string_to_array(ids, ','), state, reason, at, payment, paid, currency, cause, money
		FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::bigint[], $7::text[], $8::text[],
			$9::text[]) AS s (ids, state, reason, at, payment, paid, currency, cause, money)`,
		ids, states, reasons, times, payments, paid, currencies, causes, moneys)
}

// stepsPerRow is the most steps of one row.
const stepsPerRow = 100

// sameStep returns the orders of the first steps that differ in nothing else, with commas between,
// and the steps behind them. A step that a payment made stands alone.
func sameStep(steps []seckill.Step) (ids string, rest []seckill.Step) {
	first := &steps[0]
	alike := func(s *seckill.Step) bool {
		return s.Payment == "" && first.Payment == "" && s.Money == first.Money && s.State == first.State && s.Reason == first.Reason &&
			s.UpdatedAt.Equal(first.UpdatedAt)
	}
	var b strings.Builder
	b.WriteString(string(first.ID))
	n := 1
	for n < len(steps) && n < stepsPerRow && alike(&steps[n]) {
		b.WriteString("," + string(steps[n].ID))
		n++
	}
	return b.String(), steps[n:]
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

// relaySteps reads steps, about limit of them, delivers and deletes them, and commits.
func (s *Store) relaySteps(ctx context.Context, p *pipe, limit int, deliver func(context.Context, []seckill.Step) error) (int, error) {
	var ids []int64
	var orders []seckill.OrderID
	var steps []seckill.Step
	p.each(func(rows pgx.Rows) error {
		var id int64
		var of []string
		var st seckill.Step
		err := rows.Scan(&id, &of, (*string)(&st.State), (*string)(&st.Reason), &st.UpdatedAt, (*string)(&st.Payment),
			&st.Paid.Minor, &st.Paid.Currency, (*string)(&st.Cause), (*string)(&st.Money))
		st.UpdatedAt = st.UpdatedAt.UTC()
		ids = append(ids, id)
		for _, order := range of {
			st.ID = seckill.OrderID(order)
			orders, steps = append(orders, st.ID), append(steps, st)
		}
		return err
	}, `SELECT id, order_ids, state, reason, at, payment, paid, currency, cause, money FROM (
			SELECT *, sum(cardinality(order_ids)) OVER (ORDER BY id) - cardinality(order_ids) AS before
			FROM (SELECT * FROM order_events ORDER BY id LIMIT $1) AS oldest
		) AS counted WHERE before < $1 ORDER BY id`, limit)
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
