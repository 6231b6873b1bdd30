package seckill

import (
	"slices"

	"github.com/penstock/penstock/inventory"
)

// letter returns the dead letter of a promise that fits no item: a page that has only this promise.
func (r *Promise) letter(p *Page) DeadLetter {
	alone := Page{PageHeader: p.PageHeader, Promises: []Promise{*r}}
	return DeadLetter{
		Order: r.Order, Partition: p.Partition, Offset: p.Offset, Problem: "no item fits this promise",
		Value: AppendPage(nil, &alone),
	}
}

// promise returns the promise from which an order was made.
func (o *Order) promise() *Promise {
	return &Promise{
		Order: o.ID, Caller: o.Caller, Activity: o.Activity, SKU: o.SKU, User: o.User, Quantity: o.Quantity,
		Amount: o.Amount, Request: o.Request, Accepted: o.Accepted,
	}
}

// letterOf makes the dead letter of a parked order that fits no item, from its row. It is used by
// DecideUnpark, if an order was parked because of a locked row and then fits no item. DecideAccept
// makes the letters of promises.
func letterOf(o *Order) DeadLetter {
	page := Page{
		PageHeader: PageHeader{
			Ref: inventory.Ref{Shard: o.Grant.Shard, Epoch: o.Grant.Epoch}, Seq: o.Grant.Seq, Node: o.Node, Put: o.Accepted,
		},
		Partition: o.Grant.Partition, Offset: o.Grant.Offset,
	}
	return o.promise().letter(&page)
}

// LetterOrders returns the orders of a dead letter: its own order, or those that its record's
// header names.
func LetterOrders(l *DeadLetter) []OrderID {
	if l.Order != "" {
		return []OrderID{l.Order}
	}
	page, err := ParsePage(l.Value)
	if err != nil && len(page.Orders) == 0 {
		return nil
	}
	ids := make([]OrderID, len(page.Orders))
	for i := range page.Orders {
		ids[i] = page.Orders[i].Order
	}
	return ids
}

// readAnew returns a parked order with the data of its promise. If only the record's header was
// readable when the order was parked, its row has only id and units.
func readAnew(parked *Order, p *Page, r *Promise) Order {
	o := *parked
	o.Caller, o.Activity, o.SKU, o.User, o.Amount = r.Caller, r.Activity, r.SKU, r.User, r.Amount
	o.Request, o.Node, o.Accepted = r.Request, p.Node, r.Accepted
	return o
}

// MergeLetters returns the letters of a batch, and letters for promises that no letter of the batch
// covers. One letter is enough for a whole record.
func MergeLetters(batch, promises []DeadLetter) []DeadLetter {
	if len(promises) == 0 {
		return batch
	}
	covered := make(map[OrderID]bool)
	for i := range batch {
		for _, id := range LetterOrders(&batch[i]) {
			covered[id] = true
		}
	}
	all := slices.Clone(batch)
	for i := range promises {
		if !covered[promises[i].Order] {
			all = append(all, promises[i])
		}
	}
	return all
}

// DecideReplay tries the orders of dead letters again. It is called inside the transaction that has
// locked the rows. pages has, by the letter's id, the pages of those whole records that can be
// read. done has the letters that have no parked order left. The letters in out are not new: their
// orders have a letter already.
func DecideReplay(letters []DeadLetter, pages map[int64]Page, in *AcceptInput, out *Changes) (accepted []Acceptance, done []DeadLetter) {
	r := replay{pages, in, out}
	for i := range letters {
		got, finished := r.letter(&letters[i])
		accepted = append(accepted, got...)
		if finished {
			done = append(done, letters[i])
		}
	}
	return accepted, done
}

// replay is a replay of dead letters in progress.
type replay struct {
	pages   map[int64]Page
	in      *AcceptInput
	changes *Changes
}

// letter tries the orders of a letter again, and reports whether none of them is still parked.
func (r *replay) letter(l *DeadLetter) (out []Acceptance, finished bool) {
	if l.Order != "" {
		if o, ok := r.in.Existing[l.Order]; ok {
			out = append(out, r.unpark(&o, &o))
		}
	} else {
		page, readable := r.pages[l.ID]
		if !readable {
			return nil, false
		}
		for i := range page.Promises {
			out = append(out, r.promise(&page, &page.Promises[i])...)
		}
	}
	finished = true
	for i := range out {
		finished = finished && out[i].Order.State != OrderParked
	}
	return out, finished
}

// promise tries a promise of a record that was read again.
func (r *replay) promise(page *Page, p *Promise) []Acceptance {
	o, ok := r.in.Existing[p.Order]
	if ok && o.State == OrderParked {
		read := readAnew(&o, page, p)
		return []Acceptance{r.unpark(&o, &read)}
	}
	single := Page{PageHeader: page.PageHeader, Promises: []Promise{*p}}
	return DecideAccept(&single, r.in, r.changes)
}

// unpark tries a parked order again, as it reads now. If its stock row is locked, it stays parked.
// It has a dead letter, so only another replay tries it again.
func (r *replay) unpark(o, read *Order) Acceptance {
	key := o.Stock()
	if o.State != OrderParked || r.in.Locked[key] {
		outcome := OutcomeExists
		if o.State == OrderParked {
			outcome = OutcomeParked
		}
		return Acceptance{Outcome: outcome, Order: *o, Ref: inventory.Ref{Shard: key.Shard, Epoch: r.in.Epochs[key.Shard]}}
	}
	a := DecideUnpark(read, r.in, r.changes)
	r.in.Existing[o.ID] = a.Order
	return a
}
