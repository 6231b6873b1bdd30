//go:build race

package batch

const raceEnabled = true // the detector allocates, and makes sync.Pool forget
