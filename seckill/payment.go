package seckill

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"strconv"
	"time"
)

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

// DecidePayment is a payment's decision, called inside the transaction that holds the order's row. order is nil when there
// is no row, earlier is the kept payment of the same merchant and id, or nil. It changes order. The caller writes the order
// when it changed, keeps the payment on PaymentBooked and PaymentLate (RefundDue), and leaves a settlement (sold) in the outbox
// on PaymentBooked.
//
// A tombstone has no amount; a payment for it is kept whatever the amount.
func DecidePayment(p Payment, order *Order, earlier *KeptPayment, now time.Time) PaymentResult {
	switch {
	case order == nil || order.Caller.Merchant != p.Merchant:
		return PaymentResult{Verdict: PaymentNoOrder}
	case earlier != nil && earlier.Payment == p:
		return PaymentResult{PaymentAgain, *order}
	case earlier != nil:
		return PaymentResult{PaymentOtherContent, *order}
	case p.Amount != order.Amount && order.Reason != ReasonNotAccepted:
		return PaymentResult{PaymentMismatch, *order}
	}
	pending := order.State == OrderPending
	order.Apply(EventPaid, now)
	if pending {
		return PaymentResult{PaymentBooked, *order}
	}
	return PaymentResult{PaymentLate, *order}
}

// SignatureAge is how old, or how far ahead, a payment notice's signature may be.
const SignatureAge = 300 * time.Second

var (
	errBadSignature   = &Refusal{Code: CodeInvalidSignature, Detail: "Penstock-Signature: v1 is not the signature of this body."}
	errOldSignature   = &Refusal{Code: CodeInvalidSignature, Detail: "Penstock-Signature: t is more than 300 s away from now."}
	errAmountMismatch = &Refusal{Code: CodeAmountMismatch}
	errPaymentReused  = &Refusal{Code: CodeKeyReused, Detail: "payment: this id was used for another order or amount."}
)

// Pay books a payment notice once, however often it is sent. A payment that its order can no longer take is kept and the
// order turns refund_due. An order that is still queued is waited for, as long as a purchase may take.
func (d *Desk) Pay(ctx context.Context, n *Notice) (Order, error) {
	offer := d.item(ctx, n.Order.Item())
	if offer == nil {
		return Order{}, errUnknownOrder
	}
	merchant := d.Catalog().Merchant(offer.Sale.Merchant)
	if merchant == nil || !n.signedWith(merchant.PaymentSecret) {
		return Order{}, errBadSignature
	}
	if age := time.Since(time.Unix(n.SignedAt, 0)); age > SignatureAge || age < -SignatureAge {
		return Order{}, errOldSignature
	}
	payment := n.Payment
	payment.Merchant = merchant.ID
	result, err := d.payments.Do(ctx, payment)
	if err == nil && result.Verdict == PaymentNoOrder {
		if _, err := d.findQueued(ctx, n.Order, CallerRef{Merchant: merchant.ID}); err != nil {
			return Order{}, err
		}
		if _, ok := d.awaitRow(ctx, n.Order, d.cfg.AcceptDeadline); !ok {
			return Order{}, errStillQueued
		}
		result, err = d.payments.Do(ctx, payment)
	}
	if err != nil {
		return Order{}, d.unavailable(n.Order, err)
	}
	switch result.Verdict {
	case PaymentNoOrder:
		return Order{}, errUnknownOrder
	case PaymentMismatch:
		return Order{}, errAmountMismatch
	case PaymentOtherContent:
		return Order{}, errPaymentReused
	default:
		return result.Order, nil
	}
}

// signedWith checks the notice's MAC: HMAC-SHA256 (RFC 2104) over "t.body". Nothing is signed with an empty secret.
func (n *Notice) signedWith(secret string) bool {
	if secret == "" {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(strconv.AppendInt(nil, n.SignedAt, 10))
	mac.Write([]byte("."))
	mac.Write(n.Body)
	return hmac.Equal(mac.Sum(nil), n.MAC[:])
}
