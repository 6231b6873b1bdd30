package webhook

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/penstock/penstock/internal/trace"
)

// TestSender_Traceparent: a traced post carries a traceparent.
func TestSender_Traceparent(t *testing.T) {
	spans := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer spans.Close()
	for sample, want := range map[float64]bool{0: false, 1: true} {
		tracer, err := trace.Open(t.Context(), trace.Config{Endpoint: spans.URL, Sample: sample}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r := newReceiver(t, takes)
		s, stop := start(t, "a@1", newMemory(), func(c *Config) { c.Trace = tracer })
		s.Apply(hooks(map[string]string{"one": r.url}))
		s.Send(alarm("e1"))
		g := r.next()
		if got := g.header.Get("Traceparent"); strings.HasPrefix(got, "00-") != want {
			t.Errorf("sample %v: %q", sample, got)
		}
		stop()
		if err := tracer.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
