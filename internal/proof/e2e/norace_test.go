//go:build !race

package e2e

// raceEnabled has the processes built as the tests are.
const raceEnabled = false
