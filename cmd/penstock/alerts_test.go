package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/penstock/penstock/internal/proof/servers"
)

// Prometheus' parser, as a package, would add many dependencies to go.sum, such as the clients of a
// dozen clouds. Its own tool reads and tries the expressions instead (TestPromQL, TestAlertsFire).
// The other tests check what the tool can't know: renamed metrics and labels, and links to entries
// of the runbook.

// known has the names that expressions may use.
type known struct {
	metrics map[string]bool
	labels  map[string]map[string]bool // of the metrics that a process has served
}

func newKnown(t *testing.T, rules *ruleFile) *known {
	t.Helper()
	k := &known{metrics: make(map[string]bool), labels: make(map[string]map[string]bool)}
	for name, m := range declaredMetrics(t) {
		k.metrics[name] = true
		if m.kind == "histogram" {
			k.metrics[name+"_bucket"], k.metrics[name+"_sum"], k.metrics[name+"_count"] = true, true, true
		}
	}
	for _, g := range rules.Groups {
		for i := range g.Rules {
			k.metrics[g.Rules[i].Record] = true
		}
	}
	series := regexp.MustCompile(`(?m)^((?:penstock|process)_\w+)(?:\{(.*)\})? `)
	label := regexp.MustCompile(`(\w+)="`)
	for _, m := range series.FindAllStringSubmatch(scrape(t, serveMetrics(t), "text/plain"), -1) {
		if strings.HasPrefix(m[1], "process_") { // these belong to the client library and are not declared here
			k.metrics[m[1]] = true
		}
		if k.labels[m[1]] == nil {
			k.labels[m[1]] = map[string]bool{"job": true, "instance": true}
		}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			k.labels[m[1]][l[1]] = true
		}
	}
	return k
}

// check fails if an expression names a metric or a label that doesn't exist.
func (k *known) check(t *testing.T, where, expression string) {
	t.Helper()
	for _, m := range k.mistakes(expression) {
		t.Errorf("%s: %s", where, m)
	}
}

var (
	selector  = regexp.MustCompile(`\b((?:penstock|process)[_:][\w:]+)(?:\{([^}]*)\})?`)
	matcher   = regexp.MustCompile(`(\w+) *(?:=~|!~|!=|=)`)
	byLabels  = regexp.MustCompile(`by \(([^)]*)\) \((?:\w+\()*((?:penstock|process)[_:][\w:]+)`)
	groupings = regexp.MustCompile(`by \(([^)]*)\)`)
	inLegend  = regexp.MustCompile(`\{\{ *(\w+) *\}\}`)
)

// mistakes returns the metrics and labels of an expression that don't exist.
func (k *known) mistakes(expression string) (out []string) {
	lacks := func(metric, label string) {
		if own := k.labels[metric]; own != nil && !own[label] {
			out = append(out, metric+" has no label "+label)
		}
	}
	for _, m := range selector.FindAllStringSubmatch(expression, -1) {
		if !k.metrics[m[1]] {
			out = append(out, "there is no metric "+m[1])
		}
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			lacks(m[1], l[1])
		}
	}
	for _, m := range byLabels.FindAllStringSubmatch(expression, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			lacks(m[2], strings.TrimSpace(l))
		}
	}
	return out
}

// legendMistakes returns the labels of a legend that the expression's series don't have.
func (k *known) legendMistakes(expression, legend string) (out []string) {
	has := make(map[string]bool)
	unknown := false // a label of one of the metrics doesn't exist
	if by := groupings.FindAllStringSubmatch(expression, -1); by != nil {
		for _, m := range by {
			for l := range strings.SplitSeq(m[1], ",") {
				has[strings.TrimSpace(l)] = true
			}
		}
	} else {
		for _, m := range selector.FindAllStringSubmatch(expression, -1) {
			unknown = unknown || k.labels[m[1]] == nil
			maps.Copy(has, k.labels[m[1]])
		}
	}
	for _, m := range inLegend.FindAllStringSubmatch(legend, -1) {
		if !unknown && !has[m[1]] {
			out = append(out, "the series have no label "+m[1])
		}
	}
	return out
}

// TestKnown_FindsMistakes: the check of the dashboard and the rules finds mistakes in them.
func TestKnown_FindsMistakes(t *testing.T) {
	k := newKnown(t, readRules(t))
	for _, c := range []struct{ expression, legend, want string }{
		{`sum by (code) (rate(penstock_http_requests_total{route="buy"}[1m]))`, "{{code}}", ""},
		{`histogram_quantile(0.99, sum by (le, hop) (rate(penstock_hop_seconds_bucket[1m])))`, "{{hop}}", ""},
		{`sum(rate(penstock_http_request_total[1m]))`, "", "there is no metric penstock_http_request_total"},
		{`rate(process_cpu_second_total{job="penstock"}[1m])`, "", "there is no metric process_cpu_second_total"},
		{`penstock:no_such:ratio1m > 1`, "", "there is no metric penstock:no_such:ratio1m"},
		{`penstock_http_requests_total{rout="buy"}`, "", "penstock_http_requests_total has no label rout"},
		{`sum by (cod) (rate(penstock_http_requests_total[1m]))`, "", "penstock_http_requests_total has no label cod"},
		{`histogram_quantile(0.5, sum by (le, route, hop) (rate(penstock_http_request_duration_seconds_bucket[1m])))`, "",
			"penstock_http_request_duration_seconds_bucket has no label hop"},
		{`sum by (code) (rate(penstock_http_requests_total[1m]))`, "{{route}}", "the series have no label route"},
		{`penstock_level`, "{{instance}} {{policy}}", "the series have no label policy"},
	} {
		found := append(k.mistakes(c.expression), k.legendMistakes(c.expression, c.legend)...)
		if got := strings.Join(found, "; "); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.expression, c.legend, got, c.want)
		}
	}
}

// ruleFile is a file of rules.
type ruleFile struct {
	Groups []struct {
		Name     string
		Interval string
		Rules    []struct {
			Record, Alert, Expr, For string
			Labels, Annotations      map[string]string
		}
	}
}

func readRules(t *testing.T) *ruleFile {
	t.Helper()
	rules := new(ruleFile)
	decoder := yaml.NewDecoder(strings.NewReader(readDeploy(t, "prometheus/rules.yaml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(rules); err != nil {
		t.Fatal(err)
	}
	return rules
}

// headings returns the anchors of a page's headings, as links use them.
func headings(page string) map[string]bool {
	out := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(m[1]), "")
		out[strings.ReplaceAll(name, " ", "-")] = true
	}
	return out
}

// TestAlerts: the rules name metrics and labels that exist. Each alert has a severity, the alarm
// that it belongs to, and an entry of the runbook that tells what to do.
func TestAlerts(t *testing.T) {
	rules := readRules(t)
	k := newKnown(t, rules)
	runbook := headings(readDeploy(t, "../docs/runbook.md"))
	alerts := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			k.check(t, g.Name+" "+r.Record+r.Alert, r.Expr)
			if (r.Record == "") == (r.Alert == "") || r.Expr == "" {
				t.Errorf("%s: a rule is an alert or records something: %+v", g.Name, r)
			}
			if r.Alert == "" {
				continue
			}
			alerts++
			alarm := r.Labels["alarm"]
			if s := r.Labels["severity"]; s != "critical" && s != "warning" && s != "info" {
				t.Errorf("%s: severity %q", r.Alert, s)
			}
			if want := "docs/runbook.md#" + alarm; r.Annotations["runbook_url"] != want || !runbook[alarm] {
				t.Errorf("%s: runbook_url is %q, want %q; such an entry: %v", r.Alert, r.Annotations["runbook_url"], want, runbook[alarm])
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s says nothing", r.Alert)
			}
		}
	}
	if alerts == 0 {
		t.Error("no alert")
	}
}

// dashboard has the parts of a dashboard that the tests read.
type dashboard struct {
	UID    string
	Panels []struct {
		ID                       int
		Type, Title, Description string
		GridPos                  struct{ X, Y, W, H int }
		Targets                  []struct{ Expr, LegendFormat string }
	}
}

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	board := new(dashboard)
	if err := json.Unmarshal([]byte(readDeploy(t, "grafana/penstock.json")), board); err != nil {
		t.Fatal(err)
	}
	return board
}

// TestDashboard: every panel of the dashboard asks for metrics and labels that exist.
func TestDashboard(t *testing.T) {
	k := newKnown(t, readRules(t))
	board := readDashboard(t)
	seen := make(map[int]bool)
	for _, p := range board.Panels {
		if seen[p.ID] || p.GridPos.X+p.GridPos.W > 24 || p.Title == "" {
			t.Errorf("panel %d %q lies at %+v", p.ID, p.Title, p.GridPos)
		}
		seen[p.ID] = true
		if p.Type != "row" && (len(p.Targets) == 0 || p.Description == "") {
			t.Errorf("panel %q shows nothing, or says nothing", p.Title)
		}
		for _, one := range p.Targets {
			k.check(t, p.Title, one.Expr)
			for _, m := range k.legendMistakes(one.Expr, one.LegendFormat) {
				t.Errorf("%s: %s", p.Title, m)
			}
		}
	}
	if len(seen) < 20 || board.UID != "penstock" {
		t.Errorf("%d panels of %q", len(seen), board.UID)
	}
}

// TestPromQL: Prometheus reads the rules, and each expression of the dashboard as a rule.
func TestPromQL(t *testing.T) {
	type rule struct{ Record, Expr string }
	var rules []rule
	for _, p := range readDashboard(t).Panels {
		for i, one := range p.Targets {
			rules = append(rules, rule{fmt.Sprintf("panel_%d_%d", p.ID, i), one.Expr})
		}
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	output, failed := servers.Promtool(t, "check", "rules", "--lint=all", "--lint-fatal", deployDir+"/prometheus/rules.yaml", file)
	if failed || !strings.Contains(output, fmt.Sprintf("%d rules found", len(rules))) {
		t.Errorf("promtool: %s", output)
	}
	config := strings.ReplaceAll(readDeploy(t, "prometheus/prometheus.yaml"), "/etc/prometheus/penstock-token", file)
	path := filepath.Join(t.TempDir(), "prometheus.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "rules.yaml"), []byte(readDeploy(t, "prometheus/rules.yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, failed := servers.Promtool(t, "check", "config", path); failed {
		t.Errorf("promtool: %s", output)
	}
}

// TestAlertsFire: each alert is quiet at first, and fires when its cause happens.
func TestAlertsFire(t *testing.T) {
	files := []string{"prometheus/rules_test.yaml", "prometheus/rules_slow_test.yaml"}
	cases := ""
	for _, file := range files {
		cases += readDeploy(t, file)
		if output, failed := servers.Promtool(t, "test", "rules", filepath.Join(deployDir, file)); failed {
			t.Errorf("%s: %s", file, output)
		}
	}
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			fires := `expr: 'count(ALERTS{alertname="` + r.Alert + `", alertstate="firing"})', exp_samples: `
			if !strings.Contains(cases, fires+"[]") || !strings.Contains(cases, fires+"[{labels: '{}', value: 1}]") {
				t.Errorf("no test has %s quiet and firing", r.Alert)
			}
		}
	}
}
