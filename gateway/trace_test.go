package gateway

import (
	"log/slog"
	"testing"

	"github.com/penstock/penstock/internal/proof/raced"
	"github.com/penstock/penstock/internal/trace"
	"github.com/penstock/penstock/seckill"
)

// tracedServers are a server without a tracer, and one whose requests aren't traced.
func tracedServers(t testing.TB) map[string]*Server {
	t.Helper()
	tracer, err := trace.Open(t.Context(), trace.Config{Endpoint: "http://127.0.0.1:1"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracer.Close(t.Context()) }) // nothing was recorded
	out := make(map[string]*Server)
	for name, tracer := range map[string]*trace.Tracer{"off": nil, "on": tracer} {
		out[name] = cheapServer(t, &cheapSales{receipt: seckill.Receipt{Order: testOrder(seckill.OrderQueued)}}, nil)
		out[name].cfg.Trace = tracer
	}
	return out
}

// TestTrace_UntracedAllocatesNothing: a purchase that isn't traced allocates the same with a tracer
// and without one. TestRefusalsAllocateLittle bounds that number.
func TestTrace_UntracedAllocatesNothing(t *testing.T) {
	if raced.Enabled {
		t.Skip("pools drop what they are given under the race detector")
	}
	for name, s := range tracedServers(t) {
		ctx := requestContextOf("POST", "/v1/orders", goodBody, buyerKey)
		ctx.Request.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
		if n := testing.AllocsPerRun(200, func() {
			ctx.Response.Reset()
			s.handle(ctx)
		}); n > 1 {
			t.Errorf("%s: %v allocations, want those of the purchase alone, 1", name, n)
		}
		if got := ctx.Response.Header.Peek("Traceresponse"); len(got) > 0 {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// BenchmarkTrace measures a purchase that isn't traced, without a tracer and with one.
func BenchmarkTrace(b *testing.B) {
	for name, s := range tracedServers(b) {
		b.Run(name, func(b *testing.B) {
			ctx := requestContextOf("POST", "/v1/orders", goodBody, buyerKey)
			b.ReportAllocs()
			for b.Loop() {
				ctx.Response.Reset()
				s.handle(ctx)
			}
		})
	}
}
