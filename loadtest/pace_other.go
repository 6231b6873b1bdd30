//go:build !linux

package loadtest

import "time"

// napFrom is when the timers of the runtime are left for nap; here they never are.
const napFrom = 0

// nap waits for d.
func nap(d time.Duration) { <-time.After(d) }
