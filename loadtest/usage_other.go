//go:build !unix

package loadtest

import "time"

// cpuTime returns the processor time that this process has used, and false if it is unknown.
func cpuTime() (time.Duration, bool) { return 0, false }
