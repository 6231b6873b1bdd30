package gateway

import (
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// catalog returns the catalog that has the caller's activities.
func (x *exchange) catalog() *seckill.Catalog {
	if x.probe {
		return x.server.cfg.Probes
	}
	return x.server.sales.Catalog()
}

// probePurchase answers a purchase with which this process probes itself. It goes through the same
// steps as every purchase, and what refuses buyers refuses it, too. The answer tells more than a
// buyer's: only this process has the key.
func (x *exchange) probePurchase() {
	p := &x.purchase
	if limited := x.visit.Limited; limited != nil {
		x.denied(limited)
		return
	}
	if p.Closed != nil {
		x.refuseError(p.Closed)
		return
	}
	if err := x.server.sales.Probe(x.deadline(), x.offer, p); err != nil {
		told := problem.FromError(err)
		told.Detail = err.Error()
		x.problem(&told)
		return
	}
	x.locate(string(p.OrderID(x.offer.ID)))
	x.body = append(x.body[:0], "{}"...)
	x.answer(200, jsonType)
}
