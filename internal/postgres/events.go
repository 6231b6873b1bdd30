package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"penstock/seckill"
)

var _ seckill.EventStore = (*Store)(nil)

// step is a row of order_events: what an order became, and when.
type step struct {
	sale   int32
	order  seckill.OrderID
	state  seckill.OrderState
	reason seckill.Reason
	at     time.Time
}

func stepOf(sale int32, o *seckill.Order) step {
	return step{sale, o.ID, o.State, o.Reason, o.UpdatedAt}
}

// insertSteps queues the steps of a transaction, where somebody wants to hear of them.
func insertSteps(tx *transaction, steps []step) {
	if !tx.events || len(steps) == 0 {
		return
	}
	n := len(steps)
	sales, times := make([]int32, n), make([]time.Time, n)
	ids, states, reasons := make([]string, n), make([]string, n), make([]string, n)
	for i := range steps {
		s := &steps[i]
		sales[i], ids[i], states[i], reasons[i], times[i] = s.sale, string(s.order), string(s.state), string(s.reason), s.at
	}
	tx.exec(`INSERT INTO order_events (sale, order_id, state, reason, at)
		SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])`, sales, ids, states, reasons, times)
}

// eventsLock is the advisory lock of who relays order events.
const eventsLock = lockClass + 2

// RelayEvents implements seckill.EventStore. Who relays has an advisory lock, so that the steps of one order go out in their order.
// No transaction is open while deliver runs: a broker that takes its time must keep nobody from vacuuming rows that are rewritten with
// every batch. A relay that dies loses the lock with its connection.
//
// The ids are given out before the commits, so a step may appear below others that were relayed already; it is the oldest then. Two
// steps of one order never are in that case: the second is made by a transaction that has seen the first.
func (s *Store) RelayEvents(ctx context.Context, limit int, deliver func(context.Context, []seckill.Order) error) (n int, err error) {
	const what = "relay order events"
	if limit <= 0 {
		return 0, fmt.Errorf("%s: %d at most", what, limit)
	}
	if !s.enter() { // also for the time of deliver: Close waits for it
		return 0, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.leave()
	defer func() { err = describe(what, err) }()
	if err := s.park(ctx); err != nil { // deliver may ask the store
		return 0, err
	}
	defer s.unpark()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	p := newPipe(conn.Conn())
	if locked, err := p.exists(ctx, "SELECT 1 WHERE pg_try_advisory_lock($1, 0)", int32(eventsLock)); err != nil || !locked {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.unlockEvents(ctx)) }()
	return s.relaySteps(ctx, p, limit, deliver)
}

// unlockEvents gives the lock back, also when ctx has ended. Where that fails the connection goes, and the lock with it.
func (p *pipe) unlockEvents(ctx context.Context) error {
	if p.conn.IsClosed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, err := p.conn.Exec(ctx, "SELECT pg_advisory_unlock($1, 0)", int32(eventsLock))
	if err != nil {
		err = errors.Join(err, p.conn.Close(ctx))
	}
	return err
}

// relaySteps reads steps, delivers and deletes them, as three statements on their own.
func (s *Store) relaySteps(ctx context.Context, p *pipe, limit int, deliver func(context.Context, []seckill.Order) error) (int, error) {
	var ids []int64
	var steps []step
	p.each(func(rows pgx.Rows) error {
		var id int64
		var st step
		err := rows.Scan(&id, &st.sale, (*string)(&st.order), (*string)(&st.state), (*string)(&st.reason), &st.at)
		ids, steps = append(ids, id), append(steps, st)
		return err
	}, "SELECT id, sale, order_id, state, reason, at FROM order_events ORDER BY id LIMIT $1", limit)
	if err := p.flush(ctx); err != nil || len(ids) == 0 {
		return 0, err
	}
	groups := make(map[int32][]string)
	for i := range steps {
		groups[steps[i].sale] = append(groups[steps[i].sale], string(steps[i].order))
	}
	found := make(map[seckill.OrderID]seckill.Order, len(steps))
	queueFind(p, findOrders, groups, found)
	if err := p.flush(ctx); err != nil {
		return 0, err
	}
	orders := make([]seckill.Order, 0, len(steps))
	for _, st := range steps {
		if o, ok := found[st.order]; ok {
			o.State, o.Reason, o.UpdatedAt, o.Units = st.state, st.reason, st.at.UTC(), ""
			orders = append(orders, o)
		}
	}
	if len(orders) > 0 {
		if err := deliver(ctx, orders); err != nil {
			return 0, err
		}
	}
	if _, err := p.change(ctx, "DELETE FROM order_events WHERE id = ANY($1)", ids); err != nil {
		return 0, err
	}
	return len(orders), nil
}

// EventsWaiting implements seckill.EventStore.
func (s *Store) EventsWaiting(ctx context.Context) (time.Duration, error) {
	var micros int64
	err := s.read(ctx, "look at the oldest order event", func(ctx context.Context, p *pipe) error {
		_, err := p.one(ctx, `SELECT (extract(epoch FROM coalesce($1::timestamptz, clock_timestamp()) - at) * 1e6)::bigint
			FROM order_events ORDER BY id LIMIT 1`, []any{s.testTime()}, &micros)
		return err
	})
	return max(0, time.Duration(micros)*time.Microsecond), err
}
