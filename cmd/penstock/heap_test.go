package main

import (
	"math"
	"testing"
	"testing/fstest"
)

func TestRoomyPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 1_600}, {1 << 20, 1_600}, {16 << 20, 400}, {64 << 20, 100}, {1 << 30, 100},
	} {
		if got := roomyPercent(c.live); got != c.want {
			t.Errorf("%d bytes alive: %d %%, want %d", c.live, got, c.want)
		}
	}
}

func TestGroupLimit(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, c := range map[string]struct {
		root fstest.MapFS
		want int64
	}{
		"a container": {fstest.MapFS{
			"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("536870912\n"),
		}, 536870912},
		"a unit, and a slice with less": {fstest.MapFS{
			"proc/self/cgroup": file("0::/system.slice/penstock.service\n"),
			"sys/fs/cgroup/system.slice/penstock.service/memory.max": file("2000\n"),
			"sys/fs/cgroup/system.slice/memory.max":                  file("1000\n"),
		}, 1000},
		"no limit":        {fstest.MapFS{"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("max\n")}, math.MaxInt64},
		"version 1":       {fstest.MapFS{"proc/self/cgroup": file("4:memory:/x\n")}, math.MaxInt64},
		"out of the root": {fstest.MapFS{"proc/self/cgroup": file("0::/../../x\n"), "sys/fs/cgroup/x/memory.max": file("7")}, 7},
		"no groups":       {fstest.MapFS{}, math.MaxInt64},
	} {
		if got := groupLimit(c.root); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
