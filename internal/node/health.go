package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/inventory"
)

// health is the known state of this process, of its servers and of the shards. Both listeners use
// it for their answers (gateway.Health), and a loop updates it.
type health struct {
	// Fixed before the listeners serve.
	hasCatalog func() bool
	settings   standing

	draining atomic.Bool
	disk     atomic.Pointer[error] // why the embedded parts can't write; nil if they can
	report   atomic.Pointer[report]
	since    map[string]serverState // by server and instance; used by the loop only

	mu   sync.Mutex
	next int          // the shard to check next; guarded by mu
	open []shardState // guarded by mu: by shard
}

// serverState is the state of a server. Its JSON is a part of /readyz?verbose.
type serverState struct {
	Server   string `json:"server"`
	Instance string `json:"instance"`
	State    string `json:"state"`
	Since    string `json:"since"`
	Detail   string `json:"detail"`
}

// The states of a server: a degraded server answers only in part.
const (
	serverOK       = "ok"
	serverDegraded = "degraded"
	serverAway     = "away"
)

// shardState is the last known state of a shard.
type shardState uint8

const (
	shardUnknown shardState = iota
	shardOpen
	shardClosed
	shardRebuilding
)

// shardCounts counts shards by their state. A shard that is being rebuilt is closed, too, but is
// counted once.
type shardCounts struct {
	Open       int `json:"open"`
	Closed     int `json:"closed"`
	Rebuilding int `json:"rebuilding"`
}

// allOpen reports whether there are shards, and all of them are open.
func (c shardCounts) allOpen() bool { return c.Open > 0 && c.Closed+c.Rebuilding == 0 }

// report is the answer to /readyz?verbose.
type report struct {
	Ready    bool          `json:"ready"`
	Draining bool          `json:"draining"`
	Servers  []serverState `json:"servers"`
	Shards   shardCounts   `json:"shards"`
}

// maxServers bounds the answer.
const maxServers = 100

func newHealth() *health {
	h := &health{hasCatalog: func() bool { return false }, since: make(map[string]serverState)}
	h.report.Store(&report{Servers: []serverState{}})
	return h
}

// standing is the state of this process's settings; *settings.Watcher implements it.
type standing interface {
	Known() bool   // whether it has settings, or had some
	Drained() bool // whether an operator drained it
}

// Missing names what this process lacks to answer buyers; "" if it lacks nothing.
func (h *health) Missing() string {
	switch {
	case h.draining.Load():
		return "draining"
	case !h.hasCatalog():
		return "no catalog"
	case !h.settings.Known():
		return "no settings"
	case h.settings.Drained():
		return "drained by an operator"
	}
	if err := h.disk.Load(); err != nil {
		return "data-dir: " + (*err).Error()
	}
	return ""
}

// AppendReport appends the document of /readyz?verbose.
func (h *health) AppendReport(dst []byte, ready, draining bool) []byte {
	r := *h.report.Load()
	r.Ready, r.Draining = ready, draining
	text, err := json.Marshal(&r)
	if err != nil { // this node has nothing that can fail to be written
		return append(dst, "{}"...)
	}
	return append(dst, text...)
}

// healthEvery is how often servers and shards are checked, shardsPerLook is how many shards are
// asked at each look, and lookTimeout bounds a look.
const (
	healthEvery   = time.Second
	shardsPerLook = 64
	lookTimeout   = time.Second
)

// A process that has just started knows nothing of its shards yet, and it is then that people ask
// it. So it looks more often at first, until it has seen all of them open.
const (
	firstEvery = 50 * time.Millisecond
	firstLooks = 100
)

// nextLook is how long it is from one look to the next, after so many. wereOpen means that one of
// them has found all shards open.
func nextLook(looks int, wereOpen bool) time.Duration {
	if wereOpen || looks >= firstLooks {
		return healthEvery
	}
	return firstEvery
}

// watchHealth keeps the report until ctx ends.
func (n *Node) watchHealth(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	wereOpen, last := false, time.Now()
	for looks := 1; ; looks++ {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		if began.Sub(last) > databaseSilent { // this process stood still: nobody has tried to read the rows
			n.sale.followed.Set(began)
		}
		last = began
		look, cancel := context.WithTimeout(ctx, lookTimeout)
		shards, err := n.lookAtShards(look, shardsPerLook)
		cancel()
		n.health.report.Store(&report{Servers: n.lookAtServers(err), Shards: shards})
		wereOpen = wereOpen || shards.allOpen()
		timer.Reset(nextLook(looks, wereOpen) - time.Since(began))
	}
}

// lookAtShards asks some shards for their state, different ones in turn, and counts all.
func (n *Node) lookAtShards(ctx context.Context, some int) (counts shardCounts, err error) {
	h, rows := n.health, n.sale.Rows()
	h.mu.Lock() // only one look at a time, also at the stock
	defer h.mu.Unlock()
	if len(h.open) != len(rows) {
		h.open = make([]shardState, len(rows))
	}
	next := make([]int, min(some, len(rows)))
	shards := make([]inventory.ShardID, len(next))
	for j := range next {
		next[j] = h.next % len(rows)
		h.next = next[j] + 1
		shards[j] = rows[next[j]].Ref.Shard
	}
	all, errs := n.servers.stock.AllNumbers(ctx, shards)
	for j, i := range next {
		levels := all[j]
		switch {
		case errs[j] != nil:
			err = errs[j]
			h.open[i] = shardUnknown
		case !levels.Closed && levels.Epoch > 0 && levels.Epoch >= rows[i].Ref.Epoch:
			h.open[i] = shardOpen
		case rows[i].NextEpoch > rows[i].Ref.Epoch || levels.Closed:
			h.open[i] = shardRebuilding
		default:
			h.open[i] = shardClosed
		}
		n.observed.shard(rows[i].Ref.Shard, levels, errs[j])
	}
	for _, state := range h.open {
		switch state {
		case shardOpen:
			counts.Open++
		case shardRebuilding:
			counts.Rebuilding++
		default:
			counts.Closed++
		}
	}
	return counts, err
}

// lookAtServers returns the state of each server, the worst first. stock is the error from asking a
// shard.
func (n *Node) lookAtServers(stock error) []serverState {
	states := slices.Concat(n.redisStates(stock), n.kafkaStates(), n.databaseStates(), n.settingsStates())
	seen := make(map[string]serverState, len(states))
	for i := range states {
		s := &states[i]
		key := s.Server + " " + s.Instance
		if before, ok := n.health.since[key]; ok && before.State == s.State {
			s.Since = before.Since
		} else {
			s.Since = time.Now().UTC().Format(problem.TimeFormat)
		}
		seen[key] = *s
	}
	n.health.since = seen
	rank := map[string]int{serverAway: 0, serverDegraded: 1, serverOK: 2}
	slices.SortStableFunc(states, func(a, b serverState) int { return cmp.Compare(rank[a.State], rank[b.State]) })
	return states[:min(len(states), maxServers)]
}

func stateOf(server, instance, state, detail string) serverState {
	return serverState{Server: server, Instance: instance, State: state, Detail: detail}
}

// refusedFor is for how long a refusal by Redis or PostgreSQL counts. refusedLeast is for how long
// refusals must have come before the server counts as away. Each node writes there at least once a
// second.
const (
	refusedFor   = 3 * time.Second
	refusedLeast = 300 * time.Millisecond
)

// redisStates are one for each server of the Redis.
func (n *Node) redisStates(asked error) (states []serverState) {
	servers, refused := n.servers.stock.Servers(), n.servers.stock.Refused(refusedFor, refusedLeast)
	for _, server := range servers {
		state, detail := serverOK, ""
		switch {
		case server.Err != nil:
			state, detail = serverAway, server.Err.Error()
		case refused != nil && len(servers) == 1:
			state, detail = serverAway, "it refuses: "+refused.Error()
		case asked != nil && len(servers) == 1: // it was well at the last look at it, and isn't now
			state, detail = serverAway, asked.Error()
		case server.Full():
			state = serverDegraded
			detail = fmt.Sprintf("%d MB of %d MB (maxmemory) are used: new purchases are refused", server.Used>>20, server.Max>>20)
		}
		states = append(states, stateOf("redis", server.Addr, state, detail))
	}
	switch {
	case refused != nil && len(states) > 1: // it isn't known which one
		states = append(states, stateOf("redis", "", serverDegraded, "one of them refuses: "+refused.Error()))
	case len(states) == 0 && asked != nil:
		states = append(states, stateOf("redis", "", serverAway, asked.Error()))
	case len(states) == 0:
		// No shard is known yet, so none was asked.
		state, detail := serverOK, ""
		if err := n.servers.stock.Reached(); err != nil {
			state, detail = serverAway, err.Error()
		}
		states = append(states, stateOf("redis", "", state, detail))
	}
	return states
}

// kafkaStates has one state for Kafka, and one for each partition that isn't healthy.
func (n *Node) kafkaStates() (states []serverState) {
	partitions, down := n.servers.queue.Partitions(), 0
	for i := range partitions {
		p := &partitions[i]
		if p.Health == "well" {
			continue
		}
		down++
		states = append(states, stateOf("kafka", fmt.Sprintf("partition %d", p.Partition), serverDegraded, fmt.Sprint(p.Health, ": ", p.Err)))
	}
	state, detail := serverOK, ""
	if problems := n.servers.queue.Problems(); len(problems) > 0 {
		state, detail = serverDegraded, problems[0]
	}
	if down == len(partitions) {
		state = serverAway
	}
	return append(states, stateOf("kafka", "", state, detail))
}

// databaseSilent is how long the database may say nothing until it counts as away, and
// databaseFails how long each call may fail. With a long tick it is two ticks, because a single
// failed call proves little.
const (
	databaseSilent = 3 * time.Second
	databaseFails  = time.Second
)

// databaseStates has one state for the database, and one for the catalog.
func (n *Node) databaseStates() []serverState {
	state, detail := serverAway, ""
	silent, _ := n.sale.followed.Age()
	_, closed := n.servers.database.store()
	failing, refused := n.sale.failing.Load(), n.servers.database.refused(refusedFor, refusedLeast)
	switch {
	case closed != nil:
		detail = closed.Error()
	case failing != nil && silent > max(databaseFails, 2*n.cfg.Sale.Tick):
		detail = "the shards' rows can't be read: " + (*failing).Error()
	case silent > databaseSilent+n.cfg.Sale.Tick:
		detail = "the shards' rows can't be read"
	case refused != nil:
		detail = "it refuses: " + refused.Error()
	default:
		state = serverOK
	}
	catalog := stateOf("catalog", "", serverOK, "")
	if !n.health.hasCatalog() {
		catalog = stateOf("catalog", "", serverAway, "there is none: it was never loaded")
	}
	return []serverState{stateOf("database", "", state, detail), catalog}
}

// settingsStates has the state of the settings: newest, kept from before, or missing.
func (n *Node) settingsStates() []serverState {
	switch s := n.control.watcher.State(); {
	case !s.Known:
		return []serverState{stateOf("settings", "", serverAway, "this process has none yet, and serves no buyer before it has: "+s.Away.Error())}
	case s.Away != nil:
		return []serverState{stateOf("settings", "", serverDegraded, "those from before are in force: "+s.Away.Error())}
	case s.Waiting > 0:
		return []serverState{stateOf("settings", "", serverDegraded, fmt.Sprintf("%d changes wait to be recorded", s.Waiting))}
	}
	return []serverState{stateOf("settings", "", serverOK, "")}
}

// clockEvery is how often the database's clock is looked at.
const clockEvery = time.Second

// watchClock tells the desk how far the database's clock is ahead, until ctx ends, because sales
// begin and end by that clock.
func (n *Node) watchClock(ctx context.Context) {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		n.lookAtClock(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// clockSlack is how much a new reading must differ from the last one to count, because a call takes
// about that long.
const clockSlack = 20 * time.Millisecond

func (n *Node) lookAtClock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Sale.StoreTimeout)
	defer cancel()
	began := time.Now()
	now, err := n.servers.database.now(ctx)
	took := time.Since(began)
	if err != nil || took > 10*clockSlack { // the reading is too inexact
		return
	}
	ahead := now.Sub(began.Add(took / 2))
	if before := n.sale.ahead.Load(); max(ahead-time.Duration(before), time.Duration(before)-ahead) < clockSlack {
		return
	}
	n.sale.ahead.Store(int64(ahead))
	n.sale.Desk.SetOffset(ahead)
}

// lookAtQueue returns how far the workers have read each partition.
func (n *Node) lookAtQueue(ctx context.Context) ([]admin.Partition, error) {
	progress, err := n.servers.queue.Progress(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]admin.Partition, len(progress))
	for i := range progress {
		p := &progress[i]
		out[i] = admin.Partition{Number: p.Partition, Next: p.Next, Start: p.Start, End: p.End, Behind: p.Behind(), State: "ok"}
		switch {
		case p.Err != nil:
			out[i].State, out[i].Detail = "unknown", p.Err.Error()
		case p.Lost():
			out[i].State, out[i].Detail = "lost", "the log is not the one that was read before"
		}
	}
	return out, nil
}
