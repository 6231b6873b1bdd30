package node

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// residentMemory returns the resident memory of this process in bytes: from the kernel, or, without
// /proc, the memory that the Go runtime has taken from the system.
func residentMemory() int64 {
	const pages = 1 // the field in /proc/self/statm, see proc(5)
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > pages {
			if n, err := strconv.ParseInt(fields[pages], 10, 64); err == nil {
				return n * int64(os.Getpagesize())
			}
		}
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.Sys)
}
