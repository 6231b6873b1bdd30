package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/seckill"
)

const merchantColumns = "id, name, payment_secret, former_secret, former_until"

func scanMerchant(rows pgx.Rows) (m seckill.Merchant, err error) {
	var until *time.Time
	err = rows.Scan((*string)(&m.ID), &m.Name, &m.PaymentSecret, &m.FormerSecret, &until)
	m.FormerUntil = fromNull(until)
	return m, err
}

// fromNull turns NULL into the zero time.
func fromNull(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// toNull turns the zero time into NULL.
func toNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// UpdateMerchant implements seckill.CatalogStore.
func (s *Store) UpdateMerchant(ctx context.Context, id seckill.MerchantID, by seckill.Author,
	change func(*seckill.Merchant, time.Time) (*seckill.Merchant, error)) (*seckill.Merchant, error) {
	var next *seckill.Merchant
	err := s.write(ctx, "update merchant "+string(id), func(ctx context.Context, tx *transaction) error {
		var old *seckill.Merchant
		tx.lockCatalog()
		tx.readClock()
		tx.each(func(rows pgx.Rows) error {
			m, err := scanMerchant(rows)
			old = &m
			return err
		}, "SELECT "+merchantColumns+" FROM merchants WHERE id = $1", string(id))
		if err := tx.flush(ctx); err != nil {
			return err
		}
		made, record, changed, err := seckill.MerchantEdit(old, tx.now, change)
		if next = made; err != nil || !changed {
			return err
		}
		tx.exec("INSERT INTO merchants ("+merchantColumns+`, changed) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, payment_secret = excluded.payment_secret,
				former_secret = excluded.former_secret, former_until = excluded.former_until, changed = excluded.changed`,
			string(id), made.Name, made.PaymentSecret, made.FormerSecret, toNull(made.FormerUntil), tx.raiseVersion())
		tx.record(by, record)
		return nil
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

func scanCaller(rows pgx.Rows) (*seckill.Caller, error) {
	c := new(seckill.Caller)
	var rights int16
	err := rows.Scan((*string)(&c.Merchant), (*string)(&c.Caller), &c.Name, &rights, &c.Shadow, &c.Revoked, &c.Created)
	c.Rights, c.Created = seckill.Rights(rights), c.Created.UTC()
	return c, err
}

func scanCallerKey(rows pgx.Rows) (of seckill.CallerRef, k seckill.CallerKey, err error) {
	var hash []byte
	var expires *time.Time
	err = rows.Scan((*string)(&of.Merchant), (*string)(&of.Caller), (*string)(&k.ID), &k.Prefix, &hash, &k.Created, &expires, &k.Revoked)
	copy(k.Hash[:], hash) // a CHECK holds the length
	k.Created, k.Expires = k.Created.UTC(), fromNull(expires)
	return of, k, err
}

// queueCallers queues the reading of callers with their keys, in the order that where gives. Each
// is passed to take before its keys are known; they are known after the flush.
func queueCallers(p *pipe, take func(*seckill.Caller), where string, args ...any) {
	byName := make(map[seckill.CallerRef]*seckill.Caller)
	p.each(func(rows pgx.Rows) error {
		c, err := scanCaller(rows)
		byName[c.CallerRef] = c
		take(c)
		return err
	}, "SELECT "+callerColumns+" FROM callers AS c "+where, args...)
	p.each(func(rows pgx.Rows) error {
		of, key, err := scanCallerKey(rows)
		if c := byName[of]; c != nil {
			c.Keys = append(c.Keys, key)
		}
		return err
	}, "SELECT "+callerKeyColumns+" FROM callers AS c JOIN caller_keys AS k USING (merchant, caller) "+where+", k.position", args...)
}

// UpdateCaller implements seckill.CatalogStore.
func (s *Store) UpdateCaller(ctx context.Context, ref seckill.CallerRef, by seckill.Author,
	change func(*seckill.Caller, time.Time) (*seckill.Caller, error)) (*seckill.Caller, error) {
	var next *seckill.Caller
	err := s.write(ctx, "update caller "+ref.String(), func(ctx context.Context, tx *transaction) error {
		var old *seckill.Caller
		tx.lockCatalog()
		tx.readClock()
		if err := needMerchant(ctx, tx.pipe, ref.Merchant); err != nil {
			return err
		}
		queueCallers(tx.pipe, func(c *seckill.Caller) { old = c }, "WHERE c.merchant = $1 AND c.caller = $2 ORDER BY c.changed",
			string(ref.Merchant), string(ref.Caller))
		if err := tx.flush(ctx); err != nil {
			return err
		}
		made, record, changed, err := seckill.CallerEdit(old, tx.now, change)
		if next = made; err != nil || !changed {
			return err
		}
		tx.writeCaller(old, made)
		tx.record(by, record)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return next, nil
}

// writeCaller queues the writing of a caller and its keys.
func (tx *transaction) writeCaller(old, c *seckill.Caller) {
	tx.exec(`INSERT INTO callers (merchant, caller, name, rights, shadow, revoked, created, changed)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (merchant, caller) DO UPDATE SET name = excluded.name, rights = excluded.rights, shadow = excluded.shadow,
			revoked = excluded.revoked, created = excluded.created, changed = excluded.changed`,
		string(c.Merchant), string(c.Caller), c.Name, int16(c.Rights), c.Shadow, c.Revoked, c.Created, tx.raiseVersion())
	for _, id := range seckill.LostKeys(old, c) {
		tx.exec("DELETE FROM caller_keys WHERE merchant = $1 AND caller = $2 AND id = $3",
			string(c.Merchant), string(c.Caller), string(id))
	}
	for i := range c.Keys {
		k := &c.Keys[i]
		tx.exec(`INSERT INTO caller_keys (merchant, caller, id, position, prefix, hash, created, expires, revoked)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			ON CONFLICT (merchant, caller, id) DO UPDATE SET position = excluded.position, prefix = excluded.prefix,
				hash = excluded.hash, created = excluded.created, expires = excluded.expires, revoked = excluded.revoked`,
			string(c.Merchant), string(c.Caller), string(k.ID), i, k.Prefix, k.Hash[:], k.Created, toNull(k.Expires), k.Revoked)
	}
}

// needMerchant returns ErrNotFound if the merchant doesn't exist.
func needMerchant(ctx context.Context, p *pipe, id seckill.MerchantID) error {
	found, err := p.exists(ctx, "SELECT FROM merchants WHERE id = $1", string(id))
	if err == nil && !found {
		return fmt.Errorf("merchant %s: %w", id, seckill.ErrNotFound)
	}
	return err
}

// NoteKeyUses implements seckill.CatalogStore. The rows are locked in the order of their names,
// because several gateways store uses at the same time.
func (s *Store) NoteKeyUses(ctx context.Context, uses []seckill.KeyUse) error {
	merchants, callers, ids := make([]string, len(uses)), make([]string, len(uses)), make([]string, len(uses))
	times := make([]time.Time, len(uses))
	for i := range uses {
		u := &uses[i]
		merchants[i], callers[i], ids[i], times[i] = string(u.Merchant), string(u.Caller), string(u.Key), u.At
	}
	return s.write(ctx, "note the use of keys", func(_ context.Context, tx *transaction) error {
		tx.exec(`WITH u AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS u (merchant, caller, id, at)),
			mine AS (SELECT k.merchant, k.caller, k.id, u.at FROM caller_keys AS k JOIN u USING (merchant, caller, id)
				WHERE k.used IS NULL OR k.used < u.at ORDER BY k.merchant, k.caller, k.id FOR NO KEY UPDATE OF k)
			UPDATE caller_keys AS k SET used = greatest(k.used, mine.at) FROM mine
			WHERE k.merchant = mine.merchant AND k.caller = mine.caller AND k.id = mine.id`, merchants, callers, ids, times)
		return nil
	})
}

// KeyUses implements seckill.CatalogStore.
func (s *Store) KeyUses(ctx context.Context, ref seckill.CallerRef) ([]seckill.KeyUse, error) {
	scan := func(rows pgx.Rows) (seckill.KeyUse, error) {
		u := seckill.KeyUse{CallerRef: ref}
		err := rows.Scan((*string)(&u.Key), &u.At)
		u.At = u.At.UTC()
		return u, err
	}
	return list(ctx, s, "read the use of keys", scan, `SELECT id, used FROM caller_keys
		WHERE merchant = $1 AND caller = $2 AND used IS NOT NULL ORDER BY position`, string(ref.Merchant), string(ref.Caller))
}
