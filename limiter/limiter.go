package limiter

import (
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Request is what a decision is about. A kind whose fields are empty doesn't apply: a status read has no user, a payment notice no
// caller. The strings are only looked at during the call.
type Request struct {
	Merchant string
	Caller   string // of the merchant
	User     string // of the merchant
	Activity string
	SKU      string // of the activity
	IP       netip.Addr
	// Cost is how many tokens the request takes of each bucket; less than 1 counts as 1. A bucket that is smaller is taken whole.
	Cost int
	// Shadow makes all policies count only, whatever their mode: for who has switched limits to shadow.
	Shadow bool
}

// Decision is the answer to a Request.
type Decision struct {
	Allowed bool
	// Global says that the global limit refused: it is the system's capacity that is used up, not the caller's share of it.
	Global bool
	// Policy is the one that refused; of an allowed request, the enforced one that has the least of its bucket left, never the
	// global one. nil when there is none. It belongs to the limiter and doesn't change.
	Policy *Policy
	// Index is the place of Policy in its document, -1 without one.
	Index int
	// Limit is the burst of Policy on this node, Remaining how many tokens are left of it.
	Limit     int64
	Remaining int64
	// RetryAfter is when Policy will have the tokens that were asked for, if nobody else takes them; 0 when allowed.
	RetryAfter time.Duration
	// Reset is when the bucket will be full, if nobody takes of it.
	Reset time.Duration
	// Shadowed is the narrowest policy that would have refused, had it been enforced, or nil.
	Shadowed *Policy
}

// kind is a Kind as an index.
type kind int

const (
	caller kind = iota
	user
	ip
	sku
	activity
	merchant
	global
	kinds
)

// kindNames are in the order of evaluation, from narrow to wide. The caller comes first: what it may not do anyway, it can't do under
// a million invented users either, each of whom would need a slot.
var kindNames = [kinds]Kind{Caller, User, IP, SKU, Activity, Merchant, Global}

// Limiter decides requests by the policies that were last applied. It is safe for use by many goroutines; New makes it.
type Limiter struct {
	cfg    Config // the three are fixed
	clock  *clock
	hashes [2]maphash.Seed

	snapshot atomic.Pointer[snapshot]

	mu          sync.Mutex // one Apply at a time, and what it keeps:
	epoch       uint64
	tables      [kinds]*table // made when a policy of their kind is first applied, and kept
	directories [kinds]*directory
	cell        *cell
}

// snapshot is everything that a decision looks at. It is never changed.
type snapshot struct {
	nodes  int
	steps  []step // from narrow to wide, only those that have something to ask
	limits []*limit
}

// step is one kind's question to a request. One of table, directory and cell is set.
type step struct {
	kind      kind
	rules     *rules
	table     *table
	directory *directory
	cell      *cell
}

// grant is what a step answered.
type grant struct {
	limit *limit
	left  float64 // tokens
	taken int64   // 0 when it refused
	wait  int64   // above 0 when it refused

	// where to give back to
	table     *table
	directory *directory // of a stranger
	bucket    *bucket
	cell      *cell
	key       uint64
	stranger  bool // in a table
}

// New returns a limiter that has no policies yet and allows everything. now is the time by the clock of which all other times will be.
func New(cfg Config, now time.Time) (*Limiter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &Limiter{cfg: cfg, clock: newClock(now), hashes: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	l.snapshot.Store(&snapshot{nodes: 1})
	return l, nil
}

// Allow decides a request that arrived at now: all policies that concern it have a token for it, or none loses one. It doesn't block
// and doesn't allocate, but for a merchant or caller that is new.
func (l *Limiter) Allow(req *Request, now time.Time) Decision {
	s := l.snapshot.Load()
	moment := l.clock.at(now)
	cost := int64(max(req.Cost, 1))
	var grants [kinds]grant
	asked, tightest := 0, -1
	least := math.Inf(1)
	var shadowed *limit
	for i := range s.steps {
		g := &grants[asked]
		if !l.ask(&s.steps[i], req, moment, cost, g) {
			continue
		}
		asked++
		if g.wait > 0 {
			if !g.limit.shadow && !req.Shadow {
				return refusal(grants[:asked], shadowed, moment)
			}
			if shadowed == nil {
				shadowed = g.limit
			}
			continue
		}
		if share := g.left / float64(g.limit.burst); share < least && !g.limit.shadow && s.steps[i].kind != global {
			least, tightest = share, asked-1
		}
	}
	stripe := stripeAt(moment)
	for i := range grants[:asked] {
		if grants[i].wait > 0 {
			grants[i].limit.tally.shadowed(stripe)
		} else {
			grants[i].limit.tally.allowed(stripe)
		}
	}
	d := Decision{Allowed: true, Index: -1}
	if tightest >= 0 {
		d.describe(&grants[tightest])
	}
	if shadowed != nil {
		d.Shadowed = shadowed.policy
	}
	return d
}

// refusal gives back what was granted before the last grant, which refused.
func refusal(grants []grant, shadowed *limit, moment int64) Decision {
	stripe := stripeAt(moment)
	last := len(grants) - 1
	for i := range grants[:last] {
		g := &grants[i]
		if g.wait > 0 {
			g.limit.tally.shadowed(stripe)
		} else {
			g.giveBack()
			g.limit.tally.returned(stripe)
		}
	}
	g := &grants[last]
	g.limit.tally.refused(stripe)
	d := Decision{Global: g.limit.policy.Key == Global, RetryAfter: time.Duration(g.wait)}
	d.describe(g)
	if shadowed != nil {
		d.Shadowed = shadowed.policy
	}
	return d
}

// describe says what the bucket of a grant is like.
func (d *Decision) describe(g *grant) {
	d.Policy, d.Index, d.Limit = g.limit.policy, g.limit.index, g.limit.burst
	d.Remaining = int64(max(g.left+tokenSlack, 0))
	d.Reset = time.Duration(max(float64(d.Limit)-g.left, 0) * float64(g.limit.interval))
}

// tokenSlack lets a count of tokens that floating point made a little too small show as the number that it is.
const tokenSlack = 1e-6

func (g *grant) giveBack() {
	switch {
	case g.table != nil:
		g.table.giveBack(g)
	case g.bucket != nil:
		g.bucket.giveBack(g.taken)
	case g.directory != nil:
		g.directory.giveBack(g)
	default:
		g.cell.giveBack(g.taken)
	}
}

// ask puts a step's question. It returns false when the step doesn't concern the request.
func (l *Limiter) ask(s *step, req *Request, moment, cost int64, g *grant) bool {
	if s.cell != nil {
		return s.cell.take(moment, cost, g)
	}
	owner, name := "", ""
	switch s.kind {
	case caller:
		owner, name = req.Merchant, req.Caller
	case user:
		owner, name = req.Merchant, req.User
	case sku:
		owner, name = req.Activity, req.SKU
	case activity:
		name = req.Activity
	case merchant:
		name = req.Merchant
	case ip:
		if !req.IP.IsValid() {
			return false
		}
		if !s.table.take(s.rules, l.hashAddr(req.IP), moment, cost, g) {
			return false
		}
		g.table = s.table
		return true
	}
	if name == "" {
		return false
	}
	key := l.hashNames(owner, name)
	if s.directory != nil {
		return s.directory.take(s.rules, key, owner, name, moment, cost, g)
	}
	if !s.table.take(s.rules, key, moment, cost, g) {
		return false
	}
	g.table = s.table
	return true
}

// hashNames returns the key of a name within its owner. The two have seeds of their own, or their order wouldn't matter.
func (l *Limiter) hashNames(owner, name string) uint64 {
	return max(1, maphash.String(l.hashes[0], owner)+maphash.String(l.hashes[1], name)) // 0 is a slot without a key
}

// hashAddr returns the key of an address.
func (l *Limiter) hashAddr(a netip.Addr) uint64 {
	b := group(a).As16()
	return max(1, maphash.Bytes(l.hashes[0], b[:]))
}

// Apply puts a document in force on a node that is one of some number of nodes, which share each limit evenly. It is validated and
// made ready as a whole, then swapped in; after an error, all is as before. Buckets keep their tokens, as far as they fit: see limit.
// Nobody gets a token by an edit. When Apply returns, every later Allow decides by the document, which is copied.
func (l *Limiter) Apply(doc Document, nodes int, now time.Time) error {
	if err := doc.Validate(); err != nil {
		return err
	}
	if nodes < 1 || nodes > MaxNodes {
		return fmt.Errorf("limits can be split over 1 to %d nodes, not %d", MaxNodes, nodes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	moment := l.clock.at(now)
	l.epoch++
	next := &snapshot{nodes: nodes, limits: l.makeLimits(doc, nodes)}
	made := l.sortLimits(next.limits)
	for k, r := range made {
		if r == nil {
			continue
		}
		s := step{kind: kind(k), rules: r}
		switch s.kind {
		case global:
			s.cell = &cell{limit: r.template}
		case caller, merchant:
			l.openDirectory(s.kind)
			s.directory = l.directories[k]
			r.follow(s.directory.rules, moment)
			s.directory.prepare(r, moment)
		default:
			l.openTable(s.kind)
			s.table = l.tables[k]
			r.follow(s.table.rules, moment)
		}
		if r.governs() {
			next.steps = append(next.steps, s)
		}
		if s.cell != nil {
			if l.cell != nil {
				s.cell.succeed(l.cell, moment)
			}
			l.cell = s.cell
		}
	}
	l.snapshot.Store(next)
	for k, r := range made {
		switch {
		case r == nil:
		case l.directories[k] != nil:
			l.directories[k].apply(r, moment)
		case l.tables[k] != nil:
			l.tables[k].apply(r, moment)
		}
	}
	return nil
}

// makeLimits makes a limit of each policy. A policy that stays what it is keeps its counts.
func (l *Limiter) makeLimits(doc Document, nodes int) []*limit {
	type counted struct {
		name string
		key  Kind
	}
	kept := map[counted]*tally{}
	for _, old := range l.snapshot.Load().limits {
		kept[counted{old.policy.Name, old.policy.Key}] = old.tally
	}
	policies := make([]Policy, len(doc.Policies))
	copy(policies, doc.Policies)
	limits := make([]*limit, len(policies))
	for i := range policies {
		p := &policies[i]
		limits[i] = newLimit(p, i, nodes)
		if limits[i].tally = kept[counted{p.Name, p.Key}]; limits[i].tally == nil {
			limits[i].tally = &tally{}
		}
	}
	return limits
}

// sortLimits makes the rules of each kind that has policies.
func (l *Limiter) sortLimits(limits []*limit) [kinds]*rules {
	var made [kinds]*rules
	for _, lim := range limits {
		k := indexOf(lim.policy.Key)
		if made[k] == nil {
			made[k] = &rules{epoch: l.epoch, exact: map[uint64]*limit{}}
		}
		if lim.policy.Match == "" {
			made[k].template = lim
		} else {
			made[k].exact[l.hashMatch(lim.policy)] = lim
		}
	}
	return made
}

func indexOf(key Kind) kind {
	for k, name := range kindNames {
		if name == key {
			return kind(k)
		}
	}
	panic("limiter: kind " + string(key) + " was validated and is unknown")
}

// hashMatch returns the key that a policy matches.
func (l *Limiter) hashMatch(p *Policy) uint64 {
	if p.Key == IP {
		return l.hashAddr(matchedAddr(p.Match))
	}
	return l.hashNames(splitMatch(p))
}

// splitMatch returns the names that the policy matches, of the owner and within it.
func splitMatch(p *Policy) (owner, name string) {
	if owner, name, two := strings.Cut(p.Match, "/"); two {
		return owner, name
	}
	return "", p.Match
}

func (l *Limiter) openTable(k kind) {
	if l.tables[k] != nil {
		return
	}
	l.tables[k] = newTable(map[kind]int{user: l.cfg.Users, ip: l.cfg.IPs, sku: l.cfg.SKUs, activity: l.cfg.Activities}[k])
}

func (l *Limiter) openDirectory(k kind) {
	if l.directories[k] != nil {
		return
	}
	l.directories[k] = newDirectory(map[kind]int{merchant: l.cfg.Merchants, caller: l.cfg.Callers}[k])
}
