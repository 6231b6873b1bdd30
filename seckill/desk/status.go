package desk

import (
	"context"
	"errors"
	"time"

	"github.com/penstock/penstock/internal/batch"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// The pauses between looks for an order's row, and for a locked row. A worker needs a few
// milliseconds at best, and waiting clients must not overload the store.
const (
	firstLook   = 5 * time.Millisecond
	longestLook = 200 * time.Millisecond
)

var (
	errUnknownOrder   = &seckill.Refusal{Code: seckill.CodeUnknownOrder}
	errNotCancellable = &seckill.Refusal{Code: seckill.CodeNotCancellable}
	errStillQueued    = &seckill.Failure{Code: seckill.CodeUnavailable, RetryAfter: time.Second, Err: errors.New("the order is still queued")}
	errFenced         = &seckill.Failure{Code: seckill.CodeUnavailable, RetryAfter: time.Second, Err: seckill.ErrFenced}
	errLocked         = &seckill.Failure{Code: seckill.CodeUnavailable, RetryAfter: time.Second, Err: seckill.ErrLocked}
)

// public returns the order as the public sees it: a parked order reads as queued.
func public(o seckill.Order) seckill.Order {
	if o.State == seckill.OrderParked {
		o.State, o.Reason = seckill.OrderQueued, seckill.ReasonNone
	}
	return o
}

// FindOrder returns the status of a caller's order. If the order is queued, it looks again until
// wait is over.
func (d *Desk) FindOrder(ctx context.Context, caller *seckill.Caller, id seckill.OrderID, wait time.Duration) (seckill.Order, error) {
	order, _, err := d.find(ctx, id, caller)
	if err != nil {
		return seckill.Order{}, err
	}
	order = public(order)
	if order.State != seckill.OrderQueued {
		return order, nil
	}
	if row, ok := d.awaitRow(ctx, id, wait); ok {
		return row, nil
	}
	return order, nil
}

// find looks an order up in the store, and, if it has no row yet, in the stock. ref is its place in
// the stock; it is zero if the order has a row.
func (d *Desk) find(ctx context.Context, id seckill.OrderID, caller *seckill.Caller) (order seckill.Order, ref inventory.Ref, err error) {
	if !id.Of(caller.CallerRef) {
		return seckill.Order{}, ref, errUnknownOrder
	}
	order, err = d.row(ctx, id)
	if err != nil {
		return seckill.Order{}, ref, err
	}
	if order.ID == "" {
		return d.findQueued(ctx, id, caller.CallerRef)
	}
	// A tombstone has no caller, so the caller tag in the id decides.
	if order.Caller == caller.CallerRef || order.Caller == (seckill.CallerRef{Merchant: caller.Merchant}) ||
		order.Caller == (seckill.CallerRef{}) {
		return order, ref, nil
	}
	return seckill.Order{}, ref, errUnknownOrder
}

// findQueued answers for an order of the caller that has no row: queued while the stock holds its
// units, unknown otherwise. An order counts as unknown only if the store had no row both before and
// after the stock had no hold.
func (d *Desk) findQueued(ctx context.Context, id seckill.OrderID, caller seckill.CallerRef) (seckill.Order, inventory.Ref, error) {
	var none inventory.Ref
	offer, err := d.item(ctx, id.Item())
	if err != nil {
		return seckill.Order{}, none, err
	}
	if offer.Sale.Merchant != caller.Merchant || !offer.Sale.Live(time.Now(), d.cfg.Retention) {
		return seckill.Order{}, none, errUnknownOrder
	}
	ref := d.ref(offer, string(id))
	if ref.Epoch == 0 {
		return seckill.Order{}, none, errNotOpened
	}
	hold, err := d.stock.Find(ctx, ref, offer.ID, string(id))
	if err != nil { // a read can't have an unknown outcome
		if errors.Is(err, inventory.ErrEpoch) {
			d.isBehind()
		}
		return seckill.Order{}, none, failure(seckill.CodeUnavailable, err)
	}
	if order, err := d.row(ctx, id); err != nil || order.ID != "" {
		return order, none, err
	}
	if hold.State == inventory.None {
		return seckill.Order{}, none, errUnknownOrder
	}
	return seckill.Order{
		ID: id, Item: offer.ID, Caller: caller, Activity: offer.Sale.ID, SKU: offer.SKU,
		User: seckill.UserID(hold.Buyer), Quantity: hold.Quantity, State: seckill.OrderQueued,
		Amount: amount(offer, hold.Quantity), Grant: seckill.Provenance{Shard: ref.Shard, Epoch: ref.Epoch},
	}, ref, nil
}

// row reads an order's row; an empty ID means that there is none.
func (d *Desk) row(ctx context.Context, id seckill.OrderID) (seckill.Order, error) {
	order, err := d.statuses.Do(ctx, id)
	switch {
	case errors.Is(err, batch.ErrFull):
		return seckill.Order{}, failure(seckill.CodeOverloaded, err)
	case err != nil: // a read can't have an unknown outcome
		return seckill.Order{}, failure(seckill.CodeUnavailable, err)
	}
	return order, nil
}

// awaitRow looks for a row that is not parked until there is one, the wait is over, or the desk
// drains.
func (d *Desk) awaitRow(ctx context.Context, id seckill.OrderID, wait time.Duration) (row seckill.Order, ok bool) {
	d.lookAgain(ctx, wait, func() bool {
		order, err := d.statuses.Do(ctx, id)
		if err == nil && order.ID != "" && order.State != seckill.OrderParked {
			row, ok = order, true
		}
		return ok
	})
	return row, ok
}

// lookAgain calls look after growing pauses, until it returns true, the wait is over or the desk
// drains.
func (d *Desk) lookAgain(ctx context.Context, wait time.Duration, look func() bool) {
	if wait <= 0 {
		return
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	pause := time.NewTimer(firstLook)
	defer pause.Stop()
	for next := firstLook; ; next = min(2*next, longestLook) {
		select {
		case <-ctx.Done():
			return
		case <-d.draining:
			return
		case <-over.C:
			return
		case <-pause.C:
		}
		if look() {
			return
		}
		pause.Reset(next)
	}
}

// CancelOrder cancels an unpaid order and gives its units back. Cancelling a cancelled order
// changes nothing and succeeds. A queued order gets a cancelled row at once, so that a buyer
// needn't wait for workers that lag behind. The row is made under the epoch of the hold that the
// desk saw, or not at all.
func (d *Desk) CancelOrder(ctx context.Context, caller *seckill.Caller, id seckill.OrderID) (seckill.Order, error) {
	order, ref, err := d.find(ctx, id, caller)
	if err != nil {
		return seckill.Order{}, err
	}
	return d.cancel(ctx, order, ref, seckill.Author{})
}

// cancel cancels an order that was found. ref is its place if it was found in the stock. by is the
// operator who does it instead of the buyer.
func (d *Desk) cancel(ctx context.Context, order seckill.Order, ref inventory.Ref, by seckill.Author) (seckill.Order, error) {
	id := order.ID
	wish := seckill.Cancellation{Order: id, Ref: ref, By: by}
	if ref.Epoch != 0 {
		wish.Queued = &seckill.Promise{
			Order: id, Caller: order.Caller, Activity: order.Activity, SKU: order.SKU, User: order.User,
			Quantity: order.Quantity, Amount: order.Amount, Accepted: time.Now(),
		}
	}
	moved, err := d.cancels.Do(ctx, wish)
	if err == nil && moved.Locked {
		d.lookAgain(ctx, d.cfg.AcceptDeadline, func() bool {
			moved, err = d.cancels.Do(ctx, wish)
			return err != nil || !moved.Locked
		})
	}
	switch {
	case errors.Is(err, seckill.ErrFenced), err == nil && !moved.Locked && moved.Order.ID == "" && wish.Queued != nil:
		d.isBehind() // the shard was rebuilt after the hold was seen
		return seckill.Order{}, errFenced
	case err != nil:
		return seckill.Order{}, d.unavailable(id, err)
	case moved.Locked:
		return seckill.Order{}, errLocked
	case moved.Order.ID == "":
		return seckill.Order{}, errUnknownOrder
	case moved.Order.State == seckill.OrderParked:
		return seckill.Order{}, errStillQueued
	case moved.Order.State != seckill.OrderCancelled:
		return seckill.Order{}, errNotCancellable
	}
	if moved.Now {
		d.moved(&moved.Order)
	}
	return moved.Order, nil
}
