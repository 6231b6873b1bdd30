package node

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	otlpcollector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spanCollector takes spans as a collector does.
type spanCollector struct {
	*httptest.Server
	news chan struct{} // capacity 1

	mu    sync.Mutex
	spans []*otlp.Span // guarded by mu
}

func newSpanCollector(t *testing.T) *spanCollector {
	c := &spanCollector{news: make(chan struct{}, 1)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var sent otlpcollector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &sent) != nil {
			t.Errorf("no spans: %v", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, of := range sent.ResourceSpans {
			for _, in := range of.ScopeSpans {
				c.spans = append(c.spans, in.Spans...)
			}
		}
		select {
		case c.news <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// of waits until a trace has all of these spans, and returns them by name.
func (c *spanCollector) of(t *testing.T, trace string, names ...string) map[string]*otlp.Span {
	t.Helper()
	late := time.After(time.Minute)
	for {
		c.mu.Lock()
		found := make(map[string]*otlp.Span)
		for _, span := range c.spans {
			if hex.EncodeToString(span.TraceId) == trace {
				found[span.Name] = span
			}
		}
		c.mu.Unlock()
		missing := ""
		for _, name := range names {
			if found[name] == nil {
				missing += " " + name
			}
		}
		if missing == "" {
			return found
		}
		select {
		case <-c.news:
		case <-late:
			t.Fatalf("of the trace %s no spans came:%s", trace, missing)
		}
	}
}

// TestTrace_OneOrder: a collector gets the spans of one order from gateway and worker, under one
// trace id, and none of an untraced order.
func TestTrace_OneOrder(t *testing.T) {
	spans := newSpanCollector(t)
	c := testConfig(t)
	c.AdminToken, c.Trace.Endpoint, c.Trace.Sample, c.ProbeEvery = liveToken, spans.URL, "0", 0
	s := openLiveShopOn(t, c)
	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	buy := func(user, flags string) http.Header {
		body := fmt.Sprintf(`{"activity":"618","sku":"many","user":%q,"quantity":1}`, user)
		request, err := http.NewRequestWithContext(t.Context(), "POST", s.PublicURL()+"/v1/orders", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"Authorization": "Bearer " + s.key, "Content-Type": "application/json", "Idempotency-Key": "k",
			"traceparent": "00-" + trace + "-" + caller + "-" + flags,
		} {
			request.Header.Set(name, value)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusAccepted {
			t.Fatalf("%d, %v", response.StatusCode, err)
		}
		return response.Header
	}
	s.buy("many", "first") // it sells: no shard is being opened
	if told := buy("untraced", "00").Get("Traceresponse"); told != "" {
		t.Errorf("an order that isn't traced is told %q", told)
	}
	told := strings.Split(buy("traced", "01").Get("Traceresponse"), "-")
	if len(told) != 4 || told[1] != trace || told[3] != "01" {
		t.Fatalf("told %q", told)
	}
	const root = "POST /v1/orders"
	found := spans.of(t, trace, root, "line", "hold", "put", "transaction", "confirm")
	for name, span := range found {
		parent, want := hex.EncodeToString(span.ParentSpanId), told[2]
		if name == root {
			want = caller
			if hex.EncodeToString(span.SpanId) != told[2] {
				t.Errorf("the request's span is %x, told was %s", span.SpanId, told[2])
			}
		}
		if parent != want {
			t.Errorf("%s is under %s, want %s", name, parent, want)
		}
		if span.EndTimeUnixNano < span.StartTimeUnixNano {
			t.Errorf("%s ends before it begins", name)
		}
	}
	if found["hold"].StartTimeUnixNano < found["line"].StartTimeUnixNano || found["transaction"].EndTimeUnixNano < found["put"].StartTimeUnixNano {
		t.Error("the steps are in another order")
	}
	if stats := s.trace.Stats(); stats.Traces != 1 || stats.Spans != 6 {
		t.Errorf("%+v, want one trace of six spans", stats)
	}
}
