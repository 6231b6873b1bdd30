package sim

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// fate is the outcome of a call.
type fate string

// The fates.
const (
	fateDone    fate = "done"    // executed and answered
	fateRefused fate = "refused" // not executed, and its caller knows
	fateLost    fate = "lost"    // executed, and the answer lost
	fateSlow    fate = "slow"    // executed, and answered later
	fateLate    fate = "late"    // executed after its caller gave up
	fateTwice   fate = "twice"   // executed once more, later
	fateCut     fate = "cut"     // made while its process could not reach the server
	fatePaused  fate = "paused"  // in progress when its process was stopped
	fateCrashed fate = "crashed" // in progress when its process crashed
	fateBack    fate = "back"    // in progress when its server went back to an earlier moment
)

var fates = []fate{
	fateDone, fateRefused, fateLost, fateSlow, fateLate, fateTwice, fateCut, fatePaused, fateCrashed, fateBack,
}

// setUp has the calls that are made only to set the installation up, by parts that the simulator
// does not drive, or at the quiet end.
var setUp = []method{callUnpublished, callDrop}

// possible reports whether a call may get a fate.
func (f fate) possible(m method) bool {
	t := methods[m]
	switch f {
	case fateLost, fateSlow:
		return !t.reads
	case fateLate:
		return t.late
	case fateTwice:
		return t.twice
	}
	return true
}

// cell is a fate of a call.
type cell struct {
	method method
	fate   fate
}

// coverage counts the fates of calls.
type coverage map[cell]int

func (c coverage) add(m method, f fate) { c[cell{m, f}]++ }

// hit counts a fate for all calls to a server that are in progress.
func (c coverage) hit(w *wire, to server, f fate) {
	for _, call := range w.under() {
		if call.traits.to == to {
			c.add(call.method, f)
		}
	}
}

// strike counts a fate for all calls of a process that are in progress.
func (c coverage) strike(w *wire, process string, f fate) {
	for _, call := range w.under() {
		if call.process == process {
			c.add(call.method, f)
		}
	}
}

// missing returns the possible cells that never happened.
func (c coverage) missing() (cells []cell) {
	for _, m := range driven() {
		for _, f := range fates {
			if f.possible(m) && c[cell{m, f}] == 0 {
				cells = append(cells, cell{m, f})
			}
		}
	}
	return cells
}

// driven returns the calls that runs make, in order. They are everybody's to read.
var driven = sync.OnceValue(func() (all []method) {
	for m := range methods {
		if !slices.Contains(setUp, m) {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b method) int {
		return strings.Compare(string(methods[a].to+" "+server(a)), string(methods[b].to+" "+server(b)))
	})
	return all
})

// String is the table: a line for each call, a column for each fate, with a dash if it can't
// happen.
func (c coverage) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s", "")
	for _, f := range fates {
		fmt.Fprintf(&b, "%9s", f)
	}
	for _, m := range driven() {
		fmt.Fprintf(&b, "\n%-12s", m)
		for _, f := range fates {
			if f.possible(m) {
				fmt.Fprintf(&b, "%9d", c[cell{m, f}])
			} else {
				fmt.Fprintf(&b, "%9s", "-")
			}
		}
	}
	return b.String()
}
