package admin

import (
	_ "embed"
	"net/http"
	"net/http/pprof"
	profiles "runtime/pprof"
	"strings"
	"time"

	"github.com/penstock/penstock/docs"
	"github.com/penstock/penstock/gateway/problem"
)

// contract is this listener's contract. A test compares it with the routes, the codes and live
// answers.
//
//go:embed openapi.yaml
var contract []byte

// pages are the answers that never change, made once.
type pages struct {
	html map[string][]byte // problems by code; the index is under ""
	text map[string][]byte
}

func newPages() pages {
	p := pages{
		html: map[string][]byte{"": problem.IndexHTML()},
		text: map[string][]byte{"": problem.IndexText()},
	}
	for _, e := range problem.Entries() {
		p.html[string(e.Code)] = e.PageHTML()
		p.text[string(e.Code)] = e.PageText()
	}
	return p
}

const (
	typeHTML  = "text/html; charset=utf-8"
	typeText  = "text/plain; charset=utf-8"
	typeYAML  = "application/yaml"
	forAWhile = "public, max-age=300"
	// problemPolicy allows the inline style of package problem's pages. They have no scripts and
	// load nothing.
	problemPolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// openAPI answers GET /openapi.yaml.
func (c *call) openAPI() error {
	c.w.Header().Set("Cache-Control", forAWhile)
	c.write(http.StatusOK, typeYAML, contract)
	return nil
}

// runbook answers GET /runbook with docs/runbook.md.
func (c *call) runbook() error {
	c.w.Header().Set("Cache-Control", forAWhile)
	c.write(http.StatusOK, typeText, docs.Runbook)
	return nil
}

// problemPage answers GET /problems and GET /problems/{code}: as HTML to a client that accepts that
// by name, like browsers do.
func (c *call) problemPage() error {
	pages, contentType := c.server.pages.text, typeText
	if strings.Contains(c.r.Header.Get("Accept"), "text/html") {
		pages, contentType = c.server.pages.html, typeHTML
	}
	body, ok := pages[c.r.PathValue("code")]
	if !ok {
		return refuse(problem.NotFound, "")
	}
	h := c.w.Header()
	h.Set("Vary", "Accept")
	h.Set("Cache-Control", forAWhile)
	h.Set("Content-Security-Policy", problemPolicy)
	c.write(http.StatusOK, contentType, body)
	return nil
}

type healthDoc struct {
	Status   string   `json:"status"`
	NotReady []string `json:"not_ready,omitempty"`
}

// live answers GET /livez: the process runs and answers, whatever its dependencies do.
func (c *call) live() error { return c.json(http.StatusOK, healthDoc{Status: "alive"}) }

// draining is why a process that shuts down isn't ready.
const draining = "draining"

// ready answers GET /readyz: 200, or 503 with the name of what is missing. With ?verbose the answer
// also describes servers and shards. They don't change the status.
func (c *call) ready() error {
	missing, drains := c.server.deps.Health.Missing(), c.server.draining.Load()
	if drains {
		missing = draining
	}
	if c.r.URL.Query().Has("verbose") {
		status := http.StatusOK
		if missing != "" {
			status = http.StatusServiceUnavailable
			c.w.Header().Set("Retry-After", "1")
		}
		c.write(status, "application/json", c.server.deps.Health.AppendReport(nil, missing == "", drains || missing == draining))
		return nil
	}
	if missing == "" {
		return c.json(http.StatusOK, healthDoc{Status: "ready"})
	}
	c.problem(&problem.Problem{
		Code: problem.Unavailable, RetryAfter: time.Second, Detail: "This process can't answer buyers now: not_ready says why.",
		Extra: []problem.Member{problem.Texts("not_ready", []string{missing})},
	})
	return nil
}

// profile answers GET /debug/pprof/…
func (c *call) profile() error {
	h := c.w.Header()
	h.Set("Content-Security-Policy", problemPolicy) // the index has its own style
	switch name := strings.TrimPrefix(c.r.URL.Path, "/debug/pprof/"); name {
	case "cmdline":
		pprof.Cmdline(c.w, c.r)
	case "profile":
		pprof.Profile(c.w, c.r)
	case "symbol":
		pprof.Symbol(c.w, c.r)
	case "trace":
		pprof.Trace(c.w, c.r)
	default:
		if name != "" && profiles.Lookup(name) == nil {
			return refuse(problem.NotFound, "There is no profile of this name.")
		}
		pprof.Index(c.w, c.r)
	}
	return nil
}
