package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"penstock/internal/node"
)

var updatePages = flag.Bool("update", false, "write the generated pages of docs anew")

// TestMetricsAreDocumented: docs/metrics.md lists what a process exports, no more and no less.
func TestMetricsAreDocumented(t *testing.T) {
	const page = "../../docs/metrics.md"
	config := defaultConfig()
	config.Listen, config.AdminListen, config.DataDir, config.OpenMetrics = "127.0.0.1:0", "127.0.0.1:0", t.TempDir(), true
	config.Gateway.DrainDelay = 0
	token := ""
	config.OnFirstToken = func(made string) { token = made }
	p, err := node.Start(t.Context(), config.Config, node.RoleGateway|node.RoleWorker, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	openForMetrics(t, p, token)
	want := metricsPage(t, p.AdminURL()+"/metrics")
	if *updatePages {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil || string(got) != want {
		t.Errorf("docs/metrics.md is not what /metrics says (%v): go test ./cmd/penstock -run TestMetricsAreDocumented -update", err)
	}
}

// openForMetrics has the process do a little of everything that has metrics only where it is done.
func openForMetrics(t *testing.T, p *node.Node, token string) {
	t.Helper()
	shop := newDemoShop(p.AdminURL(), token)
	sale, err := shop.open(t.Context(), 10, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	limits := put(map[string]any{"policies": []any{
		map[string]any{"name": "users", "key": "user", "rate": 10, "burst": 10}, map[string]any{"name": "callers", "key": "caller", "rate": 10, "burst": 10},
		map[string]any{"name": "watched", "key": "sku", "rate": 0.01, "burst": 1, "mode": "shadow"},
	}}, "limits")
	limits.header = http.Header{"If-Match": {"*"}}
	if err := shop.call(t.Context(), limits, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 2 { // the second one is one that a limit refuses
		body := fmt.Sprintf(`{"activity":%q,"sku":%q,"user":"u-%d","quantity":1}`, demoActivity, demoSKU, i)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.PublicURL()+"/v1/orders", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+sale.callerKey)
		request.Header.Set("Idempotency-Key", fmt.Sprint("k-", i))
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusAccepted {
			t.Fatal(response.Status, err)
		}
	}
	if _, err := shop.audit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// metricsPage renders what a scrape says of our own metrics.
func metricsPage(t *testing.T, url string) string {
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	help, rows := make(map[string]string), []string(nil)
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		name, rest, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(lines.Text(), "# HELP "), "# TYPE "), " ")
		switch {
		case !strings.HasPrefix(name, "penstock_"):
		case strings.HasPrefix(lines.Text(), "# HELP "):
			help[name] = rest
		case strings.HasPrefix(lines.Text(), "# TYPE "):
			rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", name, rest, help[name]))
		}
	}
	slices.Sort(rows)
	return "# Metrics\n\nWhat `/metrics` on the admin listener exports beside the `go_*` and `process_*` ones; a test keeps this page.\n" +
		"Metrics of a part that a process doesn't have, or of items that aren't on sale, are left out there: unknown is not zero.\n\n" +
		"| metric | kind | meaning |\n| --- | --- | --- |\n" + strings.Join(rows, "")
}
