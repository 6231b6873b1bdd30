package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/seckill"
)

const (
	tokenColumns = "id, name, role, merchant, session, hash, created, expires, used"
	allTokens    = "SELECT " + tokenColumns + " FROM tokens ORDER BY name, id"
)

func scanToken(rows pgx.Rows) (seckill.Token, error) {
	var t seckill.Token
	var hash []byte
	var role int16
	var expires, used *time.Time
	err := rows.Scan((*string)(&t.ID), &t.Name, &role, (*string)(&t.Merchant), &t.Session, &hash, &t.Created, &expires, &used)
	t.Role = seckill.Role(role)
	copy(t.Hash[:], hash) // a CHECK holds the length
	t.Created, t.Expires, t.Used = t.Created.UTC(), fromNull(expires), fromNull(used)
	return t, err
}

// AddToken implements seckill.AdminStore.
func (s *Store) AddToken(ctx context.Context, t seckill.Token, life time.Duration, by seckill.Author) (seckill.Token, error) {
	err := s.write(ctx, "add token "+t.Name, func(ctx context.Context, tx *transaction) error {
		var all []seckill.Token
		tx.lockCatalog()
		tx.readClock()
		tx.each(func(rows pgx.Rows) error {
			other, err := scanToken(rows)
			all = append(all, other)
			return err
		}, allTokens)
		if err := tx.flush(ctx); err != nil {
			return err
		}
		drop, err := seckill.AdmitToken(all, &t, life, tx.now)
		if err != nil {
			return err
		}
		r, err := seckill.RecordToken(nil, &t)
		if err != nil {
			return err
		}
		for _, id := range drop {
			tx.exec("DELETE FROM tokens WHERE id = $1", string(id))
		}
		tx.exec("INSERT INTO tokens ("+tokenColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL)",
			string(t.ID), t.Name, int16(t.Role), string(t.Merchant), t.Session, t.Hash[:], t.Created, toNull(t.Expires))
		tx.record(by, r)
		return nil
	})
	return t, err
}

// Tokens implements seckill.AdminStore.
func (s *Store) Tokens(ctx context.Context) ([]seckill.Token, error) {
	return list(ctx, s, "read tokens", scanToken, allTokens)
}

// DropToken implements seckill.AdminStore.
func (s *Store) DropToken(ctx context.Context, id seckill.TokenID, by seckill.Author) error {
	return s.write(ctx, "drop token "+string(id), func(ctx context.Context, tx *transaction) error {
		var old *seckill.Token
		tx.lockCatalog()
		tx.readClock()
		tx.each(func(rows pgx.Rows) error {
			t, err := scanToken(rows)
			old = &t
			return err
		}, "SELECT "+tokenColumns+" FROM tokens WHERE id = $1", string(id))
		switch err := tx.flush(ctx); {
		case err != nil:
			return err
		case old == nil:
			return seckill.ErrNotFound
		}
		r, err := seckill.RecordToken(old, nil)
		if err != nil {
			return err
		}
		tx.exec("DELETE FROM tokens WHERE id = $1", string(id))
		tx.record(by, r)
		return nil
	})
}

// NoteTokenUse implements seckill.AdminStore.
func (s *Store) NoteTokenUse(ctx context.Context, u seckill.TokenUse) error {
	return s.write(ctx, "note the use of a token", func(_ context.Context, tx *transaction) error {
		tx.exec("UPDATE tokens SET used = $1 WHERE id = $2 AND (used IS NULL OR used < $1)", u.At, string(u.Token))
		return nil
	})
}
