package gateway

import (
	"time"

	"penstock/gateway/problem"
)

// live answers GET /livez: the process runs and answers, whatever its dependencies do.
func (x *exchange) live() {
	x.header(keyCacheControl, valueNoStore)
	x.body = append(x.body[:0], `{"status":"alive"}`...)
	x.answer(200, jsonType)
}

// shuttingDown is what isn't ready during a drain.
const shuttingDown = "shutting-down"

// readiness answers GET /readyz: 200, or 503 with the names of what isn't ready.
func (x *exchange) readiness() {
	notReady := x.server.ready()
	if x.server.draining.Load() {
		notReady = append([]string{shuttingDown}, notReady...)
	}
	if len(notReady) > 0 {
		x.problem(&problem.Problem{
			Code: problem.Unavailable, RetryAfter: time.Second, Detail: "Something this process needs is not ready: not_ready names it.",
			Extra: []problem.Member{problem.Texts("not_ready", notReady)},
		})
		return
	}
	x.header(keyCacheControl, valueNoStore)
	x.body = append(x.body[:0], `{"status":"ready","not_ready":[]}`...)
	x.answer(200, jsonType)
}
