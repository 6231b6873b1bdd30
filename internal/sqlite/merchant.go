package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock/seckill"
)

const merchantColumns = "id, name, payment_secret, former_secret, former_until"

func scanMerchant(rows *sql.Rows) (m seckill.Merchant, err error) {
	var until sql.NullInt64
	err = rows.Scan(&m.ID, &m.Name, &m.PaymentSecret, &m.FormerSecret, &until)
	m.FormerUntil = fromNullMicros(until)
	return m, err
}

// fromNullMicros turns NULL into the zero time.
func fromNullMicros(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return fromMicros(us.Int64)
}

// UpdateMerchant implements seckill.CatalogStore.
func (s *Store) UpdateMerchant(ctx context.Context, id seckill.MerchantID, by seckill.Author,
	change func(*seckill.Merchant, time.Time) (*seckill.Merchant, error)) (*seckill.Merchant, error) {
	var next *seckill.Merchant
	err := s.write(ctx, "update merchant "+string(id), func(ctx context.Context, tx *transaction) error {
		var old *seckill.Merchant
		rows, err := tx.query(ctx, "SELECT "+merchantColumns+" FROM merchants WHERE id = ?", string(id))
		err = each(rows, err, func(rows *sql.Rows) error {
			m, err := scanMerchant(rows)
			old = &m
			return err
		})
		if err != nil {
			return err
		}
		made, record, changed, err := seckill.MerchantEdit(old, tx.now, change)
		if next = made; err != nil || !changed {
			return err
		}
		version, err := tx.raiseVersion(ctx)
		if err != nil {
			return err
		}
		_, err = tx.exec(ctx, "INSERT INTO merchants ("+merchantColumns+`, changed) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, payment_secret = excluded.payment_secret,
				former_secret = excluded.former_secret, former_until = excluded.former_until, changed = excluded.changed`,
			string(id), made.Name, made.PaymentSecret, made.FormerSecret, nullMicros(made.FormerUntil), version)
		if err != nil {
			return err
		}
		return tx.record(ctx, by, record)
	})
	if err != nil {
		return nil, err
	}
	return next, nil
}

const (
	callerColumns    = "c.merchant, c.caller, c.name, c.rights, c.shadow, c.revoked, c.created"
	callerKeyColumns = "k.merchant, k.caller, k.id, k.prefix, k.hash, k.created, k.expires, k.revoked"
)

func scanCaller(rows *sql.Rows) (*seckill.Caller, error) {
	c := new(seckill.Caller)
	var created int64
	err := rows.Scan(&c.Merchant, &c.Caller, &c.Name, &c.Rights, &c.Shadow, &c.Revoked, &created)
	c.Created = fromMicros(created)
	return c, err
}

func scanCallerKey(rows *sql.Rows) (of seckill.CallerRef, k seckill.CallerKey, err error) {
	var hash []byte
	var created int64
	var expires sql.NullInt64
	err = rows.Scan(&of.Merchant, &of.Caller, &k.ID, &k.Prefix, &hash, &created, &expires, &k.Revoked)
	copy(k.Hash[:], hash) // a CHECK holds the length
	k.Created, k.Expires = fromMicros(created), fromNullMicros(expires)
	return of, k, err
}

// readCallers returns callers with their keys, in the order that where asks for.
func readCallers(ctx context.Context, q querier, where string, args ...any) ([]*seckill.Caller, error) {
	var all []*seckill.Caller
	byName := make(map[seckill.CallerRef]*seckill.Caller)
	rows, err := q.query(ctx, "SELECT "+callerColumns+" FROM callers AS c "+where, args...)
	err = each(rows, err, func(rows *sql.Rows) error {
		c, err := scanCaller(rows)
		all = append(all, c)
		byName[c.CallerRef] = c
		return err
	})
	if err != nil || len(all) == 0 {
		return nil, err
	}
	rows, err = q.query(ctx, "SELECT "+callerKeyColumns+
		" FROM callers AS c JOIN caller_keys AS k USING (merchant, caller) "+where+", k.position", args...)
	err = each(rows, err, func(rows *sql.Rows) error {
		of, key, err := scanCallerKey(rows)
		if c := byName[of]; c != nil {
			c.Keys = append(c.Keys, key)
		}
		return err
	})
	return all, err
}

// UpdateCaller implements seckill.CatalogStore.
func (s *Store) UpdateCaller(ctx context.Context, ref seckill.CallerRef, by seckill.Author,
	change func(*seckill.Caller, time.Time) (*seckill.Caller, error)) (*seckill.Caller, error) {
	var next *seckill.Caller
	err := s.write(ctx, "update caller "+ref.String(), func(ctx context.Context, tx *transaction) error {
		if err := tx.needMerchant(ctx, ref.Merchant); err != nil {
			return err
		}
		found, err := readCallers(ctx, tx, "WHERE c.merchant = ? AND c.caller = ? ORDER BY c.changed",
			string(ref.Merchant), string(ref.Caller))
		if err != nil {
			return err
		}
		var old *seckill.Caller
		if len(found) > 0 {
			old = found[0]
		}
		made, record, changed, err := seckill.CallerEdit(old, tx.now, change)
		if next = made; err != nil || !changed {
			return err
		}
		if err := tx.writeCaller(ctx, old, made); err != nil {
			return err
		}
		return tx.record(ctx, by, record)
	})
	if err != nil {
		return nil, err
	}
	return next, nil
}

// writeCaller writes a caller and its keys.
func (tx *transaction) writeCaller(ctx context.Context, old, c *seckill.Caller) error {
	version, err := tx.raiseVersion(ctx)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `INSERT INTO callers (merchant, caller, name, rights, shadow, revoked, created, changed)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (merchant, caller) DO UPDATE SET name = excluded.name, rights = excluded.rights, shadow = excluded.shadow,
			revoked = excluded.revoked, created = excluded.created, changed = excluded.changed`,
		string(c.Merchant), string(c.Caller), c.Name, int64(c.Rights), c.Shadow, c.Revoked, c.Created.UnixMicro(), version)
	if err != nil {
		return err
	}
	for _, id := range seckill.LostKeys(old, c) {
		_, err := tx.exec(ctx, "DELETE FROM caller_keys WHERE merchant = ? AND caller = ? AND id = ?",
			string(c.Merchant), string(c.Caller), string(id))
		if err != nil {
			return err
		}
	}
	for i := range c.Keys {
		k := &c.Keys[i]
		_, err := tx.exec(ctx, `INSERT INTO caller_keys (merchant, caller, id, position, prefix, hash, created, expires, revoked)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (merchant, caller, id) DO UPDATE SET position = excluded.position, prefix = excluded.prefix,
				hash = excluded.hash, created = excluded.created, expires = excluded.expires, revoked = excluded.revoked`,
			string(c.Merchant), string(c.Caller), string(k.ID), i, k.Prefix, k.Hash[:], k.Created.UnixMicro(),
			nullMicros(k.Expires), k.Revoked)
		if err != nil {
			return err
		}
	}
	return nil
}

// needMerchant returns ErrNotFound if the merchant doesn't exist.
func (tx *transaction) needMerchant(ctx context.Context, id seckill.MerchantID) error {
	found, err := exists(ctx, tx, "SELECT 1 FROM merchants WHERE id = ?", string(id))
	if err == nil && !found {
		return fmt.Errorf("merchant %s: %w", id, seckill.ErrNotFound)
	}
	return err
}

// NoteKeyUses implements seckill.CatalogStore.
func (s *Store) NoteKeyUses(ctx context.Context, uses []seckill.KeyUse) error {
	for some := range slices.Chunk(uses, noteChunk) {
		err := s.write(ctx, "note the use of keys", func(ctx context.Context, tx *transaction) error {
			for i := range some {
				u := &some[i]
				_, err := tx.exec(ctx, `UPDATE caller_keys SET used = ?1
					WHERE merchant = ?2 AND caller = ?3 AND id = ?4 AND ifnull(used, 0) < ?1`,
					u.At.UnixMicro(), string(u.Merchant), string(u.Caller), string(u.Key))
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// noteChunk is how many uses are stored in one transaction, because other writers wait for it.
const noteChunk = 200

// KeyUses implements seckill.CatalogStore.
func (s *Store) KeyUses(ctx context.Context, ref seckill.CallerRef) ([]seckill.KeyUse, error) {
	var out []seckill.KeyUse
	err := s.read(ctx, "read the use of keys", func(q *statements) error {
		rows, err := q.query(ctx, `SELECT id, used FROM caller_keys WHERE merchant = ? AND caller = ? AND used IS NOT NULL
			ORDER BY position`, string(ref.Merchant), string(ref.Caller))
		return each(rows, err, func(rows *sql.Rows) error {
			u := seckill.KeyUse{CallerRef: ref}
			var at int64
			err := rows.Scan(&u.Key, &at)
			u.At = fromMicros(at)
			out = append(out, u)
			return err
		})
	})
	return out, err
}
