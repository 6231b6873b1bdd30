package seckill

import (
	"time"

	"penstock/inventory"
)

// ActivityState is where an activity is in its life: draft → published ⇄ paused → ended.
type ActivityState string

// The states of an activity. Only a published one sells, and only within its window.
const (
	ActivityDraft     ActivityState = "draft"
	ActivityPublished ActivityState = "published"
	ActivityPaused    ActivityState = "paused"
	ActivityEnded     ActivityState = "ended"
)

// Activity is a sale: a window in time and the items sold in it. It is immutable once it is in a Catalog.
type Activity struct {
	ID            ActivityID
	Merchant      MerchantID
	Name          string
	State         ActivityState
	StartsAt      time.Time // inclusive
	EndsAt        time.Time // exclusive
	PaymentWindow time.Duration
	EndedAt       time.Time // when it was ended by hand; zero otherwise
	Items         []Item
}

// Item is one SKU of an activity.
type Item struct {
	ID       inventory.ItemID // given by the store
	SKU      SKU
	Price    Money
	Quantity int64 // total units: what was asked for at first, plus restocks
	PerUser  int   // the most units one buyer may have; 0 is no limit
	Epoch    inventory.Epoch
	Suspect  bool // somebody saw this epoch's shard lose writes: rebuild it
}

// Closes returns when the activity stops selling.
func (a *Activity) Closes() time.Time {
	if !a.EndedAt.IsZero() && a.EndedAt.Before(a.EndsAt) {
		return a.EndedAt
	}
	return a.EndsAt
}
