package main

import "testing"

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
			`.*^warn +stock +without units: b .*^warn +prices +b costs 1999 CNY in minor units, others 199900 .*^warn +switch wait +wait is off for everybody` +
			`.*^ok +nodes +1 gateways take buyers, 1 workers, all of one version.*^ok +settings .*^ok +lag +\d+ records.*^ok +shards +4 open`},
		{args: "ctl callers add m1 web --rights buy", stdout: "psk_"},
		{args: "ctl activities publish s", stdout: "published", stderr: "^s is published: it sells until 2096-12-31"},
		{args: "check --activity s -o json", stdout: `"check": "window",\n +"state": "ok"`, stderr: "", code: 0},
	} {
		s.run(t)
	}
}
