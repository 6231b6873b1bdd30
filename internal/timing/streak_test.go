package timing

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestStreak: one error is no run; another one makes it a run, unless it comes much later.
func TestStreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Streak
		full := errors.New("no space left")
		const span, least = 3 * time.Second, 300 * time.Millisecond
		if got := s.Err(span, 0); got != nil {
			t.Errorf("before the first: %v", got)
		}
		for i, step := range []struct {
			pause time.Duration
			runs  bool
		}{{0, false}, {299 * time.Millisecond, false}, {time.Millisecond, true}, {streakGap, true}, {streakGap + 1, false}, {time.Second, true}} {
			time.Sleep(step.pause) // of the bubble's clock
			s.Note(full)
			if got := s.Err(span, least); errors.Is(got, full) != step.runs {
				t.Errorf("step %d: %v", i, got)
			}
		}
		time.Sleep(span + 1)
		if got := s.Err(span, least); got != nil {
			t.Errorf("when it is over: %v", got)
		}
	})
}
