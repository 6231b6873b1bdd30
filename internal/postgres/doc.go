// Package postgres keeps the truth of an installation of many processes: it implements seckill.Store on PostgreSQL 15 or later.
//
// What it promises: what a call returned without error is committed, and as durable as the server's own commits; every method is
// one transaction, may be called by any number of processes at once, and may be repeated after an error. Times are the
// database's, so no two machines' clocks meet. Every wait is bounded: for a connection by the caller's context, for a lock and
// for a statement by the session's timeouts.
//
// What it does not: it survives the loss of a primary only as far as the server's replication does (a commit that an
// asynchronous replica never got is lost, and with it an order that was promised: see docs/production.md). It works through a
// pooler in session mode only: it prepares statements and holds locks of sessions.
//
// Invariants, kept by every transaction that touches them:
//
//	items.open  = sum of quantity over the item's orders with units 'open'
//	items.sold  = sum of quantity over the item's orders with units 'sold'
//	items.open + items.sold <= items.total            (a CHECK of the table: L1)
//	an order whose units left 'open', or never were, has left exactly one settlement in the outbox
//	catalog.version rises with every change of a merchant, a caller, an activity or of an item's total, epoch or suspicion
//
// # Locks
//
// Transactions are READ COMMITTED, each statement on a snapshot of its own, and take their locks in one order:
//
//  1. the advisory lock of the catalog (who changes merchants, callers, activities, tokens by hand; nobody else)
//  2. rows of orders, by (sale, id)
//  3. rows of items, by id
//  4. new rows: orders, payments, outbox
//  5. the catalog's row
//
// What the order can't foresee (two calls that keep the same payments crosswise, a person with a shell) ends in a deadlock, which
// the server breaks: its victim has done nothing, and is tried again, six times at most.
//
// An item's row is the lock of its stock. Whoever makes an order (Accept), or decides that one will never be (Bury), or changes
// epoch or total (Fence, Restock, Withdraw), takes it before anything else, and reads what it decides on in later statements of
// the same round trip: they see all that the row's last holder has committed. Whoever ends an order (Cancel, Pay, TimeOut) takes
// the order's row first and decides on that alone; the item's counts move in the round trip that commits. So, pair by pair:
//
//   - Two workers with one record, or with two of one buyer (L4, L5): the second waits at the item's row, and then finds the first
//     one's order and what the buyer has. The primary key stands behind that.
//   - Two workers with the last unit (L1): the second reads the counts that the first has committed. The CHECK stands behind that.
//   - Bury and Accept of one order: both take the item's row. Accept second finds the tombstone; Bury second finds the order.
//   - Fence and Accept, Bury or Withdraw: who comes after the fence reads the new epoch, and makes nothing of an older one.
//   - Fence and an order's end: an end needs the item's row to commit, so none does while the fence has it, and the snapshot,
//     pinned in that time, has counts that are those of its orders. An end that comes later leaves its settlement in the
//     outbox, for the new epoch.
//   - Restock or Withdraw and Fence: the outbox row is there before the fence, which takes it out as its snapshot counts it; or
//     after, and is delivered to the new epoch.
//   - Payment, cancel and timeout of one order: one has the row, the others then read what it made of it; TimeOut leaves rows
//     out that somebody has, and comes again.
//   - One payment for two orders: both insert its row, the second waits for the first's commit and fails at the primary key; it
//     begins again, and finds it.
//   - A cancel that frees a unit while Accept decides: its counts move when it gets the item's row, so Accept decides on the older
//     ones. That can only be too strict, and only where Redis gave out what it didn't have: while the two agree, a unit that
//     was held is within the total.
//
// The rebuild lock (LockItem) is only a saving of work: see the type locks for what makes two holders harmless.
//
// A transaction that decides holds an item's row for two round trips and a commit. So one item's orders are made as fast as one
// backend can make them, some 40,000 a second on a core; those of several items run side by side.
//
// # Partitions
//
// orders has a partition for each activity, which goes away in one step when the activity is over (DropEnded): no rows are
// deleted, nothing is vacuumed, and the indexes of a running sale are as small as the sale. Every statement names the sale, which
// is found by the item that the order's id begins with, so that one partition is planned and locked, however many there are.
// docs/adr/0010 has what was measured.
//
// # Roles
//
// The role that migrates owns the tables. The processes need less, and should have a role of their own: what it may do is listed
// in deploy/postgres-grants.sql, which a test runs a whole sale on. Partitions are made and dropped by two functions that run
// with the owner's rights and do nothing else. A process whose role may not migrate is told KeepSchema.
package postgres
