package node

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/internal/probe"
)

// ObjectivesConfig has the service level objectives of an installation.
type ObjectivesConfig struct {
	Availability string        // percent of the answers that must not be failures
	Latency      time.Duration // the time within which 99.9 % of the purchases must be accepted
}

func defaultObjectives() ObjectivesConfig {
	return ObjectivesConfig{Availability: "99.99", Latency: 100 * time.Millisecond}
}

func (c ObjectivesConfig) mistakes() (errs []error) {
	if a, err := strconv.ParseFloat(c.Availability, 64); err != nil || !(a >= 50 && a < 100) {
		errs = append(errs, fmt.Errorf("objective-availability: %q is no percentage from 50 to below 100", c.Availability))
	}
	if c.Latency < time.Millisecond || c.Latency > time.Minute {
		errs = append(errs, errors.New("objective-latency: must be from 1ms to 1m"))
	}
	return errs
}

// targets are the objectives. The config must be valid.
func (c ObjectivesConfig) targets() live.Targets {
	availability, err := strconv.ParseFloat(c.Availability, 64)
	if err != nil {
		availability = 100 // no error budget; Mistakes makes sure that this is never reached
	}
	return live.Targets{Availability: availability, Latency: c.Latency}
}

// The span over which objectives are counted, in hours.
const objectiveHours = 30 * 24

// objectives counts this gateway's good and bad requests, hour by hour. It is used by one
// goroutine; the zero value is empty.
type objectives struct {
	traffic, probes talliedHours
	counted         map[probe.Step]probe.Count // the counts at the look before
	slow            map[probe.Step]uint64
}

// talliedHours has a tally for each of the last hours, and one since the start.
type talliedHours struct {
	all   live.Tally
	last  live.Tally // the sum of the hours
	hours [objectiveHours]live.Tally
	now   int64 // the hour that is being counted, since 1970
}

// add adds counts at a time.
func (t *talliedHours) add(more *live.Tally, now time.Time) {
	hour := now.Unix() / 3600
	if t.now == 0 {
		t.now = hour
	}
	for range min(hour-t.now, objectiveHours) {
		t.now++
		gone := &t.hours[t.now%objectiveHours]
		t.last.Asked -= gone.Asked
		t.last.Failed -= gone.Failed
		t.last.Timed -= gone.Timed
		t.last.Slow -= gone.Slow
		*gone = live.Tally{}
	}
	t.now = max(t.now, hour)
	t.all.Add(more)
	t.last.Add(more)
	t.hours[t.now%objectiveHours].Add(more)
}

// decided reports whether a failure is a decision: the request was refused on purpose.
func decided(code problem.Code) bool { return code == problem.Overloaded || code == problem.Degraded }

// purchases counts the answers to buyers.
func (o *objectives) purchases(t *gateway.Traffic, limit time.Duration, now time.Time) {
	tally := live.Tally{Asked: t.All.Accepted + t.All.Replayed, Timed: t.Sold.Total(), Slow: t.Sold.Above(limit)}
	failures := failureCodes()
	for code, n := range t.All.Refused {
		tally.Asked += n
		if failures[string(code)] && !decided(code) {
			tally.Failed += n
		}
	}
	o.traffic.add(&tally, now)
}

// probed counts the probes since the last call. A refused probe doesn't count.
func (o *objectives) probed(counts []probe.Count, limit time.Duration, now time.Time) {
	if o.counted == nil {
		o.counted, o.slow = make(map[probe.Step]probe.Count), make(map[probe.Step]uint64)
	}
	var tally live.Tally
	for _, c := range counts {
		before := o.counted[c.Step].Outcomes
		well, failed := c.Outcomes[probe.OK]-before[probe.OK], c.Outcomes[probe.Failed]-before[probe.Failed]
		slow := c.Took.Counts().Above(limit)
		tally.Add(&live.Tally{Asked: well + failed, Failed: failed, Timed: well, Slow: slow - o.slow[c.Step]})
		o.counted[c.Step], o.slow[c.Step] = c, slow
	}
	o.probes.add(&tally, now)
}

// collectObjectives takes this gateway's counts for the objectives.
func (n *Node) collectObjectives(f *live.Frame, now time.Time) {
	if n.role&RoleGateway == 0 {
		return
	}
	o := &n.live.collector.objectives
	if n.prober != nil {
		o.probed(n.prober.Counts(), n.cfg.Objectives.Latency, now)
	}
	since := n.started
	if oldest := now.Add(-objectiveHours * time.Hour); oldest.After(since) {
		since = oldest
	}
	f.Objectives = &live.FrameObjectives{Since: since, Traffic: o.traffic.last, Probes: o.probes.last}
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	n.live.tallies = map[string]live.Tally{live.OfTraffic: o.traffic.all, live.OfProbes: o.probes.all}
}

// objectiveMetrics are the metrics from which Prometheus computes the error budget.
func (n *Node) objectiveMetrics() (out []admin.Sample) {
	if n.role&RoleGateway == 0 {
		return nil
	}
	targets := n.cfg.Objectives.targets()
	n.live.mu.Lock()
	tallies := n.live.tallies
	n.live.mu.Unlock()
	for _, o := range []struct {
		name   string
		target float64
		counts func(live.Tally) (asked, bad uint64)
	}{
		{live.ObjectiveAvailability, targets.Availability, func(t live.Tally) (asked, bad uint64) { return t.Asked, t.Failed }},
		{live.ObjectiveLatency, live.LatencyShare, func(t live.Tally) (asked, bad uint64) { return t.Timed, t.Slow }},
	} {
		objective := admin.Label{Name: "objective", Value: o.name}
		out = append(out, gaugeFloat("penstock_objective_target_ratio",
			"The share of requests that must succeed, by objective."+same, o.target/100, objective))
		for _, of := range []string{live.OfTraffic, live.OfProbes} {
			asked, bad := o.counts(tallies[of])
			labels := []admin.Label{objective, {Name: "of", Value: of}}
			out = append(out,
				counter("penstock_objective_asked_total", "Requests that count for an objective: purchases, or this process's probes.",
					int64(asked), labels...),
				counter("penstock_objective_bad_total", "Those of them that failed, or took too long.", int64(bad), labels...))
		}
	}
	return out
}
