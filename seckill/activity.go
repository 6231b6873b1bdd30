package seckill

import (
	"time"

	"github.com/penstock/penstock/inventory"
)

// ActivityState is the state of an activity: draft → published ⇄ paused → ended.
type ActivityState string

// The states of an activity. Only a published one sells, and only within its window.
const (
	ActivityDraft     ActivityState = "draft"
	ActivityPublished ActivityState = "published"
	ActivityPaused    ActivityState = "paused"
	ActivityEnded     ActivityState = "ended"
)

// Activity is a sale: a window in time and the items sold in it. It is immutable once it is in a
// Catalog.
type Activity struct {
	ID            ActivityID
	Merchant      MerchantID
	Name          string
	State         ActivityState
	StartsAt      time.Time // inclusive
	EndsAt        time.Time // exclusive
	PaymentWindow time.Duration
	EndedAt       time.Time // when it was ended by hand; zero otherwise
	Archive       Archive   // of its orders; zero if there is none
	Items         []Item
}

// Archive describes a copy of an activity's orders that is kept elsewhere. The orders may be
// dropped here if nothing about them has changed since.
type Archive struct {
	At  time.Time // the copy has the orders as they were at this time, or later
	Sum string    // SHA-256 of the export, in hex
}

// Equal reports whether two archives are equal.
func (a Archive) Equal(b Archive) bool { return a.Sum == b.Sum && a.At.Equal(b.At) }

// Item is one SKU of an activity.
type Item struct {
	ID        inventory.ItemID // set by the store
	SKU       SKU
	Price     Money
	Quantity  int64 // total units: the first quantity, plus restocks
	PerUser   int   // the most units one buyer may have; 0 is no limit
	MaxOrders int   // the most orders one buyer may make, ended ones included; 0 is the default
	Spread    int   // over how many shards the item is spread; at least 1
}

// OrderBound returns the most orders that one buyer may make of the item, including cancelled ones.
// Without a bound, buying and cancelling in a loop would fill Redis (L8).
func (i *Item) OrderBound() int {
	if i.MaxOrders > 0 {
		return i.MaxOrders
	}
	return max(10, 10*i.PerUser)
}

// Closes returns when the activity stops selling.
func (a *Activity) Closes() time.Time {
	if !a.EndedAt.IsZero() && a.EndedAt.Before(a.EndsAt) {
		return a.EndedAt
	}
	return a.EndsAt
}
