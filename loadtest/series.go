package loadtest

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Slot is what happened in one stretch of a load's time.
type Slot struct {
	Start     time.Duration   // from the start of the load
	Planned   float64         // departures that were due
	Outcomes  [outcomes]int64 // of purchases, by the time of the answer
	Others    int64           // answers to everything else
	P50       time.Duration   // of the purchases' answers
	P99       time.Duration
	Max       time.Duration
	latencies *hdrhistogram.Histogram
}

// maxSlots bounds a series; a longer load has wider slots.
const maxSlots = 300

// slotDigits is the resolution of a slot's latencies: a chart shows no more, and three digits cost ten times the memory.
const slotDigits = 2

// series is what happened over time.
type series struct {
	start time.Time
	width time.Duration

	mu    sync.Mutex
	slots []Slot // guarded by mu
}

func newSeries(start time.Time, length time.Duration) *series {
	width := time.Second
	if length < 20*time.Second { // a short load would be a few columns
		width = max(length/20, 50*time.Millisecond)
	}
	for length/width >= maxSlots {
		width *= 2
	}
	return &series{start: start, width: width}
}

// slotLocked returns the slot of a time, the last there may be for what comes late. The caller holds mu.
func (s *series) slotLocked(at time.Time) *Slot {
	// What the answers and the read-back after the end need is bounded too.
	n := min(max(int(at.Sub(s.start)/s.width), 0), 2*maxSlots)
	for len(s.slots) <= n {
		s.slots = append(s.slots, Slot{Start: time.Duration(len(s.slots)) * s.width})
	}
	return &s.slots[n]
}

func (s *series) record(action Action, a *answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.slotLocked(a.at)
	if action != Buy {
		slot.Others++
		return
	}
	slot.Outcomes[a.outcome]++
	if slot.latencies == nil {
		slot.latencies = hdrhistogram.New(shortestLatency.Microseconds(), longestLatency.Microseconds(), slotDigits)
	}
	us := min(max(a.latency.Microseconds(), shortestLatency.Microseconds()), longestLatency.Microseconds())
	if err := slot.latencies.RecordValue(us); err != nil {
		panic(err) // within range by the line above
	}
}

// finish returns the slots, with what was planned for each.
func (s *series) finish(p *plan) []Slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.slots) > 0 && time.Duration(len(s.slots))*s.width < p.length {
		s.slots = append(s.slots, Slot{Start: time.Duration(len(s.slots)) * s.width})
	}
	for i := range s.slots {
		slot := &s.slots[i]
		slot.Planned = p.sum(slot.Start+s.width) - p.sum(slot.Start)
		if h := slot.latencies; h != nil {
			slot.P50 = time.Duration(h.ValueAtQuantile(50)) * time.Microsecond
			slot.P99 = time.Duration(h.ValueAtQuantile(99)) * time.Microsecond
			slot.Max = time.Duration(h.Max()) * time.Microsecond
			slot.latencies = nil
		}
	}
	return s.slots
}
