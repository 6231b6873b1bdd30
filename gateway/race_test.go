//go:build race

package gateway

// underRace says that sync.Pool drops values at random, so allocations can't be counted.
const underRace = true
