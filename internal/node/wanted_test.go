package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/internal/wait"
	"github.com/penstock/penstock/inventory"
)

func TestWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rung []string
		w := &wants{ring: func(message string) { rung = append(rung, message) }}
		for range 1_000 {
			w.want(3, 7)
		}
		w.want(4, 7)
		wait.For(t.Context(), wantedEvery+time.Millisecond)
		w.want(3, 7)
		if len(rung) != 3 {
			t.Fatalf("rang %q, want three", rung)
		}
		shard, item, ok := parseWanted(rung[1])
		if !ok || shard != 4 || item != inventory.ItemID(7) {
			t.Errorf("%q is read as shard %d, item %d, %v", rung[1], shard, item, ok)
		}
		for _, other := range []string{ringSettings, "wanted", "wanted 1", "wanted x y", "wanted 99999999 1"} {
			if _, _, ok := parseWanted(other); ok {
				t.Errorf("%q is read as wanted", other)
			}
		}
	})
}
