package loadtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/servers"
)

// The report of a load with every kind of answer is shown in a real browser. Everything is visible
// inside its frames, nothing was blocked, and no script was run.
func TestReport_InABrowser(t *testing.T) {
	s := newStub(t, 100, 2, honest)
	url := s.listen()
	cfg := testLoad(s, url)
	cfg.Phases[0].Mix = Mix{Repeat: 0.2, DoubleClick: 0.1, Browse: 0.1, Poll: 1, Pay: 0.5, Cancel: 0.2}
	r := sendLoad(t, cfg)
	r.Samples = map[string]string{"internal": `<script>document.title = "run"</script>` + strings.Repeat("a long word ", 50) + strings.Repeat("x", 300)}
	r.Invariants = append(r.Invariants, Invariant{Name: NoOversell, Detail: strings.Repeat("order-", 60)})
	for i := range maxSlots - len(r.Series) { // as many as a report ever has
		r.Series = append(r.Series, Stretch{Start: time.Duration(i) * time.Second, Planned: 987_654, P50: time.Millisecond, P99: time.Minute, Max: time.Hour})
	}
	slos, err := ParseSLOs("p99(accepted)<1ns")
	if err != nil {
		t.Fatal(err)
	}
	page := NewSummary(r, slos, RunCard{Command: "penstock loadtest --target " + url, Sales: []string{"618-phones"}}).HTML()
	for _, width := range []int{1280, 520} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			look := servers.Render(t, page, width)
			if look.Overflow > 0 {
				t.Errorf("%d pixels wider than the window", look.Overflow)
			}
			if look.Charts != 3 {
				t.Errorf("%d charts, want answers, latency, latency over time", look.Charts)
			}
			if len(look.Outside) > 0 {
				t.Errorf("sticks out of its frame: %q", look.Outside)
			}
			if len(look.Console) > 0 || strings.HasSuffix(look.Title, "run") {
				t.Errorf("title %q, console %q", look.Title, look.Console)
			}
			for _, want := range []string{"phone-x", "accepted", "sold-out", "poll", "pay", "cancel", "click to confirmed", "p99(accepted)<1ns", "order-order-"} {
				if !strings.Contains(strings.ToLower(look.Text), want) {
					t.Errorf("lacks %q:\n%s", want, look.Text)
				}
			}
		})
	}
	if !slices.ContainsFunc(r.Invariants, func(i Invariant) bool { return i.Held }) {
		t.Error("the load itself proves nothing")
	}
}
