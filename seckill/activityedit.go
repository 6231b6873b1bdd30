package seckill

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock/inventory"
)

// Clone copies an activity, with its items. A nil activity gives nil.
func (a *Activity) Clone() *Activity {
	if a == nil {
		return nil
	}
	out := *a
	out.Items = slices.Clone(a.Items)
	return &out
}

// ActivityEdit is a change of an activity in progress, inside a store's transaction that has locked
// its rows. It decides how the stock rows change, and a store writes them.
type ActivityEdit struct {
	Old, Next    *Activity // Old is nil for a new activity
	WasPublished bool      // it was on sale before
	Shards       int       // of the installation

	// What Settle finds out.
	Published bool                       // it is on sale afterwards, or was before
	Known     map[inventory.ItemID]*Item // of Old
	Made      map[StockKey]int64         // stock rows to make, with their totals
}

// Deletes reports whether the activity is to be deleted: Next is nil. An error says that it can't
// be.
func (e *ActivityEdit) Deletes() (bool, error) {
	switch {
	case e.Next != nil:
		return false, nil
	case e.Old == nil || e.WasPublished:
		return false, errors.New("only a draft can be deleted")
	}
	return true, nil
}

// Settle completes Next to what will be stored: its times are rounded to the microsecond, and items
// that were on sale keep their quantities. An error says which item can't be changed as wanted.
func (e *ActivityEdit) Settle() error {
	a := e.Next
	for _, t := range []*time.Time{&a.StartsAt, &a.EndsAt, &a.EndedAt, &a.Archive.At} {
		if !t.IsZero() {
			*t = t.UTC().Truncate(time.Microsecond)
		}
	}
	e.Published = e.WasPublished || a.State == ActivityPublished || a.State == ActivityPaused
	e.Made = make(map[StockKey]int64)
	e.Known = make(map[inventory.ItemID]*Item)
	if e.Old != nil {
		for i := range e.Old.Items {
			e.Known[e.Old.Items[i].ID] = &e.Old.Items[i]
		}
	}
	seen := make(map[inventory.ItemID]bool, len(a.Items))
	for i := range a.Items {
		item := &a.Items[i]
		if item.Spread < 1 || item.Spread > e.Shards {
			return fmt.Errorf("item %s: spread %d is not between 1 and %d", item.SKU, item.Spread, e.Shards)
		}
		if item.ID == 0 {
			continue
		}
		was := e.Known[item.ID]
		switch {
		case was == nil || was.SKU != item.SKU || seen[item.ID]:
			return fmt.Errorf("item %d is not the item %s of the activity", item.ID, item.SKU)
		case e.WasPublished && item.Spread < was.Spread:
			return fmt.Errorf("item %s: it was on sale on %d shards, and can't be on %d", item.SKU, was.Spread, item.Spread)
		case e.WasPublished:
			item.Quantity = was.Quantity
		}
		seen[item.ID] = true
	}
	if e.WasPublished && len(seen) != len(e.Known) {
		return errors.New("an item that was on sale is missing")
	}
	return nil
}

// ItemsChanged reports whether the items differ from those that are stored.
func (e *ActivityEdit) ItemsChanged() bool {
	return e.Old == nil || !slices.Equal(e.Old.Items, e.Next.Items)
}

// ChangeRows decides about the stock rows of an item that changes. anew means that the existing
// rows must be deleted first.
func (e *ActivityEdit) ChangeRows(was, item *Item) (anew bool) {
	switch {
	case e.WasPublished:
		for i := was.Spread; i < item.Spread; i++ { // empty ones; a mover brings units later
			e.Made[StockKey{item.ID, inventory.ShardAt(item.ID, i, e.Shards)}] = 0
		}
	case was.Quantity != item.Quantity || was.Spread != item.Spread:
		e.Divide(item)
		return true
	}
	return false
}

// Divide gives each of the item's shards its share.
func (e *ActivityEdit) Divide(item *Item) {
	for i := range item.Spread {
		e.Made[StockKey{item.ID, inventory.ShardAt(item.ID, i, e.Shards)}] = Share(item.Quantity, i, item.Spread)
	}
}
