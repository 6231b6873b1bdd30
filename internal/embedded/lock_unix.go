//go:build unix

package embedded

import (
	"errors"
	"os"
	"syscall"
)

// errLocked means that another process has the lock.
var errLocked = errors.New("locked")

// flock locks an open file without waiting. The lock ends when the file is closed or the process
// ends, for any reason.
func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errLocked
		case !errors.Is(err, syscall.EINTR):
			return err
		}
	}
}
