package limiter

import (
	"math"
	"time"
)

// limit is a policy prepared for one node, with the arithmetic of its buckets.
//
// A bucket's whole state is one moment: its TAT, the "theoretical arrival time" of the generic cell
// rate algorithm, at which it will be full again. Taking a token moves the TAT one interval later;
// a bucket whose TAT is one window ahead is empty. So
//
//	tokens(now) = burst − (max(TAT, now) − now) / interval
//
// and a TAT in the past means that the bucket is full, like one that was never seen, and may be
// forgotten. Only the TAT is stored. If a moment comes too late (because a goroutine read the clock
// and then had to wait), it finds fewer tokens, never more.
//
// The interval is in whole nanoseconds, rounded up. So the real rate is never above the rate, and
// below it by less than one part in 10⁹/rate.
type limit struct {
	policy *Policy // of the snapshot that the limit is part of
	index  int     // the policy's place in its document
	shadow bool
	off    bool
	// bare means that the policy has no bucket, only other bounds. Such a bucket always has enough
	// tokens.
	bare  bool
	cost  Cost
	zone  *time.Location            // of a policy with a Quota
	salt  uint64                    // differs between kinds, because keys of two kinds may have the same name
	skus  func(merchant string) int // for a policy with a QuotaPerSKU
	tally *tally
	terms terms     // set if there is a pool
	fair  *fairness // for the global limit; nil for the others

	rate     float64 // this node's tokens per second
	burst    int64   // this node's burst
	interval int64   // nanoseconds per token
	window   int64   // burst × interval: from empty to full
	most     int64   // the most tokens that a request may cost: a full bucket, or the quota of a day
	// floor is the TAT of a key without a bucket; 0 means full. After an edit that raised the
	// burst, such a key has the tokens of a full bucket before the edit, and fills up from there.
	floor int64
}

// newLimit returns a node's share of a valid policy. The share of a burst is at least one token, so
// a burst below the number of nodes is exceeded by their sum.
func newLimit(p *Policy, index, nodes int) *limit {
	l := &limit{policy: p, index: index, shadow: p.Mode == Shadow, off: p.Mode == Off, bare: !p.bucketed(), cost: DefaultCost()}
	if p.Cost != nil {
		l.cost = *p.Cost
	}
	l.salt = uint64(indexOf(p.Key)+1) * 0x9E3779B97F4A7C15
	if l.zone = time.UTC; p.Zone != "" {
		if zone, err := zoneOf(p.Zone); err == nil { // it was validated
			l.zone = zone
		}
	}
	perSecond, burst := p.Rate, p.Burst
	if l.bare {
		perSecond, burst = MaxRate, MaxBurst
	}
	l.terms = newTerms(perSecond, burst)
	l.rate = perSecond / float64(nodes)
	l.burst = max(1, burst/int64(nodes))
	l.interval = int64(math.Ceil(1e9 / l.rate))
	l.window = l.burst * l.interval
	if l.most = l.burst; p.Quota > 0 {
		l.most = min(l.most, max(p.Quota, p.QuotaMax))
	}
	return l
}

// price returns how many tokens a request takes. A request that takes none is not limited.
func (l *limit) price(req *Request) int64 { return l.cost.of(req) }

// tooDear reports whether n tokens are more than a key can ever have. In that case it makes g
// refuse them for good, because waiting would be useless.
func (l *limit) tooDear(n int64, g *grant) bool {
	if n <= l.most {
		return false
	}
	*g = grant{limit: l, wait: 1, bound: ByCost, quota: l.most, left: float64(n)}
	return true
}

// timeOf is how long the bucket needs to gain some tokens.
func (l *limit) timeOf(tokens float64) int64 { return int64(tokens * float64(l.interval)) }

// spend takes n tokens, at most burst, from a bucket. It returns the bucket's new TAT, or the time
// until it has n tokens.
func (l *limit) spend(tat, now, n int64) (next, wait int64) {
	next = max(tat, now) + n*l.interval
	return next, next - l.window - now
}

// tokens returns how many tokens are in a bucket.
func (l *limit) tokens(tat, now int64) float64 {
	return float64(l.burst) - float64(max(tat, now)-now)/float64(l.interval)
}

// carry returns the TAT under l of a bucket that was under old until now. The bucket keeps its
// tokens, as far as they fit: an edit gives no tokens, and takes only those that the new bucket
// can't hold. If tokens were scaled with the burst, a full bucket would get more. Rounding is
// always to the strict side.
func (l *limit) carry(old *limit, tat, now int64) int64 {
	if old == nil {
		return min(tat, now+l.window)
	}
	if l.sameBuckets(old) {
		return tat
	}
	kept := min(max(old.tokens(tat, now), 0), float64(l.burst))
	missing := math.Ceil((float64(l.burst) - kept) * float64(l.interval))
	return now + min(int64(missing), l.window)
}

// sameBuckets reports whether a TAT means the same under both.
func (l *limit) sameBuckets(old *limit) bool {
	return l.burst == old.burst && l.interval == old.interval
}
