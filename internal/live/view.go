package live

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// View is a Snapshot with its JSON, which is made once for all readers. It is safe for concurrent
// use.
type View struct {
	snapshot *Snapshot

	mu    sync.Mutex
	texts map[Reader]viewText // guarded by mu
}

type viewText struct {
	text []byte
	err  error
}

// NewView returns the view of a snapshot, which must not be changed afterwards.
func NewView(s *Snapshot) *View { return &View{snapshot: s, texts: make(map[Reader]viewText)} }

// At is when the snapshot was merged.
func (v *View) At() time.Time { return v.snapshot.At }

// Snapshot returns the snapshot, which must not be changed.
func (v *View) Snapshot() *Snapshot { return v.snapshot }

// hasStock reports whether the stock of one of its activities was read, or it is known to have
// none.
func (v *View) hasStock() bool {
	return len(v.snapshot.Activities) == 0 && !v.snapshot.Unread ||
		slices.ContainsFunc(v.snapshot.Activities, func(a Activity) bool { return a.Ledger.At != nil })
}

// Reader has the rights of a reader.
type Reader struct {
	Merchant string // empty means everything
	Buyers   bool   // whether the reader also sees the names of buyers
}

// JSON returns the snapshot as a reader may see it. The text must not be changed.
func (v *View) JSON(r Reader) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, made := v.texts[r]
	if !made {
		t.text, t.err = json.Marshal(v.snapshot.For(r))
		v.texts[r] = t
	}
	return t.text, t.err
}

// hidden replaces a buyer's name that a reader may not see.
const hidden = "(a buyer)"

// For returns the part of a snapshot that a reader may see.
func (s *Snapshot) For(r Reader) *Snapshot {
	out := s.Of(r.Merchant)
	if r.Buyers {
		return out
	}
	whole := *out
	whole.Refused = slices.Clone(out.Refused)
	for i := range whole.Refused {
		if whole.Refused[i].buyer {
			whole.Refused[i].Key = hidden
		}
	}
	return &whole
}

// Of returns the part of a snapshot that a merchant may see: its own activities, callers and money,
// without nodes and servers. "" returns the whole.
func (s *Snapshot) Of(merchant string) *Snapshot {
	if merchant == "" {
		return s
	}
	out := &Snapshot{
		At: s.At, Version: s.Version, Complete: s.Complete, Missing: []string{}, Totals: NewRates(), Latency: s.Latency,
		Activities: []Activity{}, Others: NewRates(), Callers: []Caller{}, Limits: []Limit{}, Refused: []Refused{},
		Nodes: []Node{}, Servers: []Server{}, Queue: s.Queue, Shards: s.Shards, Money: []Money{}, Switches: []Switch{},
		Level: s.Level, Hops: s.Hops, Probes: []Probe{}, Objectives: []Objective{}, Abnormal: []Finding{},
	}
	for i := range s.Activities {
		if a := &s.Activities[i]; a.Merchant == merchant {
			out.Activities = append(out.Activities, *a)
			out.Totals.Add(&a.Rates)
		}
	}
	out.History = sumHistories(out.Activities)
	for i := range s.Callers {
		if owner, _, _ := strings.Cut(s.Callers[i].Caller, "/"); owner == merchant {
			out.Callers = append(out.Callers, s.Callers[i])
		}
	}
	for _, r := range s.Refused {
		if owner, _, _ := strings.Cut(r.Key, "/"); owner == merchant {
			out.Refused = append(out.Refused, r)
		}
	}
	out.Money = append(out.Money, s.MoneyOf[merchant]...)
	for i := range s.Abnormal {
		if s.Abnormal[i].Merchant == merchant {
			out.Abnormal = append(out.Abnormal, s.Abnormal[i])
		}
	}
	for i := range s.Switches {
		if s.Switches[i].Merchant == merchant {
			out.Switches = append(out.Switches, s.Switches[i])
		}
	}
	if s.LastChange != nil && s.LastChange.Merchant == merchant {
		out.LastChange = s.LastChange
	}
	return out
}

// sumHistories adds the histories of activities, second by second.
func sumHistories(activities []Activity) []Point {
	sums := make(map[int64]*Point)
	for i := range activities {
		for j := range activities[i].History {
			p := &activities[i].History[j]
			sum := sums[p.At]
			if sum == nil {
				sum = &Point{At: p.At, Refused: make(map[string]float64)}
				sums[p.At] = sum
			}
			sum.Accepted += p.Accepted
			sum.Paid += p.Paid
			for code, n := range p.Refused {
				sum.Refused[code] += n
			}
		}
	}
	out := make([]Point, 0, len(sums))
	for _, at := range slices.Sorted(maps.Keys(sums)) {
		out = append(out, *sums[at])
	}
	return out
}

// NewRates returns zero rates.
func NewRates() Rates { return Rates{Refused: make(map[string]float64)} }

// Add adds other rates.
func (r *Rates) Add(other *Rates) {
	r.Requests += other.Requests
	r.Accepted += other.Accepted
	r.Replayed += other.Replayed
	r.Paid += other.Paid
	r.Cancelled += other.Cancelled
	for code, n := range other.Refused {
		r.Refused[code] += n
	}
}
