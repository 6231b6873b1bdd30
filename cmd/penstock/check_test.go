package main

import "testing"

func TestMoney(t *testing.T) {
	for want, c := range map[string]struct {
		minor    int64
		currency string
	}{"19.99 CNY": {1999, "CNY"}, "0.05 USD": {5, "USD"}, "500 JPY": {500, "JPY"}, "1.234 KWD": {1234, "KWD"}, "0.00 EUR": {0, "EUR"}} {
		if got := money(c.minor, c.currency); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

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
		{args: "check --activity s", code: 1, stderr: "fail$", stdout: `^warn +switch +wait: off .*^fail +window +it is a draft.*^fail +callers +m1 has none` +
			`.*^warn +stock +b has no units.*^warn +price +b costs 19.99 CNY, others 1999.00 CNY`},
		{args: "ctl callers add m1 web --rights buy", stdout: "psk_"},
		{args: "ctl activities publish s", stdout: "published"},
		{args: "check --activity s -o json", stdout: `"check": "window",\n +"state": "ok"`, stderr: "", code: 0},
	} {
		s.run(t)
	}
}
