//go:build race

package batch

const raceEnabled = true // the race detector allocates, and makes sync.Pool drop values
