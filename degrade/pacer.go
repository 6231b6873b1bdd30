package degrade

import (
	"sync/atomic"
	"time"
)

// Pacer delays refusals. To read and refuse a request costs a gateway a quarter of what a sale
// costs. So if a flood is refused as fast as it comes, nothing is left for the buyers inside; and a
// client that is refused at once sends again at once. Refusals up to a rate are sent at once.
// Further refusals are delayed, and so are their clients.
//
// It is a leaky bucket, stored as one time (the generic cell rate algorithm, ITU-T I.371). Its
// methods are safe for concurrent use; it takes no lock and allocates nothing.
type Pacer struct {
	// Fixed after NewPacer.
	interval time.Duration // between two refusals
	longest  time.Duration

	turn atomic.Int64 // time of the next refusal, since a moment that the process has chosen
}

// pacerBurst is how much faster than the rate refusals may be for a moment, because requests come
// in bursts.
const pacerBurst = 100 * time.Millisecond

// NewPacer makes a pacer for a rate per second, which must be above zero, and the longest wait.
func NewPacer(rate int, longest time.Duration) *Pacer {
	return &Pacer{interval: time.Second / time.Duration(rate), longest: longest}
}

// Wait takes a turn, and returns the time from now until that turn. now is a time since any fixed
// moment. No wait is longer than the longest: a caller that would have to wait longer gets no turn,
// and waits the longest time.
func (p *Pacer) Wait(now time.Duration) time.Duration {
	for {
		before := p.turn.Load()
		turn := max(time.Duration(before), now)
		wait := turn - now - pacerBurst
		if wait >= p.longest {
			return p.longest
		}
		if p.turn.CompareAndSwap(before, int64(turn+p.interval)) {
			return max(wait, 0)
		}
	}
}
