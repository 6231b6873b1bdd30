package inventory

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
	"time"

	"github.com/redis/rueidis"
)

// SafetyError means that a server's configuration is unsafe for stock: it may evict keys when its
// memory is full, or a replaced primary may take writes for longer than Config.MaxReplicaLag.
type SafetyError struct {
	Addr    string
	Setting string // the setting's name on the server
	Value   string
	Want    string
}

// Error implements error.
func (e *SafetyError) Error() string {
	return fmt.Sprintf("redis %s has %s %s and may lose stock: set it to %s", e.Addr, e.Setting, e.Value, e.Want)
}

// Server is the state of a server, at most about ten seconds old.
type Server struct {
	Addr    string
	Primary bool
	Used    int64 // memory, in bytes; 0 if the server doesn't say it
	Max     int64 // maxmemory, in bytes; 0 means as much as the machine has
	Err     error // nil if it answers and its configuration is safe
}

// fullPercent is how much of its maxmemory a server may have used before it is full.
const fullPercent = 90

// Full reports whether the memory of a primary is nearly used up. When maxmemory is reached, it
// takes no write at all: no order is confirmed, and no unit comes back.
func (s *Server) Full() bool { return s.Primary && s.Max > 0 && s.Used/fullPercent >= s.Max/100 }

// health is the known state of the servers.
type health struct {
	mu       sync.Mutex
	servers  map[string]Server    // guarded by mu
	warned   map[string]string    // the last logged state of each server; guarded by mu
	identity map[ShardID]identity // the server that had a watched shard at the last look; guarded by mu
	missing  error                // guarded by mu: why there is no client yet
	deaf     error                // guarded by mu: why crossings are not heard
}

func (h *health) init() {
	h.servers, h.warned = make(map[string]Server), make(map[string]string)
	h.identity = make(map[ShardID]identity)
	h.missing = errors.New("no attempt was made yet")
	h.deaf = h.missing
}

// identity names one run of a server process and the history of its data: it changes when the
// server restarts, or is replaced by another one.
type identity struct{ run, replication string }

// away records a failed attempt to connect.
func (h *health) away(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.missing = err
}

// why returns the reason why there is no client yet.
func (h *health) why() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.missing
}

// subscribed records whether the subscription to crossings works.
func (h *health) subscribed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf = err
}

// Servers returns the servers in the order of their addresses; it is empty before the Redis was
// reached.
func (s *Stock) Servers() []Server {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	var servers []Server
	for _, addr := range slices.Sorted(maps.Keys(s.health.servers)) {
		servers = append(servers, s.health.servers[addr])
	}
	return servers
}

// well reports whether all servers were well at the last look.
func (h *health) well() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for addr := range h.servers {
		if server := h.servers[addr]; server.Err != nil || server.Full() {
			return false
		}
	}
	return true
}

// passing are the first words of replies that are told while a slot moves, or a script is
// forgotten: the next call goes through.
var passing = map[string]bool{"TRYAGAIN": true, "MOVED": true, "ASK": true, "NOSCRIPT": true}

// noteRefusal keeps the refusal, and looks at the servers again: their memory may be full.
func (s *Stock) noteRefusal(err error) {
	refused, ok := rueidis.IsRedisErr(err)
	if !ok {
		return
	}
	if word, _, _ := strings.Cut(refused.Error(), " "); passing[word] {
		return
	}
	s.refusals.Note(refused)
	s.kick()
}

// Refused returns the error reply by which a server has refused a call within the last span, such
// as OOM or READONLY; nil if there was none. A run of refusals has to last for least: a single call
// may be refused by chance, and go through when it is tried again. A server that answers INFO may
// refuse all calls for stock.
func (s *Stock) Refused(span, least time.Duration) error {
	return s.refusals.Err(span, least)
}

// Reached returns why the Redis was not reached yet, nil if it was. It does no I/O.
func (s *Stock) Reached() error {
	_, err := s.conn()
	return err
}

// Ready looks at the servers and reports what is missing: the Redis, some of its servers, the
// channel of crossings, or a setting that a server needs to keep stock safely.
func (s *Stock) Ready(ctx context.Context) error {
	if err := s.checkRunning(); err != nil {
		return err
	}
	if _, err := s.conn(); err != nil {
		return err
	}
	err := s.examine(ctx)
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	if s.health.deaf != nil {
		err = errors.Join(err, fmt.Errorf("crossings are not heard: %w", s.health.deaf))
	}
	return err
}

// look is the result of asking one server.
type look struct {
	Server
	identity identity
	warning  string
}

// examine looks at all servers: whether they answer, how they are configured, and whether they are
// the same as before. If something is wrong, it returns an error.
func (s *Stock) examine(ctx context.Context) error {
	client, err := s.conn()
	if err != nil {
		return err
	}
	nodes := client.Nodes()
	looks := make(chan look, len(nodes))
	for addr, node := range nodes {
		go func() { looks <- s.look(ctx, addr, node) }()
	}
	s.survey(ctx, client)
	var all []look
	for range nodes {
		all = append(all, <-looks)
	}
	return s.note(all)
}

// look asks one server.
func (s *Stock) look(ctx context.Context, addr string, node rueidis.Client) look {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	l := look{Server: Server{Addr: addr}}
	info := make([]string, 3)
	for i, section := range []string{"server", "replication", "memory"} {
		text, err := node.Do(ctx, node.B().Info().Section(section).Build()).ToString()
		if refused, ok := rueidis.IsRedisErr(err); err != nil && !(ok && unsupported(refused)) {
			l.Err = fmt.Errorf("redis %s does not answer: %w", addr, err)
			return l
		}
		info[i] = text
	}
	role, told := infoField(info[1], "role")
	l.Primary = !told || role == "master"
	l.Used, l.Max = infoNumber(info[2], "used_memory"), infoNumber(info[2], "maxmemory")
	if s.cfg.Memory != nil {
		l.Used, l.Max = s.cfg.Memory()
	}
	run, _ := infoField(info[0], "run_id")
	replication, _ := infoField(info[1], "master_replid")
	l.identity = identity{run, replication}
	replicas, _ := infoField(info[1], "connected_slaves")
	l.warning, l.Err = s.checkSettings(ctx, addr, node, replicas)
	return l
}

// checkSettings returns an error for unsafe settings, and a warning for the operator.
func (s *Stock) checkSettings(ctx context.Context, addr string, node rueidis.Client, replicas string) (warning string, unfit error) {
	values := make(map[string]string)
	for _, name := range []string{"maxmemory-policy", "appendonly", "min-replicas-to-write", "min-replicas-max-lag"} {
		got, err := node.Do(ctx, node.B().ConfigGet().Parameter(name).Build()).AsStrMap()
		if refused, ok := rueidis.IsRedisErr(err); ok && unsupported(refused) {
			return "it doesn't return its settings; maxmemory-policy must be noeviction", nil
		}
		if err != nil {
			return "", fmt.Errorf("ask %s for its %s: %w", addr, name, err)
		}
		values[name] = got[name]
	}
	if policy := values["maxmemory-policy"]; policy != "noeviction" {
		return "", &SafetyError{addr, "maxmemory-policy", policy, "noeviction"}
	}
	if values["appendonly"] == "no" {
		warning = "appendonly is no: a restart forgets stock, and the shards are rebuilt"
	}
	if s.cfg.MaxReplicaLag == 0 {
		if replicas != "" && replicas != "0" {
			warning += "; it has replicas, but max replica lag is not configured: a failover may sell twice"
		}
		return warning, nil
	}
	if n, err := strconv.Atoi(values["min-replicas-to-write"]); err != nil || n < max(1, s.cfg.MinReplicas) {
		return warning, &SafetyError{addr, "min-replicas-to-write", values["min-replicas-to-write"], strconv.Itoa(max(1, s.cfg.MinReplicas))}
	}
	lag, err := strconv.Atoi(values["min-replicas-max-lag"])
	if err != nil || lag < 1 || time.Duration(lag)*time.Second > s.cfg.MaxReplicaLag {
		want := fmt.Sprintf("%d or less", int(s.cfg.MaxReplicaLag/time.Second))
		return warning, &SafetyError{addr, "min-replicas-max-lag", values["min-replicas-max-lag"], want}
	}
	return warning, nil
}

// note keeps the results, logs changes, and reports shards whose server was replaced to OnSuspect.
func (s *Stock) note(looks []look) error {
	var errs []error
	identities, full := make(map[string]identity), make(map[string]bool)
	h := &s.health
	h.mu.Lock()
	clear(h.servers)
	for _, l := range looks {
		h.servers[l.Addr] = l.Server
		if l.Err != nil {
			errs = append(errs, l.Err)
		}
		if l.Primary && l.identity != (identity{}) {
			identities[l.Addr] = l.identity
		}
		if l.Full() {
			full[l.Addr] = true
		}
	}
	h.mu.Unlock()
	s.crowded.Store(&full)
	for _, l := range looks {
		s.logOnce(l)
	}
	s.suspect(identities)
	return errors.Join(errs...)
}

// logOnce logs a server's problem or warning, if it differs from the last one.
func (s *Stock) logOnce(l look) {
	text := l.warning
	if l.Err != nil {
		text = l.Err.Error() + " " + text
	}
	s.health.mu.Lock()
	before := s.health.warned[l.Addr]
	s.health.warned[l.Addr] = text
	s.health.mu.Unlock()
	switch {
	case text == before:
	case l.Err != nil:
		s.cfg.Logger.Error("a Redis server does not answer, or is configured unsafely", "addr", l.Addr, "err", l.Err, "warning", l.warning)
	case l.warning != "":
		s.cfg.Logger.Warn("a Redis server may forget stock", "addr", l.Addr, "warning", l.warning)
	default:
		s.cfg.Logger.Info("a Redis server answers and is configured safely again", "addr", l.Addr)
	}
}

// suspect reports watched shards whose server was replaced to OnSuspect.
func (s *Stock) suspect(identities map[string]identity) {
	lanes := s.lanes.Load()
	var shards []ShardID
	next := make(map[ShardID]identity)
	s.health.mu.Lock()
	for shard, v := range s.views.Load() {
		if v == nil {
			continue
		}
		shard := ShardID(shard)
		now, ok := lanes.identityOf(shard, identities)
		if !ok {
			continue
		}
		if was, ok := s.health.identity[shard]; ok && was != now {
			shards = append(shards, shard)
		}
		next[shard] = now
	}
	s.health.mu.Unlock()
	// If the queue of events is full, the next look finds the same shards again.
	if len(shards) > 0 && !s.emit(event{kind: eventSuspect, shards: shards}) {
		s.kick()
		return
	}
	s.health.mu.Lock()
	maps.Copy(s.health.identity, next)
	s.health.mu.Unlock()
}

// layout says which Redis node has which shard. The zero value means that one node has all.
type layout struct {
	lane  [MaxShards]uint16
	addrs []string // of the lanes' primaries; empty without a Cluster
}

// identityOf returns the identity of the shard's server.
func (l *layout) identityOf(shard ShardID, identities map[string]identity) (identity, bool) {
	if len(l.addrs) > 0 {
		now, ok := identities[l.addrs[l.lane[shard]]]
		return now, ok
	}
	for _, now := range identities {
		return now, len(identities) == 1
	}
	return identity{}, false
}

// Full reports whether, at the last look, the memory of the shard's server was nearly used up. Then
// new purchases should be refused, so that those in progress can be completed.
func (s *Stock) Full(shard ShardID) bool {
	full := s.crowded.Load()
	if full == nil || len(*full) == 0 || shard >= MaxShards {
		return false
	}
	lanes := s.lanes.Load()
	return len(lanes.addrs) == 0 || (*full)[lanes.addrs[lanes.lane[shard]]]
}

// infoNumber reads a number of INFO; 0 if it is missing.
func infoNumber(text, name string) int64 {
	digits, _ := infoField(text, name)
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Lane returns the number of the group of shards that one Redis node has; it is always 0 without a
// Cluster. It is a hint, because it is looked up only now and then, and a shard may move in
// between.
func (s *Stock) Lane(shard ShardID) int {
	if shard >= MaxShards {
		return 0
	}
	return int(s.lanes.Load().lane[shard])
}

// survey looks up which node of a Cluster has which shard. Without a Cluster, or without an answer,
// nothing changes.
func (s *Stock) survey(ctx context.Context, client rueidis.Client) {
	if s.cfg.MasterName != "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	ranges, err := client.Do(ctx, client.B().Arbitrary("CLUSTER", "SLOTS").Build()).ToArray()
	if err != nil {
		return
	}
	var slots []slotRange
	for i := range ranges {
		if r, ok := parseSlotRange(ranges[i]); ok {
			slots = append(slots, r)
		}
	}
	slices.SortFunc(slots, func(a, b slotRange) int { return int(a.first - b.first) })
	next := newLayout(slots, func(shard ShardID) int64 {
		key := client.B().Get().Key(s.keys[shard].keys[0]).Build()
		return int64(key.Slot())
	})
	if next != nil {
		s.lanes.Store(next)
	}
}

// slotRange is a part of a Cluster's slots and the primary that has it.
type slotRange struct {
	first, last int64
	addr        string
}

// parseSlotRange reads an element of CLUSTER SLOTS.
func parseSlotRange(message rueidis.RedisMessage) (slotRange, bool) {
	fields, err := message.ToArray()
	if err != nil || len(fields) < 3 {
		return slotRange{}, false
	}
	first, err1 := fields[0].AsInt64()
	last, err2 := fields[1].AsInt64()
	primary, err3 := fields[2].ToArray()
	if errors.Join(err1, err2, err3) != nil || len(primary) < 2 {
		return slotRange{}, false
	}
	host, err1 := primary[0].ToString()
	port, err2 := primary[1].AsInt64()
	if errors.Join(err1, err2) != nil {
		return slotRange{}, false
	}
	return slotRange{first, last, net.JoinHostPort(host, strconv.FormatInt(port, 10))}, true
}

// newLayout numbers the primaries in the order of their first slots, so that the numbers stay when
// a replica takes over. It returns nil if there is only one primary.
func newLayout(slots []slotRange, slotOf func(ShardID) int64) *layout {
	next := new(layout)
	for _, r := range slots {
		if !slices.Contains(next.addrs, r.addr) {
			next.addrs = append(next.addrs, r.addr)
		}
	}
	if len(next.addrs) < 2 {
		return nil
	}
	for shard := range ShardID(MaxShards) {
		slot := slotOf(shard)
		at := slices.IndexFunc(slots, func(r slotRange) bool { return r.first <= slot && slot <= r.last })
		if at >= 0 {
			next.lane[shard] = uint16(slices.Index(next.addrs, slots[at].addr))
		}
	}
	return next
}
