package sqlite

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/penstock/penstock/internal/settings"
	"github.com/penstock/penstock/seckill"
)

var _ settings.Store = (*Store)(nil)

// members are the nodes that use the file. They are parts of one process, since only one has the
// file. So their state is in memory, and a sign of life costs no write.
type members struct {
	mu    sync.Mutex
	known map[string]member // by instance; guarded by mu
}

type member struct {
	settings.Member
	seen time.Time
}

// note records a node and returns the other nodes' state. Former instances of a node's name are
// removed.
func (m *members) note(b *settings.Beat, now time.Time) (u settings.Update) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = make(map[string]member)
	}
	u.Now, u.Drain = now, m.known[b.Instance].Drain
	m.known[b.Instance] = member{settings.Member{
		Instance: b.Instance, Node: b.Node, Enforces: b.Enforces, Applied: maps.Clone(b.Applied), Rejected: maps.Clone(b.Rejected),
		Drain: u.Drain, Status: b.Status,
	}, now}
	for instance, o := range m.known {
		switch alive := now.Sub(o.seen) <= settings.AliveFor; {
		case alive && o.Enforces:
			u.Nodes++
		case !alive && o.Node == b.Node:
			delete(m.known, instance)
		}
	}
	return u
}

// ExchangeSettings implements settings.Store.
func (s *Store) ExchangeSettings(ctx context.Context, b settings.Beat) (settings.Update, error) {
	var u settings.Update
	err := s.read(ctx, "exchange settings", func(q *statements) error {
		u = s.members.note(&b, s.now())
		newest, err := newestSettings(ctx, q)
		u.Documents = settings.News(b.Seen, newest)
		return err
	})
	return u, err
}

// newestSettings returns the newest version of every document that was ever written.
func newestSettings(ctx context.Context, q querier) ([]settings.Document, error) {
	var out []settings.Document
	for _, name := range settings.Names() {
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
		o.Silent = now.Sub(o.seen)
		out = append(out, o.Member)
	}
	slices.SortFunc(out, func(a, b settings.Member) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Instance, b.Instance))
	})
	return out, nil
}

// RemoveMember implements settings.Store.
func (s *Store) RemoveMember(ctx context.Context, node string, by settings.Author) error {
	return s.changeMembers(ctx, "remove node "+node, node, by, "", func(instance string, _ member) {
		delete(s.members.known, instance)
	})
}

// DrainMember implements settings.Store.
func (s *Store) DrainMember(ctx context.Context, node string, drain bool, by settings.Author) error {
	return s.changeMembers(ctx, "drain node "+node, node, by, settings.MemberRecord(drain), func(instance string, m member) {
		m.Drain = drain
		s.members.known[instance] = m
	})
}

// changeMembers changes the nodes with a name, after that is recorded.
func (s *Store) changeMembers(ctx context.Context, what, node string, by settings.Author, after string,
	change func(instance string, m member)) error {
	find := func() map[string]member {
		found := make(map[string]member)
		for instance, m := range s.members.known {
			if m.Node == node {
				found[instance] = m
			}
		}
		return found
	}
	s.members.mu.Lock()
	found := find()
	s.members.mu.Unlock()
	if len(found) == 0 {
		return settings.ErrNoMember
	}
	before := ""
	for _, m := range found {
		before = settings.MemberRecord(m.Drain)
	}
	err := s.write(ctx, what, func(ctx context.Context, tx *transaction) error {
		return tx.record(ctx, seckill.Author(by), seckill.ChangeRecord{Kind: settings.KindNode, Key: node, Before: before, After: after})
	})
	if err != nil {
		return err
	}
	s.members.mu.Lock()
	defer s.members.mu.Unlock()
	for instance, m := range find() {
		change(instance, m)
	}
	return nil
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
	_, err := one(ctx, q, "SELECT version, id, body FROM settings WHERE name = ? ORDER BY version DESC LIMIT 1",
		[]any{name}, &d.Version, &d.ID, &d.Body)
	return d, err
}

// PutSettings implements settings.Store.
func (s *Store) PutSettings(ctx context.Context, d settings.Document, by settings.Author) error {
	return s.write(ctx, "put settings "+d.Name, func(ctx context.Context, tx *transaction) error {
		old, err := findSettings(ctx, tx, d.Name)
		if err != nil {
			return err
		}
		if old.Version != d.Version-1 {
			return settings.ErrConflict
		}
		_, err = tx.exec(ctx, "INSERT INTO settings (name, version, id, at, body) VALUES (?, ?, ?, ?, ?)",
			d.Name, d.Version, d.ID, tx.now.UnixMicro(), string(d.Body))
		if err != nil {
			return err
		}
		r := seckill.ChangeRecord{Kind: d.Name, Key: strconv.FormatInt(d.Version, 10)}
		if r.Before, r.After, err = settings.Recorded(old.Body, d.Body); err != nil {
			return err
		}
		return tx.record(ctx, seckill.Author(by), r)
	})
}
