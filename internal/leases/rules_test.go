package leases

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/limiter"
)

// runner answers calls without a server.
type runner func(calls []inventory.ScriptCall)

func (r runner) Run(_ context.Context, _ *inventory.Script, calls []inventory.ScriptCall) error {
	r(calls)
	return nil
}

// Redis serves nothing else while it runs a script.
func TestExchange_BoundsACall(t *testing.T) {
	asks := make([]limiter.Ask, groups*maxKeys+100)
	for i := range asks {
		asks[i] = limiter.Ask{Key: fmt.Sprint("user:m/", i), Want: 1, Num: 1, Den: 1, Window: 9}
	}
	keys := 0
	pool := New(runner(func(calls []inventory.ScriptCall) {
		for i := range calls {
			if keys += len(calls[i].Keys); len(calls[i].Keys) > maxKeys {
				t.Errorf("a call has %d keys", len(calls[i].Keys))
			}
			calls[i].Reply = slices.Repeat([]string{"0"}, outArgs*len(calls[i].Keys))
		}
	}))
	if err := pool.Exchange(t.Context(), asks); err != nil || keys != len(asks) {
		t.Errorf("%d keys, %v", keys, err)
	}
}

// A reply of another length, or without numbers, is no reply: it must not be taken for a grant.
func TestReplies(t *testing.T) {
	for _, reply := range [][]string{nil, {"0"}, slices.Repeat([]string{"0"}, outArgs+1), slices.Repeat([]string{"x"}, outArgs)} {
		pool := New(runner(func(calls []inventory.ScriptCall) { calls[0].Reply = reply }))
		asks := []limiter.Ask{{Key: "global:/", Want: 1, Num: 1, Den: 1, Window: 9}}
		if err := pool.Exchange(t.Context(), asks); !errors.Is(err, errReply) {
			t.Errorf("%q: %v", reply, err)
		}
	}
	for _, reply := range [][]string{{"a"}, {"a", "1"}, {"a", "x", "text"}, {"a", "1", "text", "b"}} {
		pool := New(runner(func(calls []inventory.ScriptCall) { calls[0].Reply = reply }))
		if _, err := pool.Share(t.Context(), Board{"reports", time.Second}, "", ""); !errors.Is(err, errReply) {
			t.Errorf("%q: %v", reply, err)
		}
	}
}

// heard is a pool that records what callers knew.
type heard []limiter.DayUse

func (h *heard) Exchange(_ context.Context, asks []limiter.Ask) error {
	for i := range asks {
		*h = append(*h, asks[i].Known)
	}
	return nil
}

// What is kept stands in for what a caller doesn't know, and never for what it knows better.
func TestKept_TellsTheNewer(t *testing.T) {
	pool := new(heard)
	k, err := Keep(pool, filepath.Join(t.TempDir(), "quotas.json"))
	if err != nil {
		t.Fatal(err)
	}
	kept, newer := limiter.DayUse{Day: 1, Granted: 5, Used: 5}, limiter.DayUse{Day: 2, Granted: 1, Used: 1}
	if err := k.Exchange(t.Context(), []limiter.Ask{{Key: "a", Quota: 9, Usage: kept}}); err != nil {
		t.Fatal(err)
	}
	asks := []limiter.Ask{{Key: "a", Quota: 9}, {Key: "a", Quota: 9, Known: newer}, {Key: "a"}}
	if err := k.Exchange(t.Context(), asks); err != nil {
		t.Fatal(err)
	}
	if want := (heard{{}, kept, newer, {}}); !slices.Equal(*pool, want) {
		t.Errorf("told %+v, want %+v", *pool, want)
	}
}

// kept is a pool without a file.
func kept(t *testing.T) *Kept {
	t.Helper()
	k, err := Keep(nil, filepath.Join(t.TempDir(), "quotas.json"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func used(day, n int64) limiter.DayUse { return limiter.DayUse{Day: day, Granted: n, Used: n} }

// A key that was granted nothing takes no room, and what hasn't changed is not written again.
func TestKept_RemembersChangesOnly(t *testing.T) {
	k := kept(t)
	k.remember("a", used(9, 0))
	if n := k.Len(); n != 0 {
		t.Errorf("%d keys are kept, of none that was granted something", n)
	}
	k.remember("a", used(9, 1))
	if err := k.Save(); err != nil {
		t.Fatal(err)
	}
	k.remember("a", used(9, 1))
	if len(k.fresh) > 0 {
		t.Errorf("%v would be written again", k.fresh)
	}
}

// If there is no room, other keys are counted, and what is known stays. Days that are over make
// room, once for each new day; but yesterday's don't, because it is still today in another zone.
func TestKept_IsBounded(t *testing.T) {
	k := kept(t)
	for i := range MaxKept - 2 {
		k.remember(fmt.Sprint("old", i), used(7, 1))
	}
	k.remember("yesterday", used(8, 1))
	k.remember("today", used(9, 1))
	if n := k.Len(); n != MaxKept || k.Full() != 0 {
		t.Fatalf("%d keys are kept, %d found no room", n, k.Full())
	}
	k.remember("late", used(9, 1))
	if n := k.Len(); n != 3 || k.days["yesterday"] != used(8, 1) {
		t.Errorf("%d keys are kept when days are over, of yesterday %+v", n, k.days["yesterday"])
	}
	for i := range MaxKept - 4 {
		k.remember(fmt.Sprint("new", i), used(9, 1))
	}
	k.remember("past", used(5, 1)) // of a clock that was set back
	k.remember("other", used(9, 1))
	if n := k.Len(); n != MaxKept || k.Full() != 1 || k.days["past"] != used(5, 1) {
		t.Errorf("%d keys are kept, %d found no room: all of them were looked at twice in a day", n, k.Full())
	}
	k.remember("today", used(9, 2))
	if k.days["today"] != used(9, 2) || k.Full() != 1 {
		t.Errorf("a key that is known has %+v, %d found no room", k.days["today"], k.Full())
	}
}

// A file that is larger than what is ever written is not read into memory.
func TestKeep_BoundsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quotas.json")
	text := []byte("{\"a\":{\"day\":9,\"granted\":1,\"used\":1}}\n")
	if err := errors.Join(os.WriteFile(path, text, 0o600), os.Truncate(path, maxKeptBytes+1)); err != nil {
		t.Fatal(err)
	}
	k, err := Keep(nil, path)
	if err == nil || k.Len() != 0 {
		t.Errorf("%d keys are kept, %v", k.Len(), err)
	}
}
