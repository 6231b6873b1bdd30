package loadtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ReadSummary reads what Summary.JSON has written.
func ReadSummary(text []byte) (*Summary, error) {
	s := new(Summary)
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("is not a summary of a load test: %w", err)
	}
	if s.Verdict == "" || s.Run.Version == "" || s.Outcomes == nil || s.Series.SlotMS <= 0 {
		return nil, errors.New("is not a summary of a load test, or has another version")
	}
	return s, nil
}

// Comparison is two loads side by side.
type Comparison struct {
	A     ComparedRun  `json:"a"`
	B     ComparedRun  `json:"b"`
	Rows  []Difference `json:"rows"`
	Notes []string     `json:"notes"` // why the loads may differ in other ways

	of [2]*Summary
}

// ComparedRun is one of the two loads.
type ComparedRun struct {
	Name    string    `json:"name"`
	Verdict Verdict   `json:"verdict"`
	Started time.Time `json:"started"`
	Version string    `json:"version"`
	Command string    `json:"command"`
	Broken  []string  `json:"broken"` // invariants that don't hold
}

// Difference is one number of both loads. A number that a load doesn't have is nil.
type Difference struct {
	Name   string   `json:"name"`
	Unit   string   `json:"unit"` // "", "/s", "%" or "ms"
	A      *float64 `json:"a"`
	B      *float64 `json:"b"`
	Change *float64 `json:"change"` // (B-A)/A; nil if A is zero or a number is missing
}

// Compare puts two loads side by side, under names.
func Compare(nameA string, a *Summary, nameB string, b *Summary) *Comparison {
	c := &Comparison{A: compared(nameA, a), B: compared(nameB, b), Rows: []Difference{}, of: [2]*Summary{a, b}}
	c.Notes = c.notes()
	row := func(name, unit string, of func(*Summary) *float64) {
		d := Difference{Name: name, Unit: unit, A: of(a), B: of(b)}
		if d.A != nil && d.B != nil && *d.A != 0 {
			change := round((*d.B - *d.A) / *d.A)
			d.Change = &change
		}
		c.Rows = append(c.Rows, d)
	}
	count := func(name string, of func(*Summary) int64) {
		row(name, "", func(s *Summary) *float64 { n := float64(of(s)); return &n })
	}
	measure := func(name, unit string, of func(*Summary) float64) {
		row(name, unit, func(s *Summary) *float64 { n := of(s); return &n })
	}
	count("sent", func(s *Summary) int64 { return s.Sent })
	count("answered", func(s *Summary) int64 { return s.Answered })
	count("accepted", func(s *Summary) int64 { return s.Accepted })
	count("orders created", func(s *Summary) int64 { return int64(s.OrdersCreated) })
	count("errors", func(s *Summary) int64 { return s.Errors })
	measure("error rate", "%", func(s *Summary) float64 { return round(100 * s.ErrorRate) })
	measure("planned rate", "/s", func(s *Summary) float64 { return s.OfferedRate })
	measure("achieved rate", "/s", func(s *Summary) float64 { return s.AchievedRate })
	latency := func(name string, of func(*Summary) *Percentiles) {
		for _, q := range []struct {
			name string
			of   func(*Percentiles) float64
		}{
			{"p50", func(p *Percentiles) float64 { return p.P50 }}, {"p90", func(p *Percentiles) float64 { return p.P90 }},
			{"p99", func(p *Percentiles) float64 { return p.P99 }}, {"p99.9", func(p *Percentiles) float64 { return p.P999 }},
			{"max", func(p *Percentiles) float64 { return p.Max }},
		} {
			row(name+" "+q.name, "ms", func(s *Summary) *float64 {
				p := of(s)
				if p == nil {
					return nil
				}
				ms := q.of(p)
				return &ms
			})
		}
	}
	latency("all, since due:", func(s *Summary) *Percentiles { return &s.LatencyMS })
	latency("all, since sent:", func(s *Summary) *Percentiles { return &s.Service })
	if a.Confirmed != nil || b.Confirmed != nil {
		latency("click to confirmed:", func(s *Summary) *Percentiles { return s.Confirmed })
	}
	for _, o := range reportOrder() {
		c.outcome(o.String(), count, latency)
	}
	return c
}

// outcome adds the rows of an outcome that occurred in one of the loads.
func (c *Comparison) outcome(name string, count func(string, func(*Summary) int64), latency func(string, func(*Summary) *Percentiles)) {
	if c.of[0].Outcomes[name].Count+c.of[1].Outcomes[name].Count == 0 {
		return
	}
	if name != Accepted.String() { // it is in the row above
		count(name, func(s *Summary) int64 { return s.Outcomes[name].Count })
	}
	latency(name+":", func(s *Summary) *Percentiles {
		if m, met := s.Outcomes[name]; met {
			return &m.LatencyMS
		}
		return nil
	})
}

func compared(name string, s *Summary) ComparedRun {
	r := ComparedRun{
		Name: name, Verdict: s.Verdict, Started: s.Run.Started, Version: s.Run.Version, Command: s.Run.Command, Broken: []string{},
	}
	for _, i := range s.Invariants {
		if !i.Held {
			r.Broken = append(r.Broken, i.Name)
		}
	}
	return r
}

// notes describes why the two loads can't be compared fairly, or why one can't be trusted.
func (c *Comparison) notes() []string {
	a, b := c.of[0], c.of[1]
	notes := []string{}
	differ := func(what, of, than string) {
		if of != than {
			notes = append(notes, fmt.Sprintf("%s: %s in A, %s in B", what, of, than))
		}
	}
	rate := func(s *Summary) string {
		return number(s.OfferedRate) + "/s for " + number(s.Generator.PlannedFor) + " s"
	}
	differ("the schedules differ", rate(a), rate(b))
	differ("the sales differ", a.sold(), b.sold())
	differ("the number of users differs", whole(int64(a.Run.Users)), whole(int64(b.Run.Users)))
	differ("the targets differ", strings.Join(a.Run.Targets, ", "), strings.Join(b.Run.Targets, ", "))
	differ("the generators differ", a.machine(), b.machine())
	for i, s := range c.of {
		for _, w := range s.Warnings {
			notes = append(notes, fmt.Sprintf("%c: %s", 'A'+i, w))
		}
	}
	return notes
}

func (s *Summary) machine() string {
	return fmt.Sprintf("%s with %d cores and %d connections", s.Run.OS, s.Generator.Cores, s.Generator.Connections)
}

// HTML returns the comparison as one page that needs no other files. Its charts show both loads
// together.
func (c *Comparison) HTML() []byte {
	p := &page{}
	p.f(`<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">`)
	p.f(`<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`)
	p.f(`<title>Load tests %s and %s</title><style>%s</style></head><body><main>`, text(c.A.Name), text(c.B.Name), reportStyle)
	p.f("<h1>Two load tests</h1><section><dl>")
	for i, r := range []ComparedRun{c.A, c.B} {
		p.f("<dt>%c</dt><dd>%s: %s, %s, %s", 'A'+i, text(r.Name), text(string(r.Verdict)), r.Started.Format("2006-01-02 15:04:05 MST"),
			text(r.Version))
		for _, b := range r.Broken {
			p.f(`<br><span class="bad">✗ %s</span>`, text(b))
		}
		p.f("</dd>")
	}
	p.f("</dl></section>")
	p.warnings(c.Notes, "")
	c.charts(p)
	p.f(`<section><h2>Numbers</h2><div class="wide"><table><tr><th></th><th>A</th><th>B</th><th>change</th></tr>`)
	for i := range c.Rows {
		d := &c.Rows[i]
		p.f("<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>", text(d.Name), d.cell(d.A), d.cell(d.B), d.Changed())
	}
	p.f("</table></div></section></main></body></html>\n")
	return []byte(p.String())
}

// cell is a number with its unit.
func (d *Difference) cell(n *float64) string {
	if n == nil {
		return "–"
	}
	if d.Unit == "" || d.Unit == "/s" {
		return number(*n) + d.Unit
	}
	return number(*n) + " " + d.Unit
}

// Changed returns the change in percent, with its sign, or "" if there is none.
func (d *Difference) Changed() string {
	if d.Change == nil {
		return ""
	}
	return fmt.Sprintf("%+.1f %%", 100**d.Change)
}

// charts draws both loads in the same charts. B is dashed, so that it can be recognized without
// colors.
func (c *Comparison) charts(p *page) {
	lines := []struct{ color, dashes string }{{"var(--accepted)", ""}, {"var(--limited)", "6 4"}}
	legend := `<ul class="legend"><li><i class="thin" style="background:var(--accepted)"></i>A</li>` +
		`<li><i class="thin dashed"></i>B (dashed)</li></ul></section>`
	length, top, low, high := 0.0, 0.0, 1e9, 0.0
	for _, s := range c.of {
		length = max(length, s.Series.seconds())
		for i := range s.Series.Slots {
			top = max(top, s.Series.accepted(i))
		}
		l, h := s.Series.latencyRange()
		low, high = min(low, l), max(high, h)
	}
	p.f(`<section><h2>Accepted over time</h2><p class="dim">Purchases per second, by the time of the answer.</p>`)
	chart := newChart("Purchases accepted per second, of both loads", length, 0, nice(max(top, 1)))
	chart.axes("s", "/s")
	for n, s := range c.of {
		chart.path(lines[n].color, lines[n].dashes)
		for i := range s.Series.Slots {
			chart.point(i == 0, (float64(i)+0.5)*s.Series.SlotMS/1000, s.Series.accepted(i))
		}
		chart.f(`"/>`)
	}
	p.WriteString(chart.done())
	p.WriteString(legend)
	if high > 0 {
		p.f(`<section><h2>p99 latency over time</h2><p class="dim">Of purchases, by the time of the answer.</p>`)
		chart := newLogChart("p99 latency of purchases over time, of both loads", length, low, high)
		chart.decades()
		chart.ticksX("s")
		for n, s := range c.of {
			chart.latencyLine(&s.Series, func(s *SlotReport) float64 { return s.P99 }, lines[n].color, lines[n].dashes)
		}
		p.WriteString(chart.done())
		p.WriteString(legend)
	}
	names := slices.Sorted(maps.Keys(c.of[0].Curves))
	for _, name := range names {
		a, b := c.of[0].Curves[name], c.of[1].Curves[name]
		if len(a) < 2 || len(b) < 2 {
			continue
		}
		p.f(`<section><h2>Latency of %s</h2>`, text(strings.ReplaceAll(name, "_", " ")))
		chart := curveChart("Latency by percentile, of both loads", a, b)
		chart.curve(a, lines[0].color, lines[0].dashes)
		chart.curve(b, lines[1].color, lines[1].dashes)
		p.WriteString(chart.done())
		p.WriteString(legend)
	}
}

// accepted returns how many purchases a second were accepted in a slot.
func (s *SeriesReport) accepted(i int) float64 {
	return float64(s.Slots[i].Outcomes[Accepted.String()]) * 1000 / s.SlotMS
}
