// Package sqlite keeps the truth of the embedded stack: it implements seckill.Store on one SQLite
// file, without cgo. It keeps settings (settings.Store) and steps of orders
// (backoffice.EventStore), too.
//
//	store, err := sqlite.Open(ctx, sqlite.Config{Path: "penstock.db", Shards: 4})
//
// What it promises: what a call returned without error survives kill -9 of the process; with
// Synchronous "full" also after the machine lost power. Every method is one transaction and may be
// repeated after an error. Readers see only committed states and never wait for the writer, and the
// writer never waits for a reader. So a long snapshot of a shard delays no other call.
//
// What it doesn't support: several processes on one file (the data directory's lock prevents that).
// With Synchronous "normal", a power loss may undo the last commits, but never a part of one. No
// other process can lock a row, so promises are parked for that reason only in tests (LockStock).
//
// Invariants, kept by every transaction that touches them:
//
//	stock.open = sum of quantity over the row's orders with units 'open'
//	stock.sold = sum of quantity over the row's orders with units 'sold'
//	stock.open + stock.sold <= stock.total      (a CHECK of the table: L1)
//	an item has a stock row for each of its shards, and its quantity is the sum of their totals
//	shard_digests = sums of the names of the shard's orders: open and parked, and sold
//	an order whose units are sold or void has left exactly one settlement in the outbox
//	a parked order has the reason 'locked', or a dead letter
//	catalog.version rises with every change of a merchant, a caller or an activity
//
// The four conditions of seckill.Store are in move (position), atEpoch (epoch), Fence (next_epoch,
// incarnation) and atEpochOf (incarnation). The write lock stands for the locks on rows: nothing
// that a transaction has read changes before its commit.
//
// There is one writer: a connection that calls use one after another, in the order of their
// requests. A transaction uses it for a whole batch: it decides in memory (seckill.DecideAccept and
// similar functions), and writes the result (writeChanges) in as few statements as possible.
// Callers make the batches, so the writer doesn't.
//
// Locks: turn (the writer), then a connection of the readers' pool. Never in the reverse order.
package sqlite
