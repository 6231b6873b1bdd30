package limiter

import (
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// TestRecent_RemembersNoKeyThatDidNotCome: compared with a map, it may forget a key, but never
// reports one that did not come.
func TestRecent_RemembersNoKeyThatDidNotCome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const span = 10
		r, marked, now := NewRecent(8, span), map[uint64]int64{}, int64(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Int64Range(0, 4).Draw(t, "passed")
			key := rapid.Uint64Range(1, 20).Draw(t, "key")
			if rapid.Bool().Draw(t, "mark") {
				r.Mark(key, now)
				marked[key] = now
				if !r.Has(key, now) {
					t.Fatalf("%d is forgotten at once", key)
				}
				continue
			}
			if at, ok := marked[key]; r.Has(key, now) && (!ok || now >= at+span) {
				t.Fatalf("at %d there is %d, marked at %d", now, key, at)
			}
		}
	})
}

// TestRecent_KeepsWhatItHasRoomFor: at a quarter of its room it forgets few keys. Many goroutines
// may use it.
func TestRecent_KeepsWhatItHasRoomFor(t *testing.T) {
	const keys = 1 << 14
	r := NewRecent(4*keys, 100)
	mixed := func(i int) uint64 { return uint64(i+1) * 0x9E3779B97F4A7C15 >> 7 }
	var all sync.WaitGroup
	for part := range 4 {
		all.Go(func() {
			for i := part; i < keys; i += 4 {
				r.Mark(mixed(i), 1)
			}
		})
	}
	all.Wait()
	lost := 0
	for i := range keys {
		if !r.Has(mixed(i), 2) {
			lost++
		}
	}
	if lost > keys/20 {
		t.Errorf("%d of %d keys are forgotten", lost, keys)
	}
	if n := testing.AllocsPerRun(100, func() { r.Mark(7, 3); r.Has(7, 3) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
