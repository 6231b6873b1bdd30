package node

import (
	"testing"
	"time"

	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/probe"
	"github.com/penstock/penstock/internal/timing"
)

// TestObjectives: it counts failures, without decided refusals, and slow answers among the accepted
// ones. Counts older than thirty days are dropped.
func TestObjectives(t *testing.T) {
	var o objectives
	now := time.Date(2026, 6, 18, 0, 30, 0, 0, time.UTC)
	traffic := &gateway.Traffic{All: gateway.Outcomes{Accepted: 90, Replayed: 10, Refused: map[problem.Code]uint64{
		problem.SoldOut: 50, problem.Overloaded: 20, problem.Degraded: 20, problem.Unavailable: 7, problem.Internal: 3,
	}}}
	traffic.Sold[timing.Bucket(10*time.Millisecond)] = 85
	traffic.Sold[timing.Bucket(time.Second)] = 5
	o.purchases(traffic, 100*time.Millisecond, now)
	want := live.Tally{Asked: 200, Failed: 10, Timed: 90, Slow: 5}
	if o.traffic.last != want || o.traffic.all != want {
		t.Errorf("%+v, want %+v", o.traffic.last, want)
	}
	o.purchases(traffic, 100*time.Millisecond, now.Add(29*24*time.Hour))
	if o.traffic.last.Asked != 400 {
		t.Errorf("%+v after 29 days", o.traffic.last)
	}
	o.purchases(&gateway.Traffic{}, 0, now.Add(30*24*time.Hour+time.Hour))
	if o.traffic.last != want || o.traffic.all.Asked != 400 {
		t.Errorf("%+v of %+v after 30 days, want %+v", o.traffic.last, o.traffic.all, want)
	}
	o.purchases(&gateway.Traffic{}, 0, now.Add(365*24*time.Hour))
	if o.traffic.last != (live.Tally{}) {
		t.Errorf("%+v after a year", o.traffic.last)
	}
	o.purchases(traffic, 100*time.Millisecond, now) // the clock was put back
	if o.traffic.last != want {
		t.Errorf("%+v after the clock was put back", o.traffic.last)
	}
}

func TestObjectives_Probes(t *testing.T) {
	var o objectives
	var took timing.Histogram
	counts := func(well, refused, failed uint64) []probe.Count {
		return []probe.Count{{Step: probe.Buy, Took: &took, Outcomes: map[probe.Outcome]uint64{
			probe.OK: well, probe.Refused: refused, probe.Failed: failed,
		}}}
	}
	now := time.Now()
	took.Observe(time.Millisecond)
	took.Observe(time.Second)
	for range 2 { // the same counts say nothing new
		o.probed(counts(2, 5, 1), 100*time.Millisecond, now)
	}
	if want := (live.Tally{Asked: 3, Failed: 1, Timed: 2, Slow: 1}); o.probes.last != want {
		t.Errorf("%+v, want %+v", o.probes.last, want)
	}
}

func TestObjectivesConfig(t *testing.T) {
	for text, good := range map[string]bool{"99.99": true, "99": true, "100": false, "": false, "0.9999": false, "NaN": false, "99,9": false} {
		c := defaultObjectives()
		c.Availability = text
		if errs := c.mistakes(); (len(errs) == 0) != good {
			t.Errorf("%q: %v", text, errs)
		}
	}
	c := defaultObjectives()
	c.Latency = 0
	if len(c.mistakes()) != 1 || defaultObjectives().targets().Availability != 99.99 {
		t.Error("a latency of 0 is no mistake, or the default can't be read")
	}
}
