package limiter

import (
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/raced"
)

var oracleSeed = flag.Uint64("oracle.seed", 0, "run this seed of TestAgainstTheOracle instead of 1 to 40")

// oracle is the limiter in its simplest and slowest form. Tokens are exact rational numbers. Every
// key of a small world has a bucket from the start, so no bucket is ever dropped or made again.
type oracle struct {
	buckets map[Kind]map[string]*oracleBucket
	inForce map[Kind]bool
}

// oracleBucket has tokens at a moment, in nanoseconds, under a policy.
type oracleBucket struct {
	policy Policy
	size   int64
	pace   *big.Rat // tokens per nanosecond
	tokens *big.Rat
	moment int64
}

// newOracleBucket is a node's share. Tables count in whole nanoseconds per token, rounded up.
func newOracleBucket(p Policy, nodes, moment int64) *oracleBucket {
	pace := new(big.Rat).SetFloat64(p.Rate)
	pace.Quo(pace, big.NewRat(nodes*1e9, 1))
	if p.Key != Caller && p.Key != Merchant && p.Key != Global {
		nanos := new(big.Int).Add(pace.Denom(), new(big.Int).Sub(pace.Num(), big.NewInt(1)))
		pace = new(big.Rat).SetFrac(big.NewInt(1), nanos.Div(nanos, pace.Num()))
	}
	size := max(1, p.Burst/nodes)
	return &oracleBucket{policy: p, size: size, pace: pace, tokens: big.NewRat(size, 1), moment: moment}
}

// advance lets time pass. It doesn't go back.
func (b *oracleBucket) advance(moment int64) {
	moment = max(moment, b.moment)
	passed := big.NewRat(moment-b.moment, 1)
	b.tokens, b.moment = passed.Mul(passed, b.pace).Add(passed, b.tokens), moment
	if full := big.NewRat(b.size, 1); b.tokens.Cmp(full) > 0 {
		b.tokens = full
	}
}

func (o *oracle) apply(doc Document, nodes, moment int64, world map[Kind][]string) {
	o.inForce = map[Kind]bool{}
	for _, p := range doc.Policies {
		o.inForce[p.Key] = o.inForce[p.Key] || p.Mode != Off
		if o.buckets[p.Key] == nil {
			o.buckets[p.Key] = map[string]*oracleBucket{}
		}
	}
	for kind := range o.inForce {
		for _, key := range world[kind] {
			old := o.buckets[kind][key]
			b := newOracleBucket(policyFor(doc, kind, key), nodes, moment)
			o.buckets[kind][key] = b
			if old == nil {
				continue
			}
			old.advance(moment)
			if old.tokens.Cmp(b.tokens) < 0 {
				b.tokens = old.tokens
			}
			b.moment = old.moment
		}
	}
}

// policyFor returns the policy of a key: its own, or the template.
func policyFor(doc Document, kind Kind, key string) Policy {
	var found Policy
	for _, p := range doc.Policies {
		if p.Key == kind && (p.Match == key || p.Match == "" && found.Match == "") {
			found = p
		}
	}
	return found
}

// verdicts has the decision of each policy about one request.
type verdicts map[string]bool

// check compares the verdicts with the oracle's, and takes the tokens. When a bucket is within a
// rounding error of the cost, the limiter's verdict counts.
func (o *oracle) check(r *Request, moment int64, got Decision, said verdicts) error {
	close := big.NewRat(1, 100_000)
	var takes []func()
	for _, kind := range kindNames {
		b := o.buckets[kind][keyOf(kind, r)]
		if b == nil || !o.inForce[kind] {
			continue
		}
		name := b.policy.Name
		if b.policy.Mode == Off {
			if kind != Global && kind != Caller && kind != Merchant {
				b.advance(moment)
			}
			continue
		}
		b.advance(moment)
		if b.policy.Cost.of(r) == 0 {
			if kind != Global && kind != Caller && kind != Merchant {
				b.advance(moment)
			}
			continue
		}
		n := big.NewRat(b.policy.Cost.of(r), 1)
		short := new(big.Rat).Sub(n, b.tokens)
		yes, asked := said[name]
		if !asked {
			return fmt.Errorf("%s was not asked", name)
		}
		if yes != (short.Sign() <= 0) && new(big.Rat).Abs(short).Cmp(close) > 0 {
			return fmt.Errorf("%s says %v to %v tokens and has %s", name, yes, n, b.tokens.FloatString(9))
		}
		delete(said, name)
		if !yes && b.policy.Mode == Enforce {
			if got.Allowed || got.Policy.Name != name || len(said) != 0 {
				return fmt.Errorf("%s refuses; the decision is %+v, and %v were asked too", name, got, said)
			}
			return nil
		}
		if yes {
			takes = append(takes, func() { b.tokens = new(big.Rat).Sub(b.tokens, n) })
		}
	}
	if !got.Allowed || len(said) != 0 {
		return fmt.Errorf("nothing refuses; the decision is %+v, and %v were asked too", got, said)
	}
	for _, take := range takes {
		take()
	}
	return nil
}

// keyOf returns a request's key of a kind, in the form of a match.
func keyOf(kind Kind, r *Request) string {
	two := func(owner, name string) string {
		if name == "" {
			return "none"
		}
		return owner + "/" + name
	}
	switch kind {
	case Caller:
		return two(r.Merchant, r.Caller)
	case User:
		return two(r.Merchant, r.User)
	case SKU:
		return two(r.Activity, r.SKU)
	case Merchant:
		return r.Merchant
	case Activity:
		return r.Activity
	case IP:
		return r.IP.String()
	}
	return ""
}

// newWorld names all keys. The keys of one table are in different segments, and each segment has
// its own time.
func newWorld(l *Limiter) map[Kind][]string {
	world := map[Kind][]string{Global: {""}}
	for m := range 2 {
		merchant := fmt.Sprint("m", m)
		world[Merchant] = append(world[Merchant], merchant)
		for c := range 2 {
			world[Caller] = append(world[Caller], fmt.Sprint(merchant, "/c", c))
		}
	}
	fill := func(kind Kind, name func(i int) string) {
		segments := map[uint64]bool{}
		for i := 0; len(world[kind]) < 4; i++ {
			key := name(i)
			segment := l.hashMatch(&Policy{Key: kind, Match: key}) >> 58
			if !segments[segment] {
				segments[segment] = true
				world[kind] = append(world[kind], key)
			}
		}
	}
	fill(User, func(i int) string { return fmt.Sprintf("m%d/u%d", i%2, i) })
	fill(IP, func(i int) string { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String() })
	fill(Activity, func(i int) string { return fmt.Sprint("a", i) })
	fill(SKU, func(i int) string { return fmt.Sprintf("%s/s%d", world[Activity][i%2], i) })
	return world
}

// randomDocument has templates of some kinds and policies for some of their keys.
func randomDocument(r *rand.Rand, world map[Kind][]string) Document {
	var doc Document
	add := func(kind Kind, match string) {
		p := Policy{Key: kind, Match: match, Mode: []Mode{Enforce, Enforce, Enforce, Shadow, Off}[r.IntN(5)]}
		p.Name = strings.NewReplacer("/", "-").Replace(string(kind) + "-" + match)
		p.Rate = []float64{0.1, 0.5, 1, 3, 7, 33.3, 137, 999}[r.IntN(8)]
		p.Burst = []int64{1, 2, 3, 5, 10, 50, 400}[r.IntN(7)]
		p.Cost = []*Cost{{Unit: 1}, {Purchase: 1}, {Purchase: 1, Unit: 1}}[r.IntN(3)]
		p.Burst = max(p.Burst, p.Cost.Purchase+p.Cost.Unit)
		if (kind == Caller || kind == Global || kind == IP) && r.IntN(8) == 0 {
			p.Cost = &Cost{Status: 1} // purchases are free
		}
		doc.Policies = append(doc.Policies, p)
	}
	for _, kind := range kindNames {
		if r.IntN(3) == 0 {
			continue
		}
		add(kind, "")
		for _, key := range world[kind] {
			if kind != Global && r.IntN(4) == 0 {
				add(kind, key)
			}
		}
	}
	return doc
}

func randomRequest(r *rand.Rand, world map[Kind][]string) Request {
	pick := func(kind Kind) string { return world[kind][r.IntN(len(world[kind]))] }
	var req Request
	req.Merchant, req.Caller, _ = strings.Cut(pick(Caller), "/")
	req.Activity, req.SKU, _ = strings.Cut(pick(SKU), "/")
	for req.User == "" {
		if merchant, user, _ := strings.Cut(pick(User), "/"); merchant == req.Merchant {
			req.User = user
		}
	}
	req.IP = netip.MustParseAddr(pick(IP))
	switch r.IntN(6) {
	case 0:
		req.User = ""
	case 1:
		req.SKU = ""
	case 2:
		req.Activity, req.SKU = pick(Activity), ""
	case 3:
		req.Quantity = r.IntN(9) - 1
	}
	return req
}

// votes returns how often each policy has admitted and refused.
func votes(l *Limiter) (yes, no []uint64) {
	for _, lim := range l.snapshot.Load().limits {
		p := lim.stats()
		yes, no = append(yes, p.Allowed+p.Returned), append(no, p.Refused+p.Shadowed)
	}
	return yes, no
}

// TestAgainstTheOracle makes random requests and edits, while the clock creeps, runs, comes late,
// and jumps forward and back.
func TestAgainstTheOracle(t *testing.T) {
	raced.Skip(t)
	seeds := []uint64{*oracleSeed}
	if *oracleSeed == 0 {
		seeds = nil
		for seed := range uint64(40) {
			seeds = append(seeds, seed+1)
		}
	}
	for _, seed := range seeds {
		if err := runOracle(t, rand.New(rand.NewPCG(seed, 6)), 400); err != nil {
			t.Fatalf("%v\nrepeat with: go test ./limiter -run TestAgainstTheOracle -oracle.seed %d", err, seed)
		}
	}
}

func runOracle(t *testing.T, r *rand.Rand, steps int) error {
	l, err := New(Config{Users: 1, IPs: 1, SKUs: 1, Activities: 1, Merchants: 1, Callers: 1}, nil, at(0))
	if err != nil {
		t.Fatal(err)
	}
	world := newWorld(l)
	o := &oracle{buckets: map[Kind]map[string]*oracleBucket{}}
	clock, edited, latest := at(0), int64(0), int64(0)
	for i := range steps {
		switch r.IntN(40) {
		case 0:
			clock = clock.Add(time.Duration(r.Int64N(int64(48 * time.Hour))))
		case 1:
			clock = clock.Add(-time.Hour - time.Duration(r.Int64N(int64(48*time.Hour))))
		case 2, 3:
			clock = clock.Add(time.Duration(r.Int64N(int64(3 * time.Second))))
		default:
			clock = clock.Add(time.Duration(r.Int64N(int64(20 * time.Millisecond))))
		}
		moment := l.clock.at(clock)
		if i == 0 || r.IntN(25) == 0 && moment >= latest {
			doc, nodes := randomDocument(r, world), 1+r.IntN(3)
			if err := l.Apply(doc, nodes, clock); err != nil {
				t.Fatal(err)
			}
			o.apply(doc, int64(nodes), moment, world)
			edited, latest = moment, moment
		}
		for range r.IntN(12) {
			when := clock.Add(-time.Duration(r.IntN(2) * r.IntN(int(50*time.Millisecond)))) // its goroutine came late
			moment := l.clock.at(when)
			if moment < edited {
				continue // the oracle has all buckets at the edit, the limiter some of them
			}
			latest = max(latest, moment)
			req := randomRequest(r, world)
			yes, no := votes(l)
			d := l.Allow(&req, when)
			said := verdicts{}
			yesNow, noNow := votes(l)
			for j, lim := range l.snapshot.Load().limits {
				if yesNow[j]+noNow[j] > yes[j]+no[j] {
					said[lim.policy.Name] = yesNow[j] > yes[j]
				}
			}
			if err := o.check(&req, moment, d, said); err != nil {
				return fmt.Errorf("step %d, %+v at %v: %w", i, req, when.Sub(at(0)), err)
			}
		}
	}
	return nil
}
