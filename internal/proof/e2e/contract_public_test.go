package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

func contractBuy(c *contract) {
	s := c.sale("buy", terms{quantity: 4, perUser: 2, window: "10m"})
	buy := func(status int, code, user, key string, quantity int, more ...string) answer {
		c.t.Helper()
		return c.public(status, code, "POST", "/v1/orders", s.purchase(user, quantity), append(as(s.key, "Idempotency-Key", key), more...)...)
	}
	first := buy(202, "", "u1", "k", 1)
	id := first.field("order")
	if first.header.Get("Location") != "/v1/orders/"+id || first.field("status") != "queued" || first.header.Get("Idempotent-Replayed") != "" {
		c.t.Fatalf("202: %v", first)
	}
	again := buy(201, "", "u1", "k", 1, "Prefer", "wait=10")
	if again.field("order") != id || again.header.Get("Location") != "/v1/orders/"+id || again.header.Get("Idempotent-Replayed") != "true" ||
		again.field("status") != "pending_payment" || again.field("pay_by") == "" {
		c.t.Fatalf("the same again: %v", again)
	}
	buy(422, "idempotency-key-reused", "u1", "k", 2)
	buy(409, "purchase-limit", "u1", "k2", 2)
	buy(409, "purchase-limit", "u9", "k", 3)
	if a := buy(201, "", "u2", "k", 1, "Prefer", "wait=10"); a.field("order") == id || a.header.Get("Idempotent-Replayed") != "" {
		c.t.Fatalf("another user's key is another key: %v", a)
	}
	if a := buy(201, "", "u1", "k2", 1, "Prefer", "wait=10"); a.field("order") == id {
		c.t.Fatalf("another key: %v", a)
	}
	// One unit is left: a purchase of two is refused, of one accepted.
	buy(409, "sold-out", "u3", "two", 2)
	last := buy(201, "", "u3", "one", 1, "Prefer", "wait=10").field("order")
	buy(409, "sold-out", "u4", "k", 1)
	if got := s.settled(c.n); got != (stock{Total: 4, Held: 4, Balanced: true}) {
		c.t.Fatalf("%+v", got)
	}
	// A cancelled unit is on sale again, and the refused key may buy it.
	c.public(200, "", "POST", "/v1/orders/"+last+"/cancel", "", as(s.key)...)
	eventually(c.t, "the unit is for sale again", func() bool {
		a, err := s.buy(c.n, "u4", "k", 1, "Prefer", "wait=10")
		return err == nil && a.status == 201
	})
	if a := buy(201, "", "u3", "one", 1); a.field("status") != "cancelled" || a.field("reason") != "cancelled-by-buyer" ||
		a.header.Get("Idempotent-Replayed") != "true" {
		c.t.Fatalf("a repeat of a cancelled order: %v", a)
	}
	c.rows(c.public, []row{
		{"no key", "POST", "/v1/orders", s.purchase("u", 1), []string{"Idempotency-Key", "k"}, 401, "unauthenticated", ""},
		{"unknown key", "POST", "/v1/orders", s.purchase("u", 1), as("psk_nobody", "Idempotency-Key", "k"), 401, "unauthenticated", ""},
		{"other scheme", "POST", "/v1/orders", s.purchase("u", 1), []string{"Authorization", "Basic " + s.key, "Idempotency-Key", "k"}, 401, "unauthenticated", ""},
		{"no right", "POST", "/v1/orders", s.purchase("u", 1), as(c.caller(s, "reader", `"merchant"`), "Idempotency-Key", "k"), 403, "forbidden", ""},
		{"activity", "POST", "/v1/orders", strings.Replace(s.purchase("u", 1), `"buy"`, `"nope"`, 1), as(s.key, "Idempotency-Key", "k"), 404, "unknown-activity", ""},
		{"item", "POST", "/v1/orders", strings.Replace(s.purchase("u", 1), "phone-x", "nope", 1), as(s.key, "Idempotency-Key", "k"), 404, "unknown-item", ""},
		{"other merchant's", "POST", "/v1/orders", s.purchase("u", 1), as(foundShop(c.n, "stranger", "").key, "Idempotency-Key", "k"), 404, "unknown-activity", ""},
	})
}

func contractWindow(c *contract) {
	s := foundShop(c.n, "m-window", "window")
	header := as(s.key, "Idempotency-Key", "k")
	const path = "/admin/v1/activities/window"
	terms := terms{quantity: 5, perUser: 0, window: "10m"}
	buy := func(status int, code string) answer {
		c.t.Helper()
		return c.public(status, code, "POST", "/v1/orders", s.purchase("u", 1), header...)
	}
	buy(404, "unknown-activity")
	starts := time.Now().Add(90 * time.Second).Truncate(time.Second)
	c.admin(200, "", "PUT", path, s.draft(starts, terms))
	buy(404, "unknown-activity") // a draft
	c.admin(200, "", "POST", path+"/publish", "")
	early := buy(409, "not-started")
	at, err := time.Parse(time.RFC3339, early.field("starts_at"))
	if after, bad := strconv.Atoi(early.header.Get("Retry-After")); err != nil || !at.Equal(starts) || bad != nil || after < 30 || early.field("retryable") != "true" {
		c.t.Fatalf("not-started: %v", early)
	}
	// Before its start, a published sale may be moved to another time.
	c.admin(200, "", "PUT", path, s.draft(time.Now().Add(-time.Minute), terms))
	id := buy(202, "").field("order")
	c.admin(200, "", "POST", path+"/pause", "")
	if a := c.public(503, "degraded", "POST", "/v1/orders", s.purchase("u2", 1), header...); a.header.Get("Retry-After") == "" {
		c.t.Fatalf("paused: %v", a)
	}
	eventually(c.t, "a repeat meets its order while the sale is paused", func() bool {
		a, err := s.buy(c.n, "u", "k", 1)
		return err == nil && a.status == 201 && a.field("order") == id
	})
	c.admin(200, "", "POST", path+"/resume", "")
	c.public(202, "", "POST", "/v1/orders", s.purchase("u2", 1), header...)
	c.admin(200, "", "POST", path+"/end", `{"confirm":true}`)
	c.public(409, "ended", "POST", "/v1/orders", s.purchase("u3", 1), header...)
	if a := buy(201, ""); a.field("order") != id {
		c.t.Fatalf("a repeat after the end: %v", a)
	}
	if a := c.public(200, "", "GET", "/v1/activities/window", "", as(s.key)...); a.field("state") != "ended" {
		c.t.Fatalf("ended: %v", a)
	}
}

// contractClock: a sale ends by the server's clock too.
func contractClock(c *contract) {
	s := foundShop(c.n, "m-clock", "clock")
	const path = "/admin/v1/activities/clock"
	c.admin(200, "", "PUT", path, s.draft(time.Now().Add(-time.Hour), terms{quantity: 5, window: "10m"}))
	open := c.admin(200, "", "POST", path+"/publish", "")
	id := s.mustBuy(c.n, "u", "k")
	soon := time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano)
	c.admin(200, "", "PUT", path, strings.Replace(string(open.body), open.field("ends_at"), soon, 1))
	eventually(c.t, "more than there is, so far sold-out, is ended", func() bool {
		a, err := s.buy(c.n, "u2", "k", 6)
		return err == nil && a.field("code") == "ended"
	})
	if a := c.public(201, "", "POST", "/v1/orders", s.purchase("u", 1), as(s.key, "Idempotency-Key", "k")...); a.field("order") != id {
		c.t.Fatalf("a repeat after the end: %v", a)
	}
	s.pay(c.n, "clock", id, price)
	if got := s.settled(c.n); got != (stock{Total: 5, Available: 4, Sold: 1, Balanced: true}) {
		c.t.Fatalf("what was ordered goes on: %+v", got)
	}
}

func contractBadPurchases(c *contract) {
	s := c.sale("bad", terms{quantity: 5, perUser: 0, window: "10m"})
	good := s.purchase("u", 1)
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for _, bad := range []struct{ body, field string }{
		{"", "body"}, {"{", "body"}, {"[]", "body"}, {"null", "body"}, {"1", "body"}, {good + "x", "body"}, {good + good, "body"},
		{strings.Repeat("[", 10000), "body"}, {with(`"u"`, "\"\xff\""), "body"}, {with(`"u"`, `"\ud800"`), "body"},
		{with(`"quantity":1`, `"quantity":0`), "quantity"}, {with(`"quantity":1`, `"quantity":-1`), "quantity"},
		{with(`"quantity":1`, `"quantity":1001`), "quantity"}, {with(`"quantity":1`, `"quantity":1e2`), "quantity"},
		{with(`"quantity":1`, `"quantity":1.5`), "quantity"}, {with(`"quantity":1`, `"quantity":"1"`), "quantity"},
		{with(`"quantity":1`, `"quantity":null`), "quantity"}, {with(`"quantity":1`, `"quantity":99999999999999999999999`), "quantity"},
		{with(`,"quantity":1`, ``), "quantity"}, {with(`"quantity":1`, `"quantity":1,"quantity":1`), "quantity"},
		{with(`"quantity":1`, `"quantity":1,"price":1`), "price"}, {with(`"quantity"`, `"Quantity"`), "Quantity"},
		{with(`"u"`, `""`), "user"}, {with(`"u"`, `"a\u0000b"`), "user"}, {with(`"u"`, `"a\nb"`), "user"},
		{with(`"u"`, `"`+strings.Repeat("x", 129)+`"`), "user"}, {with(`"u"`, `7`), "user"}, {with(`"u"`, `["u"]`), "user"},
		{with(`"bad"`, `"`+strings.Repeat("x", 65)+`"`), "activity"}, {with(`"phone-x"`, `""`), "sku"}, {`{}`, "activity"},
	} {
		a := c.public(400, "invalid-request", "POST", "/v1/orders", bad.body, as(s.key, "Idempotency-Key", "k", "Content-Type", "application/json")...)
		if !strings.Contains(string(a.body), fmt.Sprintf(`{"field":%q,"detail":"`, bad.field)) {
			c.t.Errorf("%.200s: %q isn't named: %v", bad.body, bad.field, a)
		}
	}
	all := c.public(400, "invalid-request", "POST", "/v1/orders", `{"user":"","quantity":0,"foo":1}`, as(s.key)...)
	for _, field := range []string{"header Idempotency-Key", "activity", "sku", "user", "quantity", "foo"} {
		if !strings.Contains(string(all.body), fmt.Sprintf(`{"field":%q,`, field)) {
			c.t.Errorf("%q isn't named: %v", field, all)
		}
	}
	for _, key := range []string{"", "a b", strings.Repeat("k", 65), "kéy"} {
		a := c.public(400, "invalid-request", "POST", "/v1/orders", good, as(s.key, "Idempotency-Key", key)...)
		if !strings.Contains(string(a.body), `"field":"header Idempotency-Key"`) {
			c.t.Errorf("key %q: %v", key, a)
		}
	}
	json := func(more ...string) []string { return as(s.key, append([]string{"Idempotency-Key", "k"}, more...)...) }
	c.rows(c.public, []row{
		{"over the limit", "POST", "/v1/orders", good + strings.Repeat(" ", 17<<10), json(), 413, "too-large", ""},
		{"text", "POST", "/v1/orders", good, json("Content-Type", "text/plain"), 415, "unsupported-media-type", ""},
		{"form", "POST", "/v1/orders", good, json("Content-Type", "application/x-www-form-urlencoded"), 415, "unsupported-media-type", ""},
		{"charset", "POST", "/v1/orders", good, json("Content-Type", "application/json; charset=latin1"), 415, "unsupported-media-type", ""},
		{"coding", "POST", "/v1/orders", good, json("Content-Encoding", "gzip"), 415, "unsupported-media-type", ""},
		{"header bomb", "POST", "/v1/orders", good, json("X-Bomb", strings.Repeat("x", 100_000)), 431, "header-too-large", ""},
		{"method", "PUT", "/v1/orders", good, json(), 405, "method-not-allowed", ""},
		{"method", "GET", "/v1/orders", "", json(), 405, "method-not-allowed", ""},
		{"sound", "POST", "/v1/orders", good, json("Content-Type", "application/json; charset=UTF-8"), 202, "", ""},
	})
	if got := s.settled(c.n); got.Held != 1 {
		c.t.Fatalf("only the sound one took a unit: %+v", got)
	}
}

func contractWait(c *contract) {
	s := c.sale("wait", terms{quantity: 100, perUser: 0, window: "10m"})
	id := s.mustBuy(c.n, "u", "k")
	for prefer, applied := range map[string]string{
		"wait=5": "wait=5", "wait=99": "wait=10", "wait=99999999999999999999": "wait=10", "respond-async, wait=2": "wait=2", "WAIT=3": "wait=3",
		"wait=2; x=y": "wait=2", "": "", "wait": "", "wait=0": "", "wait=-1": "", "wait=soon": "", "wait=1.5": "", "return=minimal": "", ",;=": "",
	} {
		a := c.public(201, "", "POST", "/v1/orders", s.purchase("u", 1), as(s.key, "Idempotency-Key", "k", "Prefer", prefer)...)
		if a.header.Get("Preference-Applied") != applied || a.field("order") != id {
			c.t.Errorf("Prefer: %s: want %q, got %v", prefer, applied, a)
		}
	}
	a := c.public(202, "", "POST", "/v1/orders", s.purchase("u", 1), as(s.key, "Idempotency-Key", "k2")...)
	a = c.public(200, "", "GET", a.header.Get("Location"), "", as(s.key, "Prefer", "wait=10")...)
	if a.field("status") != "pending_payment" || a.header.Get("Preference-Applied") != "wait=10" {
		c.t.Fatalf("GET waits for a change from queued: %v", a)
	}
}

func contractOrders(c *contract) {
	s := c.sale("orders", terms{quantity: 10, perUser: 0, window: "10m"})
	id := s.mustBuy(c.n, "u-42", "k")
	path := "/v1/orders/" + id
	var got map[string]any
	a := c.public(200, "", "GET", path, "", as(s.key)...)
	if err := json.Unmarshal(a.body, &got); err != nil {
		c.t.Fatal(err)
	}
	want := map[string]any{
		"order": id, "activity": "orders", "sku": "phone-x", "user": "u-42", "quantity": 1.0, "status": "pending_payment", "reason": nil,
		"amount": float64(price), "currency": "CNY", "created_at": got["created_at"], "pay_by": got["pay_by"], "updated_at": got["updated_at"],
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Fatalf("want %v, got %v", want, got)
	}
	created, err1 := time.Parse(time.RFC3339, a.field("created_at"))
	payBy, err2 := time.Parse(time.RFC3339, a.field("pay_by"))
	if err1 != nil || err2 != nil || payBy.Sub(created) != 10*time.Minute {
		c.t.Fatalf("pay_by: %v", a)
	}
	other := c.caller(s, "other", `"buy"`)
	c.rows(c.public, []row{
		{"head", "HEAD", path, "", as(s.key), 200, "", ""},
		{"nobody's", "GET", path, "", nil, 401, "unauthenticated", ""},
		{"another caller's", "GET", path, "", as(other), 404, "unknown-order", ""},
		{"another caller's", "POST", path + "/cancel", "", as(other), 404, "unknown-order", ""},
		{"another caller's key", "POST", "/v1/orders", s.purchase("u-42", 1), as(other, "Idempotency-Key", "k"), 202, "", ""},
		{"none", "GET", "/v1/orders/" + strings.Repeat("0", 40), "", as(s.key), 404, "unknown-order", ""},
		{"no id", "GET", "/v1/orders/nope", "", as(s.key), 404, "unknown-order", ""},
		{"no id", "GET", "/v1/orders/%00", "", as(s.key), 404, "unknown-order", ""},
		{"none", "POST", "/v1/orders/" + strings.Repeat("0", 40) + "/cancel", "", as(s.key), 404, "unknown-order", ""},
		{"method", "DELETE", path, "", as(s.key), 405, "method-not-allowed", ""},
		{"method", "GET", path + "/cancel", "", as(s.key), 405, "method-not-allowed", ""},
		{"no right", "POST", path + "/cancel", "", as(c.caller(s, "reader", `"merchant"`)), 403, "forbidden", ""},
		{"cancel", "POST", path + "/cancel", "", as(s.key), 200, "", `"status":"cancelled","reason":"cancelled-by-buyer"`},
		{"cancel again", "POST", path + "/cancel", "", as(s.key), 200, "", `"status":"cancelled","reason":"cancelled-by-buyer"`},
		{"read", "GET", path, "", as(s.key), 200, "", `"status":"cancelled"`},
	})
	// An order can be cancelled immediately after its acceptance.
	early := c.public(202, "", "POST", "/v1/orders", s.purchase("u1", 1), as(s.key, "Idempotency-Key", "early")...).field("order")
	eventually(c.t, "the queued order is cancelled", func() bool { return s.cancel(c.n, early).field("status") == "cancelled" })
	paid := s.mustBuy(c.n, "u2", "paid")
	s.pay(c.n, "orders-1", paid, price)
	c.public(409, "not-cancellable", "POST", "/v1/orders/"+paid+"/cancel", "", as(s.key)...)
	if got := s.settled(c.n); got != (stock{Total: 10, Available: 8, Held: 1, Sold: 1, Balanced: true}) {
		c.t.Fatalf("%+v", got)
	}
}

// notice signs a payment notice and sends it.
func (c *contract) notice(s *shop, status int, code, body string) answer {
	c.t.Helper()
	return c.public(status, code, "POST", "/v1/payments", body, "Penstock-Signature", sign(s.secret, time.Now().Unix(), body),
		"Content-Type", "application/json")
}

// paid is a payment notice's body.
func paid(payment, order string, amount int, currency string) string {
	return fmt.Sprintf(`{"payment":%q,"order":%q,"amount":%d,"currency":%q}`, payment, order, amount, currency)
}

func contractPayments(c *contract) {
	s := c.sale("pay", terms{quantity: 10, perUser: 0, window: "10m"})
	id := s.mustBuy(c.n, "u1", "k")
	c.notice(s, 409, "amount-mismatch", paid("p1", id, price-1, "CNY"))
	c.notice(s, 409, "amount-mismatch", paid("p1", id, price, "USD"))
	if a := s.order(c.n, id); a.field("status") != "pending_payment" {
		c.t.Fatalf("a wrong amount changes nothing: %v", a)
	}
	for range 2 {
		if a := c.notice(s, 200, "", paid("p1", id, price, "CNY")); a.field("order") != id || a.field("status") != "paid" {
			c.t.Fatalf("paid: %v", a)
		}
	}
	other := s.mustBuy(c.n, "u2", "k")
	c.notice(s, 422, "idempotency-key-reused", paid("p1", other, price, "CNY"))
	if a := s.order(c.n, other); a.field("status") != "pending_payment" {
		c.t.Fatalf("another payment's id: %v", a)
	}
	// A second payment of a paid order is kept, and the order stays paid.
	if a := c.notice(s, 200, "", paid("p2", id, price, "CNY")); a.field("status") != "paid" {
		c.t.Fatalf("paid twice: %v", a)
	}
	// Paid before the order exists: the notice is kept.
	early := c.public(202, "", "POST", "/v1/orders", s.purchase("u3", 1), as(s.key, "Idempotency-Key", "k")...).field("order")
	eventually(c.t, "the queued order is paid", func() bool { return s.pay(c.n, "p3", early, price).field("status") == "paid" })
	// Paid after it was given up.
	s.cancel(c.n, other)
	for range 2 {
		if a := c.notice(s, 200, "", paid("p4", other, price, "CNY")); a.field("status") != "refund_due" {
			c.t.Fatalf("late: %v", a)
		}
	}
	c.public(409, "not-cancellable", "POST", "/v1/orders/"+other+"/cancel", "", as(s.key)...)
	c.notice(s, 404, "unknown-order", paid("p5", strings.Repeat("0", 40), price, "CNY"))
	if got := s.settled(c.n); got != (stock{Total: 10, Available: 8, Sold: 2, Balanced: true}) {
		c.t.Fatalf("%+v", got)
	}
}

func contractBadPayments(c *contract) {
	s := c.sale("badpay", terms{quantity: 10, perUser: 0, window: "10m"})
	id := s.mustBuy(c.n, "u1", "k")
	good := paid("p", id, price, "CNY")
	for _, bad := range []struct{ body, field string }{
		{"", "body"}, {"{", "body"}, {"[]", "body"}, {`{}`, "payment"}, {paid("", id, price, "CNY"), "payment"}, {paid("p", "nope", price, "CNY"), "order"},
		{paid("p", id, -1, "CNY"), "amount"}, {strings.Replace(good, "1999", "1999.0", 1), "amount"}, {paid("p", id, price, "yuan"), "currency"},
		{paid("a\tb", id, price, "CNY"), "payment"}, {strings.Replace(good, "{", `{"note":"x",`, 1), "note"},
	} {
		if a := c.notice(s, 400, "invalid-request", bad.body); !strings.Contains(string(a.body), fmt.Sprintf(`{"field":%q,"detail":"`, bad.field)) {
			c.t.Errorf("%s: %q isn't named: %v", bad.body, bad.field, a)
		}
	}
	now := time.Now().Unix()
	signed := func(secret string, at int64) []string { return []string{"Penstock-Signature", sign(secret, at, good)} }
	stranger := foundShop(c.n, "m-badpay-other", "")
	c.rows(c.public, []row{
		{"unsigned", "POST", "/v1/payments", good, nil, 401, "invalid-signature", "Penstock-Signature"},
		{"a caller key is none", "POST", "/v1/payments", good, as(s.key), 401, "invalid-signature", "Penstock-Signature"},
		{"junk", "POST", "/v1/payments", good, []string{"Penstock-Signature", "junk"}, 401, "invalid-signature", "Penstock-Signature"},
		{"no t", "POST", "/v1/payments", good, []string{"Penstock-Signature", "v1=" + strings.Repeat("0", 64)}, 401, "invalid-signature", "Penstock-Signature"},
		{"another secret", "POST", "/v1/payments", good, signed("x", now), 401, "invalid-signature", ""},
		{"another merchant's", "POST", "/v1/payments", good, signed(stranger.secret, now), 401, "invalid-signature", ""},
		{"old", "POST", "/v1/payments", good, signed(s.secret, now-301), 401, "invalid-signature", ""},
		{"of tomorrow", "POST", "/v1/payments", good, signed(s.secret, now+86400), 401, "invalid-signature", ""},
		{"another body", "POST", "/v1/payments", good + " ", signed(s.secret, now), 401, "invalid-signature", ""},
		{"too large", "POST", "/v1/payments", good + strings.Repeat(" ", 17<<10), signed(s.secret, now), 413, "too-large", ""},
		{"type", "POST", "/v1/payments", good, append(signed(s.secret, now), "Content-Type", "text/xml"), 415, "unsupported-media-type", ""},
		{"method", "GET", "/v1/payments", "", nil, 405, "method-not-allowed", ""},
		{"still unpaid", "GET", "/v1/orders/" + id, "", as(s.key), 200, "", `"status":"pending_payment"`},
		{"not so old", "POST", "/v1/payments", good, signed(s.secret, now-290), 200, "", `"status":"paid"`},
	})
}

func contractActivities(c *contract) {
	s := c.sale("page", terms{quantity: 1, perUser: 3, window: "10m"})
	const path = "/v1/activities/page"
	page := c.public(200, "", "GET", path, "", as(s.key)...)
	var doc struct {
		Activity, Name, State string
		StartsAt              time.Time `json:"starts_at"`
		EndsAt                time.Time `json:"ends_at"`
		ServerTime            time.Time `json:"server_time"`
		Items                 []struct {
			SKU, Currency, Stock string
			Price                int
			PerUser              int `json:"per_user"`
		}
	}
	if err := json.Unmarshal(page.body, &doc); err != nil {
		c.t.Fatal(err)
	}
	tag := page.header.Get("ETag")
	if doc.Activity != "page" || doc.Name != "Sale" || doc.State != "published" || doc.EndsAt.Sub(doc.StartsAt) != 2*time.Hour || doc.ServerTime.IsZero() ||
		len(doc.Items) != 1 || doc.Items[0].SKU != "phone-x" || doc.Items[0].Price != price || doc.Items[0].Currency != "CNY" ||
		doc.Items[0].PerUser != 3 || doc.Items[0].Stock != "in_stock" || tag == "" || page.header.Get("Cache-Control") == "" {
		c.t.Fatalf("page: %v", page)
	}
	c.rows(c.public, []row{
		{"current", "GET", path, "", as(s.key, "If-None-Match", tag), 304, "", ""},
		{"among others", "GET", path, "", as(s.key, "If-None-Match", `"x", `+tag), 304, "", ""},
		{"any", "GET", path, "", as(s.key, "If-None-Match", "*"), 304, "", ""},
		{"weak comparison", "GET", path, "", as(s.key, "If-None-Match", strings.TrimPrefix(tag, "W/")), 304, "", ""},
		{"another", "GET", path, "", as(s.key, "If-None-Match", `"x"`), 200, "", "in_stock"},
		{"head", "HEAD", path, "", as(s.key), 200, "", ""},
		{"head, current", "HEAD", path, "", as(s.key, "If-None-Match", tag), 304, "", ""},
		{"nobody", "GET", path, "", nil, 401, "unauthenticated", ""},
		{"unknown", "GET", "/v1/activities/nope", "", as(s.key), 404, "unknown-activity", ""},
		{"another merchant's", "GET", path, "", as(foundShop(c.n, "m-page-other", "").key), 404, "unknown-activity", ""},
		{"method", "POST", path, "{}", as(s.key), 405, "method-not-allowed", ""},
	})
	s.mustBuy(c.n, "u", "k")
	eventually(c.t, "the page says sold_out, under another tag", func() bool {
		a := c.public(200, "", "GET", path, "", as(s.key)...)
		return strings.Contains(string(a.body), `"stock":"sold_out"`) && a.header.Get("ETag") != tag
	})
}

func contractService(c *contract) {
	c.rows(c.public, []row{
		{"alive", "GET", "/livez", "", nil, 200, "", "alive"}, {"alive", "HEAD", "/livez", "", nil, 200, "", ""},
		{"ready", "GET", "/readyz", "", nil, 200, "", "ready"}, {"ready", "HEAD", "/readyz", "", nil, 200, "", ""},
		{"method", "POST", "/livez", "", nil, 405, "method-not-allowed", ""},
		{"contract", "GET", "/openapi.yaml", "", nil, 200, "", "openapi: 3.1"}, {"contract", "HEAD", "/openapi.yaml", "", nil, 200, "", ""},
		{"problems", "GET", "/problems", "", nil, 200, "", "sold-out"}, {"problem", "HEAD", "/problems/sold-out", "", nil, 200, "", ""},
		{"no problem", "GET", "/problems/nope", "", nil, 404, "not-found", ""},
		{"page", "GET", "/problems/sold-out", "", []string{"Accept", "text/html"}, 200, "", "<html"},
		{"nothing", "GET", "/", "", nil, 404, "not-found", ""}, {"nothing", "GET", "/v1", "", nil, 404, "not-found", ""},
		{"nothing", "GET", "/v2/orders", "", nil, 404, "not-found", ""}, {"nothing", "GET", "/v1/orders/", "", nil, 404, "not-found", ""},
		{"no admin here", "GET", "/admin/v1/merchants", "", as(adminToken), 404, "not-found", ""},
		{"no metrics here", "GET", "/metrics", "", as(adminToken), 404, "not-found", ""},
	})
	seen := make(map[string]bool)
	for _, base := range []string{c.n.public, c.n.private} {
		for _, id := range []string{"a", "3f0d7f0a-8f2b-4d43-9a63-0a2c2f2f7a11", strings.Repeat("x", 64)} {
			if a := c.ask(base, 200, "", "GET", "/livez", "", []string{"X-Request-Id", id}); a.header.Get("X-Request-Id") != id {
				c.t.Errorf("a sound id comes back: %v", a)
			}
		}
		for _, id := range []string{"", "a b", strings.Repeat("x", 65), `a"b`, "ä"} {
			a := c.ask(base, 200, "", "GET", "/livez", "", []string{"X-Request-Id", id})
			if got := a.header.Get("X-Request-Id"); got == id || seen[got] {
				c.t.Errorf("id %q: %v", id, a)
			}
			seen[a.header.Get("X-Request-Id")] = true
		}
	}
}

// contractWire: malformed HTTP is refused with a problem, and the connection is closed.
func contractWire(c *contract) {
	address := strings.TrimPrefix(c.n.public, "http://")
	for _, r := range []struct {
		name, request, code string
		status              int
	}{
		{"garbage", "GARBAGE\r\n\r\n", "invalid-request", 400},
		{"control character in a header field", "GET /livez HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", "invalid-request", 400},
		{"no host", "GET /livez HTTP/1.1\r\n\r\n", "invalid-request", 400},
		{"two hosts", "GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "invalid-request", 400},
		{"two lengths", "POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", "invalid-request", 400},
		{"a length that is none", "POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}", "invalid-request", 400},
		{"a huge body", "POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n{", "too-large", 413},
		{"a huge chunk", "POST /v1/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n", "too-large", 413},
		{"a huge path", "GET /" + strings.Repeat("x", 50_000) + " HTTP/1.1\r\nHost: x\r\n\r\n", "header-too-large", 431},
		{"many header fields", "GET /livez HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 10_000) + "\r\n", "header-too-large", 431},
	} {
		a, err := wire(address, r.request)
		if err != nil {
			c.t.Errorf("%s: %v", r.name, err)
			continue
		}
		if a.status != r.status || a.field("code") != r.code || a.header.Get("Connection") != "close" {
			c.t.Errorf("%s: want %d %s, got %v", r.name, r.status, r.code, a)
			continue
		}
		c.sound("", a)
	}
	c.public(200, "", "GET", "/livez", "")
}

// wire sends bytes and reads the answer to them; it fails when the connection then stays open.
func wire(address, request string) (answer, error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return answer{}, err
	}
	// The server may answer and close before it has read everything. Only its answer matters.
	go func() { _, _ = io.WriteString(conn, request) }()
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	header := response.Header.Clone()
	if response.Close {
		header.Set("Connection", "close") // net/http removes it
	}
	if _, err := reader.ReadByte(); err == nil {
		return answer{}, errors.New("something comes after the answer")
	}
	return answer{response.StatusCode, header, body}, nil
}
