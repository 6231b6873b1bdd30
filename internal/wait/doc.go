// Package wait is the one way to wait, to back off, and to close things that have calls in
// progress.
//
//	pause := wait.Backoff{First: 20 * time.Millisecond, Longest: 2 * time.Second}
//	for try() != nil && pause.Wait(ctx) {
//	}
//
//	for wait.ForTick(ctx, time.Second) {
//		look()
//	}
//
// It promises that every wait ends with its context, and that a back-off has jitter: processes that
// failed together do not try again together. Loops that work all the time do it on the ticks of
// their process, see UntilTick. It does not count attempts and never gives up.
package wait
