// Package batch turns many single calls into few calls over many items, without waiting for
// company: natural batching.
//
// It promises:
//   - An item's call begins at once when a call may be in flight. Otherwise it begins as soon as
//     one returns, together with everything that has come in the meantime.
//   - Items go out in the order in which they came.
//   - Each item is answered exactly once, and is part of at most one call.
//   - What waits is bounded, and nothing is allocated per item.
//   - No goroutine runs while nothing waits.
//
// It does not promise: that items of one batch are different (they may repeat a key: the call
// decides what that means), that a call stops when its callers have gone away (it ends by its own
// timeout), or that a call is repeated (an error belongs to its items).
package batch
