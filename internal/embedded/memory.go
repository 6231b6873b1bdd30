package embedded

import (
	"math"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
)

// The part of Go's memory limit that the process may use before the stock is full. The garbage
// collector needs the rest.
const (
	usableShare = 4
	usableOf    = 5
)

// The runtime's metrics that Memory reads, by their place in its samples.
const (
	goLimit = iota
	goLive
	goTotal
	goReleased
	goObjects
	goFree
	goUnused
)

// Memory returns how much memory the process needs, without garbage, and the most that it should
// need, both in bytes. The second is four fifths of Go's memory limit, or 0 if there is no limit.
// The stock is in this memory, so the second number is like the maxmemory of a Redis.
func (p *Parts) Memory() (used, most int64) {
	samples := []metrics.Sample{
		goLimit:    {Name: "/gc/gomemlimit:bytes"},
		goLive:     {Name: "/gc/heap/live:bytes"},
		goTotal:    {Name: "/memory/classes/total:bytes"},
		goReleased: {Name: "/memory/classes/heap/released:bytes"},
		goObjects:  {Name: "/memory/classes/heap/objects:bytes"},
		goFree:     {Name: "/memory/classes/heap/free:bytes"},
		goUnused:   {Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(samples)
	bytes := func(i int) int64 { return int64(min(samples[i].Value.Uint64(), math.MaxInt64)) }
	mapped := bytes(goTotal) - bytes(goReleased)
	beside := mapped - bytes(goObjects) - bytes(goFree) - bytes(goUnused) // stacks and the runtime's own
	foreign := max(0, resident()-mapped)                                  // the database's pages
	return bytes(goLive) + max(0, beside) + foreign, usable(bytes(goLimit))
}

// usable is the part of Go's memory limit that the process should use; 0 if there is no limit.
func usable(limit int64) int64 {
	if limit == math.MaxInt64 {
		return 0
	}
	return limit / usableOf * usableShare
}

// resident returns the resident memory of the process; 0 if /proc doesn't say it.
func resident() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
