package desk

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"

	"github.com/penstock/penstock/seckill"
)

// SignatureAge is how old, or how far ahead, a payment notice's signature may be.
const SignatureAge = 300 * time.Second

var (
	errBadSignature = &seckill.Refusal{
		Code: seckill.CodeInvalidSignature, Detail: "Penstock-Signature: no v1 is the signature of this body.",
	}
	errOldSignature = &seckill.Refusal{
		Code: seckill.CodeInvalidSignature, Detail: "Penstock-Signature: t is more than 300 s away from now.",
	}
	errAmountMismatch = &seckill.Refusal{Code: seckill.CodeAmountMismatch}
	errPaymentReused  = &seckill.Refusal{
		Code: seckill.CodeKeyReused, Detail: "payment: this id was used before for another order or amount.",
	}
)

// Pay books a payment notice once, even if it is sent several times. A payment that comes too late,
// or that has a wrong amount, is kept as a refund that is due. A payment for a queued order is
// kept, and applied when the order has a row; the answer is then the queued order. If the order's
// row is locked, Pay waits for at most the accept deadline.
func (d *Desk) Pay(ctx context.Context, n *seckill.Notice) (seckill.Order, error) {
	offer, err := d.item(ctx, n.Order.Item())
	if err != nil {
		return seckill.Order{}, err
	}
	merchant := d.Catalog().Merchant(offer.Sale.Merchant)
	if merchant == nil {
		return seckill.Order{}, errBadSignature
	}
	payment := n.Payment
	payment.Merchant, payment.Activity, payment.SKU, payment.Queued = merchant.ID, offer.Sale.ID, offer.SKU, false
	if err := d.checkSigned(ctx, n, merchant); err != nil {
		return seckill.Order{}, err
	}
	if age := d.Now().Sub(time.Unix(n.SignedAt, 0)); age > SignatureAge || age < -SignatureAge {
		d.noteRefused(ctx, &payment, errOldSignature.Code)
		return seckill.Order{}, errOldSignature
	}
	result, order, err := d.book(ctx, payment)
	if err != nil {
		return seckill.Order{}, err
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
	case seckill.PaymentBooked:
		d.moved(&order)
	}
	return public(order), nil
}

// book calls the store to decide about a payment, and returns the order afterwards: its row, or the
// data of its hold while it is queued.
func (d *Desk) book(ctx context.Context, payment seckill.Payment) (seckill.PaymentResult, seckill.Order, error) {
	var queued seckill.Order
	result, err := d.payments.Do(ctx, payment)
	// An order without a row may be queued. The repeat of an early payment has no row either.
	if err == nil && result.Order.ID == "" && result.Verdict != seckill.PaymentOtherContent && result.Verdict != seckill.PaymentLocked {
		queued, _, err = d.findQueued(ctx, payment.Order, seckill.CallerRef{Merchant: payment.Merchant})
		if err != nil {
			return result, queued, err
		}
		payment.Queued = true
		result, err = d.payments.Do(ctx, payment)
	}
	if err == nil && result.Verdict == seckill.PaymentLocked {
		d.lookAgain(ctx, d.cfg.AcceptDeadline, func() bool {
			result, err = d.payments.Do(ctx, payment)
			return err != nil || result.Verdict != seckill.PaymentLocked
		})
	}
	if err != nil {
		return result, queued, d.unavailable(payment.Order, err)
	}
	if result.Order.ID != "" {
		return result, result.Order, nil
	}
	return result, queued, nil
}

// noteRefused keeps a refused notice, so that people can read it. No other code uses it.
func (d *Desk) noteRefused(ctx context.Context, p *seckill.Payment, problem seckill.Code) {
	if err := d.store.RefusePayment(ctx, seckill.RefusedPayment{Payment: *p, Problem: problem}); err != nil {
		d.log.Warn("a refused payment notice is not kept", "order", p.Order, "payment", p.ID, "problem", problem, "err", err)
	}
}

// checkSigned is checkSignature with the newest secrets. It is needed because another node may have
// rolled the secrets a moment ago.
func (d *Desk) checkSigned(ctx context.Context, n *seckill.Notice, m *seckill.Merchant) error {
	err := d.checkSignature(n, m)
	if err != error(errBadSignature) {
		return err
	}
	catalog, sure := d.Fresh(ctx)
	if newer := catalog.Merchant(m.ID); newer != nil && newer != m {
		err = d.checkSignature(n, newer)
	}
	if err == error(errBadSignature) && !sure {
		return errNotSeen
	}
	return err
}

// checkSignature checks the notice's signature against the merchant's secrets that are valid now. A
// secret that can't be decrypted is the server's fault. If no other secret fits, the answer asks
// the provider to try again.
func (d *Desk) checkSignature(n *seckill.Notice, m *seckill.Merchant) error {
	var failed error
	for _, sealed := range m.Secrets(d.Now()) {
		if sealed == "" {
			continue
		}
		secret, err := d.open(sealed, string(m.ID))
		if err != nil {
			failed = &seckill.Failure{
				Code: seckill.CodeUnavailable, RetryAfter: 10 * time.Second,
				Err: fmt.Errorf("open the payment secret of merchant %s: %w", m.ID, err),
			}
			continue
		}
		if signedWith(n, secret) {
			return nil
		}
	}
	if failed != nil {
		return failed
	}
	return errBadSignature
}

// signedWith checks the notice's MACs: HMAC-SHA256 (RFC 2104) over "t.body". One valid MAC is
// enough. An empty secret matches no notice.
func signedWith(n *seckill.Notice, secret string) bool {
	if secret == "" {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(strconv.AppendInt(nil, n.SignedAt, 10))
	mac.Write([]byte("."))
	mac.Write(n.Body)
	want := mac.Sum(nil)
	fits := false
	for i := range n.MACs {
		fits = hmac.Equal(want, n.MACs[i][:]) || fits
	}
	return fits
}
