package inventory

import (
	"testing"
	"time"
)

// A name has one owner at a time: until it is released, assigned to another one, or forgotten.
func TestStock_OwnsNames(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	own := func(owner string) string {
		t.Helper()
		is, err := s.Own(t.Context(), "event", owner, time.Minute)
		b.no(err)
		return is
	}
	if own("a") != "a" || own("b") != "a" || own("a") != "a" {
		t.Error("the first one to ask is not the owner")
	}
	b.no(s.Assign(t.Context(), "event", "done", time.Minute))
	if is := own("a"); is != "done" {
		t.Errorf("assigned to done, owned by %s", is)
	}
	b.no(s.Release(t.Context(), "event"))
	if is := own("b"); is != "b" {
		t.Errorf("released, and owned by %s", is)
	}
	b.redis.FastForward(59 * time.Second)
	own("b") // goes on for a minute
	b.redis.FastForward(59 * time.Second)
	if is := own("a"); is != "b" {
		t.Errorf("prolonged, and owned by %s", is)
	}
	b.redis.FastForward(61 * time.Second)
	if is := own("a"); is != "a" {
		t.Errorf("its time is over, and it is owned by %s", is)
	}
}

// A board keeps a text for each name until it is removed.
func TestStock_KeepsBoards(t *testing.T) {
	b := newBed(t)
	s, other := b.process(Config{}), b.process(Config{})
	b.no(s.Pin(t.Context(), "board", "one", "first"))
	b.no(s.Pin(t.Context(), "board", "two", "second"))
	b.no(other.Pin(t.Context(), "board", "one", "changed"))
	notes, err := other.Notes(t.Context(), "board")
	b.no(err)
	if len(notes) != 2 || notes["one"] != "changed" || notes["two"] != "second" {
		t.Errorf("%v", notes)
	}
	b.no(s.Unpin(t.Context(), "board", "one", "never"))
	if notes, err = s.Notes(t.Context(), "board"); err != nil || len(notes) != 1 {
		t.Errorf("%v, %v", notes, err)
	}
}
