package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

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
		rows, err := q.query(ctx, "SELECT "+changeColumns+" FROM changes WHERE number < ? ORDER BY number DESC LIMIT ?", before, max(limit, 0))
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

// AddDeadLetters implements seckill.AdminStore. At is the database's.
func (s *Store) AddDeadLetters(ctx context.Context, letters []seckill.DeadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	return s.write(ctx, "keep dead letters", func(ctx context.Context, tx *transaction) error {
		const text = `INSERT INTO dead_letters ("partition", "offset", at, problem, value) VALUES {(?,?,?,?,?)} ON CONFLICT DO NOTHING`
		return insert(ctx, tx.statements, text, letters, func(args []any, l *seckill.DeadLetter) []any {
			value := l.Value
			if value == nil {
				value = []byte{} // an empty record, not NULL
			}
			return append(args, int64(l.Partition), l.Offset, tx.now.UnixMicro(), l.Problem, value)
		})
	})
}

const letterColumns = `id, "partition", "offset", at, problem, value`

func scanLetter(rows *sql.Rows) (seckill.DeadLetter, error) {
	var l seckill.DeadLetter
	var at int64
	err := rows.Scan(&l.ID, &l.Partition, &l.Offset, &at, &l.Problem, &l.Value)
	l.At = fromMicros(at)
	return l, err
}

// DeadLetters implements seckill.AdminStore.
func (s *Store) DeadLetters(ctx context.Context, after int64, limit int) ([]seckill.DeadLetter, error) {
	var out []seckill.DeadLetter
	err := s.read(ctx, "read dead letters", func(q *statements) error {
		rows, err := q.query(ctx, "SELECT "+letterColumns+" FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?", after, max(limit, 0))
		return each(rows, err, func(rows *sql.Rows) error {
			l, err := scanLetter(rows)
			out = append(out, l)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// DropDeadLetters implements seckill.AdminStore. The change keeps the letters, so that a discard can be taken back.
func (s *Store) DropDeadLetters(ctx context.Context, ids []int64, by seckill.Author) (int, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return 0, describe("drop dead letters", err)
	}
	count := 0
	err = s.write(ctx, "drop dead letters", func(ctx context.Context, tx *transaction) error {
		var dropped []seckill.DeadLetter
		rows, err := tx.query(ctx, "SELECT "+letterColumns+" FROM dead_letters WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
			string(list))
		err = each(rows, err, func(rows *sql.Rows) error {
			l, err := scanLetter(rows)
			dropped = append(dropped, l)
			return err
		})
		count = len(dropped)
		if err != nil || count == 0 {
			return err
		}
		if _, err := tx.exec(ctx, "DELETE FROM dead_letters WHERE id IN (SELECT value FROM json_each(?))", string(list)); err != nil {
			return err
		}
		names := make([]string, count)
		for i := range dropped {
			names[i] = strconv.FormatInt(dropped[i].ID, 10)
		}
		return tx.record(ctx, by, kindDeadLetters, strings.Join(names, ","), dropped, nil)
	})
	if err != nil {
		return 0, err
	}
	return count, nil
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

// PutToken implements seckill.AdminStore. Created is the database's. Putting what is there changes nothing.
func (s *Store) PutToken(ctx context.Context, t seckill.Token, by seckill.Author) error {
	return s.write(ctx, "put token "+t.Name, func(ctx context.Context, tx *transaction) error {
		old, err := findToken(ctx, tx, t.Name)
		if err != nil {
			return err
		}
		var before any
		after := tokenChange{Name: t.Name, Role: t.Role, NewHash: true}
		if old != nil {
			if old.Role == t.Role && old.Hash == t.Hash {
				return nil
			}
			before = tokenChange{Name: old.Name, Role: old.Role}
			after.NewHash = old.Hash != t.Hash
		}
		_, err = tx.exec(ctx, `INSERT INTO tokens (name, role, hash, created) VALUES (?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET role = excluded.role, hash = excluded.hash, created = excluded.created`,
			t.Name, int64(t.Role), t.Hash[:], tx.now.UnixMicro())
		if err != nil {
			return err
		}
		return tx.record(ctx, by, kindToken, t.Name, before, after)
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
		return tx.record(ctx, by, kindToken, name, tokenChange{Name: old.Name, Role: old.Role}, nil)
	})
}
