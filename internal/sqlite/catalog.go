package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"penstock/seckill"
)

// catalogPage is how many activities are read at once, with their items.
const catalogPage = 64

// LoadCatalog implements seckill.CatalogStore. It holds one state of the file while apply runs.
func (s *Store) LoadCatalog(ctx context.Context, since seckill.CatalogVersion, begin func(whole bool),
	apply func(seckill.CatalogChange) error) (seckill.CatalogVersion, error) {
	const what = "load the catalog"
	now := seckill.CatalogVersion{Incarnation: s.incarnation}
	whole := since.Number <= 0 || since.Incarnation != now.Incarnation
	if whole {
		since.Number = 0
	}
	err := s.read(ctx, what, func(q *statements) error {
		_, err := one(ctx, q, "SELECT version FROM catalog", nil, &now.Number)
		return err
	})
	if err != nil {
		return seckill.CatalogVersion{}, err
	}
	if now == since { // mostly
		begin(false)
		return now, nil
	}
	err = s.readSnapshot(ctx, what, func(sn snapshot) error {
		if _, err := one(ctx, sn, "SELECT version FROM catalog", nil, &now.Number); err != nil {
			return err
		}
		begin(whole)
		return readCatalog(ctx, sn, since.Number, apply)
	})
	if err != nil {
		return seckill.CatalogVersion{}, err
	}
	return now, nil
}

// readCatalog hands everything that changed since a version to apply.
func readCatalog(ctx context.Context, sn snapshot, since int64, apply func(seckill.CatalogChange) error) error {
	rows, err := sn.query(ctx, "SELECT id, name, payment_secret FROM merchants WHERE changed > ? ORDER BY changed", since)
	err = each(rows, err, func(rows *sql.Rows) error {
		m := new(seckill.Merchant)
		if err := rows.Scan(&m.ID, &m.Name, &m.PaymentSecret); err != nil {
			return err
		}
		return apply(seckill.CatalogChange{Merchant: m})
	})
	if err != nil {
		return err
	}
	rows, err = sn.query(ctx, "SELECT "+callerColumns+" FROM callers WHERE changed > ? ORDER BY changed", since)
	err = each(rows, err, func(rows *sql.Rows) error {
		c, err := scanCaller(rows)
		if err != nil {
			return err
		}
		return apply(seckill.CatalogChange{Caller: &c})
	})
	if err != nil {
		return err
	}
	if since > 0 {
		rows, err = sn.query(ctx, "SELECT id FROM dropped_activities WHERE changed > ? ORDER BY changed", since)
		err = each(rows, err, func(rows *sql.Rows) error {
			var c seckill.CatalogChange
			if err := rows.Scan(&c.Dropped); err != nil {
				return err
			}
			return apply(c)
		})
		if err != nil {
			return err
		}
	}
	for from := since; ; {
		last, err := readActivities(ctx, sn, from, since, apply)
		if err != nil || last == 0 {
			return err
		}
		from = last
	}
}

// readActivities hands out a page of activities that changed after from, in the order of their
// changes, and returns the version of the last one; 0 where there was none. Each change has a
// version of its own.
func readActivities(ctx context.Context, sn snapshot, from, since int64, apply func(seckill.CatalogChange) error) (last int64, err error) {
	var page []seckill.CatalogChange
	var ids []seckill.ActivityID // of those that come with their items
	place := make(map[seckill.ActivityID]*seckill.Activity)
	rows, err := sn.query(ctx, "SELECT "+activityColumns+" FROM activities WHERE changed > ? ORDER BY changed LIMIT ?", from, catalogPage)
	err = each(rows, err, func(rows *sql.Rows) error {
		a, err := scanActivity(rows)
		last = a.changed
		change := seckill.CatalogChange{Activity: &a.Activity, ItemsKept: since > 0 && a.itemsChanged <= since}
		page = append(page, change)
		if !change.ItemsKept {
			ids = append(ids, a.ID)
			place[a.ID] = change.Activity
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	err = readItems(ctx, sn, ids, func(of seckill.ActivityID, i seckill.Item) {
		place[of].Items = append(place[of].Items, i)
	})
	if err != nil {
		return 0, err
	}
	for i := range page {
		if err := apply(page[i]); err != nil {
			return 0, err
		}
	}
	return last, nil
}

// PutMerchant implements seckill.CatalogStore. Putting what is there changes nothing and is not
// recorded.
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
		version, err := tx.raiseVersion(ctx)
		if err != nil {
			return err
		}
		_, err = tx.exec(ctx, `INSERT INTO merchants (id, name, payment_secret, changed) VALUES (?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, payment_secret = excluded.payment_secret,
				changed = excluded.changed`,
			string(m.ID), m.Name, m.PaymentSecret, version)
		if err != nil {
			return err
		}
		before := &old
		if !found {
			before = nil
		}
		record, err := seckill.RecordMerchant(before, &m)
		if err != nil {
			return err
		}
		return tx.record(ctx, by, record)
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

// needMerchant returns ErrNotFound where the merchant isn't there.
func (tx *transaction) needMerchant(ctx context.Context, id seckill.MerchantID) error {
	found, err := exists(ctx, tx, "SELECT 1 FROM merchants WHERE id = ?", string(id))
	if err == nil && !found {
		return fmt.Errorf("merchant %s: %w", id, seckill.ErrNotFound)
	}
	return err
}

// AddCaller implements seckill.CatalogStore. Created is the database's.
func (s *Store) AddCaller(ctx context.Context, c seckill.Caller, by seckill.Author) error {
	return s.write(ctx, "add caller "+c.String(), func(ctx context.Context, tx *transaction) error {
		if err := tx.needMerchant(ctx, c.Merchant); err != nil {
			return err
		}
		switch old, err := findCaller(ctx, tx, c.CallerRef); {
		case err != nil:
			return err
		case old != nil:
			return seckill.ErrExists
		}
		version, err := tx.raiseVersion(ctx)
		if err != nil {
			return err
		}
		_, err = tx.exec(ctx, "INSERT INTO callers ("+callerColumns+", changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			string(c.Merchant), string(c.Caller), c.Name, int64(c.Rights), c.Shadow, c.KeyHash[:], c.Revoked,
			tx.now.UnixMicro(), version)
		if err != nil {
			return err
		}
		record, err := seckill.RecordCaller(nil, &c)
		if err != nil {
			return err
		}
		return tx.record(ctx, by, record)
	})
}

// SetCallerRevoked implements seckill.CatalogStore.
func (s *Store) SetCallerRevoked(ctx context.Context, ref seckill.CallerRef, revoked bool, by seckill.Author) error {
	return s.write(ctx, fmt.Sprintf("set revoked of caller %s to %t", ref, revoked), func(ctx context.Context, tx *transaction) error {
		before, err := findCaller(ctx, tx, ref)
		switch {
		case err != nil:
			return err
		case before == nil:
			return seckill.ErrNotFound
		case before.Revoked == revoked:
			return nil
		}
		after := *before
		after.Revoked = revoked
		version, err := tx.raiseVersion(ctx)
		if err != nil {
			return err
		}
		_, err = tx.exec(ctx, "UPDATE callers SET revoked = ?, changed = ? WHERE merchant = ? AND caller = ?",
			revoked, version, string(ref.Merchant), string(ref.Caller))
		if err != nil {
			return err
		}
		record, err := seckill.RecordCaller(before, &after)
		if err != nil {
			return err
		}
		return tx.record(ctx, by, record)
	})
}
