package limiter

import (
	"testing"
	"time"
)

// TestKeys: each key has a burst and a rate of its own, and keys without end use no more memory.
func TestKeys(t *testing.T) {
	k := NewKeys(10, 3, 100, at(0))
	take := func(key uint64, now time.Time) (n int) {
		for k.Allow(key, now) {
			n++
		}
		return n
	}
	const spread = 0x9E3779B97F4A7C15
	for key := range uint64(5) {
		if got := take((key+1)*spread, at(0)); got != 3 {
			t.Errorf("key %d: %d at once", key, got)
		}
	}
	if got := take(spread, at(200*time.Millisecond)); got != 2 {
		t.Errorf("%d after 200 ms", got)
	}
	if take(0, at(0)) != 3 || k.Allow(1, at(0)) {
		t.Error("0 and 1 aren't the same key")
	}
	slots := len(k.table.slots)
	for key := range uint64(100_000) {
		k.Allow((key+10)*spread, at(time.Second))
	}
	if len(k.table.slots) != slots {
		t.Errorf("%d slots, %d before", len(k.table.slots), slots)
	}
	if allocs := testing.AllocsPerRun(100, func() { k.Allow(spread, at(time.Minute)) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
