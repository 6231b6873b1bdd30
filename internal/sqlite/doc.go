// Package sqlite keeps the truth of the embedded stack: it implements seckill.Store on one SQLite
// file, without cgo. It keeps settings (settings.Store) and steps of orders
// (backoffice.EventStore), too.
//
//	store, err := sqlite.Open(ctx, sqlite.Config{Path: "penstock.db", Shards: 4})
//
// What it promises: what a call returned without error is there after kill -9 of the process; with
// Synchronous "full" also after the machine lost power. Every method is one transaction and may be
// repeated after an error. Readers see committed states only and never wait for the writer, and the
// writer never waits for a reader: a snapshot of a shard, however long it takes to load, stops
// nobody.
//
// What it does not: several processes on one file (the data directory's lock sees to that), and
// power loss with Synchronous "normal", which may take back the last commits but never tears one.
// No row is ever locked by somebody else, so promises are parked for that reason in tests only
// (LockStock).
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
// There is one writer: a connection that goes from call to call in the order in which they asked
// for it. A transaction takes it for the whole batch, decides in memory (seckill.DecideAccept and
// its like), and writes what they say (writeChanges) in as few statements as the batch allows.
// Callers batch, so the writer doesn't.
//
// Locks: turn (the writer), then a connection of the readers' pool. Never the other way round.
package sqlite
