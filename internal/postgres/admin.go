package postgres

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"penstock/seckill"
)

const changeColumns = `number, at, actor, reason, kind, key, "before", "after"`

func scanChange(rows pgx.Rows) (seckill.Change, error) {
	var c seckill.Change
	err := rows.Scan(&c.Number, &c.At, &c.Actor, &c.Reason, &c.Kind, &c.Key, &c.Before, &c.After)
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

// list returns the rows of a query.
func list[T any](ctx context.Context, s *Store, what string, scan func(pgx.Rows) (T, error), text string, args ...any) ([]T, error) {
	var out []T
	err := s.read(ctx, what, func(ctx context.Context, p *pipe) error {
		out = nil
		p.each(func(rows pgx.Rows) error {
			one, err := scan(rows)
			out = append(out, one)
			return err
		}, text, args...)
		return p.flush(ctx)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// AddDeadLetters implements seckill.AdminStore. At is the database's. A problem is for people: what of it is no text is replaced, as
// the table would refuse it, and a letter must never be refused.
func (s *Store) AddDeadLetters(ctx context.Context, letters []seckill.DeadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	n := len(letters)
	partitions, offsets, problems, values := make([]int32, n), make([]int64, n), make([]string, n), make([][]byte, n)
	for i := range letters {
		l := &letters[i]
		partitions[i], offsets[i], values[i] = l.Partition, l.Offset, l.Value
		problems[i] = strings.ReplaceAll(strings.ToValidUTF8(l.Problem, "\uFFFD"), "\x00", "\uFFFD")
		if values[i] == nil {
			values[i] = []byte{} // an empty record, not NULL
		}
	}
	return s.write(ctx, "keep dead letters", func(ctx context.Context, tx *transaction) error {
		tx.readClock()
		if err := tx.flush(ctx); err != nil {
			return err
		}
		tx.exec(`INSERT INTO dead_letters ("partition", "offset", at, problem, value)
			SELECT p, o, $3, t, v FROM unnest($1::int[], $2::bigint[], $4::text[], $5::bytea[]) AS l (p, o, t, v) ON CONFLICT DO NOTHING`,
			partitions, offsets, tx.now, problems, values)
		return nil
	})
}

const letterColumns = `id, "partition", "offset", at, problem, value`

func scanLetter(rows pgx.Rows) (seckill.DeadLetter, error) {
	var l seckill.DeadLetter
	err := rows.Scan(&l.ID, &l.Partition, &l.Offset, &l.At, &l.Problem, &l.Value)
	l.At = l.At.UTC()
	return l, err
}

// DeadLetters implements seckill.AdminStore.
func (s *Store) DeadLetters(ctx context.Context, after int64, limit int) ([]seckill.DeadLetter, error) {
	return list(ctx, s, "read dead letters", scanLetter,
		"SELECT "+letterColumns+" FROM dead_letters WHERE id > $1 ORDER BY id LIMIT $2", after, max(limit, 0))
}

// DropDeadLetters implements seckill.AdminStore. The change keeps the letters, so that a discard can be taken back.
func (s *Store) DropDeadLetters(ctx context.Context, ids []int64, by seckill.Author) (int, error) {
	count := 0
	err := s.write(ctx, "drop dead letters", func(ctx context.Context, tx *transaction) error {
		var dropped []seckill.DeadLetter
		tx.lockCatalog()
		tx.readClock()
		tx.each(func(rows pgx.Rows) error {
			l, err := scanLetter(rows)
			dropped = append(dropped, l)
			return err
		}, "SELECT "+letterColumns+" FROM dead_letters WHERE id = ANY($1) ORDER BY id", ids)
		if err := tx.flush(ctx); err != nil {
			return err
		}
		if count = len(dropped); count == 0 {
			return nil
		}
		names := make([]string, count)
		for i := range dropped {
			names[i] = strconv.FormatInt(dropped[i].ID, 10)
		}
		tx.exec("DELETE FROM dead_letters WHERE id = ANY($1)", ids)
		return tx.record(by, kindDeadLetters, strings.Join(names, ","), dropped, nil)
	})
	if err != nil {
		return 0, err
	}
	return count, nil
}

const tokenColumns = "name, role, hash, created"

func scanToken(rows pgx.Rows) (seckill.Token, error) {
	var t seckill.Token
	var hash []byte
	var role int16
	err := rows.Scan(&t.Name, &role, &hash, &t.Created)
	t.Role = seckill.Role(role)
	copy(t.Hash[:], hash) // a CHECK holds the length
	t.Created = t.Created.UTC()
	return t, err
}

// lockToken returns the token of that name, nil where there is none; it stays so until the transaction ends.
func (tx *transaction) lockToken(ctx context.Context, name string) (*seckill.Token, error) {
	var found *seckill.Token
	tx.lockCatalog()
	tx.readClock()
	tx.each(func(rows pgx.Rows) error {
		t, err := scanToken(rows)
		found = &t
		return err
	}, "SELECT "+tokenColumns+" FROM tokens WHERE name = $1", name)
	return found, tx.flush(ctx)
}

// PutToken implements seckill.AdminStore. Created is the database's. Putting what is there changes nothing.
func (s *Store) PutToken(ctx context.Context, t seckill.Token, by seckill.Author) error {
	return s.write(ctx, "put token "+t.Name, func(ctx context.Context, tx *transaction) error {
		old, err := tx.lockToken(ctx, t.Name)
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
		tx.exec(`INSERT INTO tokens (name, role, hash, created) VALUES ($1, $2, $3, $4)
			ON CONFLICT (name) DO UPDATE SET role = excluded.role, hash = excluded.hash, created = excluded.created`,
			t.Name, int16(t.Role), t.Hash[:], tx.now)
		return tx.record(by, kindToken, t.Name, before, after)
	})
}

// Tokens implements seckill.AdminStore; they come in the order of their names.
func (s *Store) Tokens(ctx context.Context) ([]seckill.Token, error) {
	return list(ctx, s, "read tokens", scanToken, "SELECT "+tokenColumns+" FROM tokens ORDER BY name")
}

// DropToken implements seckill.AdminStore.
func (s *Store) DropToken(ctx context.Context, name string, by seckill.Author) error {
	return s.write(ctx, "drop token "+name, func(ctx context.Context, tx *transaction) error {
		old, err := tx.lockToken(ctx, name)
		switch {
		case err != nil:
			return err
		case old == nil:
			return seckill.ErrNotFound
		}
		tx.exec("DELETE FROM tokens WHERE name = $1", name)
		return tx.record(by, kindToken, name, tokenChange{Name: old.Name, Role: old.Role}, nil)
	})
}
