package inventory

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/rueidis"
)

// A repeat of a key with a hold must reach Redis on every node, even when everything is sold out:
// the right answer is its order, not a refusal.
func TestL4_RepeatsMeetTheirHoldsWhenSoldOut(t *testing.T) {
	b := newBed(t)
	near, far := b.process(Config{}), b.process(Config{})
	ref := b.opened(near, 3)
	far.Watch([]Ref{ref})
	for i := range 3 {
		b.holds(near, ref, fmt.Sprint("o", i), Held)
	}
	b.no(near.Confirm(t.Context(), ref, []Hold{unit("o1"), unit("forgotten")}))
	b.voids(near, ref, "ended")
	for _, s := range []*Stock{near, far} {
		// Names that come without a crossing: other nodes learn of them with the next poll.
		b.until("sold out from memory", func() bool { return s.viewAt(ref.Shard).names.n.Load() == 5 && soldOut(s, ref, "other") })
		for id, want := range map[string]Verdict{"o0": HeldAgain, "o1": HeldOrdered, "forgotten": HeldOrdered, "ended": HeldEnded} {
			if soldOut(s, ref, id) || absent(s, ref, id, time.Time{}) {
				t.Errorf("%s is refused from memory", id)
			}
			b.holds(s, ref, id, want)
		}
		b.holds(s, ref, "other", SoldOut)
	}
}

// The log is longer than one sync reads, and one element is longer than most.
func TestL4_RepeatsOfALongLog(t *testing.T) {
	b := newBed(t)
	s, far := b.process(Config{Cap: 3000, Queue: 3000, CallTimeout: time.Minute}), b.process(Config{CallTimeout: time.Minute})
	ref := b.opened(s, 4000)
	var holds []Hold
	for i := range 4000 {
		holds = append(holds, unit(fmt.Sprint("o", i)))
	}
	for i := range 1000 {
		b.no(s.Confirm(t.Context(), ref, holds[i:i+1]))
	}
	b.no(s.Confirm(t.Context(), ref, holds[1000:]))
	far.Watch([]Ref{ref})
	b.until("sold out from memory", func() bool { return soldOut(s, ref, "other") && soldOut(far, ref, "other") })
	for _, h := range holds {
		if s.SoldOut(ref, shelf, h.ID) || far.SoldOut(ref, shelf, h.ID) {
			t.Fatalf("%s is refused from memory", h.ID)
		}
	}
	if known := far.Stats().Known; known != int64(len(holds)) {
		t.Errorf("%d names known of %d", known, len(holds))
	}
	far.Watch(nil)
	b.until("forgotten", func() bool { return far.Stats().Known == 0 })
}

// When a unit comes back, sold-out ends on every node: by the message alone, and by the poll alone.
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
			b.until("seen in stock", func() bool { return seenInStock(far, ref.Shard) })
			b.holds(near, ref, "o1", Held)
			b.until("sold out from memory", func() bool { return soldOut(far, ref, "o2") })
			if got := next(b, "crossing", crossings); got != (told{ref.Shard, crossing{shelf, false}}) {
				t.Fatalf("crossing %+v", got)
			}
			b.on(way(near))
			b.voids(near, ref, "o1")
			if got := next(b, "crossing", crossings); got != (told{ref.Shard, crossing{shelf, true}}) {
				t.Fatalf("crossing %+v", got)
			}
			if soldOut(far, ref, "o2") || !inStock(far, ref.Shard) {
				t.Error("still sold out after the crossing")
			}
			b.holds(far, ref, "o2", Held)
		})
	}
}

// A refusal shows that an item has no units. The view must follow at once, not with the next poll.
// When nothing changes, answers keep the view fresh without a sync.
func TestARefusalIsFollowedAtOnce(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{Poll: maxPoll})
	ref := b.opened(s, 1)
	v := s.viewAt(ref.Shard)
	b.until("first sync", func() bool { return v.sure.Load() != nil && v.syncing.Load() == syncIdle })
	b.on(func(c *server.Peer, command string, _ ...string) bool {
		if command == "PUBLISH" {
			c.WriteError("NOPERM no messages today")
			return true
		}
		return false
	})
	b.holds(s, ref, "o1", Held)
	if soldOut(s, ref, "o2") {
		t.Error("refused before the log was followed")
	}
	began := time.Now()
	b.holds(s, ref, "o2", SoldOut)
	b.until("sold out from memory", func() bool { return soldOut(s, ref, "o3") })
	if took := time.Since(began); took > maxPoll/2 {
		t.Logf("sold out after %v: the poll may have found it", took)
	}
	before := v.sure.Load()
	b.holds(s, ref, "o3", SoldOut)
	if after := v.sure.Load(); after.at <= before.at {
		t.Errorf("moment %+v, then %+v", before, after)
	}
}

// A silent shard is polled, and its log is read only if another process has written to it. A shard
// that answers all the time needs neither.
func TestPollsAreForTheSilent(t *testing.T) {
	b := newBed(t)
	s, other := b.process(Config{Poll: 100 * time.Millisecond}), b.process(Config{})
	ref := b.opened(s, 1000)
	v := s.viewAt(ref.Shard)
	b.until("first sync", func() bool { return v.sure.Load() != nil && v.syncing.Load() == syncIdle })
	looks, syncs := make(chan struct{}, 1000), make(chan struct{}, 1000)
	b.on(func(_ *server.Peer, command string, args ...string) bool {
		switch {
		case command == "HMGET" && len(args) == 1+len(numberFields):
			looks <- struct{}{}
		case isScript(&s.scripts.levels, command, args):
			syncs <- struct{}{}
		}
		return false
	})
	for range 3 {
		next(b, "look at a silent shard", looks)
	}
	if len(syncs) > 0 {
		t.Errorf("%d syncs of a shard that nobody writes to", len(syncs))
	}
	b.holds(other, ref, "o1", Held)
	name := hashName(Head(unit("o1").ID))
	b.until("the name that the other process took", func() bool { return v.names.has(name) })
	b.until("silent again", func() bool { return v.syncing.Load() == syncIdle })
	for len(looks)+len(syncs) > 0 {
		select {
		case <-looks:
		case <-syncs:
		}
	}
	began := time.Now()
	for time.Since(began) < 300*time.Millisecond {
		if _, err := s.Note(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	if len(looks)+len(syncs) > 1 {
		t.Errorf("%d looks and %d syncs of a shard that answers all the time", len(looks), len(syncs))
	}
}

// Knowledge that wasn't confirmed for a while isn't used any more.
func TestL6_NoAnswerFromMemoryWithoutARecentOne(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{Poll: 10 * time.Millisecond})
	ref := b.opened(s, 1)
	b.holds(s, ref, "o1", Held)
	b.until("sold out from memory", func() bool { return soldOut(s, ref, "o2") })
	b.redis.SetError("LOADING for a while")
	b.until("not believed", func() bool { return !soldOut(s, ref, "o2") })
	if _, age := s.InStock(ref.Shard, shelf); age < staleAfter {
		t.Errorf("in stock as of %v ago", age)
	}
	if s.Stats().SyncErrors == 0 {
		t.Error("no sync failed")
	}
	b.redis.SetError("")
	b.until("believed again", func() bool { return soldOut(s, ref, "o2") })
}

func TestTooManyNamesTurnRefusalsFromMemoryOff(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{MaxKnown: 5, Poll: 10 * time.Millisecond})
	ref := b.opened(s, 6)
	small := Ref{Shard: 2, Epoch: 1}
	b.rebuilt(s, small, 1)
	s.Watch([]Ref{ref, small})
	for i := range 6 {
		b.holds(s, ref, fmt.Sprint("o", i), Held)
	}
	b.until("blind", func() bool { return s.Stats().Blind == 1 })
	b.holds(s, small, "o", Held)
	b.until("the other shard has room", func() bool { return soldOut(s, small, "p") })
	v := s.viewAt(ref.Shard)
	polled := v.sure.Load().at
	b.until("another sync", func() bool { return v.sure.Load().at > polled })
	if soldOut(s, ref, "other") || absent(s, ref, "other", time.Time{}) {
		t.Error("answered without knowing the names")
	}
	if inStock(s, ref.Shard) {
		t.Error("in stock: a blind view still follows crossings")
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
	v := s.viewAt(ref.Shard)
	b.until("first sync", func() bool { return v.sure.Load() != nil })
	if !absent(s, ref, "o1", s.began) || absent(s, ref, "o1", time.Now().Add(time.Hour)) {
		t.Error("absent before the first sync, or at a time that has not come")
	}
	b.holds(s, ref, "o1", Held)
	asked := time.Now()
	b.until("absent", func() bool { return absent(s, ref, "o2", asked) })
	if !s.Absent(ref, "", time.Time{}) || absent(s, ref, "o1", time.Time{}) { // what a gate asks to know a repeat
		t.Error("nobody is known, or somebody isn't")
	}
	if absent(s, ref, "o1", asked) || absent(s, Ref{3, 2}, "o2", asked) || absent(s, Ref{2, 1}, "o2", asked) {
		t.Error("absent, but held, or of a shard that isn't watched")
	}
}

// TestL6_NotSeenIsNotSoldOut: before anything was seen of a shard, its items are in stock.
func TestL6_NotSeenIsNotSoldOut(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	b.redis.Close()
	ref := Ref{Shard: 1, Epoch: 1}
	s.Watch([]Ref{ref})
	if !inStock(s, ref.Shard) || soldOut(s, ref, "o1") || inStock(s, 2) {
		t.Error("sold out before anybody said so, or in stock where nobody looks")
	}
}

func TestWatchedEpochsMoveOn(t *testing.T) {
	b := newBed(t)
	epochs := make(chan Ref, 100)
	onCrossing, crossings := heardCrossings()
	onEpoch := func(shard ShardID, epoch Epoch) { epochs <- Ref{shard, epoch} }
	s := b.process(Config{Poll: 10 * time.Millisecond, OnCrossing: onCrossing, OnEpoch: onEpoch})
	other := b.process(Config{})
	ref := b.opened(s, 1)
	b.until("seen in stock", func() bool { return seenInStock(s, ref.Shard) })
	b.holds(s, ref, "o1", Held)
	b.until("sold out", func() bool { return soldOut(s, ref, "o2") })
	if got := next(b, "crossing", crossings); got.has {
		t.Fatalf("crossing %+v", got)
	}
	later := Ref{ref.Shard, 2}
	b.no(other.Close(t.Context(), later))
	if got := next(b, "epoch", epochs); got != later {
		t.Fatalf("epoch %+v", got)
	}
	if soldOut(s, ref, "o2") {
		t.Error("sold out from memory in a shard that is being rebuilt")
	}
	s.Watch([]Ref{later, ref, {}}) // the later epoch counts
	if s.Epoch(ref.Shard) != later.Epoch {
		t.Errorf("epoch %d", s.Epoch(ref.Shard))
	}
	if inStock(s, ref.Shard) {
		t.Error("in stock before anybody said so")
	}
	if err := take(b, s, ref, "o3").Err; kindOf(err) != "epoch" {
		t.Errorf("hold under the old epoch: %v", err)
	}
	if _, err := s.Find(t.Context(), ref, shelf, unit("o3").ID); kindOf(err) != "epoch" {
		t.Errorf("find under the old epoch: %v", err)
	}
	b.rebuilt(other, later, 1)
	if got := next(b, "crossing", crossings); got != (told{ref.Shard, crossing{shelf, true}}) { // sold out under epoch 1
		t.Fatalf("crossing %+v", got)
	}
	b.holds(s, later, "o3", Held)
	v := s.viewAt(ref.Shard)
	s.Watch([]Ref{later})
	if s.viewAt(ref.Shard) != v {
		t.Error("watching the same shard again forgot it")
	}
	s.Watch(nil)
	if inStock(s, ref.Shard) || soldOut(s, later, "o4") {
		t.Error("answers about a shard that isn't watched")
	}
	b.holds(s, later, "o3", HeldAgain)
}

// A rebuild that finds an item without units reports it as sold out.
func TestARebuildTellsWhatChanged(t *testing.T) {
	b := newBed(t)
	onCrossing, crossings := heardCrossings()
	s := b.process(Config{OnCrossing: onCrossing})
	ref := b.opened(s, 1)
	b.until("seen in stock", func() bool { return seenInStock(s, ref.Shard) })
	ref.Epoch++
	b.rebuilt(s, ref, 0)
	s.Watch([]Ref{ref})
	if got := next(b, "crossing", crossings); got != (told{ref.Shard, crossing{shelf, false}}) {
		t.Fatalf("crossing %+v", got)
	}
}

func TestL1_LostWritesAreToldToTheWatcher(t *testing.T) {
	b := newBed(t)
	lost := make(chan Ref, 1000)
	s := b.process(Config{Poll: 10 * time.Millisecond, OnLost: func(ref Ref) { lost <- ref }})
	ref := b.opened(s, 1)
	b.holds(s, ref, "o1", Held)
	b.until("sold out", func() bool { return soldOut(s, ref, "o2") })
	b.redis.FlushAll()
	if got := next(b, "loss, found by the poll", lost); got != ref {
		t.Fatalf("lost %+v", got)
	}
	if soldOut(s, ref, "o2") {
		t.Error("sold out from memory in a shard that is lost")
	}
	if err := take(b, s, ref, "o3").Err; kindOf(err) != "lost" {
		t.Errorf("hold: %v", err)
	}
	if s.Stats().Lost == 0 {
		t.Error("not counted")
	}
}

// A failover may bring back a shard of the same epoch with a lower seq, or one that was never
// opened. The first call detects it, with a poll or without.
func TestL1_AShardThatWentBackIsLost(t *testing.T) {
	b := newBed(t)
	lost := make(chan Ref, 1000)
	s := b.process(Config{OnLost: func(ref Ref) { lost <- ref }})
	ref := b.opened(s, 9)
	for i := range 5 {
		b.holds(s, ref, fmt.Sprint("o", i), Held)
	}
	seq := b.redis.HGet(metaKey, "seq")
	for name, back := range map[string][]string{"seq": {"seq", "3"}, "opening": {"closed", "1", "seq", "0"}} {
		b.redis.HSet(metaKey, back...)
		if err := take(b, s, ref, "late").Err; kindOf(err) != "lost" {
			t.Errorf("%s forgotten: %v", name, err)
		}
		if got := next(b, "loss", lost); got != ref {
			t.Errorf("lost %+v", got)
		}
		if err := s.Confirm(t.Context(), ref, []Hold{unit("late")}); kindOf(err) != "lost" {
			t.Errorf("%s forgotten: %v", name, err)
		}
		b.redis.HSet(metaKey, "closed", "0", "seq", seq)
	}
	b.holds(s, ref, "o9", Held) // it was the master that answered, after all
}

func TestCallbacksMayCallBackAndTakeTheirTime(t *testing.T) {
	b := newBed(t)
	var s *Stock
	ready, done := make(chan struct{}), make(chan error, 1000)
	cfg := Config{Poll: 10 * time.Millisecond}
	cfg.OnLost = func(ref Ref) {
		<-ready
		s.Watch(nil)
		_, err := numbersOf(t.Context(), s, ref.Shard)
		select {
		case done <- err:
		default:
		}
	}
	s = b.process(cfg)
	ref := b.opened(s, 5)
	b.redis.FlushAll()
	for range maxEvents + 10 { // more than wait: none of them blocks
		if err := take(b, s, ref, "o").Err; kindOf(err) != "lost" {
			t.Fatal(err)
		}
	}
	if s.Stats().MissedEvents == 0 {
		t.Error("no event was left out")
	}
	close(ready)
	b.no(next(b, "callback", done))
}

// A crossing may be heard before it is read from the log. An item counts as sold out only after the
// log was read up to the newest crossing, because heads may have come in between.
func TestL4_HeardIsNotFollowed(t *testing.T) {
	s := &Stock{cfg: Config{}.WithDefaults(), events: make(chan event, 10)}
	v := &view{ref: Ref{1, 1}, stock: s, later: true}
	v.items.Store(newItemTable(minItems))
	steps := []struct {
		what        string
		seq         uint64
		has, logged bool
		out, sure   bool // as it was last seen; as the log says too
	}{
		{"heard out", 5, false, false, true, false},
		{"an older one in the log", 3, false, true, true, false},
		{"the same in the log", 5, false, true, true, true},
		{"heard once more", 5, false, false, true, true},
		{"heard back", 7, true, false, false, false},
		{"heard out again", 9, false, false, true, false},
		{"back in the log", 7, true, true, true, false},
		{"out in the log", 9, false, true, true, true},
		{"an old message", 7, true, false, true, true},
		{"back in the log, never heard", 11, true, true, false, false},
		{"out in the log, never heard", 12, false, true, true, true},
		{"heard out, what came between was missed", 15, false, false, true, false},
	}
	for _, step := range steps {
		v.mu.Lock()
		v.cross(7, step.seq, step.has, step.logged)
		v.mu.Unlock()
		table := v.items.Load()
		if out, sure := table.has(7, bitOut), table.has(7, bitOut|bitLogged); out != step.out || sure != step.sure {
			t.Errorf("%s: out %v and sure %v, want %v and %v", step.what, out, sure, step.out, step.sure)
		}
	}
}

// Many items cross. Each is reported once, with its last state.
func TestItemTable(t *testing.T) {
	s := &Stock{cfg: Config{}.WithDefaults(), events: make(chan event, 10)}
	v := &view{ref: Ref{1, 1}, stock: s, later: true}
	v.items.Store(newItemTable(minItems))
	const items = 5000
	for item := ItemID(1); item <= items; item++ {
		v.cross(item, 1, false, true)
		if item%3 == 0 {
			v.cross(item, 2, true, true)
		}
	}
	heard := map[ItemID]bool{}
	v.tell(func(_ ShardID, item ItemID, has bool) { heard[item] = has })
	if len(heard) != items-items/3 || v.hasNews() || len(s.events) != 1 {
		t.Fatalf("told of %d items", len(heard))
	}
	next := v.items.Load().inherit()
	for item := ItemID(1); item <= items; item++ {
		want := item%3 != 0
		if _, told := heard[item]; told != want || v.items.Load().has(item, bitOut|bitLogged) != want ||
			next.has(item, bitOut|bitInherited) != want || next.has(item, bitLogged) {
			t.Fatalf("item %d is wrong", item)
		}
	}
	if v.items.Load().has(items+1, bitOut) {
		t.Error("an item of which nothing is known is out")
	}
}

func TestAnswersFromMemoryDontAllocate(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 1)
	b.holds(s, ref, "o1", Held)
	b.until("sold out", func() bool { return soldOut(s, ref, "o2") })
	id, since := "0123456789abcdefghjkmnpqrstvwxyz01234567", time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		s.SoldOut(ref, shelf, id)
		s.Absent(ref, id, since)
		s.InStock(ref.Shard, shelf)
		s.Epoch(ref.Shard)
		s.Lane(ref.Shard)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Only crossings are published, because the shop's pages show what the channel says.
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
	ref := Ref{Shard: 3, Epoch: 4}
	restock := func(r ...Restock) func() error {
		return func() error { _, err := s.Restock(t.Context(), ref, r); return err }
	}
	settle := func(kind Kind, ids ...string) func() error {
		var ends []Settlement
		for _, id := range ids {
			ends = append(ends, Settlement{unit(id), kind})
		}
		return func() error { return s.Settle(t.Context(), ref, ends) }
	}
	confirm := func(holds ...Hold) func() error { return func() error { return s.Confirm(t.Context(), ref, holds) } }
	hold := func(id string, want Verdict) func() error {
		return func() error { b.holds(s, ref, id, want); return nil }
	}
	steps := []struct {
		does string
		call func() error
		want string // shard, epoch, seq, items
	}{
		{"close and load", func() error {
			return errors.Join(s.Close(t.Context(), ref), s.Load(t.Context(), ref, []Stocked{{Item: shelf, Available: 2}, {Item: 9}}, nil))
		}, ""},
		{"open", func() error { return s.Open(t.Context(), ref, 2, 0) }, "3 4 1"},
		{"open again", func() error { return s.Open(t.Context(), ref, 2, 0) }, ""},
		{"take one of two", hold("o1", Held), ""},
		{"take the last", hold("o2", Held), "3 4 3 1-"},
		{"refuse", hold("o3", SoldOut), ""},
		{"sell", settle(SettleSold, "o1"), ""},
		{"give back", settle(SettleVoid, "o2"), "3 4 6 1+"},
		{"restock two items", restock(Restock{Item: shelf, ID: "r", Units: 1}, Restock{Item: 9, ID: "r", Units: 1}), "3 4 7 9+"},
		{"put two back", confirm(unit("o4"), unit("o5")), "3 4 8 1-"},
		{"put one more back", confirm(unit("o6")), ""},
		{"restock up to none", restock(Restock{Item: shelf, ID: "s", Units: 1}), ""},
		{"restock up to one", restock(Restock{Item: shelf, ID: "t", Units: 1}), "3 4 11 1+"},
		{"publish", restock(Restock{Item: 10, ID: "p", Units: 1, Publish: true}), ""},
		{"publish nothing", restock(Restock{Item: 11, ID: "p", Publish: true}), "3 4 13 11-"},
		{"sweep", func() error { _, err := s.Note(t.Context(), ref); return err }, ""},
		{"forget", func() error { return s.Forget(t.Context(), ref, []ItemID{10, 11}, nil) }, "3 4 15 11+"},
	}
	for _, step := range steps {
		if err := step.call(); err != nil {
			t.Fatalf("%s: %v", step.does, err)
		}
		if step.want == "" {
			continue // an unwanted message would come before the next expected one
		}
		if got := next(b, "message", heard); got != step.want {
			t.Fatalf("%s: %q is published, want %q", step.does, got, step.want)
		}
	}
}

// A stray message changes nothing, and one about another shard isn't ours.
func TestHeardMessages(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{Poll: maxPoll})
	ref := b.opened(s, 5)
	v := s.viewAt(ref.Shard)
	b.until("first sync", func() bool { return v.sure.Load() != nil && v.syncing.Load() == syncIdle })
	before := s.seenOf(ref)
	for _, message := range []string{"", "hello", "1 1", "2 1 9 1-", "3 0 9 1-", "3 1 9 1", "3 1 9 1- ", "2000 1 9 1-"} {
		s.heard(rueidis.PubSubMessage{Channel: s.channel, Message: message})
	}
	if after := s.seenOf(ref); after != before || !inStock(s, ref.Shard) {
		t.Errorf("seq %d, then %d", before, after)
	}
	s.heard(rueidis.PubSubMessage{Channel: s.channel, Message: "3 1 9 1- 5+"})
	if s.seenOf(ref) != 9 || inStock(s, ref.Shard) || soldOut(s, ref, "o1") {
		t.Error("a message is news, but no reason to refuse")
	}
}

// After a Redis comes back, calls and messages work again.
func TestRedisComesBack(t *testing.T) {
	b := newBed(t)
	onCrossing, crossings := heardCrossings()
	s := b.process(Config{OnCrossing: onCrossing})
	ref := b.opened(s, 1)
	b.until("seen in stock", func() bool { return seenInStock(s, ref.Shard) })
	b.redis.Close()
	b.until("noticed", func() bool { return kindOf(s.Confirm(t.Context(), ref, []Hold{unit("x")})) == "failure" })
	b.restart()
	other := b.process(Config{})
	b.until("there again", func() bool { return other.Ready(t.Context()) == nil })
	b.holds(other, ref, "o1", Held)
	if got := next(b, "crossing", crossings); got != (told{ref.Shard, crossing{shelf, false}}) {
		t.Errorf("crossing %+v", got)
	}
	b.until("sold out from memory", func() bool { return soldOut(s, ref, "o2") })
	b.until("subscribed again", func() bool { return b.redis.PubSubNumSub("ps:crossings")["ps:crossings"] == 2 })
	b.holds(s, ref, "o1", HeldAgain)
}
