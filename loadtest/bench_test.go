package loadtest

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// What the generator costs: a crowd against a handler that says "sold out" and nothing else, both
// on the same cores.
func BenchmarkCrowd_SoldOut(b *testing.B) {
	cfg := DefaultConfig()
	cfg.Target, cfg.CallerKey, cfg.Activity, cfg.SKU = serveSoldOut(b), "key", "618-phones", "phone-x"
	cfg.Habits, cfg.Buyers = Habits{}, b.N
	crowd, err := NewCrowd(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	result, err := crowd.Run(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if got := result.Buy.Count(SoldOut); got != int64(b.N) {
		b.Errorf("%d of %d sold out", got, b.N)
	}
	b.ReportMetric(result.Rate(), "requests/s")
}

// The highest rate of the generator: a schedule that is too fast for it, at the same handler.
func BenchmarkLoad_SoldOut(b *testing.B) {
	cfg := DefaultLoadConfig()
	cfg.Targets, cfg.CallerKeys = []string{serveSoldOut(b)}, []string{"key"}
	cfg.Items = []Item{{Activity: "618-phones", SKU: "phone-x"}}
	cfg.Connections, cfg.RequestTimeout = 64, time.Hour
	cfg.Phases = []Phase{{Duration: time.Duration(b.N) * time.Microsecond, From: maxRate, To: maxRate, Mix: DefaultMix()}}
	load, err := NewLoad(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	result, err := load.Run(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if got := result.Buy.Count(SoldOut); got != int64(b.N) {
		b.Errorf("%d of %d sold out", got, b.N)
	}
	b.ReportMetric(result.AchievedRate(), "requests/s")
	b.ReportMetric(float64(result.Generator.CPU.Nanoseconds())/float64(b.N), "cpu-ns/op") // the handler's too
}

// serveSoldOut serves a handler that says "sold out" and nothing else, until the benchmark ends,
// and returns its URL.
func serveSoldOut(b *testing.B) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(`{"type":"/problems/sold-out","title":"Sold out","status":409,"code":"sold-out","retryable":false}`)
	server := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.SetStatusCode(409)
		ctx.SetContentType("application/problem+json")
		ctx.SetBody(body)
	}}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			b.Error(err)
		}
		serving.Wait()
	})
	return "http://" + listener.Addr().String()
}
