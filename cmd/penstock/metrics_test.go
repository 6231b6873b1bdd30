package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/penstock/penstock/internal/node"
)

var updatePages = flag.Bool("update", false, "write the generated pages of docs anew")

// TestMetricsAreDocumented: docs/metrics.md lists exactly the metrics that the code exports, as a
// process exports them.
func TestMetricsAreDocumented(t *testing.T) {
	const page = "../../docs/metrics.md"
	declared := declaredMetrics(t)
	want := metricsPage(declared)
	if *updatePages {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil || string(got) != want {
		t.Errorf("docs/metrics.md is not what the code says (%v): go test ./cmd/penstock -run TestMetricsAreDocumented -update", err)
	}
	url := serveMetrics(t)
	text := scrape(t, url, "text/plain")
	for name, m := range scrapedMetrics(text) {
		if declared[name] != m {
			t.Errorf("%s is served as %+v, and the code declares %+v", name, m, declared[name])
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, "penstock_") {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
	const exemplar = `(?m)^penstock_http_request_duration_seconds_bucket\{.*route="buy".*\} \d.* # \{request_id="[^"]+"\} `
	if open := scrape(t, url, "application/openmetrics-text; version=1.0.0"); !regexp.MustCompile(exemplar).MatchString(open) {
		t.Error("in OpenMetrics, no bucket of the purchases has an exemplar")
	}
	if strings.Contains(text, "# {") {
		t.Error("the classic text has exemplars")
	}
}

// serveMetrics starts a process, does a little of everything in it, and returns the URL of its
// metrics.
func serveMetrics(t *testing.T) string {
	t.Helper()
	config := defaultConfig()
	config.Listen, config.AdminListen, config.DataDir, config.OpenMetrics = "127.0.0.1:0", "127.0.0.1:0", t.TempDir(), true
	config.Gateway.DrainDelay = 0
	token := ""
	config.OnFirstToken = func(made string) { token = made }
	p, err := node.Start(t.Context(), config.Config, node.RoleGateway|node.RoleWorker, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	openForMetrics(t, p, token)
	return p.AdminURL() + "/metrics"
}

// openForMetrics makes the process do everything that has metrics only after it was done.
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
	for i := range 2 { // a limit refuses the second one
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

// scrape reads the metrics in the given format.
func scrape(t *testing.T, url, accept string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response.Status, err)
	}
	return string(text)
}

// metric describes a metric, without its name.
type metric struct{ kind, help string }

// scrapedMetrics returns the metrics of Penstock itself, as a scrape shows them.
func scrapedMetrics(text string) map[string]metric {
	all := make(map[string]metric)
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "# "), " ")
		name, rest, _ := strings.Cut(rest, " ")
		m := all[name]
		switch {
		case !strings.HasPrefix(name, "penstock_"):
			continue
		case word == "HELP":
			m.help = rest
		case word == "TYPE":
			m.kind = rest
		default:
			continue
		}
		all[name] = m
	}
	return all
}

// declaredMetrics returns all metrics in the code. One process alone doesn't show them all: it may
// lack a part, or something hasn't happened in it. They are read from the source, where each is a
// call with a name and a help, or a literal with both.
func declaredMetrics(t *testing.T) map[string]metric {
	t.Helper()
	var files []*ast.File
	s := source{constants: make(map[string]string)}
	for _, pattern := range []string{"../../internal/node/*.go", "../../gateway/admin/metrics.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatal(pattern, err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
			ast.Inspect(file, s.constant)
		}
	}
	all := make(map[string]metric)
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			name, m := s.declaration(n)
			if before, twice := all[name]; name != "" && twice && before != m {
				t.Errorf("%s is declared as %+v and as %+v", name, before, m)
			}
			if name != "" {
				all[name] = m
			}
			return true
		})
	}
	return all
}

// source is code that declares metrics.
type source struct{ constants map[string]string }

// constant records a constant text.
func (s source) constant(n ast.Node) bool {
	if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Names) == 1 && len(spec.Values) == 1 {
		if value := s.text(spec.Values[0]); value != "" {
			s.constants[spec.Names[0].Name] = value
		}
	}
	return true
}

// declaration returns the metric that a node of the syntax declares, "" for none.
func (s source) declaration(n ast.Node) (name string, m metric) {
	switch n := n.(type) {
	case *ast.CallExpr:
		function, ok := n.Fun.(*ast.Ident)
		if !ok || len(n.Args) < 2 {
			return "", m
		}
		name, m.help = s.text(n.Args[0]), s.text(n.Args[1])
		m.kind = "gauge"
		if function.Name == "counter" {
			m.kind = "counter"
		}
	case *ast.CompositeLit:
		for _, e := range n.Elts {
			pair, ok := e.(*ast.KeyValueExpr)
			if !ok {
				return "", m
			}
			switch key, _ := pair.Key.(*ast.Ident); {
			case key == nil:
			case key.Name == "Name":
				name = s.text(pair.Value)
			case key.Name == "Help":
				m.help = s.text(pair.Value)
			case key.Name == "Kind":
				m.kind = kindOf(pair.Value)
			}
		}
		if m.kind == "" {
			m.kind = kindOf(n.Type)
		}
	}
	if !strings.HasPrefix(name, "penstock_") {
		return "", m
	}
	return name, m
}

// kindOf returns the kind in a name like HistogramKind or CounterOpts.
func kindOf(e ast.Expr) string {
	selector, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	for _, kind := range []string{"counter", "gauge", "histogram"} {
		if strings.HasPrefix(strings.ToLower(selector.Sel.Name), kind) {
			return kind
		}
	}
	return ""
}

// text returns the value of a constant text, "" for anything else.
func (s source) text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if said, err := strconv.Unquote(e.Value); err == nil {
			return said
		}
	case *ast.BinaryExpr:
		return s.text(e.X) + s.text(e.Y)
	case *ast.Ident:
		return s.constants[e.Name]
	}
	return ""
}

// metricsPage renders the page of our own metrics from the code.
func metricsPage(all map[string]metric) string {
	var b strings.Builder
	b.WriteString("# Metrics\n\nWhat `/metrics` on the admin listener exports beside the `go_*` and `process_*` ones. A test makes\n" +
		"this page of the code. Metrics of a part that a process doesn't have, or of what is off or unknown,\n" +
		"are left out there: unknown is not zero.\n\n" +
		"Scrapers that ask for OpenMetrics get exemplars: buckets of latencies name the id of one of their\nrequests.\n\n" +
		"| metric | kind | meaning |\n| --- | --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, all[name].kind, all[name].help)
	}
	return b.String()
}
