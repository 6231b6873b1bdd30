package faults

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/internal/proof/servers"
)

// site is a running installation. The tests connect to its servers directly, penstock through the
// proxies.
type site struct {
	t        *testing.T
	redis    []*servers.Server
	sentinel *servers.Server
	kafka    []*servers.Server
	postgres *servers.Server
	database string // its name
	tables   *disk  // of the database's tables
	logs     *disk  // of half of the broker's partitions
	mainLog  string // the directory of the others, where logs is

	toRedis, toKafka, toPostgres *proxy

	flags    []string
	dirs     [2]string               // files that the gateways keep
	gateways [2]atomic.Pointer[node] // the same process in a site of one process
	workers  [2]atomic.Pointer[node] // none in a site of one process
	harmed   [2]atomic.Bool          // gateways that need not be ready now
	bearer   string                  // the caller's key
	asked    rueidis.Client          // of the tests
	trials   int
}

// The times of an installation under faults. They are short enough for a trial.
var shortTimes = []string{"--accept-deadline", "1s", "--sweep-age", "4s", "--drain-delay", "0s"}

// layouts are the installations.
var layouts = map[string]func(*testing.T) *site{
	"single": openSingle, "replicated": openReplicated, "cluster": openCluster, "embedded": openEmbedded,
}

// lockTable makes PostgreSQL's lock table small enough to be filled, and connections few.
var lockTable = []string{"-c", "max_locks_per_transaction=10", "-c", "max_connections=90"}

// openSingle starts one server of each kind, each behind a proxy.
func openSingle(t *testing.T) *site {
	s := &site{t: t, toRedis: newProxy(t), toKafka: newProxy(t), toPostgres: newProxy(t)}
	s.tables, s.logs = newDisk(t), newDisk(t)
	s.redis = []*servers.Server{servers.Redis(t)}
	behind := net.JoinHostPort("127.0.0.1", servers.FreePort(t)) // brokers tell their clients the addresses to use
	s.toKafka.aim(behind)
	properties := []string{"PROXIED://" + behind + "/" + s.toKafka.addr}
	if s.logs != nil {
		s.mainLog = filepath.Join(t.TempDir(), "log")
		properties = append(properties, "log.dirs="+s.mainLog+","+filepath.Join(s.logs.dir, "log"))
	}
	s.kafka = []*servers.Server{servers.NewKafka(t, properties...)}
	s.openPostgres(t, lockTable...)
	s.toRedis.aim(s.redis[0].Addr)
	s.toPostgres.aim(s.postgres.Addr)
	s.flags = []string{
		"--redis", s.toRedis.addr, "--kafka", s.toKafka.addr,
		"--database", "postgres://penstock@" + s.toPostgres.addr + "/" + s.database + "?sslmode=disable",
	}
	s.ask(rueidis.ClientOption{InitAddress: []string{s.redis[0].Addr}, ForceSingleClient: true})
	return s.open(shortTimes...)
}

// replicaLag is min-replicas-max-lag of the primary, and penstock's redis-replica-lag.
const replicaLag = "2s"

// openReplicated starts three brokers, and a Redis with a replica and a Sentinel.
func openReplicated(t *testing.T) *site {
	s := &site{t: t, kafka: servers.KafkaCluster(t, 3)}
	var brokers []string
	for _, b := range s.kafka {
		brokers = append(brokers, b.Addr)
	}
	s.openPostgres(t)
	safely := []string{"--min-replicas-to-write", "1", "--min-replicas-max-lag", strings.TrimSuffix(replicaLag, "s"), "--repl-diskless-sync-delay", "0"}
	primary := servers.Redis(t, safely...)
	host, port, err := net.SplitHostPort(primary.Addr)
	no(t, primary.Addr, err)
	replica := servers.Redis(t, append(slices.Clip(safely), "--replicaof", host, port)...)
	s.redis = []*servers.Server{primary, replica}
	until(t, replica, "master_link_status", "up", "INFO", "replication")
	s.sentinel = servers.Sentinel(t, "sentinel monitor sale "+host+" "+port+" 1",
		"sentinel down-after-milliseconds sale 1000", "sentinel failover-timeout sale 3000")
	eventually(t, "the Sentinel knows the replica", func() bool {
		return strings.Contains(field(t, s.sentinel, "master0", "INFO", "sentinel"), "slaves=1")
	})
	s.flags = []string{
		"--redis", s.sentinel.Addr, "--redis-master", "sale", "--redis-min-replicas", "1", "--redis-replica-lag", replicaLag,
		"--kafka", strings.Join(brokers, ","), "--database", s.postgres.URL(s.database),
	}
	s.ask(rueidis.ClientOption{InitAddress: []string{s.sentinel.Addr}, Sentinel: rueidis.SentinelOption{MasterSet: "sale"}})
	return s.open("--accept-deadline", "1s", "--sweep-age", "6s", "--drain-delay", "0s")
}

// openCluster starts a Redis Cluster of three primaries.
func openCluster(t *testing.T) *site {
	s := &site{t: t, kafka: []*servers.Server{servers.NewKafka(t)}}
	s.openPostgres(t)
	var buses, addrs []string
	for range 3 {
		bus := servers.FreePort(t) // by default it is 10,000 above the port, which may be none
		buses = append(buses, bus)
		n := servers.Redis(t, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-require-full-coverage", "no",
			"--cluster-node-timeout", "2000")
		s.redis, addrs = append(s.redis, n), append(addrs, n.Addr)
	}
	for i, n := range s.redis {
		redisDo(t, n, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		redisDo(t, n, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(slots*i/3), strconv.Itoa(slots*(i+1)/3-1))
	}
	for i, n := range s.redis[1:] {
		host, port, err := net.SplitHostPort(n.Addr)
		no(t, n.Addr, err)
		redisDo(t, s.redis[0], "CLUSTER", "MEET", host, port, buses[i+1])
	}
	for _, n := range s.redis {
		until(t, n, "cluster_slots_ok", strconv.Itoa(slots), "CLUSTER", "INFO")
		until(t, n, "cluster_state", "ok", "CLUSTER", "INFO")
	}
	s.flags = []string{"--redis", strings.Join(addrs, ","), "--kafka", s.kafka[0].Addr, "--database", s.postgres.URL(s.database)}
	s.ask(rueidis.ClientOption{InitAddress: addrs})
	return s.open(shortTimes...)
}

// slots are those of a Redis Cluster.
const slots = 16384

// openPostgres starts a PostgreSQL with a database. Its tables are on a separate disk, where
// mounting is permitted.
func (s *site) openPostgres(t *testing.T, args ...string) {
	s.postgres, s.database = servers.NewPostgres(t, args...), "sale"
	where := ""
	if s.tables != nil {
		s.postgres.Execute(t, "CREATE TABLESPACE small LOCATION '"+s.tables.folder("tables")+"'")
		where = " TABLESPACE small"
	}
	s.postgres.Execute(t, "CREATE DATABASE "+s.database+where)
}

// ask connects the tests to Redis.
func (s *site) ask(option rueidis.ClientOption) {
	option.DisableCache = true
	client, err := rueidis.NewClient(option)
	no(s.t, "connect to Redis", err)
	s.t.Cleanup(client.Close)
	s.asked = client
}

// open starts the processes and makes a merchant with a caller.
func (s *site) open(times ...string) *site {
	s.flags = append(s.flags, times...)
	for i := range 2 {
		s.dirs[i] = s.t.TempDir()
		s.startWorker(i)
		s.startGateway(i, binary)
	}
	s.found()
	return s
}

func (s *site) found() {
	s.node().admin("PUT", "/admin/v1/merchants/acme", fmt.Sprintf(`{"name":"Acme","payment_secret":%q}`, paymentSecret))
	var caller struct{ Key string }
	decode(s.t, s.node().admin("POST", "/admin/v1/merchants/acme/callers", `{"name":"web","rights":["buy"]}`).body, &caller)
	s.bearer = "Bearer " + caller.Key
}

func (s *site) startWorker(i int) {
	s.t.Helper()
	s.workers[i].Store(startNode(s.t, binary, "worker", append([]string{"--data-dir", s.t.TempDir()}, s.flags...)...))
}

func (s *site) startGateway(i int, program func() (string, error)) {
	s.t.Helper()
	s.gateways[i].Store(startNode(s.t, program, "gateway", append([]string{"--data-dir", s.dirs[i]}, s.flags...)...))
	s.harmed[i].Store(false)
}

// openEmbedded starts one process with all its parts, on a separate disk.
func openEmbedded(t *testing.T) *site {
	s := &site{t: t, tables: newDisk(t)}
	if s.tables == nil {
		t.Skip("needs a mount")
	}
	s.dirs[0] = filepath.Join(s.tables.dir, "data")
	s.startServe()
	s.found()
	return s
}

func (s *site) startServe() {
	n := startNode(s.t, binary, "serve", append([]string{"--data-dir", s.dirs[0]}, shortTimes...)...)
	for i := range s.gateways {
		s.gateways[i].Store(n)
		s.harmed[i].Store(false)
	}
}

// node returns a process whose admin listener answers.
func (s *site) node() *node {
	for i := range s.gateways {
		if !s.harmed[i].Load() {
			return s.gateways[i].Load()
		}
	}
	return s.gateways[0].Load()
}

// killGateway ends a gateway at once.
func (s *site) killGateway(i int) {
	s.harmed[i].Store(true)
	s.gateways[i].Load().end(syscall.SIGKILL)
}

// connect opens a connection to the database that does not pass the proxy.
func (s *site) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, s.postgres.URL(s.database))
}

// execute runs statements on a new connection.
func (s *site) execute(t testing.TB, statements ...string) {
	t.Helper()
	conn, err := s.connect(t.Context())
	no(t, "connect to the database", err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, text := range statements {
		_, err := conn.Exec(t.Context(), text)
		no(t, text, err)
	}
}

// brokers returns a client of the brokers, which the caller closes.
func (s *site) brokers(t testing.TB) *kadm.Client {
	t.Helper()
	var seeds []string
	for _, b := range s.kafka {
		seeds = append(seeds, b.Addr)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	no(t, "make a client of the brokers", err)
	return kadm.NewClient(client)
}

// redisDo sends a command to a Redis or a Sentinel.
func redisDo(t testing.TB, server *servers.Server, command ...string) string {
	t.Helper()
	text, err := redisTry(t.Context(), server, command...)
	no(t, strings.Join(command, " "), err)
	return text
}

func redisTry(ctx context.Context, server *servers.Server, command ...string) (string, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{server.Addr}, ForceSingleClient: true, DisableCache: true, AlwaysRESP2: true,
	})
	if err != nil {
		return "", err
	}
	defer client.Close()
	reply := client.Do(ctx, client.B().Arbitrary(command...).Build())
	if err := reply.Error(); err != nil {
		return "", err
	}
	m, err := reply.ToMessage()
	if err != nil {
		return "", err
	}
	if text, err := m.ToString(); err == nil {
		return text, nil
	}
	return fmt.Sprint(m.String()), nil
}

// field returns the value behind "name:" in the lines of a command's output; "" if there is none.
func field(t testing.TB, server *servers.Server, name string, command ...string) string {
	t.Helper()
	for line := range strings.Lines(redisDo(t, server, command...)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value
		}
	}
	return ""
}

// until waits until a field has a value.
func until(t testing.TB, server *servers.Server, name, value string, command ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s of %s is %s", name, server.Addr, value), func() bool { return field(t, server, name, command...) == value })
}
