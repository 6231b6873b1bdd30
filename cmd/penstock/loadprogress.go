package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/penstock/penstock/loadtest"
)

// loadBar shows the progress of a load, and the rate of each answer. On a terminal it redraws a few
// lines; elsewhere it writes a line a second. Its methods are called by one goroutine at a time.
type loadBar struct {
	out    io.Writer
	screen screen
	width  func() int // of the terminal

	stage loadtest.Stage
	past  []loadtest.LoadProgress // the progress of the last second, to compute rates
	told  time.Duration           // when the last plain line was written; zero: none in this stage
	drawn int                     // how many lines are on the terminal now
	err   error                   // the first failed write; nothing is written after it
}

func newLoadBar(out io.Writer, s screen) *loadBar {
	return &loadBar{out: out, screen: s, width: func() int { return columns(os.Stderr) }}
}

// rateOver is the span of time over which rates are computed.
const rateOver = time.Second

// show draws p.
func (b *loadBar) show(p loadtest.LoadProgress) {
	if p.Stage != b.stage {
		b.end()
		b.stage, b.past, b.told = p.Stage, nil, 0
	}
	last := loadtest.LoadProgress{Stage: p.Stage}
	if len(b.past) > 0 {
		last = b.past[0]
	}
	if b.screen.redraws {
		b.draw(b.lines(&p, &last))
	} else if news := len(b.past) > 0 && b.past[len(b.past)-1].Done != p.Done; b.told == 0 || p.Done == p.Of && news ||
		p.Elapsed-b.told >= plainEvery {
		b.told = p.Elapsed
		b.write(b.line(&p, &last) + "\n")
	}
	b.past = append(b.past, p)
	for len(b.past) > 1 && p.Elapsed-b.past[1].Elapsed >= rateOver {
		b.past = b.past[1:]
	}
}

// since returns a rate per second.
func since(n, before int64, p, last *loadtest.LoadProgress) string {
	passed := p.Elapsed - last.Elapsed
	if passed <= 0 {
		return "0/s"
	}
	return rate(float64(n-before)/passed.Seconds()) + "/s"
}

// line returns the progress as one line.
func (b *loadBar) line(p, last *loadtest.LoadProgress) string {
	if p.Stage == loadtest.Checking {
		return fmt.Sprintf("%s of %s orders read back", grouped(p.Done), grouped(p.Of))
	}
	var words strings.Builder
	words.WriteString(b.head(p, last))
	for o, n := range p.Outcomes {
		if n > 0 {
			fmt.Fprintf(&words, ", %s %s (%s)", loadtest.Outcome(o), since(n, last.Outcomes[o], p, last), grouped(n))
		}
	}
	return words.String() + b.tail(p)
}

func (b *loadBar) head(p, last *loadtest.LoadProgress) string {
	return fmt.Sprintf("%.0f of %.0f s, %s departures", min(p.Elapsed, p.Length).Seconds(), p.Length.Seconds(),
		since(p.Done, last.Done, p, last))
}

func (b *loadBar) tail(p *loadtest.LoadProgress) string {
	text := ""
	if p.InFlight > 0 {
		text += fmt.Sprintf(", %s under way", grouped(p.InFlight))
	}
	if p.Dropped > 0 {
		text += fmt.Sprintf(", %s dropped", grouped(p.Dropped))
	}
	return text
}

// lines returns the progress with a line for each outcome.
func (b *loadBar) lines(p, last *loadtest.LoadProgress) []string {
	full := b.screen.paint(ansiGreen, bar(loadtest.Progress{Done: int(p.Done), Of: int(p.Of)})) + " "
	if p.Stage == loadtest.Checking {
		return []string{full + b.line(p, last)}
	}
	lines := []string{full + b.head(p, last) + b.tail(p)}
	for o, n := range p.Outcomes {
		if n == 0 {
			continue
		}
		outcome := loadtest.Outcome(o)
		line := fmt.Sprintf("  %-14s %12s %14s", outcome, since(n, last.Outcomes[o], p, last), grouped(n))
		if outcome == loadtest.Failed {
			line = b.screen.paint(ansiRed, line)
		}
		lines = append(lines, line)
	}
	return lines
}

// draw replaces the lines on the terminal. A line must not be longer than the terminal is wide.
func (b *loadBar) draw(lines []string) {
	width := b.width()
	var text strings.Builder
	if b.drawn > 1 {
		fmt.Fprintf(&text, "\x1b[%dA", b.drawn-1)
	}
	for i, line := range lines {
		if i > 0 {
			text.WriteByte('\n')
		}
		text.WriteString(ansiEraseLine + ansi.Truncate(line, width-1, ""))
	}
	text.WriteString(ansiEraseBelow)
	b.drawn = len(lines)
	b.write(text.String())
}

// end finishes what was drawn.
func (b *loadBar) end() {
	if b.drawn > 0 {
		b.write("\n")
		b.drawn = 0
	}
}

func (b *loadBar) write(text string) {
	if b.err == nil {
		_, b.err = io.WriteString(b.out, text)
	}
}
