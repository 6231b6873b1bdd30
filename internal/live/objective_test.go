package live

import (
	"fmt"
	"testing"
	"time"
)

// TestMergeObjectives: the counts of all gateways are added up, and the budget is the number of
// failures that are still allowed.
func TestMergeObjectives(t *testing.T) {
	targets := Targets{Availability: 99.9, Latency: 100 * time.Millisecond}
	frame := func(since time.Duration, traffic, probes Tally) *Frame {
		return &Frame{Objectives: &FrameObjectives{Since: start().Add(-since), Traffic: traffic, Probes: probes}}
	}
	text := func(p *float64) string {
		if p == nil {
			return "-"
		}
		return fmt.Sprintf("%.2f", *p)
	}
	got := ""
	for _, o := range mergeObjectives([]*Frame{
		frame(time.Hour, Tally{Asked: 6000, Failed: 2, Timed: 1000, Slow: 3}, Tally{Asked: 10}),
		frame(time.Minute, Tally{Asked: 4000, Failed: 3, Timed: 1000, Slow: 1}, Tally{Failed: 1, Asked: 10}), {},
	}, targets) {
		got += fmt.Sprintf("%s of %s: %.2f %s, %s, left %s, %d of %d since %v\n",
			o.Objective, o.Of, o.Target, text(o.Limit), text(o.Actual), text(o.Budget), o.Bad, o.Asked, start().Sub(o.Since))
	}
	const want = `availability of traffic: 99.90 -, 99.95, left 50.00, 5 of 10000 since 1h0m0s
latency of traffic: 99.90 100.00, 99.80, left -100.00, 4 of 2000 since 1h0m0s
availability of probes: 99.90 -, 95.00, left -4900.00, 1 of 20 since 1h0m0s
latency of probes: 99.90 100.00, -, left -, 0 of 0 since 1h0m0s
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if none := mergeObjectives([]*Frame{{}}, targets); none == nil || len(none) > 0 {
		t.Errorf("%+v of workers alone", none)
	}
}
