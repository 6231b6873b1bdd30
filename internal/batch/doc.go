// Package batch turns many single calls into few calls over many items, without waiting for more
// items: natural batching.
//
// It promises:
//   - An item's call begins at once if a call may be in flight. Otherwise it begins as soon as
//     another call returns, together with all items that have come in the meantime.
//   - Items go out in the order in which they came.
//   - Each item is answered exactly once, and is part of at most one call.
//   - The number of waiting items is bounded, and nothing is allocated per item.
//   - No goroutine runs while nothing waits.
//
// It does not promise that the items of one batch are different: a key may occur twice, and the
// call decides what that means. A call doesn't stop when its callers have left; it ends by its own
// timeout. A call is not repeated: an error belongs to its items.
package batch
