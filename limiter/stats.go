package limiter

import (
	"slices"
	"sync/atomic"
	"time"
)

// tally counts a policy's decisions in stripes, so that processors seldom write to the same cache
// line.
type tally struct {
	stripes [stripes]tallyStripe
}

const (
	stripeBits = 3
	stripes    = 1 << stripeBits
)

type tallyStripe struct {
	allow, refuse, shadow, giveBack, crowd, exhaust atomic.Uint64
	_                                               [16]byte
}

// stripeAt chooses a stripe by the nanosecond, so that two processors use the same one only by
// chance.
func stripeAt(moment int64) int { return int(uint64(moment) * 0x9E3779B97F4A7C15 >> (64 - stripeBits)) }

func (t *tally) allowed(stripe int)   { t.stripes[stripe].allow.Add(1) }
func (t *tally) refused(stripe int)   { t.stripes[stripe].refuse.Add(1) }
func (t *tally) exhausted(stripe int) { t.stripes[stripe].exhaust.Add(1) }
func (t *tally) crowded(stripe int)   { t.stripes[stripe].crowd.Add(1) }
func (t *tally) shadowed(stripe int)  { t.stripes[stripe].shadow.Add(1) }
func (t *tally) returned(stripe int)  { t.stripes[stripe].giveBack.Add(1) }

// Stats has a Limiter's counters, and its current use of memory.
type Stats struct {
	Nodes    int           // nodes that were alive when the document was applied
	Pool     PoolStats     // the exchange of tokens with the pool
	Places   PlaceStats    // for policies with a Concurrency
	Policies []PolicyStats // in the order of the document
	Tables   []TableStats  // for the kinds that have had a policy
}

// PoolStats is the state of the exchange of tokens with the pool. It is zero without a pool.
type PoolStats struct {
	Alone  time.Duration // how long the node has decided alone; 0 if it doesn't
	Leases int           // keys whose leases are renewed
	Rounds uint64        // exchanges that have ended
	Asks   uint64        // keys in these exchanges
	Failed uint64        // exchanges that failed
	Late   uint64        // exchanges that ended after their requests had stopped waiting
	// Owed is how many tokens the node let pass alone that the pool has not charged yet: so much
	// more than its limits all keys together have got.
	Owed int64
}

func (c *cluster) stats() PoolStats {
	if c == nil {
		return PoolStats{}
	}
	out := PoolStats{Rounds: c.rounds.Load(), Asks: c.asks.Load(), Failed: c.failed.Load(), Late: c.late.Load()}
	if since := c.aloneSince.Load(); since != nil {
		out.Alone = max(time.Since(*since), 1)
	}
	c.mu.Lock()
	homes := slices.Clone(c.renewed)
	c.mu.Unlock()
	out.Leases = len(homes)
	for _, h := range homes {
		h.lock()
		if s := h.share(); s != nil {
			out.Owed += s.owes.tokens + s.told.tokens
		}
		h.unlock()
	}
	return out
}

// PolicyStats counts a policy's decisions since it was applied under its name for its kind. Their
// sum is the number of requests that it was asked about.
type PolicyStats struct {
	Policy    Policy
	Allowed   uint64 // allowed by it and by all other policies
	Refused   uint64 // it refused
	Crowded   uint64 // of Refused, because no place was free
	Exhausted uint64 // of Refused, because the quota was used up
	Shadowed  uint64 // it would have refused, but the policy or the request is in shadow
	Returned  uint64 // it allowed, and got its tokens back because a wider policy refused
	// Excess is how many tokens a key may get above what its burst and rate give, over all nodes:
	// what they may hold when a time begins. PoolStats.Owed comes on top.
	Excess int64
}

// TableStats is the use of the buckets of a kind.
type TableStats struct {
	Key       Kind
	Capacity  int    // slots; when more than half are used, keys begin to find none
	Live      int    // buckets that aren't full
	Strangers uint64 // decisions by a shared bucket, because no slot was free
	Evictions uint64 // slots that were taken from a full bucket for another key
}

// Stats returns the counters. It looks at every slot (a few ms for a million), so it is meant for a
// scrape and not for each request.
func (l *Limiter) Stats(now time.Time) Stats {
	s := l.snapshot.Load()
	moment := l.clock.at(now)
	out := Stats{Nodes: s.nodes, Pool: l.cluster.stats(), Places: l.places.stats(), Policies: make([]PolicyStats, len(s.limits))}
	for i, lim := range s.limits {
		out.Policies[i] = lim.stats()
		if lim.joins(l.cluster) != nil {
			out.Policies[i].Excess = int64(s.nodes) * lim.terms.cap
		}
	}
	l.mu.Lock()
	tables, directories := l.tables, l.directories
	l.mu.Unlock()
	for k, name := range kindNames {
		var t TableStats
		switch {
		case tables[k] != nil:
			t = tables[k].stats(moment)
		case directories[k] != nil:
			t = directories[k].stats(moment)
		default:
			continue
		}
		t.Key = name
		out.Tables = append(out.Tables, t)
	}
	return out
}

func (l *limit) stats() PolicyStats {
	out := PolicyStats{Policy: *l.policy}
	for i := range l.tally.stripes {
		s := &l.tally.stripes[i]
		out.Allowed += s.allow.Load()
		out.Refused += s.refuse.Load()
		out.Crowded += s.crowd.Load()
		out.Exhausted += s.exhaust.Load()
		out.Shadowed += s.shadow.Load()
		out.Returned += s.giveBack.Load()
	}
	return out
}
