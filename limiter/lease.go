package limiter

import (
	"context"
	"math"
	"time"
)

// Pool has the cluster's buckets, one for each key; internal/leases keeps them in Redis.
type Pool interface {
	// Exchange gives back and takes tokens for all asks, and fills in their answers. After an error
	// the outcome of all asks is unknown. Only one call is made at a time.
	Exchange(ctx context.Context, asks []Ask) error
}

// Ask is a node's request for tokens of one bucket of the cluster, with the answer. The bucket
// gains Den tokens in Num microseconds, and takes Window microseconds from empty to full.
type Ask struct {
	Key    string
	Back   int64 // tokens that were granted and are not needed
	Want   int64 // tokens; fewer may be granted
	Num    int64
	Den    int64
	Window int64
	// Floor is how far from full the bucket is for this node, in microseconds. The pool uses it if
	// it has no record of the bucket, so that a pool that has lost its data gives no second burst.
	Floor int64
	// Keep is what must stay in the bucket, in microseconds of the window; only the Vital tokens of
	// Want may use it.
	Keep  int64
	Vital int64
	// Quota is how many tokens the bucket grants in a day, 0 where it is no bound, and Offset how
	// far the day's clock is ahead of UTC, in microseconds.
	Quota  int64
	Offset int64
	// Known is what the node knows of the day. A pool that knows less of that day has lost some: it
	// takes what the node knows.
	Known DayUse

	Granted int64  // the answer
	Room    int64  // the rest of the window after it, in microseconds
	Count   int64  // tokens that all nodes were granted since the pool has known the key
	Left    int64  // the rest of the Quota
	Usage   DayUse // of the day, after it; only with a Quota
}

// DayUse is how much of a quota was used on a day. The zero value knows nothing.
type DayUse struct {
	Day     int64 `json:"day"`     // since 1970, of the quota's zone
	Granted int64 `json:"granted"` // tokens; it only grows, so of two counts of a day the higher is newer
	Used    int64 `json:"used"`    // of them, without those that came back
}

// Newer reports whether u says more than another one.
func (u DayUse) Newer(other DayUse) bool {
	return u.Day > other.Day || u.Day == other.Day && u.Granted > other.Granted
}

const (
	// leaseEvery is the pause between two exchanges for a key whose tokens are leased. A limit with
	// less than one token in that time (up to 20 per second) is asked for request by request.
	leaseEvery = 50 * time.Millisecond
	// leaseAhead bounds what a node holds of one key: the tokens of this time.
	leaseAhead = 2 * leaseEvery
	// leaseBurst is the least burst of a leased key over all nodes, in time: tokens that are given
	// back must have room. Each node by itself keeps to the policy's burst.
	leaseBurst = 4 * leaseEvery
	// leaseLife is how long a lease may be spent after the last exchange.
	leaseLife = 5 * leaseEvery
	// patience is how long a request, and an exchange, waits for the pool. Then the node goes on
	// alone, until an exchange is answered again.
	patience = 100 * time.Millisecond
	// idleTicks is the number of exchanges after which a key without requests is forgotten.
	idleTicks = 40
	// partSpan is over how long a node's part of a key's tokens is measured.
	partSpan = 2 * time.Second
	// leastPart bounds by how much a token counts more while the node is alone.
	leastPart = 1.0 / MaxNodes
)

// terms are the values of a limit that the pool needs.
type terms struct {
	strict bool  // each request is asked for
	cap    int64 // tokens that a node may hold
	num    int64
	den    int64
	window int64 // µs
}

// newTerms returns the terms of a bucket. Numbers stay below 2⁵³, so that a script can multiply
// them exactly: above 1 per second the rate is in thousandths, below it the interval is in
// microseconds.
func newTerms(rate float64, burst int64) terms {
	t := terms{num: 1e9, den: int64(math.Round(rate * 1000))}
	if rate < 1 {
		t.num, t.den = int64(math.Round(1e6/rate)), 1
	}
	t.strict = rate*leaseEvery.Seconds() <= 1
	most := float64(burst)
	if !t.strict {
		t.cap = int64(min(max(rate*leaseAhead.Seconds(), 1), maxLease))
		most = max(most, rate*leaseBurst.Seconds())
	}
	t.window = int64(math.Ceil(most * float64(t.num) / float64(t.den)))
	return t
}

// maxLease bounds the tokens of one ask, so that their product with num is exact.
const maxLease = 4_000_000

// tokensOf returns how many tokens some microseconds are.
func (t *terms) tokensOf(micros int64) float64 {
	return float64(micros) * float64(t.den) / float64(t.num)
}

// share is a node's knowledge of a key's bucket in the pool. The zero value knows nothing. It is
// guarded by the lock of the bucket's home.
type share struct {
	name    string // in the pool
	lease   int64  // tokens granted and not spent
	waiting int64  // tokens that requests wait for, already taken from the local bucket
	asked   int64  // moment of the last answer
	short   bool   // it was less than was wanted
	drained bool   // nothing was left of the quota
	listed  bool   // it is renewed
	idle    int    // exchanges since the last request
	demand  int64  // tokens that were asked for since the last renewal
	pace    float64
	renewed int64 // moment of the last renewal

	usage DayUse // of the last answer

	known bool // count is of the last answer
	count int64
	own   float64 // tokens that this node was granted, and all nodes, lately
	all   float64
	carry float64 // part of a token, see alone
}

// part returns which part of the key's tokens this node was granted lately; where that isn't known,
// an even one.
func (s *share) part(nodes int64) float64 {
	even := 1 / float64(max(nodes, 1))
	if s == nil || s.all < 0.5 {
		return even
	}
	return min(max(s.own/s.all, leastPart), 1)
}

// alone returns how many tokens a token counts as while the pool is away: the local bucket stands
// for the cluster's, of which the other nodes take their parts meanwhile.
func (s *share) alone(nodes int64) float64 { return 1 / s.part(nodes) }

// debt is how much longer a bucket takes to fill because n tokens count as more while the node is
// alone.
func (c *cluster) debt(s *share, l *limit, n int64) int64 {
	if c == nil {
		return 0
	}
	return int64(float64(n*l.interval) * (s.alone(c.nodes.Load()) - 1))
}

// giveBack returns the tokens of a refused request: to their lease, or as tokens that no request
// waits for any more.
func (s *share) giveBack(g *grant) {
	switch {
	case s == nil:
	case g.leased:
		s.lease += g.taken
	case g.counted:
		s.waiting -= g.taken
	}
}

// outcome is how a claim of tokens stands.
type outcome uint8

const (
	claimed   outcome = iota // they are the request's
	mustAsk                  // the pool decides
	mustWait                 // the pool had none left a moment ago
	claimedBy                // the node decides alone: see share.alone
)

// claim claims n tokens of a lease. s is nil if there is no room for a share.
func (c *cluster) claim(s *share, l *limit, now, n int64) outcome {
	switch {
	case c == nil:
		return claimed
	case c.away.Load():
		return claimedBy
	case s == nil:
		return mustAsk
	case s.lease >= n && now-s.asked <= int64(leaseLife):
		s.lease -= n
		return claimed
	case !l.terms.strict && s.short && !s.drained && now < s.asked+int64(leaseEvery):
		return mustWait
	}
	return mustAsk
}

// came notes that tokens are asked for.
func (s *share) came(n int64) {
	if s != nil {
		s.demand += n
		s.idle = 0
	}
}

// answer applies an answer. waited is the number of tokens that requests waited for, served the
// number that they got.
func (s *share) answer(a *Ask, now, waited, served int64) {
	s.waiting -= waited
	s.lease += a.Granted - served
	s.short, s.drained = a.Granted < a.Want, a.Quota > 0 && a.Left == 0
	own := max(a.Granted-a.Back, 0)
	if all := a.Count - s.count; s.known && all >= 0 {
		fade := math.Exp(-float64(max(now-s.asked, 0)) / float64(partSpan))
		s.own = s.own*fade + float64(own)
		s.all = s.all*fade + float64(max(all, own))
	}
	if a.Quota > 0 && !s.usage.Newer(a.Usage) {
		s.usage = a.Usage
	}
	s.known, s.count, s.asked = true, a.Count, now
}

// renew returns how many tokens to give back and to want, by the demand since the last time, and
// whether the key is still in use.
func (s *share) renew(l *limit, now int64) (back, want int64, keep bool) {
	passed := max(float64(now-s.renewed)/1e9, 1e-3)
	if s.renewed == 0 {
		passed = leaseEvery.Seconds()
	}
	s.pace = s.pace/2 + float64(s.demand)/passed/2
	quiet := s.demand == 0
	s.demand, s.renewed = 0, now
	if quiet {
		s.idle++
		back, s.lease = s.lease, 0
		return back, 0, s.idle < idleTicks || s.waiting > 0
	}
	if now-s.asked > int64(leaseLife) {
		back, s.lease = s.lease, 0
	}
	if l.terms.strict {
		back, s.lease = back+s.lease, 0
		return back, 0, true
	}
	need := min(int64(math.Ceil(s.pace*leaseAhead.Seconds())), l.terms.cap)
	switch {
	case s.lease > 2*need:
		back += s.lease - need
		s.lease = need
	case s.lease < need:
		want = need - s.lease
	}
	return back, want, true
}
