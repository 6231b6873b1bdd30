// Package storetest is the conformance suite of seckill.Store: what SQLite and PostgreSQL must both
// do, case by case, and against a model in memory for unforeseen sequences.
//
//	storetest.Exercise(t, func(t *testing.T, now func() time.Time) seckill.Store {
//		return open(t, now, storetest.Shards) // a new, empty store
//	})
//
// What it promises: a store that passes can be put under the workers, the sweeper, the rebuilder
// and the office. Cases that prove a law are named after it (TestL1_…). Each of the four conditions
// has its cases: Position_…, Epoch_…, NextEpoch_…, Incarnation_….
//
// What it does not: it knows nothing of files, servers or power. That a commit survives a crash is
// shown by the store's own tests, with WriteUntilKilled as the victim and CheckSurvivors as the
// judge.
//
// A store that implements Locker shows what it does with locked rows; the cases of others are
// skipped.
package storetest
