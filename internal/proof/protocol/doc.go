// Package protocol is the purchase protocol as an executable model: every interleaving of a tiny sale, walked depth first,
// each state looked at once, up to the first that breaks a law.
//
// It is the design, not the product: no package of the product imports it, and it imports none. What it proves is that the
// rules the code is written by (epochs, the accept deadline, fences, doom, markers, see docs/adr) are enough, and, by
// leaving each out in turn (Mutants), that none of them is spare. That the code follows the rules is shown by
// internal/proof/sim and the tests of seckill and inventory.
//
// # What it has
//
// A Redis shard and its replica, attempts to buy (several may share one order, as repeats of a key do), the log with a
// worker, the database with its outbox, the relay, the sweeper, the rebuilder, and if asked a merchant who restocks and
// withdraws in mid-sale. Every message to Redis may arrive late, twice or never; a record may reach the log long after its
// attempt gave up; worker and rebuilder crash; Redis comes back empty, or, after a failover, with less than it acknowledged.
//
// Time enters only where the design leans on it: a live attempt is one that may still answer 202, and the sweep's age and
// the rebuild's wait are longer than any attempt lives.
//
// # What it does not have
//
// Quantities above one, limits per buyer, several shards of an item, more than one worker. Those are left to tests of the
// code. A walk of a finite configuration says nothing about a larger one.
//
// The files follow the actors: attempt.go, worker.go, settle.go, sweep.go, rebuild.go, merchant.go, fault.go. state.go is
// what there is, laws.go what must hold, walk.go the search.
package protocol
