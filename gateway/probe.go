package gateway

import (
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// catalog returns the catalog in which the caller's activities are.
func (x *exchange) catalog() *seckill.Catalog {
	if x.probe {
		return x.server.cfg.Probes
	}
	return x.server.sales.Catalog()
}

// probePurchase answers a purchase by which this process probes itself. It has come the way of
// every purchase so far, and is refused by what would refuse a buyer. The answer says more than a
// buyer is told: nobody else has the key.
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
