package desk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// ShopStock is the part of the stock that an office uses.
type ShopStock interface {
	seckill.Holder
	// ItemNumbers reads items of the shard at one moment with its levels, whatever its epoch.
	ItemNumbers(ctx context.Context, shard inventory.ShardID, items []inventory.ItemID) (inventory.Numbers, []inventory.ItemNumbers, error)
}

// Office serves a shop and its operators: activities, restocks, dead letters, audits. It is
// safe for concurrent use.
type Office struct {
	// Fixed after NewOffice.
	stock ShopStock
	store seckill.Store
	desk  *Desk
	log   *slog.Logger
}

// NewOffice makes an office that works with the desk's catalog and store.
func NewOffice(d *Desk, stock ShopStock) *Office {
	return &Office{stock: stock, store: d.store, desk: d, log: d.log}
}

// Shared refusals of the office.
var (
	errNoSuchActivity    = &seckill.Refusal{Code: seckill.CodeUnknownActivity, Detail: "There is no activity with this name."}
	errNoSuchMerchant    = &seckill.Refusal{Code: seckill.CodeUnknownMerchant, Detail: "There is no merchant with this name."}
	errInsufficientStock = &seckill.Refusal{Code: seckill.CodeInsufficientStock}
	errHasEnded          = &seckill.Refusal{Code: seckill.CodeActivityState, Detail: "The activity has ended."}
	errIsDraft           = &seckill.Refusal{
		Code: seckill.CodeActivityState, Detail: "The activity is a draft: change its quantity by putting the draft.",
	}
	errMerchantStays = &seckill.Refusal{Code: seckill.CodeNotEditable, Detail: "A published activity keeps its merchant."}
	errNotDraft      = &seckill.Refusal{
		Code: seckill.CodeActivityState, Detail: "Only a draft can be deleted. End the activity instead.",
	}
)

// PutActivity creates a draft, or changes an activity. Of a draft, everything may change. Of a
// published or paused activity, the name, the end and the payment window may change; before its
// start also the start, and the prices, limits and spread of its items. a.State is ignored.
// seckill.FieldErrors names the fields of a that are wrong.
func (o *Office) PutActivity(ctx context.Context, a seckill.Activity, by seckill.Author) (*seckill.Activity, error) {
	if errs := a.Check(o.desk.cfg.Shards); len(errs) > 0 {
		return nil, errs
	}
	if err := o.knowsMerchant(ctx, a.Merchant); err != nil {
		return nil, err
	}
	return o.update(ctx, a.ID, by, func(old *seckill.Activity) (*seckill.Activity, error) {
		return amend(&a, old, o.desk.Now())
	})
}

// CheckActivity returns the error that PutActivity would give, and changes nothing.
func (o *Office) CheckActivity(ctx context.Context, a seckill.Activity) error {
	if errs := a.Check(o.desk.cfg.Shards); len(errs) > 0 {
		return errs
	}
	if err := o.knowsMerchant(ctx, a.Merchant); err != nil {
		return err
	}
	old, err := o.store.FindActivity(ctx, a.ID)
	if err != nil && !errors.Is(err, seckill.ErrNotFound) {
		return storeFailure("read the activity", err)
	}
	_, err = amend(&a, old, o.desk.Now())
	return err
}

// knowsMerchant returns errNoSuchMerchant if there is no such merchant.
func (o *Office) knowsMerchant(ctx context.Context, id seckill.MerchantID) error {
	if o.desk.Catalog().Merchant(id) != nil {
		return nil
	}
	if err := o.desk.Refresh(ctx); err != nil {
		return storeFailure("read the catalog", err)
	}
	if o.desk.Catalog().Merchant(id) == nil {
		return errNoSuchMerchant
	}
	return nil
}

// amend returns the activity that replaces old (nil: a new one) when a is put.
func amend(a, old *seckill.Activity, now time.Time) (*seckill.Activity, error) {
	next := *a
	next.Items = append([]seckill.Item(nil), a.Items...)
	if old == nil {
		next.State = seckill.ActivityDraft
		return &next, nil
	}
	next.State, next.EndedAt = old.State, old.EndedAt
	known := make(map[seckill.SKU]int, len(old.Items))
	for i := range old.Items {
		known[old.Items[i].SKU] = i
	}
	for i := range next.Items {
		if was, ok := known[next.Items[i].SKU]; ok {
			next.Items[i].ID = old.Items[was].ID
		}
	}
	switch {
	case old.State == seckill.ActivityDraft:
		return &next, nil
	case old.State == seckill.ActivityEnded:
		return nil, errHasEnded
	case next.Merchant != old.Merchant:
		return nil, errMerchantStays
	}
	items := slices.Clone(old.Items) // in the order of the old activity
	for i := range next.Items {
		was, ok := known[next.Items[i].SKU]
		if !ok {
			return nil, stays(&next.Items[i], "a published activity gets no new items")
		}
		delete(known, next.Items[i].SKU)
		if err := amendItem(&items[was], &next.Items[i], old, now); err != nil {
			return nil, err
		}
	}
	for i := range items {
		if _, missing := known[items[i].SKU]; missing {
			return nil, stays(&items[i], "it is published, and can't be left out")
		}
	}
	next.Items = items
	if !next.StartsAt.Equal(old.StartsAt) && !now.Before(old.StartsAt) {
		return nil, seckill.FieldErrors{{Field: "starts_at", Detail: "the activity has started"}}
	}
	return &next, nil
}

// startMargin is how long before the start prices can last be changed, so that every node has them
// in force at the start.
const startMargin = 2 * time.Second

// amendItem changes an item of a published or paused activity to next, if the activity's state
// allows it.
func amendItem(item, next *seckill.Item, of *seckill.Activity, now time.Time) error {
	switch {
	case *item == *next:
		return nil
	case item.Quantity != next.Quantity:
		return stays(item, "its quantity changes by a restock once it is published")
	case next.Spread < item.Spread:
		return stays(item, fmt.Sprintf("it is published, and spread over %d shards: over fewer it can't be", item.Spread))
	case !now.Add(startMargin).Before(of.StartsAt):
		return stays(item, "the activity has started, or is about to: prices and limits stay")
	}
	*item = *next
	return nil
}

// stays is the refusal of an item that can't be edited like that.
func stays(item *seckill.Item, why string) error {
	return &seckill.Refusal{Code: seckill.CodeNotEditable, Detail: fmt.Sprintf("The item %s: %s.", item.SKU, why)}
}

// ItemEdit has the values of an item to change; nil leaves a value.
type ItemEdit struct {
	Price   *int64 // in minor units
	PerUser *int
	Spread  *int
}

// EditItem changes an item of a draft, or of an activity that has not started.
func (o *Office) EditItem(ctx context.Context, id seckill.ActivityID, sku seckill.SKU, edit ItemEdit,
	by seckill.Author) (*seckill.Activity, error) {
	return o.update(ctx, id, by, func(old *seckill.Activity) (*seckill.Activity, error) {
		switch {
		case old == nil:
			return nil, errNoSuchActivity
		case old.State == seckill.ActivityEnded:
			return nil, errHasEnded
		}
		i := slices.IndexFunc(old.Items, func(item seckill.Item) bool { return item.SKU == sku })
		if i < 0 {
			return nil, errUnknownItem
		}
		next := old.Clone()
		item := &next.Items[i]
		item.Price.Minor = *cmp.Or(edit.Price, &item.Price.Minor)
		item.PerUser = *cmp.Or(edit.PerUser, &item.PerUser)
		item.Spread = *cmp.Or(edit.Spread, &item.Spread)
		if errs := item.Check(o.desk.cfg.Shards); len(errs) > 0 {
			return nil, errs
		}
		if old.State == seckill.ActivityDraft {
			return next, nil
		}
		wanted := *item
		*item = old.Items[i]
		return next, amendItem(item, &wanted, old, o.desk.Now())
	})
}

// Delete deletes a draft.
func (o *Office) Delete(ctx context.Context, id seckill.ActivityID, by seckill.Author) error {
	_, err := o.update(ctx, id, by, func(old *seckill.Activity) (*seckill.Activity, error) {
		switch {
		case old == nil:
			return nil, errNoSuchActivity
		case old.State != seckill.ActivityDraft:
			return nil, errNotDraft
		}
		return nil, nil
	})
	return err
}

// update changes an activity and brings the change into force here.
func (o *Office) update(ctx context.Context, id seckill.ActivityID, by seckill.Author,
	change func(*seckill.Activity) (*seckill.Activity, error)) (*seckill.Activity, error) {
	a, err := o.store.UpdateActivity(ctx, id, by, change)
	if err != nil {
		return nil, storeFailure("write the activity", err)
	}
	if err := o.desk.Refresh(ctx); err != nil {
		o.log.Warn("the activity is written, but not in force here yet", "activity", id, "err", err)
	}
	return a, nil
}

// move moves an activity from one of the states in from to the state to. If it is in that state
// already, nothing happens.
func (o *Office) move(ctx context.Context, id seckill.ActivityID, by seckill.Author,
	to seckill.ActivityState, from ...seckill.ActivityState) (*seckill.Activity, error) {
	return o.update(ctx, id, by, func(old *seckill.Activity) (*seckill.Activity, error) {
		switch {
		case old == nil:
			return nil, errNoSuchActivity
		case old.State != to && !slices.Contains(from, old.State):
			return nil, &seckill.Refusal{Code: seckill.CodeActivityState, Detail: fmt.Sprintf("The activity is %s.", old.State)}
		}
		next := *old
		next.State = to
		return &next, nil
	})
}

// publishWait is how long Publish waits for the units to reach the stock.
const publishWait = 10 * time.Second

var errUnitsMoving = &seckill.Failure{
	Code: seckill.CodeUnavailable, RetryAfter: time.Second,
	Err: errors.New("published; the units are still on their way to the stock"),
}

// Publish opens a draft for sale. It returns when the units of all items have reached the stock,
// and this process sells from their shards: in a new installation these are opened in its first
// moments. After about ten seconds it returns an error, but the activity stays published;
// publishing it again continues the wait.
func (o *Office) Publish(ctx context.Context, id seckill.ActivityID, by seckill.Author) (*seckill.Activity, error) {
	a, err := o.move(ctx, id, by, seckill.ActivityPublished, seckill.ActivityDraft)
	if err != nil {
		return nil, err
	}
	shards := o.shardsOf(a)
	sells := false
	look := func() bool {
		var waiting int
		waiting, err = o.store.Unpublished(ctx, id)
		sells = err == nil && waiting == 0 && o.sellsFrom(ctx, shards)
		return sells
	}
	if !look() {
		o.desk.lookAgain(ctx, publishWait, look)
	}
	switch {
	case err != nil:
		return nil, storeFailure("look for units on their way", err)
	case !sells:
		return nil, errUnitsMoving
	}
	return a, nil
}

// shardsOf returns the shards of an activity's items.
func (o *Office) shardsOf(a *seckill.Activity) map[inventory.ShardID]bool {
	shards := make(map[inventory.ShardID]bool)
	for i := range a.Items {
		for j := range max(a.Items[i].Spread, 1) {
			shards[inventory.ShardAt(a.Items[i].ID, j, o.desk.cfg.Shards)] = true
		}
	}
	return shards
}

// sellsFrom reports whether shards are open under the epochs that this process follows.
func (o *Office) sellsFrom(ctx context.Context, shards map[inventory.ShardID]bool) bool {
	for shard := range shards {
		levels, _, err := o.stock.ItemNumbers(ctx, shard, nil)
		if err != nil || levels.Closed || levels.Epoch == 0 {
			return false
		}
		if levels.Epoch != o.stock.Epoch(shard) {
			o.desk.isBehind()
			return false
		}
	}
	return true
}

// Pause stops a published activity's sales until Resume. Its orders are not affected.
func (o *Office) Pause(ctx context.Context, id seckill.ActivityID, by seckill.Author) (*seckill.Activity, error) {
	return o.move(ctx, id, by, seckill.ActivityPaused, seckill.ActivityPublished)
}

// Resume ends a pause.
func (o *Office) Resume(ctx context.Context, id seckill.ActivityID, by seckill.Author) (*seckill.Activity, error) {
	return o.move(ctx, id, by, seckill.ActivityPublished, seckill.ActivityPaused)
}

// End ends an activity for good. Its orders are not affected. An activity that may still sell is
// only ended with confirm, because this can't be undone. The store's transaction decides, on the
// activity's state at that moment.
func (o *Office) End(ctx context.Context, id seckill.ActivityID, confirmed bool, by seckill.Author) (*seckill.Activity, error) {
	return o.update(ctx, id, by, func(old *seckill.Activity) (*seckill.Activity, error) {
		if old == nil {
			return nil, errNoSuchActivity
		}
		next := *old
		if old.State == seckill.ActivityEnded {
			return &next, nil
		}
		now := o.desk.Now()
		if !confirmed && old.State != seckill.ActivityDraft && now.Before(old.EndsAt) {
			return nil, seckill.FieldErrors{{Field: "confirm", Detail: "must be true: this ends the sale for good"}}
		}
		next.State, next.EndedAt = seckill.ActivityEnded, now
		return &next, nil
	})
}

var errNotEnded = &seckill.Refusal{
	Code: seckill.CodeActivityState, Detail: "The activity has not ended: only the orders of an ended one are archived and dropped.",
}

// Archive records that there is a copy of an ended activity's orders elsewhere; a zero copy reverts
// that. The back office drops the activity later, unless one of its orders is paid after the time
// of the archive. The caller must have compared the copy with the orders.
func (o *Office) Archive(ctx context.Context, id seckill.ActivityID, copied seckill.Archive, by seckill.Author) (*seckill.Activity, error) {
	return o.update(ctx, id, by, func(old *seckill.Activity) (*seckill.Activity, error) {
		switch {
		case old == nil:
			return nil, errNoSuchActivity
		case old.State != seckill.ActivityEnded:
			return nil, errNotEnded
		}
		next := *old
		next.Archive = copied
		return &next, nil
	})
}

// KeptUntil returns when the orders of an activity with an archive may be dropped.
func (o *Office) KeptUntil(a *seckill.Activity) time.Time {
	return a.Closes().Add(o.desk.cfg.KeptFor())
}

// Replay tries the parked orders of dead letters again, and returns the outcome of each.
func (o *Office) Replay(ctx context.Context, ids []int64, by seckill.Author) ([]seckill.Acceptance, error) {
	accepted, err := o.store.ReplayDeadLetters(ctx, ids, by)
	if err != nil {
		return nil, storeFailure("replay dead letters", err)
	}
	return accepted, nil
}

// Discard discards dead letters for good and returns how many there were: their parked orders are
// rejected, and the units come back.
func (o *Office) Discard(ctx context.Context, ids []int64, by seckill.Author) (int, error) {
	n, err := o.store.DiscardDeadLetters(ctx, ids, by)
	if err != nil {
		return 0, storeFailure("discard dead letters", err)
	}
	return n, nil
}

// offer finds an item by its names. A draft may have been published elsewhere a moment ago.
func (o *Office) offer(ctx context.Context, id seckill.ActivityID, sku seckill.SKU) (seckill.Offer, error) {
	sale, sure := o.desk.activity(ctx, id)
	switch {
	case sale == nil && !sure:
		return seckill.Offer{}, errNotSeen
	case sale == nil:
		return seckill.Offer{}, errNoSuchActivity
	}
	offer, ok := sale.Offer(sku)
	if !ok {
		return seckill.Offer{}, errUnknownItem
	}
	return offer, nil
}

// storeFailure wraps a store's error: decisions and field errors are returned unchanged, any other
// error as a failure.
func storeFailure(what string, err error) error {
	var refusal *seckill.Refusal
	var fields seckill.FieldErrors
	if errors.As(err, &refusal) || errors.As(err, &fields) {
		return err
	}
	return failure(seckill.CodeUnavailable, fmt.Errorf("%s: %w", what, err))
}
