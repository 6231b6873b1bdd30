package admin

import (
	"strings"

	"github.com/penstock/penstock/gateway/problem"
)

// limitRows returns the rows of limits that end, are shared or are removed, and of their preview.
func limitRows() []row {
	const limits = "/admin/v1/limits"
	put := func(name, match, body string, status int, code problem.Code, want func(*answer)) row {
		return row{name: name, pattern: limits, method: "PUT", body: body, status: status, code: code, want: want, fields: []string{"If-Match", match}}
	}
	return []row{
		put("with ends", `*`, `{"policies":[{"name":"all","key":"global","rate":500,"burst":500},{"name":"m1","key":"merchant","match":"m1","rate":400,
			"burst":40,"guaranteed":300,"weight":2,"mode":"percent","percent":50,"expires_in":"1h",
			"temporary":{"rate":350,"burst":35,"expires_in":"15m"}}],"reason":"x","allow_unknown":true}`, 200, "", has("applied", "1")),
		{name: "with ends", pattern: limits, method: "GET", status: 200, want: func(a *answer) {
			for _, want := range []string{`"percent":50,"guaranteed":300,"weight":2,"expires_at":"2`, `"temporary":{"rate":350,"burst":35,"mode":"enforce","expires_at":"2`} {
				if !strings.Contains(a.body, want) {
					a.t.Errorf("lacks %s: %s", want, a.body)
				}
			}
		}},
		put("wrong ends", `*`, `{"policies":[{"name":"a","key":"user","rate":1,"burst":1,"expires_at":"2020-01-01T00:00:00Z"},
			{"name":"b","key":"ip","rate":1,"burst":1,"expires_in":"0s"},{"name":"c","key":"sku","rate":1,"burst":1,"temporary":{"rate":1,"burst":1}},
			{"name":"d","key":"caller","rate":1,"burst":1,"expires_at":"2099-01-01T00:00:00Z","expires_in":"1m"}],
			"reason":"x"}`, 400, problem.InvalidRequest, wrong("policies[1].expires_in: must be a duration like 90s, 15m or 24h, from 1s to 720h",
			"policies[3].expires_in: must not be given beside expires_at")),
		put("ends that are over", `*`, `{"policies":[{"name":"a","key":"user","rate":1,"burst":1,"expires_at":"2020-01-01T00:00:00Z"},
			{"name":"c","key":"sku","rate":1,"burst":1,"temporary":{"rate":1,"burst":1}}],"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("policies[1].temporary.expires_at: is required", "policies[0].expires_at: must be in the future")),
		put("too much is guaranteed", `*`, `{"policies":[{"name":"all","key":"global","rate":500,"burst":500},{"name":"m1","key":"merchant","match":"m1",
			"rate":600,"burst":60,"guaranteed":501}],"reason":"x"}`, 400, problem.InvalidRequest, wrong("policies[1].guaranteed: makes the "+
			`guaranteed rates 501 per second together, above the global rate of 500 (policies[0], "all")`)),
		put("none without confirm", `*`, `{"policies":[],"reason":"none"}`, 400, problem.InvalidRequest,
			wrong("confirm: must be true: without limits everybody may send as much as they want")),
		put("none, confirmed", `*`, `{"policies":[],"confirm":true,"reason":"none"}`, 200, "", has("applied", "1")),
		put("none again", `*`, `{"policies":[],"reason":"none"}`, 200, "", has("applied", "1")),
		put("in flight and by class", `*`, `{"policies":[{"name":"f","key":"caller","concurrency":50,"temporary":{"rate":5,"burst":5,"expires_in":"1m"}},
			{"name":"c","key":"merchant","rate":1,"burst":9,"cost":{"unit":2,"page":0,"status":null}},{"name":"u","key":"user","rate":null,"concurrency":1}],
			"reason":"x"}`, 200, "", has("applied", "1")),
		{name: "in flight and by class", pattern: limits, method: "GET", status: 200, want: func(a *answer) {
			for _, want := range []string{`{"name":"f","key":"caller","mode":"enforce","concurrency":50,"temporary":{"rate":5,"burst":5,"mode":"enforce"`,
				`"cost":{"purchase":1,"unit":2,"page":0,"status":0}}`, `{"name":"u","key":"user","mode":"enforce","concurrency":1}`} {
				if !strings.Contains(a.body, want) {
					a.t.Errorf("lacks %s: %s", want, a.body)
				}
			}
		}},
		put("wrong forms", `*`, `{"policies":[{"name":"a","key":"caller","concurrency":"5","rate":1,"burst":1},{"name":"b","key":"user","concurrency":1e3},
			{"name":"c","key":"ip","rate":1,"burst":1,"cost":{"pages":1}},{"name":"d","key":"sku","rate":1,"burst":1,"cost":1},
			{"name":"e","key":"merchant","concurrency":99999999999999999999}],"reason":"x"}`,
			400, problem.InvalidRequest, wrong("policies[0].concurrency: must be a whole number", "policies[1].concurrency: must be a whole number",
				"policies[2].cost.pages: is unknown", "policies[3].cost: must be a JSON object", "policies[4].concurrency: is out of range")),
		put("wrong bounds", `*`, `{"policies":[{"name":"a","key":"caller","concurrency":0,"rate":1,"burst":1},{"name":"b","key":"user","concurrency":-3},
			{"name":"c","key":"ip","rate":1,"burst":1,"cost":{"page":-1}},{"name":"d","key":"sku","rate":1,"burst":1,"cost":{"status":1}},
			{"name":"e","key":"merchant","concurrency":1000001},{"name":"f","key":"activity","concurrency":1,"rate":1},
			{"name":"g","key":"global","concurrency":1,"rate":1,"burst":2,"cost":{"purchase":3}}],"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("policies[5].burst: is required")),
		put("wrong values of bounds", `*`, `{"policies":[{"name":"a","key":"caller","concurrency":0,"rate":1,"burst":1},{"name":"b","key":"user","concurrency":-3},
			{"name":"c","key":"ip","rate":1,"burst":1,"cost":{"page":-1}},{"name":"d","key":"sku","rate":1,"burst":1,"cost":{"status":1}},
			{"name":"e","key":"merchant","concurrency":1000001},{"name":"f","key":"global","concurrency":1,"rate":1,"burst":2,"cost":{"purchase":3}},
			{"name":"g","key":"caller","match":"m1/x","rate":1,"burst":1,"cost":{"purchase":0}}],"reason":"x"}`, 400, problem.InvalidRequest, wrong(
			"policies[0].concurrency: must be from 1 to 1000000; to let nobody in, use a switch",
			"policies[1].concurrency: must be from 1 to 1000000; to let nobody in, use a switch",
			"policies[2].cost.page: must be from 0, which means free, to 1000000",
			"policies[3].cost.status: must be 0 with this key: a request for an order names no sku",
			"policies[4].concurrency: must be from 1 to 1000000; to let nobody in, use a switch",
			"policies[5].cost.purchase: must be at most the burst, 2: a bucket never has more",
			"policies[6].cost: must charge for something; to limit nothing, use the mode off")),
		put("quotas", `*`, `{"policies":[{"name":"q","key":"caller","quota":10000,"zone":"Asia/Shanghai"},
			{"name":"s","key":"merchant","quota":1000,"quota_per_sku":50,"quota_max":5000,"zone":null},
			{"name":"u","key":"user","rate":1,"burst":2,"quota":5,"quota_per_sku":null}],"reason":"x"}`, 200, "", has("applied", "1")),
		{name: "quotas", pattern: limits, method: "GET", status: 200, want: func(a *answer) {
			for _, want := range []string{`{"name":"q","key":"caller","mode":"enforce","quota":10000,"zone":"Asia/Shanghai"}`,
				`{"name":"s","key":"merchant","mode":"enforce","quota":1000,"quota_per_sku":50,"quota_max":5000}`,
				`{"name":"u","key":"user","rate":1,"burst":2,"mode":"enforce","quota":5}`} {
				if !strings.Contains(a.body, want) {
					a.t.Errorf("lacks %s: %s", want, a.body)
				}
			}
		}},
		put("wrong quotas", `*`, `{"policies":[{"name":"a","key":"caller","quota":0},{"name":"b","key":"user","quota":-1},{"name":"c","key":"ip","quota":1e3},
			{"name":"d","key":"sku","quota":5,"zone":8}],"reason":"x"}`, 400, problem.InvalidRequest,
			wrong("policies[2].quota: must be a whole number", "policies[3].zone: must be a string")),
		put("quotas that can't be", `*`, `{"policies":[{"name":"a","key":"caller","quota":0},{"name":"b","key":"user","quota":-1},
			{"name":"c","key":"global","quota":9},{"name":"d","key":"sku","quota":5,"zone":"Beijing"},{"name":"e","key":"ip","rate":1,"burst":1,"zone":"UTC"},
			{"name":"f","key":"merchant","quota":5,"quota_per_sku":0,"quota_max":0},{"name":"g","key":"activity","quota":5,"quota_per_sku":1,"quota_max":9},
			{"name":"h","key":"merchant","match":"m1","quota":5,"quota_per_sku":1},{"name":"i","key":"caller","match":"m1/x","quota":5,"quota_max":4},
			{"name":"j","key":"caller","match":"m1/y","quota":5,"quota_per_sku":2,"quota_max":4}],"reason":"x"}`, 400, problem.InvalidRequest, wrong(
			"policies[0].quota: must be from 1 to 1000000000000; to let nobody in, use a switch",
			"policies[1].quota: must be from 1 to 1000000000000; to let nobody in, use a switch",
			"policies[2].quota: must not be given with the key global; to close the shop, use a switch",
			"policies[3].zone: must be a name of the time zone database, like Asia/Shanghai",
			"policies[4].quota: is required with zone, quota_per_sku and quota_max",
			"policies[5].quota_per_sku: must be from 1 to 1000000000000", "policies[5].quota_max: must be from the quota, 5, to 1000000000000",
			"policies[6].quota_per_sku: is for merchants and their callers: it needs the key merchant or caller",
			"policies[7].quota_max: is required with quota_per_sku", "policies[8].quota_max: needs a quota_per_sku, because it is the bound for it",
			"policies[9].quota_max: must be from the quota, 5, to 1000000000000")),
		put("none of them", `*`, `{"policies":[],"confirm":true,"reason":"none"}`, 200, "", has("applied", "1")),
		{name: "preview", pattern: limits + "/preview", method: "POST", body: `{"policies":[{"name":"a","key":"caller","rate":1,"burst":1},
			{"name":"u","key":"user","rate":1,"burst":1}]}`, status: 200, want: has("asked", "0", "refused", "0", "not_previewed", "[u]", "complete", "true")},
		{name: "preview of a mistake", pattern: limits + "/preview", method: "POST", body: `{"policies":[{"name":"a","key":"caller","rate":-1,"burst":1}]}`,
			status: 400, code: problem.InvalidRequest, want: wrong("policies[0].rate: must be above 0")},
	}
}

// stageRows returns the rows of limits that some gateways try.
func stageRows() []row {
	const limits, staged = "/admin/v1/limits", "/admin/v1/limits/staged"
	const policy = `"policies":[{"name":"a","key":"user","rate":1,"burst":1}],"reason":"x"`
	with := func(name, pattern, method, body, match string, status int, code problem.Code, want func(*answer)) row {
		r := row{name: name, pattern: pattern, method: method, body: body, status: status, code: code, want: want}
		if match != "" {
			r.fields = []string{"If-Match", match}
		}
		return r
	}
	stage := func(name, body string, status int, code problem.Code, want func(*answer)) row {
		return with(name, staged, "PUT", `{`+policy+body+`}`, "*", status, code, want)
	}
	return []row{
		with("without If-Match", staged, "PUT", `{`+policy+`,"percent":50}`, "", 428, problem.PreconditionRequired, nil),
		with("of another version", staged, "PUT", `{`+policy+`,"percent":50}`, `"99999"`, 412, problem.PreconditionFailed, nil),
		stage("by nobody", ``, 400, problem.InvalidRequest, wrong("nodes: is required, or percent: which gateways try the change")),
		stage("by two", `,"nodes":["gateway-1"],"percent":5`, 400, problem.InvalidRequest, wrong("percent: must not be given beside nodes")),
		stage("by all", `,"percent":100`, 400, problem.InvalidRequest, wrong("percent: must be from 1 to 99: for all gateways, put the limits")),
		stage("by an unknown one", `,"nodes":["gateway-1","gateway-7"]`, 400, problem.InvalidRequest,
			wrong("nodes[1]: there is no gateway gateway-7; did you mean gateway-1?")),
		stage("with wrong bounds", `,"percent":5,"max_refused_percent":101,"within":"1h","complete_in":"soon"`, 400, problem.InvalidRequest,
			wrong("max_refused_percent: must be from 0 to 100; at 100 the change is never taken back", "within: must be a duration like 90s, 15m or 24h, from 2s to 10m",
				"complete_in: must be a duration like 90s, 15m or 24h, from 1s to 720h")),
		stage("wrong limits", `,"percent":5,"colour":1`, 400, problem.InvalidRequest, wrong("colour: is unknown")),
		with("complete nothing", staged+"/complete", "POST", `{"reason":"x"}`, "*", 404, problem.NotFound, nil),
		with("take nothing back", staged, "DELETE", "", "*", 404, problem.NotFound, nil),
		stage("tried", `,"nodes":["gateway-1"],"max_refused_percent":2.5,"within":"30s","complete_in":"1h"`, 200, "",
			has("applied", "1", "message", "the limits are tried by 1 of 1 gateways, and the trial is in force on the only gateway")),
		{name: "tried", pattern: limits, method: "GET", status: 200, want: func(a *answer) {
			for _, want := range []string{`"policies":[],"staged":{"id":"`, `"policies":[{"name":"a","key":"user","rate":1,"burst":1,"mode":"enforce"}]`,
				`"nodes":["gateway-1"],"max_refused_percent":2.5,"within_seconds":30,"since":"2`, `"completes_at":"2`} {
				if !strings.Contains(a.body, want) {
					a.t.Errorf("lacks %s: %s", want, a.body)
				}
			}
		}},
		stage("another one meanwhile", `,"percent":50`, 409, problem.NotEditable, has("detail", isStaged)),
		with("limits meanwhile", limits, "PUT", `{`+policy+`}`, "*", 409, problem.NotEditable, has("detail", isStaged)),
		with("complete another version", staged+"/complete", "POST", `{"reason":"x"}`, `"99999"`, 412, problem.PreconditionFailed, nil),
		with("take back without If-Match", staged, "DELETE", "", "", 428, problem.PreconditionRequired, nil),
		with("complete without If-Match", staged+"/complete", "POST", `{"reason":"x"}`, "", 428, problem.PreconditionRequired, nil),
		with("take back of another version", staged, "DELETE", "", `"99999"`, 412, problem.PreconditionFailed, nil),
		with("taken back", staged, "DELETE", "", "*", 200, "", has("message", "the limits before are in force on the only gateway")),
		{name: "as before", pattern: limits, method: "GET", status: 200, want: has("policies", "[]")},
		stage("by a percent", `,"percent":1,"complete_in":null,"within":null,"max_refused_percent":null,"nodes":null`, 200, "", has("applied", "1")),
		with("completed", staged+"/complete", "POST", `{"reason":"x"}`, "*", 200, "", has("message", "the limits are in force on the only gateway")),
		with("none again", limits, "PUT", `{"policies":[],"confirm":true,"reason":"x"}`, "*", 200, "", has("applied", "1")),
	}
}
