// Package sqlite keeps the truth of the embedded stack: it implements seckill.Store on one SQLite file, without cgo.
//
// What it promises: what a call returned without error is there after kill -9 of the process; with Synchronous "full" also
// after the machine lost power. Every method is one transaction and may be repeated after an error. Readers see
// committed states only and never wait for the writer.
//
// What it does not: several processes on one file (the data directory's lock sees to that; LockItem is a lock within the
// process), and power loss with Synchronous "normal", which may take back the last commits but never tears one.
//
// Invariants, kept by every transaction that touches them:
//
//	items.open  = sum of quantity over the item's orders with units 'open'
//	items.sold  = sum of quantity over the item's orders with units 'sold'
//	items.open + items.sold <= items.total            (a CHECK of the table: L1)
//	an order whose units left 'open', or never were, has left exactly one settlement in the outbox
//	catalog.version rises with every change of a merchant, a caller, an activity or of an item's total, epoch or suspicion
//
// There is one writer: a connection that goes from call to call in the order in which they asked for it. A transaction
// takes it for the whole batch, decides in memory (seckill.DecideAccept and its like see rows that nobody else can
// change), and writes each table in as few statements as the batch allows: the orders in one insert, an item's counts in
// one update. Callers batch, so the writer doesn't.
//
// Locks: turn (the writer), then a connection of the readers' pool. Never the other way round.
package sqlite
