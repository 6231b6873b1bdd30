package e2e

import (
	"context"
	"flag"
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

	"github.com/penstock/penstock/internal/proof/servers"
)

var fullFlag = flag.Bool("e2e.full", false, "run the trials of a cluster at full size and length, with the settings of production")

// size is the size of a trial: the number of buyers, the time in which they come, and the units.
type size struct {
	units, buyers int
	over          time.Duration    // the time of all arrivals; 0: 64 buyers at a time, as fast as they are answered
	stops         [3]time.Duration // how long PostgreSQL, Kafka and Redis are away
}

// trial returns the small size, or the full one if a flag asks for it.
func trial(small, full size) size {
	if *fullFlag {
		return full
	}
	return small
}

// cluster is two gateways and two workers on real servers.
type cluster struct {
	t        testing.TB
	redis    *servers.Server
	kafka    *servers.Server
	postgres *servers.Server
	database string // its URL
	flags    []string
	dir      string // of the settings that the gateways keep
	mu       sync.Mutex
	gateways [2]*node // guarded by mu
	workers  [2]*node // guarded by mu
}

// startCluster starts them, each with further flags.
func startCluster(t testing.TB, flags ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), redis: servers.Redis(t), kafka: servers.NewKafka(t), postgres: servers.NewPostgres(t)}
	c.database = c.postgres.Database(t, "")
	c.flags = append([]string{"--redis", c.redis.Addr, "--kafka", c.kafka.Addr, "--database", c.database}, flags...)
	if !*fullFlag {
		c.flags = append(c.flags, "--accept-deadline", "1s", "--sweep-age", "3s")
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

// replace ends a process with a signal and starts another in its place. Meanwhile the other process
// is used.
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
	c.redisDoes("FLUSHALL")
}

// redisDoes gives Redis a command that it answers OK.
func (c *cluster) redisDoes(command string) {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.redis.Addr)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer conn.Close()
	reply := make([]byte, 5)
	if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
		c.t.Error(err)
	} else if _, err := io.ReadFull(conn, reply); err != nil || string(reply) != "+OK\r\n" {
		c.t.Errorf("%s: %q, %v", command, reply, err)
	}
}

// tally counts the answers to a crowd.
type tally struct {
	mu       sync.Mutex
	promised map[string]string // key → order
	strange  []string          // answers that nobody should get
	started  atomic.Int64
}

// promises counts the keys that were promised an order.
func (t *tally) promises() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.promised)
}

// persistent is a buyer who wants one unit. It sends the purchase, sometimes twice at once. While
// the answer is lost, a failure or unknown, it repeats it through any gateway. After acceptance it
// sometimes sends it once more. It gives up on a refusal, and after patience.
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

// note records an answer; done means that the buyer need not ask again.
func (t *tally) note(key string, a answer) (done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch code := a.field("code"); {
	case a.field("reason") == "not-accepted": // it was never promised, and the repeat gets its end
		if t.promised[key] != "" {
			t.strange = append(t.strange, fmt.Sprintf("L2: key %s was promised %s, then told not-accepted", key, t.promised[key]))
		}
		return true
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

// crowd sends the buyers while trouble runs, and waits for both. trouble is told when a percentage
// of them has come.
func (c *cluster) crowd(s *shop, z size, trouble func(told *tally, come func(percent int))) *tally {
	told := &tally{promised: make(map[string]string)}
	var parts sync.WaitGroup
	parts.Go(func() {
		trouble(told, func(percent int) {
			eventually(c.t, fmt.Sprint(percent, " % of the buyers have come"), func() bool {
				return told.started.Load() >= int64(percent*z.buyers/100)
			})
		})
	})
	if z.over == 0 {
		press(c.t, z.buyers, func(i int) (answer, error) {
			c.persistent(s, told, i)
			return answer{}, nil
		})
	} else {
		begin := time.Now()
		for i := range z.buyers {
			<-time.After(time.Until(begin.Add(z.over * time.Duration(i) / time.Duration(z.buyers)))) // when this buyer comes
			parts.Go(func() { c.persistent(s, told, i) })
		}
	}
	parts.Wait()
	return told
}

// proveAll checks the laws after a crowd: every promise is one order of its buyer, no answer was
// wrong, and the stock is balanced.
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

// TestL2_ClusterSurvivesKills: during a crowd on both gateways, each of the four processes is
// killed once, and Redis is emptied once.
func TestL2_ClusterSurvivesKills(t *testing.T) {
	z := trial(size{units: 1200, buyers: 1800, over: 8 * time.Second}, size{units: 12_000, buyers: 18_000, over: 30 * time.Second})
	c := startCluster(t)
	s := openShop(c.gateway(0), terms{quantity: z.units, perUser: 1, window: "10m"})
	told := c.crowd(s, z, func(told *tally, come func(int)) {
		come(12)
		c.replace(&c.workers, 0, "worker", syscall.SIGKILL)
		come(25)
		c.replace(&c.gateways, 0, "gateway", syscall.SIGKILL)
		c.flush()
		flushed, before := time.Now(), told.promises()
		eventually(t, "it sells again", func() bool { return told.promises() > before+64 })
		t.Logf("sells again %v after Redis was emptied", time.Since(flushed).Round(time.Millisecond))
		come(50)
		c.replace(&c.workers, 1, "worker", syscall.SIGKILL)
		c.replace(&c.gateways, 1, "gateway", syscall.SIGKILL)
	})
	c.proveAll(s, told, z.units)
}

// TestL2_ClusterSurvivesStops: Redis, Kafka and PostgreSQL are stopped in turn, for longer than any
// deadline; clients get only the right 503s, and everything goes on afterwards. Without PostgreSQL
// the sale goes on.
func TestL2_ClusterSurvivesStops(t *testing.T) {
	z := trial(
		size{1100, 1200, 16 * time.Second, [3]time.Duration{4 * time.Second, 4 * time.Second, 4 * time.Second}},
		size{12_000, 18_000, 100 * time.Second, [3]time.Duration{30 * time.Second, 20 * time.Second, 10 * time.Second}},
	)
	c := startCluster(t)
	s := openShop(c.gateway(0), terms{quantity: z.units, perUser: 1, window: "10m"})
	told := c.crowd(s, z, func(told *tally, come func(int)) {
		for i, server := range []*servers.Server{c.postgres, c.kafka, c.redis} {
			come([3]int{5, 40, 62}[i])
			server.Pause()
			before := told.promises()
			<-time.After(z.stops[i]) // the length of the fault, not a wait for something
			promised := told.promises() - before
			server.Resume()
			t.Logf("%d promises while server %d was away for %v", promised, i+1, z.stops[i])
			if server == c.postgres && promised == 0 {
				t.Error("nothing was sold while PostgreSQL was away")
			}
			resumed, before := time.Now(), told.promises()
			eventually(t, "it sells on", func() bool { return told.promises() > before+16 })
			t.Logf("sells on %v later", time.Since(resumed).Round(time.Millisecond))
		}
	})
	c.proveAll(s, told, z.units)
}

// TestRollingRestart: all four processes are restarted one after the other under a crowd, as an
// upgrade does.
func TestRollingRestart(t *testing.T) {
	z := trial(size{units: 800, buyers: 1000}, size{units: 12_000, buyers: 18_000, over: 30 * time.Second})
	c := startCluster(t)
	s := openShop(c.gateway(0), terms{quantity: z.units, perUser: 1, window: "10m"})
	told := c.crowd(s, z, func(_ *tally, come func(int)) {
		for i := range 2 {
			come(25 * (i + 1))
			c.replace(&c.workers, i, "worker", syscall.SIGTERM)
			c.replace(&c.gateways, i, "gateway", syscall.SIGTERM)
		}
	})
	c.proveAll(s, told, z.units)
}
