package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/rueidis"
)

// kindOf names what an error is: one of the shard's answers, a failure after which nothing happened, or unknown.
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
	case errors.Is(err, ErrFull):
		return "full"
	}
	return "failure"
}

// everyCall makes each call and returns its error.
func everyCall(ctx context.Context, s *Stock, ref Ref) map[string]error {
	h := Hold{ID: "o1", Buyer: "u1", Quantity: 1}
	errs := map[string]error{
		"confirm": s.Confirm(ctx, ref, []Hold{h}),
		"settle":  s.Settle(ctx, ref, []Settlement{{Hold: h, Kind: SettleVoid}}),
		"restock": s.Restock(ctx, ref, "r1", 1),
		"close":   s.Close(ctx, Ref{ref.Item, ref.Epoch + 1}),
		"load":    s.Load(ctx, Ref{ref.Item, ref.Epoch + 1}, []Entry{{Hold: h, State: Sold}}),
		"open":    s.Open(ctx, Ref{ref.Item, ref.Epoch + 1}, 1, 0, 0, 1),
	}
	_, errs["hold"] = s.Hold(ctx, ref, h, 0)
	_, errs["find"] = s.Find(ctx, ref, "o1")
	_, errs["note"] = s.Note(ctx, ref)
	_, errs["doom"] = s.Doom(ctx, ref, 1, []string{"o1"})
	_, errs["old"] = s.Old(ctx, ref, 1, 1)
	_, errs["levels"] = s.Levels(ctx, ref.Item)
	return errs
}

// reads are the calls that change nothing: whatever happens, their outcome is not unknown.
var reads = map[string]bool{"find": true, "old": true, "levels": true}

// Redis that answers with an error has done nothing.
func TestErrorRepliesAreFailures(t *testing.T) {
	for _, reply := range []string{
		"LOADING Redis is loading the dataset in memory", "READONLY You can't write against a read only replica.",
		"CLUSTERDOWN The cluster is down", "OOM command not allowed when used memory > 'maxmemory'.", "TRYAGAIN Multiple keys",
		"MASTERDOWN Link with MASTER is down", "MISCONF Redis is configured to save RDB snapshots", "NOAUTH Authentication required.",
		"BUSY Redis is busy running a script.", "NOREPLICAS Not enough good replicas to write.", "ERR max number of clients reached",
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
			levels, err := s.Levels(t.Context(), ref.Item)
			if b.no(err); levels.Available != 5 || levels.Seq != 1 {
				t.Errorf("something happened: %+v", levels)
			}
		})
	}
}

// A connection that breaks, a reply that never comes, and one that makes no sense leave the outcome unknown.
func TestLostRepliesAreUnknown(t *testing.T) {
	release := make(chan struct{})
	for name, reply := range map[string]func(c *server.Peer){
		"broken":   func(c *server.Peer) { c.Close() },
		"silent":   func(*server.Peer) { <-release },
		"nonsense": func(c *server.Peer) { c.WriteInline("OK") },
		"short":    func(c *server.Peer) { c.WriteLen(1); c.WriteInt(0) },
		"code":     func(c *server.Peer) { c.WriteLen(2); c.WriteInt(9); c.WriteInt(1) },
		"letters": func(c *server.Peer) {
			c.WriteLen(5)
			for range 4 {
				c.WriteInt(0)
			}
			c.WriteBulk("?")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			s := b.process(Config{CallTimeout: 100 * time.Millisecond})
			ref := b.opened(s, 5)
			v := (*s.views.Load())[ref.Item]
			b.until("first sync", func() bool { return v.snap.Load() != nil })
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
				calls = map[string]error{"hold": calls["hold"], "doom": calls["doom"]}
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

// Where no connection can be made nothing was sent.
func TestRefusedConnectionsAreFailures(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 5)
	addr := b.redis.Addr()
	b.redis.Close()
	for name := range everyCall(t.Context(), s, ref) {
		// The first calls may find the old connection breaking under them.
		b.until(name+" is a failure", func() bool { return kindOf(everyCall(t.Context(), s, ref)[name]) == "failure" })
	}
	if _, err := Open(t.Context(), Config{Addrs: []string{addr}}); err == nil {
		t.Error("opened a Redis that isn't there")
	}
}

func TestCallersThatLeave(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{Cap: 1, Queue: 2})
	ref := b.opened(s, 5)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range everyCall(gone, s, ref) {
		if kindOf(err) != "failure" || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	entered, release := make(chan struct{}, 10), make(chan struct{})
	b.on(func(_ *server.Peer, command string, args ...string) bool {
		if isScript(&s.scripts.hold, command, args) {
			entered <- struct{}{}
			<-release
		}
		return false
	})
	leaving, leave := context.WithCancel(t.Context())
	answers := make(chan error, parallel)
	for i := range parallel {
		go func() {
			_, err := s.Hold(leaving, ref, Hold{ID: fmt.Sprint("o", i), Quantity: 1}, 0)
			answers <- err
		}()
	}
	next(b, "hold in Redis", entered) // miniredis takes them one by one; the others wait in its connections
	b.until("all in flight", func() bool { return s.Stats().InFlight == parallel })
	queued := make(chan error, 2)
	for i := range 2 {
		go func() {
			_, err := s.Hold(leaving, ref, Hold{ID: fmt.Sprint("q", i), Quantity: 1}, 0)
			queued <- err
		}()
	}
	b.until("queue full", func() bool { return s.Stats().Queued == 2 })
	if _, err := s.Hold(t.Context(), ref, Hold{ID: "x", Quantity: 1}, 0); kindOf(err) != "full" {
		t.Errorf("queue full: %v", err)
	}
	leave()
	for range 2 {
		if err := next(b, "answer", queued); kindOf(err) != "failure" || !errors.Is(err, context.Canceled) {
			t.Errorf("left the queue: %v", err)
		}
	}
	for range parallel {
		if err := next(b, "answer", answers); kindOf(err) != "unknown" || !errors.Is(err, context.Canceled) {
			t.Errorf("left in flight: %v", err)
		}
	}
	close(release)
	b.off()
	b.until("both happened", func() bool {
		levels, err := s.Levels(t.Context(), ref.Item)
		return err == nil && levels.Held == parallel
	})
	if full := s.Stats().Full; full != 1 {
		t.Errorf("%d refused as full", full)
	}
}

// Holds that wait together travel together, are answered in one seq, and each gets its own answer.
func TestHoldsTravelInBatches(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{Cap: 100})
	ref := b.opened(s, 30)
	entered, release := make(chan struct{}, 100), make(chan struct{})
	b.on(func(_ *server.Peer, command string, args ...string) bool {
		if isScript(&s.scripts.hold, command, args) {
			entered <- struct{}{}
			<-release
		}
		return false
	})
	var wg sync.WaitGroup
	grants := make([]Grant, 41)
	buy := func(i int) {
		wg.Go(func() {
			id := fmt.Sprint("o", i%21) // each of the last 20 twice in one batch
			var err error
			if grants[i], err = s.Hold(t.Context(), ref, Hold{ID: id, Buyer: "u" + id, Quantity: 1}, 1); err != nil {
				t.Error(err)
			}
		})
	}
	buy(0)
	b.until("in flight", func() bool { return s.Stats().InFlight == 1 && s.Stats().Queued == 0 })
	for i := 1; i < len(grants); i++ {
		buy(i)
	}
	b.until("all others wait", func() bool { return s.Stats().Queued == 40 })
	close(release)
	wg.Wait()
	counts := map[Verdict]int{}
	for i, g := range grants {
		counts[g.Verdict]++
		if i >= 1 && g.Seq != grants[1].Seq {
			t.Errorf("hold %d: seq %d, want %d", i, g.Seq, grants[1].Seq)
		}
	}
	if counts[Held] != 21 || counts[HeldAgain] != 20 {
		t.Errorf("verdicts %v", counts)
	}
	if stats := s.Stats(); stats.Batches != 2 || stats.Items != uint64(len(grants)) {
		t.Errorf("stats %+v", stats)
	}
	levels, err := s.Levels(t.Context(), ref.Item)
	if b.no(err); levels.Seq != 3 || levels.Available != 30-21 {
		t.Errorf("levels %+v", levels)
	}
}

// A quantity or a limit that all holds of a call have is sent once, the others in columns.
func TestHoldArguments(t *testing.T) {
	hold := func(id, buyer string, quantity, limit int) holdIn { return holdIn{Hold{id, buyer, quantity}, limit} }
	for _, c := range []struct {
		in   []holdIn
		want []string // behind the hashes
	}{
		{[]holdIn{hold("a", "u", 2, 0)}, []string{"1", "2", "0", "a", "u"}},
		{[]holdIn{hold("a", "u", 2, 5), hold("b", "", 2, 5)}, []string{"2", "2", "5", "a", "b", "u", ""}},
		{[]holdIn{hold("a", "u", 2, 5), hold("b", "v", 1, 5)}, []string{"2", "", "5", "a", "b", "u", "v", "2", "1"}},
		{[]holdIn{hold("a", "u", 2, 5), hold("b", "v", 2, 0)}, []string{"2", "2", "", "a", "b", "u", "v", "5", "0"}},
		{
			[]holdIn{hold("a", "u", 1, 5), hold("b", "v", 1, 5), hold("c", "w", 300, 400)},
			[]string{"3", "", "", "a", "b", "c", "u", "v", "w", "1", "1", "300", "5", "5", "400"},
		},
	} {
		a := &arguments{list: []string{"epoch", "seen", "channel", "item"}}
		addHolds(a, c.in)
		var hashes []byte
		for _, h := range c.in {
			hashes = binary.BigEndian.AppendUint64(hashes, hashName(h.ID))
		}
		want := append([]string{"epoch", "seen", "channel", "item", string(hashes)}, c.want...)
		if !slices.Equal(a.list, want) {
			t.Errorf("%+v: %q, want %q", c.in, a.list, want)
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
	holds := []Hold{{ID: "a", Quantity: 1}, {ID: "b", Quantity: 1}, {ID: "c", Quantity: 1}}
	if err := s.Confirm(t.Context(), ref, holds); kindOf(err) != "unknown" {
		t.Error(err)
	}
	b.off()
	b.no(s.Confirm(t.Context(), ref, holds))
	levels, err := s.Levels(t.Context(), ref.Item)
	if b.no(err); levels.Held != 3 {
		t.Errorf("levels %+v", levels)
	}
}

func TestScriptsThatRedisForgot(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 9)
	for i := range 3 {
		b.no(s.client.Do(t.Context(), s.client.B().ScriptFlush().Build()).Error())
		b.holds(s, ref, fmt.Sprint("o", i), Held)
	}
}

// Shards that nobody watches are served too, with as many calls in flight as there are slots.
func TestUnwatchedShards(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 5)
	s.Watch(nil)
	b.holds(s, ref, "o1", Held)
	entry, err := s.Find(t.Context(), ref, "o1")
	if b.no(err); entry.State != Fresh {
		t.Errorf("%+v", entry)
	}
	for range maxDirect {
		s.direct <- struct{}{}
	}
	if _, err := s.Hold(t.Context(), ref, Hold{ID: "o2", Quantity: 1}, 0); kindOf(err) != "full" {
		t.Error(err)
	}
	for range maxDirect {
		<-s.direct
	}
	b.redis.HSet("ps:{1.0}:meta", "seq", "1")
	if _, err := s.Note(t.Context(), ref); kindOf(err) != "lost" {
		t.Errorf("went back: %v", err)
	}
	for item := range ItemID(maxSeen + 10) {
		s.saw(Ref{item + 1, 1}, nil, reply{seq: 1}, 0)
	}
	if len(s.seen) > maxSeen {
		t.Errorf("%d shards remembered", len(s.seen))
	}
}

func TestStop(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 5)
	entered, release := make(chan struct{}, 10), make(chan struct{})
	b.on(func(_ *server.Peer, command string, args ...string) bool {
		if isScript(&s.scripts.hold, command, args) {
			entered <- struct{}{}
			<-release
		}
		return false
	})
	answer := make(chan error, 1)
	go func() {
		_, err := s.Hold(t.Context(), ref, Hold{ID: "o1", Quantity: 1}, 0)
		answer <- err
	}()
	next(b, "hold in Redis", entered)
	stopped := make(chan struct{})
	go func() {
		s.Stop()
		s.Stop()
		close(stopped)
	}()
	b.until("stopping", func() bool { return s.checkRunning() != nil })
	close(release)
	b.no(next(b, "answer of the hold in flight", answer))
	<-stopped
	for name, err := range everyCall(t.Context(), s, ref) {
		if !errors.Is(err, errStopped) || kindOf(err) != "failure" {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Watch([]Ref{ref})
	if s.SoldOut(ref, "x") || s.Absent(ref, "x", time.Time{}) || s.InStock(ref.Item) {
		t.Error("answers after Stop")
	}
	if stats := s.Stats(); stats.Items != 1 {
		t.Errorf("stats %+v", stats)
	}
}

func TestOpenRefusesARedisThatEvicts(t *testing.T) {
	policy := func(value string) func(c *server.Peer) {
		return func(c *server.Peer) { c.WriteStrings([]string{"maxmemory-policy", value}) }
	}
	for name, c := range map[string]struct {
		reply func(c *server.Peer)
		ok    bool
	}{
		"noeviction":  {policy("noeviction"), true},
		"allkeys-lru": {policy("allkeys-lru"), false},
		"unknown":     {func(c *server.Peer) { c.WriteError("ERR unknown command 'CONFIG', with args beginning with: 'GET'") }, true},
		"forbidden": {func(c *server.Peer) {
			c.WriteError("NOPERM this user has no permissions to run the 'config|get' command")
		}, false},
		"empty": {func(c *server.Peer) { c.WriteLen(0) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.on(func(p *server.Peer, command string, _ ...string) bool {
				if command == "CONFIG" {
					c.reply(p)
				}
				return command == "CONFIG"
			})
			s, err := Open(t.Context(), Config{Addrs: []string{b.redis.Addr()}})
			if err == nil {
				s.Stop()
			}
			var eviction *EvictionError
			if (err == nil) != c.ok || errors.As(err, &eviction) && eviction.Policy == "noeviction" {
				t.Error(err)
			}
			if name == "allkeys-lru" && (!errors.As(err, &eviction) || eviction.Policy != name || eviction.Addr != b.redis.Addr()) {
				t.Error(err)
			}
		})
	}
}

func TestOpenNeedsToHear(t *testing.T) {
	b := newBed(t)
	b.on(func(c *server.Peer, command string, _ ...string) bool {
		if command == "SUBSCRIBE" {
			c.WriteError("NOPERM no permissions to access one of the channels used as arguments")
		}
		return command == "SUBSCRIBE"
	})
	if _, err := Open(t.Context(), Config{Addrs: []string{b.redis.Addr()}}); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Error(err)
	}
}

// Close and Open return when the replicas have what was written.
func TestCloseAndOpenWaitForReplicas(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	var info, reached string
	waited := 0
	b.on(func(c *server.Peer, command string, args ...string) bool {
		switch command {
		case "INFO":
			c.WriteBulk(info)
		case "WAIT":
			waited++
			if args[0] != "2" || args[1] != "5000" {
				t.Errorf("WAIT %v", args)
			}
			c.WriteInt(len(reached))
		}
		return command == "INFO" || command == "WAIT"
	})
	for i, c := range []struct {
		info, reached string
		want          string
		waits         int
	}{
		{"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n", "", "none", 0},
		{"# Replication\r\nrole:master\r\nconnected_slaves:2\r\n", "xx", "none", 1},
		{"# Replication\r\nrole:master\r\nconnected_slaves:2\r\n", "x", "unknown", 1},
		{"# Replication\r\nrole:master\r\nconnected_slaves:?\r\n", "", "unknown", 0},
		{"# Replication\r\n", "", "unknown", 0},
	} {
		info, reached = c.info, c.reached
		ref := Ref{1, Epoch(i + 1)}
		for name, call := range map[string]func() error{
			"close": func() error { return s.Close(t.Context(), ref) },
			"open":  func() error { return s.Open(t.Context(), ref, 1, 0, 0, 0) },
		} {
			if name == "open" {
				b.redis.HSet("ps:{1.0}:meta", "epoch", fmt.Sprint(ref.Epoch), "closed", "1")
			} else {
				b.redis.Del("ps:{1.0}:meta")
			}
			waited = 0
			if err := call(); kindOf(err) != c.want || waited != c.waits {
				t.Errorf("%s with %q, %d reached: %v, waited %d times", name, c.info, len(c.reached), err, waited)
			}
		}
	}
}

// A primary that is cut off from its replicas must not count as having closed an item.
func TestCloseWantsItsReplicas(t *testing.T) {
	b := newBed(t)
	connected := 0
	b.on(func(c *server.Peer, command string, _ ...string) bool {
		switch command {
		case "INFO":
			c.WriteBulk(fmt.Sprintf("# Replication\r\nrole:master\r\nconnected_slaves:%d\r\n", connected))
		case "WAIT":
			c.WriteInt(connected)
		}
		return command == "INFO" || command == "WAIT"
	})
	s := b.process(Config{MinReplicas: 1})
	if err := s.Close(t.Context(), Ref{1, 1}); kindOf(err) != "unknown" || !strings.Contains(err.Error(), "0 replicas are connected") {
		t.Errorf("without a replica: %v", err)
	}
	connected = 1
	if err := s.Close(t.Context(), Ref{1, 2}); err != nil {
		t.Errorf("with one: %v", err)
	}
}

func TestConfigValidate(t *testing.T) {
	good := Config{Addrs: []string{"127.0.0.1:6379"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(c *Config){
		"addrs is empty":            func(c *Config) { c.Addrs = nil },
		"addrs has an empty":        func(c *Config) { c.Addrs = []string{""} },
		"prefix":                    func(c *Config) { c.Prefix = "a{b}" },
		"cap is -1":                 func(c *Config) { c.Cap = -1 },
		"cap is 10001":              func(c *Config) { c.Cap = maxCap + 1 },
		"queue is 10, must be":      func(c *Config) { c.Queue = 10 },
		"call timeout is -1ns":      func(c *Config) { c.CallTimeout = -1 },
		"replica timeout is -1ns":   func(c *Config) { c.ReplicaTimeout = -1 },
		"poll is 1s":                func(c *Config) { c.Poll = time.Second },
		"min replicas is -1, must":  func(c *Config) { c.MinReplicas = -1 },
		"max known is -1, must not": func(c *Config) { c.MaxKnown = -1 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
		if s, err := Open(t.Context(), c); err == nil {
			s.Stop()
			t.Errorf("%s: opened", want)
		}
	}
}

// Every script says on top what goes in and what comes out.
func TestScriptsCarryTheirContracts(t *testing.T) {
	files, err := luaFiles.ReadDir("lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := luaFiles.ReadFile("lua/" + file.Name())
		if err != nil {
			t.Fatal(err)
		}
		text := string(source)
		words := []string{"-- " + file.Name() + " ", "\n-- Cost: ", "Invariant"}
		if file.Name() == "shard.lua" {
			words = append(words, "KEYS[7]", "ARGV[4]", "\n-- Replies begin with a code.")
		} else {
			words = append(words, "\n-- Reply: {OK, seq, available, known")
		}
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("%s doesn't say %q", file.Name(), word)
			}
		}
		for _, word := range []string{"'TIME'", "math.random", "os.time", "os.clock", "KEYS[8]"} {
			if strings.Contains(text, word) {
				t.Errorf("%s has %q", file.Name(), word)
			}
		}
	}
	scripts, err := loadScripts()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 13 || scripts.open.sha == scripts.load.sha || len(scripts.open.sha) != 40 {
		t.Errorf("%d files, %+v", len(files), scripts.open.sha)
	}
}

func FuzzParseEntry(f *testing.F) {
	for _, value := range []string{"F1 2 u1", "S10 0 ", "O1 99999999999999999999 x", "D 1 x", "N1 1 x", "", "V2000000000 1 x", "F1 2"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		e, err := parseEntry("id", value)
		if err != nil {
			if e != (Entry{}) || !errors.Is(err, errReply) {
				t.Fatalf("%+v, %v", e, err)
			}
			return
		}
		if e.State == None || e.Quantity < 0 || e.Quantity > maxUnits || !strings.HasSuffix(value, e.Buyer) {
			t.Fatalf("%q is %+v", value, e)
		}
	})
}

func FuzzParseCrossing(f *testing.F) {
	for _, message := range []string{"1 2 3 4 5", "1 2 3 -4 5", "", "1 2 3 4", "1 2 3 4 5 6", "x 2 3 4 5", "99999999999 1 1 1 1"} {
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, message string) {
		item, epoch, o, ok := parseCrossing(message)
		if !ok {
			if item != 0 || epoch != 0 || o != (observation{}) {
				t.Fatal("half an answer")
			}
			return
		}
		again := fmt.Sprintf("%d %d %d %d %d", item, epoch, o.seq, o.available, o.known)
		if i, e, p, ok := parseCrossing(again); !ok || i != item || e != epoch || p != o {
			t.Fatalf("%q reads otherwise than %q", again, message)
		}
	})
}

// A stray message changes nothing, and one about another shard isn't ours.
func TestHeardMessages(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	ref := b.opened(s, 5)
	v := (*s.views.Load())[ref.Item]
	b.until("first sync", func() bool { return v.snap.Load() != nil && v.syncing.Load() == syncIdle })
	before := v.snap.Load()
	for _, message := range []string{"", "hello", "1 1", "2 1 9 0 0", "1 0 9 0 0", "1 1 0 0 0"} {
		s.heard(rueidis.PubSubMessage{Channel: s.channel, Message: message})
	}
	if after := v.snap.Load(); after != before {
		t.Errorf("snapshot %+v, then %+v", before, after)
	}
	s.heard(rueidis.PubSubMessage{Channel: s.channel, Message: "1 1 9 0 0"})
	if snap := v.snap.Load(); snap.seq != 9 || snap.available != 0 || snap.at != before.at {
		t.Errorf("snapshot %+v: a message is news, but nobody knows of when", snap)
	}
}

// A Redis that goes away and comes back is served again, and heard again.
func TestRedisComesBack(t *testing.T) {
	b := newBed(t)
	onCrossing, crossings := heardCrossings()
	s := b.process(Config{OnCrossing: onCrossing})
	ref := b.opened(s, 1)
	b.until("seen in stock", func() bool { return seenInStock(s, ref.Item) })
	b.redis.Close()
	b.until("noticed", func() bool { return kindOf(s.Confirm(t.Context(), ref, []Hold{{ID: "x", Quantity: 1}})) == "failure" })
	b.no(b.redis.Restart())
	var other *Stock
	b.until("there again", func() bool {
		var err error
		other, err = Open(t.Context(), Config{Addrs: []string{b.redis.Addr()}})
		return err == nil
	})
	defer other.Stop()
	b.holds(other, ref, "o1", Held)
	if got := next(b, "crossing", crossings); got != (crossing{ref.Item, false}) {
		t.Errorf("crossing %+v", got)
	}
	b.until("sold out from memory", func() bool { return s.SoldOut(ref, "o2") })
	b.until("subscribed again", func() bool { return b.redis.PubSubNumSub("ps:crossings")["ps:crossings"] == 2 })
	b.holds(s, ref, "o1", HeldAgain)
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

// TestGuard: what stands in front of Redis sees the calls that a buyer waits for, and what Redis answered; a call that it doesn't make
// has not happened.
func TestGuard(t *testing.T) {
	b := newBed(t)
	errShut := errors.New("shut")
	var shut atomic.Bool
	seen := make(chan error, 10)
	s := b.process(Config{Guard: func(ctx context.Context, call func(context.Context) error) error {
		if shut.Load() {
			return errShut
		}
		err := call(ctx)
		seen <- err
		return err
	}})
	ref := b.opened(s, 2)
	b.holds(s, ref, "a", Held)
	if _, err := s.Find(t.Context(), ref, "a"); err != nil {
		t.Error(err)
	}
	if _, err := s.Hold(t.Context(), Ref{1, 7}, Hold{ID: "b", Quantity: 1}, 0); !errors.Is(err, ErrLost) {
		t.Errorf("hold under an epoch that nobody opened: %v", err)
	}
	for _, call := range []string{"hold", "find", "refused hold"} {
		if err := next(b, call, seen); err != nil {
			t.Errorf("the guard saw the %s end with %v", call, err)
		}
	}
	shut.Store(true)
	unknown := (*UnknownError)(nil)
	if _, err := s.Hold(t.Context(), ref, Hold{ID: "c", Quantity: 1}, 0); !errors.Is(err, errShut) || errors.As(err, &unknown) {
		t.Errorf("hold past a guard that is shut: %v", err)
	}
	b.no(s.Confirm(t.Context(), ref, []Hold{{ID: "a", Buyer: "u-a", Quantity: 1}})) // no buyer waits for it
	shut.Store(false)
	b.on(func(c *server.Peer, command string, args ...string) bool {
		if isScript(&s.scripts.hold, command, args) {
			c.WriteError("LOADING Redis is loading the dataset in memory")
			return true
		}
		return false
	})
	if _, err := s.Hold(t.Context(), ref, Hold{ID: "d", Quantity: 1}, 0); err == nil {
		t.Error("a hold that Redis refused is no error")
	}
	if err := next(b, "hold", seen); err == nil {
		t.Error("the guard did not see that Redis refused")
	}
	b.off()
	if levels, err := s.Levels(t.Context(), 1); err != nil || levels.Held != 1 {
		t.Errorf("%+v, %v: want the one hold", levels, err)
	}
}
