//go:build !unix

package gateway

import (
	"errors"
	"net"
	"syscall"
)

// fileLimit returns how many files this process may have open, and 0 if that isn't known.
func fileLimit() uint64 { return 0 }

// rawOf returns nil: connections are read without their file.
func rawOf(net.Conn) syscall.RawConn { return nil }

func readFile(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
