package loadtest

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Stretch has the counts of one span of a load's time.
type Stretch struct {
	Start     time.Duration   // from the start of the load
	Planned   float64         // departures that were due
	Outcomes  [outcomes]int64 // of purchases, by the time of the answer
	Others    int64           // answers to everything else
	P50       time.Duration   // of the purchases' answers
	P99       time.Duration
	Max       time.Duration
	latencies *hdrhistogram.Histogram
}

// Widths and numbers of slots. A series begins with narrow ones and joins neighbours whenever there
// are too many, so that a load that is ended early has a picture too.
const (
	firstSlot  = 100 * time.Millisecond
	maxSlots   = 300 // while the load runs
	shownSlots = 120 // afterwards
)

// slotDigits is the resolution of a slot's latencies: a chart shows no more, and three digits cost
// ten times the memory.
const slotDigits = 2

// series has the counts over time.
type series struct {
	start time.Time
	width time.Duration

	mu    sync.Mutex
	slots []Stretch // guarded by mu
}

func newSeries(start time.Time) *series { return &series{start: start, width: firstSlot} }

// slotLocked returns the slot of a time. The caller holds mu.
func (s *series) slotLocked(at time.Time) *Stretch {
	since := max(at.Sub(s.start), 0)
	for since >= maxSlots*s.width {
		s.joinLocked()
	}
	n := int(since / s.width)
	s.growLocked(n + 1)
	return &s.slots[n]
}

func (s *series) growLocked(count int) {
	for len(s.slots) < count {
		s.slots = append(s.slots, Stretch{Start: time.Duration(len(s.slots)) * s.width})
	}
}

// joinLocked makes one slot of each two. The caller holds mu.
func (s *series) joinLocked() {
	s.width *= 2
	joined := s.slots[:0]
	for i, slot := range s.slots {
		if i%2 == 0 {
			joined = append(joined, slot)
			continue
		}
		into := &joined[len(joined)-1]
		into.Others += slot.Others
		for o := range slot.Outcomes {
			into.Outcomes[o] += slot.Outcomes[o]
		}
		if into.latencies == nil {
			into.latencies = slot.latencies
		} else if slot.latencies != nil {
			into.latencies.Merge(slot.latencies) // the same range, so nothing is dropped
		}
	}
	clear(s.slots[len(joined):])
	s.slots = joined
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

// finish returns the slots up to a time and those with answers after it, with what was planned for
// each, and their width.
func (s *series) finish(p *plan, until time.Duration) ([]Stretch, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for max(until, time.Duration(len(s.slots))*s.width) > shownSlots*s.width {
		s.joinLocked()
	}
	s.growLocked(int((until + s.width - 1) / s.width))
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
	return s.slots, s.width
}
