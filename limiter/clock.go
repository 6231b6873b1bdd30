package limiter

import (
	"sync/atomic"
	"time"
)

// clock turns the times that callers read into moments: nanoseconds that are positive and never
// jump back far.
//
// A request's time may be a little older than one that was seen before: its goroutine read the
// clock and then had to wait for a processor. That is no jump; buckets stand such times by taking
// the later one. But a time that is older by more than rewind comes from a clock that was set back
// (Go's monotonic clock never is; times that went through a wall clock may be). Waiting until it
// has caught up would refuse everybody for as long. Instead moments go on from where they were, at
// the clock's pace. A jump ahead costs one full bucket, as if the time had passed.
//
// Its fields are written about once a second, so that reading them costs no processor another's
// cache line.
type clock struct {
	start time.Time // fixed

	skew atomic.Int64 // added to the time since start
	high atomic.Int64 // the latest moment, at most highStep behind
}

const (
	rewind   = int64(time.Minute)
	highStep = int64(time.Second)
	// origin is the moment of the start. It keeps moments that are a little older positive, so that
	// a TAT of zero is past.
	origin = int64(time.Hour)
	// farthest bounds what one time can be away from the start (36 years), and latest the moments
	// that jumps can add up to, so that no sum of a moment and a window overflows.
	farthest = int64(1) << 60
	latest   = int64(1) << 61
)

func newClock(start time.Time) *clock {
	c := &clock{start: start}
	c.skew.Store(origin)
	c.high.Store(origin)
	return c
}

// at returns the moment of a time.
func (c *clock) at(now time.Time) int64 {
	elapsed := min(max(int64(now.Sub(c.start)), -farthest), farthest)
	for {
		skew, high := c.skew.Load(), c.high.Load()
		moment := min(elapsed+skew, latest)
		switch {
		case moment > high+highStep:
			c.high.CompareAndSwap(high, moment) // if that fails, a later request does it
			return moment
		case moment >= high-rewind:
			return moment
		}
		c.skew.CompareAndSwap(skew, skew+high-moment)
	}
}
