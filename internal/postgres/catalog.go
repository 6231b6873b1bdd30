package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"penstock/seckill"
)

// LoadCatalog implements seckill.CatalogStore. What it reads is in memory before the first change
// is handed out: no transaction waits for apply.
func (s *Store) LoadCatalog(ctx context.Context, since seckill.CatalogVersion, begin func(whole bool),
	apply func(seckill.CatalogChange) error) (seckill.CatalogVersion, error) {
	const what = "load the catalog"
	var now seckill.CatalogVersion
	err := s.read(ctx, what, func(ctx context.Context, p *pipe) error {
		_, err := p.one(ctx, "SELECT penstock_incarnation(), version FROM catalog", nil, &now.Incarnation, &now.Number)
		return err
	})
	if err != nil {
		return seckill.CatalogVersion{}, err
	}
	if now == since { // mostly
		begin(false)
		return now, nil
	}
	c := &catalogReading{since: since}
	if err := s.readSnapshot(ctx, what, func(p *pipe) { c.queue(p) }); err != nil {
		return seckill.CatalogVersion{}, err
	}
	begin(c.whole)
	for i := range c.changes {
		if err := apply(c.changes[i]); err != nil {
			return seckill.CatalogVersion{}, describe(what, err)
		}
	}
	return c.now, nil
}

// catalogReading is what changed since a version, as it was read.
type catalogReading struct {
	since   seckill.CatalogVersion
	now     seckill.CatalogVersion
	horizon int64
	whole   bool
	changes []seckill.CatalogChange
}

// queue queues the reading of what changed. The first statement says since when that is: everything
// is read where the version is of another life of the database, or so old that drops since then are
// forgotten.
func (c *catalogReading) queue(p *pipe) {
	c.changes, c.whole = nil, false
	since, horizon := c.since.Number, "(SELECT CASE WHEN $2 = penstock_incarnation() AND $1 >= horizon THEN $1 ELSE 0 END FROM catalog)"
	args := []any{since, c.since.Incarnation}
	p.each(func(rows pgx.Rows) error {
		err := rows.Scan(&c.now.Incarnation, &c.now.Number, &c.horizon)
		c.whole = since <= 0 || c.since.Incarnation != c.now.Incarnation || since < c.horizon
		return err
	}, "SELECT penstock_incarnation(), version, horizon FROM catalog")
	p.each(func(rows pgx.Rows) error {
		m := new(seckill.Merchant)
		err := rows.Scan((*string)(&m.ID), &m.Name, &m.PaymentSecret)
		c.changes = append(c.changes, seckill.CatalogChange{Merchant: m})
		return err
	}, "SELECT id, name, payment_secret FROM merchants WHERE changed > "+horizon+" ORDER BY changed", args...)
	p.each(func(rows pgx.Rows) error {
		caller, err := scanCaller(rows)
		c.changes = append(c.changes, seckill.CatalogChange{Caller: &caller})
		return err
	}, "SELECT "+callerColumns+" FROM callers WHERE changed > "+horizon+" ORDER BY changed", args...)
	p.each(func(rows pgx.Rows) error {
		var id seckill.ActivityID
		err := rows.Scan((*string)(&id))
		if !c.whole {
			c.changes = append(c.changes, seckill.CatalogChange{Dropped: id})
		}
		return err
	}, "SELECT id FROM dropped_activities WHERE changed > "+horizon+" ORDER BY changed", args...)
	c.queueActivities(p, horizon, args)
}

func (c *catalogReading) queueActivities(p *pipe, horizon string, args []any) {
	activities := make(map[int32]*seckill.Activity)
	p.each(func(rows pgx.Rows) error {
		a, err := scanActivity(rows)
		activities[a.sale] = &a.Activity
		kept := !c.whole && a.itemsChanged <= c.since.Number
		c.changes = append(c.changes, seckill.CatalogChange{Activity: &a.Activity, ItemsKept: kept})
		return err
	}, "SELECT "+activityColumns+" FROM activities AS a WHERE a.changed > "+horizon+" ORDER BY a.changed", args...)
	p.each(func(rows pgx.Rows) error {
		sale, item, err := scanItem(rows)
		a := activities[sale]
		if err == nil && a == nil {
			return fmt.Errorf("item %d has no activity", item.ID)
		}
		if err == nil {
			a.Items = append(a.Items, item)
		}
		return err
	}, "SELECT "+itemColumns+" FROM activities AS a JOIN items AS i USING (sale) WHERE a.changed > "+horizon+
		" AND a.items_changed > "+horizon+" ORDER BY i.sale, i.position", args...)
}

// PutMerchant implements seckill.CatalogStore. Putting what is there changes nothing and is not
// recorded.
func (s *Store) PutMerchant(ctx context.Context, m seckill.Merchant, by seckill.Author) error {
	return s.write(ctx, "put merchant "+string(m.ID), func(ctx context.Context, tx *transaction) error {
		tx.lockCatalog()
		tx.readClock()
		old, wanted := &seckill.Merchant{ID: m.ID}, m
		found, err := tx.one(ctx, "SELECT name, payment_secret FROM merchants WHERE id = $1", []any{string(m.ID)},
			&old.Name, &old.PaymentSecret)
		if err != nil {
			return err
		}
		if wanted.PaymentSecret == "" {
			wanted.PaymentSecret = old.PaymentSecret
		}
		if found && wanted == *old {
			return nil
		}
		if !found {
			old = nil
		}
		r, err := seckill.RecordMerchant(old, &wanted)
		if err != nil {
			return err
		}
		tx.exec(`INSERT INTO merchants (id, name, payment_secret, changed) VALUES ($1, $2, $3, $4)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, payment_secret = excluded.payment_secret, changed = excluded.changed`,
			string(m.ID), wanted.Name, wanted.PaymentSecret, tx.raiseVersion())
		tx.record(by, r)
		return nil
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
		r, err := seckill.RecordCaller(nil, &c)
		if err != nil {
			return err
		}
		tx.exec("INSERT INTO callers ("+callerColumns+", changed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
			string(c.Merchant), string(c.Caller), c.Name, int16(c.Rights), c.Shadow, c.KeyHash[:], c.Revoked, tx.now, tx.raiseVersion())
		tx.record(by, r)
		return nil
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
		after := *c
		after.Revoked = revoked
		r, err := seckill.RecordCaller(c, &after)
		if err != nil {
			return err
		}
		tx.exec("UPDATE callers SET revoked = $1, changed = $2 WHERE merchant = $3 AND caller = $4",
			revoked, tx.raiseVersion(), string(ref.Merchant), string(ref.Caller))
		tx.record(by, r)
		return nil
	})
}
