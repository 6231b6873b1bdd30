package admin

import (
	"strings"

	"github.com/penstock/penstock/gateway/problem"
)

// limitRows are those of limits that end, are shared or are taken away, and of their preview.
func limitRows() []row {
	const limits = "/admin/v1/limits"
	put := func(name, match, body string, status int, code problem.Code, want func(*answer)) row {
		return row{name: name, pattern: limits, method: "PUT", body: body, status: status, code: code, want: want, fields: []string{"If-Match", match}}
	}
	return []row{
		put("with ends", `*`, `{"policies":[{"name":"all","key":"global","rate":500,"burst":500},{"name":"m1","key":"merchant","match":"m1","rate":400,
			"burst":40,"guaranteed":300,"weight":2,"mode":"percent","percent":50,"expires_in":"1h",
			"temporary":{"rate":350,"burst":35,"expires_in":"15m"}}],"reason":"x"}`, 200, "", has("applied", "1")),
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
			wrong("confirm: must be true: without limits everybody may ask as often as they want")),
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
			"policies[2].cost.page: must be from 0, which is free, to 1000000",
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
			"policies[3].zone: must be a place of the time zone database, like Asia/Shanghai",
			"policies[4].quota: is required with zone, quota_per_sku and quota_max",
			"policies[5].quota_per_sku: must be from 1 to 1000000000000", "policies[5].quota_max: must be from the quota, 5, to 1000000000000",
			"policies[6].quota_per_sku: is for merchants and their callers: it needs the key merchant or caller",
			"policies[7].quota_max: is required with quota_per_sku", "policies[8].quota_max: needs a quota_per_sku, whose bound it is",
			"policies[9].quota_max: must be from the quota, 5, to 1000000000000")),
		put("none of them", `*`, `{"policies":[],"confirm":true,"reason":"none"}`, 200, "", has("applied", "1")),
		{name: "preview", pattern: limits + "/preview", method: "POST", body: `{"policies":[{"name":"a","key":"caller","rate":1,"burst":1},
			{"name":"u","key":"user","rate":1,"burst":1}]}`, status: 200, want: has("asked", "0", "refused", "0", "not_previewed", "[u]", "complete", "true")},
		{name: "preview of a mistake", pattern: limits + "/preview", method: "POST", body: `{"policies":[{"name":"a","key":"caller","rate":-1,"burst":1}]}`,
			status: 400, code: problem.InvalidRequest, want: wrong("policies[0].rate: must be above 0")},
	}
}
