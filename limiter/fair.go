package limiter

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// fairness divides the global bucket between merchants while it is nearly empty, so that a merchant
// that asks for twenty times its share takes nothing from the others.
//
// Tokens are given by rank. A purchase within its merchant's guaranteed rate may take the last
// token. If there are guaranteed rates, a purchase within the merchant's fair share must leave a
// part of the reserve for them: a quarter if the merchant asks for no more than its share, a half
// if it asks for more. A purchase above both must leave the whole reserve. So no token is lost: a
// token that no higher rank needs goes to any merchant that asks, and the sum never exceeds the
// bucket.
//
// The fair share is max-min by weight (Bertsekas and Gallager, Data Networks, 6.5.2) over what
// merchants asked for lately on this node. It is computed again every settleEvery. The node divides
// its part of what guaranteed rates leave of the global rate, and what they leave unused on the
// node. Its part is the even one, or what the node is granted of all tokens if that is clearly
// more: then other nodes use less than theirs. So all shares of all nodes together are about the
// global rate, whatever the nodes that purchases come to. When purchases begin to come to other
// nodes, the part is the even one again within moments.
//
// It keeps a tenant for each merchant that has come, Config.Merchants at most, and works on those
// that came in the last seconds. A merchant for which there is no room has rank excess.
type fairness struct {
	room    int // fixed
	tenants atomic.Pointer[map[string]*tenant]
	due     atomic.Int64 // moment of the next computation
	// contested means that more than one merchant came lately. A merchant that is alone may have
	// all tokens.
	contested atomic.Bool
	promised  atomic.Bool // there are guaranteed rates

	mu      sync.Mutex // guards the fields below
	active  []*tenant
	settled int64 // moment of the last computation
	terms   map[string]fairTerms
	others  fairTerms // of merchants that have no policy of their own
	rate    float64   // of the global bucket; 0: there is none
	rest    float64   // of it, what all guaranteed rates leave
	even    float64   // a node's part, where it isn't known
	shared  bool      // other nodes have a part of the global bucket
}

// fairTerms are the terms of a merchant's share, from its policy.
type fairTerms struct {
	guaranteed float64 // tokens per second, over the whole cluster
	weight     float64
}

// tenant is a merchant that competes for the global bucket.
type tenant struct {
	name   string // fixed
	listed atomic.Bool
	came   atomic.Int64 // tokens that were asked for since the last computation
	sure   pace         // the tokens of the guaranteed rate
	fair   pace         // the tokens of the fair share above it
	sated  atomic.Bool  // it asks for no more than its share

	demand float64 // tokens per second, smoothed; guarded by fairness.mu, like the fields below
	seen   int64   // the last computation before which the merchant came
}

// pace is a bucket without a lock, stored as one moment (see limit). With an interval of 0 it has
// no tokens.
type pace struct{ tat, interval, window atomic.Int64 }

const (
	// settleEvery is how often shares are computed.
	settleEvery = int64(100e6)
	// settleSpan is the time over which the demand of merchants is measured, in seconds.
	settleSpan = 0.5
	// idleSpan is the time after which a merchant that doesn't come has no share.
	idleSpan = int64(3e9)
	// paceBurst is how much of a share may be spent at once, as time, because requests come in
	// bursts.
	paceBurst = int64(500e6)
	// divided is the part of the rest that is divided. The other part is a margin, because
	// purchases come unevenly.
	divided = 0.99
	// reserveSpan is the size of the reserve of the global bucket for purchases within their share,
	// in seconds of the rate. It is at most half of the bucket.
	reserveSpan = 0.1
)

// rank says how far a purchase may empty the global bucket.
type rank uint8

const (
	excess rank = iota
	fairShare
	guaranteed
)

func newFairness(room int) *fairness {
	f := &fairness{room: room, others: fairTerms{weight: 1}}
	f.tenants.Store(&map[string]*tenant{})
	return f
}

// take takes n tokens, if it has them.
func (p *pace) take(n, now int64) bool {
	interval := p.interval.Load()
	if interval == 0 {
		return false
	}
	for {
		tat := p.tat.Load()
		next := max(tat, now) + n*interval
		if next-max(p.window.Load(), n*interval) > now {
			return false
		}
		if p.tat.CompareAndSwap(tat, next) {
			return true
		}
	}
}

// set changes the rate. Tokens are kept as time.
func (p *pace) set(rate float64) {
	if rate <= 0 {
		p.interval.Store(0)
		return
	}
	interval := int64(math.Ceil(1e9 / rate))
	p.window.Store(max(paceBurst, interval))
	p.interval.Store(interval)
}

// apply takes the terms of shares from a document. The global bucket is divided between a number of
// nodes; shared means that all of them have one bucket together.
func (f *fairness) apply(doc *Document, nodes int, shared bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.terms, f.others = shareTerms(doc)
	f.rate, f.even, f.shared = 0, 1/float64(nodes), shared && nodes > 1
	sure := 0.0
	for i := range doc.Policies {
		switch p := &doc.Policies[i]; p.Key {
		case Global:
			f.rate = p.Rate
		case Merchant:
			sure += p.Guaranteed
		}
	}
	f.rest = max(f.rate-sure, 0)
	f.promised.Store(sure > 0)
	f.contest()
	f.due.Store(0)
}

// shareTerms returns a document's terms for merchants' shares, and those for merchants without a
// policy.
func shareTerms(doc *Document) (terms map[string]fairTerms, others fairTerms) {
	terms, others = make(map[string]fairTerms), fairTerms{weight: 1}
	for i := range doc.Policies {
		p := &doc.Policies[i]
		if p.Key != Merchant {
			continue
		}
		t := fairTerms{p.Guaranteed, float64(max(p.Weight, 1))}
		if p.Match == "" {
			others = t
		} else {
			terms[p.Match] = t
		}
	}
	return terms, others
}

// Weights returns the document's weights of merchants, without weights of 1.
func (d *Document) Weights() map[string]int {
	weights := make(map[string]int)
	for i := range d.Policies {
		if p := &d.Policies[i]; p.Key == Merchant && p.Match != "" && p.Weight > 1 {
			weights[p.Match] = p.Weight
		}
	}
	return weights
}

// of returns the tenant of a merchant, and counts what the merchant asks for. It returns nil if
// there is no merchant, or no room for it.
func (f *fairness) of(merchant string, n, now int64, l *Limiter) *tenant {
	if merchant == "" {
		return nil
	}
	t := (*f.tenants.Load())[merchant]
	if t == nil {
		if t = f.add(merchant); t == nil {
			return nil
		}
	}
	t.came.Add(n)
	if !t.listed.Load() {
		f.list(t, now)
	}
	if due := f.due.Load(); now >= due && f.due.CompareAndSwap(due, now+settleEvery) {
		f.settle(now, l)
	}
	return t
}

// add makes the tenant of a merchant that comes for the first time.
func (f *fairness) add(merchant string) *tenant {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := *f.tenants.Load()
	if t := old[merchant]; t != nil {
		return t
	}
	next := maps.Clone(old)
	if len(next) >= f.room {
		maps.DeleteFunc(next, func(_ string, t *tenant) bool { return !t.listed.Load() })
		if len(next) >= f.room {
			return nil
		}
	}
	t := &tenant{name: strings.Clone(merchant)}
	next[t.name] = t
	f.tenants.Store(&next)
	return t
}

// list gives a merchant that comes back after a while an even share, by weight, at once.
func (f *fairness) list(t *tenant, now int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t.listed.Load() {
		return
	}
	f.active = append(f.active, t)
	t.demand, t.seen = 0, now
	terms, all := f.termsOf(t), 0.0
	for _, other := range f.active {
		all += f.termsOf(other).weight
	}
	t.sure.set(terms.guaranteed * f.even)
	t.fair.set(f.rest * f.even * terms.weight / all)
	t.sated.Store(true)
	t.sure.tat.Store(now)
	t.fair.tat.Store(now)
	f.contest()
	t.listed.Store(true)
}

// contest finds out whether merchants compete on this node. A node doesn't know the merchants of
// other nodes.
func (f *fairness) contest() { f.contested.Store(len(f.active) > 1 || f.shared) }

func (f *fairness) termsOf(t *tenant) fairTerms {
	if terms, own := f.terms[t.name]; own {
		return terms
	}
	return f.others
}

// settle computes the shares.
func (f *fairness) settle(now int64, l *Limiter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	passed := max(float64(now-f.settled)/1e9, 1e-3)
	f.settled = now
	kept := f.active[:0]
	for _, t := range f.active {
		came := t.came.Swap(0)
		if came > 0 {
			t.seen = now
		} else if now-t.seen > idleSpan {
			t.listed.Store(false)
			continue
		}
		t.demand += min(passed/settleSpan, 1) * (float64(came)/passed - t.demand)
		kept = append(kept, t)
	}
	clear(f.active[len(kept):])
	f.active = kept
	f.contest()
	f.divide(l)
}

// divide gives each active merchant its guaranteed rate, and divides the rest: whoever needs less
// than the level gets it, the others get the level.
func (f *fairness) divide(l *Limiter) {
	needs, rest := make([]need, 0, len(f.active)), f.rest*f.part(l.partNow())
	for i, t := range f.active {
		terms := f.termsOf(t)
		here, known := l.partOf(t.name)
		if !known {
			here = f.even
		}
		sure := terms.guaranteed * here
		t.sure.set(sure)
		rest += max(sure-t.demand, 0)
		needs = append(needs, need{i, max(t.demand-sure, 0), terms.weight})
	}
	level := fill(needs, rest*divided)
	for _, n := range needs {
		t := f.active[n.index]
		t.fair.set(level * n.weight)
		t.sated.Store(n.beyond <= level*n.weight)
	}
}

// clearly is how much more than an even part of the global bucket's tokens a node must be granted
// to have more than that to divide: parts differ by chance.
const clearly = 1.25

// part is the part of the rest that this node divides, where it is granted some part of all tokens.
func (f *fairness) part(granted float64) float64 {
	if granted > clearly*f.even {
		return granted
	}
	return f.even
}

// need is a merchant's demand beyond its guaranteed rate.
type need struct {
	index          int // chosen by the caller
	beyond, weight float64
}

// fill returns the level, by weight, up to which all needs can be met with the given amount. It
// sorts needs.
func fill(needs []need, have float64) (level float64) {
	weights := 0.0
	for _, n := range needs {
		weights += n.weight
	}
	slices.SortFunc(needs, func(a, b need) int { return cmp.Compare(a.beyond/a.weight, b.beyond/b.weight) })
	for _, n := range needs {
		if level = max(have, 0) / max(weights, n.weight); n.beyond/n.weight > level {
			break // all further ones need at least as much
		}
		have -= n.beyond
		weights -= n.weight
	}
	return level
}

// reserve is how many tokens of the global bucket a purchase above its share must leave; 0 if the
// merchant is alone.
func (f *fairness) reserve(l *limit) int64 {
	if f == nil || !f.contested.Load() {
		return 0
	}
	return min(l.burst/2, max(int64(l.rate*reserveSpan), 1))
}

// keep is how much a purchase of rank excess must leave in the pool, in microseconds.
func (f *fairness) keep(l *limit) int64 {
	return int64(float64(f.reserve(l)) * float64(l.terms.num) / float64(l.terms.den))
}

// rival is a merchant that takes tokens from the global bucket.
type rival struct {
	fair    *fairness // nil if merchants don't compete
	tenant  *tenant   // nil if the merchant has no share
	assured bool      // it has already spent a token of its guaranteed rate
}

// rank returns the rank of n tokens in a bucket that has some. If the merchant may not have them,
// it returns how many are missing. Tokens taken from its share are spent.
func (r *rival) rank(l *limit, tokens float64, n, now int64) (as rank, missing float64) {
	keep, left := float64(r.fair.reserve(l)), tokens-float64(n)+tokenSlack
	switch {
	case left >= keep:
		return excess, 0
	case left < 0:
		return excess, keep - left
	case r.assured:
		return guaranteed, 0
	case r.tenant == nil:
		return excess, keep - left
	case r.tenant.sure.take(n, now):
		return guaranteed, 0
	case left >= r.floor(keep) && r.tenant.fair.take(n, now):
		return fairShare, 0
	}
	return excess, keep - left
}

// vital reports whether n tokens are within the merchant's share. If so, they are spent.
func (r *rival) vital(n, now int64) bool {
	return r.assured || r.tenant != nil && (r.tenant.sure.take(n, now) || r.tenant.fair.take(n, now))
}

// floor is how much a purchase within the merchant's share must leave in the bucket.
func (r *rival) floor(keep float64) float64 {
	switch {
	case !r.tenant.sated.Load():
		return keep / 2
	case r.fair.promised.Load():
		return keep / 4
	}
	return 0
}

// Guaranteed takes a token of a merchant's guaranteed rate, and reports whether there was one. A
// request with such a token is admitted even if others are refused for lack of capacity. For it,
// set Request.Assured before Allow.
func (l *Limiter) Guaranteed(merchant string, now time.Time) bool {
	moment := l.clock.at(now)
	t := l.fair.of(merchant, 0, moment, l)
	return t != nil && t.sure.take(1, moment)
}

// partOf returns this node's part of a merchant's purchases, as far as it knows.
func (l *Limiter) partOf(merchant string) (part float64, known bool) {
	if l.cluster == nil {
		return 0, false
	}
	d := l.fairMerchants.Load()
	if d == nil {
		return 0, false
	}
	b := d.find(l.hashNames("", merchant), "", merchant)
	if b == nil {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.share.all < 0.5 {
		return 0, false
	}
	return b.share.part(l.cluster.nodes.Load()), true
}

// partNow returns which part of the global bucket's tokens this node was granted of late, 0 where
// that isn't known.
func (l *Limiter) partNow() float64 {
	d := l.fairGlobal.Load()
	if l.cluster == nil || d == nil {
		return 0
	}
	b := d.find(l.hashNames("", ""), "", "")
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.share.partNow()
}
