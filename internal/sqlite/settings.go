package sqlite

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"penstock/internal/settings"
	"penstock/seckill"
)

var _ settings.Store = (*Store)(nil)

// members are the nodes that use the file. They are parts of one process, since only one has the
// file. So they live in memory, and to say that one is alive costs no write.
type members struct {
	mu    sync.Mutex
	known map[string]member // by instance; guarded by mu
}

type member struct {
	settings.Member
	seen time.Time
}

// note notes a node and returns how many are alive. Those that are counted no more are forgotten,
// as are those of a name that a new instance has taken over.
func (m *members) note(b *settings.Beat, now time.Time) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = make(map[string]member)
	}
	said := settings.Member{Node: b.Node, Applied: maps.Clone(b.Applied), Rejected: maps.Clone(b.Rejected)}
	m.known[b.Instance] = member{said, now}
	alive := 0
	for instance, o := range m.known {
		silent := now.Sub(o.seen)
		switch {
		case silent <= settings.AliveFor:
			alive++
		case silent > settings.CountedFor || o.Node == b.Node:
			delete(m.known, instance)
		}
	}
	return alive
}

// ExchangeSettings implements settings.Store.
func (s *Store) ExchangeSettings(ctx context.Context, b settings.Beat) (settings.Update, error) {
	var u settings.Update
	err := s.read(ctx, "exchange settings", func(q *statements) error {
		u.Now = s.now()
		u.Nodes = s.members.note(&b, u.Now)
		newest, err := newestSettings(ctx, q)
		for _, d := range newest {
			if d.Version > b.Seen[d.Name] {
				u.Documents = append(u.Documents, d)
			}
		}
		return err
	})
	return u, err
}

// newestSettings returns the newest version of every document that was ever written.
func newestSettings(ctx context.Context, q querier) ([]settings.Document, error) {
	var out []settings.Document
	for _, name := range []string{settings.Limits, settings.Switches} {
		d, err := findSettings(ctx, q, name)
		if err != nil {
			return nil, err
		}
		if d.Version > 0 {
			out = append(out, d)
		}
	}
	return out, nil
}

// LeaveSettings implements settings.Store.
func (s *Store) LeaveSettings(_ context.Context, instance string) error {
	s.members.mu.Lock()
	defer s.members.mu.Unlock()
	delete(s.members.known, instance)
	return nil
}

// SettingsMembers implements settings.Store.
func (s *Store) SettingsMembers(context.Context) ([]settings.Member, error) {
	now := s.now()
	s.members.mu.Lock()
	defer s.members.mu.Unlock()
	var out []settings.Member
	for _, o := range s.members.known {
		if o.Silent = now.Sub(o.seen); o.Silent <= settings.CountedFor {
			out = append(out, o.Member)
		}
	}
	slices.SortFunc(out, func(a, b settings.Member) int { return cmp.Compare(a.Node, b.Node) })
	return out, nil
}

// FindSettings implements settings.Store.
func (s *Store) FindSettings(ctx context.Context, name string) (settings.Document, time.Time, error) {
	var d settings.Document
	err := s.read(ctx, "find settings "+name, func(q *statements) (err error) {
		d, err = findSettings(ctx, q, name)
		return err
	})
	return d, s.now(), err
}

func findSettings(ctx context.Context, q querier, name string) (settings.Document, error) {
	d := settings.Document{Name: name}
	_, err := one(ctx, q, "SELECT version, body FROM settings WHERE name = ? ORDER BY version DESC LIMIT 1",
		[]any{name}, &d.Version, &d.Body)
	return d, err
}

// PutSettings implements settings.Store.
func (s *Store) PutSettings(ctx context.Context, name string, version int64, body []byte, by settings.Author) (int64, error) {
	made := version + 1
	err := s.write(ctx, "put settings "+name, func(ctx context.Context, tx *transaction) error {
		old, err := findSettings(ctx, tx, name)
		if err != nil {
			return err
		}
		if old.Version != version {
			return settings.ErrConflict
		}
		_, err = tx.exec(ctx, "INSERT INTO settings (name, version, at, body) VALUES (?, ?, ?, ?)",
			name, made, tx.now.UnixMicro(), string(body))
		if err != nil {
			return err
		}
		r := seckill.ChangeRecord{Kind: name, Key: strconv.FormatInt(made, 10), Before: string(old.Body), After: string(body)}
		return tx.record(ctx, seckill.Author(by), r)
	})
	if err != nil {
		return 0, err
	}
	return made, nil
}
