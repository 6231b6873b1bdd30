package admin

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
	"github.com/penstock/penstock/seckill/desk"
)

// has expects these members in an answer's object, as text.
func has(members ...string) func(*answer) {
	return func(a *answer) {
		a.t.Helper()
		for m := range slices.Chunk(members, 2) {
			if got := a.member(m[0]); got != m[1] {
				a.t.Errorf("%s is %s, want %s: %s", m[0], got, m[1], a.body)
			}
		}
	}
}

// wrong expects a 400 with exactly these mistakes.
func wrong(mistakes ...string) func(*answer) {
	return func(a *answer) {
		a.t.Helper()
		if got := a.mistakes(); !slices.Equal(got, mistakes) {
			a.t.Errorf("mistakes:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(mistakes, "\n"))
		}
	}
}

// keys expects these values as the first member of each item of a list.
func keys(name string, want ...string) func(*answer) {
	return func(a *answer) {
		a.t.Helper()
		var list struct{ Items []map[string]any }
		a.read(&list)
		var got []string
		for _, item := range list.Items {
			got = append(got, fmt.Sprint(item[name]))
		}
		if !slices.Equal(got, want) {
			a.t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func shopRows() []row {
	const one, callers, caller = "/admin/v1/merchants/{merchant}", "/admin/v1/merchants/{merchant}/callers",
		"/admin/v1/merchants/{merchant}/callers/{caller}"
	secret := func(given bool) func(*answer) {
		return func(a *answer) {
			if made := len(a.member("payment_secret")) == 64; made != given {
				a.t.Errorf("payment secret made: %v, want %v: %s", made, given, a.body)
			}
		}
	}
	named := strings.Repeat("é", 201)
	return []row{
		{name: "made", pattern: one, method: "PUT", path: "/admin/v1/merchants/m2", body: `{"name":"Two","reason":"new"}`,
			status: 200, want: secret(true)},
		{name: "again", pattern: one, method: "PUT", path: "/admin/v1/merchants/m2", body: `{"name":"Second"}`, status: 200,
			want: secret(false)},
		{name: "with null", pattern: one, method: "PUT", path: "/admin/v1/merchants/m2",
			body: `{"name":"Second","payment_secret":null}`, status: 200, want: secret(false)},
		{name: "with a secret", pattern: one, method: "PUT", path: "/admin/v1/merchants/m3",
			body: `{"name":"Three","payment_secret":"own-0123456789abcdef"}`, status: 200, want: secret(false)},
		{name: "rolled by hand", pattern: one, method: "PUT", path: "/admin/v1/merchants/m3", status: 200,
			body: `{"payment_secret":"own-fedcba9876543210","overlap":"24h"}`, want: func(a *answer) {
				secret(false)(a)
				has("name", "Three")(a)
				if until, err := time.Parse(time.RFC3339, a.member("former_secret_until")); err != nil || time.Until(until) < 23*time.Hour {
					a.t.Errorf("%v: %s", err, a.body)
				}
			}},
		{name: "with the same secret", pattern: one, method: "PUT", path: "/admin/v1/merchants/m3", status: 200,
			body: `{"payment_secret":"own-fedcba9876543210","overlap":"0s"}`, want: func(a *answer) {
				if a.member("former_secret_until") == "<nil>" {
					a.t.Errorf("the overlap has ended: %s", a.body)
				}
			}},
		{name: "rolled", pattern: one, method: "PUT", path: "/admin/v1/merchants/m3", body: `{"name":"Three","overlap":"0s"}`, status: 200,
			want: func(a *answer) {
				secret(true)(a)
				has("former_secret_until", "<nil>")(a)
			}},
		{name: "without a name", pattern: one, method: "PUT", path: "/admin/v1/merchants/m4", body: `{"overlap":"1h"}`, status: 400,
			code: problem.InvalidRequest, want: wrong("name: is required")},
		{name: "a secret that looks encrypted", pattern: one, method: "PUT", path: "/admin/v1/merchants/m4", status: 400,
			body: `{"name":"Four","payment_secret":"sealed:1:0123456789abcdef","overlap":"x"}`, code: problem.InvalidRequest,
			want: wrong("overlap: must be a duration like 90s, 15m or 24h, from 0s to 2160h", "payment_secret: must not begin with sealed:1:")},
		{name: "everything wrong", pattern: one, method: "PUT", path: "/admin/v1/merchants/a%2Fb",
			body:   `{"name":"","payment_secret":"","x":1,"x":2}`,
			status: 400, code: problem.InvalidRequest,
			want: wrong("x: is listed twice", "name: is required", "x: is unknown",
				"merchant: must consist of letters, digits and ._~-", "payment_secret: must be 16 to 256 random visible ASCII characters; without it, a merchant gets a new one")},
		{name: "wrong types", pattern: one, method: "PUT", body: `{"name":7,"payment_secret":["x"],"reason":false}`, status: 400,
			code: problem.InvalidRequest,
			want: wrong("name: must be a string", "payment_secret: must be a string", "reason: must be a string",
				"payment_secret: must be 16 to 256 random visible ASCII characters; without it, a merchant gets a new one")},
		{name: "a long name", pattern: one, method: "PUT", body: `{"name":"` + named + `"}`, status: 400,
			code: problem.InvalidRequest, want: wrong("name: must be at most 200 characters")},
		{name: "read", pattern: one, method: "GET", path: "/admin/v1/merchants/m2", status: 200, want: has("name", "Second",
			"payment_secret", "<nil>")},
		{name: "unknown", pattern: one, method: "GET", path: "/admin/v1/merchants/who", status: 404, code: problem.UnknownMerchant},
		{name: "list", pattern: "/admin/v1/merchants", method: "GET", status: 200, want: keys("merchant", "m1", "m2", "m3")},
		{name: "first page", pattern: "/admin/v1/merchants", path: "/admin/v1/merchants?limit=2", method: "GET", status: 200,
			want: func(a *answer) {
				keys("merchant", "m1", "m2")(a)
				has("next", "m2")(a)
			}},
		{name: "last page", pattern: "/admin/v1/merchants", path: "/admin/v1/merchants?limit=2&after=m2", method: "GET",
			status: 200, want: func(a *answer) {
				keys("merchant", "m3")(a)
				has("next", "<nil>")(a)
			}},

		{name: "added", pattern: callers, method: "POST", path: "/admin/v1/merchants/m2/callers",
			body: `{"name":"web","rights":["buy","merchant"],"shadow":true}`, status: 201,
			want: func(a *answer) {
				has("merchant", "m2", "caller", "web", "rights", "[buy merchant]", "shadow", "true")(a)
				if !strings.HasPrefix(a.member("key"), "psk_") || a.Header.Get("Location") != "/admin/v1/merchants/m2/callers/web" {
					a.t.Errorf("%v %s", a.Header, a.body)
				}
			}},
		{name: "name taken", pattern: callers, method: "POST", path: "/admin/v1/merchants/m2/callers",
			body: `{"name":"web","rights":["buy"]}`, status: 201, want: slug("web-")},
		{name: "name no id", pattern: callers, method: "POST", path: "/admin/v1/merchants/m3/callers",
			body: `{"name":"Größe & Co. Shop","rights":["buy"]}`, status: 201, want: slug("gr-e-co.-shop-")},
		{name: "name without a letter", pattern: callers, method: "POST", path: "/admin/v1/merchants/m3/callers",
			body: `{"name":"商店","rights":["buy"]}`, status: 201, want: slug("caller-")},
		{name: "everything wrong", pattern: callers, method: "POST",
			body: `{"rights":["buy","sell",7],"shadow":"no","reason":"\u0007"}`, status: 400, code: problem.InvalidRequest,
			want: wrong("name: is required", "rights[2]: must be a string", "rights[1]: must be buy or merchant",
				"rights[2]: must be buy or merchant",
				"shadow: must be true or false", "reason: must not have control characters")},
		{name: "no rights", pattern: callers, method: "POST", body: `{"name":"x","rights":[]}`, status: 400,
			code: problem.InvalidRequest, want: wrong("rights: must have at least one right")},
		{name: "rights missing", pattern: callers, method: "POST", body: `{"name":"x"}`, status: 400, code: problem.InvalidRequest,
			want: wrong("rights: is required")},
		{name: "unknown merchant", pattern: callers, method: "POST", path: "/admin/v1/merchants/who/callers",
			body: `{"name":"x","rights":["buy"]}`, status: 404, code: problem.UnknownMerchant},
		{name: "no free id", pattern: callers, method: "POST", body: `{"name":"x","rights":["buy"]}`, status: 409,
			code:   problem.AlreadyExists,
			before: func(s *shop) { s.server.deps.Store = takenNames{s.store} }, after: func(s *shop) { s.server.deps.Store = s.store }},
		{name: "list", pattern: callers, method: "GET", status: 200, want: keys("caller", "app", "found", "many", "short")},
		{name: "list of an unknown merchant", pattern: callers, method: "GET", path: "/admin/v1/merchants/who/callers", status: 404,
			code: problem.UnknownMerchant},
		{name: "read", pattern: caller, method: "GET", status: 200, want: has("caller", "app", "revoked", "false", "key", "<nil>")},
		{name: "unknown", pattern: caller, method: "GET", path: "/admin/v1/merchants/m1/callers/who", status: 404,
			code: problem.UnknownCaller},
		{name: "of an unknown merchant", pattern: caller, method: "GET", path: "/admin/v1/merchants/who/callers/app", status: 404,
			code: problem.UnknownMerchant},
		{name: "revoked", pattern: caller, method: "DELETE", status: 200},
		{name: "revoked again", pattern: caller, method: "DELETE", status: 200},
		{name: "unknown", pattern: caller, method: "DELETE", path: "/admin/v1/merchants/m1/callers/who", status: 404,
			code: problem.UnknownCaller},
		{name: "of an unknown merchant", pattern: caller, method: "DELETE", path: "/admin/v1/merchants/who/callers/app",
			status: 404, code: problem.UnknownMerchant},
		{name: "read revoked", pattern: caller, method: "GET", status: 200, want: has("revoked", "true")},
	}
}

func slug(prefix string) func(*answer) {
	return func(a *answer) {
		a.t.Helper()
		if id := a.member("caller"); len(id) != len(prefix)+6 || !strings.HasPrefix(id, prefix) || seckill.CheckName(id) != "" {
			a.t.Errorf("caller %s", id)
		}
	}
}

func activityRows() []row {
	const one = "/admin/v1/activities/{activity}"
	draft := func(change ...string) string { return strings.NewReplacer(change...).Replace(activityBody) }
	rows := []row{
		{name: "made", pattern: one, method: "PUT", path: "/admin/v1/activities/new", body: activityBody, status: 200,
			want: has("activity", "new", "state", "draft",
				"starts_at", "2026-06-18T12:00:00.123Z", "payment_window", "15m", "items",
				"[map[currency:CNY max_orders:0 per_user:2 price:1999 quantity:10 sku:phone-x spread:1]]")},
		{name: "put back", pattern: one, method: "PUT", path: "/admin/v1/activities/new", body: draft(`{"merchant"`,
			`{"activity":"new","state":"draft","merchant"`), status: 200},
		{name: "another id and state", pattern: one, method: "PUT", path: "/admin/v1/activities/new", body: draft(`{"merchant"`,
			`{"activity":"old","state":"paused","merchant"`),
			status: 409, code: problem.NotEditable},
		{name: "another state", pattern: one, method: "PUT", path: "/admin/v1/activities/new", body: draft(`{"merchant"`,
			`{"state":"paused","merchant"`),
			status: 409, code: problem.ActivityState},
		{name: "nothing", pattern: one, method: "PUT", body: `{}`, status: 400, code: problem.InvalidRequest,
			want: wrong("merchant: is required", "name: is required", "starts_at: is required", "ends_at: is required",
				"payment_window: is required", "items: is required")},
		{name: "wrong items", pattern: one, method: "PUT", body: draft(`"items":[{"sku":"phone-x",`,
			`"items":[7,{"sku":1.5,"pri":1,`, `"per_user":2`, `"per_user":1e2`, `1999`, `99999999999999999999`),
			status: 400, code: problem.InvalidRequest, want: wrong("items[0]: must be a JSON object", "items[0].sku: is required",
				"items[0].price: is required",
				"items[0].currency: is required", "items[0].quantity: is required", "items[0].per_user: is required",
				"items[1].sku: must be a string", "items[1].price: is out of range", "items[1].per_user: must be a whole number",
				"items[1].pri: is unknown")},
		{name: "wrong values", pattern: one, method: "PUT", path: "/admin/v1/activities/b%20d", body: draft("m1", "who",
			"2096-06-18T22:00:00+08:00", "2006-06-18T22:00:00+08:00", "15m", "15ms", "CNY", "yen", `:10,`, `:-10,`),
			status: 400, code: problem.InvalidRequest, want: wrong("activity: must consist of letters, digits and ._~-",
				"ends_at: must be after starts_at",
				"payment_window: must be from 1s to 168h", "items[0].currency: must be three capital letters (ISO 4217)",
				"items[0].quantity: must be from 0 to 10000000")},
		{name: "wrong forms", pattern: one, method: "PUT", body: draft("2026-06-18T20:00:00.1239+08:00", "tomorrow", "15m", "soon",
			`"items":[`, `"items":"`, `}]}`, `}"}`),
			status: 400, code: problem.InvalidRequest},
		{name: "wrong times", pattern: one, method: "PUT", body: draft("2026-06-18T20:00:00.1239+08:00", "tomorrow", "15m", "soon"),
			status: 400, code: problem.InvalidRequest,
			want: wrong("starts_at: must be a time like 2026-06-18T20:00:00+08:00 (RFC 3339)",
				"payment_window: must be a duration like 90s, 15m or 1h30m")},
		{name: "unknown merchant", pattern: one, method: "PUT", body: draft("m1", "who"), status: 404, code: problem.UnknownMerchant},
		{name: "a spread item", pattern: one, method: "PUT", path: "/admin/v1/activities/wide", body: draft(`"per_user":2`,
			`"per_user":2,"max_orders":7,"spread":3`), status: 200, want: has("items",
			"[map[currency:CNY max_orders:7 per_user:2 price:1999 quantity:10 sku:phone-x spread:3]]")},
		{name: "an SKU as shops have them", pattern: one, method: "PUT", path: "/admin/v1/activities/sku", body: draft("phone-x", "手机/64 G"),
			status: 200, want: has("items",
				"[map[currency:CNY max_orders:0 per_user:2 price:1999 quantity:10 sku:手机/64 G spread:1]]")},
		{name: "SKUs that nobody can read", pattern: one, method: "PUT", path: "/admin/v1/activities/sku",
			body:   draft(`"items":[`, `"items":[{"sku":"..","price":1,"currency":"CNY","quantity":1,"per_user":1},`, "phone-x", `a\u202eb`),
			status: 400, code: problem.InvalidRequest, want: wrong("items[1].sku: must not have line separators or bidirectional controls")},
		{name: "too wide", pattern: one, method: "PUT", body: draft(`"per_user":2`, `"per_user":2,"spread":5`),
			status: 400, code: problem.InvalidRequest, want: wrong("items[0].spread: must be from 1 to 4, the number of shards")},
		{name: "too many items", pattern: one, method: "PUT", body: draft(`"items":[`, `"items":[`+strings.Repeat("{},", seckill.MaxItems)),
			status: 400, code: problem.InvalidRequest,
			want: wrong("items: must be 1 to 20000 items")},
		{name: "other items once published", pattern: one, method: "PUT", body: draft("1999", "2999"), status: 409,
			code: problem.NotEditable},
		{name: "other items once published, only asked", pattern: one, method: "PUT", body: draft("1999", "2999", `{"merchant"`, `{"dry_run":true,"merchant"`),
			status: 409, code: problem.NotEditable, want: has("detail", "The item phone-x: the activity has started, or is about to: "+
				"prices and limits stay.")},
		{name: "another name, only asked", pattern: one, method: "PUT", body: draft("618 Phones", "619", `{"merchant"`, `{"dry_run":true,"merchant"`), status: 204},
		{name: "of no merchant, only asked", pattern: one, method: "PUT", path: "/admin/v1/activities/asked",
			body: draft("m1", "who", `{"merchant"`, `{"dry_run":true,"merchant"`), status: 404, code: problem.UnknownMerchant},
		{name: "only asked", pattern: one, method: "GET", status: 200, want: has("name", "618 Phones")},
		{name: "another name once published", pattern: one, method: "PUT", body: draft("618 Phones", "618"), status: 200,
			want: has("name", "618", "state", "published")},
		{name: "read", pattern: one, method: "GET", status: 200, want: has("activity", "618", "state", "published", "ended_at", "<nil>")},
		{name: "unknown", pattern: one, method: "GET", path: "/admin/v1/activities/who", status: 404, code: problem.UnknownActivity},
		{name: "list", pattern: "/admin/v1/activities", method: "GET", status: 200, want: keys("activity", "618", "new", "sku", "wide")},
	}
	steps := []struct {
		verb   string
		status int
		state  string
	}{{"resume", 409, ""}, {"pause", 409, ""}, {"publish", 200, "published"}, {"publish", 200, "published"}, {"pause", 200,
		"paused"}, {"pause", 200, "paused"},
		{"publish", 409, ""}, {"resume", 200, "published"}, {"end", 400, ""}, {"end", 200, "ended"}, {"end", 200, "ended"}, {"publish", 409, ""},
		{"pause", 409, ""}, {"resume", 409, ""}}
	const firstEnd = 9 // it has ended before, so no confirmation is needed
	for i, step := range steps {
		r := row{name: fmt.Sprintf("step %d", i), pattern: one + "/" + step.verb, method: "POST",
			path: "/admin/v1/activities/new/" + step.verb, status: step.status,
			body: `{"reason":"step"}`}
		if step.verb == "end" && i == firstEnd {
			r.body = `{"reason":"step","confirm":true}`
		}
		if step.verb == "publish" {
			r.before, r.after = (*shop).beginDelivery, (*shop).endDelivery
		}
		switch step.status {
		case 409:
			r.code = problem.ActivityState
		case 400:
			r.code, r.want = problem.InvalidRequest, wrong("confirm: must be true: this ends the sale for good")
		default:
			r.want = has("activity", "new", "state", step.state)
		}
		rows = append(rows, r)
	}
	for _, verb := range []string{"publish", "pause", "resume", "end"} {
		rows = append(rows, row{name: "unknown", pattern: one + "/" + verb, method: "POST", path: "/admin/v1/activities/who/" +
			verb, status: 404, code: problem.UnknownActivity})
	}
	return append(rows, []row{
		{name: "ended", pattern: one, method: "PUT", path: "/admin/v1/activities/new", body: activityBody, status: 409,
			code: problem.ActivityState},
		// A second draft can't be ended.
		{name: "draft", pattern: one, method: "PUT", path: "/admin/v1/activities/gone", body: activityBody, status: 200},
		{name: "end of a draft", pattern: one + "/end", method: "POST", path: "/admin/v1/activities/gone/end", status: 200,
			want: has("state", "ended")},
		{name: "end conflict", pattern: one + "/end", method: "POST", status: 409, code: problem.ActivityState,
			before: func(s *shop) {
				s.server.deps.Office = stubborn{s.server.deps.Office, &seckill.Refusal{Code: problem.ActivityState}}
			},
			after: func(s *shop) { s.server.deps.Office = s.server.deps.Office.(stubborn).Office }},
	}...)
}

// itemRows edit items, and delete drafts.
func itemRows() []row {
	const one = "/admin/v1/activities/{activity}"
	edit := func(name, activity, body string, status int, code problem.Code, want func(*answer)) row {
		return row{name: "edit " + name, pattern: one + "/items/{sku}", method: "POST", path: "/admin/v1/activities/" + activity + "/items/phone-x",
			body: body, status: status, code: code, want: want}
	}
	return []row{
		{name: "a spread draft", pattern: one, method: "PUT", path: "/admin/v1/activities/wide",
			body: strings.Replace(activityBody, `"per_user":2`, `"per_user":2,"max_orders":7,"spread":3`, 1), status: 200},
		edit("in a draft", "wide", `{"price":2999,"per_user":1,"spread":2,"reason":"list price"}`, 200, "", has("items",
			"[map[currency:CNY max_orders:7 per_user:1 price:2999 quantity:10 sku:phone-x spread:2]]")),
		edit("nothing", "wide", `{"price":null}`, 400, problem.InvalidRequest, wrong("body: must have price, per_user or spread")),
		edit("wrong values", "wide", `{"price":-1,"per_user":1001,"spread":5}`, 400, problem.InvalidRequest, wrong(
			"price: must be from 0 to 1000000000000 minor units", "per_user: must be from 0 (no limit) to 1000",
			"spread: must be from 1 to 4, the number of shards")),
		edit("of an unknown activity", "who", `{"price":1}`, 404, problem.UnknownActivity, nil),
		edit("once it has started", "618", `{"price":1}`, 409, problem.NotEditable, nil),
		edit("that changes nothing", "618", `{"price":1999}`, 200, "", nil),
		func() row {
			r := edit("of an unknown item", "wide", `{"price":1}`, 404, problem.UnknownItem, nil)
			r.path = "/admin/v1/activities/wide/items/who"
			return r
		}(),
		{name: "delete what was published", pattern: one, method: "DELETE", status: 409, code: problem.ActivityState},
		{name: "delete what isn't there", pattern: one, method: "DELETE", path: "/admin/v1/activities/who", status: 404,
			code: problem.UnknownActivity},
		{name: "a draft to delete", pattern: one, method: "PUT", path: "/admin/v1/activities/draft", body: activityBody, status: 200},
		{name: "delete a draft", pattern: one, method: "DELETE", path: "/admin/v1/activities/draft", status: 204},
		{name: "read what was deleted", pattern: one, method: "GET", path: "/admin/v1/activities/draft", status: 404,
			code: problem.UnknownActivity},
	}
}

func stockRows() []row {
	const restock, audit = "/admin/v1/activities/{activity}/items/{sku}/restock", "/admin/v1/activities/{activity}/audit"
	const preflight = "/admin/v1/activities/{activity}/preflight"
	deliver := func(s *shop) { s.deliver() }
	change := func(name, key, body string, status int, code problem.Code, want func(*answer)) row {
		return row{name: name, pattern: restock, method: "POST", body: body, fields: []string{"Idempotency-Key", key},
			status: status, code: code, want: want, after: deliver}
	}
	replayed := func(yes string, members ...string) func(*answer) {
		return func(a *answer) {
			if got := a.Header.Get("Idempotent-Replayed"); got != yes {
				a.t.Errorf("Idempotent-Replayed %q, want %q", got, yes)
			}
			has(members...)(a)
		}
	}
	unknown := func(name, path string, code problem.Code) row {
		r := change(name, "k1", `{"delta":1,"reason":"x"}`, 404, code, nil)
		r.path = path
		return r
	}
	const much = "must be from 1 to 10000000, or below zero, down to the same number, to take units back"
	return []row{
		change("more", "k1", `{"delta":5,"reason":"more"}`, 200, "", replayed("", "total", "15", "delta", "5", "sku", "phone-x")),
		change("more again", "k1", `{"delta":5,"reason":"more"}`, 200, "", replayed("true", "total", "15")),
		change("less", "k2", `{"delta":-3,"reason":"less"}`, 200, "", replayed("", "total", "12", "delta", "-3")),
		change("less again", "k2", `{"delta":-3,"reason":"less"}`, 200, "", replayed("true", "total", "12")),
		change("key reused", "k1", `{"delta":6,"reason":"more"}`, 422, problem.KeyReused, nil),
		change("key of the other sign", "k2", `{"delta":3,"reason":"more"}`, 422, problem.KeyReused, nil),
		change("too much", "k3", `{"delta":-13,"reason":"less"}`, 409, problem.InsufficientStock, nil),
		change("everything", "k4", `{"delta":-12,"reason":"less"}`, 200, "", replayed("", "total", "0")),
		change("and back", "k5", `{"delta":10,"reason":"more"}`, 200, "", replayed("", "total", "10")),
		change("no reason", "k6", `{"delta":1}`, 400, problem.InvalidRequest, wrong("reason: is required")),
		change("zero", "k6", `{"delta":0,"reason":"x"}`, 400, problem.InvalidRequest, wrong("delta: "+much)),
		change("too many", "k6", `{"delta":10000001,"reason":"x"}`, 400, problem.InvalidRequest, wrong("delta: "+much)),
		change("the least number", "k6", `{"delta":-9223372036854775808,"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("delta: "+much)),
		change("half a unit", "k6", `{"delta":0.5,"reason":"x"}`, 400, problem.InvalidRequest, wrong("delta: must be a whole number")),
		change("no key", "", `{"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("header Idempotency-Key: is required: 1 to 64 visible ASCII characters", "delta: is required")),
		change("a long key", strings.Repeat("k", 65), `{"delta":1,"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("header Idempotency-Key: is required: 1 to 64 visible ASCII characters")),
		{name: "reason in the header alone", pattern: restock, method: "POST", body: `{"delta":1}`, fields: []string{"Idempotency-Key",
			"k7", "X-Reason", "why"}, status: 400, code: problem.InvalidRequest, want: wrong("reason: is required")},
		change("one more", "k7", `{"delta":1,"reason":"x"}`, 200, "", nil),
		change("more than an item may have", "k8", `{"delta":10000000,"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("delta: would make the total more than 10000000, the most that an item may have")),
		func() row {
			r := change("an SKU with a slash", "k1", `{"delta":1,"reason":"x"}`, 200, "", has("total", "11", "sku", "手机/64 G"))
			r.path = "/admin/v1/activities/sku/items/%E6%89%8B%E6%9C%BA%2F64%20G/restock"
			return r
		}(),
		unknown("unknown activity", "/admin/v1/activities/who/items/phone-x/restock", problem.UnknownActivity),
		unknown("unknown item", "/admin/v1/activities/618/items/who/restock", problem.UnknownItem),
		{name: "balanced", pattern: audit, method: "GET", status: 200, before: deliver, want: has("activity", "618", "balanced", "true",
			"items",
			"[map[available:11 balanced:true held:0 in_flight:0 orders:map[open:0 parked:0 sold:0] rebuilding:false "+
				"rejected:0 skipped:0 sku:phone-x sold:0 total:11]]")},
		{name: "units in flight", pattern: audit, method: "GET", status: 200,
			before: func(s *shop) { s.must(200, "POST", fill(restock), `{"delta":1,"reason":"x"}`, "Idempotency-Key", "k8") },
			after:  deliver,
			want: has("balanced", "true", "items",
				"[map[available:11 balanced:true held:0 in_flight:1 orders:map[open:0 parked:0 sold:0] rebuilding:false "+
					"rejected:0 skipped:0 sku:phone-x sold:0 total:12]]")},
		{name: "a unit too many", pattern: audit, method: "GET", status: 200, want: has("balanced", "false"),
			before: func(s *shop) { s.leak("leak", 1) }, after: func(s *shop) { s.leak("leak", -1) }},
		{name: "unknown", pattern: audit, method: "GET", path: "/admin/v1/activities/who/audit", status: 404,
			code: problem.UnknownActivity},
		{name: "looked at", pattern: preflight, method: "GET", status: 200, want: func(a *answer) {
			if !strings.Contains(a.body, `{"check":"stock","state":"ok","detail":"1 item, all with units","hint":""}`) {
				a.t.Errorf("%s", a.body)
			}
		}},
		{name: "unknown", pattern: preflight, method: "GET", path: "/admin/v1/activities/who/preflight", status: 404,
			code: problem.UnknownActivity},
	}
}

// leak adds units to the stock without the database, or removes some by a hold without an order.
// Each name does so once.
func (s *shop) leak(name string, units int) {
	s.t.Helper()
	offer, _ := s.desk.Catalog().Activity("618").Offer("phone-x")
	shard := inventory.Home(offer.ID, 4)
	ref := inventory.Ref{Shard: shard, Epoch: s.stock.Epoch(shard)}
	if units > 0 {
		if _, err := s.stock.Restock(s.t.Context(), ref, []inventory.Restock{{Item: offer.ID, ID: name, Units: int64(units)}}); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	hold := inventory.Hold{Item: offer.ID, ID: seckill.NewWithdrawalID(offer.ID, shard, name), Quantity: -units}
	call := &inventory.HoldCall{Ref: ref, Claims: []inventory.Claim{{Hold: hold}}}
	s.stock.Hold(s.t.Context(), []*inventory.HoldCall{call})
	if err := errors.Join(call.Err, s.stock.Settle(s.t.Context(), ref, []inventory.Settlement{{Hold: hold, Kind: inventory.SettleSold}})); err != nil {
		s.t.Fatal(err)
	}
}

// archiveRows archive an activity without orders, whose export is empty.
func archiveRows() []row {
	const one = "/admin/v1/activities/{activity}/archive"
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	post := func(name, activity, body string, status int, code problem.Code, want func(*answer)) row {
		return row{name: "archive " + name, pattern: one, method: "POST", path: "/admin/v1/activities/" + activity + "/archive", body: body,
			status: status, code: code, want: want}
	}
	return []row{
		post("without a checksum", "new", `{"confirm":true}`, 400, problem.InvalidRequest, wrong("sha256: is required")),
		post("with half of one", "new", `{"sha256":"e3b0","confirm":true}`, 400, problem.InvalidRequest,
			wrong("sha256: must be the SHA-256 of the export, as 64 hexadecimal digits")),
		post("unconfirmed", "new", `{"sha256":"`+empty+`"}`, 400, problem.InvalidRequest,
			wrong("confirm: must be true: the orders are dropped for good")),
		post("of an unknown activity", "who", `{"sha256":"`+empty+`","confirm":true}`, 404, problem.UnknownActivity, nil),
		post("of one that sells", "618", `{"sha256":"`+empty+`","confirm":true}`, 409, problem.ActivityState, nil),
		post("of other orders", "new", `{"sha256":"`+strings.Repeat("0", 64)+`","confirm":true}`, 409, problem.ActivityState, nil),
		post("of these", "new", `{"sha256":"`+empty+`","confirm":true}`, 200, "", has("activity", "new", "orders", "0", "sha256", empty)),
	}
}

// replayRows read the log of a shop whose queue is empty.
func replayRows() []row {
	const path, times = "/admin/v1/replay", `"from":"2026-06-18T12:00:00Z","to":"2026-06-18T13:00:00Z"`
	post := func(name, body string, status int, code problem.Code, want func(*answer)) row {
		return row{name: name, pattern: path, method: "POST", path: path, body: body, status: status, code: code, want: want}
	}
	bad := func(name, body string, mistakes ...string) row {
		return post(name, body, 400, problem.InvalidRequest, wrong(mistakes...))
	}
	return []row{
		post("nothing is kept", `{`+times+`}`, 200, "", has("records", "0")),
		post("a part of an activity", `{`+times+`,"activity":"a","after":"3:12","limit":10,"dry_run":true,"reason":"x"}`, 200, "", has("dry_run", "true")),
		bad("no times", `{"dry_run":true}`, "from: is required", "to: is required"),
		bad("backwards", `{"from":"2026-06-18T13:00:00Z","to":"2026-06-18T12:00:00Z"}`, "to: must be after from"),
		bad("a year", `{"from":"2026-06-18T13:00:00Z","to":"2027-06-18T12:00:00Z"}`, "to: must be at most 744h0m0s after from"),
		bad("too many", `{`+times+`,"limit":2001}`, "limit: must be from 1 to 2000"),
		bad("no place", `{`+times+`,"after":"x"}`, "after: must be the next of an answer"),
		bad("a place below zero", `{`+times+`,"after":"1:-1"}`, "after: must be the next of an answer"),
	}
}

func letterRows() []row {
	const letters = "/admin/v1/dead-letters"
	var rows []row
	// Letters that no version can read stay after a replay, until they are discarded.
	for _, verb := range []struct{ name, done, everything, all string }{
		{"replay", "letters", `{"all":true}`, "208"}, {"discard", "discarded", `{"all":true,"confirm":true}`, "413"},
	} {
		many, one := letters+"/"+verb.name, letters+"/{id}/"+verb.name
		post := func(name, pattern, body string, status int, code problem.Code, want func(*answer)) row {
			return row{name: name, pattern: pattern, method: "POST", body: body, status: status, code: code, want: want}
		}
		with := func(r row, n int, name func(ids []int64) (path, body string)) row {
			r.letters, r.place = n, name
			return r
		}
		rows = append(rows,
			with(post("one", one, "", 200, "", has(verb.done, "1")), 1, func(ids []int64) (string,
				string) {
				return fmt.Sprintf("%s/%d/%s", letters, ids[0], verb.name), ""
			}),
			with(post("two", many, "", 200, "", has(verb.done, "2")), 2, func(ids []int64) (string, string) {
				return many, fmt.Sprintf(`{"ids":[%d,%d,%d,999999],"reason":"x"}`, ids[1], ids[0], ids[1])
			}),
			with(post("all", many, "", 200, "", has(verb.done, verb.all)), 205, func([]int64) (string, string) { return many, verb.everything }),
			post("unknown", many, `{"ids":[999999]}`, 404, problem.UnknownDeadLetter, nil),
			post("nothing", many, `{}`, 400, problem.InvalidRequest, wrong("ids: must name dead letters; leave it out if all is true")),
			post("both", many, `{"ids":[1],"all":true}`, 400, problem.InvalidRequest,
				wrong("ids: must name dead letters; leave it out if all is true")),
			post("no ids", many, `{"ids":["x",-1,1.5]}`, 400, problem.InvalidRequest, wrong("ids[0]: must be a whole number above zero",
				"ids[1]: must be a whole number above zero", "ids[2]: must be a whole number above zero")),
			post("too many", many, `{"ids":[`+strings.Repeat("1,", 1000)+`1]}`, 400, problem.InvalidRequest,
				wrong("ids: must be at most 1000")),
			row{name: "unknown", pattern: one, method: "POST", path: letters + "/999999/" + verb.name, status: 404,
				code: problem.UnknownDeadLetter},
			row{name: "no id", pattern: one, method: "POST", path: letters + "/x/" + verb.name, status: 404,
				code: problem.UnknownDeadLetter},
		)
	}
	rows = append(rows, row{name: "all without confirm", pattern: letters + "/discard", method: "POST", body: `{"all":true}`, letters: 1,
		status: 400, code: problem.InvalidRequest,
		want: wrong("confirm: must be true: this rejects the orders of all dead letters for good")},
		row{name: "all with confirm", pattern: letters + "/discard", method: "POST", body: `{"all":true,"confirm":true}`, status: 200,
			want: has("discarded", "1")})
	rows = append(rows, row{name: "none there", pattern: letters + "/discard", method: "POST", body: `{"all":true,"confirm":true}`, status: 200,
		want: has("discarded", "0")})
	return append(rows, row{name: "list", pattern: letters, method: "GET", path: letters + "?limit=2", letters: 3, status: 200,
		want: func(a *answer) {
			keys("problem", "not an order record", "not an order record")(a)
			if next, err := strconv.Atoi(a.member("next")); err != nil || next <= 0 {
				a.t.Errorf("next: %s", a.body)
			}
		}})
}

func changeRows() []row {
	const changes, one = "/admin/v1/changes", "/admin/v1/changes/{n}"
	return []row{
		{name: "list", pattern: changes, method: "GET", path: changes + "?limit=1", status: 200, want: func(a *answer) {
			if a.member("next") == "<nil>" {
				a.t.Errorf("no next: %s", a.body)
			}
		}},
		{name: "end of the list", pattern: changes, method: "GET", path: changes + "?before=2", status: 200, want: func(a *answer) {
			keys("number", "1")(a)
			has("next", "<nil>")(a)
		}},
		{name: "read", pattern: one, method: "GET", status: 200, want: has("number", "1", "actor", configuredName, "kind", "token",
			"revertible", "false", "before", "<nil>")},
		{name: "unknown", pattern: one, method: "GET", path: changes + "/999999", status: 404, code: problem.UnknownChange},
		{name: "no number", pattern: one, method: "GET", path: changes + "/x", status: 404, code: problem.UnknownChange},
		{name: "a number in another form", pattern: one, method: "GET", path: changes + "/01", status: 404, code: problem.UnknownChange},
		{name: "a number in another form", pattern: one + "/revert", method: "POST", path: changes + "/+1/revert", status: 404,
			code: problem.UnknownChange},
		{name: "token", pattern: one + "/revert", method: "POST", status: 409, code: problem.NotRevertible},
		{name: "unknown", pattern: one + "/revert", method: "POST", path: changes + "/999999/revert", status: 404,
			code: problem.UnknownChange},
		{name: "caller", pattern: one + "/revert", method: "POST", status: 200, want: has("kind", "caller", "key", "m1/shift",
			"changed", "true"), revertLast: true,
			before: func(s *shop) {
				s.must(201, "POST", "/admin/v1/merchants/m1/callers", `{"name":"shift","rights":["buy"]}`)
			}},
	}
}

func tokenRows() []row {
	const all, one = "/admin/v1/tokens", "/admin/v1/tokens/{token}"
	var made *answer // of the row before
	return []row{
		{name: "made", pattern: all, method: "POST", body: `{"name":"night","role":"operator","reason":"shift"}`, status: 201,
			want: func(a *answer) {
				has("name", "night", "role", "operator")(a)
				if !strings.HasPrefix(a.member("token"), "pst_") || a.Header.Get("Location") != "/admin/v1/tokens/night" {
					a.t.Errorf("%v %s", a.Header, a.body)
				}
			}},
		{name: "taken", pattern: all, method: "POST", body: `{"name":"night","role":"viewer"}`, status: 409, code: problem.AlreadyExists},
		{name: "reserved", pattern: all, method: "POST", body: `{"name":"configured","role":"viewer"}`, status: 409,
			code: problem.AlreadyExists},
		{name: "wrong", pattern: all, method: "POST", body: `{"name":"","role":"root"}`, status: 400, code: problem.InvalidRequest,
			want: wrong("name: is required", "role: must be viewer, support, operator, finance or admin")},
		{name: "list", pattern: all, method: "GET", status: 200, want: keys("name", "configured", "admin", "finance", "night", "operator",
			"support", "viewer")},
		{name: "bound and with an end", pattern: all, method: "POST", status: 201,
			body: `{"name":"shop","role":"operator","merchant":"m1","expires_in":"8h"}`, want: func(a *answer) {
				has("merchant", "m1", "role", "operator")(a)
				if expires, err := time.Parse(time.RFC3339, a.member("expires_at")); err != nil || time.Until(expires) < 7*time.Hour {
					a.t.Errorf("%v: %s", err, a.body)
				}
			}},
		{name: "bound to nobody", pattern: all, method: "POST", body: `{"name":"who","role":"viewer","merchant":"who"}`, status: 404,
			code: problem.UnknownMerchant},
		{name: "with a wrong end", pattern: all, method: "POST", body: `{"name":"x","role":"viewer","merchant":"a/b","expires_in":"1d"}`,
			status: 400, code: problem.InvalidRequest, want: wrong("expires_in: must be a duration like 90s, 15m or 24h, from 1s to 87600h",
				"merchant: must consist of letters, digits and ._~-")},
		{name: "deleted by its id", pattern: one, method: "DELETE", status: 204,
			before: func(s *shop) { made = s.must(201, "POST", all, `{"name":"brief","role":"viewer"}`) },
			place:  func([]int64) (path, body string) { return all + "/" + made.member("token_id"), "" }},
		{name: "deleted", pattern: one, method: "DELETE", path: all + "/night", status: 204},
		{name: "unknown", pattern: one, method: "DELETE", path: all + "/night", status: 404, code: problem.UnknownToken},
		{name: "configured", pattern: one, method: "DELETE", path: all + "/configured", status: 409, code: problem.NotEditable},
	}
}

func openRows() []row {
	contains := func(texts ...string) func(*answer) {
		return func(a *answer) {
			for _, text := range texts {
				if !strings.Contains(a.body, text) {
					a.t.Errorf("lacks %q: %.300s", text, a.body)
				}
			}
		}
	}
	const nobody = "Authorization"
	return []row{
		{name: "lives", pattern: "/livez", method: "GET", fields: []string{nobody, ""}, status: 200, want: has("status", "alive")},
		{name: "is ready, verbose", pattern: "/readyz", method: "GET", path: "/readyz?verbose", fields: []string{nobody, ""}, status: 200,
			want: has("ready", "true", "draining", "false")},
		{name: "is ready", pattern: "/readyz", method: "GET", fields: []string{nobody, ""}, status: 200, want: has("status", "ready")},
		{name: "contract", pattern: "/openapi.yaml", method: "GET", fields: []string{nobody, ""}, status: 200,
			want: contains("openapi: 3.1.0")},
		{name: "the runbook", pattern: "/runbook", method: "GET", fields: []string{nobody, ""}, status: 200, want: contains("# Runbook")},
		{name: "problems", pattern: "/problems", method: "GET", fields: []string{nobody, ""}, status: 200, want: contains("sold-out")},
		{name: "a problem", pattern: "/problems/{code}", method: "GET", fields: []string{nobody, ""}, status: 200,
			want: contains("Sold out")},
		{name: "a problem for people", pattern: "/problems/{code}", method: "GET", fields: []string{nobody, "", "Accept",
			"text/html"}, status: 200, want: contains("<h1>Sold out")},
		{name: "no problem", pattern: "/problems/{code}", method: "GET", path: "/problems/none", fields: []string{nobody, ""},
			status: 404, code: problem.NotFound},
		{name: "front page", pattern: "/", method: "GET", fields: []string{nobody, ""}, status: 200, want: contains("/openapi.yaml", "/metrics")},
		{name: "a file", pattern: "/console/{version}/{file}", path: "/console/x/style.css", method: "GET", fields: []string{nobody, ""}, status: 200,
			want: contains("color-scheme")},
		{name: "no file", pattern: "/console/{version}/{file}", path: "/console/x/none.js", method: "GET", status: 404, code: problem.NotFound},
		{name: "scraped", pattern: metricsPath, method: "GET", status: 200, want: contains("penstock_admin_requests_total{",
			"go_goroutines ", "penstock_ready 1")},
		{name: "profiles", pattern: "/debug/pprof/", method: "GET", status: 200, want: contains("goroutine")},
	}
}

func deepAuditRows() []row {
	const audit, mend, queue = "/admin/v1/shards/{shard}/audit", "/admin/v1/shards/{shard}/mend", "/admin/v1/queue"
	var home inventory.ShardID // of the item
	leak := func(name string) func(*shop) {
		return func(s *shop) {
			offer, _ := s.desk.Catalog().Activity("618").Offer("phone-x")
			home = inventory.Home(offer.ID, 4)
			s.leak(name, 1)
		}
	}
	finds := func(mended string) func(*answer) {
		return func(a *answer) {
			var doc shardAuditDoc
			a.read(&doc)
			if len(doc.Findings) != 1 || doc.Findings[0].Kind != desk.FindingStock || doc.Findings[0].Activity != "618" ||
				doc.Findings[0].SKU != "phone-x" || doc.Findings[0].Mended != mended {
				a.t.Errorf("findings: %s", a.body)
			}
		}
	}
	return []row{
		{name: "a unit too many", pattern: audit, method: "GET", status: 200, before: leak("seen"), after: func(s *shop) { s.leak("seen", -1) },
			place: func([]int64) (string, string) { return fmt.Sprintf("/admin/v1/shards/%d/audit", home), "" }, want: finds("")},
		{name: "a unit too many", pattern: mend, method: "POST", status: 200, before: leak("mended"), after: func(s *shop) { s.leak("mended", -1) },
			place: func([]int64) (string, string) { return fmt.Sprintf("/admin/v1/shards/%d/mend", home), "" },
			want:  finds("the shard is rebuilt")},
		{name: "in order", pattern: audit, method: "GET", status: 200,
			want: has("shard", "1", "shards", "4", "rebuilding", "false", "findings", "[]")},
		{name: "unknown", pattern: audit, method: "GET", path: "/admin/v1/shards/4/audit", status: 404, code: problem.NotFound},
		{name: "beyond all installations", pattern: audit, method: "GET", path: "/admin/v1/shards/1024/audit", status: 404, code: problem.NotFound},
		{name: "no number", pattern: audit, method: "GET", path: "/admin/v1/shards/one/audit", status: 404, code: problem.NotFound},
		{name: "a number in another form", pattern: audit, method: "GET", path: "/admin/v1/shards/01/audit", status: 404, code: problem.NotFound},
		{name: "nothing to mend", pattern: mend, method: "POST", body: `{"reason":"a look"}`, status: 200, want: has("findings", "[]")},
		{name: "unknown", pattern: mend, method: "POST", path: "/admin/v1/shards/4/mend", status: 404, code: problem.NotFound},
		{name: "wrong body", pattern: mend, method: "POST", body: `{"force":true}`, status: 400, code: problem.InvalidRequest, want: wrong("force: is unknown")},
		{name: "all", pattern: queue, method: "GET", status: 200,
			want: has("partitions", "[map[behind:2 end:5 next:3 partition:0 start:0 state:ok]]")},
	}
}
