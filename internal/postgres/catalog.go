package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"penstock/seckill"
)

// LoadCatalog implements seckill.CatalogStore.
func (s *Store) LoadCatalog(ctx context.Context, known int64) (*seckill.CatalogData, error) {
	const what = "load the catalog"
	var version int64
	err := s.read(ctx, what, func(ctx context.Context, p *pipe) error {
		_, err := p.one(ctx, "SELECT version FROM catalog", nil, &version)
		return err
	})
	if err != nil || version == known {
		return nil, err
	}
	var data *seckill.CatalogData
	err = s.readSnapshot(ctx, what, func(p *pipe) {
		data = new(seckill.CatalogData)
		queueCatalog(p, data)
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// queueCatalog queues the reading of all of it.
func queueCatalog(p *pipe, data *seckill.CatalogData) {
	p.each(func(rows pgx.Rows) error { return rows.Scan(&data.Version) }, "SELECT version FROM catalog")
	p.each(func(rows pgx.Rows) error {
		var m seckill.Merchant
		err := rows.Scan((*string)(&m.ID), &m.Name, &m.PaymentSecret)
		data.Merchants = append(data.Merchants, m)
		return err
	}, "SELECT id, name, payment_secret FROM merchants ORDER BY id")
	p.each(func(rows pgx.Rows) error {
		c, err := scanCaller(rows)
		data.Callers = append(data.Callers, c)
		return err
	}, "SELECT "+callerColumns+" FROM callers ORDER BY merchant, caller")
	queueActivities(p, "", &data.Activities)
}

// PutMerchant implements seckill.CatalogStore. Putting what is there changes nothing and is not recorded.
func (s *Store) PutMerchant(ctx context.Context, m seckill.Merchant, by seckill.Author) error {
	return s.write(ctx, "put merchant "+string(m.ID), func(ctx context.Context, tx *transaction) error {
		tx.lockCatalog()
		tx.readClock()
		old, wanted := seckill.Merchant{ID: m.ID}, m
		found, err := tx.one(ctx, "SELECT name, payment_secret FROM merchants WHERE id = $1", []any{string(m.ID)},
			&old.Name, &old.PaymentSecret)
		if err != nil {
			return err
		}
		if wanted.PaymentSecret == "" {
			wanted.PaymentSecret = old.PaymentSecret
		}
		if found && wanted == old {
			return nil
		}
		tx.exec(`INSERT INTO merchants (id, name, payment_secret) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, payment_secret = excluded.payment_secret`,
			string(m.ID), wanted.Name, wanted.PaymentSecret)
		var before any
		if found {
			before = merchantChange{ID: m.ID, Name: old.Name}
		}
		after := merchantChange{m.ID, wanted.Name, wanted.PaymentSecret != old.PaymentSecret}
		return tx.recordCatalog(by, kindMerchant, string(m.ID), before, after)
	})
}

const callerColumns = "merchant, caller, name, rights, shadow, key_hash, revoked, created"

func scanCaller(rows pgx.Rows) (seckill.Caller, error) {
	var c seckill.Caller
	var hash []byte
	var rights int16
	err := rows.Scan((*string)(&c.Merchant), (*string)(&c.Caller), &c.Name, &rights, &c.Shadow, &hash, &c.Revoked, &c.Created)
	c.Rights = seckill.Rights(rights)
	copy(c.KeyHash[:], hash) // a CHECK holds the length
	c.Created = c.Created.UTC()
	return c, err
}

// findCaller returns nil where there is none.
func findCaller(ctx context.Context, p *pipe, ref seckill.CallerRef) (*seckill.Caller, error) {
	var found *seckill.Caller
	p.each(func(rows pgx.Rows) error {
		c, err := scanCaller(rows)
		found = &c
		return err
	}, "SELECT "+callerColumns+" FROM callers WHERE merchant = $1 AND caller = $2", string(ref.Merchant), string(ref.Caller))
	return found, p.flush(ctx)
}

// needMerchant returns ErrNotFound where the merchant isn't there.
func needMerchant(ctx context.Context, p *pipe, id seckill.MerchantID) error {
	found, err := p.exists(ctx, "SELECT FROM merchants WHERE id = $1", string(id))
	if err == nil && !found {
		return fmt.Errorf("merchant %s: %w", id, seckill.ErrNotFound)
	}
	return err
}

// AddCaller implements seckill.CatalogStore. Created is the database's.
func (s *Store) AddCaller(ctx context.Context, c seckill.Caller, by seckill.Author) error {
	return s.write(ctx, "add caller "+c.String(), func(ctx context.Context, tx *transaction) error {
		tx.lockCatalog()
		tx.readClock()
		if err := needMerchant(ctx, tx.pipe, c.Merchant); err != nil {
			return err
		}
		switch old, err := findCaller(ctx, tx.pipe, c.CallerRef); {
		case err != nil:
			return err
		case old != nil:
			return seckill.ErrExists
		}
		tx.exec("INSERT INTO callers ("+callerColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
			string(c.Merchant), string(c.Caller), c.Name, int16(c.Rights), c.Shadow, c.KeyHash[:], c.Revoked, tx.now)
		return tx.recordCatalog(by, kindCaller, c.String(), nil, changeOfCaller(&c))
	})
}

// SetCallerRevoked implements seckill.CatalogStore.
func (s *Store) SetCallerRevoked(ctx context.Context, ref seckill.CallerRef, revoked bool, by seckill.Author) error {
	return s.write(ctx, fmt.Sprintf("set revoked of caller %s to %t", ref, revoked), func(ctx context.Context, tx *transaction) error {
		tx.lockCatalog()
		tx.readClock()
		c, err := findCaller(ctx, tx.pipe, ref)
		switch {
		case err != nil:
			return err
		case c == nil:
			return seckill.ErrNotFound
		case c.Revoked == revoked:
			return nil
		}
		before := changeOfCaller(c)
		c.Revoked = revoked
		tx.exec("UPDATE callers SET revoked = $1 WHERE merchant = $2 AND caller = $3", revoked, string(ref.Merchant), string(ref.Caller))
		return tx.recordCatalog(by, kindCaller, ref.String(), before, changeOfCaller(c))
	})
}
