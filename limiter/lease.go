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
	Back   int64 // granted tokens that are not needed
	Want   int64 // tokens that are wanted; fewer may be granted
	Num    int64
	Den    int64
	Window int64
	// Floor is how far this node's bucket is from full, in microseconds. The pool uses it if it has
	// no record of the bucket. So a pool that has lost its data gives no second burst.
	Floor int64
	// Keep is what must stay in the bucket, in microseconds of the window. Only the Vital tokens of
	// Want may use it.
	Keep  int64
	Vital int64
	// Quota is how many tokens the bucket grants in a day; 0 means no bound. Offset is how far the
	// day's clock is ahead of UTC, in microseconds.
	Quota  int64
	Offset int64
	// Owed is how many tokens the node admitted in the last Span microseconds without a grant,
	// because the pool was late or unreachable. The bucket is charged with them. Debt names them:
	// the tokens of one name are charged once, even if they are reported again. If no node used the
	// bucket in that time, the gain for which it had no room pays first, up to Depth: that is how
	// far from full the tokens alone would have left it. The tokens of the last Deep microseconds
	// may leave the bucket with less than zero, but by no more than their number.
	Owed  int64
	Debt  Debt
	Span  int64
	Depth int64
	Deep  int64
	// Known is what the node knows about the day's use. If the pool knows less about that day, it
	// has lost data, and takes the node's value.
	Known DayUse

	Granted int64  // the answer: tokens that were granted
	Room    int64  // what the bucket has after the answer, in microseconds; it may be negative
	Count   int64  // all tokens that were granted to all nodes since the pool has known the key
	Left    int64  // what is left of the Quota
	Usage   DayUse // the day's use after the answer; only with a Quota
}

// Debt names tokens that a node admitted alone. The zero value names none. For one node and bucket,
// a higher number is reported only after all lower ones were charged.
type Debt struct {
	Node   uint32 // random, fixed while the node runs; above 0
	Number int64
}

// DayUse is how much of a quota was used on a day. The zero value means that nothing is known.
type DayUse struct {
	Day     int64 `json:"day"`     // days since 1970, in the quota's zone
	Granted int64 `json:"granted"` // tokens; it only grows, so of two values for a day the higher one is newer
	Used    int64 `json:"used"`    // those of Granted that were not given back
}

// Newer reports whether u is newer than another DayUse.
func (u DayUse) Newer(other DayUse) bool {
	return u.Day > other.Day || u.Day == other.Day && u.Granted > other.Granted
}

const (
	// leaseEvery is the pause between two exchanges for a key whose tokens are leased. A limit with
	// less than one token in that time (up to 20 per second) is asked for request by request.
	leaseEvery = 50 * time.Millisecond
	// leaseAhead bounds how many tokens of one key a node holds: the tokens of this time.
	leaseAhead = 2 * leaseEvery
	// leaseBurst is the least burst of a leased key over all nodes, as time, because tokens that
	// are given back need room. Each single node keeps to the policy's burst.
	leaseBurst = 4 * leaseEvery
	// leaseLife is how long a lease may be spent after the last exchange.
	leaseLife = 5 * leaseEvery
	// patience is how long a request, and an exchange, waits for the pool. After that the node
	// decides alone, until an exchange is answered again.
	patience = 100 * time.Millisecond
	// idleTicks is the number of exchanges after which a key without requests is forgotten.
	idleTicks = 40
	// partSpan is the time over which a node's part of a key's tokens is measured.
	partSpan = 2 * time.Second
	// lateSpan is the same for a part that must not be too large, see share.partNow.
	lateSpan = 500 * time.Millisecond
	// leastPart bounds by how much a token counts more while the node is alone.
	leastPart = 1.0 / MaxNodes
)

// terms are the values of a limit that the pool needs.
type terms struct {
	strict bool  // the pool is asked for each request
	cap    int64 // the most tokens that a node may hold
	num    int64
	den    int64
	window int64 // µs
	deep   int64 // µs by which the bucket may be below zero
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
	t.deep = max(deepest.Microseconds(), min(t.window, deepTokens*t.num/t.den))
	return t
}

const (
	// deepest bounds how far below zero a bucket may be charged: by the tokens of this time, or by
	// at most a burst of deepTokens, whichever is more. Tokens beyond that are not charged, because
	// a caller must not be refused for as long as a node was cut off.
	deepest    = time.Second
	deepTokens = 20
)

// maxLease bounds the tokens of one ask, so that their product with num is exact.
const maxLease = 4_000_000

// tokensOf converts microseconds into tokens.
func (t *terms) tokensOf(micros int64) float64 {
	return float64(micros) * float64(t.den) / float64(t.num)
}

// share is a node's knowledge of a key's bucket in the pool. The zero value means that nothing is
// known. It is guarded by the lock of the bucket's home.
type share struct {
	name    string // the key's name in the pool
	lease   int64  // granted tokens that are not spent yet
	waiting int64  // tokens that requests wait for; they are already taken from the local bucket
	asked   int64  // moment of the last answer
	short   bool   // the last answer was less than was wanted
	drained bool   // nothing was left of the quota at the last answer
	listed  bool   // it is among the keys that are renewed
	idle    int    // exchanges since the last request
	demand  int64  // tokens that were asked for since the last renewal
	pace    float64
	renewed int64 // moment of the last renewal

	usage DayUse // as of the last answer

	owes owed // tokens spent while alone that the pool has not been told of
	told owed // tokens that it was told of, but has not confirmed yet

	known bool // count comes from the last answer
	count int64
	own   float64 // tokens granted lately to this node, and to all nodes
	all   float64
	carry float64 // part of a token, see alone

	late struct{ own, all float64 } // like own and all, over lateSpan
}

// part returns this node's part of the key's tokens that were granted lately. If that isn't known,
// it returns an even part.
func (s *share) part(nodes int64) float64 {
	even := 1 / float64(max(nodes, 1))
	if s == nil || s.all < 0.5 {
		return even
	}
	return min(max(s.own/s.all, leastPart), 1)
}

// partNow returns which part of the key's tokens this node was granted, over partSpan or lateSpan,
// whichever is less: it is soon small when other nodes come for tokens. 0 is unknown.
func (s *share) partNow() float64 {
	if s.all < 0.5 || s.late.all <= 0 {
		return 0
	}
	return max(min(s.own/s.all, s.late.own/s.late.all, 1), 0)
}

// alone returns how many tokens a token counts as while the pool is away: the local bucket stands
// for the cluster's, of which the other nodes take their parts meanwhile.
func (s *share) alone(nodes int64) float64 { return 1 / s.part(nodes) }

// over returns how many extra tokens n tokens cost while the node is alone.
func (c *cluster) over(s *share, n int64) float64 {
	if c == nil {
		return 0
	}
	return float64(n) * (s.alone(c.nodes.Load()) - 1)
}

// giveBack returns the tokens of a refused request to their lease, or records that no request waits
// for them any longer.
func (s *share) giveBack(g *grant) {
	switch {
	case s == nil:
	case g.leased:
		s.lease += g.taken
	case g.alone && s.owes.tokens >= g.taken:
		s.owes.less(g.taken, g.limit)
	case g.alone:
		s.lease += g.taken // the pool was told of them, so they count as granted
	case g.counted:
		s.waiting -= g.taken
	}
}

// outcome is the state of a claim.
type outcome uint8

const (
	claimed   outcome = iota // the request has the tokens
	mustAsk                  // the pool must decide
	mustWait                 // a moment ago the pool had none left
	claimedBy                // the node decides alone: see share.alone
)

// owe records tokens that the node spends while alone, until it can tell the pool.
func (s *share) owe(n int64, l *limit, now int64) {
	if s == nil {
		return
	}
	if s.owes.tokens == 0 {
		s.owes.since = now
	}
	s.owes.tokens += n
	s.owes.full = max(s.owes.full, now) + l.terms.timeOf(n)
}

// owed are the tokens that a node has spent while alone.
type owed struct {
	tokens int64
	since  int64 // moment of the first token
	full   int64 // moment at which a bucket that lost only these would be full again
	number int64 // the number of their Debt, after the pool was told
}

// pay uses tokens of the lease for tokens that were spent while alone.
func (s *share) pay(l *limit) {
	n := min(s.owes.tokens, s.lease)
	s.lease -= n
	s.owes.less(n, l)
}

// less subtracts n tokens.
func (o *owed) less(n int64, l *limit) {
	o.tokens -= n
	o.full -= l.terms.timeOf(n)
}

// tell puts the node's debt into an Ask. It is repeated until the pool has answered.
func (s *share) tell(a *Ask, c *cluster, now int64) {
	if s.told.tokens == 0 {
		if s.owes.tokens == 0 {
			return
		}
		s.told, s.owes = s.owes, owed{}
		s.told.number = c.numbers.Add(1)
	}
	a.Owed, a.Debt = s.told.tokens, Debt{c.node, s.told.number}
	a.Span, a.Depth = max(now-s.told.since, 0)/1000, max(s.told.full-now, 0)/1000
}

// timeOf is how long the cluster's bucket needs to gain n tokens, in nanoseconds.
func (t *terms) timeOf(n int64) int64 {
	return int64(float64(n) * float64(t.num) / float64(t.den) * 1000)
}

// claim claims n tokens of a lease. s is nil if there is no room for the key's share.
func (c *cluster) claim(s *share, l *limit, now, n int64) outcome {
	switch {
	case c == nil:
		return claimed
	case s.spend(n, now):
		return claimed
	case c.away.Load():
		return claimedBy
	case s == nil:
		return mustAsk
	case !l.terms.strict && s.short && !s.drained && now < s.asked+int64(leaseEvery):
		return mustWait
	}
	return mustAsk
}

// spend takes n tokens of the lease, if it has that many.
func (s *share) spend(n, now int64) bool {
	if s == nil || s.lease < n || now-s.asked > int64(leaseLife) {
		return false
	}
	s.lease -= n
	return true
}

// came records that tokens were asked for.
func (s *share) came(n int64) {
	if s != nil {
		s.demand += n
		s.idle = 0
	}
}

// answer processes an answer. waited is how many tokens requests waited for, and served how many
// they got.
func (s *share) answer(a *Ask, now, waited, served int64) {
	s.waiting -= waited
	s.lease += a.Granted - served
	s.short, s.drained = a.Granted < a.Want, a.Quota > 0 && a.Left == 0
	// What comes back is in neither count. Where half of the count is gone, the pool has forgotten.
	own := float64(a.Granted + a.Owed - a.Back)
	if all := a.Count - s.count; s.known && all >= -s.count/2 {
		passed := float64(max(now-s.asked, 0))
		fade, late := math.Exp(-passed/float64(partSpan)), math.Exp(-passed/float64(lateSpan))
		s.own = s.own*fade + own
		s.all = s.all*fade + float64(all)
		s.late.own = s.late.own*late + own
		s.late.all = s.late.all*late + float64(all)
	}
	if a.Quota > 0 && !s.usage.Newer(a.Usage) {
		s.usage = a.Usage
	}
	s.known, s.count, s.asked = true, a.Count, now
	if a.Owed > 0 && a.Debt.Number == s.told.number {
		s.told = owed{}
	}
}

// indebted reports whether the node has spent tokens alone that the pool has not charged yet.
func (s *share) indebted() bool { return s.owes.tokens > 0 || s.told.tokens > 0 }

// renew returns how many tokens to give back and how many to want, by the demand since the last
// renewal, and whether the key is still in use.
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
		return back, 0, s.idle < idleTicks || s.waiting > 0 || s.indebted()
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
