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

// insertSteps queues the steps of a transaction, if events are on. A row has many of them, encoded:
// the relay need not read their orders again.
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

// RelayEvents implements backoffice.EventStore. The process that relays has an advisory lock of its
// transaction, so that the steps of one order go out in their order. The transaction is open while
// deliver runs, and idle: it has no snapshot and has written nothing, so it doesn't hold up a
// vacuum. A process that stops in the middle loses it with its session
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
	if !s.calls.Enter() { // also for the time of deliver: Close waits for it
		return 0, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.calls.Leave()
	defer func() { err = describe(what, err) }()
	conn, done, err := s.keep(ctx) // deliver may ask the store
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

// relaySteps reads steps, about limit of them, delivers and deletes them, and commits.
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
