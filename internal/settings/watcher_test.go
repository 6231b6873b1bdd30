package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a store on a clock that runs apart from the watchers' by offset.
type memory struct {
	mu      sync.Mutex
	offset  time.Duration
	made    map[string][]Document // guarded by mu
	authors []Author              // of the versions, in the order of their writing; guarded by mu
	members map[string]Member     // guarded by mu
	seen    map[string]time.Time
	away    bool            // guarded by mu
	hangs   bool            // it never answers; guarded by mu
	cut     map[string]bool // the nodes that can't reach it; guarded by mu
}

func newMemory(offset time.Duration) *memory {
	return &memory{
		offset: offset, made: make(map[string][]Document), members: make(map[string]Member), seen: make(map[string]time.Time),
		cut: make(map[string]bool),
	}
}

var errAway = errors.New("the database is away")

func (m *memory) lock() (now time.Time, unlock func(), err error) {
	m.mu.Lock()
	if m.away {
		m.mu.Unlock()
		return time.Time{}, nil, errAway
	}
	return time.Now().Add(m.offset), m.mu.Unlock, nil
}

func (m *memory) setHangs(hangs bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hangs = hangs
}

func (m *memory) setAway(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

func (m *memory) setCut(node string, cut bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut[node] = cut
}

// restoreTo forgets the versions after the first n of the limits.
func (m *memory) restoreTo(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made[Limits] = slices.Clone(m.made[Limits][:n])
}

func (m *memory) newest(name string) Document {
	if all := m.made[name]; len(all) > 0 {
		return all[len(all)-1]
	}
	return Document{Name: name}
}

func (m *memory) ExchangeSettings(ctx context.Context, b Beat) (Update, error) {
	m.mu.Lock()
	hangs, cut := m.hangs, m.cut[b.Node]
	m.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return Update{}, ctx.Err()
	}
	now, unlock, err := m.lock()
	if err != nil {
		return Update{}, err
	}
	defer unlock()
	if cut {
		return Update{}, errAway
	}
	m.members[b.Instance] = Member{Instance: b.Instance, Node: b.Node, Enforces: b.Enforces, Applied: b.Applied, Rejected: b.Rejected}
	m.seen[b.Instance] = now
	u := Update{Now: now}
	for _, seen := range m.seen {
		if now.Sub(seen) <= AliveFor {
			u.Nodes++
		}
	}
	var newest []Document
	for name := range m.made {
		if d := m.newest(name); d.Version > 0 {
			newest = append(newest, d)
		}
	}
	u.Documents = News(b.Seen, newest)
	return u, nil
}

func (m *memory) LeaveSettings(_ context.Context, instance string) error {
	_, unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	delete(m.members, instance)
	delete(m.seen, instance)
	return nil
}

func (m *memory) SettingsMembers(context.Context) ([]Member, error) {
	now, unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []Member
	for instance, member := range m.members {
		member.Silent = now.Sub(m.seen[instance])
		out = append(out, member)
	}
	return out, nil
}

func (m *memory) RemoveMember(_ context.Context, node string, _ Author) error {
	_, unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	err = ErrNoMember
	for instance, member := range m.members {
		if member.Node == node {
			delete(m.members, instance)
			delete(m.seen, instance)
			err = nil
		}
	}
	return err
}

func (m *memory) DrainMember(context.Context, string, bool, Author) error { return ErrNoMember }

func (m *memory) FindSettings(_ context.Context, name string) (Document, time.Time, error) {
	now, unlock, err := m.lock()
	if err != nil {
		return Document{}, time.Time{}, err
	}
	defer unlock()
	return m.newest(name), now, nil
}

func (m *memory) PutSettings(_ context.Context, d Document, by Author) error {
	_, unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if m.newest(d.Name).Version != d.Version-1 {
		return ErrConflict
	}
	m.made[d.Name] = append(m.made[d.Name], d)
	m.authors = append(m.authors, by)
	return nil
}

// notes is a board.
type notes struct {
	mu     sync.Mutex
	boards map[string]map[string]string // guarded by mu
	away   bool                         // guarded by mu
}

func (n *notes) setAway(away bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away = away
}

func (n *notes) Pin(_ context.Context, board, name, text string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return errAway
	}
	if n.boards == nil {
		n.boards = make(map[string]map[string]string)
	}
	if n.boards[board] == nil {
		n.boards[board] = make(map[string]string)
	}
	n.boards[board][name] = text
	return nil
}

func (n *notes) Unpin(_ context.Context, board string, names ...string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return errAway
	}
	for _, name := range names {
		delete(n.boards[board], name)
	}
	return nil
}

func (n *notes) Notes(_ context.Context, board string) (map[string]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return nil, errAway
	}
	return maps.Clone(n.boards[board]), nil
}

// site is some nodes on one store.
type site struct {
	t     *testing.T
	store *memory
	board *notes
	ctx   context.Context
	done  sync.WaitGroup
}

func newSite(t *testing.T, offset time.Duration) *site {
	ctx, cancel := context.WithCancel(t.Context())
	s := &site{t: t, store: newMemory(offset), board: new(notes), ctx: ctx}
	t.Cleanup(func() { cancel(); s.done.Wait() })
	return s
}

// node is a node with one part. The part refuses the body "bad", panics on "mad", and ends the body
// "until" 10 s after its start.
type node struct {
	*Watcher
	stop context.CancelFunc

	mu    sync.Mutex
	calls []string // what was applied; guarded by mu
	until time.Time
}

func (s *site) node(name, path string) *node {
	s.t.Helper()
	n := new(node)
	part := Part{Name: Limits, Apply: n.apply, Amend: amendText}
	w, err := NewWatcher(Config{Node: name, Enforces: true, Path: path}, s.store, s.board, []Part{part}, nil, slog.New(slog.NewTextHandler(s.t.Output(), nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	n.Watcher = w
	if err := w.Start(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(s.ctx)
	n.stop = stop
	s.done.Go(func() { w.Run(ctx) })
	return n
}

func (n *node) apply(d Document, m Moment) (time.Time, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	body := string(d.Body)
	switch body {
	case `"bad"`:
		return time.Time{}, errors.New("refused")
	case `"mad"`:
		panic("no such thing")
	case `"until"`:
		if n.until.IsZero() {
			n.until = m.Now.Add(10 * time.Second)
		}
		if !m.Now.Before(n.until) {
			body = "over"
			n.calls = append(n.calls, body)
			return time.Time{}, nil
		}
		n.calls = append(n.calls, body)
		return n.until, nil
	}
	n.calls = append(n.calls, fmt.Sprint(d.Version, body, m.Nodes))
	return time.Time{}, nil
}

// amendText appends the amendment to a document that is a list of texts.
func amendText(body []byte, a Amendment) ([]byte, error) {
	var list []string
	if len(body) > 0 {
		if err := json.Unmarshal(body, &list); err != nil {
			return nil, err
		}
	}
	if slices.Contains(list, a.ID) {
		return nil, ErrRecorded
	}
	var text string
	if err := json.Unmarshal(a.Body, &text); err != nil {
		return nil, err
	}
	return json.Marshal(append(list, a.ID, text))
}

func (n *node) last() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls[len(n.calls)-1]
}

func (s *site) publish(version int64, body string) Published {
	s.t.Helper()
	p := Publisher{Store: s.store, Wait: time.Second}
	got, err := p.Publish(s.ctx, Limits, version, []byte(body), Author{Actor: "ann", Reason: "a test"})
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

func (s *site) wants(got Published, version int64, applied, nodes int, lagging ...string) {
	s.t.Helper()
	if !got.Recorded || got.Version != version || got.Applied != applied || got.Nodes != nodes || !slices.Equal(got.Lagging, lagging) || got.Lagging == nil {
		s.t.Fatalf("published %+v, want version %d on %d of %d, lagging %v", got, version, applied, nodes, lagging)
	}
}

func TestPublishWaitsForEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 3*time.Hour)
		a, b := s.node("a", ""), s.node("b", "")
		began := time.Now()
		s.wants(s.publish(0, `"x"`), 1, 2, 2)
		if took := time.Since(began); took > 300*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if a.last() != `1"x"2` || b.last() != `1"x"2` {
			t.Errorf("in force: %s, %s", a.last(), b.last())
		}
		b.stop()
		synctest.Wait()
		s.wants(s.publish(1, `"y"`), 2, 1, 1)
		time.Sleep(time.Second) // synctest's clock
		if a.last() != `2"y"1` {
			t.Errorf("in force: %s", a.last())
		}
	})
}

// TestPublishNamesWhoLags: a node stops reporting; it is named while it still counts as alive, and
// afterwards.
func TestPublishNamesWhoLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		s.node("a", "")
		if _, err := s.store.ExchangeSettings(s.ctx, Beat{Instance: "stopped", Node: "b", Enforces: true}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		s.wants(s.publish(0, `"x"`), 1, 1, 2, "b")
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
		time.Sleep(2 * time.Second)
		began = time.Now()
		s.wants(s.publish(1, `"y"`), 2, 1, 2, "b")
		if took := time.Since(began); took > 300*time.Millisecond {
			t.Errorf("it waited %v for a silent node", took)
		}
	})
}

func TestBadVersionsAreRefusedAndReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		a := s.node("a", "")
		s.wants(s.publish(0, `"x"`), 1, 1, 1)
		for i, body := range []string{`"bad"`, `"mad"`} {
			version := int64(i + 2)
			s.wants(s.publish(version-1, body), version, 0, 1, "a")
			if state := a.State(); state.Rejected[Limits].Number != version || state.Applied[Limits].Number != 1 {
				t.Errorf("%s: %+v", body, state)
			}
			if a.last() != `1"x"1` {
				t.Errorf("%s: %s is in force", body, a.last())
			}
		}
		s.wants(s.publish(3, `"y"`), 4, 1, 1)
	})
}

func TestPublishConflicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		s.publish(0, `"x"`)
		p := Publisher{Store: s.store, Wait: time.Second}
		if _, err := p.Publish(s.ctx, Limits, 0, []byte(`"y"`), Author{}); !errors.Is(err, ErrConflict) {
			t.Errorf("error %v", err)
		}
	})
}

// TestWhatEndsEndsByItself: on the database's clock, which is far from the node's, and also while
// it can't be asked.
func TestWhatEndsEndsByItself(t *testing.T) {
	for _, away := range []string{"", "refuses", "hangs"} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, -5*time.Hour)
			a := s.node("a", "")
			s.publish(0, `"until"`)
			s.store.setAway(away == "refuses")
			s.store.setHangs(away == "hangs")
			a.mu.Lock()
			until := a.until.Add(5 * time.Hour)
			a.mu.Unlock()
			time.Sleep(time.Until(until) - time.Millisecond)
			synctest.Wait()
			if a.last() != `"until"` {
				t.Errorf("away %q: %s before its end", away, a.last())
			}
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			if a.last() != "over" {
				t.Errorf("away %q: %s after its end", away, a.last())
			}
			s.store.setAway(false)
			s.store.setHangs(false)
		})
	}
}

func TestLastKnownGoodIsInForceWithoutTheDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.json")
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		s.node("a", path)
		s.publish(0, `"x<y"`)
		s.publish(1, `"bad"`)
		s.store.setAway(true)
		again := s.node("again", path)
		if again.last() != `1"x\u003cy"1` {
			t.Errorf("in force: %s", again.last())
		}
		s.store.setAway(false)
		time.Sleep(time.Second)
		if state := again.State(); state.Rejected[Limits].Number != 2 || state.Applied[Limits].Number != 1 {
			t.Errorf("with the database: %+v", state)
		}
	})
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{
		"half": text[:len(text)/2], "edited": []byte(string(text[:len(text)-20]) + "9" + string(text[len(text)-19:])), "empty": {}, "text": []byte("hello"),
	} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 0)
			s.store.setAway(true)
			if n := s.node("a", path); n.last() != "01" {
				t.Errorf("%s: %s in force", name, n.last())
			}
			s.store.setAway(false)
		})
	}
}

// A file of another installation is used only for a start without a database. After that the
// database decides, even if it is empty.
func TestWhatAnotherInstallationKeptIsForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.json")
	synctest.Test(t, func(t *testing.T) {
		other := newSite(t, 0)
		other.node("a", path)
		other.publish(0, `"theirs"`)
		other.publish(1, `"theirs too"`)
	})
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ours string
		want string
	}{{"", "01"}, {`"ours"`, `1"ours"1`}} {
		if err := os.WriteFile(path, kept, 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 0)
			if c.ours != "" {
				s.publish(0, c.ours)
			}
			s.store.setAway(true)
			n := s.node("a", path)
			if n.last() != `2"theirs too"1` {
				t.Errorf("without the database: %s", n.last())
			}
			s.store.setAway(false)
			time.Sleep(time.Second)
			if n.last() != c.want {
				t.Errorf("in force: %s, want %s", n.last(), c.want)
			}
		})
		if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "theirs") {
			t.Errorf("kept: %s, %v", text, err)
		}
	}
}

func TestConfigValidates(t *testing.T) {
	for _, c := range []Config{{}, {Node: "a", Poll: time.Second}, {Node: "a", Poll: -1}, {Node: "a", Timeout: time.Minute}, {Node: "a", Timeout: -1}} {
		if c.Validate() == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
