package main

// keySteps are the steps of TestCtl about keys, secrets and tokens. The shop has the merchant m1
// with the caller app, and the merchant m2.
func keySteps() []step {
	return []step{
		{args: "ctl callers keys add m1 app --expires-in 24h", stderr: `stay valid`,
			stdout: `caller +app\nkey +psk_\S{43}\nkey id +k-\S{10}\nprefix +psk_\S{6}\nstate +active\ncreated at +2\S+Z\nexpires at +2\S+ \(in \d+ h\)\nlast used at`},
		{args: "ctl callers keys roll m1 app --overlap 1h", stdout: `key +psk_\S{43}\n`, stderr: `^the other keys of m1/app are valid for 1h more`},
		{args: "ctl callers keys roll m1 app", code: 2, stderr: `required flag\(s\) "overlap" not set`},
		{args: "ctl callers keys list m1 app", stdout: `^KEY ID +PREFIX +STATE +CREATED AT +EXPIRES AT +LAST USED AT\n(k-\S+ +psk_\S{6} +active .*\n){3}$`},
		{args: "ctl callers keys list m1 app -o json", stdout: `^\{\n  "keys": \[\n`},
		{args: "ctl callers keys revoke m1 app k-none", code: 1, stderr: `unknown-key`},
		{args: "ctl callers keys find -", stdin: "psk_nobodys\n", code: 1, stderr: `\(404 unknown-key\)`},
		{args: "ctl merchants put m2 --overlap 24h", stdout: `^merchant +m2\nname +Two\npayment secret +[0-9a-f]{64}\nformer secret until +2\S+ \(in \d+ h\)\n$`},
		{args: "ctl merchants put m3 --overlap 24h", code: 1, stderr: `name: is required`},
		{args: "ctl secrets show", stdout: `^sealing key +[0-9a-f]{8}\nkeys +[0-9a-f]{8}\n\nKEY +KNOWN +SECRETS\n[0-9a-f]{8} +true +\d`},
		{args: "ctl secrets rewrap", stdout: `^rewrapped +0\nsealing key +[0-9a-f]{8}\n`},
		{args: "ctl tokens add shop --role viewer --merchant m1 --expires-in 8h", stdout: `role +viewer\nmerchant +m1\ntoken +pst_\S{43}\n.*\nexpires at +2\S+ \(in \d+ h\)\n$`},
		{args: "ctl tokens add shop --role root", code: 1, stderr: `role: must be viewer, support, operator, finance or admin`},
	}
}
