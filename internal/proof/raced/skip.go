package raced

import "testing"

// Skip skips a test of one goroutine at a time under the race detector.
func Skip(t testing.TB) {
	t.Helper()
	if Enabled {
		t.Skip("one goroutine at a time: make test runs it without the race detector, too")
	}
}
