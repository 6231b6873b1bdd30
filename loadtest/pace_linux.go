package loadtest

import (
	"syscall"
	"time"
)

// The runtime's timers wake up to a millisecond late on Linux where nothing else is running, which would be charged to the
// server. nap sleeps the last bit in the kernel instead, some 70 µs late.
const napFrom = time.Millisecond

// nap sleeps for d, which is short. A signal may end it early; whoever naps looks at the clock anyway.
func nap(d time.Duration) {
	if d <= 0 {
		return
	}
	pause := syscall.NsecToTimespec(d.Nanoseconds())
	for {
		if err := syscall.Nanosleep(&pause, &pause); err != syscall.EINTR {
			return
		}
	}
}
