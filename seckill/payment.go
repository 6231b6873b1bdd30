package seckill

import (
	"errors"
	"time"
)

// Payment is a provider's notice of a payment, with a checked signature. Activity and SKU are those
// of the order's item.
type Payment struct {
	Merchant MerchantID
	ID       PaymentID
	Order    OrderID
	Amount   Money
	Activity ActivityID
	SKU      SKU
	// Queued means that the order's hold was seen: if the order has no row yet, the payment is
	// kept, and applied when there is one.
	Queued bool
}

// Key names the payment.
func (p *Payment) Key() PaymentKey { return PaymentKey{p.Merchant, p.ID} }

// same reports whether two notices are equal.
func (p *Payment) same(other *Payment) bool {
	return p.Order == other.Order && p.Amount == other.Amount
}

// PaymentKey names a payment over all merchants.
type PaymentKey struct {
	Merchant MerchantID
	ID       PaymentID
}

// PaymentVerdict is the effect of a payment.
type PaymentVerdict uint8

// The verdicts. PaymentBooked moved the order to paid. PaymentLate came to an order that can't take
// it, and is kept as a refund that is due: the order is refund_due, or unchanged if another payment
// has paid it. PaymentEarly is kept for an order that is still queued. PaymentAgain is a repeat.
// PaymentMismatch is kept as a refund that is due, and changes nothing else. The others changed
// nothing.
const (
	PaymentBooked PaymentVerdict = iota + 1
	PaymentLate
	PaymentEarly
	PaymentAgain
	PaymentMismatch     // wrong amount or currency
	PaymentNoOrder      // no row of that merchant under that id
	PaymentOtherContent // the payment's id was used for another order or amount
	PaymentLocked       // nothing was decided: another transaction has the order's row
)

// PaymentResult is the effect of a payment, and the order afterwards; the order's ID is empty if it
// has no row.
type PaymentResult struct {
	Verdict PaymentVerdict
	Order   Order
}

// PaymentState is the state of a payment's money.
type PaymentState string

// The states of a payment.
const (
	PaymentStateBooked PaymentState = "booked" // it paid its order
	PaymentStateEarly  PaymentState = "early"  // its order has no row yet
	PaymentStateDue    PaymentState = "due"    // it must be refunded
	PaymentStateDone   PaymentState = "done"   // it went back
)

// RefundCause is why a payment must be refunded.
type RefundCause string

// The causes.
const (
	CauseNone        RefundCause = ""
	CauseLate        RefundCause = "late"         // the order was cancelled before
	CauseSecond      RefundCause = "second"       // another payment came before it
	CauseWrongAmount RefundCause = "wrong-amount" // it isn't the order's price
	CauseRejected    RefundCause = "rejected"     // the order was accepted, but impossible
)

// KeptPayment is a payment row: the payment, and the state of its money. An early payment becomes
// one of the others when its order has a row. A booked one never changes.
type KeptPayment struct {
	Payment   // Queued is false
	State     PaymentState
	Cause     RefundCause // of one that is due or done
	KeptAt    time.Time   // when its notice came
	DoneAt    time.Time   // when the refund was recorded; zero before, like the next two
	DoneBy    string      // the operator
	Reference string      // the provider's, of the refund

	fresh bool // its order has no row yet
}

// IsNew reports whether the payment has no row yet.
func (k *KeptPayment) IsNew() bool { return k.fresh }

// RefusedPayment is a signed notice that was refused. Equal ones of an order are counted.
type RefusedPayment struct {
	Payment
	Problem Code
	Count   int
	At      time.Time // the last time
}

// MaxRefused is how many different refused notices are kept of an order (L8).
const MaxRefused = 20

// DecidePayment is a payment's decision, called inside the transaction that holds the order's row.
// order is nil if there is no row; kept has the stored payments by their keys. It changes order and
// kept, and adds changed ones to out.
//
// A parked order is like one that is still queued. A tombstone has no amount; a payment for it is
// kept whatever the amount. A notice of a wrong amount may be corrected by one of the right amount
// under the same id. Another wrong amount is refused like the first, and changes nothing of what is
// kept.
func DecidePayment(p Payment, order *Order, kept map[PaymentKey]*KeptPayment, now time.Time, out *Changes) PaymentResult {
	earlier, queued := kept[p.Key()], p.Queued
	p.Queued = false
	keep := KeptPayment{Payment: p, KeptAt: now, fresh: earlier == nil || earlier.fresh}
	if order != nil && order.Caller.Merchant != p.Merchant {
		return PaymentResult{Verdict: PaymentNoOrder}
	}
	if order == nil || order.State == OrderParked {
		return decideEarly(&keep, earlier, queued, kept, out)
	}
	switch {
	case earlier == nil:
	case !earlier.same(&p) && earlier.isWrong() && earlier.Order == p.Order && p.Amount != order.Amount:
		out.Refused = append(out.Refused, RefusedPayment{p, CodeAmountMismatch, 1, now})
		return PaymentResult{PaymentMismatch, *order}
	case !earlier.same(&p) && !(earlier.isWrong() && earlier.Order == p.Order):
		out.Refused = append(out.Refused, RefusedPayment{p, CodeKeyReused, 1, now})
		return PaymentResult{PaymentOtherContent, *order}
	case earlier.same(&p) && earlier.Cause == CauseWrongAmount:
		return PaymentResult{PaymentMismatch, *order}
	case earlier.same(&p) && earlier.State != PaymentStateEarly:
		return PaymentResult{PaymentAgain, *order}
	case earlier.State == PaymentStateEarly:
		keep.KeptAt = earlier.KeptAt
	}
	return decideKept(&keep, order, kept, now, out)
}

// isWrong reports whether the payment has a wrong amount, and was not refunded yet.
func (k *KeptPayment) isWrong() bool {
	return k.State == PaymentStateDue && k.Cause == CauseWrongAmount
}

// decideEarly keeps a payment of an order that has no row and is known to be queued.
func decideEarly(keep, earlier *KeptPayment, queued bool, kept map[PaymentKey]*KeptPayment, out *Changes) PaymentResult {
	switch {
	case earlier != nil && earlier.same(&keep.Payment):
		return PaymentResult{Verdict: PaymentAgain}
	case earlier != nil:
		out.Refused = append(out.Refused, RefusedPayment{keep.Payment, CodeKeyReused, 1, keep.KeptAt})
		return PaymentResult{Verdict: PaymentOtherContent}
	case !queued:
		return PaymentResult{Verdict: PaymentNoOrder}
	}
	keep.State = PaymentStateEarly
	kept[keep.Key()] = keep
	out.Payments = append(out.Payments, *keep)
	return PaymentResult{Verdict: PaymentEarly}
}

// decideKept books a payment, or keeps it as a refund that is due.
func decideKept(keep *KeptPayment, order *Order, kept map[PaymentKey]*KeptPayment, now time.Time, out *Changes) PaymentResult {
	verdict := PaymentLate
	keep.State = PaymentStateDue
	switch {
	case keep.Amount != order.Amount && order.Reason != ReasonNotAccepted:
		keep.Cause, verdict = CauseWrongAmount, PaymentMismatch
	case order.State == OrderPending:
		keep.State, verdict = PaymentStateBooked, PaymentBooked
	case order.State == OrderCancelled:
		keep.Cause = CauseLate
	case order.State == OrderRejected:
		keep.Cause = CauseRejected
	default:
		keep.Cause = CauseSecond
	}
	if before := *order; keep.Cause != CauseWrongAmount && order.Apply(EventPaid, now) {
		out.movePaid(&before, order, keep)
	}
	kept[keep.Key()] = keep
	out.Payments = append(out.Payments, *keep)
	if keep.State == PaymentStateDue {
		out.Steps = append(out.Steps, stepOf(order, keep, true))
	}
	return PaymentResult{verdict, *order}
}

// Refund records that a payment was refunded.
type Refund struct {
	Merchant  MerchantID
	Payment   PaymentID
	Reference string // the provider's
	// Amount is the refunded amount, which must be the whole amount due; nil means that amount.
	Amount *Money
}

// Errors of a refund, besides ErrNotFound for an unknown payment.
var (
	// ErrRefunded means that the payment was refunded before.
	ErrRefunded = errors.New("the money went back already")
	// ErrNotDue means that no refund is due.
	ErrNotDue = errors.New("nothing is due")
	// ErrRefundAmount means that another amount is due.
	ErrRefundAmount = errors.New("another amount is due")
)

// DecideRefund records a refund, and moves the order to refunded if no other refund of it is due.
// order is nil if its row is gone. It changes kept and order, and writes both to out.
func DecideRefund(r *Refund, kept *KeptPayment, order *Order, othersDue bool, by Author, now time.Time, out *Changes) error {
	switch {
	case kept == nil:
		return ErrNotFound
	case kept.State == PaymentStateDone:
		return ErrRefunded
	case kept.State != PaymentStateDue:
		return ErrNotDue
	case r.Amount != nil && *r.Amount != kept.Amount:
		return ErrRefundAmount
	}
	kept.State, kept.DoneAt, kept.DoneBy, kept.Reference = PaymentStateDone, now, by.Actor, r.Reference
	out.Payments = append(out.Payments, *kept)
	if order == nil {
		return nil
	}
	if before := *order; !othersDue && order.Apply(EventRefunded, now) {
		out.movePaid(&before, order, kept)
	}
	out.Steps = append(out.Steps, stepOf(order, kept, true))
	return nil
}

// Step is an event of an order, with the order after it: the order changed its state, or, if Money
// is set, Payment must be or was refunded. A Step of ParseSteps has only the members of its order
// that AnnounceSteps uses.
type Step struct {
	Order
	Payment PaymentID // the payment that made the step; "" if none did
	Paid    Money     // its amount
	Cause   RefundCause
	Money   PaymentState // PaymentStateDue or PaymentStateDone; "" where the order moved
}

// stepOf is a step that a payment made: of its money, or of the order.
func stepOf(o *Order, k *KeptPayment, money bool) Step {
	s := Step{Order: *o, Payment: k.ID, Paid: k.Amount, Cause: k.Cause}
	if money {
		s.Money = k.State
		s.UpdatedAt = k.KeptAt
		if k.State == PaymentStateDone {
			s.UpdatedAt = k.DoneAt
		}
	}
	return s
}

// LastPayments returns the last value of each payment of the changes, in their order.
func (c *Changes) LastPayments() []KeptPayment {
	last := make(map[PaymentKey]int, len(c.Payments))
	for i := range c.Payments {
		last[c.Payments[i].Key()] = i
	}
	var out []KeptPayment
	for i := range c.Payments {
		if last[c.Payments[i].Key()] == i {
			out = append(out, c.Payments[i])
		}
	}
	return out
}
