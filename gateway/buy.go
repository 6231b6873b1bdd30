package gateway

import (
	"strconv"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// buy answers POST /v1/orders.
func (x *exchange) buy() {
	caller := x.authenticate()
	if caller == nil || !x.mayBuy(caller) || !x.acceptsBody() {
		return
	}
	p := &x.purchase
	p.Caller, p.Request, p.Trace = caller, view(x.id), string(x.trace.Context())
	p.Key = x.idempotencyKey()
	x.decoder.purchase(x.http.Request.Body(), p)
	if x.refuseMistakes() {
		return
	}
	x.visit.Caller, x.visit.Activity, x.visit.SKU, x.visit.User, x.visit.Quantity = caller, p.Activity, p.SKU, p.User, int(p.Quantity)
	x.visit.Key = p.Key
	p.Arrived = x.arrived
	if !x.offered(p) {
		return
	}
	x.visit.Settled = !x.probe && x.server.sales.Refuses(p)
	if !x.enter() {
		return
	}
	defer x.leave()
	p.Arrived = x.visit.Arrived // the arrival counts from the end of the pause
	p.Closed, p.ClosedSince = x.visit.Closed, x.visit.ClosedSince
	if x.probe {
		x.probePurchase()
		return
	}
	p.Wait = x.wait()
	defer x.unwait(p.Wait)
	receipt, err := x.server.sales.Buy(x.deadline(), p)
	if limited := x.visit.Limited; limited != nil && err == error(p.Closed) {
		x.denied(limited)
		return
	}
	if err != nil {
		x.refuseError(err)
		return
	}
	x.accepted(&receipt)
}

// offered reports whether the caller's merchant sells the item; if not, it answers. It is called
// before the limits, so that a caller can't use up another merchant's limits, and so that invented
// names get no buckets.
func (x *exchange) offered(p *seckill.Purchase) bool {
	own := func(catalog *seckill.Catalog) (sale *seckill.Sale, item bool) {
		sale = catalog.Activity(p.Activity)
		if sale == nil || sale.Merchant != p.Caller.Merchant || sale.State == seckill.ActivityDraft {
			return nil, false
		}
		x.offer, item = sale.Offer(p.SKU)
		return sale, item
	}
	if _, item := own(x.catalog()); item {
		return true
	}
	catalog, sure := x.server.sales.Fresh(x.deadline())
	switch sale, item := own(catalog); {
	case item:
		return true
	case !sure:
		x.notSeen()
	case sale != nil:
		x.refuse(problem.UnknownItem)
	default:
		x.refuse(problem.UnknownActivity)
	}
	return false
}

// mayBuy reports whether the caller has the right to buy; if not, it answers.
func (x *exchange) mayBuy(caller *seckill.Caller) bool {
	if caller.Rights&seckill.RightBuy == 0 {
		x.visit.Caller = caller // for the log
		x.refuse(problem.Forbidden)
		return false
	}
	return true
}

// idempotencyKey returns the key. If the key is wrong, it adds that to the decoder's mistakes.
func (x *exchange) idempotencyKey() string {
	switch fields := x.http.Request.Header.PeekAll(headerIdempotencyKey); {
	case len(fields) == 0:
		x.decoder.fail(fieldKey, isMissing)
	case len(fields) > 1:
		x.decoder.fail(fieldKey, isManyFields)
	case !isVisible(fields[0], seckill.MaxKeyLength):
		x.decoder.fail(fieldKey, notVisible)
	default:
		return view(fields[0])
	}
	return ""
}

// accepted answers with a receipt: 201 if the order exists, 202 if it will exist.
func (x *exchange) accepted(r *seckill.Receipt) {
	o := &r.Order
	x.visit.Replayed = r.Replayed
	x.locate(string(o.ID))
	if x.replayed = r.Replayed; x.replayed {
		x.header(keyReplayed, valueTrue)
	}
	x.applied(x.purchase.Wait)
	status := 201
	if publicState(o) == seckill.OrderQueued {
		status = 202
		x.headerNumber(keyRetryAfter, x.pollAfter())
	}
	x.body = appendReceipt(x.body[:0], o)
	x.answer(status, jsonType)
}

// pollAfter is when a queued order may be asked for again, in seconds. It has no jitter: the
// requests that ask arrived at different times.
func (x *exchange) pollAfter() int64 { return max(int64(x.visit.PollAfter), 1) }

// appendReceipt appends the answer for an accepted order.
func appendReceipt(dst []byte, o *seckill.Order) []byte {
	dst = append(dst, `{"order":`...)
	dst = problem.AppendString(dst, string(o.ID))
	dst = append(dst, `,"status":`...)
	dst = problem.AppendString(dst, string(publicState(o)))
	if publicState(o) != seckill.OrderQueued {
		dst = append(dst, `,"pay_by":`...)
		dst = appendTime(dst, o.PayBy)
	}
	if reason := publicReason(o); reason != seckill.ReasonNone {
		dst = append(dst, `,"reason":`...)
		dst = problem.AppendString(dst, string(reason))
	}
	return append(dst, '}')
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
