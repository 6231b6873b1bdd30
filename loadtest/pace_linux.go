package loadtest

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// napFrom is the length of a pause from which a napper isn't needed. On Linux the runtime's timers
// may be up to a millisecond late on an idle machine, and that would count against the server.
const napFrom = time.Millisecond

// napper sleeps the last part of a pause on a timer of the kernel (timerfd_create(2)), which is
// some 70 µs late. The runtime waits for this timer together with all connections. A plain
// nanosleep would block a processor while answers are waiting.
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

// nap sleeps for d. Only one nap at a time is allowed.
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
