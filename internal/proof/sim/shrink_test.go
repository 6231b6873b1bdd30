package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// shrinkTime bounds the time for making a failing seed shorter.
const shrinkTime = 30 * time.Second

func allSteps(int) bool { return true }

// shrink looks for fewer steps of a seed that break the same law, and returns their path. Ranges of
// steps are left out, large ones first, as long as the law still breaks.
func (s *simulator) shrink(t *testing.T, seed uint64, whole outcome) string {
	if whole.broken == "" {
		return fmt.Sprintf("%s\nrepeat with: %s", whole.path, repeats(seed, nil))
	}
	law, _, _ := strings.Cut(whole.broken, " ")
	kept := make([]int, whole.steps)
	for i := range kept {
		kept[i] = i
	}
	best := whole
	until := time.Now().Add(shrinkTime)
	for size := len(kept) / 2; size > 0; size /= 2 {
		for at := 0; at < len(kept) && time.Now().Before(until); {
			fewer := slices.Delete(slices.Clone(kept), at, min(at+size, len(kept)))
			o := s.simulate(t, seed, func(step int) bool { return slices.Contains(fewer, step) })
			if strings.HasPrefix(o.broken, law) {
				kept, best = fewer, o
				continue
			}
			at += size
		}
	}
	return fmt.Sprintf("seed %d, shortened from %d steps to %d:\n%s\n%s\nrepeat with: %s",
		seed, whole.steps, len(kept), best.path, best.broken, repeats(seed, kept))
}

// repeats returns the command that repeats these steps of a seed; nil is all.
func repeats(seed uint64, steps []int) string {
	command := fmt.Sprintf("go test ./internal/proof/sim -run 'TestSim$' -v -sim.seed=%d", seed)
	if steps != nil {
		command += " -sim.steps=" + formatSteps(steps)
	}
	return command
}

// formatSteps writes steps as parseSteps reads them.
func formatSteps(steps []int) string {
	var ranges []string
	for i := 0; i < len(steps); {
		end := i
		for end+1 < len(steps) && steps[end+1] == steps[end]+1 {
			end++
		}
		if end == i {
			ranges = append(ranges, strconv.Itoa(steps[i]))
		} else {
			ranges = append(ranges, fmt.Sprintf("%d-%d", steps[i], steps[end]))
		}
		i = end + 1
	}
	if len(ranges) == 0 {
		return "none"
	}
	return strings.Join(ranges, ",")
}

// parseSteps reads a list of steps as 3,7-12. An empty text is all of them, "none" is none.
func parseSteps(text string) (func(int) bool, error) {
	if text == "" {
		return allSteps, nil
	}
	steps := make(map[int]bool)
	for _, part := range strings.Split(text, ",") {
		if part == "none" {
			continue
		}
		first, last, ok := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		to := from
		if err == nil && ok {
			to, err = strconv.Atoi(last)
		}
		if err != nil {
			return nil, fmt.Errorf("-sim.steps: %q is no step and no range", part)
		}
		for step := from; step <= to; step++ {
			steps[step] = true
		}
	}
	return func(step int) bool { return steps[step] }, nil
}

func TestSteps(t *testing.T) {
	for _, steps := range [][]int{{}, {0}, {3}, {0, 1, 2}, {1, 3, 4, 5, 9}} {
		takes, err := parseSteps(formatSteps(steps))
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for step := range 20 {
			if takes(step) {
				got = append(got, step)
			}
		}
		if !slices.Equal(got, steps) {
			t.Errorf("%v became %q, and that %v", steps, formatSteps(steps), got)
		}
	}
	if _, err := parseSteps("1,x"); err == nil {
		t.Error("an x is a step")
	}
}
