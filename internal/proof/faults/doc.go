// Package faults tries a whole installation under real faults: servers and processes that are
// killed, stopped, cut off, full, emptied, restored, failed over.
//
//	make faults                      # all kinds, one after another
//	make faults FAULTS=redis-flush   # one, or some with commas between
//
// Each kind happens during a sale of 60 items in 4 activities, on two gateways and two workers of
// the real binary with real servers. Buyers come at a steady rate over HTTP, click twice, repeat
// their keys, cancel and pay. Afterwards the laws are checked from outside: by the buyers' answers,
// by queries of the database, by the numbers in Redis, and by `penstock audit`. Kinds share an
// installation where they can. After a kind that fails to end, its installation is not used
// further.
//
// It promises that a broken law fails the test, and that the failure prints how to repeat it. No
// assertion depends on the speed of the machine. It needs Linux. Where mounting is not permitted,
// the kinds that need a mount are skipped, with a line that says so.
package faults
