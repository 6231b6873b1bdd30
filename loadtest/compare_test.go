package loadtest

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// ran returns a summary of a load with an accepted purchase every milliseconds ms.
func ran(rate float64, ms int) *Summary {
	r := &LoadResult{Length: 10 * time.Second, SlotWidth: time.Second, Planned: int64(10 * rate), Left: int64(10 * rate), ReadBack: true}
	r.Scheduled, r.Service, r.Lag = newLatency(), newLatency(), newLatency()
	r.Buy.Latency[Accepted] = newLatency()
	for range r.Planned {
		d := time.Duration(ms) * time.Millisecond
		r.Scheduled.record(d)
		r.Service.record(d)
		r.Buy.Latency[Accepted].record(d)
	}
	r.Buy.Sent, r.Buy.Counts[Accepted] = r.Planned, r.Planned
	for range 10 {
		slot := Stretch{Planned: rate, P50: time.Duration(ms) * time.Millisecond, P99: time.Duration(ms) * time.Millisecond}
		slot.Outcomes[Accepted] = int64(rate)
		r.Series = append(r.Series, slot)
	}
	r.Items = []Part{{Name: "618/phone-x", Counts: r.Buy.Counts}}
	return NewSummary(r, nil, RunCard{Version: "v1", Sales: []string{"618"}})
}

func TestCompare(t *testing.T) {
	a, b := ran(100, 20), ran(100, 30)
	b.Invariants = []Invariant{{Name: NoOversell}}
	c := Compare("before", a, "<after>", b)
	want := map[string]string{
		"sent": "1000 1000 +0.0 %", "accepted": "1000 1000 +0.0 %", "errors": "0 0 ", "planned rate": "100 100 +0.0 %",
		"all, since due: p99": "20 30 +50.0 %", "accepted: p50": "20 30 +50.0 %",
	}
	for _, d := range c.Rows {
		if w, ok := want[d.Name]; ok {
			if got := fmt.Sprintf("%.0f %.0f %s", *d.A, *d.B, d.Changed()); got != w {
				t.Errorf("%s: %s, want %s", d.Name, got, w)
			}
			delete(want, d.Name)
		}
	}
	if len(want) > 0 || len(c.Notes) > 0 || len(c.A.Broken) != 0 || len(c.B.Broken) != 1 {
		t.Errorf("lacks %v, notes %q, broken %v and %v", want, c.Notes, c.A.Broken, c.B.Broken)
	}
	page := string(c.HTML())
	if strings.Count(page, "<svg") != 3 || strings.Count(page, "stroke-dasharray") != 3 || !strings.Contains(page, "&lt;after&gt;") {
		t.Errorf("%d charts, %d dashed lines", strings.Count(page, "<svg"), strings.Count(page, "stroke-dasharray"))
	}
	if found := regexp.MustCompile(`(?i)<script|\b(src|href)=|url\(|%!|NaN|Inf`).FindString(page); found != "" {
		t.Errorf("the page has %q", found)
	}
}

// Different loads are compared, with a note that they differ. An answer that only one of them got
// has no number for the other.
func TestCompare_LoadsThatAreNotAlike(t *testing.T) {
	a, b := ran(100, 20), ran(200, 20)
	b.Outcomes[SoldOut.String()] = Measure{Count: 3}
	b.Warnings = []string{"late"}
	c := Compare("a", a, "b", b)
	if got := strings.Join(c.Notes, "\n"); got != "the schedules differ: 100/s for 10 s in A, 200/s for 10 s in B\nB: late" {
		t.Errorf("notes: %s", got)
	}
	for _, d := range c.Rows {
		if d.Name == "sold-out: p99" && (d.A != nil || d.B == nil || d.Change != nil) {
			t.Errorf("%s: %v, %v, changed by %v", d.Name, d.A, d.B, d.Change)
		}
	}
	if page := string(c.HTML()); !strings.Contains(page, "the schedules differ") || !strings.Contains(page, "<td>–</td>") {
		t.Error("the page doesn't say that the loads differ")
	}
}

func TestReadSummary_RefusesWhatIsNone(t *testing.T) {
	for _, text := range []string{"", "[]", "{}", `{"verdict":"passed","run":{"version":"v1"},"outcomes":{},"series":{"slot_ms":0}}`} {
		if _, err := ReadSummary([]byte(text)); err == nil || !strings.Contains(err.Error(), "not a summary of a load test") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
