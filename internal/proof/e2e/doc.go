// Package e2e has the tests that drive real processes: the binary is built, started, killed and
// asked through its two listeners, as its users do. Nothing here looks inside.
//
// Not promised: speed. No test measures time; waits are bounded and end on what is waited for.
package e2e
