package trace

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestParseHeader(t *testing.T) {
	for text, want := range map[string]string{
		header:                                  "sampled",
		strings.TrimSuffix(header, "1") + "0":   "not",
		strings.TrimSuffix(header, "01") + "03": "sampled",
		"01" + header[2:] + "-what-comes-later": "sampled",
		header + "-more":                        "",
		"ff" + header[2:]:                       "",
		"zz" + header[2:]:                       "",
		strings.ToUpper(header):                 "",
		header[:54]:                             "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": "",
		"": "",
	} {
		p, ok := parseHeader([]byte(text))
		got := ""
		if ok {
			got = map[bool]string{true: "sampled", false: "not"}[p.sampled]
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte(header))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parseHeader(b)
		if !ok {
			return
		}
		r := Request{trace: p.trace, span: p.span}
		if again, ok := parseHeader(r.Context().AppendHeader(nil)); !ok || again.trace != p.trace || again.span != p.span {
			t.Errorf("%q was read as %+v and written as another one", b, p)
		}
	})
}

// open makes a tracer whose spans go to url.
func open(t testing.TB, url string, sample float64) *Tracer {
	t.Helper()
	tracer, err := Open(t.Context(), Config{Endpoint: url, Sample: sample, Node: "n1", Version: "v1"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

// TestTracer_Begin: a request's own header decides whether it is traced. Without one, chance
// decides. In a flood of requests that ask for it, most are not traced.
func TestTracer_Begin(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	now := time.Unix(1, 0)
	for name, c := range map[string]struct {
		sample float64
		header string
		traced bool
		same   bool // as the header's trace
	}{
		"it says so":                {0, header, true, true},
		"it says no":                {1, strings.TrimSuffix(header, "1") + "0", false, false},
		"it says nothing":           {1, "", true, false},
		"it says nothing, by none":  {0, "", false, false},
		"nobody understands it":     {1, "nonsense", true, false},
		"nobody understands it, no": {0, "nonsense", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			tracer := open(t, server.URL, c.sample)
			r := tracer.Begin([]byte(c.header), now)
			if r.Traced() != c.traced || r.Context().Valid() != c.traced || c.traced && (strings.Contains(header, r.Context().Trace()) != c.same) {
				t.Errorf("%+v", r)
			}
			if err := tracer.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	tracer := open(t, server.URL, 0)
	for range 3 * mostTraces {
		tracer.Begin([]byte(header), now)
	}
	if s := tracer.Stats(); s.Traces != mostTraces || s.Refused != 2*mostTraces {
		t.Errorf("%+v in one second", s)
	}
	if r := tracer.Begin([]byte(header), now.Add(time.Second)); !r.Traced() {
		t.Error("none in the next second")
	}
	if err := tracer.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestTracer_Nil: without a tracer nothing is recorded, and nothing breaks.
func TestTracer_Nil(t *testing.T) {
	none, err := Open(t.Context(), Config{Sample: 1}, nil)
	if err != nil || none != nil {
		t.Fatalf("%v, %v", none, err)
	}
	r := none.Begin([]byte(header), time.Now())
	none.Span(r.Context(), "x", time.Now(), time.Now(), false)
	none.End(&r, "x", time.Now(), time.Now(), false)
	if r.Traced() || none.Close(t.Context()) != nil {
		t.Error("nothing was something")
	}
	for _, bad := range []Config{{Endpoint: "collector:4318"}, {Endpoint: "ftp://x"}, {Sample: 2}, {Sample: -1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestTracer_Sends: spans arrive under their parents, with the ids that were given out before.
func TestTracer_Sends(t *testing.T) {
	var mu sync.Mutex
	spans := make(map[string]*otlp.Span)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var sent collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &sent) != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, of := range sent.ResourceSpans {
			for _, in := range of.ScopeSpans {
				for _, span := range in.Spans {
					spans[span.Name] = span
				}
			}
		}
	}))
	defer server.Close()
	tracer := open(t, server.URL, 0)
	began := time.Now()
	r := tracer.Begin([]byte(header), began)
	tracer.Span(r.Context(), "part", began, began.Add(time.Millisecond), true, Attr{Key: "n", Number: 7}, Attr{Key: "s", Text: "x"})
	tracer.End(&r, "whole", began, began.Add(time.Second), false)
	if err := tracer.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole, part := spans["whole"], spans["part"]
	if whole == nil || part == nil {
		t.Fatalf("%d spans came", len(spans))
	}
	if string(whole.TraceId)+string(whole.SpanId) != string(r.Context()) || string(part.TraceId) != string(whole.TraceId) {
		t.Errorf("the spans have other ids than %x", r.Context())
	}
	if string(part.ParentSpanId) != string(whole.SpanId) || len(part.Attributes) != 3 {
		t.Errorf("%+v", part)
	}
	if got, want := string(whole.ParentSpanId), "\x00\xf0\x67\xaa\x0b\xa9\x02\xb7"; got != want {
		t.Errorf("its parent is %x", got)
	}
	if took := whole.EndTimeUnixNano - whole.StartTimeUnixNano; took != uint64(time.Second) {
		t.Errorf("it took %d", took)
	}
	if s := tracer.Stats(); s.Spans != 2 || s.Sent != 2 || s.Lost != 0 {
		t.Errorf("%+v", s)
	}
}

// TestTracer_CollectorRefuses: spans that the collector refuses are counted, and nothing else is
// affected.
func TestTracer_CollectorRefuses(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer server.Close()
	tracer := open(t, server.URL, 1)
	r := tracer.Begin(nil, time.Now())
	tracer.End(&r, "x", time.Now(), time.Now(), false)
	if err := tracer.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if s := tracer.Stats(); s.Lost != 1 || s.Sent != 0 {
		t.Errorf("%+v", s)
	}
}

// TestTracer_UntracedAllocatesNothing: an untraced request allocates nothing, with a tracer or
// without.
func TestTracer_UntracedAllocatesNothing(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	for name, tracer := range map[string]*Tracer{"off": nil, "on": open(t, server.URL, 0)} {
		now, not := time.Now(), []byte(strings.TrimSuffix(header, "1")+"0")
		if n := testing.AllocsPerRun(1000, func() {
			for _, h := range [][]byte{nil, not} {
				if r := tracer.Begin(h, now); r.Traced() || r.Context() != "" {
					t.Error("it is traced")
				}
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if err := tracer.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
