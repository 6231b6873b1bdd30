package admin

import (
	"strings"
	"testing"
)

func TestSamplesBecomeMetrics(t *testing.T) {
	var samples []Sample
	s := open(t, func(_ *Config, d *Deps) { d.Metrics = append(d.Metrics, func() []Sample { return samples }) })
	samples = []Sample{
		{Name: "penstock_orders_total", Help: "Orders.", Kind: Counter, Labels: []Label{{"state", "paid"}}, Value: 7},
		{Name: "penstock_orders_total", Help: "Orders.", Kind: Counter, Labels: []Label{{"state", "cancelled"}}, Value: 2},
		{Name: "penstock_lag", Help: "Records.", Kind: Gauge, Value: -1.5},
		{Name: "penstock_seconds", Help: "Time.", Kind: HistogramKind, Histogram: Histogram{Bounds: []float64{.1, 1},
			Counts: []uint64{3, 2, 1}, Sum: 4.5}},
	}
	body := s.must(200, "GET", metricsPath, "").body
	for _, want := range []string{
		"# HELP penstock_orders_total Orders.\n# TYPE penstock_orders_total counter\n" +
			"penstock_orders_total{state=\"cancelled\"} 2\npenstock_orders_total{state=\"paid\"} 7\n",
		"# TYPE penstock_lag gauge\npenstock_lag -1.5\n",
		"penstock_seconds_bucket{le=\"0.1\"} 3\npenstock_seconds_bucket{le=\"1\"} 5\npenstock_seconds_bucket{le=\"+Inf\"} 6\n" +
			"penstock_seconds_sum 4.5\npenstock_seconds_count 6\n",
		`penstock_admin_requests_total{route="/admin/v1/tokens",status="201"} 5`, "go_build_info{",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("lacks %s", want)
		}
	}
}

// A part with broken metrics is reported, and the metrics of the others still appear.
func TestBadSamplesLeaveTheOthers(t *testing.T) {
	f := func(bad ...Sample) {
		t.Helper()
		s := open(t, func(_ *Config, d *Deps) {
			d.Metrics = append(d.Metrics, func() []Sample { return append(bad, Sample{Name: "penstock_good", Kind: Gauge, Value: 1}) })
		})
		if body := s.must(200, "GET", metricsPath, "").body; !strings.Contains(body, "penstock_good 1\n") {
			t.Errorf("%+v hides the others:\n%s", bad, body)
		}
		if !strings.Contains(s.log.String(), "metrics incomplete") {
			t.Errorf("%+v isn't reported: %s", bad, s.log)
		}
	}
	f(Sample{Name: "", Kind: Gauge})
	f(Sample{Name: "penstock_x"})
	f(Sample{Name: "penstock_x", Kind: Gauge, Labels: []Label{{"a", "\xff"}}})
	f(Sample{Name: "penstock_x", Kind: HistogramKind, Histogram: Histogram{Bounds: []float64{1}, Counts: []uint64{1}}})
	f(Sample{Name: "penstock_x", Kind: Gauge}, Sample{Name: "penstock_x", Kind: Gauge})
}

func TestOpenMetricsIsServedWhereItIsAskedFor(t *testing.T) {
	s := open(t, nil)
	a := s.must(200, "GET", metricsPath, "", "Accept", "application/openmetrics-text; version=1.0.0")
	if !strings.HasPrefix(a.Header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(a.body, "# EOF\n") {
		t.Errorf("%v", a.Header)
	}
}
