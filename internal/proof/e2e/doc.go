// Package e2e has the tests that drive real processes: the binary is built, started, killed and
// asked through its two listeners, as its users do. Nothing here looks inside.
//
// Not promised: speed. No test measures time. Waits are bounded, and end with the expected event.
package e2e
