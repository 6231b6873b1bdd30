package inventory_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/penstock/penstock/internal/proof/servers"
	"github.com/penstock/penstock/internal/proof/stocktest"
	"github.com/penstock/penstock/inventory"
)

// patience bounds each wait for background work. It is far longer than any of that work, so only a
// hang reaches it.
const patience = 60 * time.Second

// until waits until ok is true.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("still not so after %v: %s", patience, what)
		case <-look.C:
		}
	}
}

// no fails if there is an error.
func no(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// node is one of several redis-servers.
type node struct {
	*servers.Server
	client rueidis.Client // to this one and no other
}

func newNode(t testing.TB, server *servers.Server) *node {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{server.Addr}, ForceSingleClient: true, DisableCache: true, AlwaysRESP2: true,
	})
	no(t, "connect to "+server.Addr, err)
	t.Cleanup(client.Close)
	return &node{server, client}
}

// ask makes a command that must succeed.
func (n *node) ask(t testing.TB, command ...string) rueidis.RedisResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := n.client.Do(ctx, n.client.B().Arbitrary(command...).Build())
	no(t, strings.Join(command, " "), r.Error())
	return r
}

// field returns the value behind "name:" in an answer of lines, "" if it isn't there.
func (n *node) field(t testing.TB, name string, command ...string) string {
	t.Helper()
	text, err := n.ask(t, command...).ToString()
	no(t, strings.Join(command, " "), err)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value
		}
	}
	return ""
}

// newCluster starts a Redis Cluster of three primaries, each with a third of the slots.
func newCluster(t *testing.T) []*node {
	t.Helper()
	var nodes []*node
	var buses []string
	for range 3 {
		bus := servers.FreePort(t) // by default it is 10,000 above the port, which may be none
		// The rest of a Cluster goes on only if full coverage isn't required.
		nodes = append(nodes, newNode(t, servers.Redis(t, "--cluster-enabled", "yes", "--cluster-port", bus,
			"--cluster-require-full-coverage", "no")))
		buses = append(buses, bus)
	}
	for i, n := range nodes {
		first, last := 16384*i/len(nodes), 16384*(i+1)/len(nodes)-1
		n.ask(t, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		n.ask(t, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last))
	}
	for i, n := range nodes[1:] {
		host, port, err := net.SplitHostPort(n.Addr)
		no(t, n.Addr, err)
		nodes[0].ask(t, "CLUSTER", "MEET", host, port, buses[i+1])
	}
	for _, n := range nodes {
		until(t, n.Addr+" knows the whole Cluster", func() bool {
			return n.field(t, "cluster_state", "CLUSTER", "INFO") == "ok" &&
				n.field(t, "cluster_slots_ok", "CLUSTER", "INFO") == "16384" && n.field(t, "cluster_size", "CLUSTER", "INFO") == "3"
		})
	}
	return nodes
}

// refsOn returns perNode shards of each node.
func refsOn(t *testing.T, nodes []*node, perNode int) [][]inventory.Ref {
	t.Helper()
	refs := make([][]inventory.Ref, len(nodes))
	for shard, found := inventory.ShardID(0), 0; found < perNode*len(nodes); shard++ {
		slot, err := nodes[0].ask(t, "CLUSTER", "KEYSLOT", fmt.Sprintf("ps:{ps.%d}:shard", shard)).ToInt64()
		no(t, "slot", err)
		i := slices.IndexFunc([]int{0, 1, 2}, func(i int) bool { return int(slot) < 16384*(i+1)/len(nodes) })
		if len(refs[i]) < perNode {
			refs[i] = append(refs[i], inventory.Ref{Shard: shard, Epoch: 1})
			found++
		}
	}
	return refs
}

// ear collects the callbacks of a Stock.
type ear struct {
	mu    sync.Mutex
	lost  map[inventory.Ref]bool
	back  map[inventory.ShardID]bool // by the last crossing
	rings map[string]bool
	doubt map[inventory.ShardID]bool // by OnSuspect
}

// listening returns cfg with its callbacks set.
func listening(cfg inventory.Config) (*ear, inventory.Config) {
	e := &ear{
		lost: make(map[inventory.Ref]bool), back: make(map[inventory.ShardID]bool), rings: make(map[string]bool),
		doubt: make(map[inventory.ShardID]bool),
	}
	cfg.OnLost = func(ref inventory.Ref) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.lost[ref] = true
	}
	cfg.OnCrossing = func(shard inventory.ShardID, _ inventory.ItemID, inStock bool) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.back[shard] = inStock
	}
	cfg.OnSuspect = func(shards []inventory.ShardID) {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, shard := range shards {
			e.doubt[shard] = true
		}
	}
	cfg.OnRing = func(message string) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.rings[message] = true
	}
	return e, cfg
}

// heard reports whether the ring was heard.
func (e *ear) heard(ring string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rings[ring]
}

// heardBack reports whether a callback said that the shard's item is back in stock.
func (e *ear) heardBack(shard inventory.ShardID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.back[shard]
}

// doubts reports whether a callback said that the shard is suspect.
func (e *ear) doubts(shard inventory.ShardID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.doubt[shard]
}

// lostRefs returns the shards that OnLost was called for.
func (e *ear) lostRefs() map[inventory.Ref]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.lost)
}

// sale makes calls that must succeed.
type sale struct {
	*testing.T
	*inventory.Stock
}

// sold is the item of each shard.
const sold inventory.ItemID = 1

// hold returns a hold of the item.
func hold(id, buyer string, quantity int) inventory.Hold {
	return stocktest.Named(sold, id, buyer, quantity)
}

// claim makes one claim.
func claim(t testing.TB, s *inventory.Stock, ref inventory.Ref, h inventory.Hold) (inventory.Verdict, error) {
	call := &inventory.HoldCall{Ref: ref, Claims: []inventory.Claim{{Hold: h, Limit: 1}}}
	s.Hold(t.Context(), []*inventory.HoldCall{call})
	if call.Err != nil {
		return 0, call.Err
	}
	return call.Verdicts[0], nil
}

// rebuilt opens a shard with so many units.
func (s sale) rebuilt(ref inventory.Ref, units int64) {
	s.Helper()
	no(s, "close", s.Stock.Close(s.Context(), ref))
	no(s, "load", s.Load(s.Context(), ref, []inventory.Stocked{{Item: sold, Total: units, Available: units}}, nil))
	no(s, "open", s.Stock.Open(s.Context(), ref, 1, 0))
}

// holds takes a unit and fails if the verdict is none of want.
func (s sale) holds(ref inventory.Ref, id string, want ...inventory.Verdict) {
	s.Helper()
	verdict, err := claim(s, s.Stock, ref, hold(id, "u-"+id, 1))
	no(s, "hold "+id, err)
	if !slices.Contains(want, verdict) {
		s.Fatalf("shard %d, hold %s: verdict %d, want one of %d", ref.Shard, id, verdict, want)
	}
}

// eventually holds a unit as often as it takes to get an answer.
func (s sale) eventually(ref inventory.Ref, id string) {
	s.Helper()
	var last error
	defer func() {
		if s.Failed() {
			s.Logf("the last error: %v", last)
		}
	}()
	until(s, fmt.Sprintf("shard %d: %s is held", ref.Shard, id), func() bool {
		verdict, err := claim(s, s.Stock, ref, hold(id, "u-"+id, 1))
		if last = err; err != nil {
			return false
		}
		if !verdict.Fresh() { // an earlier try may have been executed
			s.Fatalf("shard %d, hold %s: verdict %d", ref.Shard, id, verdict)
		}
		return true
	})
}

// voids ends a hold of holds.
func (s sale) voids(ref inventory.Ref, id string) {
	s.Helper()
	no(s, "settle "+id, s.Settle(s.Context(), ref, []inventory.Settlement{{Hold: hold(id, "u-"+id, 1), Kind: inventory.SettleVoid}}))
}

// levels fails if the item's or the shard's numbers differ.
func (s sale) levels(ref inventory.Ref, available, held, gone, fresh, names int64) {
	s.Helper()
	l, items, err := s.ItemNumbers(s.Context(), ref.Shard, []inventory.ItemID{sold})
	no(s, "levels", err)
	want := inventory.ItemNumbers{Item: sold, Known: true, Available: available, Held: held, Sold: gone}
	if items[0] != want || l.Epoch != ref.Epoch || l.Closed || l.Fresh != fresh || l.Names != names {
		s.Fatalf("shard %d: %+v of %+v, want %+v, %d fresh, %d names", ref.Shard, items[0], l, want, fresh, names)
	}
}

// TestCluster_SellsOnEveryNode has shards of all nodes go through all calls, in rounds over all
// nodes.
func TestCluster_SellsOnEveryNode(t *testing.T) {
	nodes := newCluster(t)
	refs := slices.Concat(refsOn(t, nodes, 2)...)
	stock := openStock(t, inventory.Config{Addrs: []string{nodes[0].Addr}})
	s := sale{t, stock}
	for _, ref := range refs {
		s.rebuilt(ref, 20)
	}
	s.Watch(refs)
	held := rush(t, stock, refs, 30)
	for _, ref := range refs {
		holds := held[ref]
		if len(holds) != 20 {
			t.Fatalf("shard %d: %d units held of 20", ref.Shard, len(holds))
		}
		s.levels(ref, 0, 20, 0, 20, 20)
		for _, h := range holds {
			if e, err := s.Find(t.Context(), ref, sold, h.ID); err != nil || e.Hold != h || e.State != inventory.Fresh {
				t.Fatalf("find %+v: %+v, %v", h, e, err)
			}
		}
		no(t, "confirm", s.Confirm(t.Context(), ref, holds))
		s.levels(ref, 0, 20, 0, 0, 20)
		var ends []inventory.Settlement
		for i, h := range holds[:15] {
			kind := inventory.SettleSold
			if i < 5 {
				kind = inventory.SettleVoid
			}
			ends = append(ends, inventory.Settlement{Hold: h, Kind: kind})
		}
		no(t, "settle", s.Settle(t.Context(), ref, ends))
		for range 2 {
			applied, err := s.Restock(t.Context(), ref, []inventory.Restock{{Item: sold, ID: "r1", Units: 3}})
			if err != nil || !applied[0] {
				t.Fatalf("restock: %v, %v", applied, err)
			}
		}
		s.levels(ref, 8, 5, 10, 0, 20)
	}
	lanes := map[int]int{}
	for _, ref := range refs {
		lanes[s.Lane(ref.Shard)]++
	}
	if !maps.Equal(lanes, map[int]int{0: 2, 1: 2, 2: 2}) {
		t.Errorf("shards of lanes: %v", lanes)
	}
}

// rush has buyers hold a unit on each shard at the same moment, in rounds over all shards, and
// returns what was held.
func rush(t *testing.T, s *inventory.Stock, refs []inventory.Ref, buyers int) map[inventory.Ref][]inventory.Hold {
	t.Helper()
	var mu sync.Mutex
	held := make(map[inventory.Ref][]inventory.Hold)
	var wg sync.WaitGroup
	for buyer := range buyers {
		h := hold(fmt.Sprintf("o%d", buyer), fmt.Sprintf("u%d", buyer), 1)
		var calls []*inventory.HoldCall
		for _, ref := range refs {
			calls = append(calls, &inventory.HoldCall{Ref: ref, Claims: []inventory.Claim{{Hold: h, Limit: 1}}})
		}
		wg.Go(func() {
			s.Hold(t.Context(), calls)
			mu.Lock()
			defer mu.Unlock()
			for _, c := range calls {
				switch {
				case c.Err != nil || c.Verdicts[0] != inventory.Held && c.Verdicts[0] != inventory.SoldOut:
					t.Errorf("shard %d, hold %s: %v, %v", c.Ref.Shard, h.ID, c.Verdicts, c.Err)
				case c.Verdicts[0] == inventory.Held:
					held[c.Ref] = append(held[c.Ref], h)
				}
			}
		})
	}
	wg.Wait()
	return held
}

// TestCluster_IsHeardAcrossNodes has a process that can't read keys. It learns everything from the
// other's messages, with each of them connected to any node.
func TestCluster_IsHeardAcrossNodes(t *testing.T) {
	nodes := newCluster(t)
	refs := slices.Concat(refsOn(t, nodes, 1)...)
	for _, n := range nodes {
		n.ask(t, "ACL", "SETUSER", "listener", "on", ">secret", "resetkeys", "allchannels", "+@all")
	}
	addrs := []string{nodes[0].Addr, nodes[1].Addr, nodes[2].Addr}
	nearEar, cfg := listening(inventory.Config{Addrs: addrs})
	near := sale{t, openStock(t, cfg)}
	farEar, cfg := listening(inventory.Config{Addrs: addrs[1:2], Username: "listener", Password: "secret"})
	far := openStock(t, cfg)
	for _, ref := range refs {
		near.rebuilt(ref, 1)
	}
	near.Watch(refs)
	far.Watch(refs)
	for _, ref := range refs {
		if _, err := numbersOf(t.Context(), far, ref.Shard); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Fatalf("the listener may read shard %d: %v", ref.Shard, err)
		}
		inStock := func() bool {
			in, _ := far.InStock(ref.Shard, sold)
			return in
		}
		crossings := 0
		id := func() string { return fmt.Sprint("o", crossings) }
		near.holds(ref, id(), inventory.Held)
		// Everything is sent again with each look, because a message is lost while a subscription
		// is being renewed.
		until(t, fmt.Sprintf("shard %d is heard to be sold out", ref.Shard), func() bool {
			if !inStock() {
				return true
			}
			near.voids(ref, id())
			crossings++
			near.holds(ref, id(), inventory.Held)
			return false
		})
		near.voids(ref, id())
		until(t, fmt.Sprintf("shard %d is heard to be back", ref.Shard), func() bool {
			if farEar.heardBack(ref.Shard) && inStock() {
				return true
			}
			crossings++
			near.holds(ref, id(), inventory.Held)
			near.voids(ref, id())
			return false
		})
	}
	ringBoth(t, near.Stock, nearEar, farEar)
	ringBoth(t, far, nearEar, farEar)
}

// ringBoth rings until all have heard it.
func ringBoth(t *testing.T, s *inventory.Stock, ears ...*ear) {
	t.Helper()
	message := fmt.Sprintf("from %p", s)
	until(t, "the ring is heard by all", func() bool {
		if !slices.ContainsFunc(ears, func(e *ear) bool { return !e.heard(message) }) {
			return true
		}
		s.Ring(message)
		return false
	})
}

// TestCluster_OneNodeHangs stops a node: its shards answer errors, the others sell on, and nothing
// is sold twice afterwards.
func TestCluster_OneNodeHangs(t *testing.T) {
	nodes := newCluster(t)
	refs := refsOn(t, nodes, 3)
	e, cfg := listening(inventory.Config{Addrs: []string{nodes[2].Addr}})
	s := sale{t, openStock(t, cfg)}
	all := slices.Concat(refs...)
	for _, ref := range all {
		s.rebuilt(ref, 100)
	}
	watched := slices.DeleteFunc(slices.Clone(all), func(ref inventory.Ref) bool { return ref == refs[0][1] || ref == refs[1][1] })
	s.Watch(watched)
	for _, ref := range all {
		s.holds(ref, "before", inventory.Held)
	}
	nodes[0].Pause()
	// The last shard of the node is for a close, which may be executed after the node goes on.
	rebuilt := inventory.Ref{Shard: refs[0][2].Shard, Epoch: 2}
	for round := range 3 {
		if round == 2 {
			agreeThatOneFailed(t, nodes[1:])
		}
		for call, err := range callsOn(t, s.Stock, refs[0][:2], rebuilt) {
			if err == nil {
				t.Errorf("round %d: %s succeeded on a node that hangs", round, call)
			}
		}
		for _, ref := range slices.Concat(refs[1:]...) {
			s.holds(ref, fmt.Sprint("meanwhile", round), inventory.Held)
		}
	}
	nodes[0].Resume()
	for _, ref := range refs[0][:2] {
		s.eventually(ref, "hung")
		s.holds(ref, "hung", inventory.HeldAgain)
		s.holds(ref, "before", inventory.HeldAgain)
		s.holds(ref, "after", inventory.Held)
		s.levels(ref, 97, 3, 0, 3, 3)
	}
	for _, ref := range slices.Concat(refs[1:]...) {
		s.levels(ref, 96, 4, 0, 4, 4)
	}
	until(t, "the close is answered", func() bool { return s.Stock.Close(t.Context(), rebuilt) == nil })
	s.rebuilt(rebuilt, 7)
	s.levels(rebuilt, 7, 0, 0, 0, 0)
	if lost := e.lostRefs(); len(lost) > 0 {
		t.Errorf("%v were lost", lost)
	}
}

// agreeThatOneFailed waits until the remaining nodes have marked the hanging one as failed. Without
// the requirement of full coverage they still serve their own slots.
func agreeThatOneFailed(t *testing.T, left []*node) {
	t.Helper()
	const name = "cluster-node-timeout"
	before, err := left[0].ask(t, "CONFIG", "GET", name).AsStrMap()
	no(t, name, err)
	for _, n := range left {
		n.ask(t, "CONFIG", "SET", name, "2000")
	}
	for _, n := range left {
		until(t, n.Addr+" has given up the node that hangs", func() bool { return n.field(t, "cluster_slots_fail", "CLUSTER", "INFO") != "0" })
	}
	for _, n := range left { // otherwise on a slow machine they mark each other as failed
		n.ask(t, "CONFIG", "SET", name, before[name])
	}
	for _, n := range left {
		until(t, n.Addr+" goes on", func() bool { return n.field(t, "cluster_state", "CLUSTER", "INFO") == "ok" })
	}
}

// callsOn makes calls on each of refs, and a close, and returns their errors. It fails if a call
// lasts as long as the test.
func callsOn(t *testing.T, s *inventory.Stock, refs []inventory.Ref, rebuilt inventory.Ref) map[string]error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var mu sync.Mutex
	errs := make(map[string]error)
	var wg sync.WaitGroup
	call := func(name string, make func() error) {
		wg.Go(func() {
			err := make()
			mu.Lock()
			defer mu.Unlock()
			errs[name] = err
		})
	}
	for _, ref := range refs {
		of := fmt.Sprintf(" of shard %d", ref.Shard)
		call("hold"+of, func() error {
			c := &inventory.HoldCall{Ref: ref, Claims: []inventory.Claim{{Hold: hold("hung", "u-hung", 1), Limit: 1}}}
			s.Hold(ctx, []*inventory.HoldCall{c})
			return c.Err
		})
		call("find"+of, func() error {
			_, err := s.Find(ctx, ref, sold, hold("before", "u-before", 1).ID)
			return err
		})
		call("levels"+of, func() error {
			_, err := numbersOf(ctx, s, ref.Shard)
			return err
		})
	}
	call("close", func() error { return s.Close(ctx, rebuilt) })
	wg.Wait()
	if err := ctx.Err(); err != nil {
		t.Fatalf("the calls took longer than %v: %v", patience, errs)
	}
	return errs
}

// TestCluster_OneNodeForgets empties a node: its shards are lost, the others untouched.
func TestCluster_OneNodeForgets(t *testing.T) {
	nodes := newCluster(t)
	refs := refsOn(t, nodes, 2)
	e, cfg := listening(inventory.Config{Addrs: []string{nodes[0].Addr}})
	s := sale{t, openStock(t, cfg)}
	all := slices.Concat(refs...)
	for _, ref := range all {
		s.rebuilt(ref, 5)
	}
	s.Watch(all)
	for _, ref := range all {
		s.holds(ref, "o1", inventory.Held)
	}
	nodes[1].ask(t, "FLUSHALL")
	for _, ref := range refs[1] {
		if verdict, err := claim(t, s.Stock, ref, hold("o1", "u-o1", 1)); !errors.Is(err, inventory.ErrLost) {
			t.Errorf("shard %d: %d, %v", ref.Shard, verdict, err)
		}
		until(t, "OnLost", func() bool { return e.lostRefs()[ref] })
	}
	for _, ref := range slices.Concat(refs[0], refs[2]) {
		s.holds(ref, "o1", inventory.HeldAgain)
		s.holds(ref, "o2", inventory.Held)
		s.levels(ref, 3, 2, 0, 2, 2)
	}
	if lost := e.lostRefs(); len(lost) != len(refs[1]) {
		t.Errorf("%v were lost, want %v", lost, refs[1])
	}
	for _, ref := range refs[1] {
		ref.Epoch++
		s.rebuilt(ref, 4)
		s.holds(ref, "o2", inventory.Held)
		s.levels(ref, 3, 1, 0, 1, 1)
	}
}

// TestCluster_EveryNodeMustKeepItsKeys has one node of three that may evict.
func TestCluster_EveryNodeMustKeepItsKeys(t *testing.T) {
	nodes := newCluster(t)
	nodes[1].ask(t, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	s, err := inventory.Open(t.Context(), inventory.Config{Addrs: []string{nodes[0].Addr}})
	if err == nil {
		s.Stop()
	}
	var safety *inventory.SafetyError
	if !errors.As(err, &safety) || safety.Addr != nodes[1].Addr || safety.Value != "allkeys-lru" {
		t.Fatalf("open: %v", err)
	}
}

// TestL10_Cluster_OneNodeIsAwayAtTheStart opens a Cluster of which one node does not answer: the
// others sell.
func TestL10_Cluster_OneNodeIsAwayAtTheStart(t *testing.T) {
	nodes := newCluster(t)
	refs := refsOn(t, nodes, 1)
	nodes[1].Pause()
	s := sale{t, openStock(t, inventory.Config{Addrs: []string{nodes[0].Addr}})}
	for _, i := range []int{0, 2} {
		s.rebuilt(refs[i][0], 5)
		s.holds(refs[i][0], "o1", inventory.Held)
	}
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), nodes[1].Addr) {
		t.Errorf("ready: %v", err)
	}
	if _, err := numbersOf(t.Context(), s.Stock, refs[1][0].Shard); err == nil {
		t.Error("a node that hangs answered")
	}
	nodes[1].Resume()
	until(t, "ready", func() bool { return s.Ready(t.Context()) == nil })
	s.rebuilt(refs[1][0], 5)
	s.holds(refs[1][0], "o1", inventory.Held)
}

// TestSentinel_ThePromotedReplicaSellsOn kills the primary when its replica has all holds. Both
// processes go on with the replica's data.
func TestSentinel_ThePromotedReplicaSellsOn(t *testing.T) {
	safely := []string{"--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"}
	primary := newNode(t, servers.Redis(t, append(safely, "--repl-diskless-sync-delay", "0")...))
	host, port, err := net.SplitHostPort(primary.Addr)
	no(t, primary.Addr, err)
	replica := newNode(t, servers.Redis(t, append(safely, "--replicaof", host, port)...))
	until(t, "the replica is filled", func() bool { return replica.field(t, "master_link_status", "INFO", "replication") == "up" })
	until(t, "the primary counts the replica", func() bool { return primary.field(t, "min_slaves_good_slaves", "INFO", "replication") == "1" })
	sentinel := newNode(t, servers.Sentinel(t, "sentinel monitor sale "+host+" "+port+" 1",
		"sentinel down-after-milliseconds sale 500", "sentinel failover-timeout sale 3000"))
	until(t, "the Sentinel knows the replica", func() bool {
		return strings.Contains(sentinel.field(t, "master0", "INFO", "sentinel"), "slaves=1")
	})

	cfg := inventory.Config{Addrs: []string{sentinel.Addr}, MasterName: "sale", MinReplicas: 1, MaxReplicaLag: 2 * time.Second}
	nearEar, nearCfg := listening(cfg)
	farEar, farCfg := listening(cfg)
	near, far := sale{t, openStock(t, nearCfg)}, sale{t, openStock(t, farCfg)}
	refs := []inventory.Ref{{Shard: 1, Epoch: 1}, {Shard: 2, Epoch: 1}}
	for _, ref := range refs {
		near.rebuilt(ref, 40)
	}
	near.Watch(refs)
	far.Watch(refs)
	held := rush(t, near.Stock, refs, 30)
	for _, ref := range refs {
		no(t, "confirm", near.Confirm(t.Context(), ref, held[ref][:10]))
		near.levels(ref, 10, 30, 0, 20, 30)
	}
	written := offset(t, primary, "master_repl_offset")
	until(t, "the replica has all that was written", func() bool { return offset(t, replica, "slave_repl_offset") >= written })

	no(t, "ready", near.Ready(t.Context())) // it knows the primary now
	primary.Kill()
	// A promoted server that requires a replica and has none refuses writes, so the operator has to
	// allow them.
	replica.ask(t, "CONFIG", "SET", "min-replicas-to-write", "0")
	for i, ref := range refs {
		near.eventually(ref, "near")
		far.eventually(ref, "far")
		for j, h := range held[ref] {
			want := inventory.HeldAgain
			if j < 10 {
				want = inventory.HeldOrdered
			}
			s := []sale{near, far}[j%2]
			if verdict, err := claim(t, s.Stock, ref, h); err != nil || verdict != want {
				t.Fatalf("shard %d, hold %s: %d, %v; want verdict %d", ref.Shard, h.ID, verdict, err, want)
			}
		}
		no(t, "settle", near.Settle(t.Context(), ref, []inventory.Settlement{{Hold: held[ref][i], Kind: inventory.SettleSold}}))
		far.levels(ref, 8, 31, 1, 22, 32)
	}
	promoted := newNode(t, replica.Server) // the Sentinel has cut the old connections
	if role := promoted.field(t, "role", "INFO", "replication"); role != "master" {
		t.Errorf("the replica is a %s", role)
	}
	until(t, "the other server is suspect", func() bool { return nearEar.doubts(1) && nearEar.doubts(2) })
	ringBoth(t, near.Stock, nearEar, farEar)
	ringBoth(t, far.Stock, nearEar, farEar)
	// A primary without a replica may be an old one after a failover, so its Close must not count.
	var unknown *inventory.UnknownError
	if err := near.Stock.Close(t.Context(), inventory.Ref{Shard: 1, Epoch: 2}); !errors.As(err, &unknown) {
		t.Errorf("a close without a replica: %v", err)
	}
	for _, e := range []*ear{nearEar, farEar} {
		if lost := e.lostRefs(); len(lost) > 0 {
			t.Errorf("%v were lost", lost)
		}
	}
}

// offset is how far a Redis has written its stream of replication, or followed it.
func offset(t *testing.T, n *node, name string) int64 {
	t.Helper()
	at, err := strconv.ParseInt(n.field(t, name, "INFO", "replication"), 10, 64)
	no(t, name, err)
	return at
}
