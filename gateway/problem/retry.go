package problem

import "time"

// Bounds of the jitter. Two seconds is the least that spreads clients which read whole seconds
// only. Five seconds is the most that a buyer should lose at the start of a sale.
const (
	minSpread = 2 * time.Second
	maxSpread = 5 * time.Second
)

// longest is the longest wait in an answer, before jitter. A sale may start in the year 9999. A
// timer of 32 bits of milliseconds, as browsers and Node.js have, ends at once if it is set for
// more than 24.8 days, and a time.Duration can't be longer than 292 years. In both cases clients
// would come back without a pause. A client that comes back after 24 days gets the rest of the
// wait.
const (
	longest     = 24 * 24 * time.Hour
	longestTold = longest + maxSpread
)

// Jitter returns d and a random part on top, never less than d: with a fixed wait, all clients that
// were refused within one second would come back within one second. The part is uniform below d,
// but at least below minSpread and at most below maxSpread. random returns 64 random bits
// (math/rand/v2.Uint64).
func Jitter(d time.Duration, random func() uint64) time.Duration {
	if d <= 0 {
		return 0
	}
	d = min(d, longest)
	spread := min(max(d, minSpread), maxSpread)
	d += time.Duration(random() % uint64(spread))
	return time.Duration(milliseconds(d)) * time.Millisecond
}

// Seconds returns the value of the Retry-After header for d: whole seconds, rounded up, at least 1.
// It is never less than the retry_after_ms of a body with the same d.
func Seconds(d time.Duration) int64 {
	return max((milliseconds(d)+999)/1000, 1)
}

func milliseconds(d time.Duration) int64 {
	return max(int64((min(d, longestTold)+time.Millisecond-1)/time.Millisecond), 1)
}
