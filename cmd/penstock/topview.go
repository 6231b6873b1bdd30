package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/penstock/penstock/internal/live"
	"github.com/penstock/penstock/seckill"
)

// topPage is a page of the view, below the header.
type topPage int

const (
	pageHeader topPage = iota
	pageTonight
	pageMachines
	pageLimits
	pages
)

// topView draws a snapshot. All text of the snapshot comes from outside and goes through shown.
type topView struct {
	snapshot *live.Snapshot // not nil when it is drawn
	received time.Time      // when the snapshot came; zero means now
	trouble  string         // why there is no newer snapshot; "" if there is no trouble
	now      time.Time
	zone     *time.Location // the zone in which times are shown; nil is the machine's
	page     topPage
	width    int
	screen   screen
	plain    bool // ASCII only
}

// unknown is shown for an unknown number.
const unknown = "-"

// frame returns the lines of a screen: the header, the page from line scroll on, and the keys. It
// also returns scroll, limited to the length of the page.
func (v *topView) frame(height, scroll int) ([]string, int) {
	head := v.header()
	if v.page != pageHeader {
		head = append(head, v.abnormal(3)...)
	}
	head = append(head, "")
	body := v.body()
	room := max(height-len(head)-1, 0)
	scroll = max(min(scroll, len(body)-room), 0)
	lines := append(head, body[scroll:min(scroll+room, len(body))]...)
	for len(lines) < height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(min(len(lines), height-1), 0)], v.keys(scroll, len(body)-room))
	return v.clip(lines), scroll
}

// whole returns all pages, one after the other.
func (v *topView) whole() []string {
	lines := v.header()
	for _, part := range [][]string{v.news(), v.tonight(), v.machines(), v.limits()} {
		lines = append(append(lines, ""), part...)
	}
	return v.clip(lines)
}

// clip cuts lines at the width. On an ASCII terminal it replaces or drops other characters.
func (v *topView) clip(lines []string) []string {
	tail := "…"
	if v.plain {
		tail = "~"
	}
	for i := range lines {
		lines[i] = strings.TrimRight(ansi.Truncate(lines[i], v.width, tail), " ")
		if v.plain {
			lines[i] = strings.NewReplacer("·", "|", "→", "->", "↑", "^", "↓", "v", "–", "-").Replace(lines[i])
		}
	}
	return lines
}

func (v *topView) body() []string {
	switch v.page {
	case pageTonight:
		return v.tonight()
	case pageMachines:
		return v.machines()
	case pageLimits:
		return v.limits()
	}
	return v.summary()
}

// header returns the installation's totals, and how old they are.
func (v *topView) header() []string {
	s := v.snapshot
	parts := []string{v.screen.paint(ansiBold, "Penstock"), v.clock(s.At), v.freshness()}
	if !s.Complete && len(s.Missing) > 0 {
		parts = append(parts, v.screen.paint(ansiYellow, "without "+names(s.Missing)))
	}
	lines := v.wrap(parts)
	if v.trouble != "" {
		lines = append(lines, v.lines(v.screen.paint(ansiYellow, shown(v.trouble)), 2, "")...)
	}
	refused, reasons := refusals(s.Totals.Refused)
	parts = []string{
		"accepted " + rate(s.Totals.Accepted) + "/s", "paid " + rate(s.Totals.Paid) + "/s", "refused " + rate(refused) + "/s",
	}
	if refused > 0 {
		parts = append(parts, reasons)
	}
	lines = append(lines, v.wrap(parts)...)
	parts = []string{"p50 " + milliseconds(s.Latency.P50), "p99 " + milliseconds(s.Latency.P99),
		"p99.9 " + milliseconds(s.Latency.P999), "level " + shown(s.Level)}
	if s.Queue.Lag != nil {
		lag := "lag " + grouped(*s.Queue.Lag)
		if s.Queue.Oldest != nil && *s.Queue.Lag > 0 {
			lag += " (" + seconds(*s.Queue.Oldest) + ")"
		}
		parts = append(parts, lag)
	}
	return append(lines, v.wrap(parts)...)
}

// staleAfter is the age from which the view shows the age of its data.
const staleAfter = 3 * time.Second

// freshness tells how old the data is, by this machine's clock alone.
func (v *topView) freshness() string {
	age := time.Duration(0)
	if !v.received.IsZero() {
		age = v.now.Sub(v.received)
	}
	switch {
	case v.trouble != "":
		return v.screen.paint(ansiRed, "no connection, data is "+seconds(age.Seconds())+" old, trying again")
	case age >= staleAfter:
		return v.screen.paint(ansiYellow, "data is "+seconds(age.Seconds())+" old")
	}
	return v.screen.paint(ansiGreen, "live")
}

// abnormal lists the findings, a line each, in at most `most` lines.
func (v *topView) abnormal(most int) []string {
	found := v.snapshot.Abnormal
	switch {
	case len(found) > 0:
	case v.trouble != "": // the snapshot is old
		return []string{v.screen.paint(ansiYellow, "All was well at the last answer.")}
	case !v.snapshot.Complete:
		return []string{v.screen.paint(ansiYellow, "All is well, as far as it is known.")}
	default:
		return []string{v.screen.paint(ansiGreen, "All is well.")}
	}
	var lines []string
	for i := range found[:min(most, len(found))] {
		lines = append(lines, v.finding(&found[i]))
	}
	if more := len(found) - most; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more: press 1", more))
	}
	return lines
}

// finding draws one finding.
func (v *topView) finding(f *live.Finding) string {
	text := shown(strings.TrimSuffix(f.Text, "."))
	if f.Subject != "" && !strings.Contains(f.Text, f.Subject) {
		text = shown(f.Subject) + ": " + text
	}
	if f.Since != nil {
		text += ", for " + seconds(max(v.snapshot.At.Sub(*f.Since).Seconds(), 0))
	}
	return v.severity(f.Severity) + "  " + text
}

func (v *topView) severity(s string) string {
	colors := map[string]string{"critical": ansiRed, "warning": ansiYellow}
	text := fmt.Sprintf("%-8s", shown(s))
	if color := colors[s]; color != "" {
		return v.screen.paint(color, text)
	}
	return text
}

// summary is the first page: the findings, then the shortest parts of the other pages.
func (v *topView) summary() []string {
	lines := append(v.news(), "")
	lines = append(lines, v.activities(false)...)
	lines = append(lines, "")
	return append(lines, v.servers()...)
}

// news lists all findings, each with a hint, then the last change and the refunds that are due.
func (v *topView) news() []string {
	lines := []string{v.title("NOT NORMAL")}
	if len(v.snapshot.Abnormal) == 0 {
		lines = append(lines, v.abnormal(0)...)
	}
	for i := range v.snapshot.Abnormal {
		f := &v.snapshot.Abnormal[i]
		lines = append(lines, v.lines(v.finding(f), 3, "          ")...)
		if f.Until != nil {
			lines = append(lines, "          ends by itself "+v.when(*f.Until))
		}
		if f.Ctl != "" {
			lines = append(lines, v.lines("→ "+shown(f.Ctl), 3, "          ")...)
		}
		if f.Runbook != "" {
			lines = append(lines, v.lines("→ "+shown(f.Runbook), 2, "          ")...)
		}
	}
	if c := v.snapshot.LastChange; c != nil {
		text := fmt.Sprintf("last change %d, %s ago, by %s: %s", c.Number, seconds(max(v.snapshot.At.Sub(c.At).Seconds(), 0)),
			shown(c.By), shown(c.Text))
		lines = append(lines, v.lines(text, 2, "")...)
	}
	for _, m := range v.snapshot.Money {
		money := seckill.Money{Minor: m.Amount, Currency: m.Currency}
		lines = append(lines, fmt.Sprintf("to be refunded: %s, %s", shown(money.String()), counted(m.Count, "payment")))
	}
	return lines
}

func (v *topView) title(text string) string { return v.screen.paint(ansiBold, text) }

// tonight lists the activities with their items.
func (v *topView) tonight() []string { return v.activities(true) }

func (v *topView) activities(items bool) []string {
	if len(v.snapshot.Activities) == 0 {
		return []string{v.title("ACTIVITIES"), "no activity is published"}
	}
	t := newTopTable("ACTIVITY", "STATE:3", ">ACC/S", ">REFUSED/S:2", ">PAID/S:4", ">LEFT", ">OF:1", ">HELD:5", ">SOLD:6", ">OUT IN:0")
	for i := range v.snapshot.Activities {
		a := &v.snapshot.Activities[i]
		refused, _ := refusals(a.Rates.Refused)
		out := unknown
		if a.SoldOutIn != nil {
			out = seconds(*a.SoldOutIn)
		}
		t.row(append([]string{shown(a.Activity), v.state(a), rate(a.Rates.Accepted), rate(refused), rate(a.Rates.Paid)},
			append(units(&a.Ledger), out)...)...)
		if !items {
			continue
		}
		for j := range a.Items {
			item := &a.Items[j]
			state := shown(seckill.Money{Minor: item.Price, Currency: item.Currency}.String())
			if item.SoldOut {
				state = "sold out"
			}
			t.row(append([]string{"  " + shown(item.SKU), state, rate(item.Accepted), "", ""}, append(units(&item.Ledger), "")...)...)
		}
		if a.MoreItems > 0 {
			t.row(fmt.Sprintf("  and %s more", grouped(a.MoreItems)))
		}
	}
	lines := t.draw(v)
	if r := v.snapshot.Others; r.Requests > 0 {
		refused, _ := refusals(r.Refused)
		lines = append(lines, fmt.Sprintf("all others: accepted %s/s, refused %s/s", rate(r.Accepted), rate(refused)))
	}
	return lines
}

// units returns available, total, held and sold, or unknown.
func units(l *live.Ledger) []string {
	if l.At == nil {
		return []string{unknown, unknown, unknown, unknown}
	}
	return []string{grouped(l.Available), grouped(l.Total), grouped(l.Held), grouped(l.Sold)}
}

// state returns an activity's state, and when it changes.
func (v *topView) state(a *live.Activity) string {
	switch a.State {
	case "scheduled":
		return "starts " + v.until(a.StartsAt)
	case "on-sale":
		return "ends " + v.until(a.EndsAt)
	}
	return shown(a.State)
}

// until returns the span until a future time, by the installation's clock.
func (v *topView) until(t time.Time) string {
	left := t.Sub(v.snapshot.At).Seconds()
	if left <= 0 {
		return "now"
	}
	return "in " + seconds(left)
}

// when returns a future time with its zone, and the span until then.
func (v *topView) when(t time.Time) string {
	return v.until(t) + ", at " + v.clock(t)
}

// clock shows the time of day.
func (v *topView) clock(t time.Time) string {
	zone := v.zone
	if zone == nil {
		zone = time.Local
	}
	return t.In(zone).Format("15:04:05 Z07:00")
}

// machines lists nodes, servers, queue, shards, hops and probes.
func (v *topView) machines() []string {
	t := newTopTable("NODE", "ROLE:4", "STATE", "LEVEL:2", ">IN FLIGHT:3", ">CPU:5", ">MEMORY:6", ">ACC/S", ">LAG:1", "VERSION:7")
	for i := range v.snapshot.Nodes {
		n := &v.snapshot.Nodes[i]
		lag := unknown
		if n.Lag != nil {
			lag = grouped(*n.Lag)
		}
		t.row(shown(n.Node), shown(n.Role), nodeState(n), shown(n.Level), grouped(n.InFlight), rate(n.CPU), bytesText(n.Memory),
			rate(n.Accepted), lag,
			shown(n.Version))
		for _, name := range slices.Sorted(maps.Keys(n.Breakers)) {
			t.row("  breaker "+shown(name), "", shown(n.Breakers[name]))
		}
	}
	lines := append(t.draw(v), "")
	lines = append(lines, v.servers()...)
	lines = append(lines, "")
	q, shards := &v.snapshot.Queue, &v.snapshot.Shards
	lag, oldest, catchUp := unknown, unknown, unknown
	if q.Lag != nil {
		lag = grouped(*q.Lag)
	}
	if q.Oldest != nil {
		oldest = seconds(*q.Oldest)
	}
	if q.CatchUp != nil {
		catchUp = seconds(*q.CatchUp)
	}
	lines = append(lines, v.wrap([]string{"queue: lag " + lag, "oldest " + oldest, "caught up in " + catchUp,
		"dead letters " + grouped(q.Letters)})...)
	lines = append(lines, v.wrap([]string{
		"shards: " + grouped(shards.Open) + " open", grouped(shards.Closed) + " closed", grouped(shards.Rebuilding) + " being rebuilt",
	})...)
	if len(v.snapshot.Hops) > 0 {
		t := newTopTable("HOP", ">P50", ">P99", ">DEADLINE:2", ">LATE")
		for _, h := range v.snapshot.Hops {
			t.row(shown(h.Hop), milliseconds(h.P50), milliseconds(h.P99), milliseconds(&h.Deadline), grouped(h.Late))
		}
		lines = append(append(lines, ""), t.draw(v)...)
	}
	if len(v.snapshot.Probes) > 0 {
		t := newTopTable("PROBE", "NODE", "STATE", ">TOOK:1", "ERROR:2")
		for i := range v.snapshot.Probes {
			p := &v.snapshot.Probes[i]
			state := "ok"
			if !p.OK {
				state = "FAILS"
			}
			t.row(shown(p.Probe), shown(p.Node), state, milliseconds(&p.Took), shown(p.Error))
		}
		lines = append(append(lines, ""), t.draw(v)...)
	}
	return append(lines, v.objectives()...)
}

// objectives lists the objectives and what is left of their error budgets.
func (v *topView) objectives() []string {
	if len(v.snapshot.Objectives) == 0 {
		return nil
	}
	percent := func(p *float64, digits int) string {
		if p == nil {
			return unknown
		}
		return strconv.FormatFloat(*p, 'f', digits, 64) + " %"
	}
	t := newTopTable("OBJECTIVE", "OF", ">TARGET:1", ">IS", ">BUDGET LEFT", ">BAD:2", ">ASKED:3")
	for i := range v.snapshot.Objectives {
		o := &v.snapshot.Objectives[i]
		name := shown(o.Objective)
		if o.Limit != nil {
			name += " " + milliseconds(o.Limit)
		}
		target := strconv.FormatFloat(o.Target, 'f', -1, 64) + " %"
		t.row(name, shown(o.Of), target, percent(o.Actual, 3), percent(o.Budget, 0), grouped(int64(o.Bad)), grouped(int64(o.Asked)))
	}
	return append([]string{""}, t.draw(v)...)
}

func nodeState(n *live.Node) string {
	switch {
	case n.Lost:
		return "LOST " + seconds(n.Age)
	case n.Unseen:
		return "UNSEEN"
	case n.Draining:
		return "draining"
	case n.Behind:
		return "old settings"
	}
	return "ok"
}

func (v *topView) servers() []string {
	t := newTopTable("SERVER", "STATE", "SEEN BY:2", "DETAIL:1")
	for i := range v.snapshot.Servers {
		s := &v.snapshot.Servers[i]
		t.row(strings.TrimSpace(shown(s.Server)+" "+shown(s.Instance)), shown(s.State), names(s.Nodes), shown(s.Detail))
	}
	if len(v.snapshot.Servers) == 0 {
		return []string{v.title("SERVERS"), "none is known"}
	}
	return t.draw(v)
}

// limits lists the limits with their refusals, the callers and the switches.
func (v *topView) limits() []string {
	var lines []string
	if len(v.snapshot.Limits) == 0 {
		lines = append(lines, v.title("LIMITS"), "no limit is used now")
	} else {
		t := newTopTable("LIMIT", "KEY:2", "MODE:1", ">RATE", ">ALLOWED/S", ">REFUSED/S", ">SHADOWED/S:3")
		for i := range v.snapshot.Limits {
			l := &v.snapshot.Limits[i]
			configured := unknown // a limit without a rate bounds requests in flight, or a day's tokens
			if l.Configured > 0 {
				configured = rate(l.Configured)
			}
			t.row(shown(l.Policy), shown(l.Key), shown(l.Mode), configured, rate(l.Allowed), rate(l.Refused), rate(l.Shadowed))
		}
		lines = append(lines, t.draw(v)...)
	}
	if len(v.snapshot.Refused) > 0 {
		t := newTopTable("REFUSED MOST", "LIMIT", ">TIMES")
		for _, r := range v.snapshot.Refused {
			t.row(shown(r.Key), shown(r.Policy), rate(r.Refused))
		}
		lines = append(append(lines, ""), t.draw(v)...)
	}
	if len(v.snapshot.Callers) > 0 {
		t := newTopTable("CALLER", ">ASKED/S", ">ACC/S", ">REFUSED/S:1")
		for i := range v.snapshot.Callers {
			c := &v.snapshot.Callers[i]
			refused, _ := refusals(c.Rates.Refused)
			t.row(shown(c.Caller), rate(c.Rates.Requests), rate(c.Rates.Accepted), rate(refused))
		}
		lines = append(append(lines, ""), t.draw(v)...)
	}
	lines = append(lines, "")
	if len(v.snapshot.Switches) == 0 {
		return append(lines, v.title("SWITCHES"), "none is set")
	}
	t := newTopTable("SWITCH", "FOR", "VALUE", "SINCE:2", "ENDS:1", "BY:3", "WHY:4")
	for i := range v.snapshot.Switches {
		s := &v.snapshot.Switches[i]
		since, ends := unknown, "never"
		if s.Since != nil {
			since = seconds(max(v.snapshot.At.Sub(*s.Since).Seconds(), 0))
		}
		if s.Expires != nil {
			ends = v.until(*s.Expires)
		}
		if s.Stale {
			since += " (forgotten?)"
		}
		t.row(shown(s.Switch), shown(cmp.Or(s.Scope, "all")), shown(s.Value), since, ends, shown(s.By), shown(s.Reason))
	}
	return append(lines, t.draw(v)...)
}

// keys returns the last line: the pages, and the keys for them.
func (v *topView) keys(scroll, most int) string {
	titles := []string{"1 header", "2 tonight", "3 machines", "4 limits"}
	if v.width < 60 {
		titles = []string{"1", "2", "3", "4"}
	}
	titles[v.page] = "[" + titles[v.page] + "]"
	line := strings.Join(titles, "  ")
	if most > 0 {
		line += fmt.Sprintf("  ↑↓ %d/%d", scroll, most)
	}
	return line + "  q quit"
}

// wrap puts parts into as few lines as they need.
func (v *topView) wrap(parts []string) []string {
	var lines []string
	for _, part := range parts {
		last := len(lines) - 1
		if last < 0 || ansi.StringWidth(lines[last])+3+ansi.StringWidth(part) > v.width {
			lines = append(lines, part)
			continue
		}
		lines[last] += " · " + part
	}
	return lines
}

// lines breaks text into at most `most` lines. The lines after the first are indented. The first is
// indented too if text begins with spaces.
func (v *topView) lines(text string, most int, indent string) []string {
	room := max(v.width-len(indent), 10)
	broken := strings.Split(ansi.Wrap(text, room, " "), "\n")
	if len(broken) > most {
		broken = append(broken[:most-1:most-1], strings.Join(broken[most-1:], " "))
	}
	first := strings.HasPrefix(text, "→")
	for i := range broken {
		if i > 0 || first {
			broken[i] = indent + broken[i]
		}
	}
	return broken
}

// refusals returns the sum of refusals, and the most frequent codes.
func refusals(byCode map[string]float64) (sum float64, most string) {
	codes := slices.SortedFunc(maps.Keys(byCode), func(a, b string) int {
		return cmp.Or(cmp.Compare(byCode[b], byCode[a]), cmp.Compare(a, b))
	})
	var words []string
	for _, code := range codes {
		sum += byCode[code]
		if len(words) < 3 && byCode[code] > 0 {
			words = append(words, shown(code)+" "+rate(byCode[code]))
		}
	}
	return sum, strings.Join(words, ", ")
}

// names lists some names.
func names(all []string) string {
	const most = 3
	text := strings.Join(all[:min(most, len(all))], ", ")
	if more := len(all) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return shown(text)
}

// rate writes a number of things per second.
func rate(n float64) string {
	switch {
	case math.IsNaN(n) || math.IsInf(n, 0):
		return unknown
	case n != 0 && math.Abs(n) < 9.95 && n != math.Trunc(n):
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return grouped(int64(math.Round(n)))
}

// milliseconds writes a time in milliseconds; nil is unknown.
func milliseconds(ms *float64) string {
	switch {
	case ms == nil:
		return unknown
	case *ms >= 10_000:
		return seconds(*ms / 1000)
	case *ms >= 10:
		return grouped(int64(math.Round(*ms))) + " ms"
	}
	return strconv.FormatFloat(*ms, 'f', 1, 64) + " ms"
}

// seconds writes a span of time in its largest unit, as people say it.
func seconds(s float64) string {
	switch {
	case math.IsNaN(s) || s > 1e12:
		return unknown
	case s < 9.95 && s != math.Trunc(s):
		return strconv.FormatFloat(s, 'f', 1, 64) + " s"
	case s < 120:
		return strconv.Itoa(int(math.Round(s))) + " s"
	case s < 120*60:
		return strconv.Itoa(int(s/60)) + " m"
	case s < 48*3600:
		return strconv.Itoa(int(s/3600)) + " h"
	}
	if days := int(s / 86400); days < 2*365 {
		return strconv.Itoa(days) + " d"
	}
	return strconv.Itoa(int(s/86400/365)) + " y"
}

// bytesText writes a size.
func bytesText(n int64) string {
	if n >= 10<<30 {
		return grouped(n>>30) + " GB"
	}
	return grouped(n>>20) + " MB"
}

// topTable is a table that fits a width: it drops the less important columns first, then cuts the
// first column.
type topTable struct {
	columns []topColumn
	rows    int
}

type topColumn struct {
	title string
	right bool
	drop  int // the column with the largest value is dropped first; -1 is never dropped
	cells []string
}

// newTopTable makes a table of titles such as ">HELD:5": > aligns to the right, and 5 is the
// column's drop value.
func newTopTable(titles ...string) *topTable {
	t := &topTable{columns: make([]topColumn, len(titles))}
	for i, title := range titles {
		c := &t.columns[i]
		c.drop = -1
		c.title, c.right = strings.TrimPrefix(title, ">"), strings.HasPrefix(title, ">")
		if name, drop, ok := strings.Cut(c.title, ":"); ok {
			n, err := strconv.Atoi(drop)
			if err != nil {
				panic("top: column " + title) // the titles are constants in this file
			}
			c.title, c.drop = name, n
		}
	}
	return t
}

// row adds a row; cells that are missing are empty.
func (t *topTable) row(cells ...string) {
	for i := range t.columns {
		cell := ""
		if i < len(cells) {
			cell = cells[i]
		}
		t.columns[i].cells = append(t.columns[i].cells, cell)
	}
	t.rows++
}

// minFirst is how narrow the first column may get: a fifth of a wide terminal.
func (v *topView) minFirst() int { return max(v.width/5, 10) }

// cutMiddle cuts a name that is too wide in its middle: names of a sale's items mostly differ at
// their ends.
func cutMiddle(name string, width int) string {
	over := ansi.StringWidth(name) - width
	if over <= 0 || width < 8 {
		return name
	}
	tail := width / 3
	return ansi.Truncate(name, width-tail-1, "") + "~" + ansi.TruncateLeft(name, width+over-tail, "")
}

// draw returns the table in lines.
func (t *topTable) draw(v *topView) []string {
	columns := slices.Clone(t.columns)
	widths := make([]int, len(columns))
	for i := range columns {
		widths[i] = ansi.StringWidth(columns[i].title)
		for _, cell := range columns[i].cells {
			widths[i] = max(widths[i], ansi.StringWidth(cell))
		}
	}
	sum := func() int {
		n := 2 * (len(widths) - 1)
		for _, w := range widths {
			n += w
		}
		return n
	}
	first := min(widths[0], v.minFirst())
	for sum()-widths[0]+first > v.width {
		worst := -1
		for i := range columns {
			if columns[i].drop >= 0 && (worst < 0 || columns[i].drop > columns[worst].drop) {
				worst = i
			}
		}
		if worst < 0 {
			break
		}
		columns, widths = slices.Delete(columns, worst, worst+1), slices.Delete(widths, worst, worst+1)
	}
	if over := sum() - v.width; over > 0 {
		widths[0] = max(widths[0]-over, first)
	}
	lines := make([]string, 0, t.rows+1)
	for r := -1; r < t.rows; r++ {
		var line strings.Builder
		for i := range columns {
			cell := columns[i].title
			if r >= 0 {
				cell = columns[i].cells[r]
			}
			if i == 0 {
				cell = cutMiddle(cell, widths[i])
			}
			cell = ansi.Truncate(cell, widths[i], "~")
			gap := strings.Repeat(" ", widths[i]-ansi.StringWidth(cell))
			if i > 0 {
				line.WriteString("  ")
			}
			if columns[i].right {
				line.WriteString(gap + cell)
			} else {
				line.WriteString(cell + gap)
			}
		}
		if r < 0 {
			lines = append(lines, v.title(line.String()))
		} else {
			lines = append(lines, line.String())
		}
	}
	return lines
}
