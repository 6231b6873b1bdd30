package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/internal/settings"
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
		{"name":"big","key":"caller","match":"m1/app","rate":4000,"burst":40}],"reason":"sale","allow_unknown":true}`
	set := func(name, body string, status int, code problem.Code, want func(*answer)) row {
		return row{name: name + " " + body, pattern: one, path: switches + "/" + name, method: "PUT", body: body, status: status, code: code, want: want}
	}
	return []row{
		{name: "nobody there", pattern: "/admin/v1/limits/usage", method: "GET", status: 200, want: has("nodes", "[]")},
		{name: "nothing set", pattern: "/admin/v1/settings", method: "GET", status: 200, want: func(a *answer) {
			for _, want := range []string{
				`"documents":[{"name":"limits","version":0},{"name":"switches","version":0},{"name":"webhooks","version":`, `"node":"gateway-1","state":"current"`,
			} {
				if !strings.Contains(a.body, want) {
					a.t.Errorf("lacks %s: %s", want, a.body)
				}
			}
		}},
		{name: "none", pattern: limits, method: "GET", status: 200, want: both(has("version", "0", "policies", "[]"), tag(`"0"`))},
		put("without If-Match", "", good, 428, problem.PreconditionRequired, nil),
		put("of another version", `"7"`, good, 412, problem.PreconditionFailed, tag(`"0"`)),
		put("of a weak tag", `W/"0"`, good, 412, problem.PreconditionFailed, nil),
		put("replaced", `"7", "0"`, good, 200, "", both(has("version", "1", "applied", "1", "nodes", "1", "lagging", "[]"), tag(`"1"`))),
		put("of the version before", `"0"`, good, 412, problem.PreconditionFailed, tag(`"1"`)),
		{name: "some", pattern: limits, method: "GET", status: 200, want: both(has("version", "1"), tag(`"1"`), func(a *answer) {
			for _, want := range []string{`"rate":400.5,"burst":400,"mode":"shadow"`, `"match":"m1/app"`, `"mode":"enforce"`} {
				if !strings.Contains(a.body, want) {
					a.t.Errorf("lacks %s: %s", want, a.body)
				}
			}
		})},
		put("put back", `*`, `{"version":1,"policies":[],"confirm":true,"reason":"none"}`, 200, "", has("version", "2")),
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
			keys("value", "on", "100", "on", "live", "1", "enforce", "off", "on", "auto", "on", "auto", "auto", "auto"))},
		set("orders", `{"value":"off","reason":"x"}`, 200, "", has("version", "1", "applied", "1", "nodes", "1", "lagging", "[]")),
		set("orders", `{"value":"on","scope":{"merchant":"m1"},"reason":"x","expires_in":"1h","allow_unknown":true}`, 200, "", both(has("version", "2"),
			has("message", "orders is on for merchant m1, in force on the only gateway"))),
		set("admission", `{"value":30,"scope":{"sku":"618/x"},"reason":"x","allow_unknown":true}`, 200, "", has("version", "3")),
		set("poll-interval", `{"value":"5","reason":"x"}`, 200, "", has("version", "4")),
		{name: "set", pattern: switches, method: "GET", status: 200, want: both(has("version", "4"),
			keys("value", "off", "100", "on", "live", "5", "enforce", "off", "on", "auto", "on", "auto", "auto", "auto"))},
		set("orders", `{"value":"on","reason":"x","dry_run":true}`, 204, "", nil),
		set("orders", `{"value":null,"reason":"x"}`, 200, "", has("version", "5")),
		set("colour", `{"value":"red","reason":"x"}`, 404, problem.UnknownSwitch, nil),
		set("orders", `{"value":"on"}`, 400, problem.InvalidRequest, wrong("reason: is required")),
		set("orders", `{"reason":"x"}`, 400, problem.InvalidRequest, wrong("value: is required; null removes the value of the scope")),
		set("orders", `{"value":"maybe","reason":"x"}`, 400, problem.InvalidRequest, wrong("value: must be one of off, on")),
		set("orders", `{"value":true,"reason":"x"}`, 400, problem.InvalidRequest, wrong("value: must be one of off, on")),
		set("admission", `{"value":101,"reason":"x"}`, 400, problem.InvalidRequest, wrong("value: must be a whole number from 0 to 100")),
		set("admission", `{"value":1.5,"reason":"x"}`, 400, problem.InvalidRequest, wrong("value: must be a whole number from 0 to 100")),
		set("orders", `{"value":"on","scope":{},"reason":"x"}`, 200, "", has("version", "6")),
		set("orders", `{"value":"on","scope":{"merchant":""},"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("scope: must have a name; without a scope the switch is for everybody")),
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
			"scope: must have a name; without a scope the switch is for everybody")),
		set("orders", `{"value":"on","reason":"x","expires_in":"soon"}`, 400, problem.InvalidRequest,
			wrong("expires_in: must be a duration like 90s, 15m or 1h30m, from 1s to 720h")),
		set("level", `{"value":"D1","reason":"x","scope":{"merchant":"m1"}}`, 400, problem.InvalidRequest,
			wrong("scope: must be an activity, or nobody: level is for everybody or for one activity")),
		set("level", `{"value":"D9","reason":"x"}`, 400, problem.InvalidRequest, wrong("value: must be one of auto, D0, D1, D2, D3, D4, D5")),
		set("level", `{"value":"D1","reason":"x","starts_at":"soon","expires_in":"1h"}`, 400, problem.InvalidRequest,
			wrong("starts_at: must be a time (RFC 3339), or like start-30s with the scope of an activity")),
		set("level", `{"value":"D1","reason":"x","starts_at":"start-30s","expires_in":"1h"}`, 400, problem.InvalidRequest,
			wrong("starts_at: can be relative to the start of an activity only with the scope of one")),
		set("orders", `{"value":"off","reason":"x","starts_at":"2026-06-18T20:00:00Z"}`, 400, problem.InvalidRequest,
			wrong("expires_in: is required with starts_at, and counts from then")),
		set("orders", `{"value":"on","reason":"x","expires_in":"1ms"}`, 400, problem.InvalidRequest,
			wrong("expires_in: must be a duration like 90s, 15m or 1h30m, from 1s to 720h")),
	}
}

// nodeRows are those of the nodes.
func nodeRows() []row {
	return []row{
		{name: "all", pattern: "/admin/v1/levels", method: "GET", status: 200, want: has("level", "D0", "automatic", "on", "pinned", "false")},
		{name: "one", pattern: "/admin/v1/nodes", method: "GET", status: 200, want: func(a *answer) {
			if want := `"node":"gateway-1","state":"current"`; !strings.Contains(a.body, want) {
				a.t.Errorf("lacks %s: %s", want, a.body)
			}
		}},
		{name: "drained", pattern: "/admin/v1/nodes/{node}/drain", path: "/admin/v1/nodes/gateway-1/drain", method: "POST", body: `{"reason":"x"}`,
			status: 200, want: has("node", "gateway-1", "drained", "true")},
		{name: "drained", pattern: "/admin/v1/nodes/{node}/drain", path: "/admin/v1/nodes/nobody/drain", method: "POST", status: 404,
			code: problem.UnknownNode},
		{name: "undrained", pattern: "/admin/v1/nodes/{node}/undrain", path: "/admin/v1/nodes/gateway-1/undrain", method: "POST",
			status: 200, want: has("drained", "false")},
		{name: "undrained", pattern: "/admin/v1/nodes/{node}/undrain", path: "/admin/v1/nodes/nobody/undrain", method: "POST", status: 404,
			code: problem.UnknownNode},
		{name: "removed", pattern: "/admin/v1/nodes/{node}", path: "/admin/v1/nodes/host@127.0.0.1:8080", method: "DELETE", status: 404,
			code: problem.UnknownNode},
		{name: "removed, and back at once", pattern: "/admin/v1/nodes/{node}", method: "DELETE", status: 204, after: func(s *shop) {
			s.await("the node is known again", func() bool {
				return strings.Contains(s.must(200, "GET", "/admin/v1/nodes", "").body, `"node":"gateway-1"`)
			})
		}},
	}
}

// A level is planned for its activity's start, and ends by itself.
func TestLevelsArePlanned(t *testing.T) {
	s := open(t, nil)
	s.sell()
	var activity struct {
		StartsAt time.Time `json:"starts_at"`
	}
	s.must(200, "GET", "/admin/v1/activities/618", "").read(&activity)
	at := func(d time.Duration) string { return activity.StartsAt.UTC().Add(d).Format(problem.TimeFormat) }
	a := s.must(200, "PUT", "/admin/v1/switches/level",
		`{"value":"D1","reason":"the crowd comes","scope":{"activity":"618"},"starts_at":"start-30s","expires_in":"150s"}`)
	has("version", "1", "applied", "1")(a)
	list := s.must(200, "GET", "/admin/v1/switches", "").body
	if activity.StartsAt.After(time.Now()) { // otherwise it is over
		for _, want := range []string{`"starts_at":"` + at(-30*time.Second), `"expires_at":"` + at(2*time.Minute)} {
			if !strings.Contains(list, want) {
				t.Errorf("lacks %s: %s", want, list)
			}
		}
	}
	s.must(200, "PUT", "/admin/v1/switches/level", `{"value":"D2","reason":"a pin"}`)
	if got := s.must(200, "GET", "/admin/v1/switches", "").body; !strings.Contains(got, `"value":"D2","reason":"a pin"`) ||
		!strings.Contains(got[strings.Index(got, `"a pin"`):], `"expires_at"`) {
		t.Errorf("a pin without an end: %s", got)
	}
	levels := s.must(200, "GET", "/admin/v1/levels", "").body
	for _, want := range []string{`"level":"D0"`, `"level":"D5","name":"closed","sets":[{"switch":"orders","value":"off"}]`, `"buyers":`} {
		if !strings.Contains(levels, want) {
			t.Errorf("lacks %s: %s", want, levels)
		}
	}
}

// await asks until ok says yes.
func (s *shop) await(what string, ok func() bool) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-s.t.Context().Done():
			s.t.Fatalf("never: %s", what)
		}
	}
}

func TestSettingsSayWhatEachNodeRuns(t *testing.T) {
	s := open(t, nil)
	s.stopGateway()
	set := func(value string) settings.Version {
		s.do("PUT", "/admin/v1/switches/wait", `{"value":"`+value+`","reason":"x"}`).refused(problem.Unavailable) // on 0 of 0
		d, _, err := s.store.FindSettings(t.Context(), settings.Switches)
		if err != nil {
			t.Fatal(err)
		}
		return d.Identity()
	}
	first, second := set("off"), set("on")
	other := settings.Version{Number: 2, ID: "of a database that was restored since"}
	for node, applied := range map[string]settings.Version{
		"current": second, "behind": first, "refusing": first, "new": {}, "restored": other,
	} {
		beat := settings.Beat{Instance: node, Node: node, Enforces: true, Applied: settings.Versions{settings.Switches: applied}}
		if node == "refusing" {
			beat.Rejected = settings.Versions{settings.Switches: second}
		}
		if _, err := s.store.ExchangeSettings(t.Context(), beat); err != nil {
			t.Fatal(err)
		}
	}
	var got settingsDoc
	if err := json.Unmarshal([]byte(s.must(200, "GET", "/admin/v1/settings", "").body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Nodes) != 5 || got.Documents[1] != (documentDoc{settings.Switches, second}) {
		t.Fatalf("%+v", got)
	}
	for _, n := range got.Nodes {
		want := map[string]string{"new": nodeBehind, "restored": nodeBehind}[n.Node]
		if want == "" {
			want = n.Node
		}
		if n.State != want || n.Applied[settings.Limits].Number != 0 || (len(n.Refused) == 1) != (n.Node == "refusing") ||
			(len(n.NotYet) == 0) != (n.Node == "current") {
			t.Errorf("%+v, want %s", n, want)
		}
	}
	silent := newMemberDoc(&settings.Member{Node: "gone", Enforces: true, Silent: 2 * settings.AliveFor}, got.Documents)
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

// When a switch ends, the one before it applies again, also after a revert. Otherwise a sale that
// was switched off would open by itself.
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
	put("admission", `{"value":50,"reason":"x","scope":{"merchant":"m1"},"allow_unknown":true}`)
	values := keys("value", "on", "100", "off", "live", "1", "enforce", "off", "on", "auto", "on", "auto", "auto", "auto")
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

// A change names the nodes that have not applied it. A node that is cut off is named until a person
// removes it.
func TestChangesNameTheNodesThatLag(t *testing.T) {
	s := open(t, nil)
	beat := settings.Beat{Instance: "i2", Node: "gateway-2", Enforces: true}
	if _, err := s.store.ExchangeSettings(t.Context(), beat); err != nil {
		t.Fatal(err)
	}
	has("version", "1", "applied", "1", "nodes", "2", "lagging", "[gateway-2]", "message",
		"orders is off for everybody, in force on 1 of 2 gateways; not on gateway-2: it has not taken this version yet")(
		s.must(200, "PUT", "/admin/v1/switches/orders", `{"value":"off","reason":"x"}`))
	s.must(204, "DELETE", "/admin/v1/nodes/gateway-2", "")
	has("version", "2", "applied", "1", "nodes", "1", "lagging", "[]")(
		s.must(200, "PUT", "/admin/v1/switches/orders", `{"value":"on","reason":"x"}`))
}

// A change that no node has applied is written, and reported as an error.
func TestChangesInForceNowhere(t *testing.T) {
	s := open(t, nil)
	s.stopGateway()
	a := s.do("PUT", "/admin/v1/switches/orders", `{"value":"off","reason":"x"}`)
	a.refused(problem.Unavailable)
	if !strings.Contains(a.body, "Version 1 is written, but no gateway is running") {
		t.Error(a.body)
	}
	s.do("PUT", "/admin/v1/limits", `{"policies":[],"reason":"x"}`, "If-Match", `"0"`).refused(problem.Unavailable)
}

// A scope that doesn't exist is most likely a typing mistake. The sale would go on, while the
// operator believes that it has stopped.
func TestScopesMustExist(t *testing.T) {
	s := open(t, nil)
	s.sell()
	put := func(scope, more string) *answer {
		return s.do("PUT", "/admin/v1/switches/orders", `{"value":"off","reason":"x","scope":`+scope+more+`}`)
	}
	for scope, near := range map[string]string{
		`{"merchant":"m2"}`:        "scope: there is no merchant m2; did you mean m1?",
		`{"activity":"168"}`:       "scope: there is no activity 168; did you mean 618?",
		`{"activity":"christmas"}`: "scope: there is no activity christmas. ",
		`{"sku":"phone-y"}`:        "scope: there is no sku phone-y; did you mean phone-x?",
		`{"sku":"phone"}`:          "scope: there is no sku phone; did you mean phone-x?",
		`{"sku":"619/phone-x"}`:    "scope: there is no sku 619/phone-x; did you mean 618/phone-x?",
		`{"caller":"m1/somebody"}`: "scope: there is no caller m1/somebody",
	} {
		a := put(scope, "")
		a.refused(problem.InvalidRequest)
		if got := strings.Join(a.mistakes(), "\n"); !strings.HasPrefix(got, near) || !strings.Contains(got, "allow_unknown") {
			t.Errorf("%s: %s", scope, got)
		}
		put(scope, `,"dry_run":true`).refused(problem.InvalidRequest)
		if a := put(scope, `,"allow_unknown":true`); a.StatusCode != 200 {
			t.Errorf("%s allowed: %s", scope, a.body)
		}
	}
	for _, scope := range []string{`{"merchant":"m1"}`, `{"activity":"618"}`, `{"sku":"phone-x"}`, `{"sku":"618/phone-x"}`} {
		before := s.must(200, "GET", "/admin/v1/switches", "").body
		if a := put(scope, `,"dry_run":true`); a.StatusCode != 204 || s.must(200, "GET", "/admin/v1/switches", "").body != before {
			t.Errorf("%s, only asked: %d %s", scope, a.StatusCode, a.body)
		}
		if a := put(scope, ""); a.StatusCode != 200 {
			t.Errorf("%s: %s", scope, a.body)
		}
	}
	s.must(200, "PUT", "/admin/v1/switches/orders", `{"value":null,"reason":"x","scope":{"merchant":"m2"}}`) // removing it needs no such name
}

// TestSilentDatabase: whoever asks for limits or switches in an emergency waits a few seconds at
// most for a database that is silent.
func TestSilentDatabase(t *testing.T) {
	s := open(t, nil)
	for _, path := range []string{"/admin/v1/limits", "/admin/v1/settings", "/admin/v1/webhooks"} {
		s.must(200, "GET", path, "")
		if d := s.settings.asked.Load(); d == nil || *d > documentPatience {
			t.Errorf("%s: the database may be silent for %v", path, d)
		}
	}
}

// While the database is away, the switches for emergencies can be set. The answer says that the
// change isn't recorded. When the database is back, it is recorded under the name of its author.
func TestSwitchesWithoutTheDatabase(t *testing.T) {
	s := open(t, nil)
	s.must(200, "PUT", "/admin/v1/switches/wait", `{"value":"off","reason":"x"}`)
	s.settings.away.Store(true)
	a := s.must(200, "PUT", "/admin/v1/switches/orders", `{"value":"off","reason":"fire","expires_in":"1h"}`)
	has("version", "1", "recorded", "false", "applied", "1", "nodes", "1", "lagging", "[]")(a)
	if !strings.Contains(a.body, "not recorded yet") {
		t.Error(a.body)
	}
	s.must(200, "PUT", "/admin/v1/switches/kafka-breaker", `{"value":"open","reason":"fire"}`)
	s.must(200, "PUT", "/admin/v1/switches/admission", `{"value":10,"reason":"fire"}`)
	s.must(200, "PUT", "/admin/v1/switches/admission", `{"value":null,"reason":"fire"}`)
	list := s.must(200, "GET", "/admin/v1/switches", "")
	keys("value", "off", "100", "off", "live", "1", "enforce", "off", "on", "auto", "on", "auto", "open", "auto")(list)
	has("version", "1", "unrecorded", "4")(list)
	if n := strings.Count(list.body, `"unrecorded":true`); n != 2 {
		t.Errorf("%d switches are told as not recorded: %s", n, list.body)
	}
	other := s.do("PUT", "/admin/v1/switches/browse", `{"value":"off","reason":"x"}`)
	other.refused(problem.Unavailable)
	if !strings.Contains(other.body, "orders, admission, level, redis-breaker, kafka-breaker, database-breaker") {
		t.Error(other.body)
	}
	s.settings.away.Store(false)
	s.await("all is recorded", func() bool {
		return strings.Contains(s.must(200, "GET", "/admin/v1/switches", "").body, `"version":5,"unrecorded":0`)
	})
	list = s.must(200, "GET", "/admin/v1/switches", "")
	keys("value", "off", "100", "off", "live", "1", "enforce", "off", "on", "auto", "on", "auto", "open", "auto")(list)
	if strings.Contains(list.body, `"unrecorded":true`) || !strings.Contains(list.body, `"by":"configured"`) {
		t.Error(list.body)
	}
	changes := s.must(200, "GET", "/admin/v1/changes?limit=4", "").body
	if n := strings.Count(changes, `"actor":"configured","token_id":"configured","address":"127.0.0.1","reason":"fire","kind":"switches"`); n != 4 {
		t.Errorf("%d changes are recorded: %s", n, changes)
	}
}

// A limit for a name that doesn't exist limits nobody. It is refused wherever a limit can be
// written or previewed, unless it was there before.
func TestMatchesMustExist(t *testing.T) {
	s := open(t, nil)
	s.sell()
	body := func(policies, more string) string { return `{"policies":[` + policies + `],"reason":"x"` + more + `}` }
	policy := func(key, match string) string {
		return fmt.Sprintf(`{"name":%q,"key":%q,"match":%q,"rate":1,"burst":1}`, strings.NewReplacer("/", "-", ":", "-").Replace(key+match), key, match)
	}
	refused := func(method, path, body, want string) {
		t.Helper()
		a := s.do(method, path, body, "If-Match", "*")
		a.refused(problem.InvalidRequest)
		if got := strings.Join(a.mistakes(), "\n"); !strings.HasPrefix(got, want) || !strings.Contains(got, "With allow_unknown") {
			t.Errorf("%s %s: %s, want %s", method, body, got, want)
		}
	}
	const limits, preview, stage = "/admin/v1/limits", "/admin/v1/limits/preview", "/admin/v1/limits/staged"
	for _, c := range []struct{ key, match, want string }{
		{"merchant", "m2", "there is no merchant m2; did you mean m1? With"},
		{"user", "m2/u", "there is no merchant m2; did you mean m1? With"},
		{"activity", "168", "there is no activity 168; did you mean 618? With"},
		{"sku", "618/phone-y", "there is no sku 618/phone-y; did you mean 618/phone-x? With"},
		{"sku", "619/phone-x", "there is no sku 619/phone-x; did you mean 618/phone-x? With"},
		{"caller", "m1/nobody", "there is no caller m1/nobody. With"},
	} {
		two := policy("user", "m1/anybody") + "," + policy(c.key, c.match)
		refused("PUT", limits, body(two, ""), "policies[1].match: "+c.want)
		refused("POST", preview, body(two, ""), "policies[1].match: "+c.want)
		refused("PUT", stage, body(two, `,"percent":50`), "policies[1].match: "+c.want)
		s.must(200, "POST", preview, body(two, `,"allow_unknown":true`))
	}
	known := strings.Join([]string{policy("merchant", "m1"), policy("activity", "618"), policy("sku", "618/phone-x"), policy("user", "m1/u"),
		policy("ip", "192.0.2.1"), policy("ip", "2001:db8::/64")}, ",")
	s.must(200, "PUT", limits, body(known, ""), "If-Match", "*")
	s.must(200, "PUT", limits, body(known+","+policy("merchant", "soon"), `,"allow_unknown":true`), "If-Match", "*")
	s.must(200, "PUT", limits, body(policy("merchant", "soon")+","+known, ""), "If-Match", "*") // it was there before
	s.must(200, "POST", preview, body(policy("merchant", "soon"), ""))
	refused("PUT", limits, body(known+","+policy("activity", "soon"), ""), "policies[6].match: there is no activity soon. With")
	var many []string
	for i := range 3 * maxUnknown {
		many = append(many, policy("activity", fmt.Sprint("none-", i)))
	}
	a := s.do("PUT", limits, body(strings.Join(many, ","), ""), "If-Match", "*")
	a.refused(problem.InvalidRequest)
	if got := a.mistakes(); len(got) != maxUnknown+1 || !strings.HasPrefix(got[maxUnknown], "policies: may match further names") {
		t.Errorf("%d mistakes: %s", len(got), got)
	}
}
