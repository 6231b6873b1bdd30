package node

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/internal/trace"
)

// TraceConfig configures which requests are traced, and the collector.
type TraceConfig struct {
	Endpoint string // empty: nothing is recorded
	Sample   string // share of the requests, 0 to 1
}

func (c TraceConfig) trace() (trace.Config, error) {
	sample, err := strconv.ParseFloat(c.Sample, 64)
	if err != nil {
		return trace.Config{}, fmt.Errorf("sample: %q is no number from 0 to 1", c.Sample)
	}
	return trace.Config{Endpoint: strings.TrimRight(c.Endpoint, "/"), Sample: sample}, nil
}

func (c TraceConfig) mistakes() []error {
	cfg, err := c.trace()
	if err == nil {
		err = cfg.Validate()
	}
	return named(err, map[string]string{"endpoint": "otlp-endpoint", "sample": "trace-sample"})
}

// openTraces makes the recorder of spans.
func (n *Node) openTraces(ctx context.Context) error {
	cfg, err := n.cfg.Trace.trace()
	if err != nil {
		return badSetting(fmt.Errorf("trace-%w", err))
	}
	cfg.Node, cfg.Version = n.name(), n.cfg.Version
	if n.trace, err = trace.Open(ctx, cfg, part(n.root, "trace")); err != nil {
		return badSetting(err)
	}
	n.cfg.Gateway.Trace = n.trace
	return nil
}

func (n *Node) closeTraces(ctx context.Context) error {
	if err := n.trace.Close(ctx); err != nil {
		n.log.Warn("the last spans are lost", "err", err) // this must not make a stop fail
	}
	return nil
}

// traceMetrics are the metrics of traces; empty without a tracer.
func (n *Node) traceMetrics() []admin.Sample {
	if n.trace == nil {
		return nil
	}
	s := n.trace.Stats()
	return []admin.Sample{
		counter("penstock_traces_total", "Requests that were traced.", s.Traces),
		counter("penstock_traces_refused_total", "Requests that were not traced because too many were in that second.", s.Refused),
		counter("penstock_trace_spans_total", "Spans recorded.", s.Spans),
		counter("penstock_trace_spans_sent_total", "Spans that the collector has taken.", s.Sent),
		counter("penstock_trace_spans_lost_total", "Spans that the collector did not take.", s.Lost),
	}
}
