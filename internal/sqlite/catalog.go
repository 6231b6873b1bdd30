package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"penstock/seckill"
)

// LoadCatalog implements seckill.CatalogStore.
func (s *Store) LoadCatalog(ctx context.Context, known int64) (*seckill.CatalogData, error) {
	const what = "load the catalog"
	var version int64
	err := s.read(ctx, what, func(q *statements) error {
		_, err := one(ctx, q, "SELECT version FROM catalog", nil, &version)
		return err
	})
	if err != nil || version == known {
		return nil, err
	}
	data := new(seckill.CatalogData)
	err = s.readSnapshot(ctx, what, func(sn snapshot) error { return readCatalog(ctx, sn, data) })
	if err != nil {
		return nil, err
	}
	return data, nil
}

func readCatalog(ctx context.Context, sn snapshot, data *seckill.CatalogData) error {
	if _, err := one(ctx, sn, "SELECT version FROM catalog", nil, &data.Version); err != nil {
		return err
	}
	rows, err := sn.query(ctx, "SELECT id, name, payment_secret FROM merchants ORDER BY id")
	err = each(rows, err, func(rows *sql.Rows) error {
		var m seckill.Merchant
		if err := rows.Scan(&m.ID, &m.Name, &m.PaymentSecret); err != nil {
			return err
		}
		data.Merchants = append(data.Merchants, m)
		return nil
	})
	if err != nil {
		return err
	}
	rows, err = sn.query(ctx, "SELECT "+callerColumns+" FROM callers ORDER BY merchant, caller")
	err = each(rows, err, func(rows *sql.Rows) error {
		c, err := scanCaller(rows)
		data.Callers = append(data.Callers, c)
		return err
	})
	if err != nil {
		return err
	}
	data.Activities, err = readActivities(ctx, sn, "")
	return err
}

// PutMerchant implements seckill.CatalogStore. Putting what is there changes nothing and is not recorded.
func (s *Store) PutMerchant(ctx context.Context, m seckill.Merchant, by seckill.Author) error {
	return s.write(ctx, "put merchant "+string(m.ID), func(ctx context.Context, tx *transaction) error {
		old := seckill.Merchant{ID: m.ID}
		found, err := one(ctx, tx, "SELECT name, payment_secret FROM merchants WHERE id = ?", []any{string(m.ID)},
			&old.Name, &old.PaymentSecret)
		if err != nil {
			return err
		}
		if m.PaymentSecret == "" {
			m.PaymentSecret = old.PaymentSecret
		}
		if found && m == old {
			return nil
		}
		_, err = tx.exec(ctx, `INSERT INTO merchants (id, name, payment_secret) VALUES (?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, payment_secret = excluded.payment_secret`,
			string(m.ID), m.Name, m.PaymentSecret)
		if err != nil {
			return err
		}
		var before any
		if found {
			before = merchantChange{ID: m.ID, Name: old.Name}
		}
		after := merchantChange{m.ID, m.Name, m.PaymentSecret != old.PaymentSecret}
		return tx.recordCatalog(ctx, by, kindMerchant, string(m.ID), before, after)
	})
}

const callerColumns = "merchant, caller, name, rights, shadow, key_hash, revoked, created"

func scanCaller(rows *sql.Rows) (seckill.Caller, error) {
	var c seckill.Caller
	var hash []byte
	var created int64
	err := rows.Scan(&c.Merchant, &c.Caller, &c.Name, &c.Rights, &c.Shadow, &hash, &c.Revoked, &created)
	copy(c.KeyHash[:], hash) // a CHECK holds the length
	c.Created = fromMicros(created)
	return c, err
}

// findCaller returns nil where there is none.
func findCaller(ctx context.Context, q querier, ref seckill.CallerRef) (*seckill.Caller, error) {
	var found *seckill.Caller
	rows, err := q.query(ctx, "SELECT "+callerColumns+" FROM callers WHERE merchant = ? AND caller = ?",
		string(ref.Merchant), string(ref.Caller))
	err = each(rows, err, func(rows *sql.Rows) error {
		c, err := scanCaller(rows)
		found = &c
		return err
	})
	return found, err
}

// exists reports whether a query has a row.
func exists(ctx context.Context, q querier, text string, args ...any) (bool, error) {
	var ignored any
	return one(ctx, q, text, args, &ignored)
}

// AddCaller implements seckill.CatalogStore. Created is the database's.
func (s *Store) AddCaller(ctx context.Context, c seckill.Caller, by seckill.Author) error {
	return s.write(ctx, "add caller "+c.String(), func(ctx context.Context, tx *transaction) error {
		switch ok, err := exists(ctx, tx, "SELECT 1 FROM merchants WHERE id = ?", string(c.Merchant)); {
		case err != nil:
			return err
		case !ok:
			return fmt.Errorf("merchant %s: %w", c.Merchant, seckill.ErrNotFound)
		}
		switch old, err := findCaller(ctx, tx, c.CallerRef); {
		case err != nil:
			return err
		case old != nil:
			return seckill.ErrExists
		}
		_, err := tx.exec(ctx, "INSERT INTO callers ("+callerColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			string(c.Merchant), string(c.Caller), c.Name, int64(c.Rights), c.Shadow, c.KeyHash[:], c.Revoked, tx.now.UnixMicro())
		if err != nil {
			return err
		}
		return tx.recordCatalog(ctx, by, kindCaller, c.String(), nil, changeOfCaller(&c))
	})
}

// SetCallerRevoked implements seckill.CatalogStore.
func (s *Store) SetCallerRevoked(ctx context.Context, ref seckill.CallerRef, revoked bool, by seckill.Author) error {
	return s.write(ctx, fmt.Sprintf("set revoked of caller %s to %t", ref, revoked), func(ctx context.Context, tx *transaction) error {
		c, err := findCaller(ctx, tx, ref)
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
		_, err = tx.exec(ctx, "UPDATE callers SET revoked = ? WHERE merchant = ? AND caller = ?",
			revoked, string(ref.Merchant), string(ref.Caller))
		if err != nil {
			return err
		}
		return tx.recordCatalog(ctx, by, kindCaller, ref.String(), before, changeOfCaller(c))
	})
}
