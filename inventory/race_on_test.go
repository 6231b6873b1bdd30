//go:build race

package inventory

const raceEnabled = true // the detector allocates, and makes sync.Pool forget
