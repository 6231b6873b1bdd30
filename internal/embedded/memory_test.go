package embedded

import (
	"math"
	"runtime"
	"testing"
)

// TestMemory_IsWithoutGarbage: memory in use counts, and freed memory doesn't.
func TestMemory_IsWithoutGarbage(t *testing.T) {
	var parts Parts
	kept := make([]byte, 256<<20)
	for i := range kept {
		kept[i] = 1
	}
	runtime.GC()
	with, _ := parts.Memory()
	if with < int64(len(kept)) {
		t.Errorf("%d bytes, with %d kept", with, len(kept))
	}
	runtime.KeepAlive(kept)
	kept = nil
	runtime.GC()
	if without, _ := parts.Memory(); without > with-128<<20 {
		t.Errorf("%d bytes, and %d before they were let go", without, with)
	}
}

func TestUsable(t *testing.T) {
	for limit, want := range map[int64]int64{math.MaxInt64: 0, 1000: 800, 512 << 20: (512 << 20) / 5 * 4, 0: 0} {
		if got := usable(limit); got != want {
			t.Errorf("of %d: %d, want %d", limit, got, want)
		}
	}
}
