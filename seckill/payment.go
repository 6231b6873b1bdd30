package seckill

import "time"

// Payment is a provider's notice that money came, its signature already checked.
type Payment struct {
	Merchant MerchantID
	ID       PaymentID
	Order    OrderID
	Amount   Money
}

// PaymentVerdict is what a payment did.
type PaymentVerdict uint8

// The verdicts. PaymentBooked moved the order to paid; PaymentLate met an order that can't take it and is kept: the order is
// refund_due, or stays as it is when another payment has paid it, and the money is to go back. PaymentAgain is a repeat.
// The others changed nothing.
const (
	PaymentBooked PaymentVerdict = iota + 1
	PaymentLate
	PaymentAgain
	PaymentMismatch     // wrong amount or currency
	PaymentNoOrder      // no row of that merchant under that id
	PaymentOtherContent // the payment's id was used for another order or amount
	PaymentLocked       // nothing was decided: somebody has the order's row
)

// PaymentResult is what a payment did, and the order afterwards.
type PaymentResult struct {
	Verdict PaymentVerdict
	Order   Order
}

// KeptPayment is a payment row: what was paid, and whether it has to go back.
type KeptPayment struct {
	Payment
	RefundDue bool
}

// DecidePayment is a payment's decision, called inside the transaction that holds the order's row. order
// is nil when there is no row, earlier is the kept payment of the same merchant and id, or nil. It changes
// order, and writes it to out where it moves. The caller keeps the payment on PaymentBooked and
// PaymentLate (RefundDue).
//
// A parked order is like one that is still queued. A tombstone has no amount; a payment for it is kept
// whatever the amount.
func DecidePayment(p Payment, order *Order, earlier *KeptPayment, now time.Time, out *Changes) PaymentResult {
	switch {
	case order == nil || order.Caller.Merchant != p.Merchant || order.State == OrderParked:
		return PaymentResult{Verdict: PaymentNoOrder}
	case earlier != nil && earlier.Payment == p:
		return PaymentResult{PaymentAgain, *order}
	case earlier != nil:
		return PaymentResult{PaymentOtherContent, *order}
	case p.Amount != order.Amount && order.Reason != ReasonNotAccepted:
		return PaymentResult{PaymentMismatch, *order}
	}
	before := *order
	if order.Apply(EventPaid, now) {
		out.move(&before, order)
	}
	if before.State == OrderPending {
		return PaymentResult{PaymentBooked, *order}
	}
	return PaymentResult{PaymentLate, *order}
}
