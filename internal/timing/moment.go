package timing

import (
	"sync/atomic"
	"time"
)

// Moment is when something happened last, for several goroutines. Its age is by the monotonic
// clock, so it stays right when the wall clock is set. The zero value is no moment.
type Moment struct{ at atomic.Pointer[time.Time] }

// Set makes it t, which has to come from time.Now.
func (m *Moment) Set(t time.Time) { m.at.Store(&t) }

// Clear makes it no moment.
func (m *Moment) Clear() { m.at.Store(nil) }

// Age returns how long ago it was. It reports false where it is no moment.
func (m *Moment) Age() (age time.Duration, is bool) {
	at := m.at.Load()
	if at == nil {
		return 0, false
	}
	return max(time.Since(*at), 0), true
}
