package limiter

import (
	"sync/atomic"
	"time"
)

// clock turns the times that callers read into moments: positive nanoseconds that never jump far
// back.
//
// A request's time may be a little older than one that was seen before: its goroutine read the
// clock and then had to wait for a processor. That is no jump: buckets handle it by taking the
// later time. But a time that is older by more than rewind comes from a clock that was set back.
// (Go's monotonic clock never is, but wall clocks may be.) If we waited until that clock has caught
// up, everybody would be refused meanwhile. Instead the moments continue from where they were, at
// the clock's speed. A jump ahead costs one full bucket, as if the time had passed.
//
// Its fields are written only about once a second, so that processors can read them from their own
// caches.
type clock struct {
	start time.Time // fixed

	skew atomic.Int64 // added to the time since start
	high atomic.Int64 // the latest moment; it may be up to highStep too low
}

const (
	rewind   = int64(time.Minute)
	highStep = int64(time.Second)
	// origin is the moment of the start. It is above zero, so that slightly older moments are
	// positive, and so that a TAT of zero is in the past.
	origin = int64(time.Hour)
	// farthest bounds the distance of a time from the start (36 years), and latest bounds the
	// moments that jumps can add up to. So the sum of a moment and a window never overflows.
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
			c.high.CompareAndSwap(high, moment) // if this fails, a later request does it
			return moment
		case moment >= high-rewind:
			return moment
		}
		c.skew.CompareAndSwap(skew, skew+high-moment)
	}
}
