package settings

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// publisher returns a publisher in a node's process.
func (s *site) publisher(n *node) *Publisher {
	return &Publisher{Store: s.store, Board: s.board, Watcher: n.Watcher, Nudge: n.Nudge, Wait: time.Second}
}

func (s *site) amend(n *node, text string) Published {
	s.t.Helper()
	got, err := s.publisher(n).Amend(s.ctx, Limits, fmt.Appendf(nil, "%q", text), Author{Actor: "ann", Reason: text})
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

// says reports whether the node has a text in force.
func (n *node) says(text string) bool { return strings.Contains(n.last(), text) }

// A restored database is right, even if its version number is lower, and even if it has given a
// known number to another version.
func TestWatcher_TheDatabaseIsRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		a, b, c := s.node("a", ""), s.node("b", ""), s.node("c", "")
		for i := range 5 {
			s.publish(int64(i), fmt.Sprintf(`["%d"]`, i+1))
		}
		s.store.restoreTo(3)
		time.Sleep(time.Second) // synctest's clock
		for _, n := range []*node{a, b, c} {
			if state := n.State(); !n.says(`["3"]`) || state.Applied[Limits].Number != 3 {
				t.Errorf("after the restore %s has %s in force, and reports %+v", n.cfg.Node, n.last(), state.Applied)
			}
		}
		s.wants(s.publish(3, `["other 4"]`), 4, 3, 3)
		s.store.restoreTo(0)
		time.Sleep(time.Second)
		if state := a.State(); a.last() != "03" || state.Applied[Limits] != (Version{}) {
			t.Errorf("with an empty database %s is in force, and %+v reported", a.last(), state.Applied)
		}
	})
}

// A node may be unreachable while the database is restored and continues. The node doesn't count as
// having the newest version, though its number is higher.
func TestPublish_ComparesIdentities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		s.node("a", "")
		b := s.node("b", "")
		s.publish(0, `["1"]`)
		s.publish(1, `["2"]`)
		s.publish(2, `["3"]`)
		s.store.setCut("b", true)
		s.store.restoreTo(1)
		got := s.publish(1, `["other 2"]`)
		s.wants(got, 2, 1, 2, "b")
		time.Sleep(3 * time.Minute)
		got = s.publish(2, `["other 3"]`)
		s.wants(got, 3, 1, 2, "b")
		if !strings.Contains(got.String(), "in force on 1 of 2 gateways; not on b: silent for 3m") {
			t.Errorf("said: %s", got.String())
		}
		s.store.setCut("b", false)
		time.Sleep(time.Second)
		if !b.says("other 3") {
			t.Errorf("back, b has %s in force", b.last())
		}
		got = s.publish(3, `["4"]`)
		s.wants(got, 4, 2, 2)
		if got.String() != "in force on all 2 gateways" {
			t.Errorf("said: %s", got.String())
		}
	})
}

// A node that is cut off is named until it is back, or until a person removes it.
func TestPublish_NamesWhoIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		s.node("a", "")
		s.node("b", "")
		s.node("c", "")
		s.store.setCut("c", true)
		time.Sleep(10 * time.Minute)
		s.wants(s.publish(0, `["x"]`), 1, 2, 3, "c")
		p := Publisher{Store: s.store, Board: s.board, Wait: time.Second}
		if err := p.Remove(s.ctx, "c", Author{}); err != nil {
			t.Fatal(err)
		}
		s.wants(s.publish(1, `["y"]`), 2, 2, 2)
		if err := p.Remove(s.ctx, "c", Author{}); !errors.Is(err, ErrNoMember) {
			t.Errorf("removed again: %v", err)
		}
	})
}

func TestPublish_ToNobody(t *testing.T) {
	s := newSite(t, 0)
	got := s.publish(0, `["x"]`)
	s.wants(got, 1, 0, 0)
	if got.String() != "in force nowhere: no gateway is known" {
		t.Errorf("said: %s", got.String())
	}
}

// While the database is away, a change reaches all nodes through the board. It is recorded once
// when the database is back, under its author's name. Buyers notice nothing of that.
func TestAmend_OverTheBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 7*time.Minute)
		nodes := []*node{s.node("a", ""), s.node("b", ""), s.node("c", "")}
		s.publish(0, `["x"]`)
		s.store.setAway(true)
		time.Sleep(time.Second)
		began := time.Now()
		got := s.amend(nodes[0], "stop")
		if got.Recorded || got.Applied != 3 || got.Nodes != 3 || got.Version != 1 || len(got.Lagging) != 0 {
			t.Errorf("amended: %+v", got)
		}
		if got.String() != "in force on all 3 gateways; not recorded yet, because the database can't be reached" {
			t.Errorf("said: %s", got.String())
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		s.amend(nodes[1], "slow")
		for _, n := range nodes {
			if d, waiting, _ := n.InForce(Limits); !n.says("stop") || !n.says("slow") || len(waiting) != 2 || d.Version != 1 {
				t.Errorf("%s has %s in force, %d wait to be recorded", n.cfg.Node, n.last(), len(waiting))
			}
		}
		s.store.setAway(false)
		time.Sleep(2 * time.Second)
		for _, n := range nodes {
			if state := n.State(); !n.says("stop") || !n.says("slow") || state.Waiting != 0 || state.Applied[Limits].Number != 3 {
				t.Errorf("recorded: %s has %s in force, %+v", n.cfg.Node, n.last(), state)
			}
		}
		if want := []Author{{Actor: "ann", Reason: "a test"}, {Actor: "ann", Reason: "stop"}, {Actor: "ann", Reason: "slow"}}; !slices.Equal(s.store.authors, want) {
			t.Errorf("recorded for %v, want %v", s.store.authors, want)
		}
		if left, err := s.board.Notes(s.ctx, boardAmendments); len(left) != 0 || err != nil {
			t.Errorf("left on the board: %v, %v", left, err)
		}
	})
}

// While both are away a change is in force on the node where it is made, also after its restart.
// The others take it when the board is back, and it is recorded when the database is.
func TestAmend_OnOneNode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.json")
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		a, b := s.node("a", path), s.node("b", "")
		s.publish(0, `["x"]`)
		time.Sleep(2 * time.Second)
		s.store.setAway(true)
		s.board.setAway(true)
		got := s.amend(a, "stop")
		if got.Recorded || got.Applied != 1 || got.Nodes != 2 || !slices.Equal(got.Lagging, []string{"b"}) {
			t.Errorf("amended: %+v", got)
		}
		if !a.says("stop") || b.says("stop") {
			t.Errorf("in force: %s, %s", a.last(), b.last())
		}
		a.stop()
		time.Sleep(time.Second)
		a = s.node("a", path)
		if !a.says("stop") {
			t.Errorf("after a restart: %s", a.last())
		}
		s.board.setAway(false)
		time.Sleep(2 * time.Second)
		if !b.says("stop") {
			t.Errorf("with the board, b has %s", b.last())
		}
		s.store.setAway(false)
		time.Sleep(2 * time.Second)
		if a.State().Applied[Limits].Number != 2 || b.State().Applied[Limits].Number != 2 || len(s.store.authors) != 2 {
			t.Errorf("recorded: %+v, %+v, %v", a.State(), b.State(), s.store.authors)
		}
	})
}

// The board forgets with its Redis. The amendments stay, and are pinned again.
func TestAmend_SurvivesAnEmptiedBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		a := s.node("a", "")
		s.store.setAway(true)
		time.Sleep(time.Second)
		s.amend(a, "stop")
		s.board.mu.Lock()
		clear(s.board.boards)
		s.board.mu.Unlock()
		time.Sleep(2 * time.Second)
		b := s.node("b", "")
		time.Sleep(2 * time.Second)
		if !a.says("stop") || !b.says("stop") {
			t.Errorf("in force: %s, %s", a.last(), b.last())
		}
		s.store.setAway(false)
	})
}

// The number of waiting amendments is bounded. One that a part refuses is dropped and not kept for
// ever.
func TestAmend_IsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		a := s.node("a", "")
		s.store.setAway(true)
		time.Sleep(time.Second)
		if _, err := s.publisher(a).Amend(s.ctx, Limits, []byte(`{}`), Author{}); err != nil {
			t.Fatal(err)
		}
		if n := a.State().Waiting; n != 0 {
			t.Errorf("%d wait after a wrong one", n)
		}
		for range MaxAmendments {
			s.amend(a, "x")
		}
		if _, err := s.publisher(a).Amend(s.ctx, Limits, []byte(`"y"`), Author{}); !errors.Is(err, ErrTooManyAmendments) {
			t.Errorf("one more: %v", err)
		}
		s.store.setAway(false)
		time.Sleep(5 * time.Second)
		if state := a.State(); state.Waiting != 0 || state.Applied[Limits].Number != MaxAmendments {
			t.Errorf("recorded: %+v", state)
		}
	})
}

// A node reports whether it ever had settings, because a first start without a database differs
// from a later one.
func TestWatcher_KnowsWhetherItEverHadAny(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.json")
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 0)
		s.store.setAway(true)
		a := s.node("a", path)
		if state := a.State(); state.Known || state.Away == nil {
			t.Errorf("at its first start: %+v", state)
		}
		s.store.setAway(false)
		time.Sleep(time.Second)
		if state := a.State(); !state.Known || state.Away != nil {
			t.Errorf("with the database: %+v", state)
		}
		a.stop()
		synctest.Wait()
		s.store.setAway(true)
		if state := s.node("a", path).State(); !state.Known || state.Away == nil {
			t.Errorf("at a later start, where nobody had set anything: %+v", state)
		}
		s.store.setAway(false)
	})
}
