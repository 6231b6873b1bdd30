package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"penstock/loadtest"
)

// loadBar shows how far a load is, as progressBar does for a crowd.
type loadBar struct {
	progressBar
	stage    loadtest.Stage
	lastDone int64
	lastAt   time.Duration
}

func newLoadBar(out io.Writer, s screen) *loadBar {
	return &loadBar{progressBar: *newProgressBar(out, s)}
}

// show draws p.
func (b *loadBar) show(p loadtest.LoadProgress) {
	if p.Stage != b.stage {
		b.end()
		b.stage, b.lastDone, b.lastAt, b.last = p.Stage, 0, p.Elapsed, 0
	}
	if b.screen.redraws {
		share := loadtest.Progress{Done: int(p.Done), Of: int(p.Of)}
		b.write(ansiEraseLine + b.screen.paint(ansiGreen, bar(share)) + " " + b.describe(p))
		b.drawn = true
		b.lastDone, b.lastAt = p.Done, p.Elapsed
		return
	}
	if b.last == 0 || p.Done == p.Of && b.lastDone != p.Done || p.Elapsed-b.last >= plainEvery {
		b.last = p.Elapsed
		b.write(b.describe(p) + "\n")
		b.lastDone, b.lastAt = p.Done, p.Elapsed
	}
}

// describe says the same in words.
func (b *loadBar) describe(p loadtest.LoadProgress) string {
	if p.Stage == loadtest.Checking {
		return fmt.Sprintf("%s of %s orders read back", grouped(p.Done), grouped(p.Of))
	}
	rate := int64(0)
	if passed := p.Elapsed - b.lastAt; passed > 0 {
		rate = int64(float64(p.Done-b.lastDone) / passed.Seconds())
	}
	var words strings.Builder
	fmt.Fprintf(&words, "%.0f of %.0f s, %s/s, %s accepted",
		min(p.Elapsed, p.Length).Seconds(), p.Length.Seconds(), grouped(rate), grouped(p.Accepted))
	for o, n := range p.Outcomes {
		if outcome := loadtest.Outcome(o); n > 0 && outcome != loadtest.Accepted && outcome != loadtest.Replayed {
			fmt.Fprintf(&words, ", %s %s", grouped(n), outcome)
		}
	}
	if p.InFlight > 0 {
		fmt.Fprintf(&words, ", %s under way", grouped(p.InFlight))
	}
	if p.Dropped > 0 {
		fmt.Fprintf(&words, ", %s dropped", grouped(p.Dropped))
	}
	return words.String()
}
