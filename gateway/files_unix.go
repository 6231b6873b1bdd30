//go:build unix

package gateway

import "syscall"

// fileLimit returns how many files this process may have open, and 0 where that isn't known.
func fileLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0 // the limit is a safety margin; without it MaxConnections alone holds
	}
	return uint64(limit.Cur)
}
