// Package sim runs the real code of the sale (seckill's Desk, Worker, Relay, Timeouts, Sweeper, Rebuilder and Office, on
// internal/sqlite) under faults that a seed chooses, and looks at the laws after every step.
//
// Each process of the simulated installation calls Redis, the queue and the database over seams. A call over a seam does
// nothing by itself: it parks, until the one who drives the run lets it go. It may be executed and answered, executed and its
// answer lost, executed long after its caller gave up, executed twice, or not at all. Time is testing/synctest's, and passes
// only when the driver says so. So one goroutine decides everything, and a seed, or a text file, is a whole history.
//
// # What is real
//
// All of seckill, and the store. Redis is stocktest.Model, which inventory's conformance suite holds against the Lua scripts;
// the queue is a log of ours with consumer groups and offsets (log.go). A process is what cmd/penstock makes of the parts: each
// has its own catalog, its own memory of what it has seen, and dies with all of its calls in flight.
//
// # What drives it
//
//   - chaos.go: a seed. Which faults there are at all is chosen first, then every step.
//   - scenario.go: a text file of testdata, one for each row of the design's crash table and each race that was ever argued about.
//
// Either way the run ends with all faults off, and time passing until the books balance: check.go.
//
// # What it does not have
//
// Several shards of an item, limits on callers, HTTP, and the real Redis and Kafka: those are internal/proof/e2e's. A process that
// crashes loses its memory, not its disk. internal/proof/protocol walks every interleaving of a design of this size; this package
// walks some interleavings of the code.
package sim
