package limiter

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Request has the data for a decision. A kind whose fields are empty doesn't apply: for example, a
// status read has no user. The strings are only read during the call. An allowed Request holds
// places until Leave: don't copy or reuse it before that.
type Request struct {
	Merchant string
	Caller   string // a caller of Merchant
	User     string // a user of Merchant
	Activity string
	SKU      string // a SKU of Activity
	IP       netip.Addr
	// Class, and for a purchase Quantity, determine the cost of the request: see Cost. A Quantity
	// below 1 counts as 1.
	Class    Class
	Quantity int
	// Shadow makes all policies only count, whatever their mode: the operator has switched limits
	// to shadow.
	Shadow bool
	// Assured means that Guaranteed has given a token to this request.
	Assured bool

	held [kinds]holding // set when the request was allowed
}

// Bound is the part of a policy that refused.
type Bound uint8

// The bounds.
const (
	ByRate Bound = iota
	ByConcurrency
	ByQuota
	ByCost // the request costs more tokens than the key can ever have, so waiting doesn't help
)

// Decision is the answer to a Request.
type Decision struct {
	Allowed bool
	// Global means that the global limit refused: the system's capacity is used up, not the
	// caller's share.
	Global bool
	// Policy is the policy that refused. For an allowed request it is the enforced policy with the
	// least left in its bucket, never the global one. nil if there is none. It belongs to the
	// limiter and never changes.
	Policy *Policy
	// Bound is the part of Policy that refused.
	Bound Bound
	// Index is the place of Policy in its document, -1 without one.
	Index int
	// Limit is the burst of Policy on this node, and Remaining is how many tokens it has left. If
	// Bound is ByConcurrency they are places, if it is ByQuota they are the quota, and if it is
	// ByCost, Limit is the most that a request may cost.
	Limit     int64
	Remaining int64
	// Cost is how many tokens the request costs; set only if Bound is ByCost.
	Cost int64
	// RetryAfter is when Policy will have the tokens that were asked for, if nobody else takes
	// them; 0 when allowed.
	RetryAfter time.Duration
	// Reset is the time until the bucket is full, unless others take tokens.
	Reset time.Duration
	// Shadowed is the narrowest policy that would have refused, if it had been enforced, or nil.
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

// kindNames are in the order of evaluation, from narrow to wide. The caller comes before the user.
// Otherwise a caller above its limit could invent a million users, and each would need a slot.
var kindNames = [kinds]Kind{Caller, User, IP, SKU, Activity, Merchant, Global}

// Limiter decides about requests by the last applied policies. It is safe for concurrent use. Make
// it with New.
type Limiter struct {
	cfg    Config // fixed, like the next two fields
	clock  *clock
	hashes [2]maphash.Seed

	snapshot atomic.Pointer[snapshot]

	mu          sync.Mutex // held by Apply, one at a time; guards:
	epoch       uint64
	skus        func(merchant string) int
	tables      [kinds]*table // made when a policy of the kind is first applied, and kept
	directories [kinds]*directory

	places  places
	cluster *cluster // fixed; nil if this node has no pool
	top     top

	fair          *fairness                 // fixed; of the global bucket
	fairMerchants atomic.Pointer[directory] // of the merchants; nil before there is a policy for them
	fairGlobal    atomic.Pointer[directory] // of the global bucket; nil before there is a policy for it
}

// snapshot is everything that a decision looks at. It is never changed.
type snapshot struct {
	nodes  int
	steps  []step // from narrow to wide, only steps with limits
	limits []*limit
	counts [classes]bool // whether requests of a class are limited
}

// step applies the limits of one kind to a request. Exactly one of table and directory is set.
type step struct {
	kind      kind
	rules     *rules
	table     *table
	directory *directory
}

// grant is the result of a step.
type grant struct {
	limit *limit
	kind  kind
	bound Bound   // the bound that refused
	quota int64   // the key's quota if that refused; by cost, the most that it can have
	left  float64 // tokens that are left; by cost, what the request costs
	taken int64   // 0 when it refused
	wait  int64   // above 0 when it refused

	// where to give back to
	table     *table
	directory *directory // if the key is a stranger there
	bucket    *bucket
	key       uint64
	stranger  bool // the key is a stranger in a table

	// in the pool
	must    bool    // the pool must be asked
	counted bool    // its tokens are counted in the share's waiting
	leased  bool    // the tokens come from a lease
	alone   bool    // the tokens were not granted, so the node owes them to the pool
	over    float64 // the extra tokens that they cost in that case
	name    string  // the key's name
	floor   int64   // see Ask
	claim   *claim  // the claim for which it waits
	vital   bool    // it is within the merchant's share of the global bucket: see fairness
}

// home is the place of the grant's bucket.
func (g *grant) home() home { return home{bucket: g.bucket, table: g.table, key: g.key} }

// New returns a limiter that has no policies yet and allows everything. All other times must come
// from the same clock as now. With a pool, limits hold over all nodes that share it, and Run must
// be running; nil means that this node is alone.
func New(cfg Config, pool Pool, now time.Time) (*Limiter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &Limiter{cfg: cfg, clock: newClock(now), hashes: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	l.fair = newFairness(cfg.Merchants)
	l.snapshot.Store(&snapshot{nodes: 1})
	if pool != nil {
		l.cluster = newCluster(pool, cfg.QuotasOnly)
	}
	return l, nil
}

// Allow decides about a request that arrived at now: either all policies that apply give tokens for
// it, or none loses a token. It allocates only for a new merchant or caller. It doesn't block,
// except that it may wait for the pool (see the package comment).
func (l *Limiter) Allow(req *Request, now time.Time) Decision {
	s := l.snapshot.Load()
	if int(req.Class) < len(s.counts) && !s.counts[req.Class] {
		return Decision{Allowed: true, Index: -1}
	}
	moment := l.clock.at(now)
	var grants [kinds]grant
	asked, must := 0, false
	var shadowed *limit
	for i := range s.steps {
		g := &grants[asked]
		if !l.ask(&s.steps[i], req, moment, g) {
			continue
		}
		asked++
		l.enter(g, s.steps[i].kind, req)
		must = must || g.must
		if g.wait > 0 {
			if !shadow(g, req) {
				return l.refusal(grants[:asked], asked-1, req, shadowed, moment)
			}
			if shadowed == nil {
				shadowed = g.limit
			}
		}
	}
	if must {
		if at := l.askPool(grants[:asked], req, moment); at >= 0 {
			return l.refusal(grants[:asked], at, req, shadowed, moment)
		}
	}
	return l.allowance(grants[:asked], req, shadowed, moment)
}

// enter takes a place if the grant's limit bounds requests in flight. If no place is free, the
// limit refuses, and its bucket gets the tokens back.
func (l *Limiter) enter(g *grant, k kind, req *Request) {
	g.kind = k
	most := g.limit.policy.Concurrency
	if most == 0 || g.wait > 0 || l.places.enter(k, l.hashOf(k, req), most, &req.held[k]) {
		return
	}
	g.giveBack(l.cluster)
	g.taken, g.must, g.counted, g.leased, g.alone = 0, false, false, false, false
	g.wait, g.bound = int64(placeWait), ByConcurrency
}

// hashOf returns the key for the request's name of a kind.
func (l *Limiter) hashOf(k kind, req *Request) uint64 {
	if k == ip {
		return l.hashAddr(req.IP)
	}
	return l.hashNames(req.names(kindNames[k]))
}

// shadow reports whether a refusal is only counted.
func shadow(g *grant, req *Request) bool { return req.Shadow || g.limit.shadows(req) }

// told reports whether an answer may show what the limit has left.
func (l *limit) told() bool { return l.policy.Key != Global && !l.bare }

// shadows reports whether the limit only counts requests with this request's key.
func (l *limit) shadows(req *Request) bool {
	if p := l.policy; p.Mode == Percent {
		return req.portion(p.Key) >= p.Percent
	}
	return l.shadow
}

// portion maps the request's key of a kind to 0 to 99, in the same way on every node. It allocates
// nothing.
func (req *Request) portion(key Kind) int {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	if key == IP {
		b := group(req.IP).As16()
		for _, c := range b {
			h = (h ^ uint64(c)) * prime
		}
	} else {
		owner, name := req.names(key)
		for i := range len(owner) {
			h = (h ^ uint64(owner[i])) * prime
		}
		h = (h ^ 0xff) * prime
		for i := range len(name) {
			h = (h ^ uint64(name[i])) * prime
		}
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd // the finisher of MurmurHash3, because FNV's high bits differ too little
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return int((h ^ h>>33) % 100)
}

// allowance is the answer if nothing refused.
func (l *Limiter) allowance(grants []grant, req *Request, shadowed *limit, moment int64) Decision {
	tightest, least := -1, math.Inf(1)
	for i := range grants {
		g := &grants[i]
		if g.wait > 0 {
			if shadowed == nil {
				shadowed = g.limit
			}
		} else if part := g.left / float64(g.limit.burst); part < least && g.limit.told() && !g.limit.shadows(req) {
			least, tightest = part, i
		}
	}
	stripe := stripeAt(moment)
	for i := range grants {
		if grants[i].wait > 0 {
			grants[i].limit.tally.shadowed(stripe)
			l.count(&grants[i], req, moment)
		} else {
			grants[i].limit.tally.allowed(stripe)
			h := &req.held[grants[i].kind]
			h.taken, h.leased, h.unknown = grants[i].taken, grants[i].leased, grants[i].stranger
			h.alone, h.over = grants[i].alone, grants[i].over
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

// askPool asks the pool for all tokens that no lease has, in one exchange. It returns the index of
// the grant that refuses, or -1. If a grant in shadow is refused, only its wait is set.
func (l *Limiter) askPool(grants []grant, req *Request, moment int64) (refused int) {
	for i := range grants {
		if g := &grants[i]; g.must && g.wait == 0 {
			g.claim = &claim{tokens: g.taken, vital: g.vital}
			if g.name == "" {
				g.name = req.poolName(g.limit.policy.Key)
			}
		}
	}
	answered := l.cluster.wait(grants)
	refused = -1
	for i := range grants {
		g := &grants[i]
		if g.claim == nil {
			continue
		}
		g.must, g.counted = false, false // no request waits any longer
		switch {
		case !answered:
			if !l.alone(g, req, moment) && refused < 0 && !shadow(g, req) {
				refused = i
			}
		case g.claim.granted:
			g.leased = true
		default:
			l.unanswered(g, req, moment)
			g.taken, g.left = 0, g.limit.terms.tokensOf(g.claim.room)
			if refused < 0 && !shadow(g, req) {
				refused = i
			}
		}
	}
	return refused
}

// unanswered returns the time after which the pool may grant what it refused.
func (l *Limiter) unanswered(g *grant, req *Request, moment int64) {
	g.wait = max(1, int64((float64(g.claim.tokens)-g.limit.terms.tokensOf(g.claim.room))/g.limit.rate*1e9))
	if quota := g.home().quota(g.limit); quota > 0 && g.claim.left < g.claim.tokens {
		l.cluster.spent.Mark(spentKey(l.hashOf(g.kind, req)^g.limit.salt, quota, g.claim.tokens), moment)
		g.wait, g.bound, g.quota = g.limit.reset(time.Now()), ByQuota, quota
	}
}

// alone decides a request for which the pool did not answer, and reports whether it is admitted. A
// late answer may have brought the tokens in the meantime.
func (l *Limiter) alone(g *grant, req *Request, moment int64) bool {
	h := g.home()
	h.lock()
	g.leased = h.share().spend(g.taken, moment)
	h.unlock()
	if g.leased {
		return true
	}
	quota := h.quota(g.limit)
	if wait := l.cluster.apart(g.limit, l.hashOf(g.kind, req), quota, moment, g.taken); wait > 0 {
		g.giveBack(l.cluster)
		g.wait, g.bound, g.quota, g.taken, g.left = wait, ByQuota, quota, 0, 0
		return false
	}
	g.owe(l.cluster)
	return true
}

// owe records tokens for which the pool was asked without an answer.
func (g *grant) owe(c *cluster) {
	if g.table != nil {
		g.table.owe(g, c)
		return
	}
	g.bucket.mu.Lock()
	defer g.bucket.mu.Unlock()
	g.alone, g.over = true, g.bucket.owe(timeOf(g.bucket.last), g.taken, c)
}

// refusal gives back all grants except the one at last, which refused.
func (l *Limiter) refusal(grants []grant, last int, req *Request, shadowed *limit, moment int64) Decision {
	stripe := stripeAt(moment)
	l.Leave(req)
	for i := range grants {
		g := &grants[i]
		switch {
		case i == last:
		case g.wait > 0 && shadow(g, req):
			g.limit.tally.shadowed(stripe)
		case g.wait > 0:
			g.limit.tally.refused(stripe)
		default:
			g.giveBack(l.cluster)
			g.limit.tally.returned(stripe)
		}
	}
	g := &grants[last]
	g.limit.tally.refused(stripe)
	switch g.bound {
	case ByConcurrency:
		g.limit.tally.crowded(stripe)
	case ByQuota:
		g.limit.tally.exhausted(stripe)
	}
	l.count(g, req, moment)
	d := Decision{Global: g.limit.policy.Key == Global, RetryAfter: time.Duration(g.wait)}
	d.describe(g)
	if shadowed != nil {
		d.Shadowed = shadowed.policy
	}
	return d
}

// count counts a refusal for its key.
func (l *Limiter) count(g *grant, req *Request, moment int64) {
	p := g.limit.policy
	switch p.Key {
	case Global:
	case IP:
		var text [maxAddr]byte
		name := group(req.IP).AppendTo(text[:0])
		l.top.refused(p, l.hashAddr(req.IP), "", string(name), moment)
	default:
		owner, name := req.names(p.Key)
		l.top.refused(p, l.hashNames(owner, name), owner, name, moment)
	}
}

// maxAddr is the length of the longest address.
const maxAddr = len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")

// describe returns the state of a grant's bucket.
func (d *Decision) describe(g *grant) {
	d.Policy, d.Index, d.Limit, d.Bound = g.limit.policy, g.limit.index, g.limit.burst, g.bound
	switch g.bound {
	case ByConcurrency:
		d.Limit, d.Reset = g.limit.policy.Concurrency, placeWait
		return
	case ByQuota:
		d.Limit, d.Reset = g.quota, time.Duration(g.wait)
		return
	case ByCost:
		d.Limit, d.Cost, d.RetryAfter = g.quota, int64(g.left), 0
		return
	}
	d.Remaining = int64(max(g.left+tokenSlack, 0))
	d.Reset = time.Duration(max(float64(d.Limit)-g.left, 0) * float64(g.limit.interval))
}

// tokenSlack corrects rounding: a floating-point number just below a whole number of tokens shows
// as that number.
const tokenSlack = 1e-6

func (g *grant) giveBack(c *cluster) {
	switch {
	case g.table != nil:
		if g.table.giveBack(g) {
			c.refund(g)
		}
	case g.bucket != nil:
		g.bucket.giveBack(g)
	default:
		g.directory.giveBack(g)
	}
}

// ask performs a step. It returns false if the step doesn't apply to the request.
func (l *Limiter) ask(s *step, req *Request, moment int64, g *grant) bool {
	if s.kind == ip {
		return req.IP.IsValid() && s.table.take(s.rules, l.hashAddr(req.IP), req, moment, l.cluster, g)
	}
	owner, name := req.names(kindNames[s.kind])
	if name == "" && s.kind != global {
		return false
	}
	key := l.hashNames(owner, name)
	if s.directory != nil {
		var by rival
		if all := s.rules.template; s.kind == global && !all.bare {
			by = rival{l.fair, l.fair.of(req.Merchant, all.price(req), moment, l), req.Assured}
		}
		return s.directory.take(s.rules, key, owner, name, req, moment, l.cluster, &by, g)
	}
	return s.table.take(s.rules, key, req, moment, l.cluster, g)
}

// names returns the names in the request's key of a kind, except for addresses.
func (req *Request) names(key Kind) (owner, name string) {
	switch key {
	case Caller:
		return req.Merchant, req.Caller
	case User:
		return req.Merchant, req.User
	case SKU:
		return req.Activity, req.SKU
	case Activity:
		return "", req.Activity
	case Merchant:
		return "", req.Merchant
	}
	return "", ""
}

// poolName returns the name of the request's key of a kind in the pool.
func (req *Request) poolName(key Kind) string {
	if key == IP {
		return poolName(key, "", group(req.IP).String())
	}
	owner, name := req.names(key)
	return poolName(key, owner, name)
}

// poolName returns the name of a key in the pool.
func poolName(key Kind, owner, name string) string {
	return string(key) + ":" + owner + "/" + name
}

// hashNames returns the key of a name within its owner. The two names have different seeds, because
// their order must matter.
func (l *Limiter) hashNames(owner, name string) uint64 {
	return max(1, maphash.String(l.hashes[0], owner)+maphash.String(l.hashes[1], name)) // 0 means a slot without a key
}

// hashAddr returns the key of an address.
func (l *Limiter) hashAddr(a netip.Addr) uint64 {
	b := group(a).As16()
	return max(1, maphash.Bytes(l.hashes[0], b[:]))
}

// Apply puts a document in force. nodes is the number of nodes, of which this is one. With a pool
// the number is only used for keys that this node hasn't seen; without a pool the nodes share each
// limit evenly. The document is validated as a whole; after an error nothing has changed. Buckets
// keep their tokens, as far as they fit: see limit. An edit gives no tokens. Every Allow after the
// return of Apply uses the document, which is copied.
func (l *Limiter) Apply(doc Document, nodes int, now time.Time) error {
	if err := doc.Validate(); err != nil {
		return err
	}
	if nodes < 1 || nodes > MaxNodes {
		return fmt.Errorf("limits can be split over 1 to %d nodes, not %d", MaxNodes, nodes)
	}
	if l.cluster == nil && slices.ContainsFunc(doc.Policies, func(p Policy) bool { return p.Quota > 0 }) {
		return errors.New("a quota needs a pool that counts it")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	moment := l.clock.at(now)
	l.epoch++
	share := nodes
	if l.cluster != nil && !l.cluster.quotasOnly {
		l.cluster.nodes.Store(int64(nodes))
		share = 1
	}
	next := &snapshot{nodes: nodes, limits: l.makeLimits(doc, share)}
	made := l.sortLimits(next.limits)
	for k, r := range made {
		if r == nil {
			continue
		}
		s := step{kind: kind(k), rules: r}
		switch s.kind {
		case global, caller, merchant:
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
	}
	next.count()
	l.fair.apply(&doc, nodes, l.cluster != nil)
	l.fairMerchants.Store(l.directories[merchant])
	l.fairGlobal.Store(l.directories[global])
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

// CountSKUs sets the function that returns how many SKUs a merchant has on sale. Call it before
// Apply; count must not block.
func (l *Limiter) CountSKUs(count func(merchant string) int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.skus = count
}

// makeLimits makes a limit from each policy. A policy that doesn't change keeps its counts.
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
		limits[i].skus = l.skus
		if p.Quota > 0 && l.cluster.lone.Load() == nil {
			l.cluster.lone.Store(newTable(maxLone))
		}
		if p.Key == Global && !limits[i].bare {
			limits[i].fair = l.fair
		}
		if limits[i].tally = kept[counted{p.Name, p.Key}]; limits[i].tally == nil {
			limits[i].tally = &tally{}
		}
	}
	return limits
}

// count records which classes are limited.
func (s *snapshot) count() {
	for _, l := range s.limits {
		if !l.off {
			s.counts[Purchase] = s.counts[Purchase] || l.cost.Purchase+l.cost.Unit > 0
			s.counts[Page] = s.counts[Page] || l.cost.Page > 0
			s.counts[Status] = s.counts[Status] || l.cost.Status > 0
		}
	}
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
	panic("limiter: kind " + string(key) + " was valid before and is unknown now")
}

// hashMatch returns the key that a policy matches.
func (l *Limiter) hashMatch(p *Policy) uint64 {
	if p.Key == IP {
		return l.hashAddr(matchedAddr(p.Match))
	}
	return l.hashNames(splitMatch(p))
}

// splitMatch returns the two names in the policy's match: of the owner, and of the key within it.
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
	l.directories[k] = newDirectory(map[kind]int{global: 1, merchant: l.cfg.Merchants, caller: l.cfg.Callers}[k])
}
