package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/loadtest"
)

// demoReport is the outcome of the demo's sale.
type demoReport struct {
	units  int
	cores  int
	result *loadtest.Result
	audit  itemAudit
}

// broken returns the violations, one on each line.
func (r *demoReport) broken() []string {
	var out []string
	for _, i := range r.result.Broken() {
		out = append(out, i.Name+": "+i.Detail)
	}
	if !r.audit.settled() {
		out = append(out, fmt.Sprintf("the audit does not balance: total %d, available %d, held %d, sold %d, in flight %d",
			r.audit.Total, r.audit.Available, r.audit.Held, r.audit.Sold, r.audit.InFlight))
	}
	if !r.agrees() {
		out = append(out, fmt.Sprintf("the audit has %d units sold and %d held, the buyers' answers %d paid and %d waiting for payment",
			r.audit.Sold, r.audit.Held, r.result.Statuses["paid"], r.result.Statuses["pending_payment"]))
	}
	return out
}

// agrees reports whether the audit agrees with the buyers' answers. There were no other buyers, and
// no order has timed out yet.
func (r *demoReport) agrees() bool {
	return r.audit.Sold == int64(r.result.Statuses["paid"]) && r.audit.Held == int64(r.result.Statuses["pending_payment"])
}

// text is the summary that a newcomer reads.
func (r *demoReport) text(s screen) string {
	var b strings.Builder
	r.crowd(&b, s)
	r.answers(&b, s)
	r.books(&b, s)
	r.checks(&b, s)
	return b.String()
}

func (r *demoReport) crowd(b *strings.Builder, s screen) {
	c := r.result
	fmt.Fprintf(b, "\n%s\n", s.paint(ansiBold, fmt.Sprintf("%s buyers wanted %s units", grouped(c.Buyers), grouped(r.units))))
	fmt.Fprintf(b, "  %s pressed \"buy\" %s times: %s of them double-clicked, %s repeats with the same key,\n",
		grouped(c.Served), grouped(c.Buy.Sent), grouped(c.DoubleClicks), grouped(c.Repeats))
	fmt.Fprintf(b, "  %s tries with another key, %s retries because the shop asked for it\n", grouped(c.SecondTries), grouped(c.Retries))
	fmt.Fprintf(b, "  in %.1f s: %s requests/s with payments and cancellations, shop and crowd on the same %d cores (seed %d)\n",
		c.Elapsed.Seconds(), grouped(int64(c.Rate())), r.cores, c.Seed)
}

// demoAnswers are the outcomes in the words of a newcomer.
func demoAnswers() []struct {
	words    string
	outcomes []loadtest.Outcome
} {
	return []struct {
		words    string
		outcomes []loadtest.Outcome
	}{
		{"accepted: you have an order", []loadtest.Outcome{loadtest.Accepted}},
		{"accepted already: the same order again", []loadtest.Outcome{loadtest.Replayed}},
		{"sold out", []loadtest.Outcome{loadtest.SoldOut}},
		{"the limit per buyer is reached", []loadtest.Outcome{loadtest.PurchaseLimit}},
		{"no, for another reason", []loadtest.Outcome{loadtest.Refused}},
		{"come back later, nothing happened", []loadtest.Outcome{loadtest.Limited, loadtest.Shed, loadtest.Degraded}},
		{"not known yet, ask for the order", []loadtest.Outcome{loadtest.Unknown}},
		{"errors", []loadtest.Outcome{loadtest.Failed}},
	}
}

func (r *demoReport) answers(b *strings.Builder, s screen) {
	buy := &r.result.Buy
	title := fmt.Sprintf("%-42s%10s%12s%12s", "Answers", "times", "median", "99 of 100")
	fmt.Fprintf(b, "\n%s\n", s.paint(ansiBold, title))
	for _, a := range demoAnswers() {
		times := buy.Count(a.outcomes...)
		if times == 0 && !slices.Contains(a.outcomes, loadtest.Accepted) && !slices.Contains(a.outcomes, loadtest.SoldOut) {
			continue
		}
		latency := buy.LatencyOf(a.outcomes...)
		fmt.Fprintf(b, "  %-40s%10s%12s%12s\n", a.words, grouped(times), millis(latency.Quantile(0.5)), millis(latency.Quantile(0.99)))
	}
	for _, code := range sortedKeys(r.result.Samples) {
		fmt.Fprintf(b, "  ! the first %s: %s\n", code, r.result.Samples[code])
	}
}

func (r *demoReport) books(b *strings.Builder, s screen) {
	a := &r.audit
	fmt.Fprintf(b, "\n%s\n", s.paint(ansiBold, "Where the units are now, according to the shop's audit"))
	fmt.Fprintf(b, "  %-12s%8s   paid\n", "sold", grouped(a.Sold))
	fmt.Fprintf(b, "  %-12s%8s   in orders that wait for their payment\n", "held", grouped(a.Held))
	fmt.Fprintf(b, "  %-12s%8s   never bought, or cancelled when no buyer was left\n", "available", grouped(a.Available))
	if n := r.result.Statuses["cancelled"]; n > 0 {
		fmt.Fprintf(b, "  %s more orders were cancelled; their units went back on sale at once\n", grouped(n))
	}
	verdict := "it adds up"
	if !a.settled() {
		verdict = fmt.Sprintf("it does not add up, with %s in flight", grouped(a.InFlight))
	}
	fmt.Fprintf(b, "  %s total %s = %s sold + %s held + %s available: %s\n", s.tick(a.settled()),
		grouped(a.Total), grouped(a.Sold), grouped(a.Held), grouped(a.Available), verdict)
	fmt.Fprintf(b, "  %s %s\n", s.tick(r.agrees()), "the audit agrees with the buyers' answers")
}

func (r *demoReport) checks(b *strings.Builder, s screen) {
	c := r.result
	fmt.Fprintf(b, "\n%s\n", s.paint(ansiBold, "What the buyers' answers prove"))
	fmt.Fprintf(b, "  %s promises kept: %s of %s accepted orders exist, as they were accepted\n",
		s.tick(c.Kept == c.Promised), grouped(c.Kept), grouped(c.Promised))
	for _, i := range c.Invariants {
		if i.Name == loadtest.PromiseKept && i.Held {
			continue // the line above has it already
		}
		fmt.Fprintf(b, "  %s %-18s %s\n", s.tick(i.Held), i.Name, i.Detail)
	}
}

// demoNext prints the next steps, while the demo keeps serving.
func demoNext(publicURL, adminURL, callerKey, token string) string {
	return fmt.Sprintf(`
The shop keeps serving until ^C: API %[1]s, admin %[2]s.
Put ten more units on sale, then buy one yourself:

  curl %[2]s/admin/v1/activities/%[5]s/items/%[6]s/restock \
    -H 'Authorization: Bearer %[4]s' -H 'Content-Type: application/json' \
    -H 'Idempotency-Key: my-restock' -d '{"delta":10,"reason":"to try it"}'

  curl -i %[1]s/v1/orders \
    -H 'Authorization: Bearer %[3]s' -H 'Content-Type: application/json' \
    -H 'Idempotency-Key: my-first-key' -d '{"activity":"%[5]s","sku":"%[6]s","user":"me","quantity":1}'

`, publicURL, adminURL, callerKey, token, demoActivity, demoSKU)
}

// millis writes a latency in milliseconds.
func millis(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	ms := float64(d) / float64(time.Millisecond)
	if ms < 10 {
		return fmt.Sprintf("%.2f ms", ms)
	}
	return fmt.Sprintf("%.1f ms", ms)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
