package loadtest

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The size of a chart in its own units, and what its labels need.
const (
	chartWidth  = 1000.0
	chartHeight = 260.0
	chartLeft   = 64.0
	chartRight  = 14.0
	chartTop    = 10.0
	chartBottom = 28.0
)

// chart is an SVG that is being drawn. x starts at zero; y is linear or logarithmic.
type chart struct {
	strings.Builder
	right     float64 // the largest x
	low, high float64 // of y
	log       bool
}

func newChart(title string, right, low, high float64) *chart {
	c := &chart{right: max(right, 1e-9), low: low, high: max(high, low+1e-9)}
	c.f(`<svg viewBox="0 0 %g %g" role="img" aria-label="%s"><title>%s</title>`, chartWidth, chartHeight,
		html.EscapeString(title), html.EscapeString(title))
	return c
}

// newLogChart makes a chart whose y axis has whole decades.
func newLogChart(title string, right, low, high float64) *chart {
	low = math.Pow(10, math.Floor(math.Log10(max(low, 0.001))))
	high = math.Pow(10, math.Ceil(math.Log10(max(high, low*1.01))))
	c := newChart(title, right, low, high)
	c.log = true
	return c
}

func (c *chart) f(format string, args ...any) { fmt.Fprintf(c, format, args...) }

func (c *chart) x(v float64) float64 {
	return chartLeft + min(max(v/c.right, 0), 1)*(chartWidth-chartLeft-chartRight)
}

func (c *chart) y(v float64) float64 {
	share := (v - c.low) / (c.high - c.low)
	if c.log {
		share = math.Log(max(v, c.low)/c.low) / math.Log(c.high/c.low)
	}
	return chartHeight - chartBottom - min(max(share, 0), 1)*(chartHeight-chartTop-chartBottom)
}

// axes draws five lines and labels for a linear y, and labels for x.
func (c *chart) axes(unitX, unitY string) {
	for i := range 5 {
		v := c.low + (c.high-c.low)*float64(i)/4
		c.line(v, short(v)+unitY)
	}
	c.ticksX(unitX)
}

// short is a number in a short form, for the narrow space beside a chart.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return number(v/1e6) + "M"
	case v >= 1e5:
		return number(v/1e3) + "k"
	}
	return number(v)
}

// decades draws the lines of a logarithmic y.
func (c *chart) decades() {
	for v := c.low; v <= c.high*1.001; v *= 10 {
		label := fmt.Sprintf("%g ms", math.Round(v*1000)/1000)
		if v >= 1000 {
			label = fmt.Sprintf("%g s", v/1000)
		}
		c.line(v, label)
	}
}

func (c *chart) line(v float64, label string) {
	c.f(`<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, chartLeft, chartWidth-chartRight, c.y(v), c.y(v))
	c.f(`<text x="%.1f" y="%.1f" text-anchor="end">%s</text>`, chartLeft-8, c.y(v)+4, label)
}

// ticksX labels x in round steps.
func (c *chart) ticksX(unit string) {
	step := nice(c.right) / 10
	for c.right/step > 10 {
		step *= 2
	}
	for v := 0.0; v <= c.right*1.0001; v += step {
		c.tickX(v, number(v)+" "+unit)
	}
}

func (c *chart) tickX(v float64, label string) {
	anchor := "middle"
	if c.x(v) > chartWidth-40 {
		anchor = "end"
	}
	c.f(`<line class="axis" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, c.x(v), c.x(v), chartHeight-chartBottom, chartHeight-chartBottom+4)
	c.f(`<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, c.x(v), chartHeight-8, anchor, label)
}

// bar draws a rectangle with a very small gap to the next one.
func (c *chart) bar(x1, x2, y1, y2 float64) {
	width := max(c.x(x2)-c.x(x1)-0.6, 0.3)
	c.f(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, c.x(x1), c.y(y2), width, max(c.y(y1)-c.y(y2), 0.2))
}

// step continues a path with a level from x1 to x2.
func (c *chart) step(first bool, x1, x2, y float64) {
	c.point(first, x1, y)
	c.f("H%.1f", c.x(x2))
}

// point continues a path to a point, or begins it there.
func (c *chart) point(first bool, x, y float64) {
	command := "L"
	if first {
		command = "M"
	}
	c.f("%s%.1f %.1f", command, c.x(x), c.y(y))
}

// done returns the chart.
func (c *chart) done() string {
	c.f("</svg>")
	return c.String()
}

// nice returns the next number of 1, 2, 3, 4, 5, 6, 8 times a power of ten.
func nice(x float64) float64 {
	if x <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(x)))
	for _, step := range []float64{1, 2, 3, 4, 5, 6, 8, 10} {
		if x <= step*power*1.0000001 {
			return step * power
		}
	}
	return 10 * power
}
