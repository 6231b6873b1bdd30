package admin

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"go.yaml.in/yaml/v4"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// openAPIFile has the parts of openapi.yaml that the tests read.
type openAPIFile struct {
	Paths map[string]map[string]yaml.Node
}

// operation is one operation of openapi.yaml.
type operation struct {
	method, path string
	Role         string `yaml:"x-role"`
	RequestBody  any    `yaml:"requestBody"`
	Responses    map[string]any
}

func operations(t *testing.T) []operation {
	t.Helper()
	var file openAPIFile
	if err := yaml.Unmarshal(contract, &file); err != nil {
		t.Fatal(err)
	}
	var all []operation
	for path, methods := range file.Paths {
		for method, node := range methods {
			if method == "parameters" {
				continue
			}
			o := operation{method: strings.ToUpper(method), path: path}
			if err := node.Decode(&o); err != nil {
				t.Fatal(err)
			}
			all = append(all, o)
		}
	}
	return all
}

func TestContractHasTheRoutesAndTheirRoles(t *testing.T) {
	var want, got []string
	for _, r := range routes() {
		want = append(want, r.method+" "+r.pattern+" "+roleName(r.role))
	}
	for _, o := range operations(t) {
		role := o.Role
		if role == "" {
			role = roleName(roleNone)
		}
		got = append(got, o.method+" "+o.path+" "+role)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("openapi.yaml:\n%s\nroutes:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// fill puts existing names into a path.
func fill(pattern string) string {
	return strings.NewReplacer("{merchant}", "m1", "{caller}", "app", "{activity}", "618", "{sku}", "phone-x", "{id}", "1", "{n}", "1",
		"{token}", "viewer", "{key_id}", "k-unknown", "{shard}", "1", "{code}", "sold-out", "{name}", "orders", "{node}", "gateway-1", "{payment}", "pay-1",
		"{order}", string(seckill.NewOrderID(1, app, "nobody", "k"))).Replace(pattern)
}

// row is one row of the contract: a request and what must come back.
type row struct {
	name         string
	pattern      string // as in openapi.yaml
	method, path string // path "": the pattern with names that are known
	body         string
	fields       []string
	before       func(*shop)
	after        func(*shop)
	letters      int                                   // how many dead letters there are before it
	place        func(ids []int64) (path, body string) // makes the request from their ids
	revertLast   bool                                  // path is that of reverting the newest change
	status       int
	code         problem.Code
	want         func(*answer)
}

// checked is a shop whose answers are checked against openapi.yaml.
type checked struct {
	*shop
	check validator.Validator
	seen  map[string]bool
}

func (c *checked) run(t *testing.T, pattern string, r *row) {
	c.t = t
	if r.before != nil {
		r.before(c.shop)
	}
	if r.after != nil {
		defer r.after(c.shop)
	}
	if ids := c.shop.letters(r.letters); r.place != nil {
		r.path, r.body = r.place(ids)
	}
	if r.revertLast {
		r.path = fmt.Sprintf("/admin/v1/changes/%d/revert", c.lastChange())
	}
	a := c.do(r.method, r.path, r.body, r.fields...)
	if a.StatusCode != r.status {
		t.Fatalf("%d, want %d: %s", a.StatusCode, r.status, a.body)
	}
	if a.Header.Get("X-Request-Id") == "" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("header: %v", a.Header)
	}
	if r.code != "" {
		a.refused(r.code)
		if retry := a.Header.Get("Retry-After"); (retry != "") != (a.member("retry_after_ms") != "<nil>") {
			t.Errorf("Retry-After %q: %s", retry, a.body)
		}
	}
	if r.want != nil {
		r.want(a)
	}
	if ok, bad := c.validate(a); !ok {
		t.Errorf("openapi.yaml: %s\n%s", bad, a.body)
	}
	c.seen[r.method+" "+pattern+" "+strconv.Itoa(r.status)] = true
}

func (c *checked) validate(a *answer) (bool, string) {
	if a.StatusCode == http.StatusMethodNotAllowed { // a path outside the contract can't be checked
		return true, ""
	}
	if strings.HasPrefix(a.Header.Get("Content-Type"), "text/") || a.Header.Get("Content-Type") == typeYAML ||
		a.Header.Get("Content-Type") == typeNDJSON {
		return true, ""
	}
	resp := *a.Response
	resp.Body = io.NopCloser(strings.NewReader(a.body))
	ok, bad := c.check.ValidateHttpResponse(a.request, &resp)
	var out strings.Builder
	for _, e := range bad {
		fmt.Fprintf(&out, "%s: %s", e.Message, e.Reason)
		for _, s := range e.SchemaValidationErrors {
			fmt.Fprintf(&out, "\n  %s: %s", s.FieldPath, s.Reason)
		}
	}
	return ok, out.String()
}

// TestContract sends a request for every row of the contract to a running listener, and checks each
// answer against openapi.yaml. At the end, every status in openapi.yaml must have been seen.
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
	seen := make(map[string]bool)
	c := &checked{open(t, nil), check, seen}
	whole := c.t
	c.sell()
	c.must(201, "POST", "/admin/v1/merchants/m1/callers", `{"name":"app","rights":["buy"]}`)
	for _, o := range operations(t) {
		for _, r := range refusals(c.shop, o) {
			t.Run(r.name, func(t *testing.T) { c.run(t, o.path, &r) })
		}
	}
	rows := slices.Concat(loginRows(), signInRows(), keyRows(), secretRows(), shopRows(), activityRows(), archiveRows(), itemRows(), stockRows(), webhookRows())
	for _, r := range slices.Concat(rows, letterRows(), replayRows(), controlRows(), limitRows(), stageRows(), nodeRows(), changeRows(), tokenRows(), deepAuditRows(),
		moneyRows(), liveRows(), openRows()) {
		if r.path == "" {
			r.path = fill(r.pattern)
		}
		t.Run(r.method+" "+r.pattern+" "+r.name, func(t *testing.T) { c.run(t, r.pattern, &r) })
	}
	c.t = whole

	alone := func(_ *Config, deps *Deps) { deps.Settings.Watcher = nil } // without a store no setting is in force
	broken := &checked{open(t, alone), check, seen}
	broken.sell() // so that only the store is missing
	if err := broken.store.Close(); err != nil {
		t.Fatal(err)
	}
	broken.setHealth(health{missing: "no catalog"})
	for _, o := range operations(t) {
		if r, ok := unavailable(o); ok {
			t.Run(r.name, func(t *testing.T) { broken.run(t, o.path, &r) })
		}
	}
	broken.t = whole
	for _, o := range operations(t) {
		for status := range o.Responses {
			if want := o.method + " " + o.path + " " + status; status != "default" && !seen[want] {
				t.Errorf("openapi.yaml documents %s, which no row provokes", want)
			}
		}
	}
}

// refusals returns the rows that every path with a token has, and those of every path with a body.
func refusals(s *shop, o operation) []row {
	var rows []row
	path := fill(o.path)
	add := func(what string, status int, code problem.Code, body string, fields ...string) {
		if o.Responses[strconv.Itoa(status)] != nil {
			rows = append(rows, row{
				name: o.method + " " + o.path + " " + what, method: o.method, path: path, body: body, fields: fields, status: status,
				code: code,
			})
		}
	}
	if o.Role != "" {
		add("without a token", 401, problem.Unauthenticated, "", "Authorization", "")
		add("with an unknown token", 401, problem.Unauthenticated, "", "Authorization", "Bearer psk_what")
		add("with another scheme", 401, problem.Unauthenticated, "", "Authorization", "Basic "+configuredToken)
		for _, r := range roles {
			if !r.role.Includes(roleNamed(o.Role)) {
				add("as "+r.name, 403, problem.Forbidden, "", "Authorization", "Bearer "+s.tokens[r.role])
			}
		}
		add("from another site", 403, problem.CrossOrigin, "", "Sec-Fetch-Site", "cross-site", "Origin", "http://evil.example")
		if o.method == http.MethodGet { // another site gains nothing by a read
			rows = rows[:len(rows)-1]
		}
	}
	if o.Role == "viewer" { // nobody is below
		rows = append(rows, row{
			name: o.method + " " + o.path + " by another method", method: "PATCH", path: path, status: 405, code: problem.MethodNotAllowed,
			want: func(a *answer) {
				if !strings.Contains(a.Header.Get("Allow"), o.method) {
					a.t.Errorf("Allow: %q", a.Header.Get("Allow"))
				}
			},
		})
	}
	if o.RequestBody != nil {
		add("as a form", 415, problem.UnsupportedMediaType, "a=b", "Content-Type", "application/x-www-form-urlencoded")
		add("in another charset", 415, problem.UnsupportedMediaType, "{}", "Content-Type", "application/json; charset=utf-16")
		add("compressed", 415, problem.UnsupportedMediaType, "{}", "Content-Encoding", "gzip")
		huge := 1 << 20
		if o.method+" "+o.path == "PUT /admin/v1/activities/{activity}" {
			huge = 8 << 20
		}
		add("with a huge body", 413, problem.TooLarge, `{"reason":"`+strings.Repeat("x", huge)+`"}`)
		add("with broken JSON", 400, problem.InvalidRequest, `{"name":`)
		add("with an unknown member", 400, problem.InvalidRequest, `{"nmae":"x"}`)
		add("with two bodies", 400, problem.InvalidRequest, `{} {}`)
		add("with an array", 400, problem.InvalidRequest, `[]`)
		add("with a control character in the reason", 400, problem.InvalidRequest, `{"reason":"a\u0000b"}`)
	} else if o.method == http.MethodDelete {
		add("with a long reason", 400, problem.InvalidRequest, "", "X-Reason", strings.Repeat("x", 501))
	} else {
		rows = append(rows, badQuery(o, path)...)
	}
	return rows
}

// badQuery returns the rows of lists with wrong parameters.
func badQuery(o operation, path string) []row {
	if o.Responses["400"] == nil {
		return nil
	}
	var rows []row
	for _, query := range []string{"limit=0", "limit=x", "limit=100000", "limit=-1", "limit=1.5"} {
		rows = append(rows, row{
			name: o.method + " " + o.path + " " + query, method: o.method, path: path + "?" + query, status: 400,
			code: problem.InvalidRequest,
		})
	}
	return rows
}

// unavailable returns the row of a path whose store is away.
func unavailable(o operation) (row, bool) {
	bodies := map[string]string{
		"PUT /admin/v1/merchants/{merchant}":                       `{"name":"Shop"}`,
		"POST /admin/v1/merchants/{merchant}/callers":              `{"name":"app","rights":["buy"]}`,
		"POST /admin/v1/keys":                                      `{"key":"psk_x"}`,
		"POST /login":                                              `{"token":"pst_unknown"}`,
		"PUT /admin/v1/activities/{activity}":                      activityBody,
		"POST /admin/v1/activities/{activity}/items/{sku}/restock": `{"delta":1,"reason":"more"}`,
		"POST /admin/v1/activities/{activity}/items/{sku}":         `{"price":1}`,
		"POST /admin/v1/dead-letters/replay":                       `{"all":true}`,
		"POST /admin/v1/replay":                                    `{"from":"2026-06-18T12:00:00Z","to":"2026-06-18T13:00:00Z"}`,
		"POST /admin/v1/dead-letters/discard":                      `{"all":true,"confirm":true}`,
		"POST /admin/v1/activities/{activity}/archive":             `{"sha256":"` + strings.Repeat("0", 64) + `","confirm":true}`,
		"POST /admin/v1/tokens":                                    `{"name":"x","role":"viewer"}`,
		"POST /admin/v1/refunds/{payment}/done":                    `{"reference":"x"}`,
		"POST /admin/v1/activities/{activity}/extend":              `{"by":"1m"}`,
		"PUT /admin/v1/switches/{name}":                            `{"value":"off","reason":"x"}`,
		"PUT /admin/v1/limits":                                     `{"policies":[],"reason":"x"}`,
		"PUT /admin/v1/limits/staged":                              `{"policies":[],"percent":5,"reason":"x"}`,
		"PUT /admin/v1/webhooks/{name}":                            `{"url":"https://ops.example.com/","events":["alarm"]}`,
	}
	r := row{
		name: o.method + " " + o.path + " without a store", method: o.method, path: fill(o.path), body: bodies[o.method+" "+o.path],
		fields: []string{"Idempotency-Key", "k", "If-Match", "*"}, status: 503, code: problem.Unavailable,
	}
	if r.path == "/admin/v1/orders/export" {
		r.path += "?activity=618"
	}
	if o.method+r.path == "GET/admin/v1/keys" {
		r.path += "?key=psk_x"
	}
	if r.path == metricsPath || r.path == "/debug/pprof/" || r.path == "/logout" || r.path == "/admin/v1/me" || r.path == "/admin/v1/events" { // needs only the token
		r.fields = []string{"Authorization", "Bearer pst_unknown"}
	}
	return r, o.Responses["503"] != nil
}
