package admin

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/penstock/penstock/limiter"
)

type limitUsageDoc struct {
	Complete bool             `json:"complete"`
	Missing  string           `json:"missing"`
	Nodes    []limitNodeDoc   `json:"nodes"`
	Policies []limitPolicyDoc `json:"policies"`
	Top      []limitTopDoc    `json:"top"`
	Span     int64            `json:"top_span_seconds"`
}

type limitNodeDoc struct {
	Node  string `json:"node"`
	Age   int64  `json:"age_ms"`
	Alone bool   `json:"alone"`
}

type limitRatesDoc struct {
	Allowed  float64 `json:"allowed_per_second"`
	Refused  float64 `json:"refused_per_second"`
	Shadowed float64 `json:"shadowed_per_second"`
}

type limitPolicyDoc struct {
	limiter.Policy
	limitRatesDoc
	Nodes []limitNodeRatesDoc `json:"nodes"`
}

type limitNodeRatesDoc struct {
	Node string `json:"node"`
	limitRatesDoc
	Share    *float64 `json:"share"`
	RateHere *float64 `json:"effective_rate"`
}

type limitTopDoc struct {
	Policy  string            `json:"policy"`
	Key     string            `json:"key"`
	Refused uint64            `json:"refused"`
	Over    uint64            `json:"uncertain"`
	Nodes   []limitTopNodeDoc `json:"nodes"`
}

type limitTopNodeDoc struct {
	Node    string `json:"node"`
	Refused uint64 `json:"refused"`
}

// limitUsage answers GET /admin/v1/limits/usage.
func (c *call) limitUsage() error {
	ctx := c.context()
	stored, err := c.currentLimits(ctx)
	if err != nil {
		return err
	}
	document, err := parseLimits(&stored)
	if err != nil {
		return err
	}
	reports, missing := c.server.deps.Limits.LimitReports(ctx)
	slices.SortFunc(reports, func(a, b limiter.NodeReport) int { return cmp.Compare(a.Node, b.Node) })
	doc := limitUsageDoc{Complete: missing == "", Missing: missing, Nodes: []limitNodeDoc{}, Top: []limitTopDoc{}}
	for i := range reports {
		r := &reports[i]
		doc.Nodes = append(doc.Nodes, limitNodeDoc{r.Node, r.Age.Milliseconds(), r.Alone})
	}
	sum := limiter.Sum(reports)
	doc.Span = int64(sum.Span)
	doc.Policies = usedPolicies(document.Policies, sum.Policies)
	for _, h := range sum.Top {
		top := limitTopDoc{Policy: h.Policy, Key: h.Key, Refused: h.Refused, Over: h.Over}
		for _, n := range h.Nodes {
			top.Nodes = append(top.Nodes, limitTopNodeDoc(n))
		}
		doc.Top = append(doc.Top, top)
	}
	return c.json(http.StatusOK, doc)
}

// usedPolicies joins the policies with their usage; those that refuse most come first. Policies
// without traffic come last, in their own order.
func usedPolicies(policies []limiter.Policy, used []limiter.ClusterUsage) []limitPolicyDoc {
	out := []limitPolicyDoc{}
	done := make(map[string]bool)
	byName := make(map[string]*limiter.Policy)
	for i := range policies {
		byName[policies[i].Name] = &policies[i]
	}
	for _, u := range used {
		p := byName[u.Name]
		if p == nil {
			continue // it belongs to a version that is just coming or going
		}
		done[u.Name] = true
		doc := limitPolicyDoc{Policy: *p, limitRatesDoc: newLimitRates(&u.PolicyUsage)}
		for _, n := range u.Nodes {
			node := limitNodeRatesDoc{Node: n.Node, limitRatesDoc: newLimitRates(&n.PolicyUsage)}
			if n.Share > 0 {
				rate := n.Share * p.Rate
				node.Share, node.RateHere = &n.Share, &rate
			}
			doc.Nodes = append(doc.Nodes, node)
		}
		out = append(out, doc)
	}
	for i := range policies {
		if !done[policies[i].Name] {
			out = append(out, limitPolicyDoc{Policy: policies[i], Nodes: []limitNodeRatesDoc{}})
		}
	}
	return out
}

func newLimitRates(u *limiter.PolicyUsage) limitRatesDoc {
	return limitRatesDoc{u.Allowed, u.Refused, u.Shadowed}
}
