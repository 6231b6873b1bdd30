package live

import "time"

// The objectives of the service, in percent of its requests.
const (
	ObjectiveAvailability = "availability" // percent of the answers that are not failures
	ObjectiveLatency      = "latency"      // percent of the purchases that are answered in time
)

// The traffic by which an objective is measured.
const (
	OfTraffic = "traffic" // purchases
	OfProbes  = "probes"
)

// LatencyShare is the percentage of purchases that must be answered within Targets.Latency.
const LatencyShare = 99.9

// Targets are the objectives of an installation.
type Targets struct {
	Availability float64       // percent
	Latency      time.Duration // for LatencyShare percent of the purchases
}

// Tally counts requests for the objectives. Failures are 5xx answers that are not decisions.
type Tally struct {
	Asked  uint64 `json:"asked"`
	Failed uint64 `json:"failed,omitempty"`
	Timed  uint64 `json:"timed,omitempty"` // accepted purchases that did not ask to wait
	Slow   uint64 `json:"slow,omitempty"`  // those of them that took longer than the objective
}

// Add adds another tally.
func (t *Tally) Add(other *Tally) {
	t.Asked += other.Asked
	t.Failed += other.Failed
	t.Timed += other.Timed
	t.Slow += other.Slow
}

// FrameObjectives is what a gateway has counted since it started, over at most thirty days.
type FrameObjectives struct {
	Since   time.Time `json:"since"`
	Traffic Tally     `json:"traffic"`
	Probes  Tally     `json:"probes"`
}

// Objective is the state of an objective.
type Objective struct {
	Objective string    `json:"objective"` // availability, latency
	Of        string    `json:"of"`        // traffic, probes
	Target    float64   `json:"target"`    // percent
	Limit     *float64  `json:"limit"`     // for latency: milliseconds
	Actual    *float64  `json:"actual"`    // percent; null without traffic
	Budget    *float64  `json:"budget"`    // percentage of the allowed failures that is left; negative if there were more
	Asked     uint64    `json:"asked"`
	Bad       uint64    `json:"bad"`
	Since     time.Time `json:"since"` // of the oldest node's count
}

// mergeObjectives adds up what all gateways have counted.
func mergeObjectives(fresh []*Frame, targets Targets) []Objective {
	out := []Objective{}
	var traffic, probes Tally
	var since time.Time
	for _, f := range fresh {
		o := f.Objectives
		if o == nil {
			continue
		}
		traffic.Add(&o.Traffic)
		probes.Add(&o.Probes)
		if since.IsZero() || o.Since.Before(since) {
			since = o.Since
		}
	}
	if since.IsZero() {
		return out
	}
	limit := float64(targets.Latency) / float64(time.Millisecond)
	for _, of := range []struct {
		name  string
		tally *Tally
	}{{OfTraffic, &traffic}, {OfProbes, &probes}} {
		out = append(out,
			newObjective(ObjectiveAvailability, of.name, targets.Availability, nil, of.tally.Asked, of.tally.Failed, since),
			newObjective(ObjectiveLatency, of.name, LatencyShare, &limit, of.tally.Timed, of.tally.Slow, since))
	}
	return out
}

func newObjective(objective, of string, target float64, limit *float64, asked, bad uint64, since time.Time) Objective {
	o := Objective{Objective: objective, Of: of, Target: target, Limit: limit, Asked: asked, Bad: bad, Since: since}
	if asked > 0 {
		share := float64(bad) / float64(asked)
		actual, budget := 100*(1-share), 100*(1-share/(1-target/100))
		o.Actual, o.Budget = &actual, &budget
	}
	return o
}
