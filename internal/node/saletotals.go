package node

import (
	"sync"
	"time"

	"github.com/penstock/penstock/gateway"
	"github.com/penstock/penstock/gateway/admin"
	"github.com/penstock/penstock/seckill"
)

// saleTotals are the purchases, payments and cancellations that this process has seen, by activity:
// what the live view takes each second, added up. Its zero value is empty. It is safe for
// concurrent use.
type saleTotals struct {
	mu    sync.Mutex
	rows  map[seckill.ActivityID]*saleTotal // guarded by mu: at most maxSaleTotals
	other saleTotal                         // guarded by mu: of activities that had no place
}

// saleTotal is one activity's. Counts only grow.
type saleTotal struct {
	merchant        seckill.MerchantID
	outcomes        map[string]uint64 // purchases by how they were answered: accepted, replayed, or a problem's code
	paid, cancelled uint64
	used            time.Time // when something was counted last
}

// The bounds of saleTotals. An activity of which nothing was heard for a while gives its place to
// another one.
const (
	maxSaleTotals  = 100
	saleTotalsIdle = 10 * time.Minute
)

// otherSales is the name for all activities without a place. No real name has a blank.
const otherSales = "(other)"

// row returns an activity's place, or that of the others. The caller holds mu.
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

// purchases adds what buyers were answered.
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

// merchantOf is the merchant of an activity, "" where the catalog doesn't know it any more.
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
		counter("penstock_sale_paid_total", "Orders that were paid, as this process was told, of the hundred activities heard of last.",
			int64(s.paid), labels...),
		counter("penstock_sale_cancelled_total", "Orders that buyers and operators cancelled, likewise; timeouts are counted apart.",
			int64(s.cancelled), labels...),
	}
	for outcome, n := range s.outcomes {
		out = append(out, counter("penstock_sale_purchases_total",
			"Answers to purchases: accepted, replayed, or a problem's code, of the hundred activities heard of last; the rest is (other).",
			int64(n), append(labels[:2:2], admin.Label{Name: "outcome", Value: outcome})...))
	}
	return out
}
