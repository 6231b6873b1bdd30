package loadtest

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

//go:embed summary.schema.json
var summarySchema []byte

// SummarySchema returns the JSON Schema of a Summary.
func SummarySchema() []byte { return append([]byte(nil), summarySchema...) }

// RunCard identifies the run of a report, and tells how to repeat it.
type RunCard struct {
	Command string    `json:"command"` // without secrets
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Targets []string  `json:"targets"`
	Sales   []string  `json:"sales"` // activities
	Users   int       `json:"users"`
	Seed    uint64    `json:"seed"`
	OS      string    `json:"os"`
	Go      string    `json:"go"`
}

// Summary is a load in numbers, as summary.json has it. Counts of requests leave out those that
// read orders back afterwards.
type Summary struct {
	Verdict       Verdict              `json:"verdict"`
	Sent          int64                `json:"sent"`
	Answered      int64                `json:"answered"`
	ByCode        map[string]int64     `json:"by_code"`
	Accepted      int64                `json:"accepted"`
	OrdersCreated int                  `json:"orders_created"`
	LatencyMS     Percentiles          `json:"latency_ms"`
	AchievedRate  float64              `json:"achieved_rate"`
	Errors        int64                `json:"errors"`
	Invariants    []Invariant          `json:"invariants"`
	SLOs          []SLOResult          `json:"slos"`
	Warnings      []string             `json:"warnings"`
	OfferedRate   float64              `json:"offered_rate"`
	ErrorRate     float64              `json:"error_rate"`
	Outcomes      map[string]Measure   `json:"outcomes"` // of purchases
	Actions       map[string]Measure   `json:"actions"`
	Service       Percentiles          `json:"service_ms"`
	Confirmed     *Percentiles         `json:"click_to_confirmed_ms,omitempty"`
	Repeats       int64                `json:"repeats"`
	DoubleClicks  int64                `json:"double_clicks"`
	Statuses      map[string]int       `json:"statuses"` // of accepted orders, in the end
	ReadBack      bool                 `json:"read_back"`
	Unread        int                  `json:"orders_unread"` // they could not be read
	Samples       map[string]string    `json:"samples"`       // the first answer of each code that should not be
	Books         *Books               `json:"audit,omitempty"`
	Items         []PartReport         `json:"items"`      // those that were asked for most, at most maxParts
	MoreItems     int                  `json:"more_items"` // that are not in Items
	Callers       []PartReport         `json:"callers"`    // in the order of their keys
	Curves        map[string][]float64 `json:"curves"`     // milliseconds at curvePoints: by outcome, and click_to_confirmed
	Series        SeriesReport         `json:"series"`
	Generator     GeneratorReport      `json:"generator"`
	Run           RunCard              `json:"run"`
	nothing       string               // a request that was never granted, as a sentence
	interrupted   bool
}

// PartReport is the purchases of one item or caller.
type PartReport struct {
	Name     string           `json:"name"`
	Sent     int64            `json:"sent"`
	Outcomes map[string]int64 `json:"outcomes"`
}

// maxParts is how many items a report names.
const maxParts = 20

func partReport(p *Part) PartReport {
	out := PartReport{Name: p.Name, Sent: p.Sent(), Outcomes: make(map[string]int64)}
	for o, n := range p.Counts {
		if n > 0 {
			out.Outcomes[Outcome(o).String()] = n
		}
	}
	return out
}

// SeriesReport is a load over time, in slots of one width, the first from the start on.
type SeriesReport struct {
	SlotMS float64      `json:"slot_ms"`
	Slots  []SlotReport `json:"slots"`
}

// SlotReport is a stretch of time; latencies are of the purchases that were answered in it.
type SlotReport struct {
	Planned  float64          `json:"planned"`
	Outcomes map[string]int64 `json:"outcomes"` // of purchases, by the time of the answer
	Others   int64            `json:"others"`   // answers to everything else
	P50      float64          `json:"p50_ms"`
	P99      float64          `json:"p99_ms"`
	Max      float64          `json:"max_ms"`
}

func seriesReport(slots []Stretch, width time.Duration) SeriesReport {
	out := SeriesReport{SlotMS: millis(width), Slots: []SlotReport{}}
	for i := range slots {
		slot := &slots[i]
		one := SlotReport{
			Planned: round(slot.Planned), Outcomes: make(map[string]int64), Others: slot.Others,
			P50: millis(slot.P50), P99: millis(slot.P99), Max: millis(slot.Max),
		}
		for o, n := range slot.Outcomes {
			if n > 0 {
				one.Outcomes[Outcome(o).String()] = n
			}
		}
		out.Slots = append(out.Slots, one)
	}
	return out
}

// Verdict is the outcome of a load, in a word.
type Verdict string

// The verdicts; a broken invariant weighs more than a missed SLO, that more than orders that
// couldn't be read back, that more than an interruption, and that more than a load of which nothing
// came: if no purchase was accepted, or every payment or cancellation ended in an error, no promise
// could be broken.
const (
	Passed      Verdict = "passed"
	Nothing     Verdict = "nothing"
	Broken      Verdict = "broken"
	Missed      Verdict = "missed"
	Interrupted Verdict = "interrupted"
	Unread      Verdict = "unread"
)

// Measure counts answers of one kind.
type Measure struct {
	Count     int64       `json:"count"`
	LatencyMS Percentiles `json:"latency_ms"`
}

// Percentiles are those of a distribution, in milliseconds; all zero when it is empty.
type Percentiles struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// GeneratorReport has the generator's measurements of itself, and whether its numbers can be
// trusted.
type GeneratorReport struct {
	Planned       int64       `json:"planned"` // departures
	Dropped       int64       `json:"dropped"`
	Crowded       int64       `json:"crowded"` // departures that waited for a connection
	LagMS         Percentiles `json:"lag_ms"`  // of departures for which a connection was free
	Connections   int         `json:"connections"`
	CPUSeconds    *float64    `json:"cpu_seconds,omitempty"`
	CPUShare      *float64    `json:"cpu_share,omitempty"` // of all cores
	Cores         int         `json:"cores"`
	Collections   int         `json:"gc_count"`
	PausesMS      float64     `json:"gc_pause_ms"`
	MemoryBytes   int64       `json:"memory_bytes"`
	PlannedFor    float64     `json:"planned_seconds"`
	ElapsedFor    float64     `json:"elapsed_seconds"`
	Trustworthy   bool        `json:"trustworthy"`
	ReadsReturned int64       `json:"orders_read_back"`
}

// Books is the server's own audit of an item, or of all together, after the load.
type Books struct {
	Item      string `json:"-"`
	Total     int64  `json:"total"`
	Available int64  `json:"available"`
	Held      int64  `json:"held"`
	Sold      int64  `json:"sold"`
	InFlight  int64  `json:"in_flight"`
	Balanced  bool   `json:"balanced"`
}

// Settled reports whether nothing is in flight any more and the equation holds.
func (b *Books) Settled() bool {
	return b.Balanced && b.InFlight == 0 && b.Total == b.Available+b.Held+b.Sold
}

// NewSummary sums a load up and measures it against slos.
func NewSummary(r *LoadResult, slos []SLO, card RunCard) *Summary {
	s := &Summary{
		Sent: r.Total(), Answered: r.Answered(), ByCode: make(map[string]int64),
		Accepted: r.Buy.Count(Accepted), OrdersCreated: r.Created,
		LatencyMS: percentiles(r.Scheduled), AchievedRate: round(r.AchievedRate()), Errors: r.Errors(),
		Invariants: r.Invariants, SLOs: []SLOResult{}, Warnings: append([]string{}, r.Warnings()...),
		ErrorRate: r.ErrorRate(), Outcomes: make(map[string]Measure), Actions: make(map[string]Measure),
		Service: percentiles(r.Service), Repeats: r.Repeats, DoubleClicks: r.DoubleClicks,
		Statuses: r.Statuses, ReadBack: r.ReadBack, Samples: r.Samples, Run: card,
		OfferedRate: round(r.OfferedRate()), Generator: report(r), Curves: make(map[string][]float64), Callers: []PartReport{},
		Series: seriesReport(r.Series, r.SlotWidth),
	}
	s.parts(r)
	s.Generator.Trustworthy = len(s.Warnings) == 0
	for a, t := range map[Action]*Tally{Buy: &r.Buy, Browse: &r.Browse, Poll: &r.Poll, Pay: &r.Pay, Cancel: &r.Cancel} {
		for code, n := range t.Codes {
			s.ByCode[code] += n
		}
		delete(s.ByCode, codeTimeout) // no answers
		delete(s.ByCode, codeConnection)
		if t.Sent > 0 {
			s.Actions[a.String()] = Measure{t.Sent, percentiles(t.LatencyOf(everyOutcome()...))}
		}
	}
	for o, n := range r.Buy.Counts {
		if n > 0 {
			s.Outcomes[Outcome(o).String()] = Measure{n, percentiles(r.Buy.Latency[o])}
			s.Curves[Outcome(o).String()] = curve(r.Buy.Latency[o])
		}
	}
	if r.Confirmed.Count() > 0 {
		p := percentiles(r.Confirmed)
		s.Confirmed = &p
		s.Curves[scopeConfirmed] = curve(r.Confirmed)
	}
	for _, slo := range slos {
		s.SLOs = append(s.SLOs, slo.Measure(r))
	}
	for _, a := range []struct {
		words string
		tally *Tally
	}{{"cancellation", &r.Cancel}, {"payment", &r.Pay}, {"purchase", &r.Buy}} {
		if a.tally.Sent > 0 && a.tally.Count(Failed) == a.tally.Sent {
			s.nothing = "every " + a.words + " ended in an error"
		}
	}
	if s.nothing == "" && r.Buy.Sent > 0 && r.Buy.Count(Accepted)+r.Buy.Count(Replayed) == 0 {
		s.nothing = "no purchase was accepted: " + outcomesOf(&r.Buy)
	}
	s.Unread, s.interrupted = r.Unread, r.Interrupted
	s.judge()
	return s
}

// parts sums up items and callers.
func (s *Summary) parts(r *LoadResult) {
	items := slices.SortedStableFunc(slices.Values(r.Items), func(a, b Part) int { return cmp.Compare(b.Sent(), a.Sent()) })
	s.MoreItems = max(len(items)-maxParts, 0)
	s.Items = make([]PartReport, 0, maxParts)
	for i := range items[:len(items)-s.MoreItems] {
		s.Items = append(s.Items, partReport(&items[i]))
	}
	for i := range r.Callers {
		s.Callers = append(s.Callers, partReport(&r.Callers[i]))
	}
}

// NothingOf names, as a sentence without a full stop, an action that was asked for and never
// succeeded; "" if all did.
func (s *Summary) NothingOf() string { return s.nothing }

// outcomesOf lists the outcomes of a tally, the most frequent first.
func outcomesOf(t *Tally) string {
	var all []Outcome
	for o := range t.Counts {
		if t.Counts[o] > 0 {
			all = append(all, Outcome(o))
		}
	}
	slices.SortStableFunc(all, func(a, b Outcome) int { return cmp.Compare(t.Counts[b], t.Counts[a]) })
	words := make([]string, len(all))
	for i, o := range all {
		words[i] = fmt.Sprintf("%d %s", t.Counts[o], o)
	}
	return strings.Join(words, ", ")
}

// judge sets the verdict.
func (s *Summary) judge() {
	s.Verdict = Passed
	if s.nothing != "" {
		s.Verdict = Nothing
	}
	if s.interrupted {
		s.Verdict = Interrupted
	}
	if s.Unread > 0 {
		s.Verdict = Unread
	}
	for _, slo := range s.SLOs {
		if !slo.Met {
			s.Verdict = Missed
		}
	}
	for _, i := range s.Invariants {
		if !i.Held {
			s.Verdict = Broken
		}
	}
}

// The names of the invariants that the server's audit adds.
const (
	BooksBalance = "audit-balanced" // total = available + held + sold, and nothing is left in flight
	BooksAgree   = "audit-agrees"   // the books have at least the units that this load was promised and still has
)

// Audit adds the server's own audit after the load, item by item. waited means that the server had
// all the time it may need. Without it, units in flight between its stores prove nothing, and are a
// warning.
func (s *Summary) Audit(items []Books, quantity int, waited bool) {
	sum := Books{Balanced: true}
	var balance proofs
	for i := range items {
		b := &items[i]
		sum.Total, sum.Available, sum.Held, sum.Sold = sum.Total+b.Total, sum.Available+b.Available, sum.Held+b.Held, sum.Sold+b.Sold
		sum.InFlight, sum.Balanced = sum.InFlight+b.InFlight, sum.Balanced && b.Balanced
		if !b.Balanced || !b.Settled() && (waited || b.InFlight == 0) {
			balance.add("%s: total %d, available %d, held %d, sold %d, in flight %d", b.Item, b.Total, b.Available, b.Held, b.Sold, b.InFlight)
		}
	}
	s.Books = &sum
	s.Invariants = append(s.Invariants, balance.invariant(BooksBalance, "the books add up"))
	if sum.InFlight > 0 && !waited {
		s.Warnings = append(s.Warnings, fmt.Sprintf("the server's audit still had %d in flight: audit again later",
			sum.InFlight))
	}
	if s.ReadBack {
		agree := proofs{}
		open := int64((s.Statuses[statusPending] + s.Statuses[statusPaid]) * quantity)
		if open > sum.Held+sum.Sold {
			agree.add("%d units are in orders of this load, the books have %d held and %d sold", open, sum.Held, sum.Sold)
		}
		s.Invariants = append(s.Invariants, agree.invariant(BooksAgree, "the books have every unit that was promised"))
	}
	s.judge()
}

// JSON returns the summary as summary.json has it.
func (s *Summary) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(s, "", "  ")
	return append(text, '\n'), err
}

func report(r *LoadResult) GeneratorReport {
	g := &r.Generator
	out := GeneratorReport{
		Planned: r.Planned, Dropped: r.Dropped, Crowded: r.Crowded, LagMS: percentiles(r.Lag), Connections: r.Connections,
		Cores: g.Cores, Collections: g.Collections, PausesMS: millis(g.Pauses), MemoryBytes: g.Memory,
		PlannedFor: round(r.Length.Seconds()), ElapsedFor: round(r.Elapsed.Seconds()), ReadsReturned: r.Read.Sent,
	}
	if g.CPUKnown && g.Elapsed > 0 {
		seconds := round(g.CPU.Seconds())
		share := round(g.CPU.Seconds() / g.Elapsed.Seconds() / float64(g.Cores))
		out.CPUSeconds, out.CPUShare = &seconds, &share
	}
	return out
}

func percentiles(l *Latency) Percentiles {
	return Percentiles{
		millis(l.Quantile(0.5)), millis(l.Quantile(0.9)), millis(l.Quantile(0.99)), millis(l.Quantile(0.999)), millis(l.Max()),
	}
}

// millis returns milliseconds with the microseconds behind the point.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// round leaves three digits behind the point.
func round(x float64) float64 { return math.Round(x*1000) / 1000 }

// curvePoints are the quantiles of a latency curve: even on a scale of nines.
func curvePoints() []float64 {
	var out []float64
	for nines := 0.0; nines <= 4.001; nines += 0.1 {
		out = append(out, 1-math.Pow(10, -nines))
	}
	return out
}

// curve returns the latencies at curvePoints in milliseconds, as far as there are answers enough to
// tell.
func curve(l *Latency) []float64 {
	var out []float64
	for _, q := range curvePoints() {
		if float64(l.Count())*(1-q) < 1 && len(out) > 1 {
			break
		}
		out = append(out, millis(l.Quantile(q)))
	}
	return out
}
