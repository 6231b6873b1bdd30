package trace

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	otel "go.opentelemetry.io/otel/trace"
)

// Config configures the collector, and which requests are traced.
type Config struct {
	Endpoint string  // URL of the collector, without /v1/traces; "" traces nothing
	Sample   float64 // share of the requests without a traceparent that are traced, 0 to 1
	Node     string
	Version  string
}

// Validate checks the values.
func (c Config) Validate() error {
	var errs []error
	if u, err := url.Parse(c.Endpoint); c.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		errs = append(errs, fmt.Errorf("endpoint: %q is no URL like http://collector:4318", c.Endpoint))
	}
	if !(c.Sample >= 0 && c.Sample <= 1) {
		errs = append(errs, errors.New("sample: must be from 0 to 1"))
	}
	return errors.Join(errs...)
}

// Bounds of recorded spans, which also hold if a client asks for a trace of every request.
const (
	mostTraces = 200   // traces that one process begins in a second
	mostQueued = 4_096 // spans that wait for the collector
	sendEvery  = time.Second
	patience   = 10 * time.Second // timeout of one call to the collector
)

// Tracer records spans. nil records nothing. It is safe for concurrent use.
type Tracer struct {
	// Fixed after Open.
	threshold uint64 // a request whose random number is below it is traced
	all       bool
	provider  *sdk.TracerProvider
	tracer    otel.Tracer
	sender    *sender

	second atomic.Int64 // Unix time
	begun  atomic.Int64 // traces that were begun in that second

	traces, refused, spans atomic.Int64
}

// Stats are a tracer's counters.
type Stats struct {
	Traces  int64 // requests that were traced
	Refused int64 // requests that were not traced, because there were too many
	Spans   int64 // recorded
	Sent    int64 // spans that the collector accepted
	Lost    int64 // spans that the collector did not accept
}

// Open makes a tracer; nil if tracing is off. It doesn't connect: a collector that can't be reached
// is not an error. Close ends it.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Tracer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	if cfg.Endpoint == "" {
		return nil, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(cfg.Endpoint+"/v1/traces"), otlptracehttp.WithTimeout(patience))
	if err != nil {
		return nil, fmt.Errorf("trace: make the exporter: %w", err)
	}
	t := &Tracer{sender: &sender{to: exporter, log: log}, all: cfg.Sample == 1, threshold: uint64(cfg.Sample * (1 << 63) * 2)}
	t.provider = sdk.NewTracerProvider(
		sdk.WithSampler(sdk.AlwaysSample()), sdk.WithIDGenerator(givenIDs{}),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "penstock"),
			attribute.String("service.version", cfg.Version), attribute.String("service.instance.id", cfg.Node))),
		sdk.WithBatcher(t.sender, sdk.WithMaxQueueSize(mostQueued), sdk.WithBatchTimeout(sendEvery), sdk.WithExportTimeout(patience)),
	)
	t.tracer = t.provider.Tracer("penstock")
	return t, nil
}

// Close sends the recorded spans, until ctx ends.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("trace: send the last spans: %w", err)
	}
	return nil
}

// Stats returns the counters since Open.
func (t *Tracer) Stats() Stats {
	return Stats{
		Traces: t.traces.Load(), Refused: t.refused.Load(), Spans: t.spans.Load(), Sent: t.sender.sent.Load(), Lost: t.sender.lost.Load(),
	}
}

// Request is a request that may be traced. The zero value is not traced.
type Request struct {
	trace  [16]byte
	span   [8]byte
	parent [8]byte // zero: the request begins its trace
}

// Traced reports whether it is.
func (r *Request) Traced() bool { return r.span != [8]byte{} }

// Context names the request's span, for its parts; "" if it isn't traced.
func (r *Request) Context() Context {
	if !r.Traced() {
		return ""
	}
	var raw [contextLength]byte
	copy(raw[:], r.trace[:])
	copy(raw[16:], r.span[:])
	return Context(raw[:])
}

// Begin decides whether a request is traced: as its traceparent says, or at random if it has no
// valid one.
func (t *Tracer) Begin(traceparent []byte, now time.Time) (r Request) {
	if t == nil {
		return r
	}
	from, ok := parent{}, false
	if len(traceparent) > 0 {
		from, ok = parseHeader(traceparent)
	}
	wanted := from.sampled
	if !ok {
		wanted = t.all || rand.Uint64() < t.threshold
	}
	if !wanted || !t.mayBegin(now) {
		return r
	}
	if ok {
		r.trace, r.parent = from.trace, from.span
	} else {
		binary.BigEndian.PutUint64(r.trace[:8], rand.Uint64())
		binary.BigEndian.PutUint64(r.trace[8:], rand.Uint64()|1) // not all zeros
	}
	r.span = newSpanID()
	t.traces.Add(1)
	return r
}

// mayBegin counts a trace within its second.
func (t *Tracer) mayBegin(now time.Time) bool {
	second := now.Unix()
	if last := t.second.Load(); last != second && t.second.CompareAndSwap(last, second) {
		t.begun.Store(0)
	}
	if t.begun.Add(1) > mostTraces {
		t.refused.Add(1)
		return false
	}
	return true
}

func newSpanID() (id otel.SpanID) {
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// Attr is an attribute of a span: a text, or a number if the text is "".
type Attr struct {
	Key    string
	Text   string
	Number int64
}

// End records the span of a request that has ended. It does nothing if the request isn't traced.
func (t *Tracer) End(r *Request, name string, from, to time.Time, failed bool, attrs ...Attr) {
	if t == nil || !r.Traced() {
		return
	}
	ctx := context.Background()
	if r.parent != [8]byte{} {
		ctx = remote(ctx, r.trace, r.parent)
	}
	t.record(context.WithValue(ctx, givenKey{}, r), name, otel.SpanKindServer, from, to, failed, attrs)
}

// Span records a part of a trace that has ended. It does nothing if parent is empty.
func (t *Tracer) Span(parent Context, name string, from, to time.Time, failed bool, attrs ...Attr) {
	if t == nil || !parent.Valid() {
		return
	}
	t.record(remote(context.Background(), [16]byte([]byte(parent[:16])), [8]byte([]byte(parent[16:]))), name, otel.SpanKindInternal,
		from, to, failed, attrs)
}

func remote(ctx context.Context, trace [16]byte, span [8]byte) context.Context {
	return otel.ContextWithRemoteSpanContext(ctx, otel.NewSpanContext(otel.SpanContextConfig{
		TraceID: trace, SpanID: span, TraceFlags: otel.FlagsSampled, Remote: true,
	}))
}

func (t *Tracer) record(ctx context.Context, name string, kind otel.SpanKind, from, to time.Time, failed bool, attrs []Attr) {
	said := make([]attribute.KeyValue, 0, len(attrs)+1)
	for _, a := range attrs {
		if a.Text != "" {
			said = append(said, attribute.String(a.Key, a.Text))
		} else {
			said = append(said, attribute.Int64(a.Key, a.Number))
		}
	}
	if failed {
		said = append(said, attribute.Bool("error", true))
	}
	t.spans.Add(1)
	_, span := t.tracer.Start(ctx, name, otel.WithTimestamp(from), otel.WithSpanKind(kind), otel.WithAttributes(said...))
	span.End(otel.WithTimestamp(to))
}

// givenIDs gives a request's span the id that its parts have used before it ended.
type givenIDs struct{}

type givenKey struct{}

// NewIDs implements sdk.IDGenerator.
func (g givenIDs) NewIDs(ctx context.Context) (otel.TraceID, otel.SpanID) {
	if r, ok := ctx.Value(givenKey{}).(*Request); ok {
		return r.trace, r.span
	}
	var trace otel.TraceID
	binary.BigEndian.PutUint64(trace[:8], rand.Uint64()|1)
	return trace, newSpanID()
}

// NewSpanID implements sdk.IDGenerator.
func (g givenIDs) NewSpanID(ctx context.Context, _ otel.TraceID) otel.SpanID {
	if r, ok := ctx.Value(givenKey{}).(*Request); ok {
		return r.span
	}
	return newSpanID()
}

// sender sends spans. It counts and logs the results, because the library would write to its own
// log.
type sender struct {
	to         *otlptrace.Exporter
	log        *slog.Logger
	failing    atomic.Bool
	sent, lost atomic.Int64
}

// ExportSpans implements sdk.SpanExporter.
func (s *sender) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := s.to.ExportSpans(ctx, spans)
	if err != nil {
		s.lost.Add(int64(len(spans)))
	} else {
		s.sent.Add(int64(len(spans)))
	}
	if s.failing.Swap(err != nil) != (err != nil) {
		if err != nil {
			s.log.Warn("the collector doesn't accept spans, so they are lost", "err", err)
		} else {
			s.log.Info("the collector accepts spans again")
		}
	}
	return nil // it is counted and logged already
}

// Shutdown implements sdk.SpanExporter.
func (s *sender) Shutdown(ctx context.Context) error { return s.to.Shutdown(ctx) }
