package node

import (
	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/internal/timing"
)

// liveMetrics returns the metrics of the live view: hops, alarms, watchers.
func (n *Node) liveMetrics() []admin.Sample {
	var out []admin.Sample
	for hop, took := range n.hopTimes() {
		out = append(out, admin.Sample{
			Name: "penstock_hop_seconds", Help: "How long a step on the way of an order or a setting took, sampled.", Kind: admin.HistogramKind,
			Labels: []admin.Label{{Name: "hop", Value: hop}}, Histogram: hopHistogram(took),
		})
	}
	n.live.mu.Lock()
	own, severity := n.live.own, n.live.severity
	n.live.mu.Unlock()
	if own != nil {
		for _, h := range own.Hops {
			out = append(out, admin.Sample{
				Name: "penstock_hop_oldest_seconds", Help: "Age of the oldest entry that is on this step in this process now; 0 if there is none.",
				Kind: admin.Gauge, Value: h.Oldest / 1000, Labels: []admin.Label{{Name: "hop", Value: h.Hop}},
			})
		}
	}
	for name, count := range severity {
		out = append(out, gauge("penstock_alarms", "Alarms that are raised, as this process sees the installation.", int64(count),
			admin.Label{Name: "severity", Value: name}))
	}
	s := n.live.hub.Stats()
	return append(out,
		gauge("penstock_live_watchers", "Streams of events that are open.", int64(s.Watchers)),
		counter("penstock_live_watchers_cut_total", "Streams that were cut off because their readers were too slow.", int64(s.Cut)))
}

// hopHistogram has a bucket for each doubling.
func hopHistogram(took *timing.Histogram) admin.Histogram {
	const step = 4 // buckets for each doubling
	counts := took.Counts()
	out := admin.Histogram{Sum: took.Sum().Seconds()}
	for first := 0; first < timing.Size; first += step {
		n := uint64(0)
		for _, count := range counts[first : first+step] {
			n += count
		}
		out.Counts = append(out.Counts, n)
		if last := first + step; last < timing.Size {
			out.Bounds = append(out.Bounds, timing.Upper(last-1).Seconds())
		}
	}
	return out
}
