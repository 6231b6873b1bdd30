package live

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/penstock/penstock/internal/timing"
)

// Frame is one node's report of a second. Nodes share their frames with all admin listeners. Rates
// are of the node's last full second; Latency and Hops cover its last ten.
type Frame struct {
	Node       Node             `json:"node"` // Age, Lost and Behind are filled in by the reader
	All        Rates            `json:"all"`  // of the node
	Latency    Distribution     `json:"latency"`
	Activities []FrameActivity  `json:"activities,omitempty"` // hottest first
	Callers    []Caller         `json:"callers,omitempty"`    // hottest first
	Limits     []FrameLimit     `json:"limits,omitempty"`
	Refused    []Refused        `json:"refused,omitempty"`
	Servers    []FrameServer    `json:"servers"`
	Shards     Shards           `json:"shards"`
	Oldest     *float64         `json:"oldest,omitempty"` // Queue.Oldest, of a worker
	Hops       []FrameHop       `json:"hops,omitempty"`
	Probes     []Probe          `json:"probes,omitempty"`
	Objectives *FrameObjectives `json:"objectives,omitempty"` // of a gateway
	Broken     map[string]int64 `json:"broken,omitempty"`     // counters that must stay 0, without those that are 0
	Unbalanced []Unbalanced     `json:"unbalanced,omitempty"`
	Symptoms   []Symptom        `json:"symptoms,omitempty"`
}

// Symptom is something abnormal that only its node can see: of its clock, its files, its receivers.
// It becomes a finding on every node.
type Symptom struct {
	Kind     string `json:"kind"`
	Severity string `json:"severity,omitempty"` // "" is that of the kind
	Subject  string `json:"subject"`
	Text     string `json:"text"` // one plain sentence
}

// FrameActivity is an activity on one node.
type FrameActivity struct {
	Activity string      `json:"activity"`
	Rates    Rates       `json:"rates"`
	Items    []FrameItem `json:"items,omitempty"` // hottest first
}

// FrameItem is an item on one node.
type FrameItem struct {
	SKU      string  `json:"sku"`
	Accepted float64 `json:"accepted"`
	SoldOut  float64 `json:"sold_out,omitempty"` // refused because nothing was left, per second
}

// FrameLimit is a policy on one node, in requests per second.
type FrameLimit struct {
	Policy   string  `json:"policy"`
	Allowed  float64 `json:"allowed"`
	Refused  float64 `json:"refused"`
	Shadowed float64 `json:"shadowed,omitempty"`
	Share    float64 `json:"share,omitempty"` // its part of the tokens of the limit's only key; 0 if unknown
}

// FrameServer is a server as one node sees it.
type FrameServer struct {
	Server   string `json:"server"`
	Instance string `json:"instance,omitempty"`
	State    string `json:"state"`
	Detail   string `json:"detail,omitempty"`
}

// FrameHop is a hop on one node.
type FrameHop struct {
	Hop    string       `json:"hop"`
	Took   Distribution `json:"took,omitempty"`
	Oldest float64      `json:"oldest,omitempty"` // milliseconds: the age of the oldest entry on this hop now, if known
}

// Distribution is a timing.Counts as pairs of bucket and count, without empty buckets.
type Distribution [][2]uint64

// NewDistribution returns counts as pairs.
func NewDistribution(c *timing.Counts) (s Distribution) {
	for i, n := range c {
		if n > 0 {
			s = append(s, [2]uint64{uint64(i), n})
		}
	}
	return s
}

// addTo adds the pairs to counts. Buckets that don't exist, from another version, are left out.
func (s Distribution) addTo(c *timing.Counts) {
	for _, p := range s {
		if p[0] < timing.Size {
			c[p[0]] += p[1]
		}
	}
}

// Bounds of a Frame.
const (
	MaxFrame        = 32 << 10 // bytes
	maxFrameItems   = 200      // of all activities
	maxFrameServers = 30
	maxFrameText    = 200 // bytes of a text from outside
	maxSymptomText  = 300 // bytes of a sentence that has such a text
)

// Encode returns the frame as JSON of at most MaxFrame bytes. If it would be longer, the least busy
// entries are left out. It doesn't change the frame, which a merger may read at the same time.
func (f *Frame) Encode() ([]byte, error) {
	own := *f
	f = &own
	f.Activities, f.Servers = slices.Clone(f.Activities), slices.Clone(f.Servers)
	f.Symptoms, f.Probes = slices.Clone(f.Symptoms), slices.Clone(f.Probes)
	f.trim(MaxActivities, MaxCallers, maxFrameItems)
	for keep := MaxActivities; ; keep /= 2 {
		text, err := json.Marshal(f)
		if err != nil {
			return nil, fmt.Errorf("write the frame: %w", err)
		}
		if len(text) <= MaxFrame {
			return text, nil
		}
		if keep == 0 {
			return nil, fmt.Errorf("a frame of %d bytes, at most %d may be", len(text), MaxFrame)
		}
		f.trim(keep/2, keep/2, 4*keep/2)
	}
}

// trim leaves out the least busy entries.
func (f *Frame) trim(activities, callers, items int) {
	f.Activities = f.Activities[:min(len(f.Activities), activities)]
	for i := range f.Activities {
		a := &f.Activities[i]
		a.Items = a.Items[:min(len(a.Items), MaxItems, items)]
		items -= len(a.Items)
	}
	f.Callers = f.Callers[:min(len(f.Callers), callers)]
	f.Limits = f.Limits[:min(len(f.Limits), activities)]
	f.Refused = f.Refused[:min(len(f.Refused), activities)]
	f.Servers = f.Servers[:min(len(f.Servers), maxFrameServers)]
	f.Unbalanced = f.Unbalanced[:min(len(f.Unbalanced), maxOfKind)]
	f.Symptoms = f.Symptoms[:min(len(f.Symptoms), 2*maxOfKind)]
	for i := range f.Servers {
		f.Servers[i].Detail = clip(f.Servers[i].Detail, maxFrameText)
	}
	for i := range f.Symptoms {
		f.Symptoms[i].Text = clip(f.Symptoms[i].Text, maxSymptomText)
	}
	for i := range f.Probes {
		f.Probes[i].Error = clip(f.Probes[i].Error, maxFrameText)
	}
}

// clip shortens a text that is longer than most bytes.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && s[cut]&0xc0 == 0x80 { // in the middle of a character
		cut--
	}
	return s[:cut] + "…"
}

// DecodeFrame reads a frame. Unknown members, of a later version, are ignored.
func DecodeFrame(text []byte) (*Frame, error) {
	var f Frame
	if len(text) > MaxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", len(text))
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("read a frame: %w", err)
	}
	f.All.complete()
	for i := range f.Activities {
		f.Activities[i].Rates.complete()
	}
	for i := range f.Callers {
		f.Callers[i].Rates.complete()
	}
	return &f, nil
}

// complete makes sure that the map isn't nil.
func (r *Rates) complete() {
	if r.Refused == nil {
		r.Refused = make(map[string]float64)
	}
}

// PerSecond returns a rate with a precision that people can use.
func PerSecond(n uint64, span time.Duration) float64 {
	if span <= 0 {
		return 0
	}
	return rounded(float64(n) / span.Seconds())
}

// rounded keeps two decimal digits, so that sums of rates don't look like 0.30000000000000004.
func rounded(x float64) float64 { return math.Round(x*100) / 100 }

func (r *Rates) round() {
	for _, x := range []*float64{&r.Requests, &r.Accepted, &r.Replayed, &r.Paid, &r.Cancelled} {
		*x = rounded(*x)
	}
	for code, n := range r.Refused {
		if n = rounded(n); n == 0 {
			delete(r.Refused, code)
		} else {
			r.Refused[code] = n
		}
	}
}

// less subtracts another's rates. A negative result becomes zero: the two were not read at the same
// moment.
func (r *Rates) less(other *Rates) {
	r.Requests = max(0, r.Requests-other.Requests)
	r.Accepted = max(0, r.Accepted-other.Accepted)
	r.Replayed = max(0, r.Replayed-other.Replayed)
	r.Paid = max(0, r.Paid-other.Paid)
	r.Cancelled = max(0, r.Cancelled-other.Cancelled)
	for code, n := range other.Refused {
		r.Refused[code] = max(0, r.Refused[code]-n)
	}
}

// heat is the value by which the hottest items are sorted.
func (r *Rates) heat() float64 { return r.Requests + r.Paid + r.Cancelled }

// KeepHottest puts the frame's activities, their items and the callers in order, the hottest first,
// and leaves out all but MaxItems items of each activity: a node remembers no more of itself than
// it tells others.
func (f *Frame) KeepHottest() {
	slices.SortFunc(f.Activities, func(a, b FrameActivity) int {
		return hotter(a.Rates.heat(), b.Rates.heat(), a.Activity, b.Activity)
	})
	for i := range f.Activities {
		items := f.Activities[i].Items
		slices.SortFunc(items, func(a, b FrameItem) int {
			return hotter(a.Accepted+a.SoldOut, b.Accepted+b.SoldOut, a.SKU, b.SKU)
		})
		f.Activities[i].Items = slices.Clone(items[:min(len(items), MaxItems)])
	}
	slices.SortFunc(f.Callers, func(a, b Caller) int { return hotter(a.Rates.heat(), b.Rates.heat(), a.Caller, b.Caller) })
}

func hotter(a, b float64, name, other string) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	case name < other:
		return -1
	case name > other:
		return 1
	}
	return 0
}
