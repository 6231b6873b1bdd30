package loadtest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Invariant is a condition that must hold for the answers of any sale. Detail says what was
// checked, or what breaks it.
type Invariant struct {
	Name   string `json:"name"`
	Held   bool   `json:"held"`
	Detail string `json:"detail,omitempty"`
}

// The names of the invariants.
const (
	PromiseKept    = "promise-kept"      // every accepted order exists and was not taken back
	OneKeyOneOrder = "one-key-one-order" // a key always has the same order, even if it is sent several times
	OneOrderOneKey = "one-order-one-key" // different keys have different orders
	NoOversell     = "no-oversell"       // never more units open or sold at one time than the stock
	BuyerLimit     = "buyer-limit"       // no buyer has more units than allowed
	NoFalseSoldOut = "no-false-sold-out" // no "sold out" was said while a unit was available all the time
	PaymentKept    = "payment-kept"      // an accepted payment shows in its order
	CancelKept     = "cancel-kept"       // a confirmed cancellation shows in its order
)

// invariant makes an Invariant from its proofs.
func (p *proofs) invariant(name, held string) Invariant {
	if p.count == 0 {
		return Invariant{name, true, held}
	}
	detail := strings.Join(p.first, "; ")
	if more := p.count - len(p.first); more > 0 {
		detail += fmt.Sprintf("; and %d more", more)
	}
	return Invariant{name, false, detail}
}

// judge checks the invariants. It leaves out those that need unknown data: the stock, a limit, or
// orders that were not read back.
func (r *run) judge(readBack bool) []Invariant {
	orders, cfg := r.ledger.orders, &r.cfg
	out := []Invariant{
		r.ledger.keys.invariant(OneKeyOneOrder, fmt.Sprintf("%d keys with an order", len(orders))),
		r.ledger.shared.invariant(OneOrderOneKey, fmt.Sprintf("%d orders", len(orders))),
	}
	// A purchase of several units may be refused although fewer are left. And a key with several
	// orders took more units than the answers show.
	known := slices.DeleteFunc(slices.Clone(r.goods), func(g *goods) bool { return !g.Known })
	if len(known) > 0 && cfg.Quantity == 1 && r.ledger.keys.count == 0 {
		out = append(out, judgeSoldOut(known))
	}
	if !readBack {
		return out
	}
	out = append([]Invariant{judgePromises(orders, cfg, r.spareAway)}, out...)
	taken := spans(orders)
	if len(known) > 0 {
		out = append(out, judgeStock(known, taken, cfg.Quantity))
	}
	limited := slices.DeleteFunc(slices.Clone(r.goods), func(g *goods) bool { return g.PerUser == 0 })
	if len(limited) > 0 {
		out = append(out, judgeLimit(limited, taken, cfg.Quantity))
	}
	return append(out, judgeSettled(orders)...)
}

// broken returns the mistake in a promised order that was read back, or "".
func (o *order) broken(cfg *Config) string {
	e := &o.end
	switch {
	case e.missing:
		return "can't be found (404)"
	case e.trouble != "":
		return "can't be read: " + e.trouble
	case !e.found:
		return "was not read"
	case e.Status == statusQueued:
		return fmt.Sprintf("is still queued after %v", cfg.VerifyWithin)
	case e.Status == statusRejected, e.Status == statusCancelled && e.Reason == reasonNotAccepted:
		return fmt.Sprintf("is %s: %s", e.Status, e.Reason)
	case !slices.Contains([]string{statusPending, statusPaid, statusCancelled, statusRefundDue, statusRefunded}, e.Status):
		return fmt.Sprintf("has the unknown status %q", e.Status)
	}
	// Another implementation may leave a member out, but a member that is present must be right.
	for _, m := range []struct{ name, got, want string }{
		{"user", e.User, o.user}, {"activity", e.Activity, o.goods.Activity}, {"sku", e.SKU, o.goods.SKU},
	} {
		if m.got != "" && m.got != m.want {
			return fmt.Sprintf("reads as %s %q instead of %q", m.name, m.got, m.want)
		}
	}
	if e.Quantity != 0 && e.Quantity != cfg.Quantity {
		return fmt.Sprintf("reads as %d units instead of %d", e.Quantity, cfg.Quantity)
	}
	return ""
}

func judgePromises(orders []*order, cfg *Config, spareAway bool) Invariant {
	var p proofs
	promised := 0
	for _, o := range orders {
		if !o.promised {
			continue
		}
		promised++
		if spareAway && o.end.away {
			continue
		}
		if wrong := o.broken(cfg); wrong != "" {
			p.add("order %s of key %s was accepted and %s", o.id, o.key, wrong)
		}
	}
	return p.invariant(PromiseKept, fmt.Sprintf("%d accepted, %d found", promised, promised))
}

// span is a time in which an order's units were certainly taken; until is zero if they still are.
type span struct{ from, until time.Time }

// open returns the order's span; ok is false if no time is certain. An order never gets its units
// back after it has lost them, so an order that is open at the end was open all the time. end is
// when the last order was accepted.
func (o *order) open(end time.Time) (s span, ok bool) {
	s.from = o.promisedAt
	if !o.promised {
		s.from = end // the time of the acceptance is unknown
	}
	switch {
	case o.end.Status == statusPending, o.end.Status == statusPaid, o.end.Status == statusQueued && o.promised:
		return s, true
	case o.promised && o.cancelled && o.end.Status == statusCancelled:
		s.until = o.givenUp
		return s, s.until.After(s.from)
	default: // timed out, rejected or lost: it is unknown when the units came back
		return s, false
	}
}

// most returns the largest number of spans at one time. At the same instant, ends count before
// beginnings, because that may be what happened.
func most(spans []span) int {
	type change struct {
		at time.Time
		by int
	}
	changes := make([]change, 0, 2*len(spans))
	for _, s := range spans {
		changes = append(changes, change{s.from, 1})
		if !s.until.IsZero() {
			changes = append(changes, change{s.until, -1})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.by, b.by)) })
	now, peak := 0, 0
	for _, c := range changes {
		now += c.by
		peak = max(peak, now)
	}
	return peak
}

// spans returns, by goods and buyer, when units were certainly taken.
func spans(orders []*order) map[*goods]map[string][]span {
	var end time.Time
	for _, o := range orders {
		if o.promisedAt.After(end) {
			end = o.promisedAt
		}
	}
	out := make(map[*goods]map[string][]span)
	for _, o := range orders {
		s, ok := o.open(end)
		if !ok {
			continue
		}
		if out[o.goods] == nil {
			out[o.goods] = make(map[string][]span)
		}
		out[o.goods][o.user] = append(out[o.goods][o.user], s)
	}
	return out
}

// judgeStock checks how many units were taken at one time.
func judgeStock(known []*goods, taken map[*goods]map[string][]span, quantity int) Invariant {
	var p proofs
	sum, stock := 0, 0
	for _, g := range known {
		var all []span
		for _, s := range taken[g] {
			all = append(all, s...)
		}
		units := most(all) * quantity
		if units > g.Stock {
			p.add("%d units of %s were taken at once, the stock is %d", units, &g.Item, g.Stock)
		}
		sum, stock = sum+units, stock+g.Stock
	}
	return p.invariant(NoOversell, fmt.Sprintf("at most %d of %d units taken at once", sum, stock))
}

// judgeLimit checks each buyer's units.
func judgeLimit(limited []*goods, taken map[*goods]map[string][]span, quantity int) Invariant {
	var p proofs
	seen := Item{PerUser: limited[0].PerUser}
	top := 0
	for _, g := range limited {
		for _, buyer := range slices.Sorted(maps.Keys(taken[g])) {
			units := most(taken[g][buyer]) * quantity
			if units > g.PerUser {
				p.add("buyer %s had %d units of %s at one time, %d are allowed", buyer, units, &g.Item, g.PerUser)
			}
			if units > top {
				top, seen = units, g.Item
			}
		}
	}
	return p.invariant(BuyerLimit, fmt.Sprintf("at most %d of %d units per buyer", top, seen.PerUser))
}

// judgeSoldOut checks whether "sold out" was said while units were left that nobody ever took.
func judgeSoldOut(known []*goods) Invariant {
	var p proofs
	sum := int64(0)
	for _, g := range known {
		told := g.soldOut.Load()
		wrong, left := g.soldOutFalse.Load(), int64(g.Available)-g.units.Load()
		if left > 0 {
			wrong = told
		}
		if wrong > 0 {
			p.add("%d times \"sold out\" was said of %s, later than %v after the start, while some units were available that nobody had ever taken",
				wrong, &g.Item, soldOutGrace)
		}
		sum += told
	}
	return p.invariant(NoFalseSoldOut, fmt.Sprintf("said %d times, later than %v after the start", sum, soldOutGrace))
}

func judgeSettled(orders []*order) []Invariant {
	var payments, cancels proofs
	paid, cancelled := 0, 0
	for _, o := range orders {
		if o.paid {
			paid++
			if !slices.Contains([]string{statusPaid, statusRefundDue, statusRefunded}, o.end.Status) {
				payments.add("order %s was paid and reads %q", o.id, o.end.Status)
			}
		}
		if o.cancelled {
			cancelled++
			if !slices.Contains([]string{statusCancelled, statusRefundDue, statusRefunded}, o.end.Status) {
				cancels.add("order %s was cancelled and reads %q", o.id, o.end.Status)
			}
		}
	}
	return []Invariant{
		payments.invariant(PaymentKept, fmt.Sprintf("%d paid", paid)),
		cancels.invariant(CancelKept, fmt.Sprintf("%d cancelled", cancelled)),
	}
}
