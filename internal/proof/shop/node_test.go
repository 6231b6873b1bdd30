package shop

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/servers"
)

// site is an installation on its own real servers.
type site struct {
	t                testing.TB
	binary           string
	redis, kafka     *process
	postgres         *process
	redisAt, kafkaAt string
	flags            []string
}

// newSite starts the servers. redisArgs are added to Redis's command line.
func newSite(t testing.TB, binary string, redisArgs ...string) *site {
	t.Helper()
	redis, kafka, postgres := servers.Redis(t, redisArgs...), servers.NewKafka(t), servers.NewPostgres(t)
	url := postgres.Database(t, "")
	return &site{
		t: t, binary: binary, redisAt: redis.Addr, kafkaAt: kafka.Addr,
		redis: listener(t, "Redis", redis.Addr), kafka: listener(t, "Kafka", kafka.Addr),
		postgres: listener(t, "PostgreSQL", postgres.Addr),
		flags:    []string{"--redis", redis.Addr, "--kafka", kafka.Addr, "--database", url},
	}
}

// unrewritten are arguments of a Redis whose append-only file is never rewritten. A rewrite reads
// all that Redis has, for seconds, and would count in the turn of the way that it falls into.
var unrewritten = []string{"--auto-aof-rewrite-percentage", "0"}

// node is a running penstock.
type node struct {
	*process
	public string
	desk   *desk
}

// node starts a gateway or a worker.
func (s *site) node(role string, more ...string) *node {
	s.t.Helper()
	n := &node{desk: &desk{t: s.t}}
	args := append([]string{role, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", s.t.TempDir(), "--log-level", "warn"}, s.flags...)
	cmd := exec.Command(s.binary, append(args, more...)...)
	cmd.Env = append(os.Environ(), "PENSTOCK_ADMIN_TOKEN="+adminToken)
	n.process = launch(s.t, role, cmd, func(line string) bool {
		if url, ok := strings.CutPrefix(line, "public "); ok {
			n.public = url
		}
		if url, ok := strings.CutPrefix(line, "admin "); ok {
			n.desk.url = url
			return true
		}
		return false
	})
	return n
}

// cost is the processor time of each process for one operation, and the rate.
type cost struct {
	rate  float64 // operations a second
	each  map[string]float64
	total float64 // microseconds, of all processes
}

// costOf runs f, which makes operations, and returns the cost of each for the processes.
func costOf(processes []*process, f func() (operations int64, took time.Duration)) cost {
	before := make([]time.Duration, len(processes))
	for i, p := range processes {
		before[i] = p.cpu()
	}
	n, took := f()
	c := cost{rate: float64(n) / took.Seconds(), each: make(map[string]float64)}
	for i, p := range processes {
		micros := float64((p.cpu() - before[i]).Microseconds()) / float64(max(n, 1))
		c.each[p.name] += micros
		c.total += micros
	}
	return c
}
