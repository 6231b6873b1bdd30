package admin

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// UnmarshalJSON implements json.Unmarshaler, for the tests' own reading.
func (s *stamp) UnmarshalJSON(text []byte) error { return (*time.Time)(s).UnmarshalJSON(text) }

// app is the caller of these orders.
var app = seckill.CallerRef{Merchant: "m1", Caller: "app"}

// promise returns an order for phone-x of activity 618.
func (s *shop) promise(user seckill.UserID, key string) seckill.Promise {
	s.t.Helper()
	a, err := s.store.FindActivity(s.t.Context(), "618")
	if err != nil {
		s.t.Fatal(err)
	}
	return seckill.Promise{
		Order: seckill.NewOrderID(a.Items[0].ID, app, user, key), Caller: app, Activity: "618", SKU: "phone-x", User: user, Quantity: 1,
		Amount: a.Items[0].Price, Request: "req-" + string(user) + "-" + key, Accepted: time.Now(),
	}
}

// order makes an open order, as a worker does.
func (s *shop) order(user seckill.UserID, key string) seckill.OrderID {
	s.t.Helper()
	return s.accept(s.promise(user, key))
}

func (s *shop) accept(p seckill.Promise) seckill.OrderID {
	s.t.Helper()
	rows, err := s.store.Shards(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	ref := rows[inventory.Home(p.Item(), len(rows))].Ref
	page := seckill.Page{
		PageHeader: seckill.PageHeader{Ref: ref, Seq: 7, Node: "gw-1", Put: time.Now()}, Promises: []seckill.Promise{p}, Partition: 2, Offset: 40,
	}
	got, err := s.store.Accept(s.t.Context(), seckill.Batch{Pages: []seckill.Page{page}})
	if err != nil || len(got) != 1 {
		s.t.Fatal(got, err)
	}
	return p.Order
}

// pay reports a payment for an order of phone-x.
func (s *shop) pay(order seckill.OrderID, payment seckill.PaymentID, minor int64) seckill.PaymentVerdict {
	s.t.Helper()
	p := seckill.Payment{
		Merchant: "m1", ID: payment, Order: order, Amount: seckill.Money{Minor: minor, Currency: "CNY"}, Activity: "618", SKU: "phone-x",
	}
	got, err := s.store.Pay(s.t.Context(), []seckill.Payment{p})
	if err != nil {
		s.t.Fatal(err)
	}
	return got[0].Verdict
}

// late makes an order that was cancelled and then paid.
func (s *shop) late(user seckill.UserID, payment seckill.PaymentID) seckill.OrderID {
	s.t.Helper()
	id := s.order(user, "k")
	s.must(200, "POST", "/admin/v1/orders/"+string(id)+"/cancel", `{"reason":"she called"}`)
	if got := s.pay(id, payment, 1999); got != seckill.PaymentLate {
		s.t.Fatalf("verdict %d", got)
	}
	return id
}

// moneyRows are the rows of orders, refunds and statements.
func moneyRows() []row {
	const orders, refunds = "/admin/v1/orders", "/admin/v1/refunds"
	const one, cancel, done = orders + "/{order}", orders + "/{order}/cancel", refunds + "/{payment}/done"
	var id seckill.OrderID
	get := func(name, pattern, query string, status int, code problem.Code, want func(*answer)) row {
		return row{name: name, pattern: pattern, method: "GET", path: fill(pattern) + query, status: status, code: code, want: want}
	}
	settle := func(name, payment, body string, status int, code problem.Code, want func(*answer)) row {
		path := refunds + "/" + payment + "/done"
		return row{name: name, pattern: done, method: "POST", path: path, body: body, status: status, code: code, want: want}
	}
	// The order is known when the row runs.
	ofOrder := func(name, pattern, method string, make func(s *shop), status int, code problem.Code, want func(*answer)) row {
		return row{name: name, pattern: pattern, method: method, letters: 0, before: make, status: status, code: code, want: want,
			place: func([]int64) (path, body string) { return strings.Replace(pattern, "{order}", string(id), 1), "" }}
	}
	none := string(seckill.NewOrderID(1, app, "nobody", "k"))
	return []row{
		get("none", orders, "?user=nobody", 200, "", nil),
		ofOrder("open", one, "GET", func(s *shop) { id = s.order("r-1", "k") }, 200, "", has("status", "pending_payment")),
		ofOrder("open", cancel, "POST", func(s *shop) { id = s.order("r-2", "k") }, 200, "", has("reason", "cancelled-by-buyer")),
		ofOrder("again", cancel, "POST", nil, 200, "", has("status", "cancelled")),
		ofOrder("paid", cancel, "POST", func(s *shop) { id = s.order("r-3", "k"); s.pay(id, "r-p3", 1999) }, 409, problem.NotCancellable, nil),
		ofOrder("late", one, "GET", func(s *shop) { id = s.late("r-4", "r-p4") }, 200, "", has("status", "refund_due")),
		{name: "unknown", pattern: one, method: "GET", path: orders + "/" + none, status: 404, code: problem.UnknownOrder},
		{name: "no id", pattern: one, method: "GET", path: orders + "/what", status: 404, code: problem.UnknownOrder},
		{name: "unknown", pattern: cancel, method: "POST", path: orders + "/" + none + "/cancel", status: 404, code: problem.UnknownOrder},
		get("unknown parameter", orders, "?usr=u", 400, problem.InvalidRequest, wrong("parameter usr: is unknown")),
		get("twice", orders, "?user=u&user=v", 400, problem.InvalidRequest, wrong("parameter user: is given more than once")),
		get("empty", orders, "?user=", 400, problem.InvalidRequest, wrong("parameter user: must not be empty: leave it out")),
		get("long names of other scripts", orders, "?user="+strings.Repeat("界", 128)+"&sku="+strings.Repeat("界", 64), 200, "", nil),
		get("longer ones", orders, "?user="+strings.Repeat("界", 129)+"&sku="+strings.Repeat("s", 65), 400, problem.InvalidRequest,
			wrong("parameter user: must be at most 128 characters", "parameter sku: must be at most 64 characters")),
		get("mistakes", orders, "?order=x&caller=/a&from=2026-06-18&to=never", 400, problem.InvalidRequest, wrong(
			"parameter order: is not an order id", "parameter caller: must be merchant/caller, or the caller's own name",
			"parameter from: must be a time like 2026-06-18T20:00:00+08:00 (RFC 3339)",
			"parameter to: must be a time like 2026-06-18T20:00:00+08:00 (RFC 3339)")),
		get("times", orders, "?from=2026-06-19T00:00:00Z&to=2026-06-18T00:00:00Z", 400, problem.InvalidRequest,
			wrong("parameter to: must be after from")),
		get("two merchants", orders, "?merchant=m1&caller=m2/app", 400, problem.InvalidRequest,
			wrong("parameter caller: is a caller of another merchant than the parameter merchant")),
		get("no cursor", orders, "?after=what", 400, problem.InvalidRequest,
			wrong("parameter after: is not a cursor: send the value of next from an answer")),
		get("all", orders+"/export", "?activity=618", 200, "", nil),
		get("as CSV", orders+"/export", "?activity=618&format=csv", 200, "", nil),
		get("without an activity", orders+"/export", "", 400, problem.InvalidRequest, wrong("parameter activity: is required")),
		get("as XML", orders+"/export", "?activity=618&format=xml", 400, problem.InvalidRequest,
			wrong("parameter format: must be ndjson or csv")),
		get("unknown", orders+"/export", "?activity=none", 404, problem.UnknownActivity, nil),
		get("due", refunds, "?merchant=m1", 200, "", nil),
		get("done", refunds, "?state=done", 200, "", nil),
		get("booked", refunds, "?state=booked", 400, problem.InvalidRequest, wrong("parameter state: must be due or done")),
		settle("unknown", "nothing", `{"reference":"re-1"}`, 404, problem.UnknownPayment, nil),
		settle("of another merchant", "r-p4", `{"reference":"re-1","merchant":"m2"}`, 404, problem.UnknownPayment, nil),
		settle("more than is due", "r-p4", `{"reference":"re-1","amount":2000,"currency":"CNY"}`, 409, problem.RefundAmount, nil),
		settle("that paid its order", "r-p3", `{"reference":"re-1"}`, 409, problem.NotRefundable, nil),
		settle("with a long reference of another script", "nothing", `{"reference":"`+strings.Repeat("界", 200)+`"}`, 404, problem.UnknownPayment, nil),
		settle("with a longer one", "nothing", `{"reference":"`+strings.Repeat("界", 201)+`"}`, 400, problem.InvalidRequest,
			wrong("reference: must be at most 200 characters")),
		settle("without a reference", "r-p4", `{"reason":"x"}`, 400, problem.InvalidRequest, wrong("reference: is required")),
		settle("an amount without a currency", "r-p4", `{"reference":"x","amount":1}`, 400, problem.InvalidRequest, wrong("currency: is required")),
		settle("due", "r-p4", `{"reference":"re-1","reason":"sent"}`, 200, "", has("order_status", "refunded")),
		settle("twice", "r-p4", `{"reference":"re-1"}`, 409, problem.RefundSettled, nil),
		{name: "half an hour", pattern: "/admin/v1/activities/{activity}/extend", method: "POST", body: `{"by":"30m","reason":"away"}`,
			status: 200, want: has("by", "30m")},
		{name: "unknown", pattern: "/admin/v1/activities/{activity}/extend", method: "POST", path: "/admin/v1/activities/none/extend",
			body: `{"by":"30m"}`, status: 404, code: problem.UnknownActivity},
		{name: "back", pattern: "/admin/v1/activities/{activity}/extend", method: "POST", body: `{"by":"-30m"}`, status: 400,
			code: problem.InvalidRequest, want: wrong("by: must be from 1s to 720h")},
		get("all", "/admin/v1/merchants/{merchant}/statement", "", 200, "", has("merchant", "m1")),
		get("days", "/admin/v1/merchants/{merchant}/statement", "?from=2026-06-18&to=2096-06-19", 200, "", nil),
		get("as CSV", "/admin/v1/merchants/{merchant}/statement", "?format=csv", 200, "", nil),
		get("days to come", "/admin/v1/merchants/{merchant}/statement", "?from=2096-06-18", 400, problem.InvalidRequest,
			wrong("parameter from: must be in the past, or before to")),
		get("no days that were", "/admin/v1/merchants/{merchant}/statement", "?to=0639-01-28", 400, problem.InvalidRequest,
			wrong("parameter to: must be a day like 2026-06-18, or a time like 2026-06-18T20:00:00+08:00 (RFC 3339)")),
		get("bad days", "/admin/v1/merchants/{merchant}/statement", "?from=2026-06-31", 400, problem.InvalidRequest,
			wrong("parameter from: must be a day like 2026-06-18, or a time like 2026-06-18T20:00:00+08:00 (RFC 3339)")),
		{name: "unknown", pattern: "/admin/v1/merchants/{merchant}/statement", method: "GET", path: "/admin/v1/merchants/none/statement",
			status: 404, code: problem.UnknownMerchant},
	}
}

// ids returns the orders that a search finds, page by page.
func (s *shop) ids(query string) (found []string) {
	s.t.Helper()
	for next := ""; ; {
		var doc ordersDoc
		s.must(200, "GET", "/admin/v1/orders?"+query+next, "").read(&doc)
		for _, o := range doc.Orders {
			found = append(found, string(o.Order))
		}
		if doc.Next == "" {
			return found
		}
		next = "&after=" + url.QueryEscape(doc.Next)
	}
}

func TestOrders_AreFoundByWhatPeopleKnow(t *testing.T) {
	s := open(t, nil)
	s.sell()
	var all []string
	for i := range 5 {
		all = append([]string{string(s.order(seckill.UserID(fmt.Sprint("u-", i)), "k"))}, all...)
	}
	second := s.order("u-0", "other")
	s.pay(second, "pay-1", 1999)
	if got := s.ids("merchant=m1&limit=2"); len(got) != 6 || got[0] != string(second) {
		t.Errorf("all orders: %v", got)
	}
	for query, want := range map[string][]string{
		"user=u-0":                             {string(second), all[4]},
		"user=u-0&state=paid":                  {string(second)},
		"order=" + all[2]:                      {all[2]},
		"order=" + all[2] + "&user=u-0":        nil,
		"payment=pay-1":                        {string(second)},
		"payment=pay-1&merchant=m2":            nil,
		"request_id=req-u-3-k":                 {all[1]},
		"caller=m1/app&user=u-4":               {all[0]},
		"caller=app&sku=phone-x&state=paid":    {string(second)},
		"activity=none":                        nil,
		"state=paid&to=2020-01-01T00:00:00Z":   nil,
		"state=paid&from=2020-01-01T00:00:00Z": {string(second)},
	} {
		if got := s.ids(query + "&limit=1"); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}

func TestOrders_ACursorBelongsToItsQuery(t *testing.T) {
	s := open(t, nil)
	s.sell()
	for i := range 3 {
		s.order(seckill.UserID(fmt.Sprint("u-", i)), "k")
	}
	var doc ordersDoc
	s.must(200, "GET", "/admin/v1/orders?merchant=m1&limit=1", "").read(&doc)
	cursor := "&after=" + url.QueryEscape(doc.Next)
	s.must(200, "GET", "/admin/v1/orders?merchant=m1&limit=2"+cursor, "")
	other := s.do("GET", "/admin/v1/orders?activity=618"+cursor, "")
	other.refused(problem.InvalidRequest)
	const want = "parameter after: is the cursor of another query: send it with the same parameters as before"
	if got := other.mistakes(); len(got) != 1 || got[0] != want {
		t.Errorf("%v", got)
	}
}

// TestOrders_ATimelineTellsAWholeLife: a buyer has paid, and her order is cancelled; the timeline
// explains it.
func TestOrders_ATimelineTellsAWholeLife(t *testing.T) {
	s := open(t, nil)
	s.sell()
	id := s.order("u-17", "k")
	s.must(200, "POST", "/admin/v1/activities/618/extend", `{"by":"10m","reason":"the provider was away"}`)
	s.must(200, "POST", "/admin/v1/orders/"+string(id)+"/cancel", `{"reason":"she called"}`)
	s.pay(id, "pay-1", 1999)
	s.pay(id, "pay-1", 5) // refused: the id is used
	s.pay(id, "pay-2", 5) // a wrong amount
	s.must(200, "POST", "/admin/v1/refunds/pay-1/done", `{"reference":"re-9"}`)
	s.must(200, "POST", "/admin/v1/refunds/pay-2/done", `{"reference":"re-10"}`)
	s.deliver()
	var doc orderDetailsDoc
	s.must(200, "GET", "/admin/v1/orders/"+string(id), "").read(&doc)
	steps := make(map[string]string)
	var last time.Time
	place := make(map[string]int)
	for i, step := range doc.Timeline {
		place[string(step.Step)] = i
		steps[string(step.Step)] += step.Detail + "; "
		if time.Time(step.At).Before(last) {
			t.Errorf("%s comes before what is listed in front of it", step.Step)
		}
		last = time.Time(step.At)
	}
	if place["row"] > place["confirm"] || place["confirm"] > place["extend"] || place["cancel"] > place["settle"] {
		t.Errorf("the stock is told of what was written: %v", place)
	}
	for step, want := range map[string]string{
		"click": "m1/app", "hold": "write 7", "page": "partition 2, offset 40", "row": "to be paid by", "extend": "the provider was away",
		"cancel": "she called", "payment": "pay-1 of 19.99 CNY", "refused": "idempotency-key-reused", "refund-due": "late", "refund": "re-9",
		"settle": "the units are back", "confirm": "knows that the order exists",
	} {
		if !strings.Contains(steps[step], want) {
			t.Errorf("step %s: %q has no %q", step, steps[step], want)
		}
	}
	if doc.Timeline[0].Step != "click" || *doc.Timeline[0].Node != "gw-1" || *doc.Timeline[0].RequestID != "req-u-17-k" {
		t.Errorf("the click: %+v", doc.Timeline[0])
	}
	if doc.Status != seckill.OrderRefunded || len(doc.Payments) != 3 {
		t.Errorf("%s, payments %+v", doc.Status, doc.Payments)
	}
}

func TestRefunds_AddUp(t *testing.T) {
	s := open(t, nil)
	s.sell()
	for i := range 3 {
		s.late(seckill.UserID(fmt.Sprint("u-", i)), seckill.PaymentID(fmt.Sprint("late-", i)))
	}
	paid := s.order("u-9", "k")
	s.pay(paid, "good", 1999)
	s.pay(paid, "second", 1999)
	s.pay(paid, "wrong", 7)
	var first, rest refundsDoc
	s.must(200, "GET", "/admin/v1/refunds?limit=4", "").read(&first)
	s.must(200, "GET", "/admin/v1/refunds?limit=4&after="+url.QueryEscape(first.Next), "").read(&rest)
	if len(first.Refunds) != 4 || len(rest.Refunds) != 1 || rest.Next != "" {
		t.Fatalf("%d and %d refunds, then %q", len(first.Refunds), len(rest.Refunds), rest.Next)
	}
	if len(first.Sum) != 1 || first.Sum[0].Amount != 4*1999+7 || first.Sum[0].Count != 5 || len(first.Sum[0].By) != 3 {
		t.Errorf("sum %+v", first.Sum)
	}
	if d := first.Refunds[0]; d.Payment != "wrong" || d.Cause != seckill.CauseWrongAmount || d.Order != paid || d.Amount != 7 {
		t.Errorf("the last one: %+v", d)
	}
	for _, p := range []string{"late-0", "late-1", "late-2", "second", "wrong"} {
		s.must(200, "POST", "/admin/v1/refunds/"+p+"/done", `{"reference":"re","merchant":"m1"}`)
	}
	var doc statementDoc
	s.must(200, "GET", "/admin/v1/merchants/m1/statement", "").read(&doc)
	if len(doc.Total) != 1 {
		t.Fatalf("%+v", doc.Total)
	}
	sum := doc.Total[0]
	if sum.Sold != (orderTallyDoc{1, 1, 1999}) || sum.Cancelled != (orderTallyDoc{3, 3, 3 * 1999}) ||
		sum.RefundDue != (paymentTallyDoc{}) || sum.Refunded != (paymentTallyDoc{5, 4*1999 + 7}) {
		t.Errorf("%+v", sum)
	}
	var rows [][]string
	a := s.must(200, "GET", "/admin/v1/merchants/m1/statement?format=csv", "")
	rows, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
	if err != nil || len(rows) != 2 || rows[1][13] != fmt.Sprint(4*1999+7) {
		t.Errorf("%v, %v", rows, err)
	}
}

// TestExport_HasNoFormulas: buyers and shops choose these texts, and people open them in
// spreadsheets.
func TestExport_HasNoFormulas(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "u-1": "u-1", "=1+1": "'=1+1", "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t=1", "+8613800000000": "+8613800000000", "-5": "-5",
		"-2+3+cmd|' /C calc'!A0": "'-2+3+cmd|' /C calc'!A0", "+": "+", "'=1": "'=1",
	} {
		if got := cellText(text); got != want {
			t.Errorf("%q is written as %q, want %q", text, got, want)
		}
	}
	s := open(t, nil)
	s.sell()
	s.order("=HYPERLINK(1)", "k")
	a := s.must(200, "GET", "/admin/v1/orders/export?activity=618&format=csv", "")
	if !strings.Contains(a.body, ",'=HYPERLINK(1),") {
		t.Error(a.body)
	}
	if a := s.must(200, "GET", "/admin/v1/orders/export?activity=618", ""); !strings.Contains(a.body, `"=HYPERLINK(1)"`) {
		t.Error(a.body)
	}
}

func TestExport_HasEveryOrderOnce(t *testing.T) {
	s := open(t, nil)
	s.sell()
	s.restock(3000, "more")
	const count = exportPage + 5 // more than is read at once
	for i := range count {
		s.order(seckill.UserID(fmt.Sprint("u-", i)), "k")
	}
	seen := make(map[string]bool)
	for _, format := range []string{"ndjson", "csv"} {
		a := s.must(200, "GET", "/admin/v1/orders/export?activity=618&format="+format, "")
		clear(seen)
		if format == "csv" {
			rows, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
			if err != nil || strings.Join(rows[0], ",") != strings.Join(orderColumns, ",") {
				t.Fatal(rows[0], err)
			}
			for _, row := range rows[1:] {
				seen[row[0]] = true
			}
		} else {
			lines := bufio.NewScanner(strings.NewReader(a.body))
			for lines.Scan() {
				line := &answer{t, a.request, a.Response, lines.Text()}
				seen[line.member("order")] = true
			}
		}
		if len(seen) != count {
			t.Errorf("%s: %d orders, want %d", format, len(seen), count)
		}
	}
	head := s.must(200, http.MethodHead, "/admin/v1/orders/export?activity=618&format=csv", "")
	if head.Header.Get("Content-Type") != typeCSV || !strings.Contains(head.Header.Get("Content-Disposition"), "orders-618.csv") {
		t.Errorf("%v", head.Header)
	}
}
