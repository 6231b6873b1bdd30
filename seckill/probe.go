package seckill

import (
	"math"
	"time"

	"github.com/penstock/penstock/inventory"
)

// The names of the merchant, caller, activity and item of probes. No merchant, activity or caller
// of a shop can have them: CheckName refuses the colon.
const (
	ProbeMerchant MerchantID = ":probe"
	ProbeActivity ActivityID = ":probe"
	ProbeCaller   CallerID   = "gateway"
	ProbeSKU      SKU        = "probe"
)

// ProbeItem is the item of probes. It never has units or a row on any shard, since no database
// gives out its id. So no unit can be taken.
const ProbeItem inventory.ItemID = math.MaxUint32

// ProbeCatalog returns a catalog for a gateway's probes: a caller with one key, and an activity
// that is always on sale, with an item spread over all shards. It is not part of the shop's
// catalog.
func ProbeCatalog(keyHash [32]byte, shards int) (*Catalog, error) {
	edit := (*Catalog)(nil).Edit(true, time.Now())
	for _, change := range []CatalogChange{
		{Merchant: &Merchant{ID: ProbeMerchant, Name: "Probes"}},
		{Caller: &Caller{
			CallerRef: CallerRef{ProbeMerchant, ProbeCaller}, Name: "Probes", Rights: RightBuy,
			Keys: []CallerKey{{ID: "probe", Hash: keyHash}},
		}},
		{Activity: &Activity{
			ID: ProbeActivity, Merchant: ProbeMerchant, Name: "Probes", State: ActivityPublished,
			StartsAt: time.Unix(0, 0), EndsAt: time.Unix(1<<40, 0),
			Items: []Item{{ID: ProbeItem, SKU: ProbeSKU, Spread: shards}},
		}},
	} {
		if err := edit.Apply(change); err != nil {
			return nil, err
		}
	}
	return edit.Done(CatalogVersion{}), nil
}
