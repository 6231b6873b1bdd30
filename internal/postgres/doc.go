// Package postgres keeps the truth of an installation of many processes: it implements
// seckill.Store on PostgreSQL 15 or later.
//
//	store, err := postgres.Open(ctx, postgres.Config{URL: "postgres://penstock@db/penstock"})
//	accepted, err := store.Accept(ctx, batch)
//
// What it promises: what a call returned without error is committed, and as durable as the server's
// own commits; every method is one transaction, may be called by any number of processes at once,
// and may be repeated after an error. Times come from the database's clock, so no two machines'
// clocks are compared. Every wait is bounded: for a connection by the caller's context, for a lock
// and for a statement by the session's timeouts.
//
// What it does not promise: it survives the loss of a primary only as far as the server's
// replication does. A commit that an asynchronous replica never got is lost. Orders are then read
// again from the queue, because the positions are lost together with the rows. Payments and
// cancellations are lost.
//
// Invariants, kept by every transaction that touches them:
//
//	stock.open = sum of quantity over the row's orders with units 'open'
//	stock.sold = sum of quantity over the row's orders with units 'sold'
//	stock.open + stock.sold <= stock.total           (a CHECK of the table: L1)
//	stock_exceptions.parked = sum of quantity over the row's orders with units 'parked'
//	shard_digests = sums of the names of the shard's orders that are open or parked, and sold
//	an order whose units ended, or never were, has left exactly one settlement in the outbox
//	catalog.version rises with every change of a merchant, a caller or an activity
//
// # The four conditions
//
// Each of them is the WHERE of one statement. If it changes no row, the caller must begin again.
//
//	position     queueMoves    UPDATE positions … WHERE topic, next and leader_epoch are those of From
//	epoch        queueEpochs   SELECT epoch FROM shards … FOR SHARE; readBuried: … WHERE epoch = ref's
//	next_epoch   Fence         UPDATE shards SET epoch = … WHERE next_epoch = ref's …
//	incarnation  Fence, Bury   … AND penstock_incarnation() = the caller's
//
// # Locks
//
// Transactions are READ COMMITTED, each statement on a snapshot of its own, and take their locks in
// one order:
//
//  1. the catalog's row (changes of merchants, callers, activities, tokens, settings by hand)
//  2. rows of shards, FOR SHARE, by id; rows of positions, by partition
//  3. rows of orders, by (week, id)
//  4. rows of stock, by (item, shard)
//  5. new rows: orders, payments, exceptions, outbox
//  6. the shards' digests, in the round trip that commits
//
// A shard's row may also come later: a fence, which waits for it, holds nothing else.
//
// What the order can't foresee ends in a deadlock, which the server breaks: its victim has done
// nothing, and is tried again, six times at most.
//
// A stock row is the lock of its units. Accept takes it before it reads anything, and reads what it
// decides on in later statements of the same round trip: they see all that the row's last holder
// has committed. So, pair by pair:
//
//   - Two workers with one batch: the second one waits at the position, and is told ErrMoved.
//   - Two workers with one promise, or with two of one buyer (L4, L5): the second waits at the
//     stock row, and then finds the first one's order and what the buyer has. The primary key
//     stands after that.
//   - Two workers with the last unit (L1): the second reads the counts that the first has
//     committed. The CHECK stands after that.
//   - Bury, or a cancellation of a queued order, and Accept of one order: both insert it, and the
//     primary key decides. The second one begins again and finds the first one's row.
//   - Fence and Accept, Bury or Withdraw: they hold the shard's row FOR SHARE, and the fence
//     updates it. Transactions after the fence read the new epoch, and write nothing for an older
//     one.
//   - Restock or Withdraw and Snapshot: the outbox row is there at the snapshot's moment, and goes
//     with it; or it comes later, and is delivered to the new epoch. Between fence and snapshot
//     nobody knows which of the two it will be, so stock changes are not relayed then
//     (shard_loads).
//   - Payment, cancel and time-out of one order: one has the row, the others leave it out and come
//     again.
//   - One payment for two orders: both insert its row, and the primary key decides.
//
// # A locked row stops only its item
//
// Whoever has a stock row for long (a person with a shell, a stopped process) stops that item and
// nothing else. Accept answers ErrLocked after half a second, and then parks the promises of that
// row. The ends of orders leave out what is locked, after a short wait for stock rows: a worker has
// the row of a hot item nearly all the time, a batch after the other, and without any wait a
// payment would hardly find it free. Parked units, and how many promises were skipped and rejected,
// are no columns of stock: they are counted where the stock row is locked.
//
// # Partitions
//
// orders has a partition for each week, by the end of the sale. Old orders are dropped a week at a
// time (DropEnded), so no rows are deleted and nothing is vacuumed. Every statement names the week,
// which is found by the item at the beginning of the order's id. So only one partition is planned
// and locked, no matter how many there are. Week 0 has the orders whose item is not known, and is
// searched as well.
//
// # Roles
//
// The role that migrates owns the tables. The processes need fewer rights, and should have a role
// of their own: deploy/postgres-grants.sql has its rights, and the tests use it. Partitions are
// made and dropped by functions that run with the owner's rights and do nothing else. A process
// whose role may not migrate needs KeepSchema.
package postgres
