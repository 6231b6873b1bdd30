package limiter

import (
	"math"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// directory holds the buckets of a kind with few keys (everybody together, merchants, callers),
// each with its own lock. Finding a bucket needs no lock. The number of slots is fixed, and they
// are searched like those of a table (see table). A bucket gives its slot to another key only when
// it is full. Keys without a slot share the strangers' bucket.
type directory struct {
	slots []atomic.Pointer[bucket]

	mu        sync.Mutex // guards changes of slots; taken before a bucket's own lock
	evictions uint64     // guarded by mu, like the fields below
	stranger  int64      // TAT of the strangers' bucket
	strangers uint64     // decisions

	rules *rules // the last applied rules; used only by Apply
}

// bucket makes rate.Limiter safe against times that are out of order.
//
// A rate.Limiter believes every time that it gets. An earlier time sets its clock back, and then
// the same interval is credited twice. Such times are frequent, most of all under load: a goroutine
// reads the clock, and then waits for a processor. So times are corrected under a lock, and no
// other code uses the Limiter. A Limiter also starts full, but a key that appears after an edit
// must not. And it has no method that gives a token back; allowing a negative number does that, and
// a test checks that it still works.
type bucket struct {
	key   uint64 // fixed, like the next two fields
	owner string
	name  string

	mu     sync.Mutex
	rules  *rules // guarded by mu, like the fields below
	limit  *limit // nil if the key is no longer limited
	tokens *rate.Limiter
	last   int64
	gone   bool // its slot belongs to another bucket
	share  share
}

// newDirectory returns a directory with room for the buckets of that many keys.
func newDirectory(keys int) *directory {
	return &directory{slots: make([]atomic.Pointer[bucket], max(1<<bits.Len(uint(2*keys-1)), minSlots))}
}

// find returns the bucket of a key, or nil.
func (d *directory) find(key uint64, owner, name string) *bucket {
	mask := uint64(len(d.slots) - 1)
	for i := range uint64(reach) {
		b := d.slots[(key+i)&mask].Load()
		if b == nil {
			return nil
		}
		if b.key == key && b.name == name && b.owner == owner {
			return b
		}
	}
	return nil
}

// add returns the bucket of a key, and makes it if needed. It returns nil if no slot is free. It
// keeps no reference to its strings.
func (d *directory) add(r *rules, key uint64, owner, name string, now int64) *bucket {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.find(key, owner, name); b != nil {
		return b
	}
	mask := uint64(len(d.slots) - 1)
	for i := range uint64(reach) {
		at := &d.slots[(key+i)&mask]
		before := at.Load()
		if before != nil && !before.retire(now) {
			continue
		}
		if before != nil {
			d.evictions++
		}
		b := &bucket{key: key, owner: strings.Clone(owner), name: strings.Clone(name)}
		b.open(r, now)
		at.Store(b)
		return b
	}
	return nil
}

// take does the same as a table's take.
func (d *directory) take(r *rules, key uint64, owner, name string, req *Request, now int64, c *cluster, by *rival, g *grant) bool {
	l := r.of(key)
	if l == nil || l.off {
		return false
	}
	for {
		b := d.find(key, owner, name)
		if b == nil {
			b = d.add(r, key, owner, name, now)
		}
		if b == nil {
			return d.takeAsStranger(l, req, now, c, g)
		}
		if asked, gone := b.take(r, req, now, c, by, g); !gone {
			return asked
		}
	}
}

func (d *directory) takeAsStranger(l *limit, req *Request, now int64, c *cluster, g *grant) bool {
	n := l.price(req)
	if n == 0 {
		return false
	}
	if l.tooDear(n, g) {
		return true
	}
	c = l.joins(c)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.strangers++
	if l.policy.Quota > 0 { // all strangers share it
		if wait := c.apart(l, 0, l.policy.Quota, now, n); wait > 0 {
			*g = grant{limit: l, directory: d, wait: wait, bound: ByQuota, quota: l.policy.Quota}
			return true
		}
	}
	*g = grant{limit: l, directory: d}
	next, wait := l.spend(d.stranger, now, n)
	if wait > 0 {
		g.wait, g.left = wait, l.tokens(d.stranger, now)
		return true
	}
	g.over = c.over(nil, n) // strangers have no bucket in the cluster
	d.stranger = next + l.timeOf(g.over)
	g.taken, g.left = n, l.tokens(next, now)
	return true
}

// giveBack returns the tokens that a stranger took.
func (d *directory) giveBack(g *grant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stranger -= g.limit.timeOf(float64(g.taken) + g.over)
}

// prepare makes a bucket, under the old rules, for each key that needs one because it is about to
// lose its own policy. Otherwise it would look like a key that was always under the template.
func (d *directory) prepare(r *rules, now int64) {
	for _, o := range r.orphans {
		owner, name := splitMatch(o.old.policy)
		d.add(d.rules, o.key, owner, name, now)
	}
}

// apply carries all buckets over to newer rules.
func (d *directory) apply(r *rules, now int64) {
	for i := range d.slots {
		if b := d.slots[i].Load(); b != nil {
			b.follow(r, now)
		}
	}
	if d.rules != nil && d.rules.template != nil && r.template != nil {
		d.mu.Lock()
		d.stranger = r.template.carry(d.rules.template, d.stranger, now)
		d.mu.Unlock()
	}
	d.rules = r
}

func (d *directory) stats(now int64) TableStats {
	out := TableStats{Capacity: len(d.slots)}
	for i := range d.slots {
		if b := d.slots[i].Load(); b != nil && !b.full(now) {
			out.Live++
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	out.Evictions, out.Strangers = d.evictions, d.strangers
	return out
}

// timeOf converts a moment for rate.Limiter.
func timeOf(moment int64) time.Time { return time.Unix(0, moment) }

// open fills a new bucket as far as its key may have it. No other goroutine has the bucket yet, and
// the key has a limit.
func (b *bucket) open(r *rules, now int64) {
	b.rules, b.limit, b.last = r, r.of(b.key), now
	b.tokens = rate.NewLimiter(rate.Limit(b.limit.rate), int(b.limit.burst))
	if b.limit.floor > b.last { // it was emptied at the time from which it is full at the floor
		empty := b.limit.floor - int64(float64(b.limit.burst)/b.limit.rate*1e9)
		b.tokens.AllowN(timeOf(empty), int(b.limit.burst))
	}
}

// follow carries the bucket over to newer rules.
func (b *bucket) follow(r *rules, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = max(b.last, now)
	b.followLocked(r)
}

func (b *bucket) followLocked(r *rules) {
	if r.epoch <= b.rules.epoch {
		return
	}
	b.rules = r
	if b.limit = r.of(b.key); b.limit != nil {
		// Tokens up to now count at the old rate. Those above the new burst are removed at the next
		// use.
		b.tokens.SetLimitAt(timeOf(b.last), rate.Limit(b.limit.rate))
		b.tokens.SetBurstAt(timeOf(b.last), int(b.limit.burst))
	}
}

// take does the same as a table's take. gone means that the bucket no longer belongs to its key. by
// is the competing merchant.
func (b *bucket) take(r *rules, req *Request, now int64, c *cluster, by *rival, g *grant) (asked, gone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return false, true
	}
	b.last = max(b.last, now)
	b.followLocked(r)
	l := b.limit
	if l == nil || l.off {
		return false, false
	}
	n := l.price(req)
	if n == 0 {
		return false, false
	}
	if l.tooDear(n, g) {
		return true, false
	}
	c = l.joins(c)
	*g = grant{limit: l, bucket: b}
	if b.exhausted(c, n, g) {
		return true, false
	}
	b.share.came(n)
	at := timeOf(b.last)
	if !b.tokens.AllowN(at, int(n)) {
		g.left = b.tokens.TokensAt(at)
		g.wait = max(1, int64(math.Ceil((float64(n)-g.left)/l.rate*1e9)))
		return true, false
	}
	g.left = b.tokens.TokensAt(at)
	if keep := by.fair.reserve(l); keep > 0 && g.left < float64(keep) {
		as, missing := by.rank(l, g.left+float64(n), n, b.last)
		if missing > 0 {
			b.tokens.AllowN(at, -int(n))
			g.left += float64(n)
			g.wait = max(1, int64(math.Ceil(missing/l.rate*1e9)))
			return true, false
		}
		g.vital = as != excess
	}
	o := c.claim(&b.share, l, b.last, n)
	if l.fair != nil && (o == mustWait || o == mustAsk) {
		if g.vital = g.vital || by.vital(n, b.last); g.vital {
			o = mustAsk // tokens that others were refused are kept for it
		}
	}
	switch o {
	case mustWait:
		b.tokens.AllowN(at, -int(n))
		g.left += float64(n)
		g.wait = max(1, b.share.asked+int64(leaseEvery)-b.last)
	case mustAsk:
		b.enlist(c)
		b.share.waiting += n
		g.name, g.must, g.counted, g.taken = b.share.name, true, true, n
		g.floor = l.emptiness(g.left + float64(n))
	case claimedBy:
		if wait := c.apart(l, b.key, g.quota, b.last, n); wait > 0 {
			b.tokens.AllowN(at, -int(n))
			g.wait, g.bound, g.left = wait, ByQuota, 0
			return true, false
		}
		b.enlist(c)
		g.alone, g.over = true, b.owe(at, n, c)
		g.taken, g.left = n, b.tokens.TokensAt(at)
	default:
		g.taken, g.leased = n, c != nil
	}
	return true, false
}

// exhausted finds the key's quota, and whether the quota is known to be used up.
func (b *bucket) exhausted(c *cluster, n int64, g *grant) bool {
	if b.limit.policy.Quota == 0 {
		return false
	}
	g.quota = b.limit.quotaOf(b.merchant())
	if g.wait = c.exhausted(b.limit, b.key, g.quota, b.last, n, &b.share); g.wait > 0 {
		g.bound = ByQuota
	}
	return g.wait > 0
}

// merchant is the owner of the bucket.
func (b *bucket) merchant() string {
	if b.owner != "" {
		return b.owner
	}
	return b.name
}

// enlist makes sure that the bucket's lease is renewed from now on.
func (b *bucket) enlist(c *cluster) {
	if b.share.name == "" {
		b.share.name = poolName(b.limit.policy.Key, b.owner, b.name)
	}
	if !b.share.listed {
		b.share.listed = c.renew(home{bucket: b})
	}
}

// owe takes the extra tokens from the bucket that n tokens cost while the node is alone, and
// records that the pool did not grant them. The bucket may then have less than zero tokens.
func (b *bucket) owe(at time.Time, n int64, c *cluster) (over float64) {
	s := &b.share
	s.owe(n, b.limit, b.last)
	over = c.over(s, n)
	s.carry += over
	whole := int64(max(s.carry, 0))
	s.carry -= float64(whole)
	b.spend(at, whole)
	return over
}

// spend takes n tokens, even if the bucket has fewer.
func (b *bucket) spend(at time.Time, n int64) {
	for burst := int64(b.tokens.Burst()); n > 0; n -= burst {
		b.tokens.ReserveN(at, int(min(n, burst)))
	}
}

// lower takes tokens from the bucket until it has no more than the given number. A number below 0
// is a debt.
func (b *bucket) lower(now int64, tokens float64) {
	b.last = max(b.last, now)
	if b.limit == nil || tokens >= b.tokens.TokensAt(timeOf(b.last)) {
		return
	}
	b.fill(tokens)
}

// fill makes the bucket one that has this many tokens now, by emptying it at the right earlier
// time.
func (b *bucket) fill(tokens float64) {
	b.tokens = rate.NewLimiter(rate.Limit(b.limit.rate), int(b.limit.burst))
	empty := b.last - int64(max(tokens, 0)/b.limit.rate*1e9)
	b.tokens.AllowN(timeOf(empty), int(b.limit.burst))
	b.spend(timeOf(b.last), int64(-min(tokens, 0)))
}

// giveBack returns tokens. The next use limits them to the burst.
func (b *bucket) giveBack(g *grant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens.AllowN(timeOf(b.last), -int(g.taken))
	b.share.carry -= g.over
	b.share.giveBack(g)
}

// retire reports whether the bucket is full, and so is the same as no bucket. If so, its slot is
// free from now on.
func (b *bucket) retire(now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = !b.share.listed && b.fullLocked(now)
	return b.gone
}

func (b *bucket) full(now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fullLocked(now)
}

func (b *bucket) fullLocked(now int64) bool {
	return b.tokens.TokensAt(timeOf(max(b.last, now))) >= float64(b.tokens.Burst())
}
