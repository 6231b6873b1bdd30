// Package faults tries a whole installation under real faults: servers and processes that are
// killed, stopped, cut off, full, emptied, restored, failed over.
//
//	make faults                      # all kinds, one after another
//	make faults FAULTS=redis-flush   # one, or some with commas between
//
// Each kind happens during a sale of 60 items in 4 activities, on two gateways and two workers of
// the real binary with real servers. Buyers come at a steady rate over HTTP, click twice, repeat
// their keys, cancel and pay. Afterwards the laws are checked from outside: by what buyers were
// told, by queries of the database, by the numbers in Redis, and by `penstock audit`. Kinds that
// can share an installation do; one that does not come to its end is the last of its installation.
//
// It promises that a law that was broken fails the test, and that the failure prints how to repeat
// it. Nothing that it asserts depends on how fast the machine is. It needs Linux; what needs a
// mount is skipped, with a line that says so, where mounting is not permitted.
package faults
