package main

import (
	"context"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// heapRoom is the least that a process may allocate between two garbage collections, in bytes. By
// default Go collects when the heap has doubled. A process with a small catalog has some 15 MB
// alive: under load it would collect ten times a second, which takes a seventh of a worker's
// processor time.
const heapRoom = 64 << 20

// heapLook is how often the percentage is computed again, for the present size of the heap.
const heapLook = 2 * time.Second

// keepHeapRoom gives the process its heapRoom until stop is called, within its control groups. A
// percentage in the environment (GOGC) stays as it is.
func keepHeapRoom(ctx context.Context) (stop func()) {
	keepWithinGroups()
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		tick := time.NewTicker(heapLook)
		defer tick.Stop()
		before := 100
		for {
			metrics.Read(live)
			if percent := roomyPercent(live[0].Value.Uint64()); percent != before {
				debug.SetGCPercent(percent)
				before = percent
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// keepWithinGroups gives Go a memory limit of nine tenths of what the control groups allow, so that
// garbage is collected before the kernel ends the process. A limit that the environment sets
// (GOMEMLIMIT) stays as it is.
func keepWithinGroups() {
	if limit := groupLimit(os.DirFS("/")); os.Getenv("GOMEMLIMIT") == "" && limit != math.MaxInt64 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
}

// groupLimit returns the smallest limit of the process's control groups (version 2), from its own
// up to the root, in bytes; math.MaxInt64 means no limit, as in package runtime/debug.
func groupLimit(root fs.FS) int64 {
	least := int64(math.MaxInt64)
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return least
	}
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for group = path.Clean("/" + group); ; group = path.Dir(group) {
			limit, err := fs.ReadFile(root, path.Join("sys/fs/cgroup", group, "memory.max"))
			if n, bad := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64); err == nil && bad == nil && n > 0 {
				least = min(least, n)
			}
			if group == "/" {
				break
			}
		}
	}
	return least
}

// roomyPercent returns the percentage for the garbage collector with which it leaves heapRoom above
// live bytes. It is at least 100, Go's default.
func roomyPercent(live uint64) int {
	const most = 1_600
	if live == 0 {
		return most
	}
	return int(min(max(heapRoom*100/live, 100), most))
}
