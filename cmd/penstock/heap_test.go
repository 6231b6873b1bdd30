package main

import "testing"

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
