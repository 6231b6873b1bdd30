package gateway

import (
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// findOrder answers GET /v1/orders/{order}.
func (x *exchange) findOrder() {
	caller := x.authenticate()
	if caller == nil {
		return
	}
	id, ok := x.enterOrder(caller)
	if !ok {
		return
	}
	defer x.leave()
	wait := x.wait()
	defer x.unwait(wait)
	order, err := x.server.sales.FindOrder(x.deadline(), caller, id, wait)
	if err != nil {
		x.refuseError(err)
		return
	}
	x.applied(wait)
	x.order(&order)
}

// cancelOrder answers POST /v1/orders/{order}/cancel. It takes no body; a body is ignored.
func (x *exchange) cancelOrder() {
	caller := x.authenticate()
	if caller == nil || !x.mayBuy(caller) {
		return
	}
	id, ok := x.enterOrder(caller)
	if !ok {
		return
	}
	defer x.leave()
	order, err := x.server.sales.CancelOrder(x.deadline(), caller, id)
	if err != nil {
		x.refuseError(err)
		return
	}
	x.order(&order)
}

// enterOrder begins the work on the order that the path names, or answers. If it returns ok, the
// caller must call leave.
func (x *exchange) enterOrder(caller *seckill.Caller) (id seckill.OrderID, ok bool) {
	id, ok = x.orderID()
	if !ok {
		return "", false
	}
	x.visit.Caller, x.visit.Order = caller, id
	return id, x.enter()
}

// orderID returns a copy of the path's order id, or answers 404: a text that isn't an order id
// names no order.
func (x *exchange) orderID() (seckill.OrderID, bool) {
	id, err := seckill.ParseOrderID(string(x.param))
	if err != nil {
		x.refuse(problem.UnknownOrder)
		return "", false
	}
	return id, true
}

// order answers with an order.
func (x *exchange) order(o *seckill.Order) {
	if publicState(o) == seckill.OrderQueued {
		x.headerNumber(keyRetryAfter, x.pollAfter())
	}
	x.header(keyCacheControl, valueNoStore)
	x.body = appendOrder(x.body[:0], o)
	x.answer(200, jsonType)
}

// publicState is the state as the public sees it. A parked order reads as queued.
func publicState(o *seckill.Order) seckill.OrderState {
	if o.State == seckill.OrderParked {
		return seckill.OrderQueued
	}
	return o.State
}

// publicReason is the reason as the public sees it: the reason for parking an order stays internal.
func publicReason(o *seckill.Order) seckill.Reason {
	if o.State == seckill.OrderParked {
		return seckill.ReasonNone
	}
	return o.Reason
}

// appendOrder appends an order. All members are always present; a value that isn't known yet, or
// doesn't apply, is null.
func appendOrder(dst []byte, o *seckill.Order) []byte {
	dst = append(dst, `{"order":`...)
	dst = problem.AppendString(dst, string(o.ID))
	dst = append(dst, `,"activity":`...)
	dst = problem.AppendString(dst, string(o.Activity))
	dst = append(dst, `,"sku":`...)
	dst = problem.AppendString(dst, string(o.SKU))
	dst = append(dst, `,"user":`...)
	dst = problem.AppendString(dst, string(o.User))
	dst = append(dst, `,"quantity":`...)
	dst = appendInt(dst, int64(o.Quantity))
	dst = append(dst, `,"status":`...)
	dst = problem.AppendString(dst, string(publicState(o)))
	dst = append(dst, `,"reason":`...)
	dst = appendTextOrNull(dst, string(publicReason(o)))
	dst = append(dst, `,"amount":`...)
	dst = appendInt(dst, o.Amount.Minor)
	dst = append(dst, `,"currency":`...)
	dst = appendTextOrNull(dst, o.Amount.Currency)
	dst = append(dst, `,"created_at":`...)
	dst = appendTime(dst, o.CreatedAt)
	dst = append(dst, `,"pay_by":`...)
	if o.State == seckill.OrderParked {
		dst = append(dst, "null"...)
	} else {
		dst = appendTime(dst, o.PayBy)
	}
	dst = append(dst, `,"updated_at":`...)
	dst = appendTime(dst, o.UpdatedAt)
	return append(dst, '}')
}

func appendTextOrNull(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return problem.AppendString(dst, s)
}

// appendTime appends a time as a JSON string, RFC 3339 in UTC with milliseconds, and null for the
// zero time.
func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	dst = t.UTC().AppendFormat(dst, problem.TimeFormat)
	return append(dst, '"')
}
