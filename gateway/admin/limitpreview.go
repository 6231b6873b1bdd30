package admin

import (
	"net/http"

	"github.com/penstock/penstock/limiter"
)

type previewDoc struct {
	Complete bool               `json:"complete"`
	Missing  string             `json:"missing"`
	Span     int64              `json:"span_seconds"`
	Asked    uint64             `json:"asked"`
	Refused  uint64             `json:"refused"`
	Policies []previewPolicyDoc `json:"policies"`
	Callers  []previewCallerDoc `json:"callers"`
	Unseen   []string           `json:"not_previewed"`
}

type previewPolicyDoc struct {
	Name    string       `json:"name"`
	Key     limiter.Kind `json:"key"`
	Mode    limiter.Mode `json:"mode"`
	Refused uint64       `json:"refused"`
}

type previewCallerDoc struct {
	Merchant string `json:"merchant"`
	Caller   string `json:"caller"`
	Asked    uint64 `json:"asked"`
	Refused  uint64 `json:"refused"`
	Policy   string `json:"policy"`
}

// previewLimits answers POST /admin/v1/limits/preview. It changes nothing.
func (c *call) previewLimits() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	now := c.settingsTime()
	document := takeLimits(o, now)
	allowUnknown := o.boolean("allow_unknown")
	for _, name := range []string{"version", "reason", "confirm", "staged"} { // members of a body that is meant for a put
		o.take(name)
	}
	o.end()
	if err := m.err(); err != nil {
		return err
	}
	checkLimits(&document, now, m)
	if !allowUnknown {
		before, err := c.limitsInForce()
		if err != nil {
			return err
		}
		c.unknownMatches(c.context(), &document, &before, m)
	}
	if err := m.err(); err != nil {
		return err
	}
	series, missing := c.server.deps.Limits.LimitHistory(c.context())
	effective, _ := document.At(now)
	p := limiter.PreviewOf(&effective, series)
	doc := previewDoc{
		Complete: missing == "", Missing: missing, Span: int64(limiter.HistorySpan.Seconds()), Asked: p.Asked, Refused: p.Refused,
		Policies: []previewPolicyDoc{}, Callers: []previewCallerDoc{}, Unseen: append([]string{}, p.Unseen...),
	}
	for i := range p.Policies {
		q := &p.Policies[i]
		doc.Policies = append(doc.Policies, previewPolicyDoc{q.Policy.Name, q.Policy.Key, q.Policy.Mode, q.Refused})
	}
	for i := range p.Callers {
		doc.Callers = append(doc.Callers, previewCallerDoc(p.Callers[i]))
	}
	return c.json(http.StatusOK, doc)
}
