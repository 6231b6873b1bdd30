package sqlite

import (
	"fmt"
	"testing"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// The ids of an item's orders are one range of the index, and no other item's lie in it.
func TestOrderRange(t *testing.T) {
	items := []inventory.ItemID{1, 2, 3, 31, 32, 255, 256, 65535, 65536, 1<<31 - 1, 1 << 31, 1<<32 - 2, 1<<32 - 1}
	for _, item := range items {
		first, last := orderRange(item)
		for _, other := range items {
			for k := range 50 {
				id := string(seckill.NewOrderID(other, seckill.CallerRef{Merchant: "m", Caller: "c"}, "u", fmt.Sprint(k)))
				if inside := first <= id && id <= last; inside != (item == other) {
					t.Fatalf("order %s of item %d lies in %s to %s of item %d: %v", id, other, first, last, item, inside)
				}
			}
		}
		for _, bound := range []string{first, last} {
			if got := seckill.OrderID(bound).Item(); got != item {
				t.Errorf("bound %s of item %d names item %d", bound, item, got)
			}
		}
	}
}
