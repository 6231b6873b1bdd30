package loadtest

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Range and resolution of every histogram: latencies below a microsecond or above a minute are
// counted at the edge.
const (
	shortestLatency = time.Microsecond
	longestLatency  = time.Minute
	latencyDigits   = 3
)

// maxCodes bounds the names in a tally (L8): a server that makes up a code per answer fills no
// memory here.
const maxCodes = 64

// otherCode counts further codes after maxCodes names.
const otherCode = "other"

// Latency is a distribution of latencies.
type Latency struct{ histogram *hdrhistogram.Histogram }

func newLatency() *Latency {
	return &Latency{hdrhistogram.New(shortestLatency.Microseconds(), longestLatency.Microseconds(), latencyDigits)}
}

// record counts d; a value out of range counts at the edge.
func (l *Latency) record(d time.Duration) {
	us := min(max(d.Microseconds(), shortestLatency.Microseconds()), longestLatency.Microseconds())
	if err := l.histogram.RecordValue(us); err != nil {
		panic(err) // within range by the line above
	}
}

// Count returns how many latencies were recorded. Count and the other methods work on a nil
// Latency, which is empty.
func (l *Latency) Count() int64 {
	if l == nil {
		return 0
	}
	return l.histogram.TotalCount()
}

// Quantile returns the latency that a share q of the answers did not exceed, and 0 when there are
// none.
func (l *Latency) Quantile(q float64) time.Duration {
	if l.Count() == 0 {
		return 0
	}
	return time.Duration(l.histogram.ValueAtQuantile(q*100)) * time.Microsecond
}

// Max returns the largest latency.
func (l *Latency) Max() time.Duration {
	if l.Count() == 0 {
		return 0
	}
	return time.Duration(l.histogram.Max()) * time.Microsecond
}

// MergeLatency returns the distribution of all of them together.
func MergeLatency(all ...*Latency) *Latency {
	sum := newLatency()
	for _, l := range all {
		if l != nil {
			sum.histogram.Merge(l.histogram) // the same range everywhere, so nothing is dropped
		}
	}
	return sum
}

// Tally counts the answers to one action.
type Tally struct {
	Sent    int64
	Counts  [outcomes]int64
	Latency [outcomes]*Latency // nil where the outcome never came
	Codes   map[string]int64   // the server's codes; the status if there is none
}

// Count returns how many answers had one of the outcomes.
func (t *Tally) Count(of ...Outcome) int64 {
	var n int64
	for _, o := range of {
		n += t.Counts[o]
	}
	return n
}

// LatencyOf returns the distribution over all answers with one of the outcomes.
func (t *Tally) LatencyOf(of ...Outcome) *Latency {
	all := make([]*Latency, 0, len(of))
	for _, o := range of {
		all = append(all, t.Latency[o])
	}
	return MergeLatency(all...)
}

// tallies counts the answers to all actions. One lock does: it is held for some tens of nanoseconds
// per request, and a histogram per goroutine would cost 140 KB for each outcome.
type tallies struct {
	mu   sync.Mutex
	all  [actions]Tally    // guarded by mu
	lag  *Latency          // guarded by mu; how late scheduled departures left
	odd  map[string]string // guarded by mu; the first failed answer of each code
	last time.Time         // guarded by mu; when the last answer came
}

func newTallies() *tallies {
	t := &tallies{lag: newLatency(), odd: make(map[string]string)}
	for i := range t.all {
		t.all[i].Codes = make(map[string]int64)
	}
	return t
}

// record counts one answer.
func (t *tallies) record(action Action, a *answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tally := &t.all[action]
	tally.Sent++
	tally.Counts[a.outcome]++
	if tally.Latency[a.outcome] == nil {
		tally.Latency[a.outcome] = newLatency()
	}
	tally.Latency[a.outcome].record(a.latency)
	code := a.code
	if _, known := tally.Codes[code]; !known && len(tally.Codes) >= maxCodes {
		code = otherCode
	}
	tally.Codes[code]++
	if a.outcome == Failed && a.sample != "" {
		if _, known := t.odd[code]; !known {
			t.odd[code] = a.sample
		}
	}
	if a.at.After(t.last) {
		t.last = a.at
	}
}

// late counts how long after its time a scheduled departure left.
func (t *tallies) late(by time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lag.record(by)
}

// sent returns how many requests of an action were answered, or failed.
func (t *tallies) sent(action Action) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[action].Sent
}

// counts returns how many answers to an action had which outcome.
func (t *tallies) counts(action Action) [outcomes]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[action].Counts
}

// lastAnswer returns when the last answer came; the zero time when none did.
func (t *tallies) lastAnswer() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}
