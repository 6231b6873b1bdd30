//go:build unix

package node

import (
	"syscall"
	"time"
)

// processorTime returns how much processor time this process has used; known is false if the system
// doesn't say it.
func processorTime() (used time.Duration, known bool) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, false
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), true
}
