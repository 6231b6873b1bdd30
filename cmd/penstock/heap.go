package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// heapRoom is the least that a process may allocate between two garbage collections, in bytes. By
// default Go collects when the heap has doubled. A process with a small catalog has some 15 MB
// alive: under load it would collect ten times a second, which takes a seventh of a worker's
// processor time.
const heapRoom = 64 << 20

// heapLook is how often the percentage is set anew, for the present size of the heap.
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

// roomyPercent returns the garbage collector's percentage that leaves heapRoom above live bytes; at
// least Go's default of 100.
func roomyPercent(live uint64) int {
	const most = 1_600
	if live == 0 {
		return most
	}
	return int(min(max(heapRoom*100/live, 100), most))
}
