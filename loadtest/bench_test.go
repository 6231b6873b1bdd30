package loadtest

import (
	"net"
	"sync"
	"testing"

	"github.com/valyala/fasthttp"
)

// What the generator costs: a crowd against a handler that says "sold out" and nothing else, both on the same cores.
func BenchmarkCrowd_SoldOut(b *testing.B) {
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
	cfg := DefaultConfig()
	cfg.Target, cfg.CallerKey, cfg.Activity, cfg.SKU = "http://"+listener.Addr().String(), "key", "618-phones", "phone-x"
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
	if err := server.Shutdown(); err != nil {
		b.Error(err)
	}
	serving.Wait()
}
