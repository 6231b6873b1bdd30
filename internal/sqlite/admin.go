package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"

	"github.com/penstock/penstock/seckill"
)

const changeColumns = `number, at, actor, token, address, reason, kind, key, "before", "after"`

func scanChange(rows *sql.Rows) (seckill.Change, error) {
	var c seckill.Change
	var at int64
	err := rows.Scan(&c.Number, &at, &c.Actor, &c.Token, &c.Address, &c.Reason, &c.Kind, &c.Key, &c.Before, &c.After)
	c.At = fromMicros(at)
	return c, err
}

// Changes implements seckill.AdminStore.
func (s *Store) Changes(ctx context.Context, before int64, limit int) ([]seckill.Change, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	var out []seckill.Change
	err := s.read(ctx, "read changes", func(q *statements) error {
		rows, err := q.query(ctx, "SELECT "+changeColumns+" FROM changes WHERE number < ? ORDER BY number DESC LIMIT ?",
			before, max(limit, 0))
		return each(rows, err, func(rows *sql.Rows) error {
			c, err := scanChange(rows)
			out = append(out, c)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// AdminNews implements seckill.AdminStore.
func (s *Store) AdminNews(ctx context.Context) (n seckill.AdminNews, err error) {
	err = s.read(ctx, "look for news", func(q *statements) error {
		rows, err := q.query(ctx, "SELECT coalesce(max(number), 0) FROM changes")
		if err := each(rows, err, func(rows *sql.Rows) error { return rows.Scan(&n.Change) }); err != nil {
			return err
		}
		rows, err = q.query(ctx, "SELECT id FROM dead_letters WHERE id > 0 LIMIT ?", seckill.MaxLettersCounted)
		return each(rows, err, func(*sql.Rows) error {
			n.Letters++
			return nil
		})
	})
	return n, err
}

// FindChange implements seckill.AdminStore.
func (s *Store) FindChange(ctx context.Context, number int64) (seckill.Change, error) {
	var out seckill.Change
	err := s.read(ctx, fmt.Sprintf("find change %d", number), func(q *statements) error {
		found := false
		rows, err := q.query(ctx, "SELECT "+changeColumns+" FROM changes WHERE number = ?", number)
		err = each(rows, err, func(rows *sql.Rows) (err error) {
			found = true
			out, err = scanChange(rows)
			return err
		})
		if err == nil && !found {
			return seckill.ErrNotFound
		}
		return err
	})
	return out, err
}
