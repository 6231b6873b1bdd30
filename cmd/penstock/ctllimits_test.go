package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestCtl_EditsLimits adds, changes and removes limits one by one. ctl asks before it removes the
// last one, and says what an edit would do.
func TestCtl_EditsLimits(t *testing.T) {
	operated(t)
	const (
		inForce = `^the limits are in force on the only gateway\n$`
		others  = `{"policies":[{"name":"caller","key":"caller","rate":40.0,"burst":20},{"name":"u","key":"user","rate":1,"burst":1}]}`
	)
	const unknown = `{"policies":[{"name":"web","key":"caller","match":"m9/web","rate":1,"burst":1}]}`
	for _, s := range []step{
		{args: "ctl limits set caller --key caller --rate 40 --burst 20 --reason sale", stdout: `^version +1\n`, stderr: inForce},
		{args: "ctl limits set caller --rate 60 --expires-in 15m --reason rush", stdout: `^version +2\n`,
			stderr: inForce},
		{args: "ctl limits show", stdout: `MODE +TEMPORARY\ncaller +caller +60 +60 +enforce +until \S+ \(in 15 m\), then enforce 40/s burst 20\n`,
			stderr: `^version 2\n$`},
		{args: "ctl limits set caller --cost unit=1 --reason x", stdout: `^version +3\n`, stderr: inForce},
		{args: "ctl limits show", stdout: `caller +60 +60 +enforce +[^\n]* +until `, stderr: `^version 3\n$`}, // the rush goes on
		{args: "ctl limits set caller --rate 40 --burst 20 --cost unit=0 --reason calm", stdout: `^version +4\n`, stderr: inForce},
		{args: "ctl limits set all --rate 500 --reason x", code: 2, stderr: `flag --key: is required: there is no limit "all" yet`},
		{args: "ctl limits set all --key global --rate 500 --reason x", stdout: `^version +5\n`, stderr: inForce},
		{args: "ctl limits set m1 --key merchant --match m1 --rate 300 --guaranteed 501 --reason x", code: 1, stderr: `policies\[2\].guaranteed: must be at most`},
		{args: "ctl limits set m1 --key merchant --match m1 --rate 300 --burst 30 --guaranteed 200 --weight 2 --reason x", code: 1,
			stderr: `policies\[2\].match: there is no merchant m1.* With --allow-unknown it is set anyway\n$`},
		{args: "ctl limits set m1 --key merchant --match m1 --rate 300 --burst 30 --guaranteed 200 --weight 2 --reason x --allow-unknown", stdout: `^version +6\n`, stderr: inForce},
		{args: "ctl limits set m1 --guaranteed 100 --expires-in 5m --reason x", code: 2, stderr: `flag --guaranteed: can't be set for a while only`},
		{args: "ctl limits diff -f -", stdin: others, stdout: `^- all: global rate 500 burst 500 enforce\n` +
			`- m1: merchant m1 rate 300 burst 30 enforce guaranteed 200 weight 2\n\+ u: user rate 1 burst 1 enforce\n$`},
		{args: "ctl limits diff -f -", stdin: `{}`, code: 2, stderr: `flag --file: -: the member policies is missing`},
		{args: "ctl limits preview -f -", stdin: others,
			stdout: `^NAME +KEY +MODE +REFUSED\ncaller +caller +enforce +0\n`, stderr: `^not previewed, .*: u\nwould have refused 0 of \d+ purchases`},
		{args: "ctl limits preview -f -", stdin: unknown, code: 1, stderr: `policies\[0\].match: there is no caller m9/web`},
		{args: "ctl limits preview -f - --allow-unknown", stdin: unknown, stdout: `\nweb +caller +enforce +0\n`, stderr: `would have refused 0`},
		{args: "ctl limits put -f - --version 6 --reason x", stdin: unknown, code: 1, stderr: `policies\[0\].match: there is no caller m9/web`},
		{args: "ctl apply -f - --reason x --yes", stdin: "kind: limits\npolicies: [{name: web, key: caller, match: m9/web, rate: 1, burst: 1}]\n", code: 2,
			stderr: `policies\[0\].match: there is no caller m9/web`},
		{args: "ctl limits set flight --key user --concurrency 50 --reason x", stdout: `^version +7\n`, stderr: inForce},
		{args: "ctl limits set all --cost unit=2,page=1 --reason x", stdout: `^version +8\n`, stderr: inForce},
		{args: "ctl limits set all --cost pages=1 --reason x", code: 1, stderr: `policies\[1\].cost.pages: is unknown`},
		{args: "ctl limits set all --cost status=-1 --reason x", code: 1, stderr: `policies\[1\].cost.status: must be from 0`},
		{args: "ctl limits diff -f -", stdin: others, stdout: `^- all: global rate 500 burst 500 enforce cost.unit 2 cost.page 1\n` +
			`- m1: [^\n]+\n- flight: user enforce concurrency 50\n\+ u: `},
		{args: "ctl limits show", stdout: `BURST +MODE +CONCURRENCY +COST +GUARANTEED`, stderr: `^version 8\n$`},
		{args: "ctl limits set flight --concurrency 0 --reason x", code: 1, stderr: `policies\[3\].rate: is required`},
		{args: "ctl limits set flight --quota 10000 --zone Asia/Shanghai --reason x", stdout: `^version +9\n`, stderr: inForce},
		{args: "ctl limits set m1 --quota 1000 --quota-per-sku 50 --quota-max 5000 --reason x", stdout: `^version +10\n`, stderr: inForce},
		{args: "ctl limits set m1 --quota-per-sku 0 --reason x", code: 1, stderr: `policies\[2\].quota_max: needs a quota_per_sku`},
		{args: "ctl limits diff -f -", stdin: others, stdout: `quota 1000 quota_per_sku 50 quota_max 5000 guaranteed[^\n]+\n` +
			`- flight: user enforce concurrency 50 quota 10000 zone Asia/Shanghai\n`},
		{args: "ctl limits set flight --quota 0 --reason x", stdout: `^version +11\n`, stderr: inForce},
		{args: "ctl limits set m1 --quota 0 --reason x", stdout: `^version +12\n`, stderr: inForce},
		{args: "ctl limits remove flight --reason x", stdout: `^version +13\n`, stderr: inForce},
		{args: "ctl limits set all --cost unit=0,page=0 --reason x", stdout: `^version +14\n`, stderr: inForce},
		{args: "ctl limits remove nobody --reason x", code: 1, stderr: `there is no limit "nobody"`},
		{args: "ctl limits remove m1 --reason x", stdout: `^version +15\n`, stderr: inForce},
		{args: "ctl limits stage -f - --reason x", stdin: others, code: 1, stderr: `nodes: is required, or percent`},
		{args: "ctl limits stage -f - --percent 40 --complete-in 1h --reason x", stdin: unknown, code: 1, stderr: `there is no caller m9/web`},
		{args: "ctl limits stage -f - --percent 40 --max-refused 5 --complete-in 1h --reason x", stdin: others, stdout: `^version +16\n`,
			stderr: `^the limits are tried by 1 of 1 gateways, and the trial is in force on the only gateway\n$`},
		{args: "ctl limits show", stdout: `caller +caller +40`,
			stderr: `^version 16\n\S+ tries other limits since .* if more than 5 % is refused in 10 s, they are taken back, and from .* on they are in force on all gateways\n$`},
		{args: "ctl limits remove all --reason x", code: 1, stderr: `can't be changed while a change of them is staged`},
		{args: "ctl limits take-back --reason x", stdout: `^version +17\n`, stderr: `^the limits before are in force`},
		{args: "ctl limits take-back --reason x", code: 1, stderr: `not-found`},
		{args: "ctl limits stage -f - --percent 40 --reason x", stdin: others, stdout: `^version +18\n`, stderr: `^the limits are tried by 1 of 1`},
		{args: "ctl limits complete --reason x", stdout: `^version +19\n`, stderr: inForce},
		{args: "ctl limits diff -f -", stdin: others, stderr: `^no difference from version 19\n$`},
		{args: "ctl limits set all --key global --rate 500 --reason x", stdout: `^version +20\n`, stderr: inForce},
		{args: "ctl limits remove u --reason x", stdout: `^version +21\n`, stderr: inForce},
		{args: "ctl limits remove all --reason x", stdout: `^version +22\n`, stderr: inForce},
		{args: "ctl apply -f - --reason x --yes",
			stdin:  "kind: merchant\nmerchant: m8\nname: M8\n---\nkind: limits\npolicies: [{name: m8, key: merchant, match: m8, rate: 9, burst: 9}]\n",
			stdout: `^\+ merchant m8\n`, stderr: `^2 changed\n$`},
		{args: "ctl limits show", stdout: `\nm8 +merchant +m8 +9 +9 +enforce`, stderr: `^version 23\n$`},
		{args: "ctl limits remove m8 --reason x", code: 2, stderr: `the last limit.* or --yes\n$`},
	} {
		s.run(t)
	}
}

// TestLimitEdit_KeepsWhatItWasNotTold: a command changes only the values that its flags name. A
// change of the rate also changes the burst.
func TestLimitEdit_KeepsWhatItWasNotTold(t *testing.T) {
	e := limitEdit{name: "a", rate: 9, given: func(flag string) bool { return flag == "rate" }}
	got, err := e.apply([]map[string]any{{"name": "b"}, {"name": "a", "key": "user", "match": "m/u", "rate": 1, "burst": 1, "mode": "shadow", "weight": 2}})
	if err != nil || len(got) != 2 || got[1]["rate"] != 9.0 || got[1]["burst"] != int64(9) || got[1]["match"] != "m/u" || got[1]["mode"] != "shadow" {
		t.Errorf("%v, %v", got, err)
	}
}

// TestCtl_EditsOnTopOfOthers: an edit that conflicts with another change is repeated on the new
// version, a few times.
func TestCtl_EditsOnTopOfOthers(t *testing.T) {
	version, conflicts := 1, 2
	var put []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("ETag", fmt.Sprintf(`"%d"`, version))
			_, _ = fmt.Fprintf(w, `{"version":%d,"policies":[{"name":"v%d","key":"user","rate":1e3,"burst":1,"mode":"enforce"}]}`, version, version)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		put = append(put, r.Header.Get("If-Match")+string(body))
		if conflicts--; conflicts >= 0 {
			version++
			w.WriteHeader(http.StatusPreconditionFailed)
			_, _ = io.WriteString(w, `{"status":412,"title":"Changed","detail":"by another","code":"precondition-failed"}`)
			return
		}
		_, _ = io.WriteString(w, `{"version":9,"recorded":true,"applied":1,"nodes":1,"lagging":[],"message":"in force"}`)
	}))
	defer server.Close()
	t.Setenv(envAdmin, server.URL)
	t.Setenv(envAdminToken, ctlToken)
	(&step{args: "ctl limits set a --key ip --rate 5 --reason x", stdout: `^version +9\n`, stderr: `^in force\n$`}).run(t)
	if len(put) != 3 || !strings.HasPrefix(put[2], `"3"{`) || !strings.Contains(put[2], `"name":"v3"`) || !strings.Contains(put[2], `"rate":1e3`) {
		t.Errorf("%q", put)
	}
	conflicts, put = 100, nil
	(&step{args: "ctl limits set a --key ip --rate 5 --reason x", code: 1, stderr: `precondition-failed`}).run(t)
	if len(put) != maxEdits {
		t.Errorf("tried %d times", len(put))
	}
}
