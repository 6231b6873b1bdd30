package inventory

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// A repeat of a key whose hold exists must reach Redis though everything is sold out, on whatever node it arrives: it is owed its
// order, not a refusal.
func TestL4_RepeatsMeetTheirHoldsWhenSoldOut(t *testing.T) {
	b := newBed(t)
	near, far := b.process(Config{}), b.process(Config{})
	ref := b.opened(near, 3)
	far.Watch([]Ref{ref})
	for i := range 3 {
		b.holds(near, ref, fmt.Sprint("o", i), Held)
	}
	b.no(near.Confirm(t.Context(), ref, []Hold{{ID: "o1", Buyer: "u-o1", Quantity: 1}, {ID: "forgotten", Buyer: "u", Quantity: 1}}))
	b.no(near.Settle(t.Context(), ref, []Settlement{{Hold: Hold{ID: "ended", Buyer: "u", Quantity: 1}, Kind: SettleVoid}}))
	for _, s := range []*Stock{near, far} {
		// Names that come without a hold being taken are no crossing: other nodes learn of them with the next poll.
		b.until("sold out from memory", func() bool { return s.Stats().Known == 5 && s.SoldOut(ref, "other") })
		for id, want := range map[string]Verdict{"o0": HeldAgain, "o1": HeldOrdered, "forgotten": HeldOrdered, "ended": HeldEnded} {
			if s.SoldOut(ref, id) || s.Absent(ref, id, time.Time{}) {
				t.Errorf("%s is refused from memory", id)
			}
			b.holds(s, ref, id, want)
		}
		b.holds(s, ref, "other", SoldOut)
	}
}

// The log is longer than one sync reads.
func TestL4_RepeatsOfALongLog(t *testing.T) {
	b := newBed(t)
	s, far := b.process(Config{Cap: 5000}), b.process(Config{})
	ref := b.opened(s, 2*syncNames+7)
	holds := make([]Hold, 2*syncNames+7)
	for i := range holds {
		holds[i] = Hold{ID: fmt.Sprint("o", i), Buyer: fmt.Sprint("u", i), Quantity: 1}
	}
	b.no(s.Confirm(t.Context(), ref, holds))
	far.Watch([]Ref{ref})
	b.until("sold out from memory", func() bool { return s.SoldOut(ref, "other") && far.SoldOut(ref, "other") })
	for _, h := range holds {
		if s.SoldOut(ref, h.ID) || far.SoldOut(ref, h.ID) {
			t.Fatalf("%s is refused from memory", h.ID)
		}
	}
	if known := far.Stats().Known; known != int64(len(holds)) {
		t.Errorf("%d names known of %d", known, len(holds))
	}
	far.Watch(nil)
	b.until("forgotten", func() bool { return far.Stats().Known == 0 })
}

// A unit that comes back ends sold-out on every node: by the message alone, and by the poll alone.
func TestL6_AUnitBackEndsSoldOut(t *testing.T) {
	ways := map[string]func(s *Stock) server.Hook{
		"message": func(s *Stock) server.Hook {
			return func(c *server.Peer, command string, args ...string) bool {
				if isScript(&s.scripts.levels, command, args) {
					c.WriteError("LOADING no polls today")
					return true
				}
				return false
			}
		},
		"poll": func(*Stock) server.Hook {
			return func(c *server.Peer, command string, _ ...string) bool {
				if command == "PUBLISH" {
					c.WriteError("NOPERM no messages today")
					return true
				}
				return false
			}
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			onCrossing, crossings := heardCrossings()
			near, far := b.process(Config{}), b.process(Config{OnCrossing: onCrossing})
			ref := b.opened(near, 1)
			far.Watch([]Ref{ref})
			b.until("seen in stock", func() bool { return seenInStock(far, ref.Item) })
			b.holds(near, ref, "o1", Held)
			b.until("sold out from memory", func() bool { return far.SoldOut(ref, "o2") })
			if got := next(b, "crossing", crossings); got != (crossing{ref.Item, false}) {
				t.Fatalf("crossing %+v", got)
			}
			b.on(way(near))
			b.no(near.Settle(t.Context(), ref, []Settlement{{Hold: Hold{ID: "o1", Buyer: "u-o1", Quantity: 1}, Kind: SettleVoid}}))
			if near.SoldOut(ref, "o2") || !near.InStock(ref.Item) {
				t.Error("the one who gave the unit back doesn't know")
			}
			if got := next(b, "crossing", crossings); got != (crossing{ref.Item, true}) {
				t.Fatalf("crossing %+v", got)
			}
			if far.SoldOut(ref, "o2") || !far.InStock(ref.Item) {
				t.Error("still sold out after the crossing")
			}
			b.holds(far, ref, "o2", Held)
		})
	}
}

// A refusal shows that the shard is empty; the view must follow at once, not with the next poll.
func TestAnEmptyShardIsFollowedAtOnce(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 2)
	v := (*s.views.Load())[ref.Item]
	b.until("first sync", func() bool { return v.snap.Load() != nil && v.syncing.Load() == syncIdle })
	asked := make(chan struct{}, 100)
	b.on(func(_ *server.Peer, command string, args ...string) bool {
		if isScript(&s.scripts.levels, command, args) {
			asked <- struct{}{}
		}
		return false
	})
	b.holds(s, ref, "o1", Held)
	b.holds(s, ref, "o2", Held)
	next(b, "sync", asked)
	b.until("sold out from memory", func() bool { return s.SoldOut(ref, "o3") })
	// From here on every answer of the shard shows that the view is complete, and keeps it young without a poll.
	before := v.snap.Load()
	b.holds(s, ref, "o3", SoldOut)
	if after := v.snap.Load(); !after.complete || after.at <= before.at || after.seq <= before.seq {
		t.Errorf("snapshot %+v, then %+v", before, after)
	}
}

// What nobody has confirmed for a while isn't believed any more.
func TestL6_NoAnswerFromMemoryWithoutARecentOne(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{Poll: 10 * time.Millisecond})
	ref := b.opened(s, 1)
	b.holds(s, ref, "o1", Held)
	b.until("sold out from memory", func() bool { return s.SoldOut(ref, "o2") })
	b.redis.SetError("LOADING for a while")
	b.until("not believed", func() bool { return !s.SoldOut(ref, "o2") })
	if s.Stats().SyncErrors == 0 {
		t.Error("no sync failed")
	}
	b.redis.SetError("")
	b.until("believed again", func() bool { return s.SoldOut(ref, "o2") })
}

func TestTooManyNamesTurnRefusalsFromMemoryOff(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{MaxKnown: 5, Poll: 10 * time.Millisecond})
	ref := b.opened(s, 6)
	small := Ref{Item: 2, Epoch: 1}
	b.no(s.Close(t.Context(), small))
	b.no(s.Open(t.Context(), small, 1, 0, 0, 0))
	s.Watch([]Ref{ref, small})
	for i := range 6 {
		b.holds(s, ref, fmt.Sprint("o", i), Held)
	}
	b.until("blind", func() bool { return s.Stats().Blind == 1 })
	b.holds(s, small, "o", Held)
	b.until("the other shard has room", func() bool { return s.SoldOut(small, "p") })
	v := (*s.views.Load())[ref.Item]
	polled := v.snap.Load().at
	b.until("another sync", func() bool { return v.snap.Load().at > polled })
	if s.SoldOut(ref, "other") || s.Absent(ref, "other", time.Time{}) {
		t.Error("answered without knowing the names")
	}
	b.holds(s, ref, "other", SoldOut)
	if known := s.Stats().Known; known != 1 {
		t.Errorf("%d names known", known)
	}
}

func TestAbsentNeedsASyncSince(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 5)
	v := (*s.views.Load())[ref.Item]
	b.until("first sync", func() bool { return v.snap.Load() != nil })
	later := time.Now().Add(time.Hour)
	if !s.Absent(ref, "o1", s.began) || s.Absent(ref, "o1", later) {
		t.Error("absent before the first sync, or at a time that has not come")
	}
	b.holds(s, ref, "o1", Held)
	if s.Absent(ref, "o2", s.began) {
		t.Error("the view has not followed the hold and answers")
	}
	asked := time.Now()
	b.until("absent", func() bool { return s.Absent(ref, "o2", asked) })
	if s.Absent(ref, "o1", asked) || s.Absent(Ref{1, 2}, "o2", asked) || s.Absent(Ref{2, 1}, "o2", asked) {
		t.Error("absent, but held, or of a shard that isn't watched")
	}
}

// seenInStock reports whether s has seen a unit of the item, and doesn't only believe in one.
func seenInStock(s *Stock, item ItemID) bool {
	seen, ok := s.Seen(item)
	return ok && seen.InStock
}

// TestL6_NotSeenIsNotSoldOut: before anything was seen of a shard, it is in stock.
func TestL6_NotSeenIsNotSoldOut(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	b.redis.Close()
	ref := Ref{Item: 1, Epoch: 1}
	s.Watch([]Ref{ref})
	if !s.InStock(ref.Item) || s.SoldOut(ref, "o1") {
		t.Error("sold out before anybody said so")
	}
}

func TestWatchedEpochsMoveOn(t *testing.T) {
	b := newBed(t)
	epochs := make(chan Ref, 100)
	onCrossing, crossings := heardCrossings()
	onEpoch := func(item ItemID, epoch Epoch) { epochs <- Ref{item, epoch} }
	s := b.process(Config{Poll: 10 * time.Millisecond, OnCrossing: onCrossing, OnEpoch: onEpoch})
	other := b.process(Config{})
	ref := b.opened(s, 1)
	b.until("seen in stock", func() bool { return seenInStock(s, ref.Item) })
	b.holds(s, ref, "o1", Held)
	b.until("sold out", func() bool { return s.SoldOut(ref, "o2") })
	if got := next(b, "crossing", crossings); got.in {
		t.Fatalf("crossing %+v", got)
	}
	later := Ref{ref.Item, 2}
	b.no(other.Close(t.Context(), later))
	if got := next(b, "epoch", epochs); got != later {
		t.Fatalf("epoch %+v", got)
	}
	if s.SoldOut(ref, "o2") {
		t.Error("sold out from memory in a shard that is being rebuilt")
	}
	s.Watch([]Ref{later, ref, {}}) // the later epoch counts
	if s.InStock(ref.Item) {
		t.Error("in stock before anybody said so")
	}
	if _, err := s.Hold(t.Context(), ref, Hold{ID: "o3", Quantity: 1}, 0); kindOf(err) != "epoch" {
		t.Errorf("hold under the old epoch: %v", err)
	}
	if _, err := s.Find(t.Context(), ref, "o3"); kindOf(err) != "epoch" {
		t.Errorf("find under the old epoch: %v", err)
	}
	b.no(other.Open(t.Context(), later, 1, 0, 0, 0))
	if got := next(b, "crossing", crossings); got != (crossing{ref.Item, true}) { // sold out under epoch 1, in stock under 2
		t.Fatalf("crossing %+v", got)
	}
	b.holds(s, later, "o3", Held)
	v := (*s.views.Load())[ref.Item]
	s.Watch([]Ref{later})
	if (*s.views.Load())[ref.Item] != v {
		t.Error("watching the same shard again forgot it")
	}
	s.Watch(nil)
	if s.InStock(ref.Item) || s.SoldOut(later, "o4") {
		t.Error("answers about a shard that isn't watched")
	}
	b.holds(s, later, "o3", HeldAgain)
}

func TestL1_LostWritesAreToldToTheWatcher(t *testing.T) {
	b := newBed(t)
	lost := make(chan Ref, 1000)
	s := b.process(Config{Poll: 10 * time.Millisecond, OnLost: func(ref Ref) { lost <- ref }})
	ref := b.opened(s, 1)
	b.holds(s, ref, "o1", Held)
	b.until("sold out", func() bool { return s.SoldOut(ref, "o2") })
	b.redis.FlushAll()
	if got := next(b, "loss, found by the poll", lost); got != ref {
		t.Fatalf("lost %+v", got)
	}
	if s.SoldOut(ref, "o2") {
		t.Error("sold out from memory in a shard that is lost")
	}
	if _, err := s.Hold(t.Context(), ref, Hold{ID: "o3", Quantity: 1}, 0); kindOf(err) != "lost" {
		t.Errorf("hold: %v", err)
	}
	if s.Stats().Lost == 0 {
		t.Error("not counted")
	}
}

// A failover brings back a shard of the same epoch with a lower seq, or one that was never opened; the first call that meets
// it says so, with a poll or without.
func TestL1_AShardThatWentBackIsLost(t *testing.T) {
	b := newBed(t)
	lost := make(chan Ref, 1000)
	s := b.process(Config{OnLost: func(ref Ref) { lost <- ref }})
	ref := b.opened(s, 9)
	for i := range 5 {
		b.holds(s, ref, fmt.Sprint("o", i), Held)
	}
	seq := b.redis.HGet("ps:{1.0}:meta", "seq")
	for name, back := range map[string][]string{"seq": {"seq", "3"}, "opening": {"closed", "1", "seq", "0"}} {
		b.redis.HSet("ps:{1.0}:meta", back...)
		if _, err := s.Hold(t.Context(), ref, Hold{ID: "late", Quantity: 1}, 0); kindOf(err) != "lost" {
			t.Errorf("%s forgotten: %v", name, err)
		}
		if got := next(b, "loss", lost); got != ref {
			t.Errorf("lost %+v", got)
		}
		if err := s.Confirm(t.Context(), ref, []Hold{{ID: "late", Quantity: 1}}); kindOf(err) != "lost" {
			t.Errorf("%s forgotten: %v", name, err)
		}
		b.redis.HSet("ps:{1.0}:meta", "closed", "0", "seq", seq)
	}
	b.holds(s, ref, "o9", Held) // it was the master that answered, after all
}

func TestCallbacksMayCallBackAndTakeTheirTime(t *testing.T) {
	b := newBed(t)
	var s *Stock
	ready, done := make(chan struct{}), make(chan error, 100)
	cfg := Config{Poll: 10 * time.Millisecond}
	cfg.OnLost = func(ref Ref) {
		<-ready
		s.Watch(nil)
		_, err := s.Levels(t.Context(), ref.Item)
		done <- err
	}
	s = b.process(cfg)
	ref := b.opened(s, 5)
	b.redis.FlushAll()
	for range maxEvents + 10 { // more than wait: none of them blocks
		if _, err := s.Hold(t.Context(), ref, Hold{ID: "o", Quantity: 1}, 0); kindOf(err) != "lost" {
			t.Fatal(err)
		}
	}
	if s.Stats().MissedEvents == 0 {
		t.Error("no event was left out")
	}
	close(ready)
	b.no(next(b, "callback", done))
}

func TestNameSet(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var set nameSet
	names := map[uint64]bool{}
	for range 20_000 {
		h := rng.Uint64N(1 << 40) // some twice
		if rng.IntN(100) == 0 {
			h = rng.Uint64N(3) // 0 and 1 share a place
		}
		set.add(h)
		names[slotOf(h)] = true
		if other := rng.Uint64N(1 << 40); set.table.has(other) != names[slotOf(other)] {
			t.Fatalf("%d: wrong", other)
		}
	}
	for h := range names {
		if !set.table.has(h) {
			t.Fatalf("%d is missing", h)
		}
	}
	if set.n != len(names) || (*nameTable)(nil).has(1) || (&nameTable{}).has(1) {
		t.Errorf("%d names, want %d, and none in an empty table", set.n, len(names))
	}
}

// The hash is kept in Redis: a version that changes it reads another's log wrongly.
func TestHashNameStaysAsItIs(t *testing.T) {
	for name, want := range map[string]uint64{
		"": 0, "a": 0x613732f6c54c1e84, "12345678": 0xef93bc764dda31d0, "0123456789abcdefghjkmnpqrstvwxyz": 0xaaf5c37704fa3c6b,
	} {
		if got := hashName(name); got != want {
			t.Errorf("%q: %#x, want %#x", name, got, want)
		}
	}
	seen := map[uint64]string{}
	for i := range 30_000 {
		for _, name := range []string{fmt.Sprint(i), fmt.Sprintf("%032d", i), fmt.Sprintf("%d\x00", i)} {
			if other, ok := seen[hashName(name)]; ok {
				t.Fatalf("%q and %q", name, other)
			}
			seen[hashName(name)] = name
		}
	}
}

func TestAnswersFromMemoryDontAllocate(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 1)
	b.holds(s, ref, "o1", Held)
	b.until("sold out", func() bool { return s.SoldOut(ref, "o2") })
	id, since := "0123456789abcdefghjkmnpqrstvwxyz", time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		s.SoldOut(ref, id)
		s.Absent(ref, id, since)
		s.InStock(ref.Item)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Crossings, and nothing else, are published: what the channel says is what the shop's pages show.
func TestOnlyCrossingsArePublished(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	sub := b.redis.NewSubscriber()
	defer sub.Close()
	sub.Subscribe("ps:crossings")
	heard := make(chan string, 100)
	go func() {
		for m := range sub.Messages() {
			heard <- m.Message
		}
	}()
	ref := Ref{Item: 1, Epoch: 4}
	unit := func(id string) Hold { return Hold{ID: id, Buyer: "u-" + id, Quantity: 1} }
	steps := []struct {
		does string
		call func() error
		want string // item, epoch, seq, available, known
	}{
		{"close", func() error { return s.Close(t.Context(), ref) }, ""},
		{"open with units", func() error { return s.Open(t.Context(), ref, 2, 0, 0, 0) }, "1 4 1 2 0"},
		{"open again", func() error { return s.Open(t.Context(), ref, 2, 0, 0, 0) }, ""},
		{"take one of two", func() error { b.holds(s, ref, "o1", Held); return nil }, ""},
		{"take the last", func() error { b.holds(s, ref, "o2", Held); return nil }, "1 4 3 0 2"},
		{"refuse", func() error { b.holds(s, ref, "o3", SoldOut); return nil }, ""},
		{"sell", func() error { return s.Settle(t.Context(), ref, []Settlement{{unit("o1"), SettleSold}}) }, ""},
		{"give back", func() error { return s.Settle(t.Context(), ref, []Settlement{{unit("o2"), SettleVoid}}) }, "1 4 6 1 2"},
		{"restock", func() error { return s.Restock(t.Context(), ref, "r", 1) }, ""},
		{"put two back", func() error { return s.Confirm(t.Context(), ref, []Hold{unit("o4"), unit("o5")}) }, "1 4 8 0 4"},
		{"put one more back", func() error { return s.Confirm(t.Context(), ref, []Hold{unit("o6")}) }, ""},
		{"restock up to none", func() error { return s.Restock(t.Context(), ref, "s", 1) }, ""},
		{"restock up to one", func() error { return s.Restock(t.Context(), ref, "t", 1) }, "1 4 11 1 5"},
		{"sweep", func() error { _, err := s.Note(t.Context(), ref); return err }, ""},
		{"close", func() error { return s.Close(t.Context(), Ref{1, 5}) }, ""},
		{"open without units", func() error { return s.Open(t.Context(), Ref{1, 5}, 0, 0, 0, 0) }, ""},
		{"end", func() error { return s.Restock(t.Context(), Ref{1, 5}, "r", 1) }, "1 5 2 1 0"},
	}
	for _, step := range steps {
		if err := step.call(); err != nil {
			t.Fatalf("%s: %v", step.does, err)
		}
		if step.want == "" {
			continue // what is published too much comes before the next that is wanted
		}
		if got := next(b, "message", heard); got != step.want {
			t.Fatalf("%s: %q is published, want %q", step.does, got, step.want)
		}
	}
}
