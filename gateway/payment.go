package gateway

import (
	"strings"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

const fieldSignature = "header " + headerSignature

// pay answers POST /v1/payments. The signature is the only credential. Its secret belongs to the
// order's merchant, which only Sales knows: so Sales checks the signature.
func (x *exchange) pay() {
	n, ok := x.signature()
	if !ok || !x.acceptsBody() {
		return
	}
	n.Body = x.http.Request.Body()
	x.decoder.payment(n.Body, &n.Payment)
	if x.refuseMistakes() {
		return
	}
	// A payment may wait in a batch for longer than this call: so it must own its strings.
	n.ID = seckill.PaymentID(strings.Clone(string(n.ID)))
	n.Order = seckill.OrderID(strings.Clone(string(n.Order)))
	n.Amount.Currency = strings.Clone(n.Amount.Currency)
	x.visit.Order = n.Order
	if x.enter() && x.settle(&n) {
		x.pause() // the visit has already left, so it takes no room while it waits
	}
}

// settle passes on the payment of an admitted visit, and answers. It reports whether the answer has
// to wait.
func (x *exchange) settle(n *seckill.Notice) (wait bool) {
	defer x.leave()
	order, err := x.server.sales.Pay(x.deadline(), n)
	if err == nil {
		x.order(&order)
		return false
	}
	if problem.FromError(err).Code == problem.InvalidSignature {
		denial := x.counted()
		if wait = x.visit.Pause > 0; denial != nil {
			x.denied(denial)
			return wait
		}
	}
	x.refuseError(err)
	return wait
}

// signature reads the notice's signature, or answers.
func (x *exchange) signature() (n seckill.Notice, ok bool) {
	fields := x.http.Request.Header.PeekAll(headerSignature)
	if len(fields) == 1 {
		n.SignedAt, n.MACs, ok = parseSignature(fields[0])
	}
	if ok {
		return n, true
	}
	if x.stranger() {
		return n, false
	}
	detail := "must be t=<unix seconds>,v1=<64 hex digits>, in one field; v1 may be there up to 8 times"
	if len(fields) == 0 {
		detail = isMissing
	}
	x.problem(&problem.Problem{Code: problem.InvalidSignature, Errors: []problem.FieldError{{Field: fieldSignature, Detail: detail}}})
	return n, false
}
