package seckill

import (
	"context"
	"errors"
	"strings"
	"time"

	"penstock/inventory"
)

// Shared refusals of the hot path.
var (
	errUnknownActivity = &Refusal{Code: CodeUnknownActivity}
	errUnknownItem     = &Refusal{Code: CodeUnknownItem}
	errEnded           = &Refusal{Code: CodeEnded}
	errPaused          = &Refusal{Code: CodePaused, Detail: "The sale is paused.", RetryAfter: 2 * time.Second}
	errSoldOut         = &Refusal{Code: CodeSoldOut}
	errPurchaseLimit   = &Refusal{Code: CodePurchaseLimit}
	errKeyReused       = &Refusal{Code: CodeKeyReused}
	errNotOpened       = &Failure{Code: CodeUnavailable, RetryAfter: time.Second, Err: errors.New("the item's stock is being set up")}
	errNoSlot          = &Failure{Code: CodeOverloaded, RetryAfter: time.Second, Err: ErrNoSlot}
	errNoQueue         = &Failure{Code: CodeUnavailable, RetryAfter: time.Second, Err: errors.New("the queue takes nothing")}
)

// Buy sells: it takes a slot in the queue's buffer, then a hold on the units, then puts the record into its slot, and gives
// a receipt when the record is durable. A receipt is a promise (L2): it is given only within the accept deadline, counted
// from p.Arrived.
//
// There is no undo. The slot comes first so that after the hold nothing fails for sure: whatever goes wrong then is
// *Unknown, the hold stays, and either the buyer's repeat or the sweeper decides. An undo would race with a repeat that
// has been promised the very same hold (docs/adr/0002-buy-has-no-undo.md).
//
// Errors are *Refusal, *Failure or *Unknown. A refusal from memory costs no I/O; it is given only where no order of this key
// can exist, so that a repeat meets its order even when all is sold out (docs/adr/0007).
func (d *Desk) Buy(ctx context.Context, p *Purchase) (Receipt, error) {
	offer, err := d.offer(ctx, p)
	if err != nil {
		return Receipt{}, err
	}
	id := p.order(offer)
	if closed, since := offer.refusal(p.Arrived, d.cfg.AcceptDeadline); closed != nil {
		return d.replayOrRefuse(ctx, p, offer, closed, since)
	}
	if p.Closed != nil {
		return d.replayOrRefuse(ctx, p, offer, p.Closed, p.ClosedSince.Add(d.cfg.AcceptDeadline))
	}
	if offer.Epoch == 0 {
		return Receipt{}, errNotOpened
	}
	if d.stock.SoldOut(offer.Ref(), string(id)) {
		return Receipt{}, errSoldOut
	}
	if err := d.queue.Reserve(); err != nil {
		return Receipt{}, notReserved(err)
	}
	deadline, cancel := endingAt(ctx, p.Arrived.Add(d.cfg.AcceptDeadline))
	defer cancel()
	hold := inventory.Hold{ID: string(id), Buyer: strings.Clone(string(p.User)), Quantity: p.Quantity}
	grant, err := d.stock.Hold(deadline, offer.Ref(), hold, offer.PerUser)
	if err != nil || !grant.Verdict.Fresh() {
		d.queue.Release()
		return d.notHeld(ctx, id, grant, err)
	}
	record := Record{
		Order: id, Caller: p.Caller.CallerRef, Activity: offer.Sale.ID, SKU: offer.SKU, User: UserID(hold.Buyer),
		Quantity: p.Quantity, Amount: Money{offer.Price.Minor * int64(p.Quantity), offer.Price.Currency},
		Grant: Provenance{grant.Shard, offer.Epoch, grant.Seq}, Accepted: p.Arrived,
	}
	if err := d.put(deadline, &record, p.Arrived); err != nil {
		d.counts.Unknown.Add(1)
		return Receipt{}, &Unknown{Order: id, RetryAfter: time.Second, Err: err}
	}
	return d.receipt(ctx, &record, grant.Verdict == inventory.HeldAgain, p.Wait), nil
}

// Refuses reports that Buy has nothing but a refusal for p, and knows it from memory: who asks first spends nothing else on p. False
// says nothing. It neither blocks nor does I/O.
func (d *Desk) Refuses(p *Purchase) bool {
	offer, err := p.offer(d.Catalog().Activity(p.Activity))
	if err != nil {
		return false // Buy looks for a newer catalog
	}
	if closed, since := offer.refusal(p.Arrived, d.cfg.AcceptDeadline); closed != nil {
		return d.neverHeld(offer, p.order(offer), since)
	}
	return offer.Epoch != 0 && d.stock.SoldOut(offer.Ref(), string(p.order(offer)))
}

// notReserved answers a purchase for which the queue has no place.
func notReserved(err error) error {
	if errors.Is(err, ErrNoSlot) {
		return errNoSlot
	}
	return errNoQueue
}

// errLate is an acknowledgement that came after the accept deadline: a rebuild may have stopped waiting for it.
var errLate = errors.New("acknowledged after the accept deadline")

// sooner is a context that can be had with an earlier end for less than context.WithDeadline costs: nothing but time ends it.
type sooner interface {
	Sooner(at time.Time) (context.Context, context.CancelFunc)
}

// endingAt returns ctx with an end at that time, if it has none before.
func endingAt(ctx context.Context, at time.Time) (context.Context, context.CancelFunc) {
	if s, ok := ctx.(sooner); ok {
		return s.Sooner(at)
	}
	return context.WithDeadline(ctx, at)
}

// posting is a record on its way: its bytes, which are the queue's until done was called, and where done tells how it went.
type posting struct {
	value []byte
	over  chan error // capacity 1
	done  func(error)
}

// posting returns one that waits for nothing.
func (d *Desk) posting() *posting {
	if p, ok := d.postings.Get().(*posting); ok {
		return p
	}
	over := make(chan error, 1)
	return &posting{value: make([]byte, 0, 192), over: over, done: func(err error) { over <- err }}
}

// put sends the record and waits for its acknowledgement. Any error means that it may be written, now or later.
func (d *Desk) put(ctx context.Context, r *Record, arrived time.Time) error {
	p := d.posting()
	p.value = AppendRecord(p.value[:0], r)
	d.queue.Put(r.Order, p.value, p.done)
	select {
	case err := <-p.over:
		d.postings.Put(p) // one that is waited for no longer stays the queue's
		if err == nil && time.Since(arrived) > d.cfg.AcceptDeadline {
			d.counts.Late.Add(1)
			return errLate
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// receipt is the answer to a record that is durable; with a wait it tries to show the order's row.
func (d *Desk) receipt(ctx context.Context, r *Record, replayed bool, wait time.Duration) Receipt {
	if replayed {
		d.counts.Replayed.Add(1)
	} else {
		d.counts.Accepted.Add(1)
	}
	queued := Order{
		ID: r.Order, Item: r.Item(), Caller: r.Caller, Activity: r.Activity, SKU: r.SKU, User: r.User,
		Quantity: r.Quantity, Amount: r.Amount, State: OrderQueued, Grant: r.Grant,
	}
	if order, ok := d.awaitRow(ctx, r.Order, wait); ok {
		return Receipt{order, replayed}
	}
	return Receipt{queued, replayed}
}

// notHeld answers a purchase that got no fresh hold.
func (d *Desk) notHeld(ctx context.Context, id OrderID, grant inventory.Grant, err error) (Receipt, error) {
	if err != nil {
		return Receipt{}, d.unavailable(id, err)
	}
	switch grant.Verdict {
	case inventory.SoldOut:
		return Receipt{}, errSoldOut
	case inventory.OverLimit:
		return Receipt{}, errPurchaseLimit
	case inventory.Reused:
		return Receipt{}, errKeyReused
	case inventory.HeldOrdered, inventory.HeldEnded:
		return d.replay(ctx, id)
	default: // HeldDoomed: the sweeper is deciding
		d.counts.Unknown.Add(1)
		return Receipt{}, &Unknown{Order: id, RetryAfter: time.Second, Err: errors.New("the sweeper is deciding this order")}
	}
}

// replay answers a repeat whose order has a row.
func (d *Desk) replay(ctx context.Context, id OrderID) (Receipt, error) {
	order, err := d.statuses.Do(ctx, id)
	if err == nil && order.ID == "" {
		err = errors.New("the stock knows the order, the store doesn't yet")
	}
	if err != nil {
		d.counts.Unknown.Add(1)
		return Receipt{}, &Unknown{Order: id, RetryAfter: time.Second, Err: err}
	}
	d.counts.Replayed.Add(1)
	return Receipt{order, true}, nil
}

// replayOrRefuse answers a purchase outside the sale's hours: with its order where the key has one, else with the refusal.
func (d *Desk) replayOrRefuse(ctx context.Context, p *Purchase, offer *Offer, refusal *Refusal, since time.Time) (Receipt, error) {
	id := p.order(offer)
	if d.neverHeld(offer, id, since) {
		return Receipt{}, refusal
	}
	hold, err := d.stock.Find(ctx, offer.Ref(), string(id))
	switch {
	case err != nil:
		return Receipt{}, d.unavailable(id, err)
	case hold.State == inventory.None:
		return Receipt{}, refusal
	case hold.Quantity != p.Quantity:
		return Receipt{}, errKeyReused
	case hold.State == inventory.Ordered, hold.State == inventory.Sold, hold.State == inventory.Void:
		return d.replay(ctx, id)
	}
	if order, err := d.statuses.Do(ctx, id); err == nil && order.ID != "" {
		return Receipt{order, true}, nil
	}
	d.counts.Unknown.Add(1)
	return Receipt{}, &Unknown{Order: id, RetryAfter: time.Second, Err: errors.New("the order is on its way")}
}

// neverHeld reports, from memory, that no order of that id was begun before since, or that it is forgotten.
func (d *Desk) neverHeld(offer *Offer, id OrderID, since time.Time) bool {
	return offer.Epoch == 0 || d.stock.Absent(offer.Ref(), string(id), since) || !offer.Sale.live(time.Now(), d.cfg.Retention)
}

// offer finds what is to be bought.
func (d *Desk) offer(ctx context.Context, p *Purchase) (*Offer, error) {
	return p.offer(d.activity(ctx, p.Activity))
}

// offer returns what is to be bought of the sale.
func (p *Purchase) offer(sale *Sale) (*Offer, error) {
	if sale == nil || sale.Merchant != p.Caller.Merchant || sale.State == ActivityDraft {
		return nil, errUnknownActivity
	}
	offer := sale.Offer(p.SKU)
	if offer == nil {
		return nil, errUnknownItem
	}
	return offer, nil
}

// order returns the id of the order that p asks for. It is made once.
func (p *Purchase) order(offer *Offer) OrderID {
	if p.id == "" || p.item != offer.ID {
		p.item, p.id = offer.ID, NewOrderID(offer.ID, p.Caller.CallerRef, p.Activity, p.SKU, p.User, p.Key)
	}
	return p.id
}
