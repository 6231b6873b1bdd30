// Package storetest is the conformance suite of seckill.Store, for SQLite and PostgreSQL. It has a
// case per rule, and compares random sequences with a model in memory.
//
//	storetest.Exercise(t, func(t *testing.T, now func() time.Time) seckill.Store {
//		return open(t, now, storetest.Shards) // a new, empty store
//	})
//
// What it promises: a store that passes can be put under the workers, the sweeper, the rebuilder
// and the office. Cases that prove a law are named after it (TestL1_…). Each of the four conditions
// has its cases: Position_…, Epoch_…, NextEpoch_…, Incarnation_….
//
// What it does not: it knows nothing of files, servers or power. The store's own tests show that a
// commit survives a crash. They use WriteUntilKilled for the process to be killed, and
// CheckSurvivors for the check.
//
// The cases about locked rows need a store that implements Locker; for other stores they are
// skipped.
package storetest
