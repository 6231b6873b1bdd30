package degrade

import (
	"sync/atomic"
	"time"
)

// Pacer spaces refusals out. To read and refuse a request costs a gateway a quarter of what selling
// costs. So a flood that is refused as fast as it comes leaves nothing for the buyers inside, and a
// client that is refused at once comes again at once. Refusals up to a rate go out at once; those
// above it wait for their turn, and their clients with them.
//
// It is a leaky bucket kept as one time (the generic cell rate algorithm, ITU-T I.371). Its methods
// are safe for concurrent use; it takes no lock and allocates nothing.
type Pacer struct {
	// Fixed after NewPacer.
	interval time.Duration // between two refusals
	longest  time.Duration

	turn atomic.Int64 // of the next refusal, as a time since the process's choosing
}

// pacerBurst is by how much refusals may be ahead of their turn: crowds come in bursts.
const pacerBurst = 100 * time.Millisecond

// NewPacer makes a pacer for a rate per second, which must be above zero, and the longest wait.
func NewPacer(rate int, longest time.Duration) *Pacer {
	return &Pacer{interval: time.Second / time.Duration(rate), longest: longest}
}

// Wait takes a turn and returns how long it is until then, from now, a time since any moment that
// stays the same. No wait is longer than the longest: a caller that would wait longer gets no turn.
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
