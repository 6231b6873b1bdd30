package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"

	"github.com/penstock/penstock/internal/proof/raced"
)

// kindOf names what an error is: one of the shard's answers, a failure after which nothing
// happened, or unknown.
func kindOf(err error) string {
	var unknown *UnknownError
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &unknown):
		return "unknown"
	case errors.Is(err, ErrLost):
		return "lost"
	case errors.Is(err, ErrEpoch):
		return "epoch"
	case errors.Is(err, ErrClosed):
		return "closed"
	}
	return "failure"
}

// everyCall makes each call and returns its error.
func everyCall(ctx context.Context, s *Stock, ref Ref) map[string]error {
	h := unit("o1")
	later := Ref{ref.Shard, ref.Epoch + 1}
	hold := &HoldCall{Ref: ref, Claims: []Claim{{Hold: h}}}
	s.Hold(ctx, []*HoldCall{hold})
	errs := map[string]error{
		"hold":    hold.Err,
		"confirm": s.Confirm(ctx, ref, []Hold{h}),
		"settle":  s.Settle(ctx, ref, []Settlement{{Hold: h, Kind: SettleVoid}}),
		"forget":  s.Forget(ctx, ref, []ItemID{99}, nil),
		"close":   s.Close(ctx, later),
		"load":    s.Load(ctx, later, []Stocked{{Item: shelf}}, []Entry{{Hold: h, State: Sold}}),
		"open":    s.Open(ctx, later, 1, 1),
	}
	_, errs["restock"] = s.Restock(ctx, ref, []Restock{{Item: shelf, ID: "r1", Units: 1}})
	_, errs["find"] = s.Find(ctx, ref, shelf, h.ID)
	_, errs["note"] = s.Note(ctx, ref)
	_, errs["doom"] = s.Doom(ctx, ref, 1, []Hold{h})
	_, _, _, errs["old"] = s.Old(ctx, ref, 1, 0, 1)
	_, errs["levels"] = numbersOf(ctx, s, ref.Shard)
	return errs
}

// reads are the calls that change nothing: whatever happens, their outcome is not unknown.
var reads = map[string]bool{"find": true, "levels": true}

// Redis that answers with an error has done nothing.
func TestErrorRepliesAreFailures(t *testing.T) {
	for _, reply := range []string{
		"LOADING Redis is loading the dataset in memory", "READONLY You can't write against a read only replica.",
		"CLUSTERDOWN The cluster is down", "OOM command not allowed when used memory > 'maxmemory'.", "TRYAGAIN Multiple keys",
		"MASTERDOWN Link with MASTER is down", "MISCONF Redis is configured to save RDB snapshots", "NOAUTH Authentication required.",
		"BUSY Redis is busy running a script.", "NOREPLICAS Not enough good replicas to write.", "ERR max number of clients reached",
		"ERR unknown command", "NOPERM this user has no permissions to run the 'evalsha' command",
		"OOM command not allowed when used memory > 'maxmemory'. script: f5, on @user_script:9.",
	} {
		t.Run(strings.Fields(reply)[0], func(t *testing.T) {
			b := newBed(t)
			s := b.process(Config{})
			ref := b.opened(s, 5)
			b.redis.SetError(reply)
			for name, err := range everyCall(t.Context(), s, ref) {
				if kindOf(err) != "failure" || !strings.Contains(err.Error(), strings.TrimPrefix(reply, "ERR ")) {
					t.Errorf("%s: %v", name, err)
				}
			}
			b.redis.SetError("")
			if item, levels := b.available(s, ref.Shard); item.Available != 5 || levels.Seq != 1 {
				t.Errorf("something happened: %+v, %+v", item, levels)
			}
		})
	}
}

// A script that failed in the middle may have written.
func TestErrorsWithinAScriptAreUnknown(t *testing.T) {
	for _, reply := range []string{
		"ERR user_script:12: attempt to index a nil value script: f5, on @user_script:12.",
		"WRONGTYPE Operation against a key holding the wrong kind of value script: f5, on @user_script:9.",
		"NEWCODE something that a later Redis says",
	} {
		b := newBed(t)
		s := b.process(Config{})
		ref := b.opened(s, 5)
		b.redis.SetError(reply)
		for name, err := range everyCall(t.Context(), s, ref) {
			want := "unknown"
			if reads[name] {
				want = "failure"
			}
			if kindOf(err) != want {
				t.Errorf("%s: %v", name, err)
			}
		}
		b.redis.SetError("")
	}
}

// The outcome is unknown after a broken connection, a missing reply, and a reply that makes no
// sense.
func TestLostRepliesAreUnknown(t *testing.T) {
	release := make(chan struct{})
	for name, reply := range map[string]func(c *server.Peer){
		"broken":   func(c *server.Peer) { c.Close() },
		"silent":   func(*server.Peer) { <-release },
		"nonsense": func(c *server.Peer) { c.WriteInline("OK") },
		"short":    func(c *server.Peer) { c.WriteLen(1); c.WriteInt(0) },
		"code":     func(c *server.Peer) { c.WriteLen(2); c.WriteInt(9); c.WriteInt(1) },
		"letters": func(c *server.Peer) {
			c.WriteLen(4)
			for range 3 {
				c.WriteInt(1)
			}
			c.WriteBulk("?")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			s := b.process(Config{CallTimeout: 100 * time.Millisecond})
			ref := b.opened(s, 5)
			b.until("first sync", func() bool { return s.viewAt(ref.Shard).sure.Load() != nil })
			b.on(func(c *server.Peer, command string, args ...string) bool {
				if !strings.HasPrefix(command, "EVAL") {
					return false
				}
				reply(c)
				return true
			})
			if name == "silent" {
				defer close(release)
			}
			calls := everyCall(t.Context(), s, ref)
			if name == "letters" { // only these look at what comes after the numbers
				calls = map[string]error{"hold": calls["hold"], "doom": calls["doom"], "old": calls["old"]}
			}
			for call, err := range calls {
				want := "unknown"
				if reads[call] {
					want = "failure"
				}
				if kindOf(err) != want {
					t.Errorf("%s: %v, want %s", call, err, want)
				}
			}
		})
	}
}

// When no connection can be made, nothing was sent.
func TestRefusedConnectionsAreFailures(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 5)
	b.redis.Close()
	for name := range everyCall(t.Context(), s, ref) {
		// The old connection may break during the first calls.
		b.until(name+" is a failure", func() bool { return kindOf(everyCall(t.Context(), s, ref)[name]) == "failure" })
	}
}

func TestCallersThatLeave(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{Cap: 1, Queue: 1})
	ref := b.opened(s, 5)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range everyCall(gone, s, ref) {
		if kindOf(err) != "failure" || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.holds(s, ref, "o0", Held) // Redis learns the script
	entered, release := make(chan struct{}, 10), make(chan struct{})
	b.on(func(_ *server.Peer, command string, args ...string) bool {
		if isScript(&s.scripts.hold, command, args) || isScript(&s.scripts.find, command, args) {
			entered <- struct{}{}
			<-release
		}
		return false
	})
	leaving, leave := context.WithCancel(t.Context())
	answers, found := make(chan error, 1), make(chan error, parallel+1)
	call := &HoldCall{Ref: ref, Claims: []Claim{{Hold: unit("o1")}}}
	go func() {
		s.Hold(leaving, []*HoldCall{call})
		answers <- call.Err
	}()
	next(b, "hold in Redis", entered)
	find := func() { go func() { _, err := s.Find(leaving, ref, shelf, unit("o1").ID); found <- err }() }
	for i := range parallel { // one after the other: the queue has one place
		find()
		b.until("finds in flight", func() bool { return int(s.Stats().InFlight) == i+1 })
	}
	find()
	b.until("queue full", func() bool { return s.Stats().Queued == 1 })
	if _, err := s.Find(t.Context(), ref, shelf, unit("o1").ID); !errors.Is(err, errFull) {
		t.Errorf("queue full: %v", err)
	}
	leave()
	if err := next(b, "answer", answers); kindOf(err) != "unknown" || !errors.Is(err, context.Canceled) {
		t.Errorf("a hold left in flight: %v", err)
	}
	for range parallel + 1 {
		if err := next(b, "answer", found); kindOf(err) != "failure" || !errors.Is(err, context.Canceled) {
			t.Errorf("a find left: %v", err)
		}
	}
	close(release)
	b.off()
	b.until("the hold happened", func() bool { item, _ := b.available(s, ref.Shard); return item.Held == 2 })
	if full := s.Stats().Full; full != 1 {
		t.Errorf("%d refused as full", full)
	}
}

// The calls of one round are sent in one write. A caller may reuse its strings after the answer.
func TestRoundsTravelTogether(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	var refs []Ref
	for shard := range ShardID(5) {
		ref := Ref{shard, 1}
		b.rebuilt(s, ref, 30)
		refs = append(refs, ref)
	}
	entered, release := make(chan struct{}, 100), make(chan struct{})
	b.on(func(_ *server.Peer, command string, args ...string) bool {
		if isScript(&s.scripts.hold, command, args) {
			entered <- struct{}{}
			<-release
		}
		return false
	})
	var calls []*HoldCall
	name := []byte(unit("o1").ID)
	for _, ref := range refs {
		call := &HoldCall{Ref: ref}
		for i := range 10 {
			h := unit("o1")
			h.ID = string(name[:len(name)-1]) + fmt.Sprint(i)
			call.Claims = append(call.Claims, Claim{Hold: h})
		}
		calls = append(calls, call)
	}
	done := make(chan struct{})
	go func() {
		s.Hold(t.Context(), calls)
		close(done)
	}()
	next(b, "first call", entered)
	close(release)
	next(b, "answer", done)
	for _, call := range calls {
		if call.Err != nil || call.Seq != 2 || len(call.Verdicts) != 10 || call.Verdicts[0] != Held {
			t.Errorf("%+v", call)
		}
	}
	if stats := s.Stats(); stats.Rounds != 1 || stats.Calls != 5 || stats.Claims != 50 {
		t.Errorf("stats %+v", stats)
	}
}

// roundOf returns a call with one claim for each shard, all for the same buyer.
func roundOf(refs []Ref, id string) []*HoldCall {
	var calls []*HoldCall
	for _, ref := range refs {
		calls = append(calls, &HoldCall{Ref: ref, Claims: []Claim{{Hold: unit(id), Limit: 5}}})
	}
	return calls
}

// shelves rebuilds the bed's first shards, n of them.
func (b *bed) shelves(s *Stock, n int) (refs []Ref) {
	b.Helper()
	for shard := range ShardID(n) {
		refs = append(refs, Ref{shard, 1})
		b.rebuilt(s, refs[shard], 30)
	}
	return refs
}

// runsOf counts the runs of hold.lua from now on, and calls meet for each with its number of keys.
func (b *bed) runsOf(s *Stock, meet func(c *server.Peer, keys string) (answered bool)) *atomic.Int64 {
	runs := new(atomic.Int64)
	b.on(func(c *server.Peer, command string, args ...string) bool {
		if !isScript(&s.scripts.hold, command, args) {
			return false
		}
		runs.Add(1)
		return meet != nil && meet(c, args[1])
	})
	return runs
}

// A round is one run of the script, and every shard decides for itself: a closed shard, one with
// another epoch and an empty one each refuse their own call.
func TestARoundIsOneRun(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	refs := b.shelves(s, 5)
	b.no(s.Close(t.Context(), Ref{1, 2}))
	b.rebuilt(s, Ref{2, 2}, 30)
	b.redis.Del("ps:{ps.3}:shard")
	runs := b.runsOf(s, nil)
	first := roundOf(refs, "first")
	s.Hold(t.Context(), first) // Redis learns the script
	runs.Store(0)
	calls := roundOf(refs, "o1")
	calls[4].Claims = append(calls[4].Claims, Claim{Hold: Hold{Item: shelf + 1, ID: unit("o2").ID, Buyer: "o2", Quantity: 3}})
	s.Hold(t.Context(), calls)
	for shard, want := range []error{nil, ErrEpoch, ErrEpoch, ErrLost, nil} {
		if err := calls[shard].Err; !errors.Is(err, want) {
			t.Errorf("shard %d: %v, want %v", shard, err, want)
		}
	}
	if got := calls[4].Verdicts; runs.Load() != 1 || len(got) != 2 || got[0] != Held || got[1] != Unopened || calls[4].Seq != 3 {
		t.Errorf("%d runs, verdicts %v, seq %d", runs.Load(), got, calls[4].Seq)
	}
	for _, shard := range []ShardID{0, 4} {
		if item, _ := b.available(s, shard); item.Held != 2 {
			t.Errorf("shard %d: %+v", shard, item)
		}
	}
}

// A round with more claims than one run may have is split into several runs.
func TestALargeRoundIsSeveralRuns(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	refs := b.shelves(s, 3)
	s.Hold(t.Context(), roundOf(refs, "first"))
	runs := b.runsOf(s, nil)
	calls := roundOf(refs, "o1")
	for i := range maxRunClaims - 1 {
		calls[1].Claims = append(calls[1].Claims, Claim{Hold: unit(fmt.Sprint("m", i))})
	}
	s.Hold(t.Context(), calls)
	for _, call := range calls {
		b.no(call.Err)
	}
	if runs.Load() != 3 || calls[1].Verdicts[maxRunClaims-1] != SoldOut {
		t.Errorf("%d runs", runs.Load())
	}
}

// A proxy in front of a Cluster may refuse keys of several slots. From then on each shard is asked
// separately, and nothing fails.
func TestCrossSlotSplitsARound(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	refs := b.shelves(s, 3)
	runs := b.runsOf(s, func(c *server.Peer, keys string) bool {
		if keys != fmt.Sprint(holdKeys) {
			c.WriteError("CROSSSLOT Keys in request don't hash to the same slot")
			return true
		}
		return false
	})
	for round, want := range []int64{1 + 3 + 3, 3} { // refused, and the script unknown; known
		runs.Store(0)
		calls := roundOf(refs, fmt.Sprint("o", round))
		s.Hold(t.Context(), calls)
		for _, call := range calls {
			b.no(call.Err)
			if call.Verdicts[0] != Held {
				t.Errorf("round %d, shard %d: %v", round, call.Ref.Shard, call.Verdicts)
			}
		}
		if runs.Load() != want {
			t.Errorf("round %d: %d runs, want %d", round, runs.Load(), want)
		}
	}
}

// TestL10_SpoiledKeysAreOneShards: the keys of a shard are overwritten. The round that meets them
// ends unknown, because the calls before it may have got their holds. From then on only that shard
// fails.
func TestL10_SpoiledKeysAreOneShards(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	refs := b.shelves(s, 3)
	s.Hold(t.Context(), roundOf(refs, "first"))
	b.redis.Del("ps:{ps.1}:shard")
	b.no(b.redis.Set("ps:{ps.1}:shard", "mine"))
	calls := roundOf(refs, "o1")
	s.Hold(t.Context(), calls)
	for _, call := range calls {
		if kindOf(call.Err) != "unknown" {
			t.Errorf("shard %d: %v", call.Ref.Shard, call.Err)
		}
	}
	calls = roundOf(refs, "o1")
	s.Hold(t.Context(), calls)
	for _, shard := range []int{0, 2} {
		if calls[shard].Err != nil || !calls[shard].Verdicts[0].Fresh() {
			t.Errorf("shard %d: %v, %v", shard, calls[shard].Err, calls[shard].Verdicts)
		}
	}
	if calls[1].Err == nil {
		t.Error("a shard without holds gave one")
	}
}

// A server without free memory refuses a whole round, and nothing happens.
func TestARefusedRoundChangedNothing(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	refs := b.shelves(s, 3)
	b.runsOf(s, func(c *server.Peer, _ string) bool {
		c.WriteError("OOM command not allowed when used memory > 'maxmemory'.")
		return true
	})
	calls := roundOf(refs, "o1")
	s.Hold(t.Context(), calls)
	for _, call := range calls {
		if kindOf(call.Err) != "failure" {
			t.Errorf("shard %d: %v", call.Ref.Shard, call.Err)
		}
	}
	runs := b.runsOf(s, nil)
	s.Hold(t.Context(), roundOf(refs, "o1"))
	if runs.Load() != 2 { // the script wasn't known
		t.Errorf("%d runs afterwards", runs.Load())
	}
}

// Values that all claims of a call share are sent once, the others in columns.
func TestClaimArguments(t *testing.T) {
	claim := func(item ItemID, buyer string, quantity, limit, orders int) Claim {
		return Claim{Hold{item, "head-" + buyer + "0123456789abcdef", buyer, quantity, 0}, limit, orders}
	}
	for _, c := range []struct {
		in   []Claim
		want string // the number of items, and what is behind the hashes
	}{
		{[]Claim{claim(7, "u", 2, 0, 0)}, "1 2 0 0 7 head-u 0123456789abcdef=7_u"},
		{[]Claim{claim(7, "u", 2, 5, 9), claim(7, "u", 2, 5, 9)}, "1 2 5 9 7 head-u head-u 0123456789abcdef=7_u 0123456789abcdef=7_u"},
		{[]Claim{claim(7, "u", 2, 5, 9), claim(7, "", 2, 5, 9)}, "1 2   7 head-u head- 0123456789abcdef=7_u 0123456789abcdef=7_ 5 0 9 0"},
		{[]Claim{claim(7, "u", 2, 5, 9), claim(8, "u", 300, 5, 9)}, "2  5 9 7 8 head-u head-u 0123456789abcdef=7_u 0123456789abcdef=8_u 2 300"},
		{[]Claim{claim(7, "u", 2, 5, 9), claim(7, "u", 2, 4, 100)}, "1 2   7 head-u head-u 0123456789abcdef=7_u 0123456789abcdef=7_u 5 4 9 100"},
	} {
		a := &arguments{list: []string{"epoch", "seen", "channel", "shard"}}
		addClaims(a, c.in)
		a.seal(0)
		var want []string
		for _, word := range strings.Split(c.want, " ") {
			want = append(want, strings.ReplaceAll(word, "_", " "))
		}
		var hashes strings.Builder
		for _, claim := range c.in {
			h := hashName(Head(claim.ID))
			for shift := 56; shift >= 0; shift -= 8 {
				hashes.WriteByte(byte(h >> shift))
			}
		}
		want = append([]string{"epoch", "seen", "channel", "shard", fmt.Sprint(len(c.in)), want[0], hashes.String()}, want[1:]...)
		if !slices.Equal(a.list, want) {
			t.Errorf("%+v:\n%q, want\n%q", c.in, a.list, want)
		}
	}
}

// A call that fails behind an earlier chunk has happened in part.
func TestLaterChunksAreUnknown(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{Cap: 2})
	ref := b.opened(s, 9)
	calls := 0
	b.on(func(c *server.Peer, command string, args ...string) bool {
		if !isScript(&s.scripts.confirm, command, args) || len(args) == 0 {
			return false
		}
		if calls++; calls <= 2 { // EVALSHA, then EVAL
			return false
		}
		c.WriteError("LOADING now")
		return true
	})
	holds := []Hold{unit("a"), unit("b"), unit("c")}
	if err := s.Confirm(t.Context(), ref, holds); kindOf(err) != "unknown" {
		t.Error(err)
	}
	b.off()
	b.no(s.Confirm(t.Context(), ref, holds))
	if item, _ := b.available(s, ref.Shard); item.Held != 3 {
		t.Errorf("%+v", item)
	}
}

func TestScriptsThatRedisForgot(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref, second := b.opened(s, 9), Ref{4, 1}
	b.rebuilt(s, second, 9)
	client, err := s.conn()
	b.no(err)
	for i := range 3 {
		b.no(client.Do(t.Context(), client.B().ScriptFlush().Build()).Error())
		calls := []*HoldCall{
			{Ref: ref, Claims: []Claim{{Hold: unit(fmt.Sprint("o", i))}}}, {Ref: second, Claims: []Claim{{Hold: unit(fmt.Sprint("o", i))}}},
		}
		s.Hold(t.Context(), calls)
		for _, c := range calls {
			if c.Err != nil || c.Verdicts[0] != Held {
				t.Errorf("%+v", c)
			}
		}
	}
}

// Shards that are not watched are served too, with as many finds in flight as there are slots.
func TestUnwatchedShards(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 5)
	s.Watch(nil)
	if s.Epoch(ref.Shard) != 0 {
		t.Error("an epoch of a shard that isn't watched")
	}
	b.holds(s, ref, "o1", Held)
	entry, err := s.Find(t.Context(), ref, shelf, unit("o1").ID)
	if b.no(err); entry.State != Fresh {
		t.Errorf("%+v", entry)
	}
	for range maxDirect {
		s.direct <- struct{}{}
	}
	if _, err := s.Find(t.Context(), ref, shelf, unit("o2").ID); !errors.Is(err, errFull) {
		t.Error(err)
	}
	for range maxDirect {
		<-s.direct
	}
	b.redis.HSet(metaKey, "seq", "1")
	if _, err := s.Note(t.Context(), ref); kindOf(err) != "lost" {
		t.Errorf("went back: %v", err)
	}
}

func TestStop(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 5)
	entered, release := make(chan struct{}, 10), make(chan struct{})
	b.on(func(_ *server.Peer, command string, args ...string) bool {
		if isScript(&s.scripts.find, command, args) {
			entered <- struct{}{}
			<-release
		}
		return false
	})
	answer := make(chan error, 1)
	go func() {
		_, err := s.Find(t.Context(), ref, shelf, unit("o1").ID)
		answer <- err
	}()
	next(b, "find in Redis", entered)
	stopped := make(chan struct{})
	go func() {
		s.Stop()
		s.Stop()
		close(stopped)
	}()
	b.until("stopping", func() bool { return s.checkRunning() != nil })
	close(release)
	b.no(next(b, "answer of the find in flight", answer))
	<-stopped
	for name, err := range everyCall(t.Context(), s, ref) {
		if !errors.Is(err, errStopped) || kindOf(err) != "failure" {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Watch([]Ref{ref})
	if soldOut(s, ref, "x") || absent(s, ref, "x", time.Time{}) || inStock(s, ref.Shard) || !errors.Is(s.Ready(t.Context()), errStopped) {
		t.Error("answers after Stop")
	}
	if stats := s.Stats(); stats.Finds != 1 {
		t.Errorf("stats %+v", stats)
	}
}

// TestRing has one process tell the others something.
func TestRing(t *testing.T) {
	b := newBed(t)
	heard := make(chan string, 10)
	hear := func(name string) Config {
		return Config{OnRing: func(message string) { heard <- name + " " + message }}
	}
	one := b.process(hear("one"))
	b.process(hear("two"))
	one.Ring("settings changed")
	got := []string{next(b, "ring", heard), next(b, "ring", heard)}
	slices.Sort(got)
	if want := []string{"one settings changed", "two settings changed"}; !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// TestGuard: the guard sees each call that a buyer waits for, and its result. A call that it
// doesn't make has not happened.
func TestGuard(t *testing.T) {
	b := newBed(t)
	errShut := errors.New("shut")
	var shut atomic.Bool
	seen := make(chan error, 10)
	s := b.process(Config{Guard: func(ctx context.Context, lane int, call func(context.Context) error) error {
		if shut.Load() {
			return errShut
		}
		err := call(ctx)
		seen <- err
		return err
	}})
	ref := b.opened(s, 2)
	b.holds(s, ref, "a", Held)
	if _, err := s.Find(t.Context(), ref, shelf, unit("a").ID); err != nil {
		t.Error(err)
	}
	if err := take(b, s, Ref{ref.Shard, 7}, "b").Err; !errors.Is(err, ErrLost) {
		t.Errorf("hold under an epoch that nobody opened: %v", err)
	}
	for _, call := range []string{"hold", "find", "refused hold"} {
		if err := next(b, call, seen); err != nil {
			t.Errorf("the guard saw the %s end with %v", call, err)
		}
	}
	shut.Store(true)
	if err := take(b, s, ref, "c").Err; !errors.Is(err, errShut) || kindOf(err) != "failure" {
		t.Errorf("hold past a guard that is shut: %v", err)
	}
	b.no(s.Confirm(t.Context(), ref, []Hold{unit("a")})) // no buyer waits for it
	shut.Store(false)
	b.on(func(c *server.Peer, command string, args ...string) bool {
		if isScript(&s.scripts.hold, command, args) {
			c.WriteError("LOADING Redis is loading the dataset in memory")
			return true
		}
		return false
	})
	if take(b, s, ref, "d").Err == nil {
		t.Error("a hold that Redis refused is no error")
	}
	if err := next(b, "hold", seen); err == nil {
		t.Error("the guard did not see that Redis refused")
	}
	b.off()
	if item, _ := b.available(s, ref.Shard); item.Held != 1 {
		t.Errorf("%+v: want the one hold", item)
	}
}

// A hold that comes while heads are being forgotten stays, with its units.
func TestForgetMeetsAHold(t *testing.T) {
	b := newBed(t)
	s, other := b.process(Config{}), b.process(Config{})
	ref := b.opened(s, 9)
	b.holds(s, ref, "o1", Held)
	h := unit("o1")
	second := h
	second.ID = Head(h.ID) + "another--another"
	values, err := s.values(t.Context(), ref, []string{Head(h.ID)})
	b.no(err)
	call := &HoldCall{Ref: ref, Claims: []Claim{{Hold: second}}}
	other.Hold(t.Context(), []*HoldCall{call})
	b.no(call.Err)
	r, err := s.ask(t.Context(), &s.scripts.forget, ref, 1, func(a *arguments) {
		a.number(1)
		a.text(Head(h.ID))
		a.text(values[0])
		a.constant("1", "0", "0")
		a.seal(0)
	})
	b.no(err)
	if left, err := r.rest[0].AsInt64(); err != nil || left != 1 {
		t.Errorf("%d heads are left: %v", left, err)
	}
	b.no(s.Forget(t.Context(), ref, nil, []string{Head(h.ID)}))
	if _, levels := b.available(s, ref.Shard); levels.Fresh != 0 || levels.Names != 0 {
		t.Errorf("%+v", levels)
	}
}

// Young holds take no room in an answer, so a pass doesn't hand all of them out to find the few
// that are old.
func TestOldPassesYoungHoldsOver(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 9)
	note, err := s.Note(t.Context(), ref)
	b.no(err)
	for _, id := range []string{"o1", "o2", "o3"} {
		b.holds(s, ref, id, Held)
	}
	old, _, more, err := s.Old(t.Context(), ref, note, 0, 1)
	b.no(err)
	if len(old) > 0 || more {
		t.Errorf("%+v, more %v: want a pass that finds nothing old", old, more)
	}
}

// claims returns a call of n claims, each of another buyer.
func claims(n int) *HoldCall {
	call := &HoldCall{Ref: Ref{3, 1}}
	for i := range n {
		call.Claims = append(call.Claims, Claim{unit(fmt.Sprint("o", i)), 2, 20})
	}
	return call
}

// The allocations of a call don't grow with its claims.
func TestHoldAllocatesByTheCall(t *testing.T) {
	if raced.Enabled {
		t.Skip("the race detector makes pools forget")
	}
	b := newBed(t)
	s := b.process(Config{})
	client, err := s.conn()
	b.no(err)
	for _, n := range []int{1, 64, 512} {
		call := claims(n)
		calls := []*HoldCall{call}
		s.holdCommand(client, calls, false) // the pools are filled
		if got := testing.AllocsPerRun(100, func() { s.holdCommand(client, calls, false) }); got > 12 {
			t.Errorf("%v allocations for a call of %d claims", got, n)
		}
	}
}

// BenchmarkClaims measures making the arguments of a call of 64 claims.
func BenchmarkClaims(b *testing.B) {
	s := &Stock{}
	call := claims(64)
	b.ReportAllocs()
	for b.Loop() {
		a := s.args.get()
		addClaims(a, call.Claims)
		s.args.put(a)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/claim")
}
