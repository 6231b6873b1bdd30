package limiter

import (
	"math/bits"
	"sync"
)

// table holds the buckets of a kind with very many keys in a fixed number of slots of 16 bytes.
//
// A key's slot is one of the reach slots from its home on, within one segment. A key is never
// further away, and a slot that was used once never becomes unused. So a search ends after reach
// slots, or at the first unused slot. A bucket that is full again (its TAT has passed) is the same
// as no bucket, so its slot can be given to another key, and nobody gains an advantage. A key that
// finds no slot is a stranger. All strangers of a segment share one bucket, under the limit of the
// key that asks. They get less than they should, never more, and they are counted.
//
// A key is known by a 64-bit hash with a secret seed. Two keys with the same hash would share a
// bucket. Among a million keys, the chance for that is 3 in 10⁸.
type table struct {
	slots    []slot    // fixed; each segment has its part of them
	segments []segment // fixed
	shift    int       // fixed: the upper bits of the hash choose the segment

	rules *rules // the last applied rules; used only by Apply
}

type slot struct {
	key uint64 // 0 means that it was never used
	tat int64  // 0 means the same as no slot
}

const (
	reach       = 32   // they take half a kilobyte: eight cache lines in a row
	minSegments = 64   // so that few requests wait for the same lock
	maxPerLock  = 4096 // slots per lock, so that carrying a segment over holds its lock for only 20 µs or so
	minSlots    = minSegments * reach
)

// segment is the part of a table that one lock guards.
type segment struct {
	mu        sync.Mutex
	rules     *rules // guarded by mu, like the fields below
	last      int64  // the latest moment; time must not go back
	stranger  int64  // TAT of the strangers' bucket
	slots     []slot
	evictions uint64
	strangers uint64 // decisions
	shares    map[uint64]*share
	_         [40]byte
}

// newTable returns a table with room for the buckets of that many keys, as long as they are not
// full. These use half of its slots.
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

// find returns the slot of a key. If it has none, it returns nil and a slot that the key may take.
// If there is no such slot, it returns nil twice.
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

// take asks the bucket of a key for the tokens of a request and writes the answer into g. If no
// limit applies to the key, or the request is free, it returns false and doesn't use g.
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

// draw gets n tokens for the grant's key from the pool, or from what the node holds. It returns the
// time of the extra tokens that they cost, or that the grant refuses. tat is the bucket's TAT.
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

// shareOf returns the share of a key, nil if there is no room. The caller holds the segment's lock.
func (t *table) shareOf(s *segment, l *limit, key uint64, req *Request, c *cluster) *share {
	if known := s.shares[key]; known != nil {
		return t.shareAs(s, key, known.name, c)
	}
	return t.shareAs(s, key, req.poolName(l.policy.Key), c)
}

// shareAs does the same as shareOf, for a key whose name in the pool is known.
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

// dropShare looks at a few shares, and drops one without recent requests to make room.
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

// lower takes tokens from a key's bucket until it has no more than the given number. A number below
// 0 is a debt.
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

// giveBack returns tokens to a key's bucket, with the extra tokens that they cost.
func (s *segment) giveBack(key uint64, n int64, over float64, l *limit) {
	if e, _ := s.find(key, s.last); e != nil {
		e.tat -= n*l.interval + l.timeOf(over)
	} // otherwise the bucket became full and was forgotten
}

// giveBack returns what g took. It reports whether the tokens must be given back to the pool,
// because this node doesn't know the key's lease.
func (t *table) giveBack(g *grant) (orphaned bool) {
	s := &t.segments[t.index(g.key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules == nil { // no tokens of this segment were taken
		return false
	}
	l := s.rules.of(g.key) // it may be newer than g.limit, because what is returned are tokens
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

// owe takes from a bucket the extra tokens that g's tokens cost while the node is alone, and
// records that the pool did not grant them.
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

// adopt carries a segment over to newer rules. The caller holds the segment's lock.
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
			e.tat = 0 // it is full, like every key without a slot, and gets what such a key gets under the new rules
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

// adoptOrphan gives a slot to a key that has lost its own policy, if it has no slot.
func (s *segment) adoptOrphan(o orphan, now int64) {
	e, free := s.find(o.key, now)
	switch {
	case e != nil && e.tat != 0: // the bucket was carried over
	case e != nil:
		e.tat = o.tat
	case free != nil:
		s.put(free, o.key, o.tat)
	}
}

// apply carries over all segments that no request has carried over yet.
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
