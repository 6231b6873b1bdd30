package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

func contractLife(c *contract) {
	s := foundShop(c.n, "m-life", "life")
	const path = "/admin/v1/activities/life"
	terms := terms{quantity: 5, perUser: 0, window: "15m"}
	draft := s.draft(time.Now().Add(-time.Hour), terms)
	var state = func(want string) {
		c.t.Helper()
		if a := c.admin(200, "", "GET", path, ""); a.field("state") != want {
			c.t.Fatalf("want %s: %v", want, a)
		}
	}
	for _, verb := range []string{"publish", "pause", "resume", "end"} {
		c.admin(404, "unknown-activity", "POST", path+"/"+verb, "")
	}
	c.admin(404, "unknown-activity", "GET", path, "")
	c.admin(404, "unknown-activity", "GET", path+"/audit", "")
	put := c.admin(200, "", "PUT", path, draft)
	if put.field("state") != "draft" || put.field("payment_window") != "15m" {
		c.t.Fatalf("put: %v", put)
	}
	c.admin(200, "", "PUT", path, string(put.body)) // an answer may be sent back as a request
	c.admin(409, "activity-state", "POST", path+"/pause", "")
	c.admin(409, "activity-state", "POST", path+"/resume", "")
	state("draft")
	// The shop's own programs may read it, buyers' programs may not.
	c.public(404, "unknown-activity", "GET", "/v1/activities/life", "", as(s.key)...)
	preview := c.public(200, "", "GET", "/v1/activities/life", "", as(c.caller(s, "editor", `"merchant"`))...)
	if preview.field("state") != "draft" || !strings.Contains(string(preview.body), `"stock":"in_stock"`) || preview.header.Get("Cache-Control") != "no-store" {
		c.t.Fatalf("draft: %v", preview)
	}
	for range 2 {
		c.admin(200, "", "POST", path+"/publish", "")
		state("published")
	}
	c.admin(200, "", "POST", path+"/resume", "")
	for range 2 {
		c.admin(200, "", "POST", path+"/pause", `{"reason":"tea"}`)
		state("paused")
	}
	c.admin(409, "activity-state", "POST", path+"/publish", "")
	for range 2 {
		c.admin(200, "", "POST", path+"/resume", "")
		state("published")
	}
	now := string(c.admin(200, "", "GET", path, "").body)
	c.admin(200, "", "PUT", path, strings.Replace(now, `"Sale"`, `"Better sale"`, 1))
	c.admin(409, "not-editable", "PUT", path, strings.Replace(now, `"price":1999`, `"price":1`, 1))
	c.admin(409, "not-editable", "PUT", path, strings.Replace(now, `"quantity":5`, `"quantity":6`, 1))
	c.admin(400, "invalid-request", "PUT", path, s.draft(time.Now(), terms)) // it has started
	if a := c.public(200, "", "GET", "/v1/activities/life", "", as(s.key)...); a.field("name") != "Better sale" {
		c.t.Fatalf("the new name: %v", a)
	}
	c.admin(400, "invalid-request", "POST", path+"/end", "") // it still sells
	state("published")
	for _, body := range []string{`{"confirm":true}`, ""} {
		c.admin(200, "", "POST", path+"/end", body)
		state("ended")
	}
	for _, verb := range []string{"publish", "pause", "resume"} {
		c.admin(409, "activity-state", "POST", path+"/"+verb, "")
	}
	c.admin(409, "activity-state", "PUT", path, draft)
	// A draft that was ended has ended too: it sells nothing and accepts no units, and its state
	// says so.
	c.admin(200, "", "PUT", path+"-2", draft)
	c.admin(200, "", "POST", path+"-2/end", "")
	c.admin(409, "activity-state", "POST", path+"-2/publish", "")
	late := c.admin(409, "activity-state", "POST", path+"-2/items/phone-x/restock", `{"delta":1,"reason":"r"}`, "Idempotency-Key", "k")
	if !strings.Contains(late.field("detail"), "ended") {
		c.t.Errorf("restock of an ended draft: %v", late)
	}
	if a := c.admin(200, "", "GET", "/admin/v1/activities", ""); !strings.Contains(string(a.body), `"life-2"`) {
		c.t.Fatalf("list: %v", a)
	}
}

func contractBadActivities(c *contract) {
	s := foundShop(c.n, "m-badact", "badact")
	good := s.draft(time.Now(), terms{quantity: 5, perUser: 2, window: "15m"})
	const path = "/admin/v1/activities/badact"
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for _, bad := range []struct{ body, field string }{
		{"", "body"}, {"{", "body"}, {"[]", "body"}, {good + "}", "body"}, {with(`"Sale"`, "\"\xff\""), "body"}, {with(`{"merchant"`, `{"foo":1,"merchant"`), "foo"},
		{with(`"name":"Sale",`, ``), "name"}, {with(`"Sale"`, `"a\u0007"`), "name"},
		{with(`"starts_at":"`, `"starts_at":"x`), "starts_at"}, {with(`"ends_at":"2`, `"ends_at":"1`), "ends_at"}, {with(`"15m"`, `"15"`), "payment_window"},
		{with(`"15m"`, `"-1m"`), "payment_window"}, {with(`"price":1999`, `"price":-1`), "items[0].price"}, {with(`"price":1999`, `"price":19.99`), "items[0].price"},
		{with(`"CNY"`, `"yuan"`), "items[0].currency"}, {with(`"quantity":5`, `"quantity":-5`), "items[0].quantity"},
		{with(`"quantity":5`, `"quantity":99999999999999999999`), "items[0].quantity"}, {with(`"per_user":2`, `"per_user":-2`), "items[0].per_user"},
		{with(`"sku"`, `"color":"red","sku"`), "items[0].color"}, {good[:strings.Index(good, `[`)] + "[]}", "items"},
	} {
		a := c.admin(400, "invalid-request", "PUT", path, bad.body, "Content-Type", "application/json")
		if !strings.Contains(string(a.body), fmt.Sprintf(`{"field":%q,"detail":"`, bad.field)) {
			c.t.Errorf("%s: %q isn't named: %v", bad.body, bad.field, a)
		}
	}
	c.admin(404, "unknown-merchant", "PUT", path, with(`"m-badact"`, `"nobody"`))
	if a := c.admin(400, "invalid-request", "PUT", path, good[:len(good)-1]); strings.Contains(string(a.body), "is required") {
		c.t.Errorf("what is no JSON lacks no members: %v", a)
	}
	c.rows(c.admin, []row{
		{"large", "PUT", path, good + strings.Repeat(" ", 9<<20), nil, 413, "too-large", ""},
		{"type", "PUT", path, good, []string{"Content-Type", "text/yaml"}, 415, "unsupported-media-type", ""},
		{"method", "PATCH", path, good, nil, 405, "method-not-allowed", ""},
		{"id", "PUT", "/admin/v1/activities/a%0Ab", good, nil, 400, "invalid-request", `"activity"`},
		{"id", "PUT", "/admin/v1/activities/" + strings.Repeat("x", 65), good, nil, 400, "invalid-request", `"activity"`},
		{"none of it was kept", "GET", path, "", nil, 404, "unknown-activity", ""},
		{"nothing", "GET", "/admin/v1/nope", "", nil, 404, "not-found", ""},
	})
}

func contractCallers(c *contract) {
	s := c.sale("callers", terms{quantity: 10, perUser: 0, window: "10m"})
	const path = "/admin/v1/merchants/m-callers"
	if again := c.admin(200, "", "PUT", path, `{"name":"New name"}`); again.field("payment_secret") != "" || again.field("name") != "New name" {
		c.t.Fatalf("a known merchant keeps its secret, unseen: %v", again)
	}
	id := s.mustBuy(c.n, "u", "before")
	c.admin(200, "", "PUT", path, `{"name":"M","payment_secret":"a-secret-of-our-own"}`)
	if a := s.pay(c.n, "c1", id, price); a.status != 401 {
		c.t.Fatalf("signed with the secret before: %v", a)
	}
	s.secret = "a-secret-of-our-own"
	c.notice(s, 200, "", paid("c1", id, price, "CNY"))
	made := c.admin(201, "", "POST", path+"/callers", `{"name":"app","rights":["buy","merchant"],"shadow":false}`)
	key := made.field("key")
	if made.field("caller") != "app" || key == "" || made.header.Get("Location") != path+"/callers/app" {
		c.t.Fatalf("caller: %v", made)
	}
	if again := c.admin(201, "", "POST", path+"/callers", `{"name":"app","rights":["buy"]}`); again.field("caller") == "app" || again.field("key") == key {
		c.t.Fatalf("the same name is another caller: %v", again)
	}
	for _, list := range []string{path + "/callers", path + "/callers/app", path, "/admin/v1/changes?limit=100"} {
		if a := c.admin(200, "", "GET", list, ""); strings.Contains(string(a.body), key) || strings.Contains(string(a.body), s.secret) {
			c.t.Fatalf("%s shows a secret: %v", list, a)
		}
	}
	order := c.public(202, "", "POST", "/v1/orders", s.purchase("u", 1), as(key, "Idempotency-Key", "k")...).field("order")
	for range 2 {
		c.admin(200, "", "DELETE", path+"/callers/app", "")
		c.public(401, "unauthenticated", "POST", "/v1/orders", s.purchase("u", 1), as(key, "Idempotency-Key", "k")...)
	}
	c.public(401, "unauthenticated", "GET", "/v1/orders/"+order, "", as(key)...)
	c.public(401, "unauthenticated", "GET", "/v1/activities/callers", "", as(key)...)
	c.rows(c.admin, []row{
		{"revoked", "GET", path + "/callers/app", "", nil, 200, "", `"revoked":true`},
		{"none", "DELETE", path + "/callers/none", "", nil, 404, "unknown-caller", ""},
		{"no merchant", "POST", "/admin/v1/merchants/none/callers", `{"name":"x","rights":["buy"]}`, nil, 404, "unknown-merchant", ""},
		{"no rights", "POST", path + "/callers", `{"name":"x","rights":[]}`, nil, 400, "invalid-request", `"rights"`},
		{"strange right", "POST", path + "/callers", `{"name":"x","rights":["fly"]}`, nil, 400, "invalid-request", `"rights[0]"`},
		{"no name", "POST", path + "/callers", `{"rights":["buy"]}`, nil, 400, "invalid-request", `"name"`},
		{"strange id", "PUT", "/admin/v1/merchants/a%2Fb", `{"name":"x"}`, nil, 400, "invalid-request", `"merchant"`},
		{"no name", "PUT", "/admin/v1/merchants/x", `{}`, nil, 400, "invalid-request", `"name"`},
		{"list", "GET", "/admin/v1/merchants", "", nil, 200, "", `"m-callers"`},
	})
}

func contractRestock(c *contract) {
	s := c.sale("restock", terms{quantity: 2, perUser: 0, window: "10m"})
	const path = "/admin/v1/activities/restock/items/phone-x/restock"
	restock := func(status int, code, key string, delta int) answer {
		c.t.Helper()
		return c.admin(status, code, "POST", path, fmt.Sprintf(`{"delta":%d,"reason":"delivery"}`, delta), "Idempotency-Key", key)
	}
	total := func(a answer, total, replayed string) {
		c.t.Helper()
		if a.field("total") != total || a.header.Get("Idempotent-Replayed") != replayed {
			c.t.Fatalf("want %s: %v", total, a)
		}
	}
	s.mustBuy(c.n, "u1", "k")
	s.mustBuy(c.n, "u2", "k")
	c.public(409, "sold-out", "POST", "/v1/orders", s.purchase("u3", 1), as(s.key, "Idempotency-Key", "k")...)
	total(restock(200, "", "up", 3), "5", "")
	total(restock(200, "", "up", 3), "5", "true")
	restock(422, "idempotency-key-reused", "up", 4)
	eventually(c.t, "the new units are for sale", func() bool {
		a, err := s.buy(c.n, "u3", "k", 1, "Prefer", "wait=10")
		return err == nil && a.status == 201
	})
	s.settled(c.n)
	total(restock(200, "", "down", -1), "4", "")
	total(restock(200, "", "down", -1), "4", "true")
	restock(409, "insufficient-stock", "much", -2)
	c.rows(c.admin, []row{
		{"no key", "POST", path, `{"delta":1,"reason":"r"}`, nil, 400, "invalid-request", "Idempotency-Key"},
		{"no reason", "POST", path, `{"delta":1}`, []string{"Idempotency-Key", "k"}, 400, "invalid-request", `"reason"`},
		{"zero", "POST", path, `{"delta":0,"reason":"r"}`, []string{"Idempotency-Key", "k"}, 400, "invalid-request", `"delta"`},
		{"huge", "POST", path, `{"delta":999999999999,"reason":"r"}`, []string{"Idempotency-Key", "k"}, 400, "invalid-request", `"delta"`},
		{"no item", "POST", strings.Replace(path, "phone-x", "none", 1), `{"delta":1,"reason":"r"}`, []string{"Idempotency-Key", "k"}, 404, "unknown-item", ""},
		{"no activity", "POST", strings.Replace(path, "s/restock", "s/none", 1), `{"delta":1,"reason":"r"}`, []string{"Idempotency-Key", "k"}, 404, "unknown-activity", ""},
	})
	if got := s.settled(c.n); got != (stock{Total: 4, Available: 1, Held: 3, Balanced: true}) {
		c.t.Fatalf("%+v", got)
	}
	// Units of a draft: a restock may add some; to have fewer, the draft is put again.
	c.admin(200, "", "PUT", "/admin/v1/activities/restock-2", s.draft(time.Now(), terms{quantity: 2, window: "10m"}))
	more := strings.Replace(path, "s/restock", "s/restock-2", 1)
	total(c.admin(200, "", "POST", more, `{"delta":3,"reason":"r"}`, "Idempotency-Key", "k"), "5", "")
	c.admin(409, "activity-state", "POST", more, `{"delta":-3,"reason":"r"}`, "Idempotency-Key", "k2")
	c.admin(200, "", "POST", "/admin/v1/activities/restock-2/publish", "")
	c.rows(c.admin, []row{{"audit", "GET", "/admin/v1/activities/restock-2/audit", "", nil, 200, "",
		`"total":5,"available":5,"held":0,"sold":0,"balanced":true,"in_flight":0`}})
}

func contractSwitches(c *contract) {
	s := c.sale("switches", terms{quantity: 10, perUser: 0, window: "10m"})
	const path = "/admin/v1/switches/orders"
	off := c.admin(200, "", "PUT", path, `{"value":"off","scope":{"merchant":"m-switches"},"reason":"test"}`)
	if off.field("applied") != "1" || off.field("nodes") != "1" || off.field("version") == "" || off.field("lagging") != "[]" {
		c.t.Fatalf("switch: %v", off)
	}
	c.public(503, "degraded", "POST", "/v1/orders", s.purchase("u", 1), as(s.key, "Idempotency-Key", "k")...)
	c.admin(200, "", "PUT", path, `{"value":"on","scope":{"merchant":"m-switches"},"reason":"test"}`)
	c.public(202, "", "POST", "/v1/orders", s.purchase("u", 1), as(s.key, "Idempotency-Key", "k")...)
	c.admin(200, "", "PUT", path, `{"value":"off","scope":{"merchant":"m-switches"},"reason":"test","expires_in":"1s"}`)
	c.public(503, "degraded", "POST", "/v1/orders", s.purchase("u2", 1), as(s.key, "Idempotency-Key", "k")...)
	eventually(c.t, "the switch ends by itself", func() bool {
		a, err := s.buy(c.n, "u2", "k", 1)
		return err == nil && a.status == http.StatusAccepted
	})
	c.rows(c.admin, []row{
		{"list", "GET", "/admin/v1/switches", "", nil, 200, "", `"name":"orders"`},
		{"unknown", "PUT", "/admin/v1/switches/none", `{"value":"off","reason":"r"}`, nil, 404, "unknown-switch", ""},
		{"value", "PUT", path, `{"value":"sideways","reason":"r"}`, nil, 400, "invalid-request", `"value"`},
		{"reason", "PUT", path, `{"value":"off"}`, nil, 400, "invalid-request", `"reason"`},
		{"scope", "PUT", path, `{"value":"off","scope":{"planet":"x"},"reason":"r"}`, nil, 400, "invalid-request", `"scope.planet"`},
		{"expiry", "PUT", path, `{"value":"off","reason":"r","expires_in":"soon"}`, nil, 400, "invalid-request", `"expires_in"`},
	})
}

func contractLimits(c *contract) {
	s := c.sale("limits", terms{quantity: 10, perUser: 0, window: "10m"})
	const path = "/admin/v1/limits"
	policies := `{"policies":[{"name":"slow","key":"merchant","match":"m-limits","rate":0.001,"burst":1,"mode":"enforce"}],"reason":"test"}`
	before := c.admin(200, "", "GET", path, "").header.Get("ETag")
	c.admin(428, "precondition-required", "PUT", path, policies)
	c.admin(412, "precondition-failed", "PUT", path, policies, "If-Match", `"99"`)
	set := c.admin(200, "", "PUT", path, policies, "If-Match", before)
	c.admin(412, "precondition-failed", "PUT", path, policies, "If-Match", before)
	c.public(202, "", "POST", "/v1/orders", s.purchase("u", 1), as(s.key, "Idempotency-Key", "k")...)
	a := c.public(429, "rate-limited", "POST", "/v1/orders", s.purchase("u", 1), as(s.key, "Idempotency-Key", "k2")...)
	if a.header.Get("Retry-After") == "" || !strings.Contains(a.header.Get("RateLimit"), `"slow"`) || !strings.Contains(a.header.Get("RateLimit-Policy"), `"slow"`) {
		c.t.Fatalf("429: %v", a)
	}
	c.rows(c.admin, []row{
		{"reason", "PUT", path, `{"policies":[]}`, []string{"If-Match", set.header.Get("ETag")}, 400, "invalid-request", `"reason"`},
		{"key", "PUT", path, strings.Replace(policies, `"merchant"`, `"planet"`, 1), []string{"If-Match", set.header.Get("ETag")}, 400, "invalid-request", `"policies[0].key"`},
		{"rate", "PUT", path, strings.Replace(policies, `0.001`, `-1`, 1), []string{"If-Match", set.header.Get("ETag")}, 400, "invalid-request", `"policies[0].rate"`},
		{"mode", "PUT", path, strings.Replace(policies, `enforce`, `hope`, 1), []string{"If-Match", set.header.Get("ETag")}, 400, "invalid-request", `"policies[0].mode"`},
		{"unconfirmed", "PUT", path, `{"policies":[],"reason":"r"}`, []string{"If-Match", set.header.Get("ETag")}, 400, "invalid-request", `"confirm"`},
		{"none", "PUT", path, `{"policies":[],"confirm":true,"reason":"r"}`, []string{"If-Match", set.header.Get("ETag")}, 200, "", `"lagging":[]`},
	})
	c.public(202, "", "POST", "/v1/orders", s.purchase("u", 1), as(s.key, "Idempotency-Key", "k2")...)
}

func contractTokens(c *contract) {
	c.admin(401, "unauthenticated", "GET", "/admin/v1/merchants", "", "Authorization", "")
	c.admin(401, "unauthenticated", "GET", "/admin/v1/merchants", "", "Authorization", "Bearer none")
	token := func(role string) []string {
		return as(c.admin(201, "", "POST", "/admin/v1/tokens", fmt.Sprintf(`{"name":"t-%s","role":%q}`, role, role)).field("token"))
	}
	viewer, operator, admin := token("viewer"), token("operator"), token("admin")
	const flip = `{"value":null,"reason":"r"}`
	c.rows(c.admin, []row{
		{"viewer reads", "GET", "/admin/v1/merchants", "", viewer, 200, "", ""},
		{"viewer flips", "PUT", "/admin/v1/switches/wait", flip, viewer, 403, "forbidden", ""},
		{"viewer changes", "PUT", "/admin/v1/merchants/t", `{"name":"t"}`, viewer, 403, "forbidden", ""},
		{"operator reads", "GET", "/admin/v1/changes", "", operator, 200, "", ""},
		{"operator flips", "PUT", "/admin/v1/switches/wait", flip, operator, 200, "", ""},
		{"operator changes", "PUT", "/admin/v1/merchants/t", `{"name":"t"}`, operator, 403, "forbidden", ""},
		{"admin changes", "PUT", "/admin/v1/merchants/t", `{"name":"t"}`, admin, 200, "", ""},
		{"who", "GET", "/admin/v1/changes?limit=1", "", admin, 200, "", `"actor":"t-admin"`},
		{"taken", "POST", "/admin/v1/tokens", `{"name":"t-viewer","role":"viewer"}`, nil, 409, "already-exists", ""},
		{"role", "POST", "/admin/v1/tokens", `{"name":"t","role":"king"}`, nil, 400, "invalid-request", `"role"`},
		{"delete", "DELETE", "/admin/v1/tokens/t-viewer", "", nil, 204, "", ""},
		{"deleted", "GET", "/admin/v1/merchants", "", viewer, 401, "unauthenticated", ""},
		{"delete again", "DELETE", "/admin/v1/tokens/t-viewer", "", nil, 404, "unknown-token", ""},
		{"a caller key is no token", "GET", "/admin/v1/merchants", "", as(foundShop(c.n, "m-tokens", "").key), 401, "unauthenticated", ""},
	})
}

func contractChanges(c *contract) {
	s := c.sale("changes", terms{quantity: 5, perUser: 0, window: "10m"})
	type change struct {
		Number             int
		Actor, Reason, Key string
		Kind               string
		Before, After      any
		Revertible         bool
	}
	last := func() change {
		c.t.Helper()
		var list struct{ Items []change }
		a := c.admin(200, "", "GET", "/admin/v1/changes?limit=1", "")
		if err := json.Unmarshal(a.body, &list); err != nil || len(list.Items) != 1 {
			c.t.Fatalf("changes: %v, %v", a, err)
		}
		return list.Items[0]
	}
	revert := func(status int, code string, n int, changed string) {
		c.t.Helper()
		a := c.admin(status, code, "POST", fmt.Sprintf("/admin/v1/changes/%d/revert", n), `{"reason":"back"}`)
		if a.field("changed") != changed {
			c.t.Fatalf("revert of %d: %v", n, a)
		}
	}
	c.admin(200, "", "DELETE", "/admin/v1/merchants/m-changes/callers/web", "", "X-Reason", "leaked")
	revoked := last()
	if revoked.Kind != "caller" || revoked.Key != "m-changes/web" || revoked.Reason != "leaked" || revoked.Actor == "" || revoked.Before == nil || revoked.After == nil {
		c.t.Fatalf("%+v", revoked)
	}
	revert(200, "", revoked.Number, "true")
	revert(200, "", revoked.Number, "false")
	c.public(202, "", "POST", "/v1/orders", s.purchase("u", 1), as(s.key, "Idempotency-Key", "k")...)
	c.admin(200, "", "POST", "/admin/v1/activities/changes/items/phone-x/restock", `{"delta":3,"reason":"more"}`, "Idempotency-Key", "k")
	added := last()
	revert(200, "", added.Number, "true")
	if got := s.settled(c.n); got != (stock{Total: 5, Available: 4, Held: 1, Balanced: true}) {
		c.t.Fatalf("%+v", got)
	}
	c.admin(200, "", "POST", "/admin/v1/activities/changes/pause", `{"reason":"tea"}`)
	paused := last()
	revert(200, "", paused.Number, "true")
	c.public(202, "", "POST", "/v1/orders", s.purchase("u2", 1), as(s.key, "Idempotency-Key", "k")...)
	revert(404, "unknown-change", 999999, "")
	c.admin(404, "unknown-change", "POST", "/admin/v1/changes/nope/revert", "")
}

func contractOperations(c *contract) {
	c.rows(c.admin, []row{
		{"dead letters", "GET", "/admin/v1/dead-letters", "", nil, 200, "", `"items":[]`},
		{"replay all", "POST", "/admin/v1/dead-letters/replay", `{"all":true}`, nil, 200, "", `"replayed":0`},
		{"discard all", "POST", "/admin/v1/dead-letters/discard", `{"all":true,"confirm":true}`, nil, 200, "", `"discarded":0`},
		{"discard all unasked", "POST", "/admin/v1/dead-letters/discard", `{"all":true}`, nil, 400, "invalid-request", `"confirm"`},
		{"replay what", "POST", "/admin/v1/dead-letters/replay", `{}`, nil, 400, "invalid-request", `"ids"`},
		{"replay none", "POST", "/admin/v1/dead-letters/7/replay", "", nil, 404, "unknown-dead-letter", ""},
		{"discard none", "POST", "/admin/v1/dead-letters/discard", `{"ids":[7]}`, nil, 404, "unknown-dead-letter", ""},
		{"metrics", "GET", "/metrics", "", nil, 200, "", "# TYPE penstock_"},
		{"metrics, nobody", "GET", "/metrics", "", []string{"Authorization", ""}, 401, "unauthenticated", ""},
		{"profiles", "GET", "/debug/pprof/", "", nil, 200, "", "goroutine"},
		{"profile", "GET", "/debug/pprof/goroutine?debug=1", "", nil, 200, "", "goroutine profile"},
		{"profiles, nobody", "GET", "/debug/pprof/", "", []string{"Authorization", ""}, 401, "unauthenticated", ""},
		{"alive", "GET", "/livez", "", nil, 200, "", "alive"}, {"ready", "GET", "/readyz", "", nil, 200, "", "ready"},
		{"contract", "GET", "/openapi.yaml", "", []string{"Authorization", ""}, 200, "", "openapi: 3.1"},
		{"page", "GET", "/", "", []string{"Authorization", ""}, 200, "", "<html"},
	})
}

// shell runs the program to its end. Its commands ask the node.
func (c *contract) shell(want int, args ...string) (stdout, stderr string) {
	c.t.Helper()
	return shell(c.t, want, c.n.private, args...)
}

func contractShell(c *contract) {
	s := c.sale("shell", terms{quantity: 5, perUser: 0, window: "10m"})
	s.mustBuy(c.n, "u", "k")
	s.settled(c.n)
	clear := func(want int, says string, args ...string) {
		c.t.Helper()
		out, stderr := c.shell(want, args...)
		if out != "" || !strings.HasPrefix(stderr, "penstock: ") || !strings.Contains(stderr, says) || strings.Count(stderr, "\n") != 1 {
			c.t.Errorf("%v: want one line with %q, got %q and %q", args, says, out, stderr)
		}
	}
	if out, _ := c.shell(0, "audit", "shell", "-o", "json"); !strings.Contains(out, `"held": 1`) || !strings.Contains(out, `"balanced": true`) {
		c.t.Errorf("audit: %s", out)
	}
	if out, _ := c.shell(0, "audit"); !strings.Contains(out, "shell") {
		c.t.Errorf("audit: %s", out)
	}
	clear(1, "no activity", "audit", "none")
	clear(4, "connection refused", "audit", "--admin", "http://127.0.0.1:1")
	clear(2, "--output", "audit", "-o", "yaml")
	c.shell(0, "healthcheck", "--url", c.n.public+"/readyz")
	clear(4, "connection refused", "healthcheck", "--url", "http://127.0.0.1:1/readyz")
	clear(2, "--url", "healthcheck", "--url", "nowhere")
	c.shell(0, "ctl", "activities", "pause", "shell")
	c.public(503, "degraded", "POST", "/v1/orders", s.purchase("u2", 1), as(s.key, "Idempotency-Key", "k")...)
	c.shell(0, "ctl", "activities", "resume", "shell")
	clear(1, "unknown-activity", "ctl", "activities", "publish", "none")
	clear(2, "accepts 1 arg", "ctl", "activities", "publish")
	clear(2, "frobnicate", "frobnicate")
	clear(2, "tcsh", "completion", "tcsh")
	clear(2, "frobnicate", "ctl", "frobnicate")
	clear(2, "--frobnicate", "serve", "--frobnicate")
	clear(2, "listen", "serve", "--listen", "127.0.0.1:99999")
	clear(2, "nowhere.yaml", "config", "check", "nowhere.yaml")
	clear(2, "data-dir", "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", "/dev/null")
	if out, _ := c.shell(0, "version"); !strings.HasPrefix(out, "penstock ") {
		c.t.Errorf("version: %s", out)
	}
	for _, name := range []string{"bash", "zsh", "fish", "powershell"} {
		if out, _ := c.shell(0, "completion", name); out == "" {
			c.t.Errorf("completion %s is empty", name)
		}
	}
}

// contractProblems: each problem in an answer has a page on the listener that gave it.
func contractProblems(c *contract) {
	if len(c.codes) < 25 {
		c.t.Fatalf("only %d problems were answered", len(c.codes))
	}
	for code := range c.codes {
		a, err := call("GET", c.n.private+"/problems/"+code, "")
		if err != nil || a.status != http.StatusOK || !strings.Contains(string(a.body), code) {
			c.t.Errorf("/problems/%s: %v, %v", code, a, err)
		}
	}
}
