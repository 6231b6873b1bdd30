package inventory_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"

	"github.com/penstock/penstock/inventory"
)

// Two units, three buyers: the third one is refused, one order is paid, one is cancelled, and its
// unit is on sale again. The Redis is in the process.
func Example() {
	redis := miniredis.NewMiniRedis()
	if err := redis.Start(); err != nil {
		panic(err)
	}
	defer redis.Close()
	ctx := context.Background()
	stock, err := inventory.Open(ctx, inventory.Config{Addrs: []string{redis.Addr()}})
	if err != nil {
		panic(err)
	}
	defer stock.Stop()

	// An empty shard is loaded under its first epoch, and opened.
	ref, phone := inventory.Ref{Shard: 0, Epoch: 1}, inventory.ItemID(7)
	must(stock.Close(ctx, ref))
	must(stock.Load(ctx, ref, []inventory.Stocked{{Item: phone, Total: 2, Available: 2}}, nil))
	must(stock.Open(ctx, ref, 1, 0))

	// One call for many buyers. A name is a head (item and buyer) and a tail of sixteen bytes.
	hold := func(buyer string) inventory.Hold {
		return inventory.Hold{Item: phone, ID: "0000007:" + buyer + "0000000000000001", Buyer: buyer, Quantity: 1}
	}
	call := &inventory.HoldCall{Ref: ref}
	for _, buyer := range []string{"u-1", "u-2", "u-3"} {
		call.Claims = append(call.Claims, inventory.Claim{Hold: hold(buyer), Limit: 1})
	}
	stock.Hold(ctx, []*inventory.HoldCall{call})
	must(call.Err)
	for i, claim := range call.Claims {
		fmt.Println(claim.Buyer, "has a unit:", call.Verdicts[i] == inventory.Held)
	}

	must(stock.Confirm(ctx, ref, []inventory.Hold{hold("u-1"), hold("u-2")}))
	must(stock.Settle(ctx, ref, []inventory.Settlement{
		{Hold: hold("u-1"), Kind: inventory.SettleSold}, {Hold: hold("u-2"), Kind: inventory.SettleVoid},
	}))
	_, items, err := stock.ItemNumbers(ctx, ref.Shard, []inventory.ItemID{phone})
	must(err)
	fmt.Printf("available %d, held %d, sold %d\n", items[0].Available, items[0].Held, items[0].Sold)
	// Output:
	// u-1 has a unit: true
	// u-2 has a unit: true
	// u-3 has a unit: false
	// available 1, held 0, sold 1
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
