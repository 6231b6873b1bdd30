// Package protocol is the purchase protocol as an executable model. It walks every interleaving of
// a tiny sale, breadth first, each state once, and stops at the first state that breaks a law, with
// a shortest path to it.
//
// It is the design, not the product: no package of the product imports it, and it imports none. A
// change of the protocol is made here first. That the code follows the rules is shown by
// internal/proof/sim and by the tests of seckill and inventory.
//
// # How to run it
//
//	go test ./internal/proof/protocol                              small sales, and every mutant
//	go test ./internal/proof/protocol -run NoLawBroken -long -timeout 3h -v
//	go test ./internal/proof/protocol -run Mutants -rewrite        write testdata/mutants anew
//	go test ./internal/proof/protocol -run 'TestWalk_One$' -v -walk 'faults=restore,crash fair'
//	go test ./internal/proof/protocol -run 'TestWalk_One$' -v -walk 'faults=park without=noparkrow'
//
// The words of -walk are the fields of Options, in small letters: see Parse. GOGC=50 saves memory.
// A mutant is a rule that is left out. Each breaks a law, and testdata/mutants has the shortest
// path there: the list of them is Mutants. The paths are scenarios for the simulator.
//
// # What is modelled
//
//   - One shard, or two, each with its own epoch, closes and holds. There are two items: both on
//     the one shard, or one on each. Each shard has a node of Redis and a rebuilder of its own.
//     They share the log, the worker, the database and its incarnation. Two faults, one of each
//     shard, are those of a node that has both.
//   - One to three orders (keys), one to three attempts (repeats of a key). An order by the buyer s
//     is a withdrawal by the shop.
//   - A hold is one call for any subset of the waiting attempts of a gateway. Those that got one
//     become one page, which is of one shard. It reaches the log as late as it likes, or never.
//   - Time enters only where the design leans on it: a live attempt may still answer 202. The wait
//     of a rebuild, and of a doom, is over when no older attempt is live. A sweep's age has passed
//     when no attempt is live that had its hold before the note.
//   - A barrier is the log's length at the moment of the write. With more partitions than one the
//     worker takes unread records in any order, as if each were in a partition of its own.
//   - One barrier may serve both shards, if their wait-outs were over before its marker was
//     written. That is as if each had written its own, one directly after the other. So it leads to
//     no state that barriers of one's own do not lead to.
//   - Workers crash and compete: a transaction compares the position, so neither needs a step.
//   - LOST and the run id are hints. After a failover that forgot, a process notices at any moment,
//     or never. That is more than can happen; so no law leans on what a process has seen.
//   - A locked row is as a record at fault: the promise is parked as a row, which keeps its unit.
//
// With spread, the two items stand for the two stock rows of one item. An order by the buyer m
// moves a unit from its row to the other: the shop holds it, one transaction moves the totals, then
// the outbox restocks the other shard and settles the hold, in this order. A buyer whose shard is
// empty is told sold-out, or that the sale is busy. Any process may move, at any moment, for no
// reason: when it is worth while is a matter of speed.
//
// The faults are:
//   - empty: Redis is emptied
//   - failover: Redis forgets a suffix of its writes
//   - split: a failover, and gateway 1 goes on with the old primary
//   - restore: the database loses a suffix of its transactions
//   - tail: the log loses its last record
//   - park: a promise is at fault
//   - restock: of item 0; with units=0,1 it is its publication
//   - late: a message to Redis is delayed
//   - early: a desk cancels an order without a row
//   - crash: of a sweeper or a rebuilder
//   - suspect: a rebuild for nothing
//
// # What is not modelled
//
//   - quantities, loading in pages, and more than two shards
//   - how a buyer's hash finds its shard: Validate demands that each buyer of a spread item has one
//   - the age of what a gateway knows of the other shard, and real time
//   - payments without a row
//   - anything lost with a restored database that has no record in the log
//
// A walk of a small sale says nothing about a larger one.
//
// # Invariants
//
// In every state:
//
//   - L1: no stock row is oversold in the database, and the totals of a spread item's rows add up
//     to the item's.
//   - L2: a promise is not buried. It is rejected only after a store lost what it had acknowledged.
//     It is excused only when its row and its record are gone.
//   - L5: the limit per buyer, which is one.
//   - L6, of a spread item before any loss: sold-out is not told while a unit is available, or on a
//     move.
//
// In every quiet state each promise has a row (L2), and Redis has the units and the holds of the
// rows (L3). With Fair, from every state a quiet and balanced one can be reached, by steps that are
// no faults (L3).
//
// The files follow the actors: buy.go and worker.go, order.go (desk, relay, shop), spread.go,
// sweep.go, rebuild.go, barrier.go, fault.go. state.go is what there is, laws.go what must hold,
// walk.go the search.
package protocol
