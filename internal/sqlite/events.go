package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock/seckill"
)

// insertSteps keeps the steps of a transaction, if events are on.
func insertSteps(ctx context.Context, tx *transaction, steps []seckill.Step) error {
	if !tx.events {
		return nil
	}
	parts := slices.Collect(slices.Chunk(steps, seckill.MaxSteps))
	const text = "INSERT INTO order_events (at, count, steps) VALUES {(?,?,?)}"
	return insert(ctx, tx.statements, text, parts, func(args []any, part *[]seckill.Step) []any {
		return append(args, (*part)[0].UpdatedAt.UnixMicro(), len(*part), seckill.AppendSteps(nil, *part))
	})
}

// RelayEvents implements backoffice.EventStore. Nothing is locked while deliver runs. There is one
// writer, so steps commit in the order of their ids, and all up to the last one read were read.
func (s *Store) RelayEvents(ctx context.Context, limit int, deliver func(context.Context, []seckill.Step) error) (int, error) {
	const what = "relay order events"
	if limit <= 0 {
		return 0, fmt.Errorf("%s: %d at most", what, limit)
	}
	if !s.calls.Enter() { // held while deliver runs, so that Close waits for it
		return 0, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	defer s.calls.Leave()
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
	if err := deliver(ctx, steps); err != nil {
		return 0, describe(what, err)
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
	rows, err := s.readers.query(ctx, "SELECT id, steps FROM order_events ORDER BY id LIMIT ?", limit)
	err = each(rows, err, func(rows *sql.Rows) error {
		if len(out) >= limit {
			return nil
		}
		var encoded []byte
		if err := rows.Scan(&last, &encoded); err != nil {
			return err
		}
		part, err := seckill.ParseSteps(encoded)
		out = append(out, part...)
		return err
	})
	if err != nil {
		return 0, nil, err
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
