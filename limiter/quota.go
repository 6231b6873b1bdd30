package limiter

import (
	"math/bits"
	"time"
)

// joins returns the cluster if it takes part in the limit's decisions, and nil if this node decides
// alone.
func (l *limit) joins(c *cluster) *cluster {
	if c == nil || l.policy.Quota == 0 && (l.bare || c.quotasOnly) {
		return nil
	}
	return c
}

// quotaOf returns the quota of a merchant's key; 0 if there is none.
func (l *limit) quotaOf(merchant string) int64 {
	p := l.policy
	if p.QuotaPerSKU == 0 || l.skus == nil {
		return p.Quota
	}
	high, product := bits.Mul64(uint64(p.QuotaPerSKU), uint64(max(l.skus(merchant), 0)))
	if high > 0 || product > uint64(p.QuotaMax) {
		return p.QuotaMax
	}
	return min(p.Quota+int64(product), p.QuotaMax)
}

// offset is how far the clock of the quota's zone is ahead of UTC, in microseconds.
func (l *limit) offset(now time.Time) int64 {
	_, seconds := now.In(l.zone).Zone()
	return int64(seconds) * 1e6
}

// reset is the time until the quota begins again, in nanoseconds.
func (l *limit) reset(now time.Time) int64 {
	local := now.In(l.zone)
	next := time.Date(local.Year(), local.Month(), local.Day()+1, 0, 0, 0, 0, l.zone)
	return int64(max(next.Sub(now), time.Second))
}

// exhausted returns 0, or, if a key is known to have no quota left for n tokens, the time after
// which it has. Tokens of a lease count as quota.
func (c *cluster) exhausted(l *limit, key uint64, quota, now, n int64, known *share) int64 {
	if c == nil || quota == 0 || known != nil && known.lease >= n || !c.spent.Has(spentKey(key^l.salt, quota, n), now) {
		return 0
	}
	return l.reset(time.Now())
}

const (
	// spentSlots is how many keys without quota are remembered, so that the pool isn't asked for
	// them again and again.
	spentSlots = 1 << 14
	// spentSpan is how long returned quota may go unnoticed. It can come from a repeat, from
	// another node's lease, or with the next day.
	spentSpan = int64(2 * time.Second)
)

// spentKey names a question to the pool. A different number of tokens or a different quota is a
// different question.
func spentKey(key uint64, quota, n int64) uint64 {
	h := key ^ uint64(quota)*0x9E3779B97F4A7C15 ^ uint64(n)*0xC2B2AE3D27D4EB4F
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	return h ^ h>>33
}

// maxLone is how many keys have their own quota while the node is alone.
const maxLone = 1 << 14

// apart takes n tokens of a quota while the node decides alone. It returns the time after which
// there are enough tokens. It returns 0 if it took them, or if there is no quota.
//
// While the node is alone, it doesn't know what other nodes admit. So a key continues at the even
// pace of its quota: it may use the tokens of an hour at once, or at least those of one request,
// and each node has an even part of them. The pool is told afterwards.
func (c *cluster) apart(of *limit, key uint64, quota, now, n int64) (wait int64) {
	if c == nil || quota == 0 {
		return 0
	}
	const day, hours = int64(24 * time.Hour), 24
	nodes := c.nodes.Load()
	l := limit{burst: max(quota/hours/nodes, n), interval: max(day/quota, 1) * nodes}
	l.window = l.burst * l.interval
	return c.lone.Load().spare(max(1, key^of.salt), &l, now, n)
}

// spare takes n tokens of a bucket that has no rules.
func (t *table) spare(key uint64, l *limit, now, n int64) (wait int64) {
	s := &t.segments[t.index(key)]
	s.mu.Lock()
	defer s.mu.Unlock()
	now = max(now, s.last)
	s.last = now
	e, free := s.find(key, now)
	tat := int64(0)
	switch {
	case e != nil:
		tat = e.tat
	case free == nil:
		tat = s.stranger
	}
	next, wait := l.spend(tat, now, n)
	switch {
	case wait > 0:
		return wait
	case e != nil:
		e.tat = next
	case free != nil:
		s.put(free, key, next)
	default:
		s.stranger = next
	}
	return 0
}
