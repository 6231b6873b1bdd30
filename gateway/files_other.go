//go:build !unix

package gateway

// fileLimit returns how many files this process may have open, and 0 where that isn't known.
func fileLimit() uint64 { return 0 }
