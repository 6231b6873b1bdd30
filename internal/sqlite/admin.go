package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"

	"penstock/seckill"
)

const changeColumns = `number, at, actor, reason, kind, key, "before", "after"`

func scanChange(rows *sql.Rows) (seckill.Change, error) {
	var c seckill.Change
	var at int64
	err := rows.Scan(&c.Number, &at, &c.Actor, &c.Reason, &c.Kind, &c.Key, &c.Before, &c.After)
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

const tokenColumns = "name, role, hash, created"

func scanToken(rows *sql.Rows) (seckill.Token, error) {
	var t seckill.Token
	var hash []byte
	var created int64
	err := rows.Scan(&t.Name, &t.Role, &hash, &created)
	copy(t.Hash[:], hash) // a CHECK holds the length
	t.Created = fromMicros(created)
	return t, err
}

func findToken(ctx context.Context, q querier, name string) (*seckill.Token, error) {
	var found *seckill.Token
	rows, err := q.query(ctx, "SELECT "+tokenColumns+" FROM tokens WHERE name = ?", name)
	err = each(rows, err, func(rows *sql.Rows) error {
		t, err := scanToken(rows)
		found = &t
		return err
	})
	return found, err
}

// PutToken implements seckill.AdminStore. Created is the database's. Putting what is there changes
// nothing.
func (s *Store) PutToken(ctx context.Context, t seckill.Token, by seckill.Author) error {
	return s.write(ctx, "put token "+t.Name, func(ctx context.Context, tx *transaction) error {
		old, err := findToken(ctx, tx, t.Name)
		if err != nil {
			return err
		}
		if old != nil && old.Role == t.Role && old.Hash == t.Hash {
			return nil
		}
		_, err = tx.exec(ctx, `INSERT INTO tokens (name, role, hash, created) VALUES (?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET role = excluded.role, hash = excluded.hash, created = excluded.created`,
			t.Name, int64(t.Role), t.Hash[:], tx.now.UnixMicro())
		if err != nil {
			return err
		}
		record, err := seckill.RecordToken(old, &t)
		if err != nil {
			return err
		}
		return tx.record(ctx, by, record)
	})
}

// Tokens implements seckill.AdminStore; they come in the order of their names.
func (s *Store) Tokens(ctx context.Context) ([]seckill.Token, error) {
	var out []seckill.Token
	err := s.read(ctx, "read tokens", func(q *statements) error {
		rows, err := q.query(ctx, "SELECT "+tokenColumns+" FROM tokens ORDER BY name")
		return each(rows, err, func(rows *sql.Rows) error {
			t, err := scanToken(rows)
			out = append(out, t)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// DropToken implements seckill.AdminStore.
func (s *Store) DropToken(ctx context.Context, name string, by seckill.Author) error {
	return s.write(ctx, "drop token "+name, func(ctx context.Context, tx *transaction) error {
		old, err := findToken(ctx, tx, name)
		switch {
		case err != nil:
			return err
		case old == nil:
			return seckill.ErrNotFound
		}
		if _, err := tx.exec(ctx, "DELETE FROM tokens WHERE name = ?", name); err != nil {
			return err
		}
		record, err := seckill.RecordToken(old, nil)
		if err != nil {
			return err
		}
		return tx.record(ctx, by, record)
	})
}
