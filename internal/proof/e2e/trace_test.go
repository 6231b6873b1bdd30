package e2e

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	otlpcollector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// span is a span that a collector got, with its process.
type span struct {
	*otlp.Span
	from string
}

// collector takes spans by OTLP over HTTP.
type collector struct {
	*httptest.Server
	t testing.TB

	mu    sync.Mutex
	spans []span // guarded by mu
}

func newCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{t: t}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

// ServeHTTP implements http.Handler.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var sent otlpcollector.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
		c.t.Errorf("%s: no spans: %v", r.URL, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range sent.ResourceSpans {
		from := ""
		for _, a := range of.Resource.Attributes {
			if a.Key == "service.instance.id" {
				from = a.Value.GetStringValue()
			}
		}
		for _, in := range of.ScopeSpans {
			for _, s := range in.Spans {
				c.spans = append(c.spans, span{s, from})
			}
		}
	}
}

// of returns the spans of a trace, by name.
func (c *collector) of(trace string) map[string]span {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]span)
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) == trace {
			out[s.Name] = s
		}
	}
	return out
}

// TestTrace_OneOrderOverTwoProcesses: a collector gets one order's spans from the gateway that took
// it and from the worker that wrote its row, as one trace under the caller's span.
func TestTrace_OneOrderOverTwoProcesses(t *testing.T) {
	spans := newCollector(t)
	c := startCluster(t, "--otlp-endpoint", spans.URL, "--trace-sample", "0")
	gateway := c.gateway(0)
	s := openShop(gateway, terms{quantity: 10, perUser: 2, window: "15m"})
	s.mustBuy(gateway, "first", "k") // it sells: no shard is being opened
	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	a, err := s.buy(gateway, "traced", "k", 1, "traceparent", "00-"+trace+"-"+caller+"-01")
	if err != nil || a.status != 202 {
		t.Fatalf("buy: %v, %v", a, err)
	}
	told := strings.Split(a.header.Get("Traceresponse"), "-")
	if len(told) != 4 || told[1] != trace {
		t.Fatalf("told %q", told)
	}
	const root = "POST /v1/orders"
	byGateway, byWorker := []string{root, "line", "hold", "put"}, []string{"transaction", "confirm"}
	eventually(t, "the whole trace is with the collector", func() bool {
		found := spans.of(trace)
		return !slices.ContainsFunc(slices.Concat(byGateway, byWorker), func(name string) bool { return found[name].Span == nil })
	})
	found := spans.of(trace)
	for name, s := range found {
		want := told[2]
		if name == root {
			want = caller
		}
		if parent := hex.EncodeToString(s.ParentSpanId); parent != want {
			t.Errorf("%s is under %s, want %s", name, parent, want)
		}
	}
	from := func(names []string) string {
		of := make(map[string]bool)
		for _, name := range names {
			of[found[name].from] = true
		}
		if len(of) != 1 {
			t.Errorf("%v are of %v", names, of)
		}
		return found[names[0]].from
	}
	if g, w := from(byGateway), from(byWorker); g == w || g == "" || w == "" || !strings.HasSuffix(g, strings.TrimPrefix(gateway.public, "http://")) {
		t.Errorf("gateway %q, worker %q", g, w)
	}
	if len(found) != 6 {
		t.Error(fmt.Sprint("more spans than the way has: ", found))
	}
}
