//go:build race

package gateway

// underRace says that pools drop what they are given, at random: allocations can't be counted.
const underRace = true
