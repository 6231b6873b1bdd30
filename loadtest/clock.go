package loadtest

import (
	"context"
	"time"
)

// clock is time as a load sees it: the machine's, or in tests one that stands still until a
// goroutine waits.
type clock struct {
	now func() time.Time
	// at returns a channel that is readable once t has come, and a function that gives the timer
	// back.
	at func(t time.Time) (<-chan time.Time, func())
}

func realClock() clock {
	return clock{
		now: time.Now,
		at: func(t time.Time) (<-chan time.Time, func()) {
			timer := time.NewTimer(time.Until(t))
			return timer.C, func() { timer.Stop() }
		},
	}
}

// until waits for t and reports whether it came before ctx ended.
func (c clock) until(ctx context.Context, t time.Time) bool {
	came, stop := c.at(t)
	defer stop()
	select {
	case <-came:
		return true
	case <-ctx.Done():
		return false
	}
}
