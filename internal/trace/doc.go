// Package trace records what single requests did, and where the time went, for a collector of
// OpenTelemetry (OTLP over HTTP).
//
//	t, err := trace.Open(ctx, trace.Config{Endpoint: "http://collector:4318", Sample: 0.01, …}, log)
//	r := t.Begin(traceparent, time.Now())           // most requests are not traced: r is zero then
//	t.Span(r.Context(), "hold", from, to)           // a part of it, here or in another process
//	t.End(&r, "POST /v1/orders", arrived, time.Now())
//
// It promises that it is decided whether a request is traced before anything is made for it, and
// that spans are made only of what has ended: what isn't traced costs a comparison, and without a
// tracer (nil) nothing at all. A collector that is away holds nobody up: what doesn't fit into the
// queue is dropped and counted.
//
// It takes and gives W3C's Trace Context, level 1 (traceparent), and answers with traceresponse of
// level 2. It has no baggage and no tracestate.
package trace
