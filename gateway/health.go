package gateway

import (
	"time"

	"github.com/penstock/penstock/gateway/problem"
)

// Health tells the state of this process, from memory. Its methods must not block.
type Health interface {
	// Missing names what this process lacks to answer buyers; "" if it lacks nothing. It covers
	// only this process, not servers that all nodes share.
	Missing() string
	// AppendReport appends the JSON document of /readyz?verbose. The document begins with ready and
	// draining.
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

// readiness answers GET /readyz: 200, or 503 with the name of what is missing. With ?verbose the
// answer tells about servers and shards, too; they don't change the status.
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
