package faults

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"
)

// excuse is a loss by a fault that no installation can survive completely.
type excuse struct {
	lostLog   bool // a log lost records: promises before the fault may be lost with them
	lostStock bool // a Redis lost what it had acknowledged: promises may end as rejected
}

// row is an order in the database.
type row struct {
	user, activity, sku, state, reason, units string
	quantity                                  int64
}

// stockRow is an item's units in the database.
type stockRow struct{ total, open, sold, parked int64 }

func (r stockRow) available() int64 { return r.total - r.open - r.sold - r.parked }

// verdict is the result of checking the laws after a trial.
type verdict struct {
	broken []string
	lost   int // promises that a log lost
}

func (v *verdict) breaks(format string, args ...any) {
	v.broken = append(v.broken, fmt.Sprintf(format, args...))
}

// judge checks the laws after the crowd.
func (c *crowd) judge(t testing.TB, f *fault) *verdict {
	t.Helper()
	v := &verdict{broken: c.broken}
	c.balanced(t, v)
	c.probe(t, v)
	c.balanced(t, v)
	if c.s.postgres == nil {
		c.judgeByHTTP(t, v)
		return v
	}
	rows, stock := c.readBooks(t)
	c.judgeOrders(v, f, rows)
	c.judgeUnits(v, rows, stock)
	c.judgeRedis(t, v, stock)
	if out, messages, code := c.deepAudit(t, f); code != 0 {
		v.breaks("audit --deep exits %d: %.1000s %.1000s", code, out, messages)
	}
	return v
}

// balanced waits until nothing is in flight and the audit finds each item's equation to hold (L3).
func (c *crowd) balanced(t testing.TB, v *verdict) {
	t.Helper()
	last := ""
	for began := time.Now(); time.Since(began) < patience; pause(t, 200*time.Millisecond) {
		out, messages, code := c.s.node().command(append([]string{"audit", "-o", "json"}, c.sale.activities...)...)
		if code == 0 && flying(t, out) == 0 {
			return
		}
		last = fmt.Sprintf("exit %d, %d in flight: %.2000s", code, flying(t, out), messages)
	}
	v.breaks("L3: the stock isn't balanced after %v: %s", patience, last)
}

// flying returns the sum of units in flight.
func flying(t testing.TB, out string) (n int64) {
	t.Helper()
	if out == "" {
		return -1
	}
	var audit struct {
		Activities []struct {
			Items []struct {
				InFlight int64 `json:"in_flight"`
			}
		}
	}
	decode(t, []byte(out), &audit)
	for _, a := range audit.Activities {
		for _, i := range a.Items {
			n += i.InFlight
		}
	}
	return n
}

// deepAudit compares every order with counters, stock and queue, until all agree or patience ends.
// A log that was made again, or lost its tail, is behind the books until enough was written.
func (c *crowd) deepAudit(t testing.TB, f *fault) (out, messages string, code int) {
	t.Helper()
	for began := time.Now(); ; pause(t, 500*time.Millisecond) {
		out, messages, code = c.s.node().command("audit", "--deep")
		if code == 0 || time.Since(began) > patience/2 {
			return out, messages, code
		}
	}
}

// probe buys one unit of each item. An item with units must sell, the others are sold out (L6).
func (c *crowd) probe(t testing.TB, v *verdict) {
	t.Helper()
	out, _, _ := c.s.node().command(append([]string{"audit", "-o", "json"}, c.sale.activities...)...)
	var audit struct {
		Activities []struct {
			Activity string
			Items    []struct {
				SKU       string
				Available int64
			}
		}
	}
	decode(t, []byte(out), &audit)
	left := make(map[string]int64)
	for _, a := range audit.Activities {
		for _, i := range a.Items {
			left[a.Activity+"/"+i.SKU] = i.Available
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	for i := range c.sale.items {
		it := &c.sale.items[i]
		p := c.purchase(i, "probe", "k", false)
		all.Go(func() {
			done := c.until(ctx, newRand(i), p, i%2)
			mu.Lock()
			defer mu.Unlock()
			switch has := left[it.name()] > 0; {
			case !done:
				v.breaks("L3: %s has %d units and doesn't sell in %v", it.name(), left[it.name()], patience)
			case has != (p.order != ""):
				v.breaks("L6: %s has %d units, and a buyer's order is %q", it.name(), left[it.name()], p.order)
			}
		})
	}
	all.Wait()
}

// readBooks reads the sale's orders, by id, and its stock, by item.
func (c *crowd) readBooks(t testing.TB) (map[string]row, map[string]stockRow) {
	t.Helper()
	conn, err := c.s.connect(t.Context())
	no(t, "connect to the database", err)
	defer conn.Close(t.Context())
	rows, stock := make(map[string]row), make(map[string]stockRow)
	found, err := conn.Query(t.Context(),
		`SELECT id, "user", activity, sku, state, reason, units, quantity FROM orders WHERE activity = ANY($1)`, c.sale.activities)
	no(t, "read the orders", err)
	var id string
	var r row
	_, err = pgx.ForEachRow(found, []any{&id, &r.user, &r.activity, &r.sku, &r.state, &r.reason, &r.units, &r.quantity}, func() error {
		rows[id] = r
		return nil
	})
	no(t, "read the orders", err)
	found, err = conn.Query(t.Context(), `SELECT a.id || '/' || i.sku, s.total, s.open, s.sold, coalesce(e.parked, 0)
		FROM activities a JOIN items i ON i.sale = a.sale JOIN stock s ON s.item = i.id
		LEFT JOIN stock_exceptions e ON e.item = s.item AND e.shard = s.shard WHERE a.id = ANY($1)`, c.sale.activities)
	no(t, "read the stock", err)
	var s stockRow
	_, err = pgx.ForEachRow(found, []any{&id, &s.total, &s.open, &s.sold, &s.parked}, func() error {
		stock[id] = s
		return nil
	})
	no(t, "read the stock", err)
	return rows, stock
}

// judgeOrders compares the buyers' answers with the rows (L2, L4).
func (c *crowd) judgeOrders(v *verdict, f *fault, rows map[string]row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.bought {
		if p.order == "" {
			continue
		}
		it := &c.sale.items[p.item]
		r, there := rows[p.order]
		gone := !there || r.state == "cancelled" && r.reason == "not-accepted"
		switch {
		case gone && f.excuse.lostLog && p.at.Before(f.ended):
			v.lost++
		case gone:
			v.breaks("L2: order %s of %s was promised at %v and is %q %q", p.order, it.name(), p.at.Format(clock), r.state, r.reason)
		case r.user != p.user || r.activity != it.activity || r.sku != it.sku || r.quantity != 1:
			v.breaks("L4: order %s of %s and user %s is the row %+v", p.order, it.name(), p.user, r)
		case r.state == "rejected":
			p.rejected = true
			if !f.excuse.lostStock {
				v.breaks("L2: order %s of %s was promised and is rejected, %s", p.order, it.name(), r.reason)
			}
		case r.state == "cancelled" && !p.asked:
			v.breaks("L2: order %s of %s was promised and is cancelled, %s", p.order, it.name(), r.reason)
		case r.state == "paid" && !p.paid, r.state == "refund_due" && !(p.paid && p.asked):
			v.breaks("L4: order %s of %s is %s", p.order, it.name(), r.state)
		case r.state == "parked":
			v.breaks("L2: order %s of %s stays parked, %s", p.order, it.name(), r.reason)
		}
	}
	c.rejected = 0
	for _, p := range c.bought {
		if p.rejected {
			c.rejected++
		}
	}
}

// judgeUnits compares rows with counters and totals (L1), and with the buyers' limit (L5). It also
// finds a key with two orders, since no buyer has more than one that counts (L4).
func (c *crowd) judgeUnits(v *verdict, rows map[string]row, stock map[string]stockRow) {
	sums := make(map[string]stockRow)
	byBuyer := make(map[string]int64)
	for id, r := range rows {
		name := r.activity + "/" + r.sku
		s := sums[name]
		switch r.units {
		case "open":
			s.open += r.quantity
		case "sold":
			s.sold += r.quantity
		case "parked":
			s.parked += r.quantity
		case "void":
			continue
		default:
			v.breaks("order %s has units %q", id, r.units)
		}
		sums[name] = s
		byBuyer[name+" "+r.user] += r.quantity
	}
	for i := range c.sale.items {
		name := c.sale.items[i].name()
		s, sum := stock[name], sums[name]
		sum.total = s.total
		if s.total != units || s.available() < 0 || s != sum {
			v.breaks("L1: the stock row of %s is %+v, its orders add up to %+v", name, s, sum)
		}
	}
	for who, n := range byBuyer {
		if n > 1 {
			v.breaks("L5: %s has %d units", who, n)
		}
	}
}

// judgeRedis compares the numbers in Redis with the books (L3).
func (c *crowd) judgeRedis(t testing.TB, v *verdict, stock map[string]stockRow) {
	t.Helper()
	for i := range c.sale.items {
		it := &c.sale.items[i]
		key := fmt.Sprintf("ps:{ps.%d}:shard", it.shard)
		command := c.s.asked.B().Hget().Key(key).Field(strconv.FormatInt(it.id, 10)).Build()
		text, err := c.s.asked.Do(t.Context(), command).ToString()
		if rueidis.IsRedisNil(err) {
			text, err = "none", nil
		}
		no(t, "read "+key, err)
		if want := strconv.FormatInt(stock[it.name()].available(), 10); text != want {
			v.breaks("L3: Redis has %s of %s, the database %s", text, it.name(), want)
		}
	}
}

// judgeByHTTP checks the promises by reading each order, for a site without its own database.
func (c *crowd) judgeByHTTP(t testing.TB, v *verdict) {
	t.Helper()
	sold := make(map[int]int)
	c.mu.Lock()
	bought := c.bought
	c.mu.Unlock()
	for _, p := range bought {
		if p.order == "" {
			continue
		}
		var a answer
		eventually(t, "order "+p.order+" can be read", func() (ok bool) {
			var err error
			a, err = call(t.Context(), "GET", c.s.node().public+"/v1/orders/"+p.order, "", "Authorization", c.s.bearer)
			return err == nil && a.status != http.StatusServiceUnavailable && a.member.Status != "queued"
		})
		switch a.member.Status {
		case "pending_payment", "paid":
			sold[p.item]++
		case "cancelled":
			if p.asked {
				continue
			}
			fallthrough
		default:
			v.breaks("L2: order %s was promised, and is read as %v", p.order, &a)
		}
	}
	for i, n := range sold {
		if n > units {
			v.breaks("L1: %d of %d units of %s are sold", n, units, c.sale.items[i].name())
		}
	}
}

// clock is the format of a printed time.
const clock = "15:04:05.000"

// list joins at most so many lines.
func list(lines []string, most int) string {
	if len(lines) > most {
		lines = append(lines[:most:most], fmt.Sprintf("and %d more", len(lines)-most))
	}
	return strings.Join(lines, "\n")
}
