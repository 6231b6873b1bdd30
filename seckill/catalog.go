package seckill

import (
	"time"

	"penstock/inventory"
)

// Catalog is an immutable snapshot of merchants, callers and activities, indexed for the hot path. Its lookups don't allocate
// and keep nothing of their arguments.
type Catalog struct {
	Version    int64
	Loaded     time.Time // on this process's clock
	merchants  map[MerchantID]*Merchant
	callers    map[[32]byte]*Caller
	activities map[ActivityID]*Sale
	items      map[inventory.ItemID]*Offer
	offers     []*Offer // in the order of activities and items
}

// Sale is an activity as the hot path sees it.
type Sale struct {
	*Activity
	offers map[SKU]*Offer
	since  time.Time // when this process first saw the activity in this state and window
}

// Offer is an item as the hot path sees it.
type Offer struct {
	*Item
	Sale       *Sale
	notStarted *Refusal
}

// Ref names the offer's shard.
func (o *Offer) Ref() inventory.Ref { return inventory.Ref{Item: o.ID, Epoch: o.Epoch} }

// NewCatalog indexes data. earlier may be nil; what didn't change since keeps the time it was first seen.
func NewCatalog(data *CatalogData, earlier *Catalog, now time.Time) *Catalog {
	c := &Catalog{
		Version:    data.Version,
		Loaded:     now,
		merchants:  make(map[MerchantID]*Merchant, len(data.Merchants)),
		callers:    make(map[[32]byte]*Caller, len(data.Callers)),
		activities: make(map[ActivityID]*Sale, len(data.Activities)),
		items:      make(map[inventory.ItemID]*Offer),
	}
	for i := range data.Merchants {
		c.merchants[data.Merchants[i].ID] = &data.Merchants[i]
	}
	for i := range data.Callers {
		if caller := &data.Callers[i]; !caller.Revoked {
			c.callers[caller.KeyHash] = caller
		}
	}
	for i := range data.Activities {
		c.addActivity(&data.Activities[i], earlier, now)
	}
	return c
}

func (c *Catalog) addActivity(a *Activity, earlier *Catalog, now time.Time) {
	sale := &Sale{Activity: a, offers: make(map[SKU]*Offer, len(a.Items)), since: now}
	if old := earlier.Activity(a.ID); old != nil && old.State == a.State && old.StartsAt.Equal(a.StartsAt) && old.EndsAt.Equal(a.EndsAt) {
		sale.since = old.since
	}
	notStarted := &Refusal{Code: CodeNotStarted, StartsAt: a.StartsAt}
	for j := range a.Items {
		offer := &Offer{Item: &a.Items[j], Sale: sale, notStarted: notStarted}
		sale.offers[offer.SKU] = offer
		c.items[offer.ID] = offer
		c.offers = append(c.offers, offer)
	}
	c.activities[a.ID] = sale
}

// Caller returns the caller whose key has this SHA-256, or nil.
func (c *Catalog) Caller(keyHash [32]byte) *Caller { return c.callers[keyHash] }

// Merchant returns the merchant, or nil.
func (c *Catalog) Merchant(id MerchantID) *Merchant { return c.merchants[id] }

// Activity returns the activity, or nil. A nil Catalog has none.
func (c *Catalog) Activity(id ActivityID) *Sale {
	if c == nil {
		return nil
	}
	return c.activities[id]
}

// Offer returns the item, or nil.
func (c *Catalog) Offer(id inventory.ItemID) *Offer { return c.items[id] }

// Offer returns the activity's item of that SKU, or nil.
func (s *Sale) Offer(sku SKU) *Offer { return s.offers[sku] }

// refusal says why the offer can't be bought at now, nil where it can, and since when no order of it can be new. That is
// later than the moment it closed by grace, the longest a purchase may take: one that arrived in time may still take its hold.
func (o *Offer) refusal(now time.Time, grace time.Duration) (refusal *Refusal, since time.Time) {
	a := o.Sale.Activity
	switch closes := a.Closes(); {
	case a.State == ActivityEnded:
		return errEnded, o.Sale.since.Add(grace)
	case !now.Before(closes):
		return errEnded, latest(o.Sale.since, closes).Add(grace)
	case a.State == ActivityPaused:
		return errPaused, o.Sale.since.Add(grace)
	case now.Before(a.StartsAt):
		return o.notStarted, o.Sale.since.Add(grace)
	}
	return nil, time.Time{}
}

// live returns the shards to keep an eye on: of every item that may have been sold, until its keys may be forgotten.
func (c *Catalog) live(now time.Time, retention time.Duration) []inventory.Ref {
	var refs []inventory.Ref
	for _, offer := range c.offers {
		if offer.Epoch != 0 && offer.Sale.live(now, retention) {
			refs = append(refs, offer.Ref())
		}
	}
	return refs
}

// live reports whether the activity's stock is still needed.
func (s *Sale) live(now time.Time, retention time.Duration) bool {
	return s.State != ActivityDraft && now.Before(s.Closes().Add(retention+s.PaymentWindow))
}

// neverSold reports whether the offer is of a draft that was ended: it has no stock to keep.
func (o *Offer) neverSold() bool { return o.Sale.State == ActivityEnded && o.Epoch == 0 }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
