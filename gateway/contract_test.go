package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"go.yaml.in/yaml/v4"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// row is one row of the contract: a request, the answer of Sales or the gate, and the expected
// response.
type row struct {
	name   string
	method string
	path   string
	body   string
	fields []string // of the request, as in request
	sales  func(*stubSales)
	gate   *Denial
	status int
	code   problem.Code
	want   map[string]string // header fields of the answer; "*" is anything, "" is absent
	member map[string]any    // of the answer's body
}

var orderPath = "/v1/orders/" + string(testOrderID)

// goodSignature has the right form. Sales decides whether it fits the body.
var goodSignature = "t=1781740800,v1=" + strings.Repeat("0a", 32)

func paymentBody(order seckill.OrderID) string {
	return fmt.Sprintf(`{"payment":"pay-1","order":%q,"amount":1999,"currency":"CNY"}`, order)
}

func buying(o seckill.Order, replayed bool, err error) func(*stubSales) {
	return func(s *stubSales) {
		s.buy = func(context.Context, *seckill.Purchase) (seckill.Receipt, error) {
			return seckill.Receipt{Order: o, Replayed: replayed}, err
		}
	}
}

func finding(o seckill.Order, err error) func(*stubSales) {
	return func(s *stubSales) {
		s.find = func(context.Context, *seckill.Caller, seckill.OrderID, time.Duration) (seckill.Order, error) {
			return o, err
		}
	}
}

func cancelling(o seckill.Order, err error) func(*stubSales) {
	return func(s *stubSales) {
		s.cancel = func(context.Context, *seckill.Caller, seckill.OrderID) (seckill.Order, error) { return o, err }
	}
}

func paying(o seckill.Order, err error) func(*stubSales) {
	return func(s *stubSales) {
		s.pay = func(context.Context, *seckill.Notice) (seckill.Order, error) { return o, err }
	}
}

var (
	errBroken  = errors.New("a hunter2 address")
	errUnknown = &seckill.Unknown{Order: testOrderID, RetryAfter: 2 * time.Second, Err: errBroken}
	errAway    = &seckill.Failure{Code: seckill.CodeUnavailable, Err: errBroken}
	errBusy    = &seckill.Failure{Code: seckill.CodeOverloaded, Err: errBroken}
)

func no(code seckill.Code) error { return &seckill.Refusal{Code: code} }

// limited is the answer of a limiter that refuses.
var limited = &Denial{
	Problem:   problem.Problem{Code: problem.RateLimited, Limit: "caller", RetryAfter: 1500 * time.Millisecond},
	RateLimit: `"caller";r=0;t=2`, RateLimitPolicy: `"caller";q=400;w=1`,
}

func buyRows() []row {
	queued, pending := testOrder(seckill.OrderQueued), testOrder(seckill.OrderPending)
	buy := func(name string, sales func(*stubSales), status int, code problem.Code) row {
		return row{name: name, method: "POST", path: "/v1/orders", body: goodBody, sales: sales, status: status, code: code}
	}
	with := func(r row, change func(*row)) row { change(&r); return r }
	later := map[string]string{"Retry-After": "*"}
	return []row{
		with(buy("accepted", buying(queued, false, nil), 202, ""), func(r *row) {
			r.want = map[string]string{"Location": orderPath, "Retry-After": "1", "Idempotent-Replayed": "", "Preference-Applied": ""}
			r.member = map[string]any{"order": string(testOrderID), "status": "queued", "pay_by": nil}
		}),
		with(buy("exists", buying(pending, false, nil), 201, ""), func(r *row) {
			r.fields = []string{"Prefer", "wait=3"}
			r.want = map[string]string{"Location": orderPath, "Idempotent-Replayed": "", "Preference-Applied": "wait=3", "Retry-After": ""}
			r.member = map[string]any{"status": "pending_payment", "pay_by": "2026-06-18T00:15:00.000Z"}
		}),
		with(buy("replayed queued", buying(queued, true, nil), 202, ""), func(r *row) {
			r.want = map[string]string{"Location": orderPath, "Idempotent-Replayed": "true"}
		}),
		with(buy("replayed paid", buying(testOrder(seckill.OrderPaid), true, nil), 201, ""), func(r *row) {
			r.want = map[string]string{"Idempotent-Replayed": "true"}
			r.member = map[string]any{"status": "paid"}
		}),
		with(buy("replayed cancelled", buying(testOrder(seckill.OrderCancelled), true, nil), 201, ""), func(r *row) {
			r.member = map[string]any{"status": "cancelled", "reason": "cancelled-by-buyer"}
		}),
		with(buy("malformed", nil, 400, problem.InvalidRequest), func(r *row) { r.body = `{"activity":` }),
		with(buy("no key", nil, 401, problem.Unauthenticated), func(r *row) {
			r.fields = []string{"Authorization", ""}
			r.want = map[string]string{"WWW-Authenticate": `Bearer realm="penstock"`}
		}),
		with(buy("unknown key", nil, 401, problem.Unauthenticated), func(r *row) {
			r.fields = []string{"Authorization", "Bearer nobody"}
			r.want = map[string]string{"WWW-Authenticate": `Bearer realm="penstock", error="invalid_token"`}
		}),
		with(buy("without the right", nil, 403, problem.Forbidden),
			func(r *row) { r.fields = []string{"Authorization", "Bearer " + ownerKey} }),
		with(buy("risk", nil, 403, problem.RiskRejected),
			func(r *row) { r.gate = &Denial{Problem: problem.Problem{Code: problem.RiskRejected}} }),
		buy("unknown activity", buying(queued, false, no(seckill.CodeUnknownActivity)), 404, problem.UnknownActivity),
		buy("unknown item", buying(queued, false, no(seckill.CodeUnknownItem)), 404, problem.UnknownItem),
		with(buy("not started", buying(queued, false, &seckill.Refusal{Code: seckill.CodeNotStarted,
			StartsAt: opening}), 409, problem.NotStarted),
			func(r *row) {
				r.want = later
				r.member = map[string]any{"starts_at": "2026-06-18T00:00:00.000Z", "retryable": true}
			}),
		buy("ended", buying(queued, false, no(seckill.CodeEnded)), 409, problem.Ended),
		with(buy("sold out", buying(queued, false, no(seckill.CodeSoldOut)), 409, problem.SoldOut), func(r *row) {
			r.want = map[string]string{"Retry-After": "", "Location": ""}
			r.member = map[string]any{"type": "/problems/sold-out", "retryable": false, "retry_after_ms": nil}
		}),
		buy("purchase limit", buying(queued, false, no(seckill.CodePurchaseLimit)), 409, problem.PurchaseLimit),
		with(buy("too large", nil, 413, problem.TooLarge), func(r *row) {
			r.body = strings.Repeat(" ", 20<<10)
			r.want = map[string]string{"Connection": "close"}
		}),
		with(buy("wrong content type", nil, 415, problem.UnsupportedMediaType), func(r *row) {
			r.fields = []string{"Content-Type", "application/x-www-form-urlencoded"}
		}),
		buy("key reused", buying(queued, false, no(seckill.CodeKeyReused)), 422, problem.KeyReused),
		with(buy("rate limited", nil, 429, problem.RateLimited), func(r *row) {
			r.gate = limited
			r.want = map[string]string{"Retry-After": "*", "RateLimit": limited.RateLimit, "RateLimit-Policy": limited.RateLimitPolicy}
			r.member = map[string]any{"limit": "caller", "retryable": true}
		}),
		buy("a bug", buying(queued, false, errBroken), 500, problem.Internal),
		with(buy("paused", buying(queued, false, no(seckill.CodePaused)), 503, problem.Degraded), func(r *row) { r.want = later }),
		with(buy("busy", buying(queued, false, errBusy), 503, problem.Overloaded), func(r *row) { r.want = later }),
		with(buy("failed", buying(queued, false, errAway), 503, problem.Unavailable), func(r *row) {
			r.want = map[string]string{"Retry-After": "*", "Location": ""}
			r.member = map[string]any{"order": nil, "retryable": true}
		}),
		with(buy("outcome unknown", buying(queued, false, errUnknown), 503, problem.Unavailable), func(r *row) {
			r.want = map[string]string{"Retry-After": "*", "Location": orderPath}
			r.member = map[string]any{"order": string(testOrderID), "retryable": true}
		}),
	}
}

func orderRows() []row {
	get := func(name string, sales func(*stubSales), status int, code problem.Code) row {
		return row{name: "find " + name, method: "GET", path: orderPath, sales: sales, status: status, code: code}
	}
	cancel := func(name string, sales func(*stubSales), status int, code problem.Code) row {
		return row{name: "cancel " + name, method: "POST", path: orderPath + "/cancel", sales: sales, status: status, code: code}
	}
	var rows []row
	for _, state := range []seckill.OrderState{seckill.OrderPending, seckill.OrderPaid, seckill.OrderCancelled, seckill.OrderRejected,
		seckill.OrderRefundDue, seckill.OrderRefunded} {
		r := get(string(state), finding(testOrder(state), nil), 200, "")
		r.want = map[string]string{"Retry-After": "", "Cache-Control": "no-store"}
		r.member = map[string]any{"status": string(state), "amount": 1999.0, "created_at": "2026-06-18T00:00:00.000Z"}
		rows = append(rows, r)
	}
	queued := get("queued", finding(testOrder(seckill.OrderQueued), nil), 200, "")
	queued.fields = []string{"Prefer", "respond-async, wait=99"}
	queued.want = map[string]string{"Retry-After": "1", "Preference-Applied": "wait=10"}
	queued.member = map[string]any{"status": "queued", "created_at": nil, "pay_by": nil, "updated_at": nil, "reason": nil}
	noKey, junk, ownerCancels, limitedFind, limitedCancel, noKeyCancel, large := get("without key", nil, 401, problem.Unauthenticated),
		get("what is no id", nil, 404, problem.UnknownOrder), cancel("without the right", nil, 403, problem.Forbidden),
		get("too often", nil, 429, problem.RateLimited), cancel("too often", nil, 429, problem.RateLimited),
		cancel("without key", nil, 401, problem.Unauthenticated), cancel("with a large body", nil, 413, problem.TooLarge)
	noKey.fields, noKeyCancel.fields = []string{"Authorization", ""}, []string{"Authorization", ""}
	junk.path = "/v1/orders/nonsense"
	ownerCancels.fields = []string{"Authorization", "Bearer " + ownerKey}
	limitedFind.gate, limitedCancel.gate = limited, limited
	large.body = strings.Repeat(" ", 20<<10)
	none := seckill.Order{}
	return append(rows, queued, noKey, junk, ownerCancels, limitedFind, limitedCancel, noKeyCancel, large,
		get("another's", finding(none, no(seckill.CodeUnknownOrder)), 404, problem.UnknownOrder),
		get("a bug", finding(none, errBroken), 500, problem.Internal),
		get("failed", finding(none, errAway), 503, problem.Unavailable),
		cancel("ok", cancelling(testOrder(seckill.OrderCancelled), nil), 200, ""),
		cancel("paid", cancelling(none, no(seckill.CodeNotCancellable)), 409, problem.NotCancellable),
		cancel("another's", cancelling(none, no(seckill.CodeUnknownOrder)), 404, problem.UnknownOrder),
		cancel("a bug", cancelling(none, errBroken), 500, problem.Internal),
		cancel("outcome unknown", cancelling(none, errUnknown), 503, problem.Unavailable),
	)
}

func payRows() []row {
	pay := func(name string, sales func(*stubSales), status int, code problem.Code) row {
		return row{name: "pay " + name, method: "POST", path: "/v1/payments", body: paymentBody(testOrderID),
			sales: sales, status: status, code: code,
			fields: []string{"Authorization", "", "Idempotency-Key", "", "Penstock-Signature", goodSignature}}
	}
	unsigned, malformed, broken, form, large, often := pay("unsigned", nil, 401, problem.InvalidSignature),
		pay("malformed signature", nil, 401, problem.InvalidSignature), pay("broken body", nil, 400, problem.InvalidRequest),
		pay("form", nil, 415, problem.UnsupportedMediaType), pay("large", nil, 413,
			problem.TooLarge), pay("too often", nil, 429, problem.RateLimited)
	unsigned.fields = []string{"Authorization", ""}
	malformed.fields = []string{"Penstock-Signature", "t=1,v1=zz"}
	broken.body, large.body = `{"payment":1}`, strings.Repeat(" ", 20<<10)
	form.fields = append(slices.Clone(form.fields), "Content-Type", "text/plain")
	often.gate = limited
	none := seckill.Order{}
	return []row{
		unsigned, malformed, broken, form, large, often,
		pay("booked", paying(testOrder(seckill.OrderPaid), nil), 200, ""),
		pay("late", paying(testOrder(seckill.OrderRefundDue), nil), 200, ""),
		pay("wrong signature", paying(none, no(seckill.CodeInvalidSignature)), 401, problem.InvalidSignature),
		pay("unknown order", paying(none, no(seckill.CodeUnknownOrder)), 404, problem.UnknownOrder),
		pay("wrong amount", paying(none, no(seckill.CodeAmountMismatch)), 409, problem.AmountMismatch),
		pay("payment reused", paying(none, no(seckill.CodeKeyReused)), 422, problem.KeyReused),
		pay("a bug", paying(none, errBroken), 500, problem.Internal),
		pay("failed", paying(none, errAway), 503, problem.Unavailable),
	}
}

func otherRows() []row {
	phones := "/v1/activities/618-phones"
	fresh := map[string]string{"ETag": "*", "Cache-Control": "private, max-age=1"}
	html := map[string]string{"Content-Type": "text/html; charset=utf-8", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "*"}
	broken := func(s *stubSales) { s.inStock = func(seckill.Offer) bool { panic("a hunter2 bug") } }
	rows := []row{
		{name: "activity", method: "GET", path: phones, status: 200, want: fresh,
			member: map[string]any{"activity": "618-phones", "name": "Phones for 6.18",
				"starts_at": "2026-06-18T00:00:00.000Z", "ends_at": "2026-06-18T02:00:00.000Z"}},
		{name: "activity with an odd name", method: "GET", path: "/v1/activities/a%2Fb%20%C3%bc", status: 200,
			member: map[string]any{"state": "paused"}},
		{name: "activity unchanged", method: "GET", path: phones, fields: []string{"If-None-Match", "*"}, status: 304, want: fresh},
		{name: "activity without key", method: "GET", path: phones, fields: []string{"Authorization", ""},
			status: 401, code: problem.Unauthenticated},
		{name: "activity of another merchant", method: "GET", path: phones, fields: []string{"Authorization", "Bearer " + strangerKey},
			status: 404, code: problem.UnknownActivity, want: map[string]string{"Cache-Control": "no-store"}},
		{name: "activity unknown", method: "GET", path: "/v1/activities/nope", status: 404, code: problem.UnknownActivity},
		{name: "draft", method: "GET", path: "/v1/activities/soon", status: 404, code: problem.UnknownActivity},
		{name: "draft of the owner", method: "GET", path: "/v1/activities/soon", fields: []string{"Authorization", "Bearer " + ownerKey},
			status: 200, want: map[string]string{"Cache-Control": "no-store"}, member: map[string]any{"state": "draft"}},
		{name: "activity too often", method: "GET", path: phones, gate: limited, status: 429, code: problem.RateLimited},
		{name: "activity a bug", method: "GET", path: phones, sales: broken, status: 500, code: problem.Internal},
		{name: "activity switched off", method: "GET", path: phones,
			gate:   &Denial{Problem: problem.Problem{Code: problem.Degraded, RetryAfter: time.Second}},
			status: 503, code: problem.Degraded},
		{name: "live", method: "GET", path: "/livez", fields: []string{"Authorization", ""}, status: 200,
			member: map[string]any{"status": "alive"}},
		{name: "ready", method: "GET", path: "/readyz", fields: []string{"Authorization", ""}, status: 200,
			member: map[string]any{"status": "ready"}},
		{name: "ready, verbose", method: "GET", path: "/readyz?verbose", fields: []string{"Authorization", ""}, status: 200,
			member: map[string]any{"ready": true, "draining": false}},
		{name: "not ready, verbose", method: "GET", path: "/readyz?verbose", fields: []string{"Authorization", ""}, status: 503,
			sales: func(s *stubSales) { s.missing = "no catalog" }, member: map[string]any{"ready": false}},
		{name: "contract", method: "GET", path: "/openapi.yaml", fields: []string{"Authorization", ""}, status: 200,
			want: map[string]string{"Content-Type": "application/yaml"}},
		{name: "index", method: "GET", path: "/problems", fields: []string{"Accept", "text/html"}, status: 200, want: html},
		{name: "index as text", method: "GET", path: "/problems", status: 200,
			want: map[string]string{"Content-Type": "text/plain; charset=utf-8"}},
		{name: "no page", method: "GET", path: "/problems/nope", status: 404, code: problem.NotFound},
	}
	rows = append(rows, row{
		name: "not ready", method: "GET", path: "/readyz", fields: []string{"Authorization", ""}, status: 503, code: problem.Unavailable,
		sales: func(s *stubSales) { s.missing = "no catalog" },
		want:  map[string]string{"Retry-After": "*"}, member: map[string]any{"not_ready": []any{"no catalog"}},
	})
	for _, e := range problem.Entries() {
		rows = append(rows, row{name: "page of " + string(e.Code), method: "GET", path: "/problems/" + string(e.Code),
			fields: []string{"Accept", "text/html,*/*", "Authorization", ""}, status: 200, want: html})
	}
	return rows
}

// stubGate answers as the test sets, and remembers the visits that left.
type stubGate struct {
	mu     sync.Mutex
	denial *Denial // guarded by mu, like the rest
	grant  func(*Visit)
	left   []int
	visits []Visit
}

func (g *stubGate) Stranger(*Visit) *Denial { return nil }

func (g *stubGate) Enter(v *Visit) *Denial {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.visits = append(g.visits, *v)
	if g.grant != nil {
		g.grant(v)
	}
	return g.denial
}

func (g *stubGate) Leave(_ *Visit, status int, _ time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = append(g.left, status)
}

func (g *stubGate) become(denial *Denial) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.denial = denial
}

// TestContract sends a request for every row of the contract to a running server. It checks each
// answer against the contract: status, code, header fields, members, and the schemas of
// openapi.yaml. At the end, every status in openapi.yaml must have been seen.
func TestContract(t *testing.T) {
	document, err := libopenapi.NewDocument(contract)
	if err != nil {
		t.Fatal(err)
	}
	check, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, bad := check.ValidateDocument(); !ok {
		t.Fatalf("openapi.yaml isn't valid: %v", bad)
	}
	gate, seen := &stubGate{}, make(map[string]bool)
	s := start(t, func(c *Config) { c.Gate = gate })
	for _, r := range slices.Concat(buyRows(), orderRows(), payRows(), otherRows()) {
		t.Run(r.name, func(t *testing.T) {
			gate.become(r.gate)
			s.sales.become(func(sales *stubSales) {
				sales.buy, sales.find, sales.cancel, sales.pay, sales.inStock, sales.missing = nil, nil, nil, nil, nil, ""
				if r.sales != nil {
					r.sales(sales)
				}
			})
			req := s.request(t, r.method, r.path, r.body, r.fields...)
			resp, body := do(t, req)
			checkRow(t, &r, resp, body)
			resp.Body = asBody(body)
			if ok, bad := check.ValidateHttpResponse(req, resp); !ok {
				for _, e := range bad {
					t.Errorf("openapi.yaml: %s: %s %v", e.Message, e.Reason, e.SchemaValidationErrors)
				}
			}
			route, _ := match([]byte(req.URL.EscapedPath()))
			seen[r.method+" "+routes[route].pattern+" "+strconv.Itoa(r.status)] = true
		})
	}
	for _, want := range documented(t) {
		if !seen[want] {
			t.Errorf("openapi.yaml documents %s, which no row provokes", want)
		}
	}
}

// checkRow checks an answer against its row, and against the rules for all answers.
func checkRow(t *testing.T, r *row, resp *http.Response, body string) {
	t.Helper()
	if resp.StatusCode != r.status {
		t.Fatalf("status %d, want %d: %s", resp.StatusCode, r.status, body)
	}
	if resp.Header.Get("X-Request-Id") == "" {
		t.Error("no X-Request-Id")
	}
	if got := resp.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options %q", got)
	}
	if challenge := resp.Header.Get("WWW-Authenticate"); (challenge != "") != (resp.StatusCode == http.StatusUnauthorized) {
		t.Errorf("status %d with WWW-Authenticate %q", resp.StatusCode, challenge)
	}
	if strings.Contains(body, "hunter2") {
		t.Errorf("leaks the error: %s", body)
	}
	for name, want := range r.want {
		got := resp.Header.Get(name)
		if name == "Connection" && resp.Close {
			got = "close"
		}
		if want == "*" && got == "" || want != "*" && got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var members map[string]any
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal([]byte(body), &members); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
	}
	for name, want := range r.member {
		if got := members[name]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if r.code == "" {
		return
	}
	if got := resp.Header.Get("Content-Type"); got != problem.ContentType {
		t.Errorf("Content-Type %q", got)
	}
	if members["code"] != string(r.code) || members["type"] != "/problems/"+string(r.code) || members["status"] != float64(r.status) {
		t.Errorf("got %s", body)
	}
	retry := resp.Header.Get("Retry-After")
	ms, told := members["retry_after_ms"].(float64)
	if told != (retry != "") {
		t.Errorf("Retry-After %q, body %s", retry, body)
	}
	if told {
		if n, err := strconv.Atoi(retry); err != nil || n < 1 || float64(n)*1000 < ms {
			t.Errorf("Retry-After %q, retry_after_ms %v", retry, ms)
		}
	}
}

// openAPIFile has the parts of openapi.yaml that the tests read.
type openAPIFile struct {
	Paths map[string]map[string]struct {
		Responses map[string]any
	}
	Components struct {
		Schemas map[string]struct {
			Enum []string
		}
	}
}

func readContract(t *testing.T) openAPIFile {
	t.Helper()
	var file openAPIFile
	if err := yaml.Unmarshal(contract, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

// documented lists what openapi.yaml documents, as "METHOD /path status".
func documented(t *testing.T) []string {
	t.Helper()
	var out []string
	for path, methods := range readContract(t).Paths {
		for method, operation := range methods {
			for status := range operation.Responses {
				if status != "default" {
					out = append(out, strings.ToUpper(method)+" "+path+" "+status)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestContractHasTheRoutes(t *testing.T) {
	var want, got []string
	for _, r := range routes[1:] {
		method := "post"
		if r.read {
			method = "get"
		}
		want = append(want, method+" "+r.pattern)
	}
	for path, methods := range readContract(t).Paths {
		for method := range methods {
			got = append(got, method+" "+path)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("openapi.yaml has %v, the server %v", got, want)
	}
}

func TestContractHasTheCodes(t *testing.T) {
	var want []string
	for _, e := range problem.Entries() {
		if !e.Admin {
			want = append(want, string(e.Code))
		}
	}
	if got := readContract(t).Components.Schemas["Code"].Enum; !slices.Equal(got, want) {
		t.Errorf("openapi.yaml has %v, the catalogue %v", got, want)
	}
}

// TestContracts_KeysAreNoTexts: in a line like {description: First, then} YAML ends the text at the
// comma, and the rest becomes a key without a value.
func TestContracts_KeysAreNoTexts(t *testing.T) {
	for _, name := range []string{"openapi.yaml", "admin/openapi.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var document any
		if err := yaml.Unmarshal(text, &document); err != nil {
			t.Fatal(err)
		}
		for _, key := range keysWithoutValue(document) {
			if strings.Contains(key, " ") {
				t.Errorf("%s: the end of a text became the key %q: quote the text", name, key)
			}
		}
	}
}

// keysWithoutValue returns all keys of a YAML document whose value is null.
func keysWithoutValue(node any) (keys []string) {
	switch node := node.(type) {
	case map[string]any:
		for key, value := range node {
			if value == nil {
				keys = append(keys, key)
			}
			keys = append(keys, keysWithoutValue(value)...)
		}
	case []any:
		for _, value := range node {
			keys = append(keys, keysWithoutValue(value)...)
		}
	}
	return keys
}
