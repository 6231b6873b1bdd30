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

// fairness divides the global bucket between merchants while it is short, so that one that asks for
// twenty times its share takes nothing from the others.
//
// Tokens go by rank. A purchase within its merchant's guaranteed rate may take the last token. One
// within the merchant's fair share leaves a little to those, if there are any: a quarter of the
// reserve where the merchant asks for no more than that, half where it does. What is above both
// leaves the whole reserve. So nothing is lost: a token that nobody of a higher rank needs goes to
// whoever asks, and all together never let pass more than the bucket does.
//
// The fair share is max-min by weight (Bertsekas and Gallager, Data Networks, 6.5.2) over what
// merchants asked for lately on this node, found anew every settleEvery. The node divides its part
// of what guaranteed rates leave of the global rate, and what they leave unused on it. Its part is
// the even one, or what it is granted of all tokens where that is clearly more: then others use
// less than theirs. So all shares of all nodes together are about the global rate, whoever asks
// where. Where purchases begin to come to other nodes, it is the even one again within moments.
//
// It keeps a tenant for each merchant that has come, Config.Merchants at most, and works on those
// that came in the last seconds. A merchant without room has rank excess.
type fairness struct {
	room    int // fixed
	tenants atomic.Pointer[map[string]*tenant]
	due     atomic.Int64 // moment of the next settlement
	// contested says that more than one merchant came lately: a merchant alone may have all.
	contested atomic.Bool
	promised  atomic.Bool // there are guaranteed rates

	mu      sync.Mutex // guards all that follows
	active  []*tenant
	settled int64 // moment of the last settlement
	terms   map[string]fairTerms
	others  fairTerms // of merchants that have no policy of their own
	rate    float64   // of the global bucket; 0: there is none
	rest    float64   // of it, what all guaranteed rates leave
	even    float64   // a node's part, where it isn't known
	shared  bool      // other nodes have a part of the global bucket
}

// fairTerms are a merchant's terms for its share, from its policy.
type fairTerms struct {
	guaranteed float64 // tokens per second, of the cluster
	weight     float64
}

// tenant is a merchant that competes for the global bucket.
type tenant struct {
	name   string // fixed
	listed atomic.Bool
	came   atomic.Int64 // tokens that were asked for since the last settlement
	sure   pace         // of the guaranteed rate
	fair   pace         // of the fair share beyond that
	sated  atomic.Bool  // it asks for no more than its share

	demand float64 // tokens per second, smoothed; guarded by fairness.mu, like what follows
	seen   int64   // the last settlement before which it came
}

// pace is a bucket without a lock: see limit for its one moment. An interval of 0 has no tokens.
type pace struct{ tat, interval, window atomic.Int64 }

const (
	// settleEvery is how often shares are computed.
	settleEvery = int64(100e6)
	// settleSpan is over how long it is measured what merchants ask for.
	settleSpan = 0.5
	// idleSpan is after how long a merchant that doesn't come has no share.
	idleSpan = int64(3e9)
	// paceBurst is how much of a share may be spent at once, in time: crowds come in bursts.
	paceBurst = int64(500e6)
	// divided is how much of the rest is divided; what is left evens out that purchases come
	// unevenly.
	divided = 0.99
	// reserveSpan is how much of the global bucket is kept for those within their share, in time,
	// and at most half of it.
	reserveSpan = 0.1
)

// rank is the level down to which a purchase may empty the global bucket.
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

// take takes n tokens, if there are so many.
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
// nodes; shared means that it is one bucket for all of them.
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

// Weights returns the document's weights of merchants, without those that are 1.
func (d *Document) Weights() map[string]int {
	weights := make(map[string]int)
	for i := range d.Policies {
		if p := &d.Policies[i]; p.Key == Merchant && p.Match != "" && p.Weight > 1 {
			weights[p.Match] = p.Weight
		}
	}
	return weights
}

// of returns the tenant of a merchant and counts what it asks for, nil where there is no room or no
// merchant.
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

// list gives a merchant a share that comes after a while, at once: the even one by weight.
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

// contest finds out whether merchants compete. A node doesn't know which merchants come to other
// nodes.
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
	index          int // of the caller's choosing
	beyond, weight float64
}

// fill divides what there is: it returns the level, by weight, up to which everybody gets what it
// needs. It sorts needs.
func fill(needs []need, have float64) (level float64) {
	weights := 0.0
	for _, n := range needs {
		weights += n.weight
	}
	slices.SortFunc(needs, func(a, b need) int { return cmp.Compare(a.beyond/a.weight, b.beyond/b.weight) })
	for _, n := range needs {
		if level = max(have, 0) / max(weights, n.weight); n.beyond/n.weight > level {
			break // and all that follow
		}
		have -= n.beyond
		weights -= n.weight
	}
	return level
}

// reserve is how many tokens of the global bucket a purchase above its share leaves; 0 where a
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

// rival is the merchant that takes tokens of the global bucket.
type rival struct {
	fair    *fairness // nil: without competitors
	tenant  *tenant   // nil: it has no share
	assured bool      // it has spent a token of its guaranteed rate already
}

// rank says which rank n tokens have, of a bucket that has some, and how many are missing where it
// may not have them. What it takes of its share is spent.
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

// vital reports whether n tokens are within the merchant's share, which is spent.
func (r *rival) vital(n, now int64) bool {
	return r.assured || r.tenant != nil && (r.tenant.sure.take(n, now) || r.tenant.fair.take(n, now))
}

// floor is how much a purchase within the merchant's share must leave.
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
// request with it is let in when others are refused for lack of capacity. Set Request.Assured for
// Allow then.
func (l *Limiter) Guaranteed(merchant string, now time.Time) bool {
	moment := l.clock.at(now)
	t := l.fair.of(merchant, 0, moment, l)
	return t != nil && t.sure.take(1, moment)
}

// partOf returns which part of a merchant's purchases this node has, as far as it knows.
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
