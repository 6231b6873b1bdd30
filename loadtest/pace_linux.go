package loadtest

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// napFrom is from which pause on a napper isn't needed. The runtime's timers wake up to a millisecond late on Linux where nothing else is
// running, which would be charged to the server.
const napFrom = time.Millisecond

// napper sleeps the last bit of a pause on a timer of the kernel (timerfd_create(2)), some 70 µs late. The runtime waits for it
// together with all connections: a plain nanosleep would keep one of the processors from those whose answers are there.
type napper struct {
	file *os.File
	fd   uintptr
}

func newNapper() (*napper, error) {
	const clockMonotonic = 1
	fd, _, failed := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if failed != 0 {
		return nil, fmt.Errorf("timerfd_create: %w", failed)
	}
	return &napper{os.NewFile(fd, "timer"), fd}, nil
}

// nap sleeps for d. Only one may nap at a time.
func (n *napper) nap(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	setting := struct{ interval, value syscall.Timespec }{value: syscall.NsecToTimespec(d.Nanoseconds())}
	if _, _, failed := syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, n.fd, 0, uintptr(unsafe.Pointer(&setting)), 0, 0, 0); failed != 0 {
		return fmt.Errorf("timerfd_settime: %w", failed)
	}
	var expirations [8]byte
	_, err := n.file.Read(expirations[:])
	return err
}

func (n *napper) close() error { return n.file.Close() }
