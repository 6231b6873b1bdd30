//go:build unix

package gateway

import (
	"net"
	"syscall"
)

// fileLimit returns how many files this process may have open, and 0 if that isn't known.
func fileLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0 // the limit is only a safety margin; without it MaxConnections still holds
	}
	return uint64(limit.Cur)
}

// rawOf returns what reads a connection's file without a buffer to wait with, and nil if the
// connection has no file.
func rawOf(c net.Conn) syscall.RawConn {
	if file, ok := c.(syscall.Conn); ok {
		if raw, err := file.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// readFile reads what a file has, without waiting. fd is one that is not in blocking mode.
func readFile(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }
