package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// heapRoom is how much a process may allocate between two collections of its memory, at least. Go
// waits for as much as is alive, which is some 15 MB in a process with a small catalog: it would
// collect ten times a second under load, for a seventh of a worker's processor time.
const heapRoom = 64 << 20

// heapLook is how often the room is set anew for what is alive by then.
const heapLook = 2 * time.Second

// keepHeapRoom gives the process its heapRoom until stop is called. A percentage that the
// environment sets (GOGC) stays as it is.
func keepHeapRoom(ctx context.Context) (stop func()) {
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

// roomyPercent is the percentage of what is alive that leaves heapRoom: Go's own 100 where that is
// more.
func roomyPercent(live uint64) int {
	const most = 1_600
	if live == 0 {
		return most
	}
	return int(min(max(heapRoom*100/live, 100), most))
}
