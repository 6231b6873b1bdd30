package desk

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"strconv"
	"time"

	"penstock/seckill"
)

// SignatureAge is how old, or how far ahead, a payment notice's signature may be.
const SignatureAge = 300 * time.Second

var (
	errBadSignature = &seckill.Refusal{
		Code: seckill.CodeInvalidSignature, Detail: "Penstock-Signature: v1 is not the signature of this body.",
	}
	errOldSignature = &seckill.Refusal{
		Code: seckill.CodeInvalidSignature, Detail: "Penstock-Signature: t is more than 300 s away from now.",
	}
	errAmountMismatch = &seckill.Refusal{Code: seckill.CodeAmountMismatch}
	errPaymentReused  = &seckill.Refusal{
		Code: seckill.CodeKeyReused, Detail: "payment: this id was used for another order or amount.",
	}
)

// Pay books a payment notice once, however often it is sent. A payment that its order can no longer
// take is kept and the order turns refund_due. An order that is still queued, or its row locked, is
// waited for, as long as a purchase may take.
func (d *Desk) Pay(ctx context.Context, n *seckill.Notice) (seckill.Order, error) {
	offer, ok := d.item(ctx, n.Order.Item())
	if !ok {
		return seckill.Order{}, errUnknownOrder
	}
	merchant := d.Catalog().Merchant(offer.Sale.Merchant)
	if merchant == nil || !signedWith(n, merchant.PaymentSecret) {
		return seckill.Order{}, errBadSignature
	}
	if age := d.Now().Sub(time.Unix(n.SignedAt, 0)); age > SignatureAge || age < -SignatureAge {
		return seckill.Order{}, errOldSignature
	}
	payment := n.Payment
	payment.Merchant = merchant.ID
	result, err := d.payments.Do(ctx, payment)
	if err == nil && result.Verdict == seckill.PaymentNoOrder {
		if _, _, err := d.findQueued(ctx, n.Order, seckill.CallerRef{Merchant: merchant.ID}); err != nil {
			return seckill.Order{}, err
		}
		if _, ok := d.awaitRow(ctx, n.Order, d.cfg.AcceptDeadline); !ok {
			return seckill.Order{}, errStillQueued
		}
		result, err = d.payments.Do(ctx, payment)
	}
	if err == nil && result.Verdict == seckill.PaymentLocked {
		d.lookAgain(ctx, d.cfg.AcceptDeadline, func() bool {
			result, err = d.payments.Do(ctx, payment)
			return err != nil || result.Verdict != seckill.PaymentLocked
		})
	}
	if err != nil {
		return seckill.Order{}, d.unavailable(n.Order, err)
	}
	switch result.Verdict {
	case seckill.PaymentNoOrder:
		return seckill.Order{}, errUnknownOrder
	case seckill.PaymentMismatch:
		return seckill.Order{}, errAmountMismatch
	case seckill.PaymentOtherContent:
		return seckill.Order{}, errPaymentReused
	case seckill.PaymentLocked:
		return seckill.Order{}, errLocked
	default:
		return result.Order, nil
	}
}

// signedWith checks the notice's MAC: HMAC-SHA256 (RFC 2104) over "t.body". Nothing is signed with
// an empty secret.
func signedWith(n *seckill.Notice, secret string) bool {
	if secret == "" {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(strconv.AppendInt(nil, n.SignedAt, 10))
	mac.Write([]byte("."))
	mac.Write(n.Body)
	return hmac.Equal(mac.Sum(nil), n.MAC[:])
}
