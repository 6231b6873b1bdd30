package seckill

import (
	"errors"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/inventory"
)

// Catalog is an immutable snapshot of merchants, callers and activities, indexed for the hot path.
// Its lookups don't allocate and keep nothing of their arguments. A nil Catalog is empty.
//
// The next catalog shares all unchanged parts with it, so that the cost of a change depends on its
// own size, not on the catalog's (see stripes and itemTable).
type Catalog struct {
	Version CatalogVersion
	Loaded  time.Time // on this process's clock

	generation uint64
	clock      *clock // shared with the catalogs before and after
	merchants  stripes[MerchantID, *Merchant]
	keys       stripes[[32]byte, *Credential]
	byName     stripes[CallerRef, *Caller]
	activities stripes[ActivityID, *Sale]
	spread     stripes[ActivityID, *Sale] // sales with items that are spread over several shards
	onSale     stripes[MerchantID, int]   // how many items of a merchant are published or paused
	numbers    numberTable
	items      itemTable
}

// Sale is an activity, indexed for the hot path.
type Sale struct {
	*Activity
	skus       *skuIndex
	number     uint32 // its place in Catalog.numbers
	clock      *clock
	since      time.Time // when this process first saw the activity in this state and window
	notStarted *Refusal
}

// Offer is an item with its activity, for the hot path. The zero value is no offer.
type Offer struct {
	*Item
	Sale *Sale
}

// clock has the difference between the database's clock and this process's. Sales begin and end by
// the database's clock, so all gateways sell in the same window, even if their own clocks are
// wrong.
type clock struct{ ahead atomic.Int64 }

func (c *clock) offset() time.Duration { return time.Duration(c.ahead.Load()) }

// Merchant returns the merchant, or nil.
func (c *Catalog) Merchant(id MerchantID) *Merchant {
	if c == nil {
		return nil
	}
	return c.merchants.get(hashText(string(id)), id)
}

// Credential returns the key that has this SHA-256 with its caller, whether it is valid or not, or
// nil.
func (c *Catalog) Credential(keyHash [32]byte) *Credential {
	if c == nil {
		return nil
	}
	return c.keys.get(keyHash[0], keyHash)
}

// credentials goes through all keys, in no order.
func (c *Catalog) credentials() iter.Seq[*Credential] {
	if c == nil {
		return func(func(*Credential) bool) {}
	}
	return c.keys.all
}

// NamedCaller returns the caller of that name, revoked or not, or nil.
func (c *Catalog) NamedCaller(name CallerRef) *Caller {
	if c == nil {
		return nil
	}
	return c.byName.get(hashText(string(name.Caller)), name)
}

// Activity returns the activity, or nil.
func (c *Catalog) Activity(id ActivityID) *Sale {
	if c == nil {
		return nil
	}
	return c.activities.get(hashText(string(id)), id)
}

// Offer returns the item with this id, and whether there is one.
func (c *Catalog) Offer(id inventory.ItemID) (Offer, bool) {
	if c == nil {
		return Offer{}, false
	}
	at := c.items.get(id)
	if at.number == 0 {
		return Offer{}, false
	}
	sale := c.numbers.get(at.number)
	return Offer{&sale.Items[at.place], sale}, true
}

// Offer returns the activity's item of that SKU, and whether there is one.
func (s *Sale) Offer(sku SKU) (Offer, bool) {
	i := s.skus.find(s.Items, sku)
	if i < 0 {
		return Offer{}, false
	}
	return Offer{&s.Items[i], s}, true
}

// SKUs returns how many items a merchant has in published or paused activities.
func (c *Catalog) SKUs(merchant MerchantID) int {
	if c == nil {
		return 0
	}
	return c.onSale.get(hashText(string(merchant)), merchant)
}

// Merchants goes through all merchants, in no order.
func (c *Catalog) Merchants() iter.Seq[*Merchant] {
	if c == nil {
		return func(func(*Merchant) bool) {}
	}
	return c.merchants.all
}

// Callers goes through all callers, revoked ones included, in no order.
func (c *Catalog) Callers() iter.Seq[*Caller] {
	if c == nil {
		return func(func(*Caller) bool) {}
	}
	return c.byName.all
}

// Sales goes through all activities, in no order.
func (c *Catalog) Sales() iter.Seq[*Sale] {
	if c == nil {
		return func(func(*Sale) bool) {}
	}
	return c.activities.all
}

// Spread goes through the items that are spread over several shards, in no order. Its cost depends
// on the number of activities with such items.
func (c *Catalog) Spread() iter.Seq[Offer] {
	return func(yield func(Offer) bool) {
		if c == nil {
			return
		}
		c.spread.all(func(sale *Sale) bool {
			for i := range sale.Items {
				if sale.Items[i].Spread > 1 && !yield(Offer{&sale.Items[i], sale}) {
					return false
				}
			}
			return true
		})
	}
}

// Now returns the database's time, as far as this process knows it.
func (c *Catalog) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	return time.Now().Add(c.clock.offset())
}

// SetClock sets how far the database's clock is ahead of this process's, for this catalog and for
// those made from it.
func (c *Catalog) SetClock(ahead time.Duration) {
	if c != nil {
		c.clock.ahead.Store(int64(ahead))
	}
}

// Shared refusals of a sale that is not open.
var (
	errEnded  = &Refusal{Code: CodeEnded}
	errPaused = &Refusal{Code: CodePaused, Detail: "The sale is paused.", RetryAfter: 2 * time.Second}
)

// Refusal returns why the offer can't be bought at now; nil if it can. closed is the time after
// which no new order of it can begin: the moment it closed, plus grace, the longest time that a
// purchase may take. Both times are on this process's clock.
func (o Offer) Refusal(now time.Time, grace time.Duration) (refusal *Refusal, since time.Time) {
	a, ahead := o.Sale.Activity, o.Sale.clock.offset()
	closes, starts := a.Closes().Add(-ahead), a.StartsAt.Add(-ahead)
	switch {
	case a.State == ActivityEnded:
		return errEnded, o.Sale.since.Add(grace)
	case !now.Before(closes):
		return errEnded, latest(o.Sale.since, closes).Add(grace)
	case a.State == ActivityPaused:
		return errPaused, o.Sale.since.Add(grace)
	case now.Before(starts):
		return o.Sale.notStarted, o.Sale.since.Add(grace)
	}
	return nil, time.Time{}
}

// Live reports whether the activity's stock is still needed at now, on this process's clock: units
// of it may have been sold, and its keys may still be remembered.
func (s *Sale) Live(now time.Time, retention time.Duration) bool {
	return s.State != ActivityDraft &&
		now.Add(s.clock.offset()).Before(s.Closes().Add(retention+s.PaymentWindow))
}

// Place returns the shard of a hold on the offer, in an installation with that many shards.
func (o Offer) Place(id string, shards int) inventory.ShardID {
	return inventory.Place(o.ID, o.Spread, id, shards)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// CatalogEdit makes the next catalog of an earlier one. It is used by one goroutine, once.
type CatalogEdit struct {
	next    *Catalog
	earlier *Catalog
}

// Edit begins the next catalog. earlier may be nil. If whole is set, entries that are not applied
// are deleted. An unchanged activity keeps the time at which it was first seen.
func (c *Catalog) Edit(whole bool, now time.Time) *CatalogEdit {
	next := &Catalog{clock: new(clock)}
	if c != nil && whole {
		next.clock = c.clock
	}
	if c != nil && !whole {
		*next = *c
		next.generation++
	}
	next.Loaded = now
	return &CatalogEdit{next: next, earlier: c}
}

// errItemsMissing means that a store left out items that were never read: load the whole catalog.
var errItemsMissing = errors.New("an activity came without its items, and they are not known")

// Apply puts a change into the next catalog, which keeps references to the change's data. After an
// error the whole catalog must be loaded.
func (e *CatalogEdit) Apply(change CatalogChange) error {
	switch {
	case change.Merchant != nil:
		m := change.Merchant
		e.next.merchants.set(e.next.generation, hashText(string(m.ID)), m.ID, m)
	case change.Caller != nil:
		e.caller(change.Caller)
	case change.Activity != nil:
		return e.activity(change.Activity, change.ItemsKept)
	default:
		e.drop(change.Dropped)
	}
	return nil
}

func (e *CatalogEdit) caller(caller *Caller) {
	next := e.next
	if m := next.Merchant(caller.Merchant); m != nil {
		caller.Merchant = m.ID // the callers of a merchant share one string
	}
	uses := make(map[KeyID]*keyUse)
	if old := next.NamedCaller(caller.CallerRef); old != nil {
		for i := range old.Keys {
			hash := old.Keys[i].Hash
			if known := next.keys.get(hash[0], hash); known != nil {
				uses[old.Keys[i].ID] = known.use
			}
			next.keys.drop(next.generation, hash[0], hash)
		}
	}
	next.byName.set(next.generation, hashText(string(caller.Caller)), caller.CallerRef, caller)
	for i := range caller.Keys {
		key := &caller.Keys[i]
		use := uses[key.ID]
		if known := e.earlier.Credential(key.Hash); use == nil && known != nil {
			use = known.use // kept when the catalog is loaded as a whole
		}
		if use == nil {
			use = new(keyUse)
		}
		next.keys.set(next.generation, key.Hash[0], key.Hash, &Credential{*key, caller, next.clock, use})
	}
}

func (e *CatalogEdit) drop(id ActivityID) {
	next := e.next
	old := next.Activity(id)
	if old == nil {
		return
	}
	e.count(old, -1)
	for i := range old.Items {
		next.items.set(next.generation, old.Items[i].ID, place{})
	}
	next.numbers.drop(next.generation, old.number)
	next.activities.drop(next.generation, hashText(string(id)), id)
	next.spread.drop(next.generation, hashText(string(id)), id)
}

func (e *CatalogEdit) activity(a *Activity, itemsKept bool) error {
	next := e.next
	sale := &Sale{
		Activity: a, clock: next.clock, since: next.Loaded,
		notStarted: &Refusal{Code: CodeNotStarted, StartsAt: a.StartsAt},
	}
	known, old := e.earlier.Activity(a.ID), next.Activity(a.ID)
	if known != nil && known.State == a.State && known.StartsAt.Equal(a.StartsAt) && known.EndsAt.Equal(a.EndsAt) {
		sale.since = known.since
	}
	switch from := firstSale(old, known); {
	case itemsKept && from == nil:
		return errItemsMissing
	case itemsKept:
		a.Items, sale.skus = from.Items, from.skus
	default:
		a.Items = compactItems(a.Items)
		sale.skus = newSKUIndex(a.Items)
	}
	if m := next.Merchant(a.Merchant); m != nil {
		a.Merchant = m.ID
	}
	e.count(old, -1)
	e.count(sale, 1)
	if old != nil {
		sale.number = old.number
		next.numbers.set(next.generation, sale)
		for i := range old.Items {
			if i >= len(a.Items) || a.Items[i].ID != old.Items[i].ID {
				next.items.set(next.generation, old.Items[i].ID, place{})
			}
		}
	} else {
		next.numbers.add(next.generation, sale)
	}
	if old == nil || !itemsKept {
		for i := range a.Items {
			next.items.set(next.generation, a.Items[i].ID, place{sale.number, uint32(i)})
		}
	}
	stripe := hashText(string(a.ID))
	next.activities.set(next.generation, stripe, a.ID, sale)
	if slices.ContainsFunc(a.Items, func(item Item) bool { return item.Spread > 1 }) {
		next.spread.set(next.generation, stripe, a.ID, sale)
	} else {
		next.spread.drop(next.generation, stripe, a.ID)
	}
	return nil
}

// count adds the items of a sale to the number that its merchant has on sale, or subtracts them.
func (e *CatalogEdit) count(sale *Sale, sign int) {
	if sale == nil || sale.State != ActivityPublished && sale.State != ActivityPaused || len(sale.Items) == 0 {
		return
	}
	next, at := e.next, hashText(string(sale.Merchant))
	if n := next.onSale.get(at, sale.Merchant) + sign*len(sale.Items); n > 0 {
		next.onSale.set(next.generation, at, sale.Merchant, n)
	} else {
		next.onSale.drop(next.generation, at, sale.Merchant)
	}
}

func firstSale(sales ...*Sale) *Sale {
	for _, s := range sales {
		if s != nil {
			return s
		}
	}
	return nil
}

// Done returns the next catalog, read up to a version. The edit must not be used after that.
func (e *CatalogEdit) Done(version CatalogVersion) *Catalog {
	e.next.Version = version
	return e.next
}
