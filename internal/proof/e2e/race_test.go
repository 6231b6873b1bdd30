//go:build race

package e2e

// raceEnabled makes the tests build the processes with the race detector, like themselves.
const raceEnabled = true
