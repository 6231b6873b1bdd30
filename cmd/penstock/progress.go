package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/penstock/penstock/loadtest"
)

// barWidth is the length of the bar in characters; the whole line fits 100 columns.
const barWidth = 30

// plainEvery is how often a line is written where redrawing isn't possible.
const plainEvery = time.Second

// progressBar shows the progress of a crowd. On a terminal it redraws one line; elsewhere it writes
// a line a second. Its methods are called by one goroutine at a time.
type progressBar struct {
	out    io.Writer
	screen screen
	last   time.Duration
	drawn  bool
	err    error // the first failed write; nothing is written after it
}

func newProgressBar(out io.Writer, s screen) *progressBar { return &progressBar{out: out, screen: s} }

// show draws p. The last call of a stage has everything done.
func (b *progressBar) show(p loadtest.Progress) {
	complete := p.Done == p.Of
	if b.screen.redraws {
		b.write(ansiEraseLine + b.screen.paint(ansiGreen, bar(p)) + " " + describe(p))
		b.drawn = true
		if complete {
			b.end()
		}
		return
	}
	if complete || b.last == 0 || p.Elapsed-b.last >= plainEvery {
		b.last = p.Elapsed
		b.write(describe(p) + "\n")
	}
}

// end finishes a line that was drawn.
func (b *progressBar) end() {
	if b.drawn {
		b.write("\n")
		b.drawn = false
	}
}

func (b *progressBar) write(text string) {
	if b.err == nil {
		_, b.err = io.WriteString(b.out, text)
	}
}

// bar is the bar alone.
func bar(p loadtest.Progress) string {
	full := 0
	if p.Of > 0 {
		full = barWidth * min(p.Done, p.Of) / p.Of
	}
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
}

// describe writes the progress in words.
func describe(p loadtest.Progress) string {
	if p.Stage == loadtest.Checking {
		return fmt.Sprintf("%s of %s orders read back", grouped(p.Done), grouped(p.Of))
	}
	rate := int64(0)
	if p.Elapsed > 0 {
		rate = int64(float64(p.Requests) / p.Elapsed.Seconds())
	}
	return fmt.Sprintf("%s of %s buyers served, %s purchases/s, %s accepted",
		grouped(p.Done), grouped(p.Of), grouped(rate), grouped(p.Accepted))
}
