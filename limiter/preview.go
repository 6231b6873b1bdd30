package limiter

import (
	"cmp"
	"slices"
)

// Preview says how many past purchases a document would have refused.
type Preview struct {
	Asked    uint64
	Refused  uint64 // refused by enforced policies
	Policies []PreviewPolicy
	Callers  []PreviewCaller // most refused first
	// Unseen are the policies that are not previewed, or not in full: only purchases are known, by
	// caller and second, without their quantity and the time that they were in flight.
	Unseen []string
}

// PreviewPolicy says how many purchases one policy would have refused, or counted as refused.
type PreviewPolicy struct {
	Policy  Policy
	Refused uint64
}

// PreviewCaller says how many purchases of a caller would have been refused.
type PreviewCaller struct {
	Merchant, Caller string
	Asked, Refused   uint64
	Policy           string // the policy that would have refused it most; "" if none would
}

// previewKey is one caller or merchant under its policy.
type previewKey struct {
	policy int // index of a policy; -1 means none
	tokens float64
}

// PreviewOf plays what came against a document, second by second, as if each limit's bucket had
// been full at the beginning, and as if what comes in a second came evenly: in all of it, or in a
// part of it where purchases begin or end. series are of one length. It works on the buckets of
// policies of kinds caller, merchant and global. A purchase is taken for one of a single unit.
func PreviewOf(doc *Document, series []Series) Preview {
	p := newPlay(doc, series)
	for s := range p.length {
		p.second(s)
	}
	return p.result()
}

// play is a preview in progress.
type play struct {
	doc       *Document
	series    []Series
	length    int
	callers   []previewKey           // by index of the series
	merchants map[string]*previewKey // by name of the merchant
	all       previewKey
	came      map[string][]uint32 // to each merchant
	cameAll   []uint32
	refused   []float64 // by policy
	lost      []map[int]float64
	terms     map[string]fairTerms
	others    fairTerms
}

func newPlay(doc *Document, series []Series) *play {
	p := &play{
		doc: doc, series: series, merchants: make(map[string]*previewKey), all: previewKey{policy: -1}, came: make(map[string][]uint32),
		refused: make([]float64, len(doc.Policies)), lost: make([]map[int]float64, len(series)),
	}
	of := func(key Kind, match string) previewKey {
		found := previewKey{policy: -1}
		for i := range doc.Policies {
			q := &doc.Policies[i]
			if q.Key == key && (q.Match == match || q.Match == "" && found.policy < 0) {
				found = previewKey{policy: i, tokens: float64(q.Burst)}
			}
		}
		if found.policy >= 0 && !plays(&doc.Policies[found.policy]) {
			found.policy = -1
		}
		return found
	}
	p.all = of(Global, "")
	p.terms, p.others = shareTerms(doc)
	for i := range series {
		s := &series[i]
		p.length = max(p.length, len(s.Counts))
		p.callers = append(p.callers, of(Caller, s.Merchant+"/"+s.Caller))
		if p.merchants[s.Merchant] == nil {
			key := of(Merchant, s.Merchant)
			p.merchants[s.Merchant] = &key
		}
		p.lost[i] = make(map[int]float64)
	}
	p.cameAll = make([]uint32, p.length)
	for i := range series {
		name := series[i].Merchant
		if p.came[name] == nil {
			p.came[name] = make([]uint32, p.length)
		}
		for s, n := range series[i].Counts {
			p.came[name][s] += n
			p.cameAll[s] += n
		}
	}
	return p
}

// plays reports whether a policy takes tokens for purchases.
func plays(p *Policy) bool { return p.Mode != Off && p.bucketed() && purchaseCost(p) > 0 }

// unseen reports whether a policy may refuse for a reason that a preview doesn't know.
func unseen(p *Policy) bool {
	return p.Mode != Off && (p.Quota > 0 || p.Concurrency > 0 || p.Cost != nil && p.Cost.Unit+p.Cost.Page+p.Cost.Status > 0)
}

// purchaseCost returns the cost of a purchase of one unit.
func purchaseCost(p *Policy) float64 {
	cost := DefaultCost()
	if p.Cost != nil {
		cost = *p.Cost
	}
	return float64(cost.Purchase + cost.Unit)
}

// portion is the part of a second in which purchases came.
type portion struct {
	before, during float64 // the seconds without purchases before it, and with them
}

// portionOf returns in which part of a second purchases came. In the first one they come until its
// end, in the last one from its beginning, at the pace of the second beside it.
func portionOf(counts []uint32, s int) portion {
	if s >= len(counts) || s == 0 || s+1 >= len(counts) {
		return portion{0, 1}
	}
	n, last, next := float64(counts[s]), float64(counts[s-1]), float64(counts[s+1])
	switch {
	case last == 0 && n < next:
		return portion{1 - n/next, n / next}
	case next == 0 && n < last:
		return portion{0, n / last}
	}
	return portion{0, 1}
}

// second plays one second.
func (p *play) second(s int) {
	left := make([]float64, len(p.series)) // purchases that the narrower limits admit
	byMerchant := make(map[string]float64)
	for i := range p.series {
		if s < len(p.series[i].Counts) {
			left[i] = float64(p.series[i].Counts[s])
		}
		name := p.series[i].Merchant
		before := left[i]
		left[i] = p.pass(&p.callers[i], left[i], portionOf(p.series[i].Counts, s), Request{Merchant: name, Caller: p.series[i].Caller})
		p.note(i, p.callers[i].policy, before-left[i])
		byMerchant[name] += left[i]
	}
	want := 0.0
	for name, n := range byMerchant {
		key := p.merchants[name]
		let := p.pass(key, n, portionOf(p.came[name], s), Request{Merchant: name})
		p.scale(left, name, n, let, key.policy)
		byMerchant[name] = let
		want += let
	}
	if p.all.policy < 0 {
		return
	}
	have := p.pass(&p.all, want, portionOf(p.cameAll, s), Request{})
	for name, let := range p.divide(byMerchant, have) {
		p.scale(left, name, byMerchant[name], let, p.all.policy)
	}
}

// divide divides tokens between merchants as fairness does.
func (p *play) divide(want map[string]float64, have float64) map[string]float64 {
	out := make(map[string]float64, len(want))
	needs := make([]need, 0, len(want))
	names := make([]string, 0, len(want))
	for name := range want {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		terms, own := p.terms[name]
		if !own {
			terms = p.others
		}
		sure := min(want[name], terms.guaranteed, have)
		out[name] = sure
		have -= sure
		needs = append(needs, need{i, want[name] - sure, terms.weight})
	}
	level := fill(needs, have)
	for _, n := range needs {
		out[names[n.index]] += min(n.beyond, level*n.weight)
	}
	return out
}

// pass runs a bucket for a second, and returns how many of n it admits. A policy that doesn't
// refuse admits all, and the refusals that it would have made are counted.
func (p *play) pass(key *previewKey, n float64, in portion, req Request) float64 {
	if key.policy < 0 {
		return n
	}
	policy := &p.doc.Policies[key.policy]
	cost := purchaseCost(policy)
	tokens := min(float64(policy.Burst), key.tokens+policy.Rate*in.before) + policy.Rate*in.during
	let := min(n, tokens/cost)
	key.tokens = min(float64(policy.Burst), tokens-let*cost+policy.Rate*(1-in.before-in.during))
	p.refused[key.policy] += n - let
	if policy.Mode == Shadow || policy.Mode == Percent && req.portion(policy.Key) >= policy.Percent {
		return n
	}
	return let
}

// scale spreads a merchant's refusals evenly over its callers.
func (p *play) scale(left []float64, merchant string, want, let float64, policy int) {
	if want <= let || want <= 0 {
		return
	}
	for i := range p.series {
		if p.series[i].Merchant == merchant {
			cut := left[i] * (want - let) / want
			left[i] -= cut
			p.note(i, policy, cut)
		}
	}
}

func (p *play) note(series, policy int, refused float64) {
	if refused > 0 {
		p.lost[series][policy] += refused
	}
}

func (p *play) result() (out Preview) {
	for i := range p.doc.Policies {
		q := &p.doc.Policies[i]
		switch {
		case (q.Key == Global || q.Key == Merchant || q.Key == Caller) && (q.Mode == Off || plays(q)):
			out.Policies = append(out.Policies, PreviewPolicy{*q, uint64(p.refused[i] + 0.5)})
			if unseen(q) {
				out.Unseen = append(out.Unseen, q.Name)
			}
		default:
			out.Unseen = append(out.Unseen, q.Name)
		}
	}
	for i := range p.series {
		c := PreviewCaller{Merchant: p.series[i].Merchant, Caller: p.series[i].Caller}
		for _, n := range p.series[i].Counts {
			c.Asked += uint64(n)
		}
		most, refused := 0.0, 0.0
		for policy, n := range p.lost[i] {
			refused += n
			if n > most {
				most, c.Policy = n, p.doc.Policies[policy].Name
			}
		}
		if c.Refused = uint64(refused + 0.5); c.Refused == 0 {
			c.Policy = ""
		}
		out.Asked += c.Asked
		out.Refused += c.Refused
		out.Callers = append(out.Callers, c)
	}
	slices.SortFunc(out.Callers, func(a, b PreviewCaller) int {
		return cmp.Or(cmp.Compare(b.Refused, a.Refused), cmp.Compare(b.Asked, a.Asked), cmp.Compare(a.Merchant, b.Merchant),
			cmp.Compare(a.Caller, b.Caller))
	})
	return out
}

// MergeSeries adds up the purchases of several nodes, by caller. ages says how many seconds before
// now each node's series ends.
func MergeSeries(nodes [][]Series, ages []int) []Series {
	type name struct{ merchant, caller string }
	places := make(map[name]int)
	var out []Series
	for i, series := range nodes {
		for _, s := range series {
			key := name{s.Merchant, s.Caller}
			at, known := places[key]
			if !known {
				at = len(out)
				places[key] = at
				out = append(out, Series{s.Merchant, s.Caller, make([]uint32, historySeconds)})
			}
			for j, n := range s.Counts {
				if to := historySeconds - len(s.Counts) + j - ages[i]; to >= 0 && to < historySeconds {
					out[at].Counts[to] += n
				}
			}
		}
	}
	return out
}
