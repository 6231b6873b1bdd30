package desk

import (
	"context"
	"errors"
	"time"

	"github.com/penstock/penstock/internal/batch"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Shared answers of the hot path.
var (
	errUnknownActivity = &seckill.Refusal{Code: seckill.CodeUnknownActivity}
	errUnknownItem     = &seckill.Refusal{Code: seckill.CodeUnknownItem}
	errSoldOut         = &seckill.Refusal{Code: seckill.CodeSoldOut}
	errPurchaseLimit   = &seckill.Refusal{Code: seckill.CodePurchaseLimit}
	errKeyReused       = &seckill.Refusal{Code: seckill.CodeKeyReused}

	errBusy = &seckill.Failure{
		Code: seckill.CodeBusy, RetryAfter: time.Second, Err: errors.New("units are being moved to the buyer's shard"),
	}
	errNotOpened = &seckill.Failure{
		Code: seckill.CodeUnavailable, RetryAfter: time.Second, Err: errors.New("the item's stock is being set up"),
	}
	errUnopened = &seckill.Failure{
		Code: seckill.CodeUnavailable, RetryAfter: time.Second, Err: errors.New("the item's units are on their way to the stock"),
	}
	errNoSlot  = &seckill.Failure{Code: seckill.CodeOverloaded, RetryAfter: time.Second, Err: seckill.ErrNoSlot}
	errNoQueue = &seckill.Failure{
		Code: seckill.CodeUnavailable, RetryAfter: time.Second, Err: errors.New("the queue takes nothing"),
	}
	errFull = &seckill.Failure{
		Code: seckill.CodeOverloaded, RetryAfter: 5 * time.Second, Err: errors.New("the memory of the shard's server is nearly used up"),
	}
	errLineFull = &seckill.Failure{
		Code: seckill.CodeOverloaded, RetryAfter: time.Second, Err: errors.New("too many purchases wait for the shard's node"),
	}
	errTooLong = &seckill.Failure{
		Code: seckill.CodeOverloaded, RetryAfter: time.Second, Err: errors.New("the purchase waited too long for its hold"),
	}
	errClosing = &seckill.Failure{
		Code: seckill.CodeUnavailable, RetryAfter: time.Second, Err: errors.New("the process stops"),
	}
)

// Causes of an unknown outcome.
var (
	errNoAnswer = &inventory.UnknownError{Err: errors.New("not acknowledged within the accept deadline")}
	errLate     = &inventory.UnknownError{Err: errors.New("acknowledged after the accept deadline")}
	errDeciding = &inventory.UnknownError{Err: errors.New("the sweeper is deciding this order")}
	errNoRow    = &inventory.UnknownError{Err: errors.New("the stock knows the order, the store doesn't yet")}
	errOnItsWay = &inventory.UnknownError{Err: errors.New("the order is on its way")}
)

func failure(code seckill.Code, err error) *seckill.Failure {
	return &seckill.Failure{Code: code, RetryAfter: time.Second, Err: err}
}

// Buy sells. It gives a receipt when the page with the purchase is durable. A receipt is a promise
// (L2).
//
// Errors are *seckill.Refusal, *seckill.Failure or *seckill.Unknown. A refusal from memory costs no
// I/O; it is only given if no order of this key can exist, so that a repeat gets its order even
// when everything is sold out.
//
// A purchase waits once: until its page is acknowledged, or until the accept deadline or the
// deadline of ctx, whichever is earlier. Cancelling ctx doesn't end the wait.
func (d *Desk) Buy(ctx context.Context, p *seckill.Purchase) (receipt seckill.Receipt, err error) {
	offer, err := d.offer(ctx, p)
	if err != nil {
		return seckill.Receipt{}, err
	}
	id := p.OrderID(offer.ID)
	if closed, since := d.closed(offer, p); closed != nil {
		return d.replayOrRefuse(ctx, p, offer, id, closed, since)
	}
	ref := d.ref(offer, string(id))
	if ref.Epoch == 0 {
		return seckill.Receipt{}, errNotOpened
	}
	if d.stock.SoldOut(ref, offer.ID, string(id)) {
		return seckill.Receipt{}, d.soldOut(offer, ref.Shard)
	}
	// A key that has an order finds it: memory is not needed for that answer.
	if d.full(ref.Shard) && d.stock.Absent(ref, string(id), time.Time{}) {
		d.counts.Full.Add(1)
		return seckill.Receipt{}, errFull
	}
	return d.sell(ctx, p, offer, id, ref)
}

// sell holds the units of p, puts its promise and waits for both.
func (d *Desk) sell(ctx context.Context, p *seckill.Purchase, offer seckill.Offer, id seckill.OrderID,
	ref inventory.Ref) (receipt seckill.Receipt, err error) {
	if err := d.queue.Reserve(); errors.Is(err, seckill.ErrNoSlot) {
		return seckill.Receipt{}, errNoSlot
	} else if err != nil {
		return seckill.Receipt{}, errNoQueue
	}
	s := d.seat(ctx, offer, p, id)
	if err := d.lineOf(ref.Shard).join(s, ref.Shard); err != nil {
		d.queue.Release(1)
		d.leave(s)
		return seckill.Receipt{}, err
	}
	<-s.done
	err = d.answer(ctx, s, p, &receipt)
	return receipt, err
}

// Refuses reports whether it is certain from memory that Buy would refuse p, so that a gate does no
// further work for p. False means only that memory doesn't know. It does not block, and does no
// I/O.
func (d *Desk) Refuses(p *seckill.Purchase) bool {
	offer, err := find(d.Catalog().Activity(p.Activity), p)
	if err != nil {
		return false // Buy must look for a newer catalog
	}
	if closed, since := offer.Refusal(p.Arrived, d.cfg.AcceptDeadline); closed != nil {
		return d.neverHeld(offer, string(p.OrderID(offer.ID)), closed, since)
	}
	for i := range offer.Spread {
		if has, _ := d.stock.InStock(d.shard(offer, i), offer.ID); has {
			return false // the id is not computed, because it costs two digests
		}
	}
	id := string(p.OrderID(offer.ID))
	ref := d.ref(offer, id)
	return ref.Epoch != 0 && d.stock.SoldOut(ref, offer.ID, id)
}

// Repeats reports whether it is certain from memory that the key of p has an order. False means
// only that memory doesn't know: the order may be too new. It does not block, and does no I/O.
func (d *Desk) Repeats(p *seckill.Purchase) bool {
	offer, err := find(d.Catalog().Activity(p.Activity), p)
	if err != nil {
		return false
	}
	id := string(p.OrderID(offer.ID))
	ref := d.ref(offer, id)
	const nobody = "" // a head that no hold has: for it, Absent is true whenever memory knows the shard
	return ref.Epoch != 0 && d.stock.Absent(ref, nobody, time.Time{}) && !d.stock.Absent(ref, id, time.Time{})
}

// find returns the item that p asks for.
func find(sale *seckill.Sale, p *seckill.Purchase) (seckill.Offer, error) {
	if sale == nil || sale.Merchant != p.Caller.Merchant || sale.State == seckill.ActivityDraft {
		return seckill.Offer{}, errUnknownActivity
	}
	offer, ok := sale.Offer(p.SKU)
	if !ok {
		return seckill.Offer{}, errUnknownItem
	}
	return offer, nil
}

// closed returns why p can't make a new order; nil if it can. It also returns the time, on this
// process's clock, from which no order of the offer can be new.
func (d *Desk) closed(offer seckill.Offer, p *seckill.Purchase) (*seckill.Refusal, time.Time) {
	if closed, since := offer.Refusal(p.Arrived, d.cfg.AcceptDeadline); closed != nil {
		return closed, since
	}
	return p.Closed, p.ClosedSince.Add(d.cfg.AcceptDeadline)
}

// soldOut answers a purchase whose shard has no unit. The item is sold out only if no other shard
// has one.
func (d *Desk) soldOut(offer seckill.Offer, shard inventory.ShardID) error {
	if d.elsewhere(offer, shard) {
		if d.wanted != nil {
			d.wanted(shard, offer.ID)
		}
		return errBusy
	}
	return errSoldOut
}

// seat makes the seat of a purchase. Names that outlive the call are copied.
func (d *Desk) seat(ctx context.Context, offer seckill.Offer, p *seckill.Purchase, id seckill.OrderID) *seat {
	s := d.seats.Get().(*seat)
	user, request := clone(string(p.User), p.Request)
	s.offer, s.caller, s.request, s.arrived, s.trace = offer, p.Caller.CallerRef, request, p.Arrived, p.Trace
	s.claim = inventory.Claim{
		Hold:  inventory.Hold{Item: offer.ID, ID: string(id), Buyer: user, Quantity: p.Quantity},
		Limit: offer.PerUser, MaxOrders: offer.OrderBound(),
	}
	at := p.Arrived.Sub(d.made)
	s.startBy, s.answerBy = at+d.cfg.StartBy(), at+d.cfg.AcceptDeadline
	if end, ok := ctx.Deadline(); ok {
		s.answerBy = min(s.answerBy, end.Sub(d.made))
	}
	return s
}

// clone copies two strings with one allocation.
func clone(a, b string) (string, string) {
	both := make([]byte, 0, 256)
	both = append(append(both, a...), b...)
	copied := string(both)
	return copied[:len(a)], copied[len(a):]
}

// leave returns a seat to the pool, unless its flight may still refer to it.
func (d *Desk) leave(s *seat) {
	if s.timeout {
		return
	}
	s.verdict, s.err = 0, nil
	d.seats.Put(s)
}

// lineOf returns the line of a shard.
func (d *Desk) lineOf(shard inventory.ShardID) *line {
	return d.lines[d.stock.Lane(shard)%len(d.lines)]
}

// elapsed returns how long ago arrived was: by the monotonic or by the wall clock, whichever is
// longer. After a suspend of the machine only one of them has advanced.
func elapsed(arrived, now time.Time) time.Duration {
	return max(now.Sub(arrived), time.Duration(now.UnixNano()-arrived.UnixNano()))
}

// answer gives the purchase of s its outcome, and returns s to the pool.
func (d *Desk) answer(ctx context.Context, s *seat, p *seckill.Purchase, r *seckill.Receipt) (err error) {
	defer d.leave(s)
	id := seckill.OrderID(s.claim.ID)
	if s.err != nil {
		return d.unavailable(id, s.err)
	}
	switch s.verdict {
	case inventory.Held, inventory.HeldAgain:
		return d.receipt(ctx, s, p, r)
	case inventory.SoldOut:
		return d.soldOut(s.offer, s.offer.Place(s.claim.ID, d.cfg.Shards))
	case inventory.OverLimit, inventory.TooMany:
		return errPurchaseLimit
	case inventory.Reused:
		return errKeyReused
	case inventory.Unopened:
		return errUnopened
	case inventory.HeldOrdered, inventory.HeldEnded:
		*r, err = d.replay(ctx, id)
		return err
	default: // HeldDoomed
		return d.unavailable(id, errDeciding)
	}
}

// receipt is the answer to a purchase whose page is durable. The time is read last, just before the
// answer. A wait for the row comes after that. It can't break L2: the promise was in time, and the
// barrier of every rebuild covers its page.
func (d *Desk) receipt(ctx context.Context, s *seat, p *seckill.Purchase, r *seckill.Receipt) error {
	o := &r.Order
	o.ID, o.Item, o.Caller, o.Activity, o.SKU = seckill.OrderID(s.claim.ID), s.claim.Item, s.caller, s.offer.Sale.ID, s.offer.SKU
	o.User, o.Quantity, o.Amount = seckill.UserID(s.claim.Buyer), s.claim.Quantity, amount(s.offer, s.claim.Quantity)
	o.State, o.Request, o.Node, o.Accepted = seckill.OrderQueued, s.request, d.node, s.arrived
	o.Grant = seckill.Provenance{Shard: s.ref.Shard, Epoch: s.ref.Epoch, Seq: s.seq}
	r.Replayed = s.verdict == inventory.HeldAgain
	if elapsed(p.Arrived, time.Now()) > d.cfg.AcceptDeadline {
		*r = seckill.Receipt{}
		d.counts.Late.Add(1)
		return d.unavailable(seckill.OrderID(s.claim.ID), errLate)
	}
	if r.Replayed {
		d.counts.Replayed.Add(1)
	} else {
		d.counts.Accepted.Add(1)
	}
	if p.Wait > 0 {
		if row, ok := d.awaitRow(ctx, o.ID, p.Wait); ok {
			*o = row
		}
	}
	return nil
}

// unavailable turns the error of a call into a *seckill.Failure, or into a *seckill.Unknown if it
// may have taken effect.
func (d *Desk) unavailable(id seckill.OrderID, err error) error {
	var known *seckill.Failure
	var unknown *inventory.UnknownError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &unknown), errors.Is(err, batch.ErrAbandoned):
		d.counts.Unknown.Add(1)
		return &seckill.Unknown{Order: id, RetryAfter: time.Second, Err: err}
	case errors.Is(err, batch.ErrFull):
		return failure(seckill.CodeOverloaded, err)
	case errors.Is(err, inventory.ErrEpoch):
		d.isBehind()
	}
	return failure(seckill.CodeUnavailable, err)
}

// replay answers a repeat whose order has a row.
func (d *Desk) replay(ctx context.Context, id seckill.OrderID) (seckill.Receipt, error) {
	order, err := d.statuses.Do(ctx, id)
	if err == nil && order.ID == "" {
		err = errNoRow
	}
	if err != nil {
		d.counts.Unknown.Add(1)
		return seckill.Receipt{}, &seckill.Unknown{Order: id, RetryAfter: time.Second, Err: err}
	}
	d.counts.Replayed.Add(1)
	return seckill.Receipt{Order: public(order), Replayed: true}, nil
}

// replayOrRefuse answers a purchase that can't make a new order: with the order of its key, or with
// the refusal. A key that has units and no row yet is promised them once more, where only the gate
// would have turned it away: no promise is made for the first time after the end of a sale.
//
// Where the stock can't be asked about the key, the gate's refusal stands if it says to come again:
// that is right for a repeat, too.
func (d *Desk) replayOrRefuse(ctx context.Context, p *seckill.Purchase, offer seckill.Offer, id seckill.OrderID,
	refusal *seckill.Refusal, since time.Time) (seckill.Receipt, error) {
	if d.neverHeld(offer, string(id), refusal, since) {
		return seckill.Receipt{}, refusal
	}
	again := refusal == p.Closed && refusal.RetryAfter > 0
	ref := d.ref(offer, string(id))
	if ref.Epoch == 0 {
		if again {
			return seckill.Receipt{}, refusal
		}
		return seckill.Receipt{}, errNotOpened
	}
	hold, err := d.stock.Find(ctx, ref, offer.ID, string(id))
	switch {
	case err != nil && again:
		return seckill.Receipt{}, refusal
	case err != nil:
		return seckill.Receipt{}, d.unavailable(id, err)
	case hold.State == inventory.None:
		return seckill.Receipt{}, refusal
	case hold.Quantity != p.Quantity:
		return seckill.Receipt{}, errKeyReused
	case hold.State == inventory.Ordered, hold.State == inventory.Sold, hold.State == inventory.Void:
		return d.replay(ctx, id)
	}
	if order, err := d.statuses.Do(ctx, id); err == nil && order.ID != "" {
		return seckill.Receipt{Order: public(order), Replayed: true}, nil
	}
	if hold.State == inventory.Fresh && refusal == p.Closed {
		receipt, err := d.sell(ctx, p, offer, id, ref)
		var failed *seckill.Failure
		if !errors.As(err, &failed) {
			return receipt, err
		}
	}
	return seckill.Receipt{}, d.unavailable(id, errOnItsWay)
}

// neverHeld reports, from memory, that no order with that id was begun before since, or that the
// order is forgotten.
func (d *Desk) neverHeld(offer seckill.Offer, id string, closed *seckill.Refusal, since time.Time) bool {
	if !offer.Sale.Live(time.Now(), d.cfg.Retention) {
		return true
	}
	ref := d.ref(offer, id)
	if ref.Epoch == 0 { // this process doesn't know the shard yet, but the sale never began
		return closed.Code == seckill.CodeNotStarted
	}
	return d.stock.Absent(ref, id, since)
}
