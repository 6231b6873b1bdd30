//go:build race

package raced

// Enabled is true under the race detector.
const Enabled = true
