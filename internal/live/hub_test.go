package live

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func happens(t *testing.T, h *Hub, kind, merchant, text string) {
	t.Helper()
	if err := h.Publish(kind, merchant, time.Now(), Incident{Text: text}); err != nil {
		t.Fatal(err)
	}
}

// read takes n events that wait already.
func read(t *testing.T, w *Watcher, n int) (all []Event) {
	t.Helper()
	for range n {
		select {
		case e, more := <-w.Events():
			if !more {
				t.Fatalf("the watcher ended after %d events, want %d", len(all), n)
			}
			all = append(all, e)
		default:
			t.Fatalf("%d events wait, want %d", len(all), n)
		}
	}
	return all
}

func TestHub_Resume(t *testing.T) {
	h := NewHub()
	for i := range 3 {
		happens(t, h, EventNode, "", fmt.Sprint("old ", i))
	}
	first, err := h.Subscribe(Filter{Kept: true})
	if err != nil {
		t.Fatal(err)
	}
	seen := read(t, first, 3)
	texts := func(f Filter) (out string) {
		t.Helper()
		w, err := h.Subscribe(f)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for {
			select {
			case e := <-w.Events():
				_, text, _ := strings.Cut(string(e.Data), `"text":"`)
				text, _, _ = strings.Cut(text, `"`)
				out += text + ";"
			default:
				return out
			}
		}
	}
	for after, want := range map[string]string{
		"":                "",
		seen[0].ID:        "old 1;old 2;",
		seen[2].ID:        "",
		"another-2":       "old 0;old 1;old 2;",
		"rubbish":         "old 0;old 1;old 2;",
		h.instance + "-9": "old 0;old 1;old 2;",
	} {
		if got := texts(Filter{After: after}); got != want {
			t.Errorf("after %q: %q, want %q", after, got, want)
		}
	}
	for i := range MaxKept + 10 {
		happens(t, h, EventLevel, "m1", fmt.Sprint("new ", i))
	}
	if got := strings.Count(texts(Filter{After: seen[0].ID}), ";"); got != MaxKept {
		t.Errorf("%d events are kept, want %d", got, MaxKept)
	}
	if got := texts(Filter{After: seen[0].ID, Types: []string{EventNode}}); got != "" {
		t.Errorf("of another type: %q", got)
	}
	if got := texts(Filter{Kept: true, Merchant: "m2"}); got != "" {
		t.Errorf("of another merchant: %q", got)
	}
}

// TestHub_Bounds: a watcher that doesn't read is dropped, and the others go on. The number of
// watchers is bounded.
func TestHub_Bounds(t *testing.T) {
	h := NewHub()
	slow, err := h.Subscribe(Filter{})
	if err != nil {
		t.Fatal(err)
	}
	reads, err := h.Subscribe(Filter{Types: []string{EventLive}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * maxPending {
		h.Show(new(Merger).Merge(&Input{At: time.Now()}))
		read(t, reads, 1)
	}
	if !slow.Slow() || reads.Slow() || h.Stats().Watchers != 1 || h.Stats().Cut != 1 {
		t.Errorf("slow %v, the other one %v, %+v", slow.Slow(), reads.Slow(), h.Stats())
	}
	for range slow.Events() { // what had come is read, and then it ends
	}
	slow.Close()
	for range MaxWatchers - 1 {
		if _, err := h.Subscribe(Filter{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Subscribe(Filter{}); !errors.Is(err, ErrFull) {
		t.Errorf("one too many: %v", err)
	}
	h.Close()
	for range reads.Events() {
	}
	if _, err := h.Subscribe(Filter{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if err := h.Publish(EventNode, "", time.Now(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("published after the end: %v", err)
	}
}

// TestHub_Watched: stock is read only while somebody watches snapshots, not for alarms.
func TestHub_Watched(t *testing.T) {
	h := NewHub()
	alarms, err := h.Subscribe(Filter{Types: []string{EventAlarm}})
	if err != nil {
		t.Fatal(err)
	}
	if h.Latest(); h.Watched() {
		t.Error("watched by one that wants alarms alone")
	}
	all, err := h.Subscribe(Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if !h.Watched() {
		t.Error("a watcher of snapshots isn't seen")
	}
	all.Close()
	alarms.Close()
	if h.Watched() {
		t.Error("watched by nobody")
	}
	if h.View(); !h.Watched() {
		t.Error("a look isn't seen")
	}
}

// TestHub_LookWaitsForTheStock: a single look gets the stock too, though stock is otherwise read
// only for watchers. If it doesn't come in time, the snapshot is given without it.
func TestHub_LookWaitsForTheStock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub()
		if h.Look(t.Context()) != nil {
			t.Error("a view before the first snapshot")
		}
		at := time.Now()
		h.Show(&Snapshot{Activities: []Activity{{Activity: "618"}}})
		go func() {
			time.Sleep(time.Second)
			if !h.Watched() {
				t.Error("nobody seems to watch")
			}
			h.Show(&Snapshot{Activities: []Activity{{Activity: "618", Ledger: Ledger{Total: 7, At: &at}}}})
		}()
		if l := h.Look(t.Context()).Snapshot().Activities[0].Ledger; l.Total != 7 || time.Since(at) != time.Second {
			t.Errorf("%+v after %v", l, time.Since(at))
		}
		if h.Look(t.Context()); time.Since(at) != time.Second {
			t.Error("it waited for what it has")
		}
		h.Show(&Snapshot{Activities: []Activity{{Activity: "618"}}})
		if l := h.Look(t.Context()).Snapshot().Activities[0].Ledger; l.At != nil || time.Since(at) != firstLook {
			t.Errorf("%+v after %v", l, time.Since(at))
		}
		if h.Look(t.Context()); time.Since(at) != firstLook {
			t.Error("it waited again for a stock that doesn't come")
		}
		time.Sleep(watchedFor)
		if h.Look(t.Context()); time.Since(at) != firstLook+watchedFor+firstLook {
			t.Error("it didn't wait after a time without looks")
		}
		h.Show(&Snapshot{})
		time.Sleep(watchedFor)
		if h.Look(t.Context()); time.Since(at) != 2*(firstLook+watchedFor) {
			t.Error("it waited for the stock of no activity")
		}
		h.Show(&Snapshot{Unread: true}) // the process has just started
		time.Sleep(watchedFor)
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			h.Show(&Snapshot{Activities: []Activity{{Activity: "618", Ledger: Ledger{At: &at}}}})
		}()
		if s := h.Look(t.Context()).Snapshot(); len(s.Activities) != 1 || time.Since(began) != time.Second {
			t.Errorf("%d activities after %v", len(s.Activities), time.Since(began))
		}
	})
}
