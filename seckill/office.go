package seckill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"penstock/inventory"
)

// Office does what a shop and its operators ask for: activities, restocks, audits. It is safe for concurrent use.
type Office struct {
	// Fixed after NewOffice.
	stock     Stock
	queue     Queue
	store     Store
	desk      *Desk
	rebuilder *Rebuilder
	log       *slog.Logger
}

// NewOffice makes an office that works with the desk's catalog.
func NewOffice(stock Stock, queue Queue, store Store, desk *Desk, rebuilder *Rebuilder, log *slog.Logger) *Office {
	return &Office{stock: stock, queue: queue, store: store, desk: desk, rebuilder: rebuilder, log: log}
}

// Shared refusals of the office.
var (
	errNoSuchActivity    = &Refusal{Code: CodeUnknownActivity, Detail: "There is no activity with this name."}
	errNotEditable       = &Refusal{Code: CodeNotEditable, Detail: "A published activity keeps its merchant and items; see restock."}
	errInsufficientStock = &Refusal{Code: CodeInsufficientStock}
)

// PutActivity creates a draft, or changes an activity: a draft in everything, a published or paused one in its name, its end,
// its payment window and, before it has started, its start. a.State is ignored. FieldErrors says what is wrong with a.
func (o *Office) PutActivity(ctx context.Context, a Activity, by Author) (*Activity, error) {
	if errs := a.check(); len(errs) > 0 {
		return nil, errs
	}
	if o.desk.Catalog().Merchant(a.Merchant) == nil {
		if err := o.desk.Refresh(ctx); err != nil {
			return nil, storeFailure("read the catalog", err)
		}
		if o.desk.Catalog().Merchant(a.Merchant) == nil {
			return nil, FieldErrors{{"merchant", "there is no such merchant"}}
		}
	}
	return o.update(ctx, a.ID, by, func(old *Activity) (*Activity, error) { return a.amend(old, time.Now()) })
}

// amend returns what old (nil: nothing) becomes when it is put as a.
func (a *Activity) amend(old *Activity, now time.Time) (*Activity, error) {
	next := *a
	next.Items = append([]Item(nil), a.Items...)
	if old == nil {
		next.State = ActivityDraft
		return &next, nil
	}
	next.State, next.EndedAt = old.State, old.EndedAt
	known := make(map[SKU]Item, len(old.Items))
	for _, item := range old.Items {
		known[item.SKU] = item
	}
	for i := range next.Items {
		if was, ok := known[next.Items[i].SKU]; ok {
			next.Items[i].ID, next.Items[i].Epoch = was.ID, was.Epoch
		}
	}
	if old.State == ActivityDraft {
		return &next, nil
	}
	if old.State == ActivityEnded {
		return nil, &Refusal{Code: CodeActivityState, Detail: "The activity has ended."}
	}
	if next.Merchant != old.Merchant || len(next.Items) != len(old.Items) {
		return nil, errNotEditable
	}
	for i, item := range next.Items {
		was, ok := known[item.SKU]
		if !ok || item.Price != was.Price || item.PerUser != was.PerUser || item.Quantity != was.Quantity {
			return nil, errNotEditable
		}
		next.Items[i] = was
	}
	if !next.StartsAt.Equal(old.StartsAt) && !now.Before(old.StartsAt) {
		return nil, FieldErrors{{"starts_at", "the activity has started"}}
	}
	return &next, nil
}

// update changes an activity and brings the change into force here.
func (o *Office) update(ctx context.Context, id ActivityID, by Author, change func(*Activity) (*Activity, error)) (*Activity, error) {
	a, err := o.store.UpdateActivity(ctx, id, by, change)
	if err != nil {
		return nil, storeFailure("write the activity", err)
	}
	if err := o.desk.Refresh(ctx); err != nil {
		o.log.Warn("activity is written, but not in force here yet", "activity", id, "err", err)
	}
	return a, nil
}

// move takes an activity from one of the states in from to the state to; from to itself nothing happens.
func (o *Office) move(ctx context.Context, id ActivityID, by Author, to ActivityState, from ...ActivityState) (*Activity, error) {
	return o.update(ctx, id, by, func(old *Activity) (*Activity, error) {
		if old == nil {
			return nil, errNoSuchActivity
		}
		next := *old
		if old.State == to {
			return &next, nil
		}
		for _, state := range from {
			if old.State == state {
				next.State = to
				if to == ActivityEnded {
					next.EndedAt = time.Now()
				}
				return &next, nil
			}
		}
		return nil, &Refusal{Code: CodeActivityState, Detail: fmt.Sprintf("The activity is %s.", old.State)}
	})
}

// Publish opens a draft for sale: its items are loaded into the stock before it returns. Publishing a published activity
// finishes what an interrupted call began.
func (o *Office) Publish(ctx context.Context, id ActivityID, by Author) (*Activity, error) {
	a, err := o.move(ctx, id, by, ActivityPublished, ActivityDraft)
	if err != nil {
		return nil, err
	}
	for {
		shut := false
		for i := range a.Items {
			offer := o.desk.Catalog().Offer(a.Items[i].ID)
			if offer == nil {
				return nil, &Failure{CodeUnavailable, time.Second, errors.New("the catalog is behind")}
			}
			if err := o.rebuilder.Heal(ctx, offer); err != nil {
				return nil, &Failure{CodeUnavailable, time.Second, fmt.Errorf("open %s/%s: %w", id, offer.SKU, err)}
			}
			need, err := o.rebuilder.needs(ctx, offer)
			if err != nil {
				return nil, &Failure{CodeUnavailable, time.Second, err}
			}
			shut = shut || need
		}
		if !shut {
			break
		}
		if !pauseFor(ctx, drainLook) { // another process is at it
			return nil, &Failure{CodeUnavailable, time.Second, ctx.Err()}
		}
	}
	if err := o.desk.Refresh(ctx); err != nil {
		return nil, storeFailure("read the catalog", err)
	}
	if sale := o.desk.Catalog().Activity(id); sale != nil {
		return sale.Activity, nil
	}
	return a, nil
}

// Pause stops a published activity's sales until Resume; what was ordered goes on.
func (o *Office) Pause(ctx context.Context, id ActivityID, by Author) (*Activity, error) {
	return o.move(ctx, id, by, ActivityPaused, ActivityPublished)
}

// Resume takes a pause back.
func (o *Office) Resume(ctx context.Context, id ActivityID, by Author) (*Activity, error) {
	return o.move(ctx, id, by, ActivityPublished, ActivityPaused)
}

// End ends an activity for good; what was ordered goes on.
func (o *Office) End(ctx context.Context, id ActivityID, by Author) (*Activity, error) {
	return o.move(ctx, id, by, ActivityEnded, ActivityPublished, ActivityPaused, ActivityDraft)
}

// Restocked is the answer to a restock: the item's total afterwards.
type Restocked struct {
	Total    int64
	Replayed bool
}

// Restock changes an item's total by delta, once per key. Units are taken back by a hold first, so never more than are
// available; then the total changes in a transaction that sees the hold's epoch; then the hold is settled.
func (o *Office) Restock(ctx context.Context, id ActivityID, sku SKU, key string, delta int64, by Author) (Restocked, error) {
	offer, err := o.offer(id, sku)
	if err != nil {
		return Restocked{}, err
	}
	change := StockChange{Item: offer.ID, Key: key, Delta: delta}
	earlier, found, err := o.store.FindStockChange(ctx, offer.ID, key)
	switch {
	case err != nil:
		return Restocked{}, storeFailure("look the change up", err)
	case found && earlier.Delta != delta:
		return Restocked{}, errKeyReused
	case delta > 0 && offer.Sale.State == ActivityEnded && !found:
		return Restocked{}, &Refusal{Code: CodeActivityState, Detail: "The activity has ended."}
	case delta > 0 || found:
		total, replayed, err := o.restock(ctx, offer, change, by)
		return Restocked{total, replayed}, err
	}
	return o.withdraw(ctx, offer, change, by)
}

// restock raises the total, or finds that a change of this key was made.
func (o *Office) restock(ctx context.Context, offer *Offer, change StockChange, by Author) (int64, bool, error) {
	if change.Delta < 0 {
		return o.withdrawn(ctx, offer.Ref(), change, by)
	}
	total, replayed, err := o.store.Restock(ctx, change, by)
	if errors.Is(err, ErrKeyReused) {
		return 0, false, errKeyReused
	}
	if err != nil {
		return 0, false, storeFailure("restock", err)
	}
	return total, replayed, nil
}

// withdraw takes units back that are available.
func (o *Office) withdraw(ctx context.Context, offer *Offer, change StockChange, by Author) (Restocked, error) {
	if offer.Epoch == 0 && offer.Sale.State == ActivityEnded {
		return Restocked{}, &Refusal{Code: CodeActivityState, Detail: "The activity has ended."}
	}
	if offer.Epoch == 0 {
		return Restocked{}, &Refusal{Code: CodeActivityState, Detail: "The activity is a draft: put it with another quantity."}
	}
	hold := inventory.Hold{ID: NewWithdrawalID(offer.ID, change.Key), Quantity: int(-change.Delta)}
	grant, err := o.stock.Hold(ctx, offer.Ref(), hold, 0)
	if err != nil {
		return Restocked{}, o.desk.unavailable("", err)
	}
	switch grant.Verdict {
	case inventory.Held, inventory.HeldAgain, inventory.HeldOrdered:
	case inventory.SoldOut:
		return Restocked{}, errInsufficientStock
	case inventory.Reused:
		return Restocked{}, errKeyReused
	default: // doomed, or buried after an attempt that never came to its end
		err := errors.New("an earlier attempt under this key is being undone; use another key")
		return Restocked{}, &Failure{CodeUnavailable, time.Second, err}
	}
	total, replayed, err := o.withdrawn(ctx, offer.Ref(), change, by)
	return Restocked{total, replayed}, err
}

// withdrawn lowers the total by units that the change's hold has taken.
func (o *Office) withdrawn(ctx context.Context, ref inventory.Ref, change StockChange, by Author) (int64, bool, error) {
	total, replayed, err := o.store.Withdraw(ctx, ref, NewWithdrawalID(ref.Item, change.Key), change, by)
	switch {
	case errors.Is(err, ErrKeyReused):
		return 0, false, errKeyReused
	case errors.Is(err, ErrFenced), errors.Is(err, ErrNotFound), errors.Is(err, ErrTooLow):
		// The hold is gone with its epoch, or buried: nothing is withdrawn.
		return 0, false, &Failure{CodeUnavailable, time.Second, err}
	case err != nil:
		return 0, false, storeFailure("withdraw", err)
	}
	return total, replayed, nil
}

// offer finds an item by its names.
func (o *Office) offer(id ActivityID, sku SKU) (*Offer, error) {
	sale := o.desk.Catalog().Activity(id)
	if sale == nil {
		return nil, errNoSuchActivity
	}
	offer := sale.Offer(sku)
	if offer == nil {
		return nil, errUnknownItem
	}
	return offer, nil
}

// Replay puts dead letters back into the queue and forgets those that are durable there. It returns how many.
func (o *Office) Replay(ctx context.Context, letters []DeadLetter, by Author) (int, error) {
	var done []int64
	for _, letter := range letters {
		if err := o.queue.Reserve(); errors.Is(err, ErrNoSlot) {
			break
		} else if err != nil {
			return len(done), errors.Join(o.forget(ctx, done, by), &Failure{CodeUnavailable, time.Second, err})
		}
		acknowledged := make(chan error, 1)
		key := OrderID("")
		if record, err := ParseRecord(letter.Value); err == nil {
			key = record.Order
		}
		o.queue.Put(key, letter.Value, func(err error) { acknowledged <- err })
		select {
		case err := <-acknowledged:
			if err != nil {
				return len(done), errors.Join(o.forget(ctx, done, by), &Failure{CodeUnavailable, time.Second, err})
			}
			done = append(done, letter.ID)
		case <-ctx.Done():
			return len(done), errors.Join(o.forget(ctx, done, by), &Failure{CodeUnavailable, time.Second, ctx.Err()})
		}
	}
	return len(done), o.forget(ctx, done, by)
}

// forget drops dead letters that are in the queue again.
func (o *Office) forget(ctx context.Context, ids []int64, by Author) error {
	if len(ids) == 0 {
		return nil
	}
	if _, err := o.store.DropDeadLetters(ctx, ids, by); err != nil {
		return storeFailure("drop replayed dead letters", err)
	}
	return nil
}

// storeFailure wraps a store's error: decisions and field errors stay what they are, the rest is a failure.
func storeFailure(what string, err error) error {
	var refusal *Refusal
	var fields FieldErrors
	if errors.As(err, &refusal) || errors.As(err, &fields) {
		return err
	}
	return &Failure{Code: CodeUnavailable, RetryAfter: time.Second, Err: fmt.Errorf("%s: %w", what, err)}
}
