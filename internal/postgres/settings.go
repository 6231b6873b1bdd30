package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"penstock/internal/settings"
	"penstock/seckill"
)

var _ settings.Store = (*Store)(nil)

// ExchangeSettings implements settings.Store. Rows of nodes that were silent for long, or whose
// name a new instance has taken over, are deleted; those that somebody else is deleting are left to
// that one.
func (s *Store) ExchangeSettings(ctx context.Context, b settings.Beat) (settings.Update, error) {
	applied, err := json.Marshal(b.Applied)
	rejected, err2 := json.Marshal(b.Rejected)
	seen, err3 := json.Marshal(b.Seen)
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
		tx.exec(`INSERT INTO nodes (instance, name, seen, applied, rejected) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (instance) DO UPDATE SET seen = $3, applied = $4, rejected = $5`,
			b.Instance, b.Node, tx.now, string(applied), string(rejected))
		silent := tx.now.Add(-settings.AliveFor)
		tx.exec(`DELETE FROM nodes WHERE instance IN (
			SELECT instance FROM nodes WHERE seen < $1 OR seen < $2 AND name = $3 FOR UPDATE SKIP LOCKED)`,
			tx.now.Add(-settings.CountedFor), silent, b.Node)
		tx.each(func(rows pgx.Rows) error { return rows.Scan(&u.Nodes) }, "SELECT count(*) FROM nodes WHERE seen >= $1", silent)
		tx.each(func(rows pgx.Rows) error {
			d, err := scanSettings(rows)
			u.Documents = append(u.Documents, d)
			return err
		}, `SELECT DISTINCT ON (name) name, version, body FROM settings
			WHERE version > coalesce(($1::jsonb ->> name)::bigint, 0) ORDER BY name, version DESC`, string(seen))
		return tx.flush(ctx)
	})
	if err != nil {
		return settings.Update{}, err
	}
	return u, nil
}

func scanSettings(rows pgx.Rows) (settings.Document, error) {
	var d settings.Document
	var body string
	err := rows.Scan(&d.Name, &d.Version, &body)
	d.Body = []byte(body)
	return d, err
}

// LeaveSettings implements settings.Store.
func (s *Store) LeaveSettings(ctx context.Context, instance string) error {
	return s.write(ctx, "leave settings", func(_ context.Context, tx *transaction) error {
		tx.exec("DELETE FROM nodes WHERE instance = $1", instance)
		return nil
	})
}

// databaseNow is the time where a query is asked alone; a store's own clock, which tests have, is
// given as $1.
const databaseNow = "coalesce($1::timestamptz, clock_timestamp())"

// clockNow is $1 of databaseNow.
func (s *Store) clockNow() *time.Time {
	if s.clock == nil {
		return nil
	}
	now := s.clock()
	return &now
}

// SettingsMembers implements settings.Store.
func (s *Store) SettingsMembers(ctx context.Context) ([]settings.Member, error) {
	scan := func(rows pgx.Rows) (settings.Member, error) {
		var m settings.Member
		var applied, rejected string
		var seen, now time.Time
		if err := rows.Scan(&m.Node, &seen, &now, &applied, &rejected); err != nil {
			return m, err
		}
		m.Silent = max(now.Sub(seen), 0)
		return m, errors.Join(json.Unmarshal([]byte(applied), &m.Applied), json.Unmarshal([]byte(rejected), &m.Rejected))
	}
	return list(ctx, s, "read the nodes", scan, `SELECT name, seen, now, applied, rejected
		FROM nodes, (SELECT `+databaseNow+` AS now) AS clock WHERE seen >= now - make_interval(secs => $2) ORDER BY name`,
		s.clockNow(), settings.CountedFor.Seconds())
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
		}, "SELECT name, version, body FROM settings WHERE name = $1 ORDER BY version DESC LIMIT 1", name)
		return p.flush(ctx)
	})
	return d, now.UTC(), err
}

// PutSettings implements settings.Store.
func (s *Store) PutSettings(ctx context.Context, name string, version int64, body []byte, by settings.Author) (int64, error) {
	made := version + 1
	err := s.write(ctx, "put settings "+name, func(ctx context.Context, tx *transaction) error {
		old := settings.Document{Name: name}
		tx.lockCatalog()
		tx.readClock()
		tx.each(func(rows pgx.Rows) (err error) {
			old, err = scanSettings(rows)
			return err
		}, "SELECT name, version, body FROM settings WHERE name = $1 ORDER BY version DESC LIMIT 1", name)
		if err := tx.flush(ctx); err != nil {
			return err
		}
		if old.Version != version {
			return settings.ErrConflict
		}
		tx.exec("INSERT INTO settings (name, version, at, body) VALUES ($1, $2, $3, $4)", name, made, tx.now, string(body))
		tx.record(seckill.Author(by), seckill.ChangeRecord{
			Kind: name, Key: strconv.FormatInt(made, 10), Before: string(old.Body), After: string(body),
		})
		return nil
	})
	if err != nil {
		return 0, err
	}
	return made, nil
}
