package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/node"
	"github.com/penstock/penstock/loadtest"
)

// Accepted orders through the whole embedded stack over HTTP: listener, hold, queue, worker,
// database, with the load generator on the same cores. ns/op is per accepted order;
// checked-orders/s counts until each of them was read back from the database too.
func BenchmarkOrders_EndToEnd(b *testing.B) {
	config := defaultConfig()
	config.Listen, config.AdminListen, config.AdminToken = "127.0.0.1:0", "127.0.0.1:0", "benchmark-token"
	config.DataDir = b.TempDir()
	p := running(b, config, node.RoleGateway|node.RoleWorker)
	shop := newDemoShop(p.AdminURL(), config.AdminToken)
	sale, err := shop.open(b.Context(), b.N, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	load := loadtest.DefaultConfig()
	load.Target, load.CallerKey, load.Activity, load.SKU = p.PublicURL(), sale.callerKey, demoActivity, demoSKU
	load.Buyers, load.Stock, load.PerUser, load.Habits = b.N, b.N, demoPerUser, loadtest.Habits{}
	crowd, err := loadtest.NewCrowd(load)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	start := time.Now()
	result, err := crowd.Run(b.Context())
	checked := time.Since(start)
	b.StopTimer()
	if err != nil {
		b.Fatal(err)
	}
	if result.Kept != b.N || len(result.Broken()) > 0 {
		b.Errorf("%d of %d orders kept, broken: %v, answers %v", result.Kept, b.N, result.Broken(), result.Buy.Codes)
	}
	b.ReportMetric(float64(result.Elapsed.Nanoseconds())/float64(b.N), "ns/op")
	b.ReportMetric(float64(b.N)/result.Elapsed.Seconds(), "orders/s")
	b.ReportMetric(float64(b.N)/checked.Seconds(), "checked-orders/s")
}

// running starts a process. It is stopped cleanly when the test ends.
func running(t testing.TB, config Config, role node.Role) *node.Node {
	t.Helper()
	config.Gateway.DrainDelay = 0
	p, err := node.Start(t.Context(), config.Config, role, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), config.ShutdownTimeout)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}
