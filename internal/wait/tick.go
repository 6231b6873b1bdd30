package wait

import (
	"context"
	"math/rand/v2"
	"time"
)

// phase is where in an hour the ticks of this process begin. So the processes of an installation
// don't ask its servers at the same moment.
var phase = rand.N(time.Hour)

// UntilTick returns how long it is until the next tick that is at least half a period away. The
// ticks of a period are its multiples on one clock of the process. So loops with the same period,
// or with multiples of it, wake up together: for an idle process that is most of its work.
func UntilTick(every time.Duration) time.Duration {
	now := time.Duration(time.Now().UnixNano()) + phase
	left := every - now%every
	if left < every/2 {
		left += every
	}
	return left
}

// ForTick waits for the next tick, see UntilTick. It reports false when ctx has ended.
func ForTick(ctx context.Context, every time.Duration) bool { return For(ctx, UntilTick(every)) }

// Ticker sends a value at each tick of a period, see UntilTick. It is used by one goroutine, which
// calls Wait, or takes a value from C and calls Next. A loop with ForTick, which needs no Ticker,
// leaves out the next tick if its work takes more than half a period.
type Ticker struct {
	C     <-chan time.Time
	timer *time.Timer
	every time.Duration
}

// NewTicker returns a ticker, which must be stopped.
func NewTicker(every time.Duration) *Ticker {
	timer := time.NewTimer(UntilTick(every))
	return &Ticker{timer.C, timer, every}
}

// Wait waits for a value and calls Next. It reports false when ctx has ended.
func (t *Ticker) Wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		t.Next()
		return true
	}
}

// Next waits for the next tick.
func (t *Ticker) Next() { t.timer.Reset(UntilTick(t.every)) }

// Stop ends the ticker. No value comes after it.
func (t *Ticker) Stop() { t.timer.Stop() }
