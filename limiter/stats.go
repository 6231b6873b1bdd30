package limiter

import (
	"sync/atomic"
	"time"
)

// tally counts a policy's decisions in stripes, so that two processors seldom write to the same cache line.
type tally struct {
	stripes [stripes]tallyStripe
}

const (
	stripeBits = 3
	stripes    = 1 << stripeBits
)

type tallyStripe struct {
	allow, refuse, shadow, giveBack atomic.Uint64
	_                               [32]byte
}

// stripeAt picks a stripe by the nanosecond, which no two processors keep sharing.
func stripeAt(moment int64) int { return int(uint64(moment) * 0x9E3779B97F4A7C15 >> (64 - stripeBits)) }

func (t *tally) allowed(stripe int)  { t.stripes[stripe].allow.Add(1) }
func (t *tally) refused(stripe int)  { t.stripes[stripe].refuse.Add(1) }
func (t *tally) shadowed(stripe int) { t.stripes[stripe].shadow.Add(1) }
func (t *tally) returned(stripe int) { t.stripes[stripe].giveBack.Add(1) }

// Stats is what a Limiter has counted, and how full it is.
type Stats struct {
	Nodes    int           // that limits are split over
	Policies []PolicyStats // in the document's order
	Tables   []TableStats  // of the kinds that have had a policy
}

// PolicyStats counts the decisions that a policy took part in, since it has been applied under its name for its kind. Their sum is how
// often it was asked.
type PolicyStats struct {
	Policy   Policy
	Allowed  uint64 // it let pass, and so did all others
	Refused  uint64 // it refused
	Shadowed uint64 // it would have refused, but it, or the request, is in shadow
	Returned uint64 // it let pass and got its tokens back, because a wider one refused
}

// TableStats says how full the buckets of a kind are.
type TableStats struct {
	Key       Kind
	Capacity  int    // slots; above half of them, keys begin to find none
	Live      int    // buckets that aren't full
	Strangers uint64 // decisions by a shared bucket, for want of a slot
	Evictions uint64 // slots that went from a full bucket to another key
}

// Stats returns the counters. It looks at every slot (a few ms for a million): for a scrape, not for a request.
func (l *Limiter) Stats(now time.Time) Stats {
	s := l.snapshot.Load()
	moment := l.clock.at(now)
	out := Stats{Nodes: s.nodes, Policies: make([]PolicyStats, len(s.limits))}
	for i, lim := range s.limits {
		out.Policies[i] = lim.stats()
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
		out.Shadowed += s.shadow.Load()
		out.Returned += s.giveBack.Load()
	}
	return out
}
