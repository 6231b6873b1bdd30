// Package raced says whether a test runs under the race detector. The detector allocates, and makes
// sync.Pool drop values at random, so allocations can't be counted under it. Simulations of one
// goroutine at a time are ten times slower under it and show nothing more: `make test` runs their
// packages once more, without it.
package raced
