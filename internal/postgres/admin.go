package postgres

import (
	"context"
	"fmt"
	"math"

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
func list[T any](ctx context.Context, s *Store, what string, scan func(pgx.Rows) (T, error), text string,
	args ...any) ([]T, error) {
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

// lockToken returns the token of that name, nil where there is none; it stays so until the
// transaction ends.
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

// PutToken implements seckill.AdminStore. Created is the database's. Putting what is there changes
// nothing.
func (s *Store) PutToken(ctx context.Context, t seckill.Token, by seckill.Author) error {
	return s.write(ctx, "put token "+t.Name, func(ctx context.Context, tx *transaction) error {
		old, err := tx.lockToken(ctx, t.Name)
		if err != nil {
			return err
		}
		if old != nil && old.Role == t.Role && old.Hash == t.Hash {
			return nil
		}
		r, err := seckill.RecordToken(old, &t)
		if err != nil {
			return err
		}
		tx.exec(`INSERT INTO tokens (name, role, hash, created) VALUES ($1, $2, $3, $4)
			ON CONFLICT (name) DO UPDATE SET role = excluded.role, hash = excluded.hash, created = excluded.created`,
			t.Name, int16(t.Role), t.Hash[:], tx.now)
		tx.record(by, r)
		return nil
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
		r, err := seckill.RecordToken(old, nil)
		if err != nil {
			return err
		}
		tx.exec("DELETE FROM tokens WHERE name = $1", name)
		tx.record(by, r)
		return nil
	})
}
