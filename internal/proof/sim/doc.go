// Package sim runs the real code of the sale under faults that a seed chooses, and looks at the
// laws after every step.
//
// Each process of the simulated installation is the assembly that ships, internal/node's Sale:
// desk, worker, teller, relay, timeouts, unparker, sweeper, rebuilder, auditor, mover and barrier,
// on internal/sqlite. It calls Redis, the queue and the database over seams. A call over a seam
// does nothing by itself: it parks, until the driver of the run lets it go. It may be executed and
// answered, executed and its answer lost, executed long after its caller gave up, executed twice,
// or not at all. Time is testing/synctest's, and passes only when the driver says so. So one
// goroutine decides everything, and a seed, or a text file, is a whole history.
//
// # How to run it
//
//	go test ./internal/proof/sim                                   fixed seeds, scenarios, mutants' patches
//	go test ./internal/proof/sim -run 'TestSim$' -sim.seeds 5000   more of the fixed seeds
//	go test ./internal/proof/sim -run 'TestSim$' -sim.time 1h      new seeds, for so long
//	go test ./internal/proof/sim -run 'TestSim$' -sim.time 1h -sim.from 5000 -sim.record seeds.txt
//	                                                               these and on, with a line for each minute's
//	go test ./internal/proof/sim -run 'TestSim$' -v -sim.seed 17   one seed, with its path
//	go test ./internal/proof/sim -run 'TestMutants$' -sim.mutants all
//
// A seed that breaks a law is made shorter: steps are left out as long as the law still breaks. The
// failure prints the short path, and the command that repeats it. With -v a run prints what it met,
// and a table of the calls and of what became of them. In the default run no possible cell of it is
// zero.
//
// # What is real
//
// All of seckill, its desk and its back office, as internal/node joins them, and the store. Redis
// is stocktest.Model, which inventory's conformance suite holds against the Lua scripts; the queue
// is a log of this package with leader epochs (log.go). Each process has its own catalog and its
// own memory of what it has seen. It dies with all of its calls in flight.
//
// # What may go wrong
//
//   - To a call: refused, its answer lost or late, executed late or twice.
//   - To a process: it crashes, it is stopped and goes on, it can't reach one of the servers. The
//     only process of an installation dies with its Redis, and starts again alone.
//   - To Redis, all of it or one shard's: it fails over to a replica that lags, it is emptied.
//   - To the queue: partitions without a leader, a lost tail, a topic made again, a rebalance.
//   - To the database: it is restored to an earlier moment, somebody has a stock row, its clock
//     jumps.
//
// # What drives it
//
//   - chaos.go: a seed. It first chooses which faults can happen at all, then every step.
//   - scenario.go: a text file of testdata. There is one for each row of the design's crash table,
//     for the faults of its section 12, and for the paths in
//     internal/proof/protocol/testdata/mutants that are about the order of the code.
//
// Either way the run ends with all faults off, and time passing until the books balance: check.go.
// Then it looks at the rest from outside: every order against its hold, every payment against its
// order, every answer that somebody was given, the places in the queue's buffer. At last one more
// buyer comes for each item, somebody who gave an earlier order up if there is one.
//
// # What it does not have
//
// Limits on callers, HTTP, and the real Redis and Kafka: those are internal/proof/e2e's. Clocks:
// all processes share one, and the timers of a stopped process run on, though it does nothing with
// them. A process that crashes loses its memory, not its disk. The locks of SQLite: one transaction
// writes at a time, so what passes what between two statements is internal/postgres' to test.
// internal/proof/protocol walks every interleaving of a design of this size; this package walks
// some interleavings of the code.
package sim
