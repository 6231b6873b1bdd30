//go:build unix

package loadtest

import (
	"syscall"
	"time"
)

// cpuTime returns the processor time that this process has used, and false if it is unknown.
func cpuTime() (time.Duration, bool) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, false
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), true
}
