package seckill

import (
	"context"
	"fmt"

	"github.com/penstock/penstock/inventory"
)

// ItemReader reads items of shards.
type ItemReader interface {
	// ItemNumbers reads items of the shard at one moment with its levels, whatever its epoch.
	ItemNumbers(ctx context.Context, shard inventory.ShardID, items []inventory.ItemID) (inventory.Numbers, []inventory.ItemNumbers, error)
}

// OrderReader reads orders.
type OrderReader interface {
	OrdersOf(ctx context.Context, item inventory.ItemID, after OrderID, limit int) ([]OrderID, error)
	FindOrders(ctx context.Context, ids []OrderID) ([]Order, error)
}

// FindForgotten returns those of the items that a shard doesn't know, and the digest over the names
// of their sold orders there. The items belong to ended activities whose rows are not dropped yet,
// so the shard's digest differs from that of the books by just this digest. It reads all orders of
// such items, limit at a time. Its proof is in internal/proof/sim (upkeep_test.go).
func FindForgotten(ctx context.Context, stock ItemReader, store OrderReader, shard inventory.ShardID, items []inventory.ItemID,
	limit int) (gone []inventory.ItemID, sold inventory.Digest, err error) {
	for len(items) > 0 {
		n := min(len(items), limit)
		_, numbers, err := stock.ItemNumbers(ctx, shard, items[:n])
		if err != nil {
			return nil, 0, fmt.Errorf("read items of the shard: %w", err)
		}
		for i := range numbers {
			if !numbers[i].Known {
				gone = append(gone, numbers[i].Item)
			}
		}
		items = items[n:]
	}
	for _, item := range gone {
		names, err := soldNames(ctx, store, shard, item, limit)
		if err != nil {
			return nil, 0, fmt.Errorf("read the orders of item %d: %w", item, err)
		}
		sold = sold.Add(names)
	}
	return gone, sold, nil
}

// soldNames returns the digest over the names of an item's sold orders on a shard.
func soldNames(ctx context.Context, store OrderReader, shard inventory.ShardID, item inventory.ItemID,
	limit int) (sum inventory.Digest, err error) {
	for after := OrderID(""); ; {
		page, err := store.OrdersOf(ctx, item, after, limit)
		if err != nil || len(page) == 0 {
			return sum, err
		}
		orders, err := store.FindOrders(ctx, page)
		if err != nil {
			return 0, err
		}
		for i := range orders {
			if o := &orders[i]; o.Units == UnitsSold && o.Grant.Shard == shard {
				sum = sum.Add(inventory.NameDigest(string(o.ID)))
			}
		}
		after = page[len(page)-1]
	}
}
