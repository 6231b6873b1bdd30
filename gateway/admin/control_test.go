package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"penstock/gateway/problem"
	"penstock/internal/settings"
)

func controlRows() []row {
	const limits, switches, one = "/admin/v1/limits", "/admin/v1/switches", "/admin/v1/switches/{name}"
	tag := func(want string) func(*answer) {
		return func(a *answer) {
			if got := a.Header.Get("ETag"); got != want {
				a.t.Errorf("ETag %s, want %s", got, want)
			}
		}
	}
	both := func(checks ...func(*answer)) func(*answer) {
		return func(a *answer) {
			for _, check := range checks {
				check(a)
			}
		}
	}
	put := func(name, match, body string, status int, code problem.Code, want func(*answer)) row {
		r := row{name: name, pattern: limits, method: "PUT", body: body, status: status, code: code, want: want}
		if match != "" {
			r.fields = []string{"If-Match", match}
		}
		return r
	}
	const good = `{"policies":[{"name":"caller","key":"caller","rate":400.5,"burst":400,"mode":"shadow"},
		{"name":"big","key":"caller","match":"m1/app","rate":4000,"burst":40}],"reason":"sale"}`
	set := func(name, body string, status int, code problem.Code, want func(*answer)) row {
		return row{name: name + " " + body, pattern: one, path: switches + "/" + name, method: "PUT", body: body, status: status, code: code, want: want}
	}
	return []row{
		{name: "nobody there", pattern: "/admin/v1/settings", method: "GET", status: 200, want: both(has("nodes", "[]"), func(a *answer) {
			if want := `"documents":[{"name":"limits","version":0},{"name":"switches","version":0}]`; !strings.Contains(a.body, want) {
				a.t.Errorf("lacks %s: %s", want, a.body)
			}
		})},
		{name: "none", pattern: limits, method: "GET", status: 200, want: both(has("version", "0", "policies", "[]"), tag(`"0"`))},
		put("without If-Match", "", good, 428, problem.PreconditionRequired, nil),
		put("of another version", `"7"`, good, 412, problem.PreconditionFailed, tag(`"0"`)),
		put("of a weak tag", `W/"0"`, good, 412, problem.PreconditionFailed, nil),
		put("replaced", `"7", "0"`, good, 200, "", both(has("version", "1", "applied", "0", "nodes", "0", "lagging", "[]"), tag(`"1"`))),
		put("of the version before", `"0"`, good, 412, problem.PreconditionFailed, tag(`"1"`)),
		{name: "some", pattern: limits, method: "GET", status: 200, want: both(has("version", "1"), tag(`"1"`), func(a *answer) {
			for _, want := range []string{`"rate":400.5,"burst":400,"mode":"shadow"`, `"match":"m1/app"`, `"mode":"enforce"`} {
				if !strings.Contains(a.body, want) {
					a.t.Errorf("lacks %s: %s", want, a.body)
				}
			}
		})},
		put("put back", `*`, `{"version":1,"policies":[],"reason":"none"}`, 200, "", has("version", "2")),
		put("without a reason", `*`, `{"policies":[]}`, 400, problem.InvalidRequest, wrong("reason: is required")),
		put("wrong", `*`, `{"policies":[{"name":"a","key":"caller","rate":"1","burst":1.5,"colour":1},1],"reason":"x"}`, 400, problem.InvalidRequest, wrong(
			"policies[0].rate: must be a number", "policies[0].burst: must be a whole number", "policies[0].colour: is unknown",
			"policies[1]: must be a JSON object", "policies[1].name: is required", "policies[1].key: is required", "policies[1].rate: is required",
			"policies[1].burst: is required")),
		put("wrong values", `*`, `{"policies":[{"name":"a","key":"what","rate":0,"burst":-1,"mode":"on"},{"name":"a","key":"caller","match":"app",
			"rate":1e9,"burst":1}],"reason":"x"}`, 400, problem.InvalidRequest, func(a *answer) {
			got := strings.Join(a.mistakes(), "\n")
			for _, want := range []string{"policies[0].key", "policies[0].rate", "policies[0].burst", "policies[0].mode", "policies[1].name", "policies[1].match",
				"policies[1].rate"} {
				if !strings.Contains(got, want) {
					a.t.Errorf("lacks %s: %s", want, got)
				}
			}
		}),
		put("too many", `*`, `{"policies":[`+strings.Repeat("1,", 10_000)+`1],"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("policies: must be at most 10000")),

		{name: "none set", pattern: switches, method: "GET", status: 200, want: both(has("version", "0"),
			keys("value", "on", "100", "on", "live", "1", "enforce", "off", "auto", "auto", "auto"))},
		set("orders", `{"value":"off","reason":"x"}`, 200, "", has("version", "1", "applied", "0", "nodes", "0", "lagging", "[]")),
		set("orders", `{"value":"on","scope":{"merchant":"m1"},"reason":"x","expires_in":"1h"}`, 200, "", has("version", "2")),
		set("admission", `{"value":30,"scope":{"sku":"618/x"},"reason":"x"}`, 200, "", has("version", "3")),
		set("poll-interval", `{"value":"5","reason":"x"}`, 200, "", has("version", "4")),
		{name: "set", pattern: switches, method: "GET", status: 200, want: both(has("version", "4"),
			keys("value", "off", "100", "on", "live", "5", "enforce", "off", "auto", "auto", "auto"))},
		set("orders", `{"value":null,"reason":"x"}`, 200, "", has("version", "5")),
		set("colour", `{"value":"red","reason":"x"}`, 404, problem.UnknownSwitch, nil),
		set("orders", `{"value":"on"}`, 400, problem.InvalidRequest, wrong("reason: is required")),
		set("orders", `{"reason":"x"}`, 400, problem.InvalidRequest, wrong("value: is required; null takes out what is set for the scope")),
		set("orders", `{"value":"maybe","reason":"x"}`, 400, problem.InvalidRequest, wrong("value: must be one of off, on")),
		set("orders", `{"value":true,"reason":"x"}`, 400, problem.InvalidRequest, wrong("value: must be one of off, on")),
		set("admission", `{"value":101,"reason":"x"}`, 400, problem.InvalidRequest, wrong("value: must be a whole number from 0 to 100")),
		set("admission", `{"value":1.5,"reason":"x"}`, 400, problem.InvalidRequest, wrong("value: must be a whole number from 0 to 100")),
		set("orders", `{"value":"on","scope":{},"reason":"x"}`, 200, "", has("version", "6")),
		set("orders", `{"value":"on","scope":{"merchant":""},"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("scope: must name somebody; without a scope it is for everybody")),
		set("orders", `{"value":"on","scope":{"merchant":"a","sku":"b"},"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("scope: must be one of merchant, activity, sku, caller")),
		set("orders", `{"value":"on","scope":{"caller":"app"},"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("scope: must name a caller as merchant/caller")),
		set("orders", `{"value":"on","scope":{"activity":"a/b"},"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("scope: must consist of letters, digits and ._~-")),
		set("orders", `{"value":"on","scope":{"sku":"/s1"},"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("scope: must name a SKU as sku or activity/sku")),
		set("orders", `{"value":"on","scope":{"sku":"a1/"},"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("scope: must name a SKU as sku or activity/sku")),
		set("orders", `{"value":"on","scope":{"merchant":"m1/x"},"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("scope: must consist of letters, digits and ._~-")),
		set("orders", `{"value":"on","scope":{"planet":"mars"},"reason":"x"}`, 400, problem.InvalidRequest, wrong("scope.planet: is unknown",
			"scope: must name somebody; without a scope it is for everybody")),
		set("orders", `{"value":"on","reason":"x","expires_in":"soon"}`, 400, problem.InvalidRequest,
			wrong("expires_in: must be a duration like 90s, 15m or 1h30m, from 1s to 720h")),
		set("orders", `{"value":"on","reason":"x","expires_in":"1ms"}`, 400, problem.InvalidRequest,
			wrong("expires_in: must be a duration like 90s, 15m or 1h30m, from 1s to 720h")),
	}
}

func TestSettingsSayWhatEachNodeRuns(t *testing.T) {
	s := open(t, nil)
	s.must(200, "PUT", "/admin/v1/switches/wait", `{"value":"off","reason":"x"}`)
	s.must(200, "PUT", "/admin/v1/switches/wait", `{"value":"on","reason":"x"}`)
	for node, applied := range map[string]settings.Versions{
		"current": {settings.Switches: 2}, "behind": {settings.Switches: 1}, "refusing": {settings.Switches: 1}, "new": {},
	} {
		beat := settings.Beat{Instance: node, Node: node, Applied: applied, Seen: applied}
		if node == "refusing" {
			beat.Rejected = settings.Versions{settings.Switches: 2}
		}
		if _, err := s.store.ExchangeSettings(t.Context(), beat); err != nil {
			t.Fatal(err)
		}
	}
	var got settingsDoc
	if err := json.Unmarshal([]byte(s.must(200, "GET", "/admin/v1/settings", "").body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Nodes) != 4 || got.Documents[1] != (documentDoc{settings.Switches, 2}) {
		t.Fatalf("%+v", got)
	}
	for _, n := range got.Nodes {
		want := map[string]string{"new": nodeBehind}[n.Node]
		if want == "" {
			want = n.Node
		}
		if n.State != want || n.Applied[settings.Limits] != 0 || (len(n.Refused) == 1) != (n.Node == "refusing") {
			t.Errorf("%+v, want %s", n, want)
		}
	}
	silent := newNodeDoc(&settings.Member{Node: "gone", Silent: 2 * settings.AliveFor}, got.Documents)
	if silent.State != nodeSilent || silent.SilentMS != 3000 {
		t.Errorf("%+v", silent)
	}
}

func TestRevertOfLimits(t *testing.T) {
	s := open(t, nil)
	policy := func(rate int) string {
		return fmt.Sprintf(`{"policies":[{"name":"caller","key":"caller","rate":%d,"burst":1}],"reason":"x"}`, rate)
	}
	rate := func() string { return s.must(200, "GET", "/admin/v1/limits", "").body }
	s.must(200, "PUT", "/admin/v1/limits", policy(1), "If-Match", `"0"`)
	first := s.lastChange()
	s.must(200, "PUT", "/admin/v1/limits", policy(2), "If-Match", `"1"`)
	second := s.lastChange()
	s.revert(first).refused(problem.NotRevertible) // overtaken
	s.revert(second).reverted(true)
	if got := rate(); !strings.Contains(got, `"version":3`) || !strings.Contains(got, `"rate":1,`) {
		t.Errorf("after the revert: %s", got)
	}
	s.revert(second).reverted(false)
	s.revert(first).reverted(true)
	if got := rate(); !strings.Contains(got, `"version":4,"policies":[]`) {
		t.Errorf("after the second revert: %s", got)
	}
}

// A switch that is over gives way to the one beneath it, also after a revert: else a sale that was switched off opens by itself.
func TestRevertOfASwitchKeepsWhatIsBeneath(t *testing.T) {
	s := open(t, nil)
	layers := func() int {
		return strings.Count(s.must(200, "GET", "/admin/v1/switches", "").body, `"reason":"layer"`)
	}
	s.must(200, "PUT", "/admin/v1/switches/orders", `{"value":"off","reason":"layer"}`)
	s.must(200, "PUT", "/admin/v1/switches/orders", `{"value":"on","reason":"layer","expires_in":"2h"}`)
	s.must(200, "PUT", "/admin/v1/switches/orders", `{"value":"on","reason":"layer","expires_in":"1h"}`)
	third := s.lastChange()
	s.must(200, "PUT", "/admin/v1/switches/orders", `{"value":null,"reason":"x"}`)
	s.revert(s.lastChange()).reverted(true)
	if n := layers(); n != 3 {
		t.Errorf("%d layers after the removal was reverted, want 3", n)
	}
	s.revert(third).reverted(true)
	if n := layers(); n != 2 {
		t.Errorf("%d layers after the third was reverted, want 2", n)
	}
}

func TestRevertOfASwitchLeavesTheOthers(t *testing.T) {
	s := open(t, nil)
	put := func(name, body string) int64 {
		s.must(200, "PUT", "/admin/v1/switches/"+name, body)
		return s.lastChange()
	}
	put("wait", `{"value":"off","reason":"x"}`)
	off := put("orders", `{"value":"off","reason":"x","expires_in":"1h"}`)
	put("admission", `{"value":50,"reason":"x","scope":{"merchant":"m1"}}`)
	values := keys("value", "on", "100", "off", "live", "1", "enforce", "off", "auto", "auto", "auto")
	s.revert(off).reverted(true)
	values(s.must(200, "GET", "/admin/v1/switches", ""))
	s.revert(off).reverted(false)
	again := put("orders", `{"value":"on","reason":"x"}`)
	s.revert(off).refused(problem.NotRevertible)
	put("orders", `{"value":"off","reason":"x"}`)
	s.revert(again).refused(problem.NotRevertible)
	if got := s.must(200, "GET", "/admin/v1/switches", "").body; strings.Count(got, `"since"`) != 3 {
		t.Errorf("set: %s", got)
	}
}

// TestChangesNameTheNodesThatLag: a node that is silent but may serve yet is named, and not waited for.
func TestChangesNameTheNodesThatLag(t *testing.T) {
	s := open(t, nil)
	beat := settings.Beat{Instance: "i1", Node: "gateway-1", Applied: settings.Versions{settings.Switches: 1}}
	if _, err := s.store.ExchangeSettings(context.Background(), beat); err != nil {
		t.Fatal(err)
	}
	has("version", "1", "applied", "1", "nodes", "1", "lagging", "[]")(s.must(200, "PUT", "/admin/v1/switches/orders", `{"value":"off","reason":"x"}`))
	has("version", "2", "applied", "0", "nodes", "1", "lagging", "[gateway-1]")(
		s.must(200, "PUT", "/admin/v1/switches/orders", `{"value":"on","reason":"x"}`))
}
