package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"time"

	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/probe"
	"github.com/penstock/penstock/seckill"
)

// The bounds of the settings of probes.
const (
	leastProbes   = time.Second
	probePatience = 5 * time.Second
)

func (c *Config) validateProbes() error {
	if c.ProbeEvery < 0 || c.ProbeEvery > 0 && c.ProbeEvery < leastProbes {
		return errors.New("probe-every: must be 0, which means no probes, or at least " + leastProbes.String())
	}
	return nil
}

// makeProber makes the prober of the public listener; nil if probes are off. Only this process
// knows the key, which ends with it.
func (n *Node) makeProber() error {
	if n.cfg.ProbeEvery == 0 {
		return nil
	}
	secret := make([]byte, 24)
	rand.Read(secret) // never fails
	key := "probe-" + hex.EncodeToString(secret)
	catalog, err := seckill.ProbeCatalog(sha256.Sum256([]byte(key)), n.cfg.Sale.Shards)
	if err != nil {
		return err
	}
	n.cfg.Gateway.Probes = catalog
	n.prober = probe.New(probe.Config{
		Every: n.cfg.ProbeEvery, Patience: probePatience, URL: n.ownURL(), Key: key,
		Activity: string(seckill.ProbeActivity), SKU: string(seckill.ProbeSKU), Users: 8 * n.cfg.Sale.Shards,
		Missing:  string(problem.UnknownOrder),
		Refusals: []string{string(problem.RateLimited), string(problem.Degraded), string(problem.Overloaded)},
		Skip:     func() bool { return n.health.draining.Load() || n.live.edge.Load() == nil },
	})
	return nil
}

// ownURL is the URL by which this process reaches its own public listener.
func (n *Node) ownURL() string {
	host, port, err := net.SplitHostPort(n.public.Addr().String())
	if err != nil {
		return n.PublicURL()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return n.cfg.ListenTLS.scheme() + net.JoinHostPort(host, port)
}

// runProbes probes until ctx ends.
func (n *Node) runProbes(ctx context.Context) { n.prober.Run(ctx) }

// collectProbes takes the results of the last probes.
func (n *Node) collectProbes(f *live.Frame) {
	if n.prober == nil {
		return
	}
	for _, r := range n.prober.Results() {
		at := r.At
		f.Probes = append(f.Probes, live.Probe{
			Probe: string(r.Step), Node: n.name(), OK: r.Outcome != probe.Failed, Took: float64(r.Took.Microseconds()) / 1000,
			Error: r.Error, At: &at,
		})
	}
}

// probeMetrics returns the metrics of the probes.
func (n *Node) probeMetrics() (out []admin.Sample) {
	if n.prober == nil {
		return nil
	}
	for _, c := range n.prober.Counts() {
		step := admin.Label{Name: "step", Value: string(c.Step)}
		for outcome, count := range c.Outcomes {
			out = append(out, counter("penstock_probe_total",
				"Probes of this process's public listener, by step and outcome: ok, refused (by a switch, a limit or overload) or failed.",
				int64(count), step, admin.Label{Name: "outcome", Value: string(outcome)}))
		}
		out = append(out, admin.Sample{
			Name: "penstock_probe_seconds", Help: "How long successful probes took, by step.",
			Kind: admin.HistogramKind, Labels: []admin.Label{step}, Histogram: hopHistogram(c.Took),
		})
	}
	return out
}
