package limiter

import (
	"math/bits"
	"sync"
)

// table holds the buckets of a kind with very many keys in a fixed number of slots of 16 bytes.
//
// A key has its slot among the reach slots from its home on, within one segment. What is looked up
// is never further away, and a slot that was ever used is never unused again, so a search ends
// after reach slots at the latest and at the first unused one. A bucket that is full again (its TAT
// has passed) is the same as none, so its slot can be given to another key and nobody gains by it.
// A key that finds no slot is a stranger: all strangers of a segment share one bucket, under the
// limit of whoever asks. They get less than they should, never more, and are counted.
//
// A key is known by a 64-bit hash with a secret seed. Two keys of the same hash would share a
// bucket: among a million keys that has a chance of 3 in 10⁸.
type table struct {
	slots    []slot    // fixed; each segment has its part of them
	segments []segment // fixed
	shift    int       // fixed: the hash's upper bits name the segment

	rules *rules // the last applied; only Apply looks at it
}

type slot struct {
	key uint64 // 0 was never used
	tat int64  // 0 is the same as no slot
}

const (
	reach       = 32   // half a kilobyte, eight cache lines in a row
	minSegments = 64   // so that few requests meet at one lock
	maxPerLock  = 4096 // slots: what carrying a segment over may hold its lock for, some 20 µs
	minSlots    = minSegments * reach
)

// segment is the part of a table under one lock.
type segment struct {
	mu        sync.Mutex
	rules     *rules // guarded by mu, like all that follows
	last      int64  // the latest moment; time doesn't go back
	stranger  int64  // TAT of the strangers' bucket
	slots     []slot
	evictions uint64
	strangers uint64 // decisions
	shares    map[uint64]*share
	_         [40]byte
}

// newTable returns a table in which keys buckets that are not full find room: half of its slots.
func newTable(keys int) *table {
	n := max(1<<bits.Len(uint(2*keys-1)), minSlots)
	t := &table{slots: make([]slot, n), segments: make([]segment, max(minSegments, n/maxPerLock))}
	t.shift = 64 - bits.Len(uint(len(t.segments)-1))
	each := n / len(t.segments)
	for i := range t.segments {
		t.segments[i].slots = t.slots[i*each : (i+1)*each : (i+1)*each]
	}
	return t
}

func (t *table) index(key uint64) int { return int(key >> t.shift) }

// find returns the slot of a key, or nil and the slot that it may have, or nil twice.
func (s *segment) find(key uint64, now int64) (found, free *slot) {
	mask := uint64(len(s.slots) - 1)
	for i := range uint64(reach) {
		e := &s.slots[(key+i)&mask]
		switch {
		case e.key == key:
			return e, nil
		case e.key == 0:
			if free == nil {
				free = e
			}
			return nil, free
		case free == nil && e.tat <= now:
			free = e
		}
	}
	return nil, free
}

// put gives a free slot to a key.
func (s *segment) put(e *slot, key uint64, tat int64) {
	if e.key != 0 {
		s.evictions++
	}
	*e = slot{key, tat}
}

// take asks the bucket of a key for the tokens of a request and writes the answer into g. It
// returns false, and g is not used, when no limit governs the key, or the request is free.
func (t *table) take(r *rules, key uint64, req *Request, now int64, c *cluster, g *grant) bool {
	i := t.index(key)
	s := &t.segments[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	now = max(now, s.last)
	s.last = now
	if s.rules == nil || r.epoch > s.rules.epoch {
		t.adopt(i, r, now)
	}
	l := s.rules.of(key)
	if l == nil || l.off {
		return false
	}
	n := l.price(req)
	if n == 0 {
		return false
	}
	if l.tooDear(n, g) {
		return true
	}
	c = l.joins(c)
	if wait := c.exhausted(l, key, l.policy.Quota, now, n, s.shares[key]); wait > 0 {
		*g = grant{limit: l, table: t, key: key, wait: wait, bound: ByQuota, quota: l.policy.Quota}
		return true
	}
	e, free := s.find(key, now)
	tat := l.floor
	switch {
	case e != nil && e.tat != 0:
		tat = e.tat
	case e != nil:
	case free == nil:
		tat = s.stranger
		s.strangers++
	}
	next, wait := l.spend(tat, now, n)
	*g = grant{limit: l, table: t, key: key, stranger: e == nil && free == nil}
	var known *share
	if c != nil && !g.stranger && (!l.terms.strict || tat > now || c.away.Load()) { // most buyers come once, and need no share
		known = t.shareOf(s, l, key, req, c)
		known.came(n)
	}
	if wait > 0 {
		g.wait, g.left = wait, l.tokens(tat, now)
		return true
	}
	more, drawn := g.draw(c, known, now, n, tat)
	if !drawn {
		return true
	}
	next += more
	switch {
	case e != nil:
		e.tat = next
	case free != nil:
		s.put(free, key, next)
	default:
		s.stranger = next
	}
	g.taken, g.left = n, l.tokens(next, now)
	return true
}

// draw has n tokens of the grant's key from the pool, or from what the node has of it. It returns
// what they count as above their number, as time, or that the grant refuses. tat is the bucket's.
func (g *grant) draw(c *cluster, known *share, now, n, tat int64) (more int64, drawn bool) {
	l := g.limit
	if c != nil && g.stranger && l.policy.Quota == 0 {
		g.over = c.over(nil, n) // strangers have no bucket in the cluster
		return l.timeOf(g.over), true
	}
	switch c.claim(known, l, now, n) {
	case mustWait:
		g.wait, g.left = max(1, known.asked+int64(leaseEvery)-now), l.tokens(tat, now)
		return 0, false
	case mustAsk:
		g.must, g.floor = true, l.emptiness(l.tokens(tat, now))
		if known != nil {
			known.waiting += n
			g.name, g.counted = known.name, true
		}
	case claimedBy:
		if wait := c.apart(l, g.key, l.policy.Quota, now, n); wait > 0 {
			g.wait, g.bound, g.quota = wait, ByQuota, l.policy.Quota
			return 0, false
		}
		known.owe(n, l, now)
		g.alone, g.over = true, c.over(known, n)
		return l.timeOf(g.over), true
	default:
		g.leased = c != nil
	}
	return 0, true
}

// maxShares bounds the number of shares in a segment.
const maxShares = 128

// shareOf returns the share of a key, nil if there is no room. The segment's lock is held.
func (t *table) shareOf(s *segment, l *limit, key uint64, req *Request, c *cluster) *share {
	if known := s.shares[key]; known != nil {
		return t.shareAs(s, key, known.name, c)
	}
	return t.shareAs(s, key, req.poolName(l.policy.Key), c)
}

// shareAs is shareOf for a key whose name in the pool is known.
func (t *table) shareAs(s *segment, key uint64, name string, c *cluster) *share {
	known := s.shares[key]
	if known == nil {
		if len(s.shares) >= maxShares && !s.dropShare() {
			return nil
		}
		if s.shares == nil {
			s.shares = make(map[uint64]*share)
		}
		known = &share{name: name}
		s.shares[key] = known
	}
	if !known.listed {
		known.listed = c.renew(home{table: t, key: key})
	}
	return known
}

// dropShare makes room by dropping one of a few shares without recent requests.
func (s *segment) dropShare() bool {
	looks := 8
	for key, known := range s.shares {
		if !known.listed && known.lease == 0 && known.waiting == 0 {
			delete(s.shares, key)
			return true
		}
		if looks--; looks == 0 {
			break
		}
	}
	return false
}

// tatOf returns the TAT of a key.
func (s *segment) tatOf(key uint64, l *limit) int64 {
	if e, _ := s.find(key, s.last); e != nil && e.tat != 0 {
		return e.tat
	}
	return l.floor
}

// lower takes tokens from a key's bucket so that no more are left; below 0 it is in debt.
func (s *segment) lower(key uint64, l *limit, now int64, tokens float64) {
	now = max(now, s.last)
	s.last = now
	tat := now + l.window - int64(tokens*float64(l.interval))
	e, free := s.find(key, now)
	switch {
	case tat <= now:
	case e != nil:
		e.tat = max(e.tat, tat)
	case free != nil:
		s.put(free, key, tat)
	}
}

// giveBack returns tokens to a key's bucket, and what they counted as more.
func (s *segment) giveBack(key uint64, n int64, over float64, l *limit) {
	if e, _ := s.find(key, s.last); e != nil {
		e.tat -= n*l.interval + l.timeOf(over)
	} // else the bucket became full and was forgotten
}

// giveBack returns what g took. It reports whether the pool has to be given it back, because
// nothing is known here of the key's lease.
func (t *table) giveBack(g *grant) (orphaned bool) {
	s := &t.segments[t.index(g.key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules == nil { // no tokens of this segment were taken
		return false
	}
	l := s.rules.of(g.key) // may be newer than g.limit: tokens are returned as tokens
	if l == nil {
		return false
	}
	if g.stranger {
		s.stranger -= g.taken*l.interval + l.timeOf(g.over)
		return false
	}
	s.giveBack(g.key, g.taken, g.over, l)
	known := s.shares[g.key]
	known.giveBack(g)
	return known == nil && g.leased
}

// owe takes from a bucket what the tokens of g count as above their number while the node is alone,
// and notes that the pool did not grant them.
func (t *table) owe(g *grant, c *cluster) {
	s := &t.segments[t.index(g.key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	var known *share
	if !g.stranger {
		known = t.shareAs(s, g.key, g.name, c)
	}
	known.owe(g.taken, g.limit, s.last)
	g.alone, g.over = true, c.over(known, g.taken)
	if e, _ := s.find(g.key, s.last); e != nil {
		e.tat += g.limit.timeOf(g.over)
	}
}

// adopt carries a segment over to newer rules. The segment's lock is held.
func (t *table) adopt(i int, r *rules, now int64) {
	s := &t.segments[i]
	old := s.rules
	s.rules = r
	if old == nil || !r.changed {
		return
	}
	for j := range s.slots {
		e := &s.slots[j]
		if e.tat == 0 {
			continue
		}
		before := old.of(e.key)
		if e.tat <= now && (before == nil || before.floor <= now) {
			e.tat = 0 // full, like any key without a slot, and under the new rules what such a key is
		} else if l := r.of(e.key); l != nil {
			e.tat = l.carry(before, e.tat, now)
		}
	}
	if r.template != nil && old.template != nil {
		s.stranger = r.template.carry(old.template, s.stranger, now)
	}
	for _, o := range r.orphans {
		if t.index(o.key) == i {
			s.adoptOrphan(o, now)
		}
	}
}

// adoptOrphan gives a slot to a key that lost its own policy, if it has none.
func (s *segment) adoptOrphan(o orphan, now int64) {
	e, free := s.find(o.key, now)
	switch {
	case e != nil && e.tat != 0: // carried over
	case e != nil:
		e.tat = o.tat
	case free != nil:
		s.put(free, o.key, o.tat)
	}
}

// apply carries all segments over that no request has carried over yet.
func (t *table) apply(r *rules, now int64) {
	for i := range t.segments {
		s := &t.segments[i]
		s.mu.Lock()
		if s.rules == nil || r.epoch > s.rules.epoch {
			s.last = max(s.last, now)
			t.adopt(i, r, s.last)
		}
		s.mu.Unlock()
	}
	t.rules = r
}

// stats counts the buckets that aren't full, segment by segment.
func (t *table) stats(now int64) TableStats {
	out := TableStats{Capacity: len(t.slots)}
	for i := range t.segments {
		s := &t.segments[i]
		s.mu.Lock()
		at := max(now, s.last)
		for j := range s.slots {
			if s.slots[j].tat > at {
				out.Live++
			}
		}
		out.Strangers += s.strangers
		out.Evictions += s.evictions
		s.mu.Unlock()
	}
	return out
}
