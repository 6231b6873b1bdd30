package inventory_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/inventory"
)

// Every reply of the table that a test can provoke on one redis-server. A call that gets it has
// done nothing, and the shard sells on after the fault.
func TestReplyOf_OnARealServer(t *testing.T) {
	config := func(name, value string) []string { return []string{"CONFIG", "SET", name, value} }
	for _, c := range []struct {
		name       string
		begin, end [][]string
		reads      bool // answered all the same
	}{
		{name: "OOM", begin: [][]string{config("maxmemory", "1")}, end: [][]string{config("maxmemory", "0")}, reads: true},
		{name: "NOREPLICAS", begin: [][]string{config("min-replicas-to-write", "1")}, end: [][]string{config("min-replicas-to-write", "0")}, reads: true},
		{name: "READONLY", begin: [][]string{{"REPLICAOF", "127.0.0.1", "1"}}, end: [][]string{{"REPLICAOF", "NO", "ONE"}}, reads: true},
		{name: "MASTERDOWN", begin: [][]string{config("replica-serve-stale-data", "no"), {"REPLICAOF", "127.0.0.1", "1"}},
			end: [][]string{{"REPLICAOF", "NO", "ONE"}}},
		{name: "NOPERM", begin: [][]string{{"ACL", "SETUSER", "default", "-evalsha", "-eval"}}, end: [][]string{{"ACL", "SETUSER", "default", "+@all"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, servers.Redis(t))
			s := openStock(t, inventory.Config{Addrs: []string{n.Addr}})
			ref := inventory.Ref{Shard: 1, Epoch: 5}
			shop := sale{t, s}
			shop.rebuilt(ref, 5)
			run := func(commands [][]string) {
				for _, command := range commands {
					no(t, fmt.Sprint(command), n.ask(t, command...).Error())
				}
			}
			no(t, "refused before the fault", s.Refused(time.Hour, 0))
			run(c.begin)
			refusedBy(t, s, ref, c.name, c.reads)
			if last := s.Refused(time.Hour, 0); last == nil || !strings.Contains(last.Error(), c.name) || s.Refused(0, 0) != nil ||
				s.Refused(time.Hour, time.Hour) != nil {
				t.Errorf("the last refusal is %v, want %s", last, c.name)
			}
			run(c.end)
			shop.levels(ref, 5, 0, 0, 0, 0)
			shop.holds(ref, "after", inventory.Held)
		})
	}
}

// refusedBy makes calls that a reply refuses, and fails if the outcome of one is unknown.
func refusedBy(t *testing.T, s *inventory.Stock, ref inventory.Ref, word string, reads bool) {
	t.Helper()
	_, held := claim(t, s, ref, hold("a", "u-a", 1))
	_, restocked := s.Restock(t.Context(), ref, []inventory.Restock{{Item: sold, ID: "r", Units: 1}})
	_, read := numbersOf(t.Context(), s, ref.Shard)
	for what, err := range map[string]error{"hold": held, "restock": restocked, "levels": read} {
		if what == "levels" && reads {
			no(t, what, err)
			continue
		}
		var unknown *inventory.UnknownError
		if meaning := inventory.ReplyOf(err); meaning != inventory.ReplyWait && meaning != inventory.ReplyRefused || errors.As(err, &unknown) {
			t.Errorf("%s: %v, which means %v, want %s", what, err, meaning, word)
		}
	}
}

// A script that runs for too long blocks the server for all others.
func TestReplyOf_ABusyServer(t *testing.T) {
	n := newNode(t, servers.Redis(t, "--busy-reply-threshold", "1"))
	s := openStock(t, inventory.Config{Addrs: []string{n.Addr}})
	ref := inventory.Ref{Shard: 1, Epoch: 5}
	shop := sale{t, s}
	shop.rebuilt(ref, 5)
	killed := inBackground(t, n, "EVAL", "while true do end", "0")
	until(t, "a call is refused", func() bool { return refusedWith(t, s, ref, "BUSY") })
	refusedBy(t, s, ref, "BUSY", false)
	no(t, "kill the script", n.ask(t, "SCRIPT", "KILL").Error())
	killed()
	shop.levels(ref, 5, 0, 0, 0, 0)
	shop.holds(ref, "after", inventory.Held)
}

// A server that loads its data, as after a start, refuses calls.
func TestReplyOf_ALoadingServer(t *testing.T) {
	n := newNode(t, servers.Redis(t, "--enable-debug-command", "local", "--loading-process-events-interval-bytes", "1024"))
	s := openStock(t, inventory.Config{Addrs: []string{n.Addr}})
	ref := inventory.Ref{Shard: 1, Epoch: 5}
	shop := sale{t, s}
	shop.rebuilt(ref, 5)
	no(t, "fill", n.ask(t, "DEBUG", "POPULATE", "500", "filler", "1024").Error())
	no(t, "slow down", n.ask(t, "CONFIG", "SET", "key-load-delay", "20000").Error())
	loaded := inBackground(t, n, "DEBUG", "RELOAD")
	until(t, "a call is refused", func() bool { return refusedWith(t, s, ref, "LOADING") })
	refusedBy(t, s, ref, "LOADING", false)
	no(t, "speed up", n.ask(t, "CONFIG", "SET", "key-load-delay", "0").Error())
	loaded()
	shop.levels(ref, 5, 0, 0, 0, 0)
	shop.holds(ref, "after", inventory.Held)
}

// A Cluster with unassigned slots refuses calls.
func TestReplyOf_AClusterThatIsDown(t *testing.T) {
	n := newNode(t, servers.Redis(t, "--cluster-enabled", "yes", "--cluster-port", servers.FreePort(t)))
	slots := func(command string) {
		no(t, command, n.ask(t, "CLUSTER", command, "0", "16383").Error())
	}
	isOK := func() bool { return n.field(t, "cluster_state", "CLUSTER", "INFO") == "ok" }
	slots("ADDSLOTSRANGE")
	until(t, "the Cluster is up", isOK)
	s := openStock(t, inventory.Config{Addrs: []string{n.Addr}})
	ref := inventory.Ref{Shard: 1, Epoch: 5}
	shop := sale{t, s}
	shop.rebuilt(ref, 5)
	slots("DELSLOTSRANGE")
	refusedBy(t, s, ref, "CLUSTERDOWN", false)
	slots("ADDSLOTSRANGE")
	until(t, "the Cluster is up", isOK)
	shop.eventually(ref, "after")
	shop.levels(ref, 4, 1, 0, 1, 1)
}

// inBackground sends a command on a connection of its own. The result waits for its end.
func inBackground(t *testing.T, n *node, command ...string) (wait func()) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", n.Addr)
	no(t, "dial", err)
	t.Cleanup(func() { _ = conn.Close() })
	text := "*" + strconv.Itoa(len(command)) + "\r\n"
	for _, word := range command {
		text += "$" + strconv.Itoa(len(word)) + "\r\n" + word + "\r\n"
	}
	_, err = conn.Write([]byte(text))
	no(t, "send", err)
	return func() {
		_, err := bufio.NewReader(conn).ReadString('\n')
		no(t, "read the answer", err)
	}
}

// numbersOf reads a shard's numbers by the script, alone.
func numbersOf(ctx context.Context, s *inventory.Stock, shard inventory.ShardID) (inventory.Numbers, error) {
	numbers, _, err := s.ItemNumbers(ctx, shard, nil)
	return numbers, err
}

// refusedWith reports whether Redis refuses a read with this word. A timeout counts as neither.
func refusedWith(t *testing.T, s *inventory.Stock, ref inventory.Ref, word string) bool {
	_, err := numbersOf(t.Context(), s, ref.Shard)
	return err != nil && strings.Contains(err.Error(), word)
}

// A server with little free memory reports it before it refuses calls in flight.
func TestFull_OnARealServer(t *testing.T) {
	n := newNode(t, servers.Redis(t))
	s := openStock(t, inventory.Config{Addrs: []string{n.Addr}})
	for limit, want := range map[string]bool{"1": true, "0": false, "1gb": false, "100kb": true} {
		no(t, "set maxmemory", n.ask(t, "CONFIG", "SET", "maxmemory", limit).Error())
		no(t, "look", s.Ready(t.Context()))
		if s.Full(3) != want || len(s.Servers()) != 1 || s.Servers()[0].Full() != want {
			t.Errorf("maxmemory %s: %t, %+v", limit, s.Full(3), s.Servers())
		}
	}
}
