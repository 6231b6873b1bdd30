package limiter

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Report is one node's usage of its limits: how much they admit and refuse, and which keys they
// refuse most.
type Report struct {
	Alone    bool          `json:"alone,omitempty"` // it decides alone, by its last shares
	Policies []PolicyUsage `json:"policies"`        // the policies that are asked most
	Top      []Hot         `json:"top"`
	Span     float64       `json:"span"` // the seconds that Top covers
}

// PolicyUsage is the usage of a policy on a node, in requests per second.
type PolicyUsage struct {
	Name     string  `json:"name"`
	Allowed  float64 `json:"allowed"`
	Refused  float64 `json:"refused"`
	Shadowed float64 `json:"shadowed,omitempty"`
	// Share is this node's part of the tokens that were granted lately, for a policy with a single
	// key (global, or with a match); 0 if unknown.
	Share float64 `json:"share,omitempty"`
}

// Bounds of a Report.
const (
	maxReported = 200 // policies
	maxTop      = 50  // keys
)

// Meter makes a limiter's reports. For that it remembers the counters of the last report. It is
// safe for concurrent use.
type Meter struct {
	limits *Limiter // fixed

	mu   sync.Mutex
	at   int64             // moment of the last measurement; guarded by mu
	last map[string]counts // from a policy to its counts; guarded by mu
	kept Report            // guarded by mu
}

type counts struct{ allowed, refused, shadowed uint64 }

// NewMeter returns a meter of a limiter.
func NewMeter(l *Limiter) *Meter { return &Meter{limits: l, last: make(map[string]counts)} }

// Report returns the node's report. Its rates cover at least one second, since an earlier Report.
func (m *Meter) Report(now time.Time) Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	moment := m.limits.clock.at(now)
	if passed := time.Duration(moment - m.at); passed >= time.Second {
		m.measure(passed)
		m.at = moment
	}
	out := m.kept
	out.Alone = m.limits.cluster != nil && m.limits.cluster.away.Load()
	top, span := m.limits.top.list(moment)
	slices.SortFunc(top, hotter)
	out.Top, out.Span = top[:min(len(top), maxTop)], span.Seconds()
	return out
}

func hotter(a, b Hot) int {
	return cmp.Or(cmp.Compare(b.Refused, a.Refused), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Key, b.Key))
}

// measure reads how much the counters have grown.
func (m *Meter) measure(passed time.Duration) {
	s := m.limits.snapshot.Load()
	next := make(map[string]counts, len(s.limits))
	m.kept.Policies = []PolicyUsage{}
	for _, l := range s.limits {
		st := l.stats()
		now := counts{st.Allowed, st.Refused, st.Shadowed}
		next[l.policy.Name] = now
		before, known := m.last[l.policy.Name]
		if !known || now.allowed < before.allowed || now.refused < before.refused || now.shadowed < before.shadowed {
			before = now
		}
		per := func(now, before uint64) float64 { return float64(now-before) / passed.Seconds() }
		u := PolicyUsage{
			Name: l.policy.Name, Allowed: per(now.allowed, before.allowed), Refused: per(now.refused, before.refused),
			Shadowed: per(now.shadowed, before.shadowed),
		}
		if u.Allowed+u.Refused+u.Shadowed > 0 {
			u.Share = m.limits.shareOf(l)
			m.kept.Policies = append(m.kept.Policies, u)
		}
	}
	m.last = next
	slices.SortStableFunc(m.kept.Policies, func(a, b PolicyUsage) int {
		return cmp.Compare(b.Allowed+b.Refused+b.Shadowed, a.Allowed+a.Refused+a.Shadowed)
	})
	m.kept.Policies = m.kept.Policies[:min(len(m.kept.Policies), maxReported)]
}

// shareOf returns this node's part of the tokens of a policy's only key that were granted lately.
func (l *Limiter) shareOf(lim *limit) float64 {
	p := lim.policy
	if p.Match == "" && p.Key != Global {
		return 0
	}
	if lim.joins(l.cluster) == nil {
		return 1
	}
	l.mu.Lock()
	k := indexOf(p.Key)
	t, d := l.tables[k], l.directories[k]
	l.mu.Unlock()
	key := l.hashMatch(p)
	h := home{table: t, key: key}
	if d != nil {
		owner, name := splitMatch(p)
		if h.bucket = d.find(key, owner, name); h.bucket == nil {
			return 0
		}
	}
	h.lock()
	defer h.unlock()
	if s := h.share(); s != nil && s.all >= 0.5 {
		return s.part(1)
	}
	return 0
}

// NodeReport is the report of a node, and how old it is.
type NodeReport struct {
	Node string
	Age  time.Duration
	Report
}

// Usage is the usage of the limits over all nodes.
type Usage struct {
	Policies []ClusterUsage
	Top      []ClusterHot
	Span     float64 // the most seconds that Top covers
}

// ClusterUsage is a policy over all nodes: the sum, and each node's part, in the order of the
// nodes.
type ClusterUsage struct {
	PolicyUsage
	Nodes []NodeUsage
}

// NodeUsage is the usage of a policy on a node.
type NodeUsage struct {
	Node string
	PolicyUsage
}

// ClusterHot is a key that is refused often, over all nodes.
type ClusterHot struct {
	Hot
	Nodes []NodeHot
}

// NodeHot is how often a key is refused on a node.
type NodeHot struct {
	Node    string
	Refused uint64
}

// Sum adds reports. Policies are sorted by how often they are asked, and keys by how often they are
// refused.
func Sum(reports []NodeReport) Usage {
	var out Usage
	policies := make(map[string]int)
	keys := make(map[[2]string]int)
	for i := range reports {
		r := &reports[i]
		out.Span = max(out.Span, r.Span)
		for _, p := range r.Policies {
			at, known := policies[p.Name]
			if !known {
				at = len(out.Policies)
				policies[p.Name] = at
				out.Policies = append(out.Policies, ClusterUsage{PolicyUsage: PolicyUsage{Name: p.Name}})
			}
			sum := &out.Policies[at]
			sum.Allowed += p.Allowed
			sum.Refused += p.Refused
			sum.Shadowed += p.Shadowed
			sum.Share += p.Share
			sum.Nodes = append(sum.Nodes, NodeUsage{r.Node, p})
		}
		for _, h := range r.Top {
			name := [2]string{h.Policy, h.Key}
			at, known := keys[name]
			if !known {
				at = len(out.Top)
				keys[name] = at
				out.Top = append(out.Top, ClusterHot{Hot: Hot{Policy: h.Policy, Key: h.Key}})
			}
			out.Top[at].Refused += h.Refused
			out.Top[at].Over += h.Over
			out.Top[at].Nodes = append(out.Top[at].Nodes, NodeHot{r.Node, h.Refused})
		}
	}
	slices.SortStableFunc(out.Policies, func(a, b ClusterUsage) int {
		return cmp.Or(cmp.Compare(b.Refused, a.Refused), cmp.Compare(b.Allowed, a.Allowed), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(out.Top, func(a, b ClusterHot) int { return hotter(a.Hot, b.Hot) })
	out.Top = out.Top[:min(len(out.Top), maxTop)]
	return out
}
