package main

import (
	"os"
	"strconv"
	"strings"

	"github.com/penstock/penstock/seckill"
)

// isTerminal reports whether f is a terminal: a character device other than the null device, which
// is one too.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// screen has the abilities of the terminal behind a stream.
type screen struct {
	redraws bool // a line may be drawn again
	colors  bool
}

// screenOf looks at a stream and the environment: NO_COLOR (no-color.org) turns colors off,
// whatever its value. A dumb terminal can neither redraw nor show colors.
func screenOf(f *os.File, environ func(string) string) screen {
	if !isTerminal(f) || environ("TERM") == "dumb" {
		return screen{}
	}
	return screen{redraws: true, colors: environ("NO_COLOR") == ""}
}

// ANSI escape sequences (ECMA-48).
const (
	ansiGreen      = "\x1b[32m"
	ansiRed        = "\x1b[31m"
	ansiYellow     = "\x1b[33m"
	ansiBold       = "\x1b[1m"
	ansiPlain      = "\x1b[0m"
	ansiEraseLine  = "\r\x1b[K"
	ansiEraseBelow = "\x1b[J"
	ansiClear      = "\x1b[H\x1b[2J"
)

// paint colors text, if the terminal has colors.
func (s screen) paint(color, text string) string {
	if !s.colors {
		return text
	}
	return color + text + ansiPlain
}

// tick returns the sign for a condition that holds or doesn't hold.
func (s screen) tick(held bool) string {
	if held {
		return s.paint(ansiGreen, "✓")
	}
	return s.paint(ansiRed, "✗")
}

// counted is a number of things, with commas between groups of three digits.
func counted[T int | int64](n T, one string) string {
	_, things, _ := strings.Cut(seckill.Counted(n, one), " ")
	return grouped(n) + " " + things
}

// grouped writes a number with commas between groups of three digits.
func grouped[T int | int64](n T) string {
	digits := strconv.FormatInt(int64(n), 10)
	sign := ""
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteByte(digits[i])
	}
	return sign + b.String()
}
