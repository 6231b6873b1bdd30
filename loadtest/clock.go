package loadtest

import (
	"context"
	"time"
)

// clock is the time that a load uses: the machine's time, or, in tests, a time that only moves when
// all goroutines wait.
type clock struct {
	now func() time.Time
	// at returns a channel that can be read when the time t has come, and a function that frees the
	// timer.
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
