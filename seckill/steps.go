package seckill

import (
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"
)

// MaxSteps is the most steps of one encoding.
const MaxSteps = 128

// stepsVersion is the first byte of an encoding of steps.
const stepsVersion = 1

// AppendSteps appends the encoding of steps to dst: the data that AnnounceSteps publishes of each,
// so that an announcement needs no other data. Numbers and texts are as in AppendPage; a difference
// is a signed varint.
//
//	version (1 byte), count of texts, the texts: names that steps share, count,
//	count times: merchant, activity, SKU, currency, state, reason, currency of the payment, cause, money
//	                (each a place among the texts),
//	             order, user, payment, quantity, amount, amount of the payment,
//	             microseconds since 1970 when it was updated, less those of the step before,
//	             microseconds from its creation to then, and from then until it is to be paid
func AppendSteps(dst []byte, steps []Step) []byte {
	dst = append(dst, stepsVersion)
	var texts textTable
	for i := range steps {
		for _, s := range steps[i].shared() {
			texts.place(s)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(texts.list)))
	for _, s := range texts.list {
		dst = appendText(dst, s)
	}
	dst = binary.AppendUvarint(dst, uint64(len(steps)))
	var before int64
	for i := range steps {
		s := &steps[i]
		for _, text := range s.shared() {
			dst = binary.AppendUvarint(dst, uint64(texts.place(text)))
		}
		dst = appendText(appendText(appendText(dst, string(s.ID)), string(s.User)), string(s.Payment))
		updated := s.UpdatedAt.UnixMicro()
		for _, n := range [...]int64{
			int64(s.Quantity), s.Amount.Minor, s.Paid.Minor, updated - before, updated - s.CreatedAt.UnixMicro(), s.PayBy.UnixMicro() - updated,
		} {
			dst = binary.AppendVarint(dst, n)
		}
		before = updated
	}
	return dst
}

// shared returns the texts that many steps have in common.
func (s *Step) shared() [9]string {
	return [...]string{
		string(s.Caller.Merchant), string(s.Activity), string(s.SKU), s.Amount.Currency, string(s.State), string(s.Reason),
		s.Paid.Currency, string(s.Cause), string(s.Money),
	}
}

// ParseSteps decodes what AppendSteps made. It keeps nothing of b. An error says what is wrong.
func ParseSteps(b []byte) ([]Step, error) {
	if len(b) == 0 || b[0] != stepsVersion {
		return nil, fmt.Errorf("steps of orders: %w", ErrPageVersion)
	}
	d := decoder{rest: b[1:]}
	texts := d.texts(9*MaxSteps, maxStepText)
	n := int(d.number("count", MaxSteps))
	steps := make([]Step, 0, n)
	var before int64
	for range n {
		var s Step
		shared := d.places(texts, 9)
		s.ID, s.User = OrderID(d.text("order", maxStepText)), UserID(d.text("user", maxStepText))
		s.Payment = PaymentID(d.text("payment", maxStepText))
		s.Quantity, s.Amount.Minor, s.Paid.Minor = int(d.difference("quantity")), d.difference("amount"), d.difference("paid")
		before += d.difference("updated")
		created, payBy := before-d.difference("created"), before+d.difference("pay by")
		if d.err != nil {
			break
		}
		s.Caller.Merchant, s.Activity, s.SKU = MerchantID(shared[0]), ActivityID(shared[1]), SKU(shared[2])
		s.Amount.Currency, s.State, s.Reason = shared[3], OrderState(shared[4]), Reason(shared[5])
		s.Paid.Currency, s.Cause, s.Money = shared[6], RefundCause(shared[7]), PaymentState(shared[8])
		s.UpdatedAt, s.CreatedAt, s.PayBy = fromMicros(before), fromMicros(created), fromMicros(payBy)
		steps = append(steps, s)
	}
	if d.err == nil && len(d.rest) != 0 {
		d.fail(fmt.Sprint(len(d.rest), " bytes too many"))
	}
	if d.err != nil {
		return nil, fmt.Errorf("steps of orders: %w", d.err)
	}
	return steps, nil
}

// maxStepText bounds a text of a step, in bytes. A name whose bytes were no UTF-8 has grown.
const maxStepText = 3 * utf8.UTFMax * MaxUserLength

func fromMicros(n int64) time.Time { return time.UnixMicro(n).UTC() }
