package seckill

import (
	"context"
	"errors"
	"time"

	"penstock/internal/batch"
	"penstock/inventory"
)

// Looks for a row: a worker needs a few milliseconds at best, and a crowd that waits must not be the load.
const (
	firstLook   = 5 * time.Millisecond
	longestLook = 200 * time.Millisecond
)

var (
	errUnknownOrder   = &Refusal{Code: CodeUnknownOrder}
	errNotCancellable = &Refusal{Code: CodeNotCancellable}
	errStillQueued    = &Failure{Code: CodeUnavailable, RetryAfter: time.Second, Err: errors.New("the order is still queued")}
	errFenced         = &Failure{Code: CodeUnavailable, RetryAfter: time.Second, Err: ErrFenced}
)

// FindOrder tells a caller the status of its order. Within wait it looks again while the order is queued.
func (d *Desk) FindOrder(ctx context.Context, caller *Caller, id OrderID, wait time.Duration) (Order, error) {
	order, err := d.find(ctx, id, caller)
	if err != nil || order.State != OrderQueued || wait <= 0 {
		return order, err
	}
	if row, ok := d.awaitRow(ctx, id, wait); ok {
		return row, nil
	}
	return order, nil
}

// find looks an order up in the store, and where it has no row yet, in the stock.
func (d *Desk) find(ctx context.Context, id OrderID, caller *Caller) (Order, error) {
	if !id.Of(caller.CallerRef) {
		return Order{}, errUnknownOrder
	}
	order, err := d.row(ctx, id)
	if err != nil {
		return Order{}, err
	}
	if order.ID == "" {
		return d.findQueued(ctx, id, caller.CallerRef)
	}
	// A tombstone knows the merchant only; the tag in the id has to do for the caller.
	if order.Caller != caller.CallerRef && order.Caller != (CallerRef{Merchant: caller.Merchant}) {
		return Order{}, errUnknownOrder
	}
	return order, nil
}

// findQueued answers for an order of the caller that has no row: queued while the stock holds its units, unknown otherwise. Absence is
// only said where the store had no row both before and after the stock had no hold.
func (d *Desk) findQueued(ctx context.Context, id OrderID, caller CallerRef) (Order, error) {
	offer := d.item(ctx, id.Item())
	if offer == nil || offer.Sale.Merchant != caller.Merchant || offer.Epoch == 0 || !offer.Sale.live(time.Now(), d.cfg.Retention) {
		return Order{}, errUnknownOrder
	}
	hold, err := d.stock.Find(ctx, offer.Ref(), string(id))
	if err != nil {
		return Order{}, &Failure{Code: CodeUnavailable, RetryAfter: time.Second, Err: err}
	}
	if order, err := d.row(ctx, id); err != nil || order.ID != "" {
		return order, err
	}
	if hold.State == inventory.None {
		return Order{}, errUnknownOrder
	}
	return Order{
		ID: id, Item: offer.ID, Caller: caller, Activity: offer.Sale.ID, SKU: offer.SKU,
		User: UserID(hold.Buyer), Quantity: hold.Quantity, State: OrderQueued,
		Amount: Money{offer.Price.Minor * int64(hold.Quantity), offer.Price.Currency},
		Grant:  Provenance{Epoch: offer.Epoch},
	}, nil
}

// row reads an order's row; an empty ID means that there is none.
func (d *Desk) row(ctx context.Context, id OrderID) (Order, error) {
	order, err := d.statuses.Do(ctx, id)
	switch {
	case errors.Is(err, batch.ErrFull):
		return Order{}, &Failure{Code: CodeOverloaded, RetryAfter: time.Second, Err: err}
	case err != nil: // a read has no unknown outcome
		return Order{}, &Failure{Code: CodeUnavailable, RetryAfter: time.Second, Err: err}
	}
	return order, nil
}

// awaitRow looks for the row until it is there, the wait is over or the desk drains.
func (d *Desk) awaitRow(ctx context.Context, id OrderID, wait time.Duration) (Order, bool) {
	if wait <= 0 {
		return Order{}, false
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	pause := time.NewTimer(firstLook)
	defer pause.Stop()
	for next := firstLook; ; next = min(2*next, longestLook) {
		select {
		case <-ctx.Done():
			return Order{}, false
		case <-d.draining:
			return Order{}, false
		case <-over.C:
			return Order{}, false
		case <-pause.C:
		}
		if order, err := d.statuses.Do(ctx, id); err == nil && order.ID != "" {
			return order, true
		}
		pause.Reset(next)
	}
}

// CancelOrder gives an unpaid order up and its units back. Cancelling a cancelled order changes nothing and succeeds. The row of an
// order that is still queued is made here: workers that lag behind a crowd should not keep a buyer from giving units back.
func (d *Desk) CancelOrder(ctx context.Context, caller *Caller, id OrderID) (Order, error) {
	order, err := d.find(ctx, id, caller)
	if err != nil {
		return Order{}, err
	}
	if order.State == OrderQueued {
		if err := d.makeRow(ctx, &order); err != nil {
			return Order{}, err
		}
	}
	moved, err := d.cancels.Do(ctx, id)
	switch {
	case err != nil:
		return Order{}, d.unavailable(id, err)
	case moved.Order.ID == "":
		return Order{}, errUnknownOrder
	case moved.Order.State != OrderCancelled:
		return Order{}, errNotCancellable
	}
	return moved.Order, nil
}

// makeRow makes the row of a queued order, as a worker will find it made when the record comes to it. What entitles the desk to it
// is the hold that it saw: the row is of the epoch of that hold, and the item's row lets no other in
// (docs/adr/0012-a-cancellation-makes-the-row.md).
func (d *Desk) makeRow(ctx context.Context, queued *Order) error {
	accepted, err := d.accepts.Do(ctx, Record{
		Order: queued.ID, Caller: queued.Caller, Activity: queued.Activity, SKU: queued.SKU, User: queued.User,
		Quantity: queued.Quantity, Amount: queued.Amount, Grant: queued.Grant, Accepted: time.Now(),
	})
	switch {
	case err != nil:
		return d.unavailable(queued.ID, err)
	case accepted.Outcome == OutcomeSkipped, accepted.Outcome == OutcomeUnfit: // the item was rebuilt since the hold was seen
		d.Nudge()
		return errFenced
	case accepted.Outcome == OutcomeRejected:
		reportImpossible(ctx, d.store, d.log, &accepted)
	}
	return nil
}
