package desk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// SearchOrders returns up to q.Limit orders that fit q, newest first. Orders that are still queued
// are found only by their id (OrderDetails).
func (o *Office) SearchOrders(ctx context.Context, q seckill.OrderQuery) ([]seckill.Order, error) {
	if q.Merchant != "" {
		for sale := range o.desk.Catalog().Sales() {
			if sale.Merchant == q.Merchant {
				q.Activities = append(q.Activities, sale.ID)
			}
		}
	}
	orders, err := o.store.SearchOrders(ctx, q)
	if err != nil {
		return nil, storeFailure("search orders", err)
	}
	return orders, nil
}

// OrdersPaidBy returns the orders of a payment, of one merchant or of all ("").
func (o *Office) OrdersPaidBy(ctx context.Context, merchant seckill.MerchantID, id seckill.PaymentID) ([]seckill.Order, error) {
	payments, err := o.store.FindPayments(ctx, merchant, id)
	if err != nil {
		return nil, storeFailure("find the payment", err)
	}
	ids := make([]seckill.OrderID, len(payments))
	for i := range payments {
		ids[i] = payments[i].Order
	}
	orders, err := o.store.FindOrders(ctx, ids)
	if err != nil {
		return nil, storeFailure("find the orders of the payment", err)
	}
	for i := range orders {
		if orders[i].ID == "" { // the payment came before the order had a row
			queued, _, err := o.orderOf(ctx, ids[i])
			if err != nil && !errors.Is(err, errUnknownOrder) {
				return nil, err
			}
			orders[i] = queued
		}
	}
	orders = slices.DeleteFunc(orders, func(o seckill.Order) bool { return o.ID == "" })
	slices.SortFunc(orders, func(a, b seckill.Order) int { return a.Mark().Compare(b.Mark()) })
	return orders, nil
}

// OrderDetails is an order with everything that is known about it. Steps are its history, from the
// click on.
type OrderDetails struct {
	Order    seckill.Order
	Payments []seckill.KeptPayment
	Refused  []seckill.RefusedPayment
	Steps    []Step
}

// Step is something that happened to an order. If Seen is set, the step says what the stock or
// other systems know, and At is the time of this reading.
type Step struct {
	At        time.Time // on the database's clock, except for the click: on the gateway's
	Name      StepName
	Node      string // empty if it isn't known
	RequestID string // the request id of the click
	Detail    string // for a person
	Seen      bool
}

// StepName is the kind of a step.
type StepName string

// The steps.
const (
	StepClick     StepName = "click"   // a gateway promised the order
	StepHold      StepName = "hold"    // the stock gave its units
	StepPage      StepName = "page"    // the queue has its promise
	StepRow       StepName = "row"     // a worker made its row
	StepConfirm   StepName = "confirm" // the stock knows that its order exists
	StepExtend    StepName = "extend"  // an operator moved its time to pay
	StepPayment   StepName = "payment" // a payment notice came, and was kept
	StepRefused   StepName = "refused" // a payment notice came, and was refused
	StepPaid      StepName = "paid"    // it is paid
	StepCancel    StepName = "cancel"  // it was cancelled
	StepTimeout   StepName = "timeout" // it was not paid in time
	StepReject    StepName = "reject"  // it was accepted, but impossible
	StepSettle    StepName = "settle"  // the stock knows how it ended
	StepRefundDue StepName = "refund-due"
	StepRefund    StepName = "refund" // a payment went back
	StepEvents    StepName = "events" // other systems were told
)

// orderOf returns an order's row. Without a row it returns the data of the hold, and the hold's
// place.
func (o *Office) orderOf(ctx context.Context, id seckill.OrderID) (seckill.Order, inventory.Ref, error) {
	order, err := o.desk.row(ctx, id)
	if err != nil || order.ID != "" {
		return order, inventory.Ref{}, err
	}
	offer, err := o.desk.item(ctx, id.Item())
	if err != nil {
		return seckill.Order{}, inventory.Ref{}, err
	}
	return o.desk.findQueued(ctx, id, seckill.CallerRef{Merchant: offer.Sale.Merchant})
}

// OrderDetails returns all known data of an order.
func (o *Office) OrderDetails(ctx context.Context, id seckill.OrderID) (OrderDetails, error) {
	order, _, err := o.orderOf(ctx, id)
	if err != nil {
		return OrderDetails{}, err
	}
	trail, err := o.store.OrderTrail(ctx, &order)
	if err != nil {
		return OrderDetails{}, storeFailure("read what is kept of the order", err)
	}
	d := OrderDetails{Order: order, Payments: trail.Payments, Refused: trail.Refused}
	told, seen := o.told(ctx, &order, &trail)
	d.Steps = append(d.Steps, beginning(&order)...)
	d.Steps = append(d.Steps, told...)
	d.Steps = append(d.Steps, ofPayments(&trail)...)
	d.Steps = append(d.Steps, ofChanges(&order, &trail)...)
	if step, ended := ending(&order); ended {
		d.Steps = append(d.Steps, step)
	}
	slices.SortStableFunc(d.Steps, func(a, b Step) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(rank(a.Name), rank(b.Name))) })
	d.Steps = append(d.Steps, seen...)
	return d, nil
}

// held describes an order's hold: its units, its shard and its epoch.
func held(o *seckill.Order) string {
	return fmt.Sprintf("%s on shard %d, epoch %d", seckill.Counted(o.Quantity, "unit"), o.Grant.Shard, o.Grant.Epoch)
}

// beginning has the steps up to the row. The earlier steps have the time of the click, because all
// of them happen within the accept deadline. If the gateway's clock is ahead of the database's,
// they still don't come after the row.
func beginning(o *seckill.Order) []Step {
	if o.State == seckill.OrderQueued {
		return []Step{{Name: StepHold, Detail: held(o) + "; the order has no row yet", At: time.Now().UTC(), Seen: true}}
	}
	row := Step{At: o.CreatedAt, Name: StepRow, Detail: "the order exists, to be paid by " + o.PayBy.Format(time.RFC3339)}
	switch {
	case o.Reason == seckill.ReasonNotAccepted:
		row.Detail = "this purchase was never finished: its units came back, and there will be no order"
		return []Step{row}
	case o.State == seckill.OrderParked:
		row.Detail = "the order waits: its item's row was locked, or no item matches it"
	}
	at := o.Accepted
	if at.After(o.CreatedAt) {
		at = o.CreatedAt
	}
	steps := []Step{
		{At: at, Name: StepClick, Node: o.Node, RequestID: o.Request, Detail: "by caller " + o.Caller.String()},
		{At: at, Name: StepHold, Node: o.Node, Detail: held(o)},
	}
	if o.Grant.Seq != 0 {
		steps[1].Detail += fmt.Sprintf(", write %d", o.Grant.Seq)
		page := fmt.Sprintf("partition %d, offset %d", o.Grant.Partition, o.Grant.Offset)
		steps = append(steps, Step{At: at, Name: StepPage, Node: o.Node, Detail: page})
	}
	return append(steps, row)
}

// ending has the step in which an order's units reached their end.
func ending(o *seckill.Order) (Step, bool) {
	s := Step{At: o.EndedAt}
	switch {
	case o.EndedAt.IsZero(), o.Reason == seckill.ReasonNotAccepted:
		return s, false
	case o.Units == seckill.UnitsSold:
		s.Name, s.Detail = StepPaid, "the units are sold"
	case o.Reason == seckill.ReasonBuyer:
		s.Name, s.Detail = StepCancel, "the units came back"
	case o.Reason == seckill.ReasonPaymentTimeout:
		s.Name, s.Detail = StepTimeout, "not paid by "+o.PayBy.Format(time.RFC3339)+": the units came back"
	default:
		s.Name, s.Detail = StepReject, string(o.Reason)+": accepted, but impossible; the units came back"
	}
	return s, true
}

// ofPayments has the steps of payment notices and refunds.
func ofPayments(t *seckill.OrderTrail) (steps []Step) {
	for i := range t.Payments {
		k := &t.Payments[i]
		what := fmt.Sprintf("%s of %s", k.ID, k.Amount)
		steps = append(steps, Step{At: k.KeptAt, Name: StepPayment, Detail: what + " came"})
		switch k.State {
		case seckill.PaymentStateEarly:
			steps[len(steps)-1].Detail += "; it is applied when the order has a row"
		case seckill.PaymentStateDue, seckill.PaymentStateDone:
			steps = append(steps, Step{At: k.KeptAt, Name: StepRefundDue, Detail: fmt.Sprintf("%s must be refunded (%s)", what, k.Cause)})
		case seckill.PaymentStateBooked:
			steps[len(steps)-1].Detail += " and paid the order"
		}
		if k.State == seckill.PaymentStateDone {
			steps = append(steps, Step{
				At: k.DoneAt, Name: StepRefund, Detail: fmt.Sprintf("%s was refunded, reference %s, recorded by %s", what, k.Reference, k.DoneBy),
			})
		}
	}
	for i := range t.Refused {
		r := &t.Refused[i]
		detail := fmt.Sprintf("%s of %s was refused: %s", r.ID, r.Amount, r.Problem)
		if r.Count > 1 {
			detail += fmt.Sprintf(" (%s)", seckill.Counted(r.Count, "time"))
		}
		steps = append(steps, Step{At: r.At, Name: StepRefused, Detail: detail})
	}
	return steps
}

// ofChanges has the operators' changes. A cancellation is the end of the order; the change has its
// author.
func ofChanges(o *seckill.Order, t *seckill.OrderTrail) (steps []Step) {
	for i := range t.Changes {
		c := &t.Changes[i]
		detail := fmt.Sprintf("by %s, change %d", c.Actor, c.Number)
		if c.Author.Reason != "" {
			detail += ": " + c.Author.Reason
		}
		switch {
		case c.Kind == seckill.ChangeOrder:
			steps = append(steps, Step{At: c.At, Name: StepCancel, Detail: detail})
		case c.At.Before(o.CreatedAt), !o.EndedAt.IsZero() && c.At.After(o.EndedAt):
		default:
			steps = append(steps, Step{At: c.At, Name: StepExtend, Detail: detail})
		}
	}
	return steps
}

// rank sorts steps of the same time: a write comes before the message about it to the stock.
func rank(name StepName) int {
	if name == StepSettle {
		return 1
	}
	return 0
}

// stockPatience is how long the stock is asked about an order whose row is known. A person waits,
// and a stock that is rebuilt or stalls would delay the answer by many seconds.
const stockPatience = 150 * time.Millisecond

// told has the steps that say what the stock and other systems have been told by now, and what they
// have not. The time at which the stock was told isn't stored, so the time of the row, and of its
// end, are used. A stock that doesn't answer is left out.
func (o *Office) told(ctx context.Context, order *seckill.Order, t *seckill.OrderTrail) (known, seen []Step) {
	if order.State == seckill.OrderQueued {
		return nil, nil
	}
	now, ended := o.desk.Now().UTC(), !order.EndedAt.IsZero()
	ref := inventory.Ref{Shard: order.Grant.Shard, Epoch: o.desk.stock.Epoch(order.Grant.Shard)}
	short, cancel := context.WithTimeout(ctx, stockPatience)
	defer cancel()
	hold, err := o.stock.Find(short, ref, order.Item, string(order.ID))
	there := err == nil && hold.State != inventory.None
	switch {
	case !there:
	case hold.State == inventory.Fresh && !ended:
		seen = append(seen, Step{At: now, Seen: true, Name: StepConfirm, Detail: "the stock does not know yet that the order exists"})
	case hold.State != inventory.Fresh:
		known = append(known, Step{At: order.CreatedAt, Name: StepConfirm, Detail: "the stock knows that the order exists"})
	}
	switch {
	case !ended:
	case t.Settling || there && (hold.State == inventory.Fresh || hold.State == inventory.Ordered):
		seen = append(seen, Step{At: now, Seen: true, Name: StepSettle, Detail: "the stock does not know yet how the order ended"})
	default:
		s := Step{At: order.EndedAt, Name: StepSettle, Detail: "the stock was told how the order ended"}
		if there && hold.State == inventory.Void {
			s.Detail += ": the units are back"
		} else if there {
			s.Detail += ": the units are sold"
		}
		known = append(known, s)
	}
	if t.Announces {
		e := Step{At: now, Seen: true, Name: StepEvents, Detail: "all steps are published"}
		if !t.Waiting.IsZero() && !order.UpdatedAt.Before(t.Waiting) {
			e.Detail = "the last step waits to be published"
		}
		seen = append(seen, e)
	}
	return known, seen
}

// CancelOrder cancels an unpaid order for its buyer, with a change record.
func (o *Office) CancelOrder(ctx context.Context, id seckill.OrderID, by seckill.Author) (seckill.Order, error) {
	order, ref, err := o.orderOf(ctx, id)
	if err != nil {
		return seckill.Order{}, err
	}
	return o.desk.cancel(ctx, order, ref, by)
}

// Refunds returns up to q.Limit payments that must be or were refunded, newest first.
func (o *Office) Refunds(ctx context.Context, q seckill.RefundQuery) ([]seckill.KeptPayment, error) {
	found, err := o.store.Refunds(ctx, q)
	if err != nil {
		return nil, storeFailure("list refunds", err)
	}
	return found, nil
}

// RefundSums adds refunds up, by merchant, cause and currency.
func (o *Office) RefundSums(ctx context.Context, state seckill.PaymentState, merchant seckill.MerchantID) ([]seckill.RefundSum, error) {
	sums, err := o.store.RefundSums(ctx, state, merchant)
	if err != nil {
		return nil, storeFailure("add refunds up", err)
	}
	return sums, nil
}

// SettleRefund records that a payment was refunded. Without a merchant the payment's id must name
// one payment.
func (o *Office) SettleRefund(ctx context.Context, r seckill.Refund, by seckill.Author) (seckill.KeptPayment, seckill.Order, error) {
	var none seckill.KeptPayment
	found, err := o.store.FindPayments(ctx, r.Merchant, r.Payment)
	switch {
	case err != nil:
		return none, seckill.Order{}, storeFailure("find the payment", err)
	case len(found) == 0 && r.Merchant != "":
		detail := fmt.Sprintf("The merchant %s has no payment with this id.", r.Merchant)
		return none, seckill.Order{}, &seckill.Refusal{Code: seckill.CodeUnknownPayment, Detail: detail}
	case len(found) == 0:
		return none, seckill.Order{}, &seckill.Refusal{Code: seckill.CodeUnknownPayment}
	case len(found) > 1:
		return none, seckill.Order{}, seckill.FieldErrors{{
			Field: "merchant", Detail: "is required: several merchants have a payment with this id",
		}}
	}
	r.Merchant = found[0].Merchant
	kept, order, err := o.store.SettleRefund(ctx, r, by)
	switch {
	case errors.Is(err, seckill.ErrRefunded):
		detail := fmt.Sprintf("The payment was refunded at %s with the reference %s, as recorded by %s.",
			kept.DoneAt.UTC().Format(time.RFC3339), kept.Reference, kept.DoneBy)
		return none, order, &seckill.Refusal{Code: seckill.CodeRefundSettled, Detail: detail}
	case errors.Is(err, seckill.ErrNotDue):
		detail := fmt.Sprintf("The payment is %s: no refund is due.", kept.State)
		return none, order, &seckill.Refusal{Code: seckill.CodeNotRefundable, Detail: detail}
	case errors.Is(err, seckill.ErrRefundAmount):
		detail := fmt.Sprintf("%s must be refunded, and only the whole amount can be recorded.", found[0].Amount)
		return none, order, &seckill.Refusal{Code: seckill.CodeRefundAmount, Detail: detail}
	case errors.Is(err, seckill.ErrNotFound):
		return none, order, &seckill.Refusal{Code: seckill.CodeUnknownPayment}
	case err != nil:
		return none, order, storeFailure("settle the refund", err)
	}
	return kept, order, nil
}

// ExtendOrders moves the time to pay of an activity's open orders, and returns how many.
func (o *Office) ExtendOrders(ctx context.Context, id seckill.ActivityID, d time.Duration, by seckill.Author) (int64, error) {
	n, err := o.store.ExtendOrders(ctx, id, d, by)
	switch {
	case errors.Is(err, seckill.ErrNotFound):
		return 0, errNoSuchActivity
	case err != nil:
		return 0, storeFailure("extend the orders", err)
	}
	return n, nil
}

// Statement sums up a merchant's sales, cancellations and refunds in [from, to).
func (o *Office) Statement(ctx context.Context, merchant seckill.MerchantID, from, to time.Time) ([]seckill.StatementRow, error) {
	lines, err := o.store.Statement(ctx, merchant, from, to)
	if err != nil {
		return nil, storeFailure("read the statement", err)
	}
	return lines, nil
}
