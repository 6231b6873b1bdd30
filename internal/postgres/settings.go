package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/seckill"
)

var _ settings.Store = (*Store)(nil)

// ExchangeSettings implements settings.Store. It deletes nodes whose name a new instance has taken
// over, unless another transaction is doing that.
func (s *Store) ExchangeSettings(ctx context.Context, b settings.Beat) (settings.Update, error) {
	applied, err := json.Marshal(b.Applied)
	rejected, err2 := json.Marshal(b.Rejected)
	ids := make(map[string]string)
	for name, v := range b.Seen {
		ids[name] = v.ID
	}
	seen, err3 := json.Marshal(ids)
	if err := errors.Join(err, err2, err3); err != nil {
		return settings.Update{}, describe("exchange settings", err)
	}
	var u settings.Update
	err = s.write(ctx, "exchange settings", func(ctx context.Context, tx *transaction) error {
		u = settings.Update{}
		tx.readClock()
		if err := tx.flush(ctx); err != nil {
			return err
		}
		u.Now = tx.now
		silent := tx.now.Add(-settings.AliveFor)
		tx.exec(`INSERT INTO members (instance, name, enforces, joined) VALUES ($1, $2, $3, $4) ON CONFLICT (instance) DO NOTHING`,
			b.Instance, b.Node, b.Enforces, tx.now)
		tx.exec(`INSERT INTO beats (instance, seen, applied, rejected, status) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (instance) DO UPDATE SET seen = $2, applied = $3, rejected = $4, status = $5`,
			b.Instance, tx.now, string(applied), string(rejected), string(b.Status))
		tx.exec(`WITH old AS (
				SELECT m.instance FROM members m LEFT JOIN beats b USING (instance)
				WHERE m.name = $1 AND m.instance <> $2 AND coalesce(b.seen, m.joined) < $3 FOR UPDATE OF m SKIP LOCKED),
			gone AS (DELETE FROM members WHERE instance IN (SELECT instance FROM old))
			DELETE FROM beats WHERE instance IN (SELECT instance FROM old)`, b.Node, b.Instance, silent)
		tx.each(rowInto(&u.Nodes), "SELECT count(*) FROM members JOIN beats USING (instance) WHERE enforces AND seen >= $1", silent)
		tx.each(rowInto(&u.Drain), "SELECT drain FROM members WHERE instance = $1", b.Instance)
		var newest []settings.Document
		tx.each(func(rows pgx.Rows) error {
			d, err := scanSettings(rows)
			newest = append(newest, d)
			return err
		}, `SELECT d.name, d.version, d.id, CASE WHEN d.id = $2::jsonb ->> d.name THEN '' ELSE d.body END
			FROM unnest($1::text[]) AS wanted (name), LATERAL (
				SELECT * FROM settings WHERE name = wanted.name ORDER BY version DESC LIMIT 1) AS d`,
			settings.Names(), string(seen))
		if err := tx.flush(ctx); err != nil {
			return err
		}
		u.Documents = settings.News(b.Seen, newest)
		return nil
	})
	if err != nil {
		return settings.Update{}, err
	}
	return u, nil
}

func scanSettings(rows pgx.Rows) (settings.Document, error) {
	var d settings.Document
	var body string
	err := rows.Scan(&d.Name, &d.Version, &d.ID, &body)
	d.Body = []byte(body)
	return d, err
}

// LeaveSettings implements settings.Store.
func (s *Store) LeaveSettings(ctx context.Context, instance string) error {
	return s.write(ctx, "leave settings", func(_ context.Context, tx *transaction) error {
		tx.exec("DELETE FROM members WHERE instance = $1", instance)
		tx.exec("DELETE FROM beats WHERE instance = $1", instance)
		return nil
	})
}

// RemoveMember implements settings.Store.
func (s *Store) RemoveMember(ctx context.Context, node string, by settings.Author) error {
	return s.write(ctx, "remove node "+node, func(ctx context.Context, tx *transaction) error {
		return tx.changeMember(ctx, node, by, "", func() {
			tx.exec("DELETE FROM beats WHERE instance IN (SELECT instance FROM members WHERE name = $1)", node)
			tx.exec("DELETE FROM members WHERE name = $1", node)
		})
	})
}

// DrainMember implements settings.Store.
func (s *Store) DrainMember(ctx context.Context, node string, drain bool, by settings.Author) error {
	return s.write(ctx, "drain node "+node, func(ctx context.Context, tx *transaction) error {
		return tx.changeMember(ctx, node, by, settings.MemberRecord(drain), func() {
			tx.exec("UPDATE members SET drain = $2 WHERE name = $1", node, drain)
		})
	})
}

// changeMember queues a change of the nodes of a name, and its record.
func (tx *transaction) changeMember(ctx context.Context, node string, by settings.Author, after string, change func()) error {
	var drains []bool
	tx.readClock()
	tx.each(func(rows pgx.Rows) error {
		var drain bool
		err := rows.Scan(&drain)
		drains = append(drains, drain)
		return err
	}, "SELECT drain FROM members WHERE name = $1 FOR UPDATE", node)
	if err := tx.flush(ctx); err != nil {
		return err
	}
	if len(drains) == 0 {
		return settings.ErrNoMember
	}
	change()
	tx.record(seckill.Author(by), seckill.ChangeRecord{
		Kind: settings.KindNode, Key: node, Before: settings.MemberRecord(drains[0]), After: after,
	})
	return nil
}

// databaseNow is the time for a query that runs alone. In tests, the store's own clock is passed as
// $1.
const databaseNow = "coalesce($1::timestamptz, clock_timestamp())"

// clockNow is the value of $1 in databaseNow.
func (s *Store) clockNow() *time.Time {
	if s.clock == nil {
		return nil
	}
	now := s.clock()
	return &now
}

// SettingsMembers implements settings.Store. A crash of the database loses the last reports of
// nodes, but not the list of nodes.
func (s *Store) SettingsMembers(ctx context.Context) ([]settings.Member, error) {
	scan := func(rows pgx.Rows) (settings.Member, error) {
		var m settings.Member
		var applied, rejected, status string
		var seen, now time.Time
		if err := rows.Scan(&m.Instance, &m.Node, &m.Enforces, &m.Drain, &seen, &now, &applied, &rejected, &status); err != nil {
			return m, err
		}
		m.Silent = max(now.Sub(seen), 0)
		if status != "" {
			m.Status = json.RawMessage(status)
		}
		return m, errors.Join(json.Unmarshal([]byte(applied), &m.Applied), json.Unmarshal([]byte(rejected), &m.Rejected))
	}
	return list(ctx, s, "read the nodes", scan, `SELECT instance, name, enforces, drain, coalesce(seen, joined), now,
			coalesce(applied, '{}'), coalesce(rejected, '{}'), coalesce(status, '')
		FROM members LEFT JOIN beats USING (instance), (SELECT `+databaseNow+` AS now) AS clock ORDER BY name, instance`,
		s.clockNow())
}

// FindSettings implements settings.Store.
func (s *Store) FindSettings(ctx context.Context, name string) (settings.Document, time.Time, error) {
	d := settings.Document{Name: name}
	var now time.Time
	err := s.read(ctx, "find settings "+name, func(ctx context.Context, p *pipe) error {
		p.each(func(rows pgx.Rows) error { return rows.Scan(&now) }, "SELECT "+databaseNow, s.clockNow())
		p.each(func(rows pgx.Rows) (err error) {
			d, err = scanSettings(rows)
			return err
		}, "SELECT name, version, id, body FROM settings WHERE name = $1 ORDER BY version DESC LIMIT 1", name)
		return p.flush(ctx)
	})
	return d, now.UTC(), err
}

// PutSettings implements settings.Store.
func (s *Store) PutSettings(ctx context.Context, d settings.Document, by settings.Author) error {
	return s.write(ctx, "put settings "+d.Name, func(ctx context.Context, tx *transaction) error {
		var old settings.Document
		tx.lockCatalog()
		tx.readClock()
		tx.each(func(rows pgx.Rows) (err error) {
			old, err = scanSettings(rows)
			return err
		}, "SELECT name, version, id, body FROM settings WHERE name = $1 ORDER BY version DESC LIMIT 1", d.Name)
		if err := tx.flush(ctx); err != nil {
			return err
		}
		if old.Version != d.Version-1 {
			return settings.ErrConflict
		}
		tx.exec("INSERT INTO settings (name, version, id, at, body) VALUES ($1, $2, $3, $4, $5)", d.Name, d.Version, d.ID, tx.now, string(d.Body))
		r := seckill.ChangeRecord{Kind: d.Name, Key: strconv.FormatInt(d.Version, 10)}
		var err error
		if r.Before, r.After, err = settings.Recorded(old.Body, d.Body); err != nil {
			return err
		}
		tx.record(seckill.Author(by), r)
		return nil
	})
}
