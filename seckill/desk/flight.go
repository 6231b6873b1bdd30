package desk

import (
	"fmt"
	"sync"
	"time"

	"github.com/penstock/penstock/internal/trace"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// flight has the purchases of one shard in one round, from the hold to the acknowledgement of their
// page.
//
// The line's goroutine owns it until its page is put. From then on the queue owns it, until it
// calls done. The timer may look at it at any time, under mu, until it is over.
type flight struct {
	desk  *Desk
	acked func(error) // f.acknowledged as a value
	timer *time.Timer

	line   *line
	queue  *shardQueue
	call   inventory.HoldCall
	page   seckill.Page
	value  []byte        // belongs to the queue between Put and done
	began  time.Duration // when its holds were asked for, measured from the making of the desk
	heldAt time.Duration // when its holds were given
	traced bool          // one of its purchases is traced

	mu    sync.Mutex
	seats []*seat // changed under mu while the timer is set
	over  bool    // the timer has nothing left to do; guarded by mu
}

func newFlight(d *Desk) *flight {
	f := &flight{desk: d}
	f.acked = f.acknowledged
	return f
}

// board makes the hold call for the seats of a flight, and reports whether there is anything to
// ask. Purchases that have waited for too long fail. If the shard has no epoch yet, all of them
// fail.
func (f *flight) board(now time.Duration) bool {
	f.call.Ref = inventory.Ref{Shard: f.queue.shard, Epoch: f.desk.stock.Epoch(f.queue.shard)}
	f.call.Seq, f.call.Err = 0, nil
	f.began, f.traced = now, false
	kept := f.seats[:0]
	first := never
	for _, s := range f.seats {
		switch {
		case f.call.Ref.Epoch == 0:
			f.desk.fail(s, errNotOpened)
			continue
		case now >= s.startBy:
			f.desk.fail(s, errTooLong)
			continue
		}
		first = min(first, s.answerBy)
		f.traced = f.traced || s.trace != ""
		kept = append(kept, s)
		f.call.Claims = append(f.call.Claims, s.claim)
	}
	clear(f.seats[len(kept):])
	f.seats = kept
	if len(kept) == 0 {
		return false
	}
	f.over = false
	if f.timer == nil {
		f.timer = time.AfterFunc(first-now, f.expire)
	} else {
		f.timer.Reset(first - now)
	}
	return true
}

// expireStep is the shortest time between two looks of a flight's timer.
const expireStep = 5 * time.Millisecond

// expire runs when the timer goes off. It answers purchases whose time is over; their outcome is
// unknown.
func (f *flight) expire() {
	now := f.desk.now()
	next := never
	var due []*seat
	f.mu.Lock()
	if f.over {
		f.mu.Unlock()
		return
	}
	for _, s := range f.seats {
		switch {
		case s.timeout:
		case now >= s.answerBy:
			s.timeout, s.err = true, errNoAnswer
			due = append(due, s)
		default:
			next = min(next, s.answerBy)
		}
	}
	if next < never {
		f.timer.Reset(max(next-now, expireStep))
	}
	f.mu.Unlock()
	for _, s := range due {
		s.wake()
	}
}

// held is called when the hold call has returned. The purchases with a fresh hold become a page.
// The others are answered: they are added to rest, and will be woken.
func (f *flight) held(rest []*seat) []*seat {
	asked := len(f.seats)
	if asked == 0 {
		f.recycle()
		return rest
	}
	err := f.call.Err
	if err == nil && len(f.call.Verdicts) != asked {
		err = &inventory.UnknownError{Err: fmt.Errorf("the stock answered %d of %d claims", len(f.call.Verdicts), asked)}
	}
	if f.traced {
		f.traceHolds(err)
	}
	f.mu.Lock()
	kept := f.seats[:0]
	for i, s := range f.seats {
		switch {
		case s.timeout: // it was answered before
			continue
		case err != nil:
			s.err = err
		default:
			s.verdict = f.call.Verdicts[i]
		}
		if s.verdict.Fresh() {
			kept = append(kept, s)
		} else {
			rest = append(rest, s)
		}
	}
	clear(f.seats[len(kept):])
	f.seats = kept
	f.over = len(kept) == 0
	f.mu.Unlock()
	if unused := asked - len(kept); unused > 0 {
		f.desk.queue.Release(unused)
	}
	if len(kept) > 0 {
		f.heldAt = f.desk.now()
		f.desk.hops.Hold.Observe(f.heldAt - kept[0].arrived.Sub(f.desk.made)) // the first one has waited longest
		f.put()
	} else {
		f.end()
	}
	return rest
}

// put sends the page of the purchases that have a hold. After that the queue owns the flight.
func (f *flight) put() {
	ref, seq := f.call.Ref, f.call.Seq
	f.page.PageHeader = seckill.PageHeader{Ref: ref, Seq: seq, Node: f.desk.node, Put: time.Now()}
	for _, s := range f.seats {
		s.ref, s.seq = ref, seq
		f.page.Promises = append(f.page.Promises, seckill.Promise{
			Order: seckill.OrderID(s.claim.ID), Caller: s.caller, Activity: s.offer.Sale.ID, SKU: s.offer.SKU,
			User: seckill.UserID(s.claim.Buyer), Quantity: s.claim.Quantity, Amount: amount(s.offer, s.claim.Quantity),
			Request: s.request, Accepted: s.arrived, Trace: s.trace,
		})
	}
	f.value = seckill.AppendPage(f.value[:0], &f.page)
	f.line.putting.Add(int64(len(f.seats)))
	f.desk.queue.Put(ref.Shard, f.value, len(f.seats), f.acked)
}

// acknowledged is the function that the queue calls when it is done with the page.
func (f *flight) acknowledged(err error) {
	f.line.land(len(f.seats))
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
	if err != nil {
		err = &inventory.UnknownError{Err: fmt.Errorf("put the page: %w", err)}
	} else {
		f.desk.hops.Page.Observe(f.desk.now() - f.heldAt)
	}
	if f.traced {
		f.tracePut(err)
	}
	for _, s := range f.seats {
		if !s.timeout {
			s.err = err
			s.wake()
		}
	}
	f.end()
}

// end stops the timer, and returns the flight to the pool. If the timer may still be running its
// function, the flight is not used again.
func (f *flight) end() {
	if f.timer.Stop() {
		f.recycle()
	}
}

// recycle makes the flight ready for the next round. No other part refers to it by then.
func (f *flight) recycle() {
	clear(f.seats)
	clear(f.call.Claims)
	clear(f.page.Promises)
	f.seats, f.call.Claims, f.page.Promises = f.seats[:0], f.call.Claims[:0], f.page.Promises[:0]
	f.call.Verdicts = f.call.Verdicts[:0]
	f.line, f.queue = nil, nil
	f.desk.flights.Put(f)
}

// traceHolds records how long the traced purchases waited in their line, and for their holds.
func (f *flight) traceHolds(err error) {
	d := f.desk
	began, now := d.made.Add(f.began), time.Now()
	for _, s := range f.seats {
		if s.trace == "" {
			continue
		}
		of := trace.Context(s.trace)
		d.trace.Span(of, "line", s.arrived, began, false, trace.Attr{Key: "penstock.shard", Number: int64(f.call.Ref.Shard)})
		d.trace.Span(of, "hold", began, now, err != nil, trace.Attr{Key: "penstock.shard", Number: int64(f.call.Ref.Shard)},
			trace.Attr{Key: "penstock.epoch", Number: int64(f.call.Ref.Epoch)}, trace.Attr{Key: "penstock.holds", Number: int64(len(f.seats))})
	}
}

// tracePut records how long the page of the traced purchases took.
func (f *flight) tracePut(err error) {
	d := f.desk
	from, now := d.made.Add(f.heldAt), time.Now()
	for _, s := range f.seats {
		if s.trace != "" {
			d.trace.Span(trace.Context(s.trace), "put", from, now, err != nil, trace.Attr{Key: "penstock.promises", Number: int64(len(f.seats))})
		}
	}
}

// amount returns the price of that many units of an offer.
func amount(offer seckill.Offer, quantity int) seckill.Money {
	return seckill.Money{Minor: offer.Price.Minor * int64(quantity), Currency: offer.Price.Currency}
}
