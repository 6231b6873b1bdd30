package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// settings makes a bed's Redis return these settings and these fields of INFO.
type settings struct {
	mu     sync.Mutex
	config map[string]string // nil: there is no CONFIG
	info   map[string]string // by section
}

func (s *settings) set(change func(s *settings)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// answer is a hook of a bed.
func (s *settings) answer(c *server.Peer, command string, args ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case command == "CONFIG" && s.config == nil:
		c.WriteError("ERR unknown command 'CONFIG', with args beginning with: 'GET'")
	case command == "CONFIG" && s.config["error"] != "":
		c.WriteError(s.config["error"])
	case command == "CONFIG":
		if value, ok := s.config[args[1]]; ok {
			c.WriteStrings([]string{args[1], value})
		} else {
			c.WriteLen(0)
		}
	case command == "INFO":
		c.WriteBulk(s.info[args[0]])
	default:
		return false
	}
	return true
}

// good are the settings of a server that is fit to keep stock.
func good() map[string]string {
	return map[string]string{
		"maxmemory-policy": "noeviction", "appendonly": "yes", "min-replicas-to-write": "1", "min-replicas-max-lag": "2",
	}
}

func TestOpenRefusesARedisThatMayLoseStock(t *testing.T) {
	with := func(name, value string) map[string]string {
		config := good()
		config[name] = value
		return config
	}
	for name, c := range map[string]struct {
		config map[string]string
		lag    time.Duration
		unfit  string // the setting; "-" is another error
	}{
		"fit":                       {good(), 0, ""},
		"may evict":                 {with("maxmemory-policy", "allkeys-lru"), 0, "maxmemory-policy"},
		"has no CONFIG":             {nil, 0, ""},
		"forbids CONFIG":            {with("error", "NOPERM this user has no permissions to run the 'config|get' command"), 0, "-"},
		"says nothing":              {map[string]string{}, 0, "maxmemory-policy"},
		"keeps nothing":             {with("appendonly", "no"), 0, ""},
		"replicates well":           {good(), 2 * time.Second, ""},
		"waits for no replica":      {with("min-replicas-to-write", "0"), 2 * time.Second, "min-replicas-to-write"},
		"lags for too long":         {with("min-replicas-max-lag", "10"), 2 * time.Second, "min-replicas-max-lag"},
		"lags for ever":             {with("min-replicas-max-lag", "0"), 2 * time.Second, "min-replicas-max-lag"},
		"lags, and nobody minds it": {with("min-replicas-max-lag", "10"), 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.on((&settings{config: c.config}).answer)
			s, err := Open(t.Context(), Config{Addrs: []string{b.redis.Addr()}, MaxReplicaLag: c.lag})
			if err == nil {
				b.no(s.Ready(t.Context()))
				s.Stop()
			}
			var safety *SafetyError
			errors.As(err, &safety)
			switch {
			case c.unfit == "" && err != nil, c.unfit != "" && err == nil, c.unfit == "-" && safety != nil:
				t.Error(err)
			case c.unfit != "" && c.unfit != "-" && (safety == nil || safety.Setting != c.unfit || safety.Addr != b.redis.Addr()):
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

// logged collects what is logged.
type logged struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.lines = append(l.lines, line)
	return nil
}

func (l *logged) has(words string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool { return strings.Contains(line, words) })
}

// A process starts while Redis is away. Redis is used when it is back, and a wrong setting is
// reported then.
func TestL10_OpenWithoutARedis(t *testing.T) {
	b := newBed(t)
	addr := b.addr
	b.redis.Close()
	said := new(logged)
	s := b.process(Config{Logger: slog.New(said)})
	ref := Ref{3, 1}
	s.Watch([]Ref{ref})
	if in, _ := s.InStock(ref.Shard, shelf); !in || soldOut(s, ref, "o1") {
		t.Error("sold out before anybody said so")
	}
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("ready without a Redis: %v", err)
	}
	for name, err := range everyCall(t.Context(), s, ref) {
		if kindOf(err) != "failure" {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Ring("nobody")
	b.restart()
	b.until("ready", func() bool { return s.Ready(t.Context()) == nil })
	b.rebuilt(s, ref, 1)
	b.holds(s, ref, "o1", Held)
	b.until("sold out from memory", func() bool { return soldOut(s, ref, "o2") })
	if servers := s.Servers(); len(servers) != 1 || servers[0] != (Server{Addr: addr, Primary: true}) {
		t.Errorf("servers %+v", servers)
	}
	config := &settings{config: good()}
	config.set(func(s *settings) { s.config["maxmemory-policy"] = "allkeys-lru" })
	b.on(config.answer)
	var safety *SafetyError
	if err := s.Ready(t.Context()); !errors.As(err, &safety) || !said.has("is configured unsafely") {
		t.Errorf("ready with a Redis that evicts: %v", err)
	}
	config.set(func(s *settings) { s.config = good(); s.config["appendonly"] = "no" })
	b.no(s.Ready(t.Context()))
	if !said.has("appendonly is no") {
		t.Errorf("logged %q", said.lines)
	}
}

// Stop ends a Stock that never reached its Redis.
func TestStopWithoutARedis(t *testing.T) {
	redis := miniredis.RunT(t)
	addr := redis.Addr()
	redis.Close()
	s, err := Open(t.Context(), Config{Addrs: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
}

// A server that is restarted or replaced makes the watched shards suspect.
func TestAnotherServerIsSuspect(t *testing.T) {
	b := newBed(t)
	server := &settings{config: good(), info: map[string]string{
		"server": "# Server\r\nrun_id:one\r\n", "replication": "# Replication\r\nrole:master\r\nmaster_replid:a\r\nconnected_slaves:0\r\n",
	}}
	b.on(server.answer)
	suspects := make(chan []ShardID, 10)
	s := b.process(Config{OnSuspect: func(shards []ShardID) { suspects <- shards }})
	ref := b.opened(s, 5)
	b.no(s.Ready(t.Context()))
	for _, change := range []func(s *settings){
		func(s *settings) { s.info["server"] = "run_id:two\r\n" },
		func(s *settings) {
			s.info["replication"] = "role:master\r\nmaster_replid:b\r\nconnected_slaves:0\r\n"
		},
	} {
		b.no(s.Ready(t.Context()))
		server.set(change)
		b.no(s.Ready(t.Context()))
		if got := next(b, "suspects", suspects); !slices.Equal(got, []ShardID{ref.Shard}) {
			t.Errorf("suspects %v", got)
		}
	}
	b.no(s.Ready(t.Context()))
	select {
	case got := <-suspects:
		t.Errorf("suspects again: %v", got)
	default:
	}
}

// Doom, Close and Open return after the replicas have the writes.
func TestCloseAndOpenWaitForReplicas(t *testing.T) {
	b := newBed(t)
	s := b.process(Config{})
	var mu sync.Mutex // the server's goroutine reads what the test sets
	var info, reached, aof string
	waited := 0
	b.on(func(c *server.Peer, command string, args ...string) bool {
		mu.Lock()
		defer mu.Unlock()
		switch command {
		case "INFO":
			c.WriteBulk(info)
		case "WAIT":
			waited++
			if args[0] != "2" || args[1] != "5000" {
				t.Errorf("WAIT %v", args)
			}
			c.WriteInt(len(reached))
		case "WAITAOF":
			if aof == "" {
				c.WriteError("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
				return true
			}
			c.WriteLen(2)
			c.WriteInt(int(aof[0] - '0'))
			c.WriteInt(0)
		default:
			return false
		}
		return true
	})
	for i, c := range []struct {
		info, reached, aof string
		want               string
		waits              int
	}{
		{"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n", "", "", "none", 0},
		{"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n", "", "1", "none", 0},
		{"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n", "", "0", "unknown", 0},
		{"# Replication\r\nrole:master\r\nconnected_slaves:2\r\n", "xx", "", "none", 1},
		{"# Replication\r\nrole:master\r\nconnected_slaves:2\r\n", "x", "", "unknown", 1},
		{"# Replication\r\nrole:master\r\nconnected_slaves:?\r\n", "", "", "unknown", 0},
		{"# Replication\r\n", "", "", "unknown", 0},
	} {
		ref := Ref{3, Epoch(i + 1)}
		for name, call := range map[string]func() error{
			"close": func() error { return s.Close(t.Context(), ref) },
			"open":  func() error { return s.Open(t.Context(), ref, 0, 0) },
			"doom": func() error {
				_, err := s.Doom(t.Context(), ref, 1, []Hold{unit("o1")})
				return err
			},
		} {
			b.redis.Del(metaKey)
			if name != "close" {
				closed := map[string]string{"open": "1", "doom": "0"}[name]
				b.redis.HSet(metaKey, "epoch", fmt.Sprint(ref.Epoch), "closed", closed, "seq", "5")
			}
			mu.Lock()
			info, reached, aof, waited = c.info, c.reached, c.aof, 0
			mu.Unlock()
			err := call()
			mu.Lock()
			if kindOf(err) != c.want || waited != c.waits {
				t.Errorf("%s with %q, %d reached: %v, waited %d times", name, c.info, len(c.reached), err, waited)
			}
			mu.Unlock()
		}
	}
}

// A primary that is cut off from its replicas must not count as having closed a shard.
func TestCloseWantsItsReplicas(t *testing.T) {
	b := newBed(t)
	var connected atomic.Int32
	config := &settings{config: good()}
	b.on(func(c *server.Peer, command string, args ...string) bool {
		switch command {
		case "INFO":
			c.WriteBulk(fmt.Sprintf("# Replication\r\nrole:master\r\nconnected_slaves:%d\r\n", connected.Load()))
		case "WAIT":
			c.WriteInt(int(connected.Load()))
		default:
			return config.answer(c, command, args...)
		}
		return true
	})
	s := b.process(Config{MinReplicas: 1, MaxReplicaLag: 2 * time.Second})
	if err := s.Close(t.Context(), Ref{1, 1}); kindOf(err) != "unknown" || !strings.Contains(err.Error(), "0 replicas are connected") {
		t.Errorf("without a replica: %v", err)
	}
	connected.Store(1)
	if err := s.Close(t.Context(), Ref{1, 2}); err != nil {
		t.Errorf("with one: %v", err)
	}
}

func TestConfigValidate(t *testing.T) {
	right := Config{Addrs: []string{"127.0.0.1:6379"}}
	if err := right.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(c *Config){
		"addrs is empty":                func(c *Config) { c.Addrs = nil },
		"addrs has an empty":            func(c *Config) { c.Addrs = []string{""} },
		"prefix":                        func(c *Config) { c.Prefix = "a{b}" },
		"cap is -1":                     func(c *Config) { c.Cap = -1 },
		"cap is 10001":                  func(c *Config) { c.Cap = MaxCall + 1 },
		"queue is 10, must be":          func(c *Config) { c.Queue = 10 },
		"call timeout is -1ns":          func(c *Config) { c.CallTimeout = -1 },
		"replica timeout is -1ns":       func(c *Config) { c.ReplicaTimeout = -1 },
		"poll is 1s":                    func(c *Config) { c.Poll = time.Second },
		"min replicas is -1, must":      func(c *Config) { c.MinReplicas = -1 },
		"max replica lag is 0, must":    func(c *Config) { c.MinReplicas = 1 },
		"max replica lag is -1ns, must": func(c *Config) { c.MaxReplicaLag = -1 },
		"max known is -1, must not":     func(c *Config) { c.MaxKnown = -1 },
		"without a master name":         func(c *Config) { c.SentinelPassword = "x" },
	} {
		c := right
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

// Shards are numbered by their nodes, in the order of slots.
func TestLayout(t *testing.T) {
	slots := []slotRange{{0, 99, "a:1"}, {100, 199, "b:1"}, {200, 299, "a:1"}}
	slotOf := func(shard ShardID) int64 { return int64(shard) }
	l := newLayout(slots, slotOf)
	for shard, want := range map[ShardID]uint16{0: 0, 99: 0, 100: 1, 199: 1, 200: 0, 1000: 0} {
		if l.lane[shard] != want {
			t.Errorf("shard %d is on lane %d, want %d", shard, l.lane[shard], want)
		}
	}
	ids := map[string]identity{"a:1": {"run", "x"}}
	if _, ok := l.identityOf(150, ids); ok {
		t.Error("the identity of a server that didn't answer")
	}
	if id, ok := l.identityOf(5, ids); !ok || id.run != "run" {
		t.Error("no identity of one that did")
	}
	if newLayout(slots[:1], slotOf) != nil {
		t.Error("one node is no Cluster")
	}
}
