package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/seckill"
)

// insertSteps queues the steps of a transaction, if events are on. A row has many steps, encoded
// with their orders, so that the relay need not read the orders again.
func insertSteps(tx *transaction, steps []seckill.Step) {
	if !tx.events || len(steps) == 0 {
		return
	}
	var times []time.Time
	var counts []int32
	var encoded [][]byte
	for part := range slices.Chunk(steps, seckill.MaxSteps) {
		times, counts = append(times, part[0].UpdatedAt), append(counts, int32(len(part)))
		encoded = append(encoded, seckill.AppendSteps(nil, part))
	}
	tx.exec("INSERT INTO order_events (at, count, steps) SELECT * FROM unnest($1::timestamptz[], $2::int[], $3::bytea[])",
		times, counts, encoded)
}

// eventsLock is the advisory lock of the process that relays order events: "Pstk", 2.
const eventsLock = 0x5073746b_00000002

// RelayEvents implements backoffice.EventStore. Its transaction holds an advisory lock, so that
// only one process relays and the steps of an order keep their order. The transaction stays open,
// but idle, while deliver runs. It has no snapshot and has written nothing, so it doesn't delay a
// vacuum. A process that stops halfway loses the lock with its session
// (idle_in_transaction_session_timeout).
//
// Ids are given out before the commits. So a step may appear with a lower id than steps that were
// relayed already; then it comes next. That never happens with two steps of one order, because the
// second one is made by a transaction that has seen the first.
func (s *Store) RelayEvents(ctx context.Context, limit int, deliver func(context.Context, []seckill.Step) error) (n int, err error) {
	const what = "relay order events"
	if limit <= 0 {
		return 0, fmt.Errorf("%s: %d at most", what, limit)
	}
	if !s.calls.Enter() { // held while deliver runs, so that Close waits for it
		return 0, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.calls.Leave()
	defer func() { err = describe(what, err) }()
	conn, done, err := s.keep(ctx) // deliver may call the store
	if err != nil {
		return 0, err
	}
	defer done()
	p := s.newPipe(conn.Conn())
	defer func() { err = errors.Join(err, p.rollback(ctx)) }()
	p.exec(begin)
	if locked, err := p.exists(ctx, "SELECT 1 WHERE pg_try_advisory_xact_lock($1)", int64(eventsLock)); err != nil || !locked {
		return 0, err
	}
	return relaySteps(ctx, p, limit, deliver)
}

// relaySteps reads about limit steps, delivers and deletes them, and commits.
func relaySteps(ctx context.Context, p *pipe, limit int, deliver func(context.Context, []seckill.Step) error) (int, error) {
	var ids []int64
	var steps []seckill.Step
	p.each(func(rows pgx.Rows) error {
		var id int64
		var encoded []byte
		if err := rows.Scan(&id, &encoded); err != nil {
			return err
		}
		part, err := seckill.ParseSteps(encoded)
		ids, steps = append(ids, id), append(steps, part...)
		return err
	}, `SELECT id, steps FROM (
			SELECT id, steps, sum(count) OVER (ORDER BY id) - count AS before
			FROM (SELECT * FROM order_events ORDER BY id LIMIT $1) AS oldest
		) AS counted WHERE before < $1 ORDER BY id`, limit)
	if err := p.flush(ctx); err != nil || len(ids) == 0 {
		return 0, err
	}
	if err := deliver(ctx, steps); err != nil {
		return 0, err
	}
	p.exec("DELETE FROM order_events WHERE id = ANY($1)", ids)
	p.commit()
	return len(steps), p.flush(ctx)
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
