package node

import (
	"sync"
	"time"

	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/seckill"
)

// saleTotals counts, by activity, the purchases, payments and cancellations that this process has
// seen: the sums of what the live view takes each second. Its zero value is empty. It is safe for
// concurrent use.
type saleTotals struct {
	mu    sync.Mutex
	rows  map[seckill.ActivityID]*saleTotal // at most maxSaleTotals; guarded by mu
	other saleTotal                         // activities without a place; guarded by mu
}

// saleTotal has the counts of one activity. They only grow.
type saleTotal struct {
	merchant        seckill.MerchantID
	outcomes        map[string]uint64 // purchases by their answer: accepted, replayed, or a problem's code
	paid, cancelled uint64
	used            time.Time // when something was last counted
}

// The bounds of saleTotals. If an activity had no traffic for a while, another one may take its
// place.
const (
	maxSaleTotals  = 100
	saleTotalsIdle = 10 * time.Minute
)

// otherSales is the name that stands for all activities without a place. No real name has a space.
const otherSales = "(other)"

// row returns an activity's place, or the place of all others. The caller holds mu.
func (t *saleTotals) row(id seckill.ActivityID, merchant seckill.MerchantID, now time.Time) *saleTotal {
	row := t.rows[id]
	if row == nil && t.makeRoom(now) {
		row = &saleTotal{merchant: merchant}
		if t.rows == nil {
			t.rows = make(map[seckill.ActivityID]*saleTotal)
		}
		t.rows[id] = row
	}
	if row == nil {
		row = &t.other
	}
	row.used = now
	return row
}

// makeRoom reports whether there is a place for one more. The caller holds mu.
func (t *saleTotals) makeRoom(now time.Time) bool {
	if len(t.rows) < maxSaleTotals {
		return true
	}
	for id, row := range t.rows {
		if now.Sub(row.used) >= saleTotalsIdle {
			delete(t.rows, id)
			return true
		}
	}
	return false
}

// purchases adds the answers to buyers.
func (t *saleTotals) purchases(id seckill.ActivityID, merchant seckill.MerchantID, o *gateway.Outcomes, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row := t.row(id, merchant, now)
	if row.outcomes == nil {
		row.outcomes = make(map[string]uint64)
	}
	for outcome, n := range map[string]uint64{"accepted": o.Accepted, "replayed": o.Replayed} {
		if n > 0 {
			row.outcomes[outcome] += n
		}
	}
	for code, n := range o.Refused {
		row.outcomes[string(code)] += n
	}
}

// moves adds orders that were paid and cancelled.
func (t *saleTotals) moves(id seckill.ActivityID, merchant seckill.MerchantID, paid, cancelled uint64, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row := t.row(id, merchant, now)
	row.paid += paid
	row.cancelled += cancelled
}

// merchantOf is the merchant of an activity, "" if the catalog no longer has it.
func (n *Node) merchantOf(id seckill.ActivityID) seckill.MerchantID {
	if sale := n.sale.Desk.Catalog().Activity(id); sale != nil {
		return sale.Merchant
	}
	return ""
}

// metrics returns the metrics of the sales.
func (t *saleTotals) metrics() []admin.Sample {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []admin.Sample
	for id, row := range t.rows {
		out = append(out, row.metrics(string(row.merchant), string(id))...)
	}
	if t.other.used.IsZero() {
		return out
	}
	return append(out, t.other.metrics(otherSales, otherSales)...)
}

func (s *saleTotal) metrics(merchant, activity string) []admin.Sample {
	labels := []admin.Label{{Name: "merchant", Value: merchant}, {Name: "activity", Value: activity}}
	out := []admin.Sample{
		counter("penstock_sale_paid_total", "Orders that this process saw paid, for the hundred activities with the latest traffic.",
			int64(s.paid), labels...),
		counter("penstock_sale_cancelled_total",
			"Orders that buyers or operators cancelled, without timeouts, for the hundred activities with the latest traffic.",
			int64(s.cancelled), labels...),
	}
	for outcome, n := range s.outcomes {
		out = append(out, counter("penstock_sale_purchases_total",
			"Answers to purchases: accepted, replayed, or a problem's code, for the hundred activities with the latest traffic; "+
				"the rest is (other).",
			int64(n), append(labels[:2:2], admin.Label{Name: "outcome", Value: outcome})...))
	}
	return out
}
