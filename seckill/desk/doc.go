// Package desk serves requests: buyers buy, find, cancel and pay; a shop puts activities on sale,
// restocks them and audits them. Package backoffice has the background work.
//
//	parts := desk.Parts{Stock: stock, Queue: queue, Store: store, Node: "gw-1", Log: log}
//	d, err := desk.New(cfg, parts)
//	err = d.Refresh(ctx)          // loads the catalog; Run keeps it fresh
//	d.Follow(rows)                // of store.Shards, after each reading
//	receipt, err := d.Buy(ctx, &purchase)
//
// # How a purchase goes
//
// Buy asks memory whether a refusal is certain, takes a slot of the queue, joins the line of its
// Redis node (a lane), and waits once. The line works in rounds. A round takes the purchases that
// wait, at most BatchCap purchases of a shard, and asks for all holds in one write. The purchases
// of a shard that got a hold become one page of the queue. When the page is acknowledged, they are
// answered. The next round may begin while pages are on their way.
//
// # Promises
//
//   - L2: a 202 is given only for a page that was acknowledged, within the accept deadline of the
//     request's arrival, measured by the monotonic and by the wall clock.
//   - L7: a purchase that is in no hold call after a quarter of the accept deadline leaves the
//     line. A shard with a crowd larger than a round serves the newest first. Rounds are kept
//     short.
//   - L8: a line, a round, a page and every batch are bounded; Lines and Queues show them.
//   - L10: lines share only slots. An answer of a shard affects only the purchases of that shard.
//
// It does not promise an order among buyers, nor that a purchase with an unknown outcome happened.
// There is no undo: after the hold was asked for, any fault is *seckill.Unknown, and the buyer's
// repeat or the sweeper decides. An undo would race with a repeat that was promised the same hold.
//
// # Invariants
//
//   - A purchase is in the line, or in one flight, or answered. It is answered once.
//   - A slot is given back once: by the page that uses it, or by Release.
//   - A flight is over before its memory is used again, and the queue has called done.
package desk
