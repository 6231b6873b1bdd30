package live

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// maxHistories is how many activities have a history; the hottest ones get one.
const maxHistories = 20

// Histories keep the last fifteen minutes of an installation and of its hottest activities, a point
// a second. They are safe for concurrent use; the zero value is empty.
type Histories struct {
	mu         sync.Mutex
	all        series             // guarded by mu
	activities map[string]*series // guarded by mu: at most maxHistories
}

// series is a ring of points.
type series struct {
	points []Point
	next   int // where the next point goes when the ring is full
}

const seriesLength = int(HistoryLength / time.Second)

func (s *series) add(p Point) {
	if last := s.last(); last != nil && last.At >= p.At {
		return // twice in a second, or the clock went back
	}
	if len(s.points) < seriesLength {
		s.points = append(s.points, p)
		return
	}
	s.points[s.next] = p
	s.next = (s.next + 1) % seriesLength
}

func (s *series) last() *Point {
	switch n := len(s.points); {
	case n == 0:
		return nil
	case n < seriesLength:
		return &s.points[n-1]
	default:
		return &s.points[(s.next+n-1)%n]
	}
}

// list returns the points, oldest first, those of the last fifteen minutes before at.
func (s *series) list(at int64) []Point {
	out := make([]Point, 0, len(s.points))
	for i := range s.points {
		p := s.points[(s.next+i)%len(s.points)]
		if p.At > at-int64(seriesLength) && p.At <= at {
			out = append(out, p)
		}
	}
	return out
}

// Add keeps a snapshot's rates as the point of its second.
func (h *Histories) Add(s *Snapshot) {
	at := s.At.Unix()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all.add(pointOf(at, &s.Totals, s.Queue.Lag))
	if h.activities == nil {
		h.activities = make(map[string]*series)
	}
	for i := range s.Activities {
		a := &s.Activities[i]
		own := h.activities[a.Activity]
		if own == nil {
			if a.Rates.heat() == 0 || !h.makeRoom(at) {
				continue
			}
			own = new(series)
			h.activities[a.Activity] = own
		}
		own.add(pointOf(at, &a.Rates, nil))
	}
}

// makeRoom reports whether there is room for one more activity; an activity without traffic for
// fifteen minutes, or that hasn't been shown for a minute, loses its place.
func (h *Histories) makeRoom(at int64) bool {
	if len(h.activities) < maxHistories {
		return true
	}
	for id, own := range h.activities {
		last := own.last()
		idle := !slices.ContainsFunc(own.points, func(p Point) bool { return p.Accepted+p.Paid > 0 || len(p.Refused) > 0 })
		if last == nil || last.At < at-60 || idle {
			delete(h.activities, id)
			return true
		}
	}
	return false
}

func pointOf(at int64, r *Rates, lag *int64) Point {
	return Point{At: at, Accepted: r.Accepted, Paid: r.Paid, Refused: maps.Clone(r.Refused), Lag: lag}
}

// Fill returns the snapshot with the histories.
func (h *Histories) Fill(s *Snapshot) *Snapshot {
	out, at := *s, s.At.Unix()
	out.Activities = slices.Clone(s.Activities)
	h.mu.Lock()
	defer h.mu.Unlock()
	out.History = h.all.list(at)
	for i := range out.Activities {
		if own := h.activities[out.Activities[i].Activity]; own != nil {
			out.Activities[i].History = own.list(at)
		}
	}
	return &out
}
