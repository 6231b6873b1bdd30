package live

import (
	"time"

	"github.com/penstock/penstock/internal/timing"
)

// The hops: the steps on the way of an order, and of a setting.
const (
	HopHold     = "hold"     // from a purchase's arrival until its unit is held
	HopPage     = "page"     // from the hold until its page is acknowledged by Kafka
	HopRow      = "row"      // from the page until the order's row is committed
	HopConfirm  = "confirm"  // from the row until Redis knows that the order exists
	HopSettle   = "settle"   // from an order's end until Redis counts its units as sold or free
	HopEvent    = "event"    // from an order's step until other systems are told
	HopSettings = "settings" // from a change of the settings until it is in force on every gateway
)

// HopDeadlines returns how long each hop may take, in the order of the way.
func HopDeadlines() []HopDeadline {
	return []HopDeadline{
		{HopHold, 500 * time.Millisecond}, {HopPage, time.Second}, {HopRow, 10 * time.Second},
		{HopConfirm, 5 * time.Second}, {HopSettle, 10 * time.Second}, {HopEvent, 30 * time.Second}, {HopSettings, time.Second},
	}
}

// HopDeadline is how long a hop may take.
type HopDeadline struct {
	Hop      string
	Deadline time.Duration
}

// mergeHops adds the hops of all nodes up. A gateway without the newest settings counts as late.
func mergeHops(fresh []*Frame, nodes []Node) []Hop {
	out, behind := []Hop{}, int64(0)
	for i := range nodes {
		if nodes[i].Behind && !nodes[i].Lost {
			behind++
		}
	}
	for _, d := range HopDeadlines() {
		hop := Hop{Hop: d.Hop, Deadline: float64(d.Deadline) / float64(time.Millisecond)}
		var took timing.Counts
		for _, f := range fresh {
			for i := range f.Hops {
				if h := &f.Hops[i]; h.Hop == d.Hop {
					h.Took.addTo(&took)
					if h.Oldest > hop.Deadline {
						hop.Late++
					}
				}
			}
		}
		hop.P50, hop.P99 = millis(&took, 0.5), millis(&took, 0.99)
		hop.Late += int64(took.Above(d.Deadline))
		if d.Hop == HopSettings {
			hop.Late += behind
		}
		out = append(out, hop)
	}
	return out
}
