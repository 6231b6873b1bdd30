package leases

import (
	"context"
	"errors"
	"fmt"
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
