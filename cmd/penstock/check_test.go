package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/penstock/penstock/loadtest"
)

func TestCheck(t *testing.T) {
	operated(t)
	const sale = "kind: merchant\nmerchant: m1\nname: Shop\n---\nkind: activity\nactivity: s\nmerchant: m1\nname: S\nstarts_at: 2026-01-01T00:00:00Z\n" +
		"ends_at: 2096-12-31T00:00:00Z\npayment_window: 15m\nitems:\n- {sku: a, price: 199900, currency: CNY, quantity: 1, per_user: 1}\n" +
		"- {sku: b, price: 1999, currency: CNY, quantity: 0, per_user: 1}\n- {sku: c, price: 209900, currency: CNY, quantity: 1, per_user: 1}\n"
	for _, s := range []step{
		{args: "check", stdout: `^ok +readiness .*^ok +database .*^ok +shards +4 open.*^warn +limits +there are none .*^ok +switches +none is set`},
		{args: "check --activity s", code: 1, stderr: "unknown-activity"},
		{args: "ctl apply -f -", stdin: sale, stdout: "activity s", stderr: "2 changed"},
		{args: "ctl switches set wait off --reason test", stdout: "version", stderr: "wait is off"},
		{args: "check --activity s", code: 1, stderr: "fail$", stdout: `^fail +window +it is a draft.*^fail +callers +m1 has none` +
			`.*^warn +stock +without units: b .*^warn +prices +b costs 19.99 CNY, others 1999.00 CNY .*^warn +switch wait +wait is off for everybody` +
			`.*^ok +nodes +1 gateway takes buyers, 1 worker, all of one version.*^ok +settings in force .*^ok +lag +\d+ records.*^ok +shards +4 open`},
		{args: "ctl callers add m1 web --rights buy", stdout: "psk_"},
		{args: "ctl activities publish s", stdout: "published", stderr: "^s is published: it sells until 2096-12-31"},
		{args: "check --activity s -o json", stdout: `"check": "window",\n +"state": "ok"`, stderr: "", code: 0},
	} {
		s.run(t)
	}
}

// A check is most useful when Redis, Kafka or the database can't be reached. It says which one, and
// what it can't check.
func TestCheck_WhileServersAreAway(t *testing.T) {
	const away = `{"status":503,"code":"unavailable","title":"Not available at the moment","detail":"A part didn't answer."}`
	answering(t, map[string]string{
		"/admin/v1/settings": away, "/admin/v1/activities/s/preflight": away,
		"/readyz?verbose": `{"ready":false,"servers":[{"server":"database","instance":"","state":"away","detail":"connection refused"},
			{"server":"redis","instance":"","state":"ok","detail":""}],"shards":{"open":0,"closed":0,"rebuilding":0}}`,
		"/admin/v1/limits": `{"version":1,"policies":[]}`, "/admin/v1/switches": `{"version":1,"switches":[]}`,
	})
	found := `^fail +readiness .*^fail +database +away connection refused.*^ok +redis +ok.*^fail +%s +it can't be checked now: .*503`
	for _, s := range []step{
		{args: "check", code: 1, stdout: fmt.Sprintf(found, "nodes") + `.*^warn +limits`, stderr: "checks fail"},
		{args: "check --activity s", code: 1, stdout: fmt.Sprintf(found, "sale"), stderr: "checks fail"},
	} {
		s.run(t)
	}
}

func TestCheck_LimitsBesideALoadTest(t *testing.T) {
	dir := t.TempDir()
	write := func(change func(*loadtest.Summary)) {
		t.Helper()
		s := loadtest.Summary{
			Verdict: loadtest.Passed, AchievedRate: 2000, Outcomes: map[string]loadtest.Measure{"accepted": {Count: 600}, "sold-out": {Count: 400}},
			Actions: map[string]loadtest.Measure{"buy": {Count: 1000}, "browse": {Count: 1000}, "poll": {Count: 700}},
			Callers: []loadtest.PartReport{{Name: "1"}, {Name: "2"}}, Series: loadtest.SeriesReport{SlotMS: 100},
			Run: loadtest.RunCard{Version: "v0", Sales: []string{"s"}, Started: time.Date(2026, 6, 17, 0, 0, 0, 0, time.UTC)},
		}
		change(&s)
		text, err := json.Marshal(&s)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, summaryFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	answering(t, map[string]string{
		"/admin/v1/activities/s":           `{"activity":"s","merchant":"m1"}`,
		"/admin/v1/activities/s/preflight": `{"checks":[{"check":"window","state":"ok","detail":"it sells","hint":""}]}`,
		"/admin/v1/limits": `{"version":1,"policies":[
			{"name":"all","key":"global","rate":5000,"burst":1,"mode":"enforce"},
			{"name":"shops","key":"merchant","rate":10,"burst":1,"mode":"enforce"},
			{"name":"m1","key":"merchant","match":"m1","rate":999,"burst":1,"mode":"enforce"},
			{"name":"m2","key":"merchant","match":"m2","rate":1,"burst":1,"mode":"enforce"},
			{"name":"callers","key":"caller","rate":600,"burst":1,"mode":"enforce"},
			{"name":"user","key":"user","rate":1,"burst":1,"mode":"enforce"},
			{"name":"tried","key":"activity","rate":1,"burst":1,"mode":"shadow"}]}`,
	})
	write(func(*loadtest.Summary) {})
	const check = "check --activity s --loadtest "
	(&step{args: check + dir, stdout: `^ok +window .*\nok +load test +the load test of 2026-06-17 achieved 1000 purchases/s *\n` +
		`warn +limit all +5000/s for global; the load test had 1000/s: it lets in much more than was tested .*\n` +
		`warn +limit m1 +999/s for merchant m1; the load test had 1000/s: it would refuse that load .*\n` +
		`ok +limit callers +600/s for caller; the load test had 500/s *\n$`}).run(t)
	write(func(s *loadtest.Summary) { s.Run.Sales = []string{"x", "y"} })
	(&step{args: check + filepath.Join(dir, summaryFile), stdout: `warn +load test .* of other sales: x, y`}).run(t)
	write(func(s *loadtest.Summary) { s.Verdict = loadtest.Unread })
	(&step{args: check + dir, stdout: `warn +load test .* did not pass: `}).run(t)
	(&step{args: "check --loadtest " + dir, code: 2, stderr: "needs --activity"}).run(t)
	(&step{args: check + filepath.Join(dir, "nothing"), code: 2, stderr: "flag --loadtest: .*no such file"}).run(t)
	write(func(s *loadtest.Summary) { s.Series.SlotMS = 0 })
	(&step{args: check + dir, code: 2, stderr: "is not a summary of a load test"}).run(t)
}
