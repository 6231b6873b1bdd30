// Package storetest is the conformance suite of seckill.Store: what SQLite and PostgreSQL must both do, case by case, and
// against a model in memory for the sequences that nobody thought of.
//
// What it promises: a store that passes can be put under the workers, the sweeper, the rebuilder and the office. Cases that
// prove a law are named after it (TestL1_…).
//
// What it does not: it knows nothing of files, servers or power. That a commit survives a crash is shown by the store's own
// tests, with WriteUntilKilled as the victim and CheckSurvivors as the judge.
package storetest
