package loadtest

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// napFrom is from which pause on a napper isn't needed. The runtime's timers wake up to a
// millisecond late on Linux where nothing else is running, which would be charged to the server.
const napFrom = time.Millisecond

// napper sleeps the last bit of a pause on a timer of the kernel (timerfd_create(2)), some 70 µs
// late. The runtime waits for it together with all connections: a plain nanosleep would keep one of
// the processors from those whose answers are there.
type napper struct {
	file *os.File
	fd   int
}

func newNapper() (*napper, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	return &napper{os.NewFile(uintptr(fd), "timer"), fd}, nil
}

// nap sleeps for d. Only one may nap at a time.
func (n *napper) nap(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	setting := unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}
	if err := unix.TimerfdSettime(n.fd, 0, &setting, nil); err != nil {
		return fmt.Errorf("timerfd_settime: %w", err)
	}
	var expirations [8]byte
	_, err := n.file.Read(expirations[:])
	return err
}

func (n *napper) close() error { return n.file.Close() }
