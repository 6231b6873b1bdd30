package postgres

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/seckill"
)

const changeColumns = `number, at, actor, token, address, reason, kind, key, "before", "after"`

func scanChange(rows pgx.Rows) (seckill.Change, error) {
	var c seckill.Change
	err := rows.Scan(&c.Number, &c.At, &c.Actor, &c.Token, &c.Address, &c.Reason, &c.Kind, &c.Key, &c.Before, &c.After)
	c.At = c.At.UTC()
	return c, err
}

// Changes implements seckill.AdminStore.
func (s *Store) Changes(ctx context.Context, before int64, limit int) ([]seckill.Change, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	return list(ctx, s, "read changes", scanChange,
		"SELECT "+changeColumns+" FROM changes WHERE number < $1 ORDER BY number DESC LIMIT $2", before, max(limit, 0))
}

// AdminNews implements seckill.AdminStore.
func (s *Store) AdminNews(ctx context.Context) (seckill.AdminNews, error) {
	found, err := list(ctx, s, "look for news", func(rows pgx.Rows) (n seckill.AdminNews, err error) {
		return n, rows.Scan(&n.Change, &n.Letters)
	}, `SELECT coalesce((SELECT max(number) FROM changes), 0), (SELECT count(*) FROM (SELECT FROM dead_letters LIMIT $1) l)`,
		seckill.MaxLettersCounted)
	if err != nil || len(found) == 0 {
		return seckill.AdminNews{}, err
	}
	return found[0], nil
}

// FindChange implements seckill.AdminStore.
func (s *Store) FindChange(ctx context.Context, number int64) (seckill.Change, error) {
	what := fmt.Sprintf("find change %d", number)
	found, err := list(ctx, s, what, scanChange, "SELECT "+changeColumns+" FROM changes WHERE number = $1", number)
	switch {
	case err != nil:
		return seckill.Change{}, err
	case len(found) == 0:
		return seckill.Change{}, describe(what, seckill.ErrNotFound)
	}
	return found[0], nil
}

// byIndex makes the server find each row by an index, for the rest of the transaction. A table
// without statistics seems to have few rows and few values, so the server would read and join whole
// tables to find a few rows. Nor does it know how few rows changed since a version.
const byIndex = `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
	set_config('enable_mergejoin', 'off', true)`

// withoutSort makes the server read an index in its order and stop at the limit, and add rows up
// without an order, for the rest of the transaction. Where a table or a partition has no
// statistics, the server would expect a single row, and sort them all.
const withoutSort = "SET LOCAL enable_sort = off"

// listByIndex is list for a query about whole activities, which joins large tables.
func listByIndex[T any](ctx context.Context, s *Store, what string, scan func(pgx.Rows) (T, error), text string,
	args ...any) ([]T, error) {
	return listWith(ctx, s, what, func(p *pipe) {
		p.takesLong(activityTime)
		p.exec(byIndex)
	}, scan, text, args...)
}

// listWith is list with settings of the transaction.
func listWith[T any](ctx context.Context, s *Store, what string, set func(*pipe), scan func(pgx.Rows) (T, error), text string,
	args ...any) ([]T, error) {
	var out []T
	err := s.readSnapshot(ctx, what, func(p *pipe) {
		out = nil
		set(p)
		queueList(p, &out, scan, text, args...)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// queueList queues a query; its rows are added to out at the next flush.
func queueList[T any](p *pipe, out *[]T, scan func(pgx.Rows) (T, error), text string, args ...any) {
	p.each(func(rows pgx.Rows) error {
		one, err := scan(rows)
		*out = append(*out, one)
		return err
	}, text, args...)
}

// list returns the rows of a query.
func list[T any](ctx context.Context, s *Store, what string, scan func(pgx.Rows) (T, error), text string,
	args ...any) ([]T, error) {
	var out []T
	err := s.read(ctx, what, func(ctx context.Context, p *pipe) error {
		out = nil
		queueList(p, &out, scan, text, args...)
		return p.flush(ctx)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
