package loadtest

import (
	"math"
	"testing"
	"time"
)

func TestSeries_JoinsSlotsAndLosesNothing(t *testing.T) {
	start := time.Unix(0, 0)
	p := newPlan([]Phase{{Duration: time.Hour, From: 10, To: 10}}, 1, 1, taste{})
	for name, until := range map[string]time.Duration{"whole": time.Hour, "ended early": 90 * time.Second, "short": 300 * time.Millisecond} {
		s := newSeries(start)
		count := int64(0)
		for at := time.Duration(0); at < until; at += 100 * time.Millisecond {
			s.record(Buy, &answer{outcome: SoldOut, at: start.Add(at), latency: at})
			s.record(Browse, &answer{outcome: Done, at: start.Add(at)})
			count++
		}
		slots, width := s.finish(p, until)
		if len(slots) > shownSlots || time.Duration(len(slots))*width < until || time.Duration(len(slots)-1)*width >= until {
			t.Errorf("%s: %d slots of %v for %v", name, len(slots), width, until)
		}
		sold, others, planned := int64(0), int64(0), 0.0
		for i := range slots {
			slot := &slots[i]
			if slot.Start != time.Duration(i)*width || slot.Max < min(slot.Start, longestLatency)*99/100 {
				t.Fatalf("%s: slot %d starts at %v, its slowest answer took %v", name, i, slot.Start, slot.Max)
			}
			sold, others, planned = sold+slot.Outcomes[SoldOut], others+slot.Others, planned+slot.Planned
		}
		end := min(time.Duration(len(slots))*width, time.Hour).Seconds()
		if sold != count || others != count || math.Abs(planned-10*end) > 1e-6 {
			t.Errorf("%s: %d purchases, %d others of %d, %v planned of %v", name, sold, others, count, planned, 10*end)
		}
	}
}
