package gateway

import (
	"time"

	"github.com/penstock/penstock/gateway/problem"
)

// Health says how this process does, from memory. Its methods must not block.
type Health interface {
	// Missing names what this process needs to answer buyers and doesn't have; "" where it has all.
	// It is about this process alone, never about what all nodes share.
	Missing() string
	// AppendReport appends the JSON document of /readyz?verbose. ready and draining are what it
	// begins with.
	AppendReport(dst []byte, ready, draining bool) []byte
}

// live answers GET /livez: the process runs and answers, whatever its servers do.
func (x *exchange) live() {
	x.header(keyCacheControl, valueNoStore)
	x.body = append(x.body[:0], `{"status":"alive"}`...)
	x.answer(200, jsonType)
}

// draining is why a process that shuts down isn't ready.
const draining = "draining"

// readiness answers GET /readyz: 200, or 503 with the name of what is missing. With ?verbose it
// tells about servers and shards too, which do not decide.
func (x *exchange) readiness() {
	var missing []string
	drains := x.server.draining.Load()
	if drains {
		missing = append(missing, draining)
	}
	if m := x.server.health.Missing(); m != "" && m != draining {
		missing = append(missing, m)
	}
	x.header(keyCacheControl, valueNoStore)
	switch {
	case x.http.QueryArgs().Has("verbose"):
		x.body = x.server.health.AppendReport(x.body[:0], len(missing) == 0, drains)
		status := 200
		if len(missing) > 0 {
			status = 503
			x.headerNumber(keyRetryAfter, 1)
		}
		x.answer(status, jsonType)
	case len(missing) > 0:
		x.problem(&problem.Problem{
			Code: problem.Unavailable, RetryAfter: time.Second, Detail: "This process can't answer buyers now: not_ready says why.",
			Extra: []problem.Member{problem.Texts("not_ready", missing)},
		})
	default:
		x.body = append(x.body[:0], `{"status":"ready","not_ready":[]}`...)
		x.answer(200, jsonType)
	}
}
