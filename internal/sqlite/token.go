package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/penstock/penstock/seckill"
)

const tokenColumns = "id, name, role, merchant, session, hash, created, expires, used"

func scanToken(rows *sql.Rows) (seckill.Token, error) {
	var t seckill.Token
	var hash []byte
	var created int64
	var expires, used sql.NullInt64
	err := rows.Scan(&t.ID, &t.Name, &t.Role, &t.Merchant, &t.Session, &hash, &created, &expires, &used)
	copy(t.Hash[:], hash) // a CHECK holds the length
	t.Created, t.Expires, t.Used = fromMicros(created), fromNullMicros(expires), fromNullMicros(used)
	return t, err
}

func readTokens(ctx context.Context, q querier) (all []seckill.Token, err error) {
	rows, err := q.query(ctx, "SELECT "+tokenColumns+" FROM tokens ORDER BY name, id")
	err = each(rows, err, func(rows *sql.Rows) error {
		t, err := scanToken(rows)
		all = append(all, t)
		return err
	})
	return all, err
}

// AddToken implements seckill.AdminStore.
func (s *Store) AddToken(ctx context.Context, t seckill.Token, life time.Duration, by seckill.Author) (seckill.Token, error) {
	err := s.write(ctx, "add token "+t.Name, func(ctx context.Context, tx *transaction) error {
		all, err := readTokens(ctx, tx)
		if err != nil {
			return err
		}
		drop, err := seckill.AdmitToken(all, &t, life, tx.now)
		if err != nil {
			return err
		}
		for _, id := range drop {
			if _, err := tx.exec(ctx, "DELETE FROM tokens WHERE id = ?", string(id)); err != nil {
				return err
			}
		}
		_, err = tx.exec(ctx, "INSERT INTO tokens ("+tokenColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
			string(t.ID), t.Name, int64(t.Role), string(t.Merchant), t.Session, t.Hash[:], t.Created.UnixMicro(), nullMicros(t.Expires))
		if err != nil {
			return err
		}
		record, err := seckill.RecordToken(nil, &t)
		if err != nil {
			return err
		}
		return tx.record(ctx, by, record)
	})
	return t, err
}

// Tokens implements seckill.AdminStore.
func (s *Store) Tokens(ctx context.Context) (all []seckill.Token, err error) {
	err = s.read(ctx, "read tokens", func(q *statements) error {
		all, err = readTokens(ctx, q)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// DropToken implements seckill.AdminStore.
func (s *Store) DropToken(ctx context.Context, id seckill.TokenID, by seckill.Author) error {
	return s.write(ctx, "drop token "+string(id), func(ctx context.Context, tx *transaction) error {
		var old *seckill.Token
		rows, err := tx.query(ctx, "SELECT "+tokenColumns+" FROM tokens WHERE id = ?", string(id))
		err = each(rows, err, func(rows *sql.Rows) error {
			t, err := scanToken(rows)
			old = &t
			return err
		})
		switch {
		case err != nil:
			return err
		case old == nil:
			return seckill.ErrNotFound
		}
		if _, err := tx.exec(ctx, "DELETE FROM tokens WHERE id = ?", string(id)); err != nil {
			return err
		}
		record, err := seckill.RecordToken(old, nil)
		if err != nil {
			return err
		}
		return tx.record(ctx, by, record)
	})
}

// NoteTokenUse implements seckill.AdminStore.
func (s *Store) NoteTokenUse(ctx context.Context, u seckill.TokenUse) error {
	return s.write(ctx, "note the use of a token", func(ctx context.Context, tx *transaction) error {
		_, err := tx.exec(ctx, "UPDATE tokens SET used = ?1 WHERE id = ?2 AND ifnull(used, 0) < ?1", u.At.UnixMicro(), string(u.Token))
		return err
	})
}
