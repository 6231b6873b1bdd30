package node

import (
	"context"

	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/seckill"
)

// observedMoney has the last sums of refunds that are due, and of payments that came before their
// orders.
type observedMoney struct{ due, early []seckill.RefundSum }

// observeMoney reads both; it returns nil if the database doesn't answer.
func (n *Node) observeMoney(ctx context.Context) *observedMoney {
	due, err := n.servers.database.RefundSums(ctx, seckill.PaymentStateDue, "")
	if err != nil {
		return nil
	}
	early, err := n.servers.database.RefundSums(ctx, seckill.PaymentStateEarly, "")
	if err != nil {
		return nil
	}
	return &observedMoney{due, early}
}

// maxMoneyMetrics is how many sums have their own metrics; penstock_refunds_due includes the
// others, too.
const maxMoneyMetrics = 500

// moneyMetrics are about money. They are the same in all processes. An unknown value is left out,
// because unknown is not zero.
func (n *Node) moneyMetrics() []admin.Sample {
	n.observed.mu.Lock()
	money := n.observed.money
	n.observed.mu.Unlock()
	if money == nil {
		return nil
	}
	count := func(sums []seckill.RefundSum) (all int64) {
		for i := range sums {
			all += sums[i].Count
		}
		return all
	}
	out := []admin.Sample{
		gauge("penstock_refunds_due", "Payments that must be refunded, of all merchants."+same, count(money.due)),
		gauge("penstock_payments_early", "Payments whose orders have no row yet, of all merchants."+same, count(money.early)),
	}
	for i := range money.due[:min(len(money.due), maxMoneyMetrics)] {
		sum := &money.due[i]
		labels := []admin.Label{
			{Name: "merchant", Value: string(sum.Merchant)}, {Name: "currency", Value: sum.Amount.Currency},
			{Name: "cause", Value: string(sum.Cause)},
		}
		out = append(out,
			gauge("penstock_refunds_due_payments", "Payments that must be refunded, by merchant, currency and cause."+same, sum.Count, labels...),
			gauge("penstock_refunds_due_amount", "Money that must be refunded, in minor units."+same, sum.Amount.Minor, labels...))
	}
	return out
}
