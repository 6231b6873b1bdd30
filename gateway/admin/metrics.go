package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Kind is the kind of a sample.
type Kind uint8

// The kinds of samples. A counter only goes up while the process lives; its name ends in _total.
const (
	Counter Kind = iota + 1
	Gauge
	HistogramKind
)

// Sample is one metric at one moment: other parts report their metrics as samples, so that they
// don't depend on Prometheus.
type Sample struct {
	Name      string // penstock_<part>_<what>_<unit>
	Help      string // the same for all samples of one name
	Kind      Kind
	Labels    []Label // the same names in the same order for all samples of one name; their values must be bounded
	Value     float64 // the value of a counter or gauge
	Histogram Histogram
}

// Label is one label of a sample.
type Label struct{ Name, Value string }

// Histogram is the value of a sample of HistogramKind. Counts has one entry for each bound: the
// observations up to that bound and above the one before. One more entry counts the rest. Bounds
// and Sum are in the unit of the name.
type Histogram struct {
	Bounds []float64
	Counts []uint64
	Sum    float64
	// Exemplars are single observations, at most one of a bucket. Scrapers that ask for OpenMetrics
	// get them.
	Exemplars []Exemplar
}

// Exemplar is one observation of a histogram, with the texts to search for in logs and traces.
type Exemplar struct {
	Value  float64
	At     time.Time
	Labels []Label // at most 128 characters in all, names included
}

// sampler makes a collector of a function. It describes nothing, because its samples are only known
// at a scrape.
type sampler struct{ samples func() []Sample }

// Describe implements prometheus.Collector.
func (sampler) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. An invalid sample is reported; the others are served.
func (s sampler) Collect(out chan<- prometheus.Metric) {
	for _, sample := range s.samples() {
		metric, err := sample.metric()
		if err != nil {
			metric = prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		}
		out <- metric
	}
}

func (s *Sample) metric() (prometheus.Metric, error) {
	names, values := make([]string, len(s.Labels)), make([]string, len(s.Labels))
	for i, l := range s.Labels {
		names[i], values[i] = l.Name, l.Value
	}
	desc := prometheus.NewDesc(s.Name, s.Help, names, nil)
	switch s.Kind {
	case Counter:
		return prometheus.NewConstMetric(desc, prometheus.CounterValue, s.Value, values...)
	case Gauge:
		return prometheus.NewConstMetric(desc, prometheus.GaugeValue, s.Value, values...)
	case HistogramKind:
		h := &s.Histogram
		if len(h.Counts) != len(h.Bounds)+1 || !sort.Float64sAreSorted(h.Bounds) {
			return nil, fmt.Errorf("%s: %d counts for %d bounds", s.Name, len(h.Counts), len(h.Bounds))
		}
		total, buckets := uint64(0), make(map[float64]uint64, len(h.Bounds))
		for i, n := range h.Counts {
			total += n
			if i < len(h.Bounds) {
				buckets[h.Bounds[i]] = total
			}
		}
		metric, err := prometheus.NewConstHistogram(desc, total, h.Sum, buckets, values...)
		if err != nil || len(h.Exemplars) == 0 {
			return metric, err
		}
		return prometheus.NewMetricWithExemplars(metric, exemplars(h.Exemplars)...)
	}
	return nil, fmt.Errorf("%s: a sample of kind %d", s.Name, s.Kind)
}

func exemplars(all []Exemplar) []prometheus.Exemplar {
	out := make([]prometheus.Exemplar, len(all))
	for i, e := range all {
		labels := make(prometheus.Labels, len(e.Labels))
		for _, l := range e.Labels {
			labels[l.Name] = l.Value
		}
		out[i] = prometheus.Exemplar{Value: e.Value, Labels: labels, Timestamp: e.At}
	}
	return out
}

// metrics is the server's registry, with the metrics of the listener itself.
type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
}

func newMetrics(s *Server) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "penstock_admin_requests_total", Help: "Requests of the admin listener that were answered.",
		}, []string{"route", "status"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "penstock_admin_request_duration_seconds", Help: "Time to answer a request of the admin listener.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"route"}),
	}
	all := []prometheus.Collector{
		m.requests, m.took, buildInfo(s.cfg.Version), sampler{s.samples}, collectors.NewGoCollector(), collectors.NewBuildInfoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	for _, samples := range s.deps.Metrics {
		all = append(all, sampler{samples})
	}
	registry := prometheus.NewRegistry()
	for _, c := range all {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{s.quiet}, ErrorHandling: promhttp.ContinueOnError, Registry: registry, EnableOpenMetrics: true,
		CoalesceGather: true,
	})
	return m, nil
}

// buildInfo tells which build this is, by the labels of a gauge that is always 1. A version like
// "v1.2.3 0123456789ab go1.26.0" has the number and the revision at its beginning.
func buildInfo(version string) prometheus.Collector {
	number, rest, _ := strings.Cut(version, " ")
	revision, _, more := strings.Cut(rest, " ")
	if !more {
		revision = ""
	}
	labels := prometheus.Labels{"version": cmp.Or(number, "unknown"), "revision": revision, "goversion": runtime.Version()}
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "penstock_build_info", Help: "1; the labels say which build of Penstock this is.", ConstLabels: labels,
	}, func() float64 { return 1 })
}

func (m *metrics) count(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.took.WithLabelValues(route).Observe(took.Seconds())
}

// samples returns the listener's own samples.
func (s *Server) samples() []Sample {
	ready := 1.0
	if s.deps.Health.Missing() != "" || s.draining.Load() {
		ready = 0
	}
	gauge := func(name, help string, v float64) Sample {
		return Sample{Name: name, Help: help, Kind: Gauge, Value: v}
	}
	counter := func(name, help string, v float64) Sample {
		return Sample{Name: name, Help: help, Kind: Counter, Value: v}
	}
	return []Sample{
		gauge("penstock_ready", "1 when the process can answer buyers, 0 when it has no catalog, drains, "+
			"or (with embedded parts) can't write its data directory.", ready),
		gauge("penstock_admin_in_flight_requests", "Requests of the admin listener that are being worked on.", float64(s.inFlight.Load())),
		gauge("penstock_admin_in_flight_limit", "Requests of the admin listener that may be worked on at once; more are answered 503.",
			float64(s.cfg.MaxInFlight)),
		gauge("penstock_admin_connections", "Open connections of the admin listener.", float64(s.places.Open())),
		gauge("penstock_admin_connections_limit", "Connections of the admin listener that may be open; more are closed.",
			float64(s.cfg.MaxConnections)),
		counter("penstock_admin_refused_connections_total", "Connections of the admin listener closed because of the limit.",
			float64(s.refused.Load())),
		counter("penstock_admin_panics_total", "Requests of the admin listener that ended in a panic.", float64(s.panics.Load())),
		counter("penstock_admin_log_left_out_total", "Log messages of the admin listener that its rate limit left out.",
			float64(s.quiet.log.LeftOut())),
	}
}

// scrape answers GET /metrics.
func (c *call) scrape() error {
	c.server.metrics.handler.ServeHTTP(c.w, c.r)
	return nil
}
