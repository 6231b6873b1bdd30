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
//   - L7: a purchase leaves the line if no hold was asked for it within a quarter of the accept
//     deadline. If a shard's crowd is larger than a round, the newest purchases are served first.
//     Rounds are kept short.
//   - L8: a line, a round, a page and every batch are bounded; Lines and Queues show them.
//   - L10: lines share nothing but slots. An answer of a shard affects only the purchases of that
//     shard.
//
// It does not promise an order among buyers, nor that a purchase with an unknown outcome happened.
// There is no undo: after the hold was asked for, any fault is *seckill.Unknown, and the buyer's
// repeat or the sweeper decides. An undo would race with a repeat that was promised the same hold.
//
// # Invariants
//
//   - At any time a purchase is in the line, or in one flight, or answered. It is answered only
//     once.
//   - A slot is given back only once: by the page that uses it, or by Release.
//   - Before a flight's memory is used again, the flight is over and the queue has called done.
package desk
