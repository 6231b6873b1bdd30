package loadtest

import (
	"cmp"
	_ "embed"
	"fmt"
	"html"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed report.css
var reportStyle string

// page is a report while it is written.
type page struct {
	strings.Builder
	s *Summary
}

// HTML returns the report as one page that needs nothing else: no script, no font, no request.
// Every chart has its table.
func (s *Summary) HTML() []byte {
	p := &page{s: s}
	p.f(`<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">`)
	p.f(`<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`)
	p.f(`<title>Load test of %s: %s</title><style>%s</style></head><body><main>`, text(s.sold()), s.Verdict, reportStyle)
	p.f("<h1>Load test of %s</h1>", text(s.sold()))
	p.f(`<p class="dim">%s, seed %d</p>`, s.Run.Started.Format("2006-01-02 15:04:05 MST"), s.Run.Seed)
	p.verdict()
	p.tiles()
	p.overTime()
	p.latencies()
	p.latencyOverTime()
	p.judgement()
	p.parts("Items", "item", s.Items, s.MoreItems)
	if len(s.Callers) > 1 {
		p.parts("Callers", "caller", s.Callers, 0)
	}
	p.oddities()
	p.generator()
	p.card()
	p.f("</main></body></html>\n")
	return []byte(p.String())
}

// sold describes the purchases.
func (s *Summary) sold() string {
	if len(s.Items) == 1 {
		return s.Items[0].Name
	}
	return fmt.Sprintf("%d items of %s", len(s.Items)+s.MoreItems, strings.Join(s.Run.Sales, ", "))
}

// f writes what is formatted. Text from outside goes through text first.
func (p *page) f(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// warnings writes a note with a line for each text, and what ends it.
func (p *page) warnings(texts []string, end string) {
	if len(texts) == 0 {
		return
	}
	p.f(`<div class="warning" role="note">`)
	for i, w := range texts {
		if i > 0 {
			p.f("<br>")
		}
		p.f("⚠ %s%s", text(w), end)
	}
	p.f("</div>")
}

// text escapes foreign text.
func text(s string) string { return html.EscapeString(s) }

func (p *page) verdict() {
	s := p.s
	class, words := "", "Passed"
	switch s.Verdict {
	case Broken:
		class, words = " not", "Failed: an invariant is broken"
	case Missed:
		class, words = " not", "Failed: an SLO was missed"
	case Interrupted:
		class, words = " half", "Interrupted"
	case Unread:
		class, words = " not", fmt.Sprintf("Not judged: the server didn't answer for %d orders", s.Unread)
	case Nothing:
		class, words = " not", "Failed: "+text(s.nothing)
	}
	held, met := 0, 0
	var wrong []string
	for _, i := range s.Invariants {
		if i.Held {
			held++
		} else {
			wrong = append(wrong, i.Name+": "+i.Detail)
		}
	}
	for _, slo := range s.SLOs {
		if slo.Met {
			met++
		} else {
			wrong = append(wrong, slo.SLO+": measured "+slo.Measured)
		}
	}
	slos := "no SLO was set"
	if n := len(s.SLOs); n > 0 {
		slos = fmt.Sprintf("%d of %d SLOs met", met, n)
	}
	p.f(`<div class="verdict%s"><strong>%s</strong><br>%d of %d invariants hold, %s.`, class, words, held, len(s.Invariants), slos)
	if !s.ReadBack {
		p.f(" Not all orders were read back, so nothing is said about them.")
	}
	for _, w := range wrong {
		p.f(`<br><span class="bad">✗ %s</span>`, text(w))
	}
	p.f("</div>")
	p.warnings(s.Warnings, ".")
}

func (p *page) tiles() {
	s := p.s
	p.f(`<div class="tiles">`)
	for _, t := range [][2]string{
		{whole(s.Sent), "requests sent"},
		{fmt.Sprintf("%s/s", number(s.AchievedRate)), fmt.Sprintf("left, of %s/s planned", number(s.OfferedRate))},
		{whole(s.Accepted), "accepted"},
		{whole(int64(s.OrdersCreated)), "orders found afterwards"},
		{number(s.LatencyMS.P50) + " ms", "median latency"},
		{number(s.LatencyMS.P99) + " ms", "p99 latency"},
		{whole(s.Errors), fmt.Sprintf("errors (%s %%)", strconv.FormatFloat(100*s.ErrorRate, 'f', 2, 64))},
	} {
		p.f(`<div class="tile"><b>%s</b><span>%s</span></div>`, t[0], t[1])
	}
	p.f("</div>")
}

// reportOrder is how outcomes are stacked, the good ones below.
func reportOrder() []Outcome {
	return []Outcome{Accepted, Replayed, SoldOut, PurchaseLimit, Refused, Limited, Shed, Degraded, Unknown, Failed}
}

// present returns the outcomes that came at all.
func (p *page) present() []Outcome {
	var out []Outcome
	for _, o := range reportOrder() {
		if p.s.Outcomes[o.String()].Count > 0 {
			out = append(out, o)
		}
	}
	return out
}

func (p *page) overTime() {
	series := p.s.Series.Slots
	if len(series) == 0 {
		return
	}
	p.f(`<section><h2>Answers over time</h2><p class="dim">Purchases per second by what their answer meant, at the time of the answer.
The line is what was due to leave, looks at the page included.</p>`)
	outcomes := p.present()
	seconds := p.s.Series.SlotMS / 1000
	top := 0.0
	for i := range series {
		slot, sum := &series[i], 0.0
		for _, o := range outcomes {
			sum += float64(slot.Outcomes[o.String()]) / seconds
		}
		top = max(top, sum, slot.Planned/seconds)
	}
	c := newChart("Purchases answered per second, stacked by outcome", p.s.Series.seconds(), 0, nice(top))
	c.axes("s", "/s")
	below := make([]float64, len(series))
	for _, o := range outcomes {
		c.f(`<g fill="var(--%s)">`, o)
		for i := range series {
			n := float64(series[i].Outcomes[o.String()]) / seconds
			if n > 0 {
				from := float64(i) * seconds
				c.bar(from, from+seconds, below[i], below[i]+n)
			}
			below[i] += n
		}
		c.f("</g>")
	}
	c.f(`<path fill="none" stroke="var(--plan)" stroke-width="1.5" stroke-dasharray="4 3" d="`)
	for i := range series {
		from := float64(i) * seconds
		c.step(i == 0, from, from+seconds, series[i].Planned/seconds)
	}
	c.f(`"/>`)
	p.WriteString(c.done())
	p.f(`<ul class="legend">`)
	for _, o := range outcomes {
		p.f(`<li><i style="background:var(--%s)"></i>%s</li>`, o, o)
	}
	p.f(`<li><i class="thin" style="background:var(--plan)"></i>planned</li></ul>`)
	p.slots(outcomes)
	p.f("</section>")
}

// slots is the series as a table.
func (p *page) slots(outcomes []Outcome) {
	p.f(`<details><summary>The same as a table</summary><div class="wide"><table><tr><th>from</th><th>planned</th>`)
	for _, o := range outcomes {
		p.f("<th>%s</th>", o)
	}
	p.f("<th>others</th><th>p50 ms</th><th>p99 ms</th><th>max ms</th></tr>")
	for i := range p.s.Series.Slots {
		slot := &p.s.Series.Slots[i]
		p.f("<tr><td>%s s</td><td>%.0f</td>", number(float64(i)*p.s.Series.SlotMS/1000), slot.Planned)
		for _, o := range outcomes {
			p.f("<td>%d</td>", slot.Outcomes[o.String()])
		}
		p.f("<td>%d</td><td>%s</td><td>%s</td><td>%s</td></tr>", slot.Others, number(slot.P50), number(slot.P99), number(slot.Max))
	}
	p.f("</table></div></details>")
}

// seconds returns how long the series is.
func (s *SeriesReport) seconds() float64 { return float64(len(s.Slots)) * s.SlotMS / 1000 }

func (p *page) latencies() {
	s := p.s
	p.f(`<section><h2>Latency</h2><p class="dim">From when a request was due, whether or not it could leave then. To the right of a
point are the slower ones: at 99 %% one in a hundred.</p>`)
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(s.Curves)), func(n string) bool { return len(s.Curves[n]) < 2 })
	if len(names) > 0 {
		p.curves(names)
	}
	p.f(`<div class="wide"><table><tr><th>in milliseconds</th><th>times</th>`)
	p.f(`<th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr>`)
	row := func(name, times string, m Percentiles) {
		p.f("<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>",
			name, times, number(m.P50), number(m.P90), number(m.P99), number(m.P999), number(m.Max))
	}
	for _, o := range p.present() {
		m := s.Outcomes[o.String()]
		row("buy: "+o.String(), whole(m.Count), m.LatencyMS)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Actions)) {
		if name != Buy.String() {
			row(name, whole(s.Actions[name].Count), s.Actions[name].LatencyMS)
		}
	}
	row("all departures, since they were due", "", s.LatencyMS)
	row("all departures, since they were sent", "", s.Service)
	if s.Confirmed != nil {
		row("click to confirmed order", "", *s.Confirmed)
	}
	p.f("</table></div></section>")
}

func (p *page) curves(names []string) {
	var all [][]float64
	for _, n := range names {
		all = append(all, p.s.Curves[n])
	}
	c := curveChart("Latency by percentile, a curve for each outcome", all...)
	for _, n := range names {
		c.curve(p.s.Curves[n], curveColor(n), "")
	}
	p.WriteString(c.done())
	p.f(`<ul class="legend">`)
	for _, n := range names {
		p.f(`<li><i class="thin" style="background:%s"></i>%s</li>`, curveColor(n), strings.ReplaceAll(n, "_", " "))
	}
	p.f("</ul>")
}

// curveChart is a chart with room for curves of latencies by percentile.
func curveChart(title string, curves ...[]float64) *chart {
	low, high, widest := 1e9, 0.0, 2
	for _, curve := range curves {
		low, high, widest = min(low, curve[0]), max(high, curve[len(curve)-1]), max(widest, len(curve))
	}
	c := newLogChart(title, float64(widest-1), low, high)
	c.decades()
	for nines, label := range []string{"0 %", "90 %", "99 %", "99.9 %", "99.99 %"} {
		if x := float64(nines * 10); x <= float64(widest-1) {
			c.tickX(x, label)
		}
		if x := float64(nines*10 + 3); nines == 0 && x <= float64(widest-1) {
			c.tickX(x, "50 %")
		}
	}
	return c
}

// curve draws latencies by percentile.
func (c *chart) curve(ms []float64, color, dashes string) {
	c.path(color, dashes)
	for i, v := range ms {
		c.point(i == 0, float64(i), v)
	}
	c.f(`"/>`)
}

// path begins a line.
func (c *chart) path(color, dashes string) {
	c.f(`<path fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round" `, color)
	if dashes != "" {
		c.f(`stroke-dasharray="%s" `, dashes)
	}
	c.f(`d="`)
}

// latencyLine draws the latencies of slots over time, with a gap if nothing was answered.
func (c *chart) latencyLine(s *SeriesReport, of func(*SlotReport) float64, color, dashes string) {
	c.path(color, dashes)
	gap := true
	for i := range s.Slots {
		ms := of(&s.Slots[i])
		if ms == 0 {
			gap = true
			continue
		}
		c.point(gap, (float64(i)+0.5)*s.SlotMS/1000, ms)
		gap = false
	}
	c.f(`"/>`)
}

// latencyRange returns the lowest median and the highest p99 of slots; high is 0 if there are none.
func (s *SeriesReport) latencyRange() (low, high float64) {
	low = 1e9
	for i := range s.Slots {
		if slot := &s.Slots[i]; slot.P99 > 0 {
			low, high = min(low, slot.P50), max(high, slot.P99)
		}
	}
	return low, high
}

func curveColor(name string) string {
	if name == scopeConfirmed {
		return "var(--click)"
	}
	return "var(--" + name + ")"
}

func (p *page) latencyOverTime() {
	low, high := p.s.Series.latencyRange()
	if high == 0 {
		return
	}
	p.f(`<section><h2>Latency over time</h2><p class="dim">Of purchases, by the time of the answer; the numbers are in the table of
answers over time.</p>`)
	c := newLogChart("Median and p99 latency of purchases over time", p.s.Series.seconds(), low, high)
	c.decades()
	c.ticksX("s")
	c.latencyLine(&p.s.Series, func(s *SlotReport) float64 { return s.P50 }, "var(--p50)", "")
	c.latencyLine(&p.s.Series, func(s *SlotReport) float64 { return s.P99 }, "var(--p99)", "")
	p.WriteString(c.done())
	p.f(`<ul class="legend"><li><i class="thin" style="background:var(--p50)"></i>median</li>`)
	p.f(`<li><i class="thin" style="background:var(--p99)"></i>p99</li></ul></section>`)
}

func (p *page) judgement() {
	mark := func(held bool) string {
		if held {
			return `<span class="good">✓ yes</span>`
		}
		return `<span class="bad">✗ no</span>`
	}
	p.f(`<section><h2>Invariants</h2><div class="wide"><table><tr><th>name</th><th class="text">holds</th><th class="text">seen</th></tr>`)
	for _, i := range p.s.Invariants {
		p.f(`<tr><td>%s</td><td class="text">%s</td><td class="text">%s</td></tr>`, i.Name, mark(i.Held), text(i.Detail))
	}
	p.f("</table></div></section>")
	if len(p.s.SLOs) > 0 {
		p.f(`<section><h2>SLOs</h2><div class="wide"><table><tr><th>wanted</th><th class="text">met</th><th class="text">measured</th></tr>`)
		for _, slo := range p.s.SLOs {
			p.f(`<tr><td>%s</td><td class="text">%s</td><td class="text">%s</td></tr>`, text(slo.SLO), mark(slo.Met), text(slo.Measured))
		}
		p.f("</table></div></section>")
	}
}

// parts is a table of the purchases of items, or of callers.
func (p *page) parts(title, what string, parts []PartReport, more int) {
	p.f(`<section><h2>%s</h2><div class="wide"><table><tr><th>%s</th><th>purchases</th>`, title, what)
	outcomes := p.present()
	for _, o := range outcomes {
		p.f("<th>%s</th>", o)
	}
	p.f("</tr>")
	for i := range parts {
		p.f("<tr><td>%s</td><td>%s</td>", text(parts[i].Name), whole(parts[i].Sent))
		for _, o := range outcomes {
			p.f("<td>%s</td>", whole(parts[i].Outcomes[o.String()]))
		}
		p.f("</tr>")
	}
	p.f("</table></div>")
	if more > 0 {
		p.f(`<p class="dim">And %s more, that were asked for less.</p>`, whole(int64(more)))
	}
	p.f("</section>")
}

// oddities are the codes, the errors with a sample each, and what became of the orders.
func (p *page) oddities() {
	s := p.s
	p.f(`<section><h2>Codes</h2><div class="wide"><table><tr><th>code</th><th>answers</th><th class="text">first that should not be</th></tr>`)
	codes := slices.Collect(maps.Keys(s.ByCode))
	for code := range s.Samples {
		if _, counted := s.ByCode[code]; !counted {
			codes = append(codes, code)
		}
	}
	slices.Sort(codes)
	for _, code := range codes {
		count := "–"
		if n, ok := s.ByCode[code]; ok {
			count = whole(n)
		}
		p.f(`<tr><td>%s</td><td>%s</td><td class="text">%s</td></tr>`, text(code), count, text(s.Samples[code]))
	}
	p.f("</table></div></section>")
	if len(s.Statuses) == 0 && s.Books == nil {
		return
	}
	p.f(`<section><h2>Orders afterwards</h2><dl>`)
	for _, status := range slices.Sorted(maps.Keys(s.Statuses)) {
		p.f("<dt>%s</dt><dd>%s accepted orders</dd>", text(cmp.Or(status, "not found")), whole(int64(s.Statuses[status])))
	}
	if b := s.Books; b != nil {
		p.f("<dt>server's audit</dt><dd>total %s = available %s + held %s + sold %s, in flight %s</dd>",
			whole(b.Total), whole(b.Available), whole(b.Held), whole(b.Sold), whole(b.InFlight))
	}
	p.f("</dl></section>")
}

func (p *page) generator() {
	g := &p.s.Generator
	p.f(`<section><h2>The generator itself</h2><dl>`)
	p.f("<dt>departures</dt><dd>%s planned in %s s, %s dropped, %s late for want of a connection</dd>",
		whole(g.Planned), number(g.PlannedFor), whole(g.Dropped), whole(g.Crowded))
	p.f("<dt>schedule lag</dt><dd>p50 %s ms, p99 %s ms, max %s ms</dd>", number(g.LagMS.P50), number(g.LagMS.P99), number(g.LagMS.Max))
	p.f("<dt>repeats</dt><dd>%s with the key of an earlier purchase, %s double clicks</dd>", whole(p.s.Repeats), whole(p.s.DoubleClicks))
	p.f("<dt>connections</dt><dd>%d</dd>", g.Connections)
	if g.CPUSeconds != nil {
		p.f("<dt>processor</dt><dd>%s s, %s %% of %d cores</dd>", number(*g.CPUSeconds), number(100**g.CPUShare), g.Cores)
	}
	p.f("<dt>memory</dt><dd>%d MB, %d garbage collections, %s ms of pauses</dd>", g.MemoryBytes>>20, g.Collections, number(g.PausesMS))
	p.f("</dl></section>")
}

func (p *page) card() {
	r := &p.s.Run
	p.f("<section><h2>This run</h2><pre>%s</pre><dl>", text(r.Command))
	for _, line := range [][2]string{
		{"targets", strings.Join(r.Targets, ", ")}, {"activities", strings.Join(r.Sales, ", ")},
		{"users", whole(int64(r.Users))}, {"seed", strconv.FormatUint(r.Seed, 10)},
		{"started", r.Started.Format(time.RFC3339)}, {"version", r.Version}, {"machine", r.OS + ", " + r.Go},
	} {
		p.f("<dt>%s</dt><dd>%s</dd>", line[0], text(line[1]))
	}
	p.f("</dl></section>")
}

// whole writes a number with narrow spaces between groups of three digits.
func whole(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteString("\u202f")
		}
		b.WriteRune(d)
	}
	return b.String()
}

// number writes a measured value with about three digits.
func number(x float64) string {
	switch {
	case x >= 1000:
		return whole(int64(x + 0.5))
	case x >= 100, x == float64(int64(x)):
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}
