package main

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/penstock/penstock/loadtest"
)

// loadSummary is a load test's summary as a person reads it in a terminal.
func loadSummary(s *loadtest.Summary, sc screen, dir string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", sc.paint(ansiBold, string(s.Verdict)))
	fmt.Fprintf(&b, "  %s sent, %s answered, %s errors; %.1f departures/s of %.1f planned, seed %d\n",
		grouped(s.Sent), grouped(s.Answered), grouped(s.Errors), s.AchievedRate, s.OfferedRate, s.Run.Seed)
	fmt.Fprintf(&b, "  %s accepted, %s orders read back as made\n\n", grouped(s.Accepted), grouped(s.OrdersCreated))
	title := fmt.Sprintf("%-20s%10s%11s%11s%11s%11s%11s", "latency in ms", "times", "p50", "p90", "p99", "p99.9", "max")
	fmt.Fprintln(&b, sc.paint(ansiBold, title))
	row := func(name string, count int64, p loadtest.Percentiles) {
		times := ""
		if count > 0 {
			times = grouped(count)
		}
		fmt.Fprintf(&b, "  %-18s%10s%11.3f%11.3f%11.3f%11.3f%11.3f\n", name, times, p.P50, p.P90, p.P99, p.P999, p.Max)
	}
	for _, name := range byCount(s.Outcomes) {
		row(shown(name), s.Outcomes[name].Count, s.Outcomes[name].LatencyMS)
	}
	for _, name := range byCount(s.Actions) {
		if name != loadtest.Buy.String() {
			row(name, s.Actions[name].Count, s.Actions[name].LatencyMS)
		}
	}
	row("all, since due", 0, s.LatencyMS)
	row("all, since sent", 0, s.Service)
	if s.Confirmed != nil {
		row("click to confirmed", 0, *s.Confirmed)
	}
	fmt.Fprintln(&b)
	for _, code := range slices.Sorted(maps.Keys(s.Samples)) {
		fmt.Fprintf(&b, "  ! the first %s: %s\n", shown(code), shown(s.Samples[code]))
	}
	for _, i := range s.Invariants {
		fmt.Fprintf(&b, "  %s %-18s %s\n", sc.tick(i.Held), i.Name, shown(i.Detail))
	}
	for _, slo := range s.SLOs {
		fmt.Fprintf(&b, "  %s %s: %s\n", sc.tick(slo.Met), slo.SLO, slo.Measured)
	}
	fmt.Fprintf(&b, "\n%s\n", filepath.Join(dir, reportFile))
	return b.String()
}

// byCount returns the names, the most frequent first.
func byCount(m map[string]loadtest.Measure) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b].Count, m[a].Count), cmp.Compare(a, b)) })
}
