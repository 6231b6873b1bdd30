package node

import "testing"

// TestShortage: the processor is short while enough goroutines wait long enough to run, and for ten
// seconds afterwards.
func TestShortage(t *testing.T) {
	s := newShortage()
	buckets := []float64{0, 0.001, 0.002, 0.01}
	sum := []uint64{0, 0, 0}
	look := func(quick, some, long uint64) bool {
		sum[0], sum[1], sum[2] = sum[0]+quick, sum[1]+some, sum[2]+long
		return s.take(sum, buckets)
	}
	for _, c := range []struct {
		quick, some, long uint64
		want              bool
	}{{1000, 1000, 1000, false}, {1000, 0, 0, false}, {1000, 500, 20, false}, {1000, 0, 100, true}, {0, 0, 0, true}} {
		if got := look(c.quick, c.some, c.long); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	for i := range calmLooks {
		if got := look(1000, 0, 0); got && i == calmLooks-1 {
			t.Error("short for ever")
		}
	}
	newShortage().look() // the runtime's metrics can be read
}
