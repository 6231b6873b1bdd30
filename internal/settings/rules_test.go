package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// still returns a watcher that is not running, with a part whose documents it keeps in applied.
func still(t *testing.T, cfg Config, store Store, board Board, applied *[]Moment) *Watcher {
	t.Helper()
	apply := func(d Document, m Moment) (time.Time, error) {
		if string(d.Body) == `"bad"` {
			return time.Time{}, errors.New("refused")
		}
		*applied = append(*applied, m)
		return time.Time{}, nil
	}
	parts := []Part{{Name: Limits, Apply: apply, Amend: amendText}}
	w, err := NewWatcher(cfg, store, board, parts, nil, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		if err := w.put(part, Document{Name: part.Name}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func TestCount(t *testing.T) {
	made, newest, old := Version{3, "three"}, Version{5, "five"}, Version{2, "two"}
	member := func(enforces bool, applied, rejected Version) Member {
		return Member{Node: "a", Enforces: enforces, Applied: Versions{Limits: applied}, Rejected: Versions{Limits: rejected}}
	}
	for name, c := range map[string]struct {
		member                  Member
		nodes, applied, pending int
	}{
		"it has this version":                    {member(true, made, Version{}), 1, 1, 0},
		"it has the newest one":                  {member(true, newest, Version{}), 1, 1, 0},
		"it refuses this version":                {member(true, old, made), 1, 0, 0},
		"it refuses the newest one":              {member(true, old, newest), 1, 0, 0},
		"it has an earlier one":                  {member(true, old, Version{}), 1, 0, 1},
		"it enforces nothing":                    {member(false, old, Version{}), 0, 0, 0},
		"it enforces nothing, and has this one":  {member(false, made, Version{}), 0, 0, 0},
		"it has the number, of another database": {member(true, Version{3, "other"}, Version{}), 1, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			out, pending := count(Limits, made, newest, []Member{c.member})
			if out.Nodes != c.nodes || out.Applied != c.applied || pending != c.pending {
				t.Errorf("%+v, %d pending", out, pending)
			}
		})
	}
}

func TestKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.json")
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var applied []Moment
	w := still(t, Config{Node: "a", Path: path}, nil, nil, &applied)
	w.take(t.Context(), answer{update: Update{Now: time.Now()}, began: time.Now(), ended: time.Now()})
	content, err := readKept(path)
	if err != nil || len(content.Documents) != 0 {
		t.Errorf("kept of a database without settings: %+v, %v", content, err)
	}
	if err := writeKept(path, &keptContent{Documents: []keptDocument{{Limits, 7, "id", json.RawMessage(`"abc"`)}}}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if content, err := readKept(path); err != nil || content.Documents[0].Version != 7 {
		t.Errorf("%+v, %v", content, err)
	}
	at := slices.Index(text, '7')
	edited := slices.Clone(text)
	edited[at]++
	write(edited)
	if content, err := readKept(path); err == nil {
		t.Errorf("a file that somebody edited is read: %+v", content)
	}
	write(append(text, slices.Repeat([]byte(" "), maxKept)...))
	if _, err := readKept(path); err == nil {
		t.Error("a file of more than it can have is read")
	}
}

func TestWatcher_Amend(t *testing.T) {
	var applied []Moment
	amendment := func(n int) Amendment {
		return Amendment{ID: fmt.Sprint(n), Document: Limits, At: time.Unix(int64(n), 0), Body: json.RawMessage(`"x"`)}
	}
	t.Run("all nodes have one order, by time and then by id", func(t *testing.T) {
		early, first, second := amendment(1), amendment(2), amendment(2)
		early.ID, first.ID, second.ID = "z", "a", "b"
		all := []Amendment{second, first, early}
		if sortAmendments(all); all[0].ID != "z" || all[1].ID != "a" || all[2].ID != "b" {
			t.Errorf("%+v", all)
		}
	})
	t.Run("more than are bounded are left on the board", func(t *testing.T) {
		w := still(t, Config{Node: "a"}, nil, nil, &applied)
		var all []Amendment
		for n := range MaxAmendments + 5 {
			all = append(all, amendment(n))
		}
		if w.amend(all); w.State().Waiting != MaxAmendments {
			t.Errorf("%d wait", w.State().Waiting)
		}
	})
	t.Run("one that is recorded does not come back", func(t *testing.T) {
		w := still(t, Config{Node: "a"}, nil, nil, &applied)
		w.over = []string{"1"}
		if w.amend([]Amendment{amendment(1)}) || w.State().Waiting != 0 {
			t.Errorf("%d wait", w.State().Waiting)
		}
	})
	t.Run("a note under another id is none", func(t *testing.T) {
		w := still(t, Config{Node: "a"}, nil, nil, &applied)
		text, err := json.Marshal(amendment(1))
		if err != nil {
			t.Fatal(err)
		}
		if w.takeBoard(boardAnswer{notes: map[string]string{"2": string(text)}}) || w.State().Waiting != 0 {
			t.Errorf("%d wait", w.State().Waiting)
		}
	})
	t.Run("one of another document is not applied", func(t *testing.T) {
		w := still(t, Config{Node: "a"}, nil, nil, &applied)
		other := amendment(1)
		other.Document = "other"
		d, in, over := w.amended(w.parts[0], Document{Name: Limits}, []Amendment{other})
		if d.Body != nil || len(in) != 0 || len(over) != 0 {
			t.Errorf("%s, %v, %v", d.Body, in, over)
		}
	})
	t.Run("the recorded ones that are remembered are bounded", func(t *testing.T) {
		w := still(t, Config{Node: "a"}, nil, nil, &applied)
		for n := range 3 * MaxAmendments {
			wrong := amendment(n)
			wrong.Body = json.RawMessage(`{}`)
			w.amend([]Amendment{wrong})
		}
		if len(w.over) != 2*MaxAmendments || w.over[len(w.over)-1] != fmt.Sprint(3*MaxAmendments-1) {
			t.Errorf("%d are remembered", len(w.over))
		}
	})
}

// conflicting is a store that another node has written to just before, once.
type conflicting struct {
	*memory
	before func()
}

func (c *conflicting) PutSettings(ctx context.Context, d Document, by Author) error {
	if before := c.before; before != nil {
		c.before = nil
		before()
	}
	return c.memory.PutSettings(ctx, d, by)
}

func TestWatcher_RecordsBesideOthers(t *testing.T) {
	var applied []Moment
	store := &conflicting{memory: newMemory(0)}
	store.before = func() {
		if err := store.memory.PutSettings(t.Context(), Document{Limits, 1, "other", []byte(`["other"]`)}, Author{}); err != nil {
			t.Error(err)
		}
	}
	w := still(t, Config{Node: "a"}, store, nil, &applied)
	w.amend([]Amendment{{ID: "1", Document: Limits, Body: json.RawMessage(`"stop"`)}})
	if err := w.record(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := store.newest(Limits); d.Version != 2 || string(d.Body) != `["other","1","stop"]` {
		t.Errorf("recorded: %+v %s", d, d.Body)
	}
}

func TestWatcher_OnTheBoard(t *testing.T) {
	var applied []Moment
	t.Run("a process takes the place of the last one of its name", func(t *testing.T) {
		board := new(notes)
		for _, node := range []string{"a", "b"} {
			text, err := json.Marshal(nodeNote{Node: node})
			if err != nil {
				t.Fatal(err)
			}
			if err := board.Pin(t.Context(), boardNodes, "old "+node, string(text)); err != nil {
				t.Fatal(err)
			}
		}
		w := still(t, Config{Node: "a", Enforces: true}, nil, board, &applied)
		if a := w.askBoard(t.Context()); a.err != nil {
			t.Fatal(a.err)
		}
		left, err := board.Notes(t.Context(), boardNodes)
		if _, own := left[w.instance]; err != nil || len(left) != 2 || !own || left["old b"] == "" {
			t.Errorf("%v, %v", left, err)
		}
	})
	t.Run("a process that enforces nothing is not there", func(t *testing.T) {
		board := new(notes)
		w := still(t, Config{Node: "a"}, nil, board, &applied)
		if a := w.askBoard(t.Context()); a.err != nil {
			t.Fatal(a.err)
		}
		if left, err := board.Notes(t.Context(), boardNodes); err != nil || len(left) != 0 {
			t.Errorf("%v, %v", left, err)
		}
	})
}

func TestWatcher_Take(t *testing.T) {
	var applied []Moment
	w := still(t, Config{Node: "a"}, nil, nil, &applied)
	began := time.Now()
	take := func(u Update) {
		t.Helper()
		w.take(t.Context(), answer{update: u, began: began, ended: began.Add(4 * time.Second)})
	}
	take(Update{Now: began.Add(time.Hour), Drain: true})
	if w.State().Nodes != 1 || !w.Drained() {
		t.Errorf("%+v, drained: %t", w.State(), w.Drained())
	}
	if w.offset != time.Hour-2*time.Second {
		t.Errorf("the database's clock is %v ahead, want that of the middle of the call", w.offset)
	}
	before := len(applied)
	take(Update{Now: began.Add(time.Hour), Nodes: 3})
	if len(applied) != before+1 || applied[before].Nodes != 3 || w.Drained() {
		t.Errorf("with three nodes: applied %+v, drained: %t", applied[before:], w.Drained())
	}
	if take(Update{Now: began.Add(time.Hour), Nodes: 3}); len(applied) != before+1 {
		t.Error("applied again, though nothing has changed")
	}
	bad, good := Document{Limits, 1, "bad", []byte(`"bad"`)}, Document{Limits, 2, "good", []byte(`"good"`)}
	take(Update{Nodes: 3, Documents: []Document{bad}})
	if w.State().Rejected[Limits] != bad.Identity() {
		t.Errorf("%+v", w.State())
	}
	take(Update{Nodes: 3, Documents: []Document{good}})
	if _, there := w.State().Rejected[Limits]; there || w.State().Applied[Limits] != good.Identity() {
		t.Errorf("after a good one: %+v", w.State())
	}
}

// A document that is due and can't be applied again must not be tried at once, for ever.
func TestWatcher_GivesUpWhatIsDue(t *testing.T) {
	var applied []Moment
	w := still(t, Config{Node: "a"}, nil, nil, &applied)
	w.base[Limits] = Document{Limits, 1, "bad", []byte(`"bad"`)}
	w.next[Limits] = time.Now().Add(-time.Second)
	if w.reapplyDue(); w.untilDue() == 0 {
		t.Error("it is due still")
	}
}

func TestWatcher_Leaves(t *testing.T) {
	var applied []Moment
	board := new(notes)
	w := still(t, Config{Node: "a", Enforces: true}, newMemory(0), board, &applied)
	if a := w.askBoard(t.Context()); a.err != nil {
		t.Fatal(a.err)
	}
	w.leave(t.Context())
	if left, err := board.Notes(t.Context(), boardNodes); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// A question that comes while one is in progress is asked when that is answered.
func TestAsking(t *testing.T) {
	asked := 0
	a := newAsking(func(context.Context) int { asked++; return asked })
	a.ask(t.Context())
	a.ask(t.Context())
	first := <-a.out
	a.taken(t.Context(), false)
	if second := <-a.out; first != 1 || second != 2 {
		t.Errorf("answered %d, then %d", first, second)
	}
	if a.taken(t.Context(), false); a.busy {
		t.Error("asked a third time")
	}
}

func TestAmend_WithoutTheBoard(t *testing.T) {
	var applied []Moment
	board := new(notes)
	board.setAway(true)
	w := still(t, Config{Node: "office"}, nil, board, &applied)
	p := &Publisher{Board: board, Watcher: w, Wait: time.Second}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // nobody takes the order
	defer cancel()
	if _, err := p.Amend(ctx, Limits, []byte(`"x"`), Author{}); !errors.Is(err, ErrNoWay) {
		t.Errorf("a process that is no gateway, without the board: %v", err)
	}
	if out := w.alone(1); out.Nodes != 0 || out.Applied != 0 {
		t.Errorf("it enforces nothing, and says %+v", out)
	}
}

// What waits is told of its own document only, and as long as it is in force.
func TestWatcher_InForce(t *testing.T) {
	var applied []Moment
	w := still(t, Config{Node: "a"}, nil, nil, &applied)
	w.amend([]Amendment{
		{ID: "1", Document: Limits, Body: json.RawMessage(`"x"`)}, {ID: "2", Document: "other", Body: json.RawMessage(`"y"`)},
	})
	if d, waiting, _ := w.InForce(Limits); string(d.Body) != `["1","x"]` || len(waiting) != 1 || waiting[0].ID != "1" {
		t.Errorf("%s, %+v", d.Body, waiting)
	}
}

func TestRemove_FromTheBoard(t *testing.T) {
	store, board := newMemory(0), new(notes)
	for _, node := range []string{"a", "b"} {
		text, err := json.Marshal(nodeNote{Node: node})
		if err != nil {
			t.Fatal(err)
		}
		if err := board.Pin(t.Context(), boardNodes, node+"1", string(text)); err != nil {
			t.Fatal(err)
		}
		if _, err := store.ExchangeSettings(t.Context(), Beat{Instance: node + "1", Node: node}); err != nil {
			t.Fatal(err)
		}
	}
	p := &Publisher{Store: store, Board: board, Wait: time.Second}
	if err := p.Remove(t.Context(), "a", Author{}); err != nil {
		t.Fatal(err)
	}
	left, err := board.Notes(t.Context(), boardNodes)
	if err != nil || len(left) != 1 || left["b1"] == "" {
		t.Errorf("%v, %v", left, err)
	}
}

// While something waits to be recorded, or the database is away, the board is looked at often.
func TestWatcher_BoardPause(t *testing.T) {
	var applied []Moment
	w := still(t, Config{Node: "a"}, nil, nil, &applied)
	if calm := w.boardPause(); calm < w.cfg.Poll {
		t.Errorf("calm: %v", calm)
	}
	w.amend([]Amendment{{ID: "1", Document: Limits, Body: json.RawMessage(`"x"`)}})
	if busy := w.boardPause(); busy > w.cfg.Poll {
		t.Errorf("with something to record: %v", busy)
	}
}
