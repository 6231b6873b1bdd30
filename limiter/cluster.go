package limiter

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// cluster is the limiter's part in a cluster: the tokens that it asks the pool for, and the
// requests that wait for them.
//
// Requests that need tokens from the pool join the next round. Only one round is on its way at a
// time, so that rounds grow with the load. Every leaseEvery, a round also renews the leases. No
// other lock is taken while its lock is held.
type cluster struct {
	pool  Pool   // fixed
	node  uint32 // this node, as it appears in debts; fixed
	nodes atomic.Int64
	// away means that the node decides alone. It is changed under mu.
	away atomic.Bool
	kick chan struct{}

	mu      sync.Mutex
	next    *round // nil if it would be empty; guarded by mu
	renewed []home // the keys whose leases are renewed; guarded by mu

	quotasOnly bool                  // fixed
	spent      *Recent               // the keys that have no quota left
	lone       atomic.Pointer[table] // buckets for quotas while the node is alone; nil before the first one

	numbers                    atomic.Int64 // the last number that was given to a debt
	rounds, late, failed, asks atomic.Uint64
	aloneSince                 atomic.Pointer[time.Time] // nil: it isn't alone
}

// maxRenewed bounds the keys whose leases are renewed. The others ask request by request.
const maxRenewed = 1 << 15

// maxTold bounds the keys of one round for which the node reports what it owes. After an outage
// every key owes something, and the pool has other work.
const maxTold = 1 << 11

// maxAsks bounds the waiting keys of one round. Above it, the node decides requests alone.
const maxAsks = 1 << 14

func newCluster(pool Pool, quotasOnly bool) *cluster {
	c := &cluster{
		pool: pool, node: rand.Uint32N(math.MaxUint32) + 1, quotasOnly: quotasOnly, kick: make(chan struct{}, 1),
		spent: NewRecent(spentSlots, spentSpan),
	}
	c.nodes.Store(1)
	c.away.Store(true) // until Run has reached the pool
	now := time.Now()
	c.aloneSince.Store(&now)
	return c
}

// round has the questions to the pool for one exchange.
type round struct {
	keys   map[string]int // from a key to its index in asks
	asks   []Ask
	askers []asker
	done   chan struct{}
	failed bool // set before done is closed
}

// asker receives an answer.
type asker struct {
	home   home
	limit  *limit
	waited int64    // tokens of all claims
	claims []*claim // the claims of the waiting requests
}

// claim is the tokens that a request waits for.
type claim struct {
	tokens  int64
	vital   bool // it may also use the tokens that others must leave in the bucket
	granted bool
	room    int64 // what the bucket has after the answer, in µs
	left    int64 // what the quota has left after the answer
}

func newRound() *round {
	return &round{keys: make(map[string]int), done: make(chan struct{})}
}

// add returns the index of a key's Ask, and makes it if needed.
func (r *round) add(name string, h home, l *limit) int {
	at, known := r.keys[name]
	if !known {
		at = len(r.asks)
		r.keys[name] = at
		t := &l.terms
		a := Ask{Key: name, Num: t.num, Den: t.den, Window: t.window, Deep: t.deep}
		if l.fair != nil {
			a.Keep = l.fair.keep(l)
		}
		if l.policy.Quota > 0 {
			a.Quota, a.Offset = h.quota(l), l.offset(time.Now())
		}
		r.asks = append(r.asks, a)
		r.askers = append(r.askers, asker{home: h, limit: l})
	}
	return at
}

// wait asks the pool for the tokens that grants need, in one round, and waits for the answer. It
// returns false if there is no answer; then the node is alone.
func (c *cluster) wait(grants []grant) bool {
	r := c.join(grants)
	if r == nil {
		for i := range grants {
			if grants[i].claim != nil {
				grants[i].uncount()
			}
		}
		return false
	}
	select {
	case c.kick <- struct{}{}:
	default: // a look is due already
	}
	<-r.done
	return !r.failed
}

// join adds the tokens that grants need to the next round. It returns nil if there is no round, or
// if it has no room.
func (c *cluster) join(grants []grant) *round {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away.Load() {
		return nil
	}
	if c.next == nil {
		c.next = newRound()
	}
	r := c.next
	if len(r.asks) >= maxAsks {
		return nil
	}
	for i := range grants {
		g := &grants[i]
		if g.claim == nil {
			continue
		}
		at := r.add(g.name, g.home(), g.limit)
		r.asks[at].Want += g.claim.tokens
		if g.vital {
			r.asks[at].Vital += g.claim.tokens
		}
		r.asks[at].Floor = max(r.asks[at].Floor, g.floor)
		if g.counted {
			r.askers[at].waited += g.claim.tokens
		}
		r.askers[at].claims = append(r.askers[at].claims, g.claim)
	}
	return r
}

// uncount subtracts the tokens of g from those for which requests wait.
func (g *grant) uncount() {
	if !g.counted {
		return
	}
	h := g.home()
	h.lock()
	defer h.unlock()
	if s := h.share(); s != nil {
		s.waiting -= g.claim.tokens
	}
}

// refund makes the next round give back the tokens of a request.
func (c *cluster) refund(g *grant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away.Load() {
		return
	}
	if c.next == nil {
		c.next = newRound()
	}
	if len(c.next.asks) < maxAsks {
		at := c.next.add(g.name, g.home(), g.limit)
		c.next.asks[at].Back += g.taken
	}
}

// renew adds a key to those whose leases are renewed, and reports whether there was room.
func (c *cluster) renew(h home) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.renewed) >= maxRenewed {
		return false
	}
	c.renewed = append(c.renewed, h)
	return true
}

// isolate makes the node decide alone, and ends the waits for the next round.
func (c *cluster) isolate() {
	c.mu.Lock()
	if !c.away.Swap(true) {
		now := time.Now()
		c.aloneSince.Store(&now)
	}
	r := c.next
	c.next = nil
	c.mu.Unlock()
	if r != nil {
		r.failed = true
		close(r.done)
		r.forsake()
	}
}

// forsake ends the waits of a round's requests without an answer.
func (r *round) forsake() {
	for i := range r.askers {
		a := &r.askers[i]
		a.home.lock()
		if s := a.home.share(); s != nil {
			s.waiting -= a.waited
		}
		a.home.unlock()
	}
}

// rejoin ends the time alone: the pool decides again.
func (c *cluster) rejoin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away.Store(false)
	c.aloneSince.Store(nil)
}

// flight is a round on its way.
type flight struct {
	round  *round
	began  time.Time
	failed bool // no request waits for it any longer
}

// Run exchanges tokens with the pool until ctx ends, and then gives back what this node holds.
// Before Run, and after it, the node decides alone. Without a pool it does nothing.
func (l *Limiter) Run(ctx context.Context) {
	c := l.cluster
	if c == nil {
		return
	}
	tick, give := time.NewTicker(leaseEvery), time.NewTimer(time.Hour)
	defer tick.Stop()
	defer give.Stop()
	landed := make(chan error, 1)
	var flying *flight
	due := true
	for {
		if flying == nil {
			if r := l.load(due); r != nil {
				flying = &flight{round: r, began: time.Now()}
				give.Reset(patience)
				go func() { landed <- c.pool.Exchange(ctx, r.asks) }()
			}
			due = false
		}
		select {
		case <-ctx.Done():
			if flying != nil {
				<-landed
				flying.fail()
			}
			c.isolate()
			l.giveAll(context.WithoutCancel(ctx))
			return
		case <-c.kick:
		case <-tick.C:
			due = true
		case <-give.C:
			if flying == nil {
				continue
			}
			select {
			case err := <-landed: // the delay was in this node, not in the pool
				due = l.land(flying, err) || due
				flying = nil
			default:
				c.late.Add(1)
				flying.fail()
				c.isolate()
			}
		case err := <-landed:
			due = l.land(flying, err) || due
			flying = nil
		}
	}
}

// fail ends the waits for a round.
func (f *flight) fail() {
	if !f.failed {
		f.failed = true
		f.round.failed = true
		close(f.round.done)
	}
}

// land processes the end of an exchange, and reports whether the pool is reachable again.
func (l *Limiter) land(f *flight, err error) (back bool) {
	c := l.cluster
	c.rounds.Add(1)
	if err != nil {
		c.failed.Add(1)
		f.fail()
		f.round.forsake()
		c.isolate()
		return false
	}
	now := l.clock.at(time.Now())
	r := f.round
	for i := range r.asks {
		r.askers[i].home.answer(&r.asks[i], &r.askers[i], now, f.failed, c)
	}
	if f.failed {
		return false // its answer came too late, but the next one may come in time
	}
	back = c.away.Load()
	c.rejoin()
	close(r.done)
	return back
}

// load returns the next round, or nil if there is nothing to ask. With due it also renews the
// leases, and tells the pool what the node owes. If the node is alone, it only asks whether the
// pool is reachable again: without an answer, nobody would know what was granted.
func (l *Limiter) load(due bool) *round {
	c := l.cluster
	if c.away.Load() {
		if !due {
			return nil
		}
		c.asks.Add(1)
		return &round{asks: []Ask{{Key: "probe", Num: 1, Den: 1, Window: 1}}, askers: []asker{{}}, done: make(chan struct{})}
	}
	c.mu.Lock()
	r := c.next
	c.next = nil
	var homes []home
	if due {
		homes = c.renewed
		c.renewed = nil
	}
	c.mu.Unlock()
	if due {
		if r == nil {
			r = newRound()
		}
		kept := l.renewAll(r, homes)
		c.mu.Lock()
		c.renewed = append(kept, c.renewed...)
		c.mu.Unlock()
	}
	if r == nil || len(r.asks) == 0 {
		return nil
	}
	c.asks.Add(uint64(len(r.asks)))
	r.remind()
	return r
}

// remind tells the pool this node's counts of quotas, because after a failover the pool's counts
// may be lower.
func (r *round) remind() {
	for i := range r.asks {
		if r.asks[i].Quota == 0 {
			continue
		}
		h := r.askers[i].home
		h.lock()
		if s := h.share(); s != nil {
			r.asks[i].Known = s.usage
		}
		h.unlock()
	}
}

// renewAll adds the needs of the leases to a round, and returns the homes that are still in use.
func (l *Limiter) renewAll(r *round, homes []home) []home {
	now := l.clock.at(time.Now())
	kept, told := homes[:0], 0
	for _, h := range homes {
		h.lock()
		s, lim := h.share(), h.limit()
		if s == nil || lim == nil || lim.off {
			h.forget()
			h.unlock()
			continue
		}
		back, want, keep := s.renew(lim, now)
		floor := h.emptiness(now)
		if !keep && back == 0 {
			h.forget()
			h.unlock()
			continue
		}
		tells := s.indebted() && told < maxTold
		if back > 0 || want > 0 || tells {
			at := r.add(s.name, h, lim)
			if tells {
				told++
				s.tell(&r.asks[at], l.cluster, now)
			}
			r.asks[at].Back += back
			r.asks[at].Want += want
			r.asks[at].Floor = max(r.asks[at].Floor, floor)
		}
		h.unlock()
		kept = append(kept, h)
	}
	return kept
}

// giveAll gives back what this node holds, and tells what it owes: it stops, and the others may
// have what there is. A key can owe two debts, one that was told without an answer and one that
// came later, and a round has room for one of them.
func (l *Limiter) giveAll(ctx context.Context) {
	c := l.cluster
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c.mu.Lock()
	homes := c.renewed
	c.renewed = nil
	c.mu.Unlock()
	const debts = 2
	for range debts {
		r := l.lastRound(homes)
		if len(r.asks) == 0 {
			break
		}
		if c.pool.Exchange(ctx, r.asks) != nil {
			break // the others lack these tokens: the strict side
		}
		for i := range r.askers {
			h := r.askers[i].home
			h.lock()
			if s := h.share(); s != nil {
				s.told = owed{}
			}
			h.unlock()
		}
	}
	for _, h := range homes {
		h.lock()
		h.forget()
		h.unlock()
	}
}

// lastRound takes what the homes hold, and tells a debt of each.
func (l *Limiter) lastRound(homes []home) *round {
	r, now := newRound(), l.clock.at(time.Now())
	for _, h := range homes {
		h.lock()
		if s, lim := h.share(), h.limit(); s != nil && lim != nil && (s.lease > 0 || s.indebted()) {
			at := r.add(s.name, h, lim)
			s.tell(&r.asks[at], l.cluster, now)
			r.asks[at].Back += s.lease
			s.lease = 0
		}
		h.unlock()
	}
	return r
}

// home is the place of a key's local bucket, and the known state of its bucket in the pool. All
// methods except lock and unlock need its lock. The zero value means that there is none.
type home struct {
	bucket *bucket
	table  *table
	key    uint64
}

func (h home) lock() {
	switch {
	case h.bucket != nil:
		h.bucket.mu.Lock()
	case h.table != nil:
		h.table.segments[h.table.index(h.key)].mu.Lock()
	}
}

func (h home) unlock() {
	switch {
	case h.bucket != nil:
		h.bucket.mu.Unlock()
	case h.table != nil:
		h.table.segments[h.table.index(h.key)].mu.Unlock()
	}
}

// share returns what is known about the key in the pool, or nil.
func (h home) share() *share {
	switch {
	case h.bucket != nil:
		return &h.bucket.share
	case h.table != nil:
		return h.table.segments[h.table.index(h.key)].shares[h.key]
	}
	return nil
}

// limit returns the key's limit, or nil.
func (h home) limit() *limit {
	switch {
	case h.bucket != nil:
		return h.bucket.limit
	case h.table != nil:
		if s := &h.table.segments[h.table.index(h.key)]; s.rules != nil {
			return s.rules.of(h.key)
		}
	}
	return nil
}

// quota is the key's quota. It needs no lock.
func (h home) quota(l *limit) int64 {
	if h.bucket != nil {
		return l.quotaOf(h.bucket.merchant())
	}
	return l.policy.Quota
}

// forget removes the key from the renewals.
func (h home) forget() {
	if s := h.share(); s != nil {
		s.listed, s.known = false, false
		s.own, s.all, s.late.own, s.late.all = 0, 0, 0, 0
	}
}

// emptiness returns how much is missing until the local bucket is full, in microseconds.
func (h home) emptiness(now int64) int64 {
	l := h.limit()
	if l == nil {
		return 0
	}
	switch {
	case h.bucket != nil:
		now = max(now, h.bucket.last)
		return l.emptiness(h.bucket.tokens.TokensAt(timeOf(now)))
	case h.table != nil:
		s := &h.table.segments[h.table.index(h.key)]
		return l.emptiness(l.tokens(s.tatOf(h.key, l), max(now, s.last)))
	}
	return 0
}

// emptiness returns how much is missing until a bucket with this many tokens is full, in
// microseconds.
func (l *limit) emptiness(tokens float64) int64 {
	return int64(max(float64(l.burst)-tokens, 0) / l.rate * 1e6)
}

// serve divides an answer among the waiting requests, vital claims first. It returns how many
// tokens they got, and how many are missing.
func (a *asker) serve(answer *Ask, late bool) (served, refused int64) {
	left := answer.Granted
	for _, vital := range [...]bool{true, false} {
		for _, c := range a.claims {
			if c.vital != vital {
				continue
			}
			c.room, c.left = answer.Room, answer.Left
			if late {
				continue
			}
			if c.granted = c.tokens <= left; c.granted {
				left -= c.tokens
				served += c.tokens
			} else {
				refused += c.tokens
			}
		}
	}
	return served, refused
}

// answer processes an answer of the pool. Waiting requests get their tokens, the rest becomes the
// lease, and the local bucket gets no more tokens than the cluster's bucket has.
//
// If an answer comes too late, its requests have been decided alone, or are about to be. They keep
// the tokens of the answer.
func (h home) answer(a *Ask, asker *asker, now int64, late bool, c *cluster) {
	if h == (home{}) {
		return
	}
	h.lock()
	defer h.unlock()
	served, refused := asker.serve(a, late)
	l := h.limit()
	s := h.share()
	if s == nil && late && a.Granted > 0 && l != nil {
		s = h.table.shareAs(&h.table.segments[h.table.index(h.key)], h.key, a.Key, c)
	}
	held := int64(0)
	if s != nil {
		s.answer(a, now, asker.waited, served)
		if l != nil {
			s.pay(l)
		}
		held = s.lease + s.waiting
	}
	if l == nil {
		return
	}
	most := asker.limit.terms.tokensOf(a.Room) + float64(held)
	switch {
	case h.bucket != nil:
		h.bucket.tokens.AllowN(timeOf(h.bucket.last), -int(refused))
		h.bucket.lower(now, most)
	case h.table != nil:
		s := &h.table.segments[h.table.index(h.key)]
		s.giveBack(h.key, refused, 0, l)
		s.lower(h.key, l, now, most)
	}
}
