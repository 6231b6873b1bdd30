// Package trace records what single requests did and how long each step took, for an OpenTelemetry
// collector (OTLP over HTTP).
//
//	t, err := trace.Open(ctx, trace.Config{Endpoint: "http://collector:4318", Sample: 0.01, …}, log)
//	r := t.Begin(traceparent, time.Now())           // most requests are not traced: r is zero then
//	t.Span(r.Context(), "hold", from, to)           // a part of it, here or in another process
//	t.End(&r, "POST /v1/orders", arrived, time.Now())
//
// It decides first whether a request is traced, and makes spans only when a step has ended. So a
// request that isn't traced costs one comparison, and without a tracer (nil) nothing. If the
// collector can't be reached, nothing waits for it: spans that don't fit into the queue are dropped
// and counted.
//
// It reads and writes W3C's Trace Context, level 1 (traceparent), and answers with traceresponse of
// level 2. It has no baggage and no tracestate.
package trace
