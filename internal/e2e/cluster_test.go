package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"penstock/internal/servers"
)

// cluster is two gateways and two workers on real servers.
type cluster struct {
	t        testing.TB
	redis    *servers.Server
	kafka    *servers.Server
	postgres *servers.Server
	flags    []string
	dir      string // of the settings that the gateways keep
	mu       sync.Mutex
	gateways [2]*node // guarded by mu
	workers  [2]*node // guarded by mu
}

func startCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), redis: servers.Redis(t), kafka: servers.NewKafka(t), postgres: servers.NewPostgres(t)}
	c.flags = []string{
		"--redis", c.redis.Addr, "--kafka", c.kafka.Addr, "--database", c.postgres.Database(t, ""),
		"--accept-deadline", "1s", "--wait-out", "1500ms", "--sweep-age", "3s",
	}
	for i := range 2 {
		c.workers[i] = c.start("worker")
		c.gateways[i] = c.start("gateway")
	}
	return c
}

func (c *cluster) start(role string) *node {
	c.t.Helper()
	return start(c.t, append([]string{role, "--data-dir", c.dir}, c.flags...)...)
}

// gateway returns one of the gateways that serve now.
func (c *cluster) gateway(i int) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gateways[i%2]
}

// replace ends a process with a signal and starts another in its place. While it is away the other one is used.
func (c *cluster) replace(nodes *[2]*node, i int, role string, signal syscall.Signal) {
	c.t.Helper()
	c.mu.Lock()
	old := nodes[i]
	nodes[i] = nodes[1-i]
	c.mu.Unlock()
	old.end(signal)
	fresh := c.start(role)
	c.mu.Lock()
	nodes[i] = fresh
	c.mu.Unlock()
}

// flush empties Redis.
func (c *cluster) flush() {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.redis.Addr)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer conn.Close()
	reply := make([]byte, 5)
	if _, err := conn.Write([]byte("FLUSHALL\r\n")); err != nil {
		c.t.Error(err)
	} else if _, err := io.ReadFull(conn, reply); err != nil || string(reply) != "+OK\r\n" {
		c.t.Errorf("FLUSHALL: %q, %v", reply, err)
	}
}

// tally is what a crowd was told.
type tally struct {
	mu       sync.Mutex
	promised map[string]string // key → order
	strange  []string          // answers that nobody should get
	started  atomic.Int64
}

// persistent is a buyer who wants one unit: sends the purchase, sometimes twice at once, and again through any gateway while the
// answer is lost, a failure or unknown; after it was accepted, sometimes once more. It gives up on a refusal, and after patience.
func (c *cluster) persistent(s *shop, told *tally, i int) {
	rng := rand.New(rand.NewPCG(618, uint64(i)))
	user, key := fmt.Sprint("u", i), fmt.Sprint("k", i)
	told.started.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	try := func() (done bool) {
		a, err := s.buy(c.gateway(rng.IntN(2)), user, key, 1)
		if err != nil {
			return false
		}
		return told.note(key, a)
	}
	if rng.IntN(4) == 0 {
		go try()
	}
	for !try() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	if rng.IntN(4) == 0 {
		try()
	}
}

// note takes an answer down; done means that the buyer need not ask again.
func (t *tally) note(key string, a answer) (done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch code := a.field("code"); {
	case a.status == http.StatusAccepted || a.status == http.StatusCreated:
		order := a.field("order")
		if before := t.promised[key]; before != "" && before != order {
			t.strange = append(t.strange, fmt.Sprintf("L4: key %s was promised %s and %s", key, before, order))
		}
		t.promised[key] = order
		return true
	case code == "sold-out":
		if t.promised[key] != "" {
			t.strange = append(t.strange, fmt.Sprintf("L4: key %s was promised %s, then told sold-out", key, t.promised[key]))
		}
		return true
	case a.status == http.StatusServiceUnavailable:
		return false
	default:
		t.strange = append(t.strange, a.String())
		return true
	}
}

// crowd sends n buyers while trouble happens, and waits for both.
func (c *cluster) crowd(s *shop, n int, trouble func(started func(buyers int))) *tally {
	told := &tally{promised: make(map[string]string)}
	var troubled sync.WaitGroup
	troubled.Go(func() {
		trouble(func(buyers int) {
			eventually(c.t, fmt.Sprint(buyers, " buyers have come"), func() bool { return told.started.Load() >= int64(buyers) })
		})
	})
	press(c.t, n, func(i int) (answer, error) {
		c.persistent(s, told, i)
		return answer{}, nil
	})
	troubled.Wait()
	return told
}

// proveAll checks the laws after a crowd: every promise is one order of its buyer, nothing strange was said, and the stock is balanced.
func (c *cluster) proveAll(s *shop, told *tally, units int) {
	c.t.Helper()
	for _, strange := range told.strange {
		c.t.Error(strange)
	}
	n := c.gateway(0)
	for key, id := range told.promised {
		eventually(c.t, "order "+id+" exists", func() bool { return s.order(n, id).field("status") == "pending_payment" })
		if user := s.order(n, id).field("user"); user != "u"+key[1:] {
			c.t.Errorf("order %s of %s is of %s", id, key, user)
		}
	}
	got := s.settled(n)
	if got.Held != len(told.promised) || got.Held > units || got.Rejected != 0 {
		c.t.Errorf("%d promised of %d: %+v", len(told.promised), units, got)
	}
	if len(told.promised) != units {
		c.t.Errorf("L6: %d of %d units were sold to a crowd that wanted all", len(told.promised), units)
	}
}

// TestL2_ClusterSurvivesKills: each of the four processes is killed once and Redis emptied once, amid a crowd on both gateways.
func TestL2_ClusterSurvivesKills(t *testing.T) {
	const units, buyers = 1200, 1800
	c := startCluster(t)
	s := openShop(c.gateway(0), terms{quantity: units, perUser: 1, window: "10m"})
	told := c.crowd(s, buyers, func(started func(int)) {
		started(buyers / 8)
		c.replace(&c.workers, 0, "worker", syscall.SIGKILL)
		started(buyers / 4)
		c.replace(&c.gateways, 0, "gateway", syscall.SIGKILL)
		c.flush()
		started(buyers / 2)
		c.replace(&c.workers, 1, "worker", syscall.SIGKILL)
		c.replace(&c.gateways, 1, "gateway", syscall.SIGKILL)
	})
	c.proveAll(s, told, units)
}

// TestL2_ClusterSurvivesStops: Redis, Kafka and PostgreSQL are stopped in turn, for longer than any deadline; nobody is told anything
// but an honest 503, and everything goes on afterwards.
func TestL2_ClusterSurvivesStops(t *testing.T) {
	const units, buyers = 900, 1200
	c := startCluster(t)
	s := openShop(c.gateway(0), terms{quantity: units, perUser: 1, window: "10m"})
	told := c.crowd(s, buyers, func(started func(int)) {
		for i, server := range []*servers.Server{c.postgres, c.kafka, c.redis} {
			started((i + 1) * buyers / 5)
			server.Pause()
			<-time.After(4 * time.Second) // the length of the fault, not a wait for something
			server.Resume()
		}
	})
	c.proveAll(s, told, units)
}

// TestRollingRestart: all four processes are restarted one after the other under a crowd, as an upgrade does.
func TestRollingRestart(t *testing.T) {
	const units, buyers = 800, 1000
	c := startCluster(t)
	s := openShop(c.gateway(0), terms{quantity: units, perUser: 1, window: "10m"})
	told := c.crowd(s, buyers, func(started func(int)) {
		for i := range 2 {
			started((i + 1) * buyers / 4)
			c.replace(&c.workers, i, "worker", syscall.SIGTERM)
			c.replace(&c.gateways, i, "gateway", syscall.SIGTERM)
		}
	})
	c.proveAll(s, told, units)
}
