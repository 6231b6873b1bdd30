package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const applyFiles = `
kind: merchant
merchant: m1
name: Shop
---
kind: caller
merchant: m1
name: web
rights: [buy]
---
kind: activity
activity: "618"
merchant: m1
name: Phones
state: published
starts_at: 2095-06-18T20:00:00+08:00
ends_at: 2096-06-18T22:00:00+08:00
payment_window: 900s
items_from: items.csv
---
kind: limits
policies: [{name: caller, key: caller, rate: 400, burst: 400}]
---
kind: switch
name: wait
value: "off"
scope: {merchant: m1}
`

func TestCtlApply(t *testing.T) {
	operated(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "shop.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("shop.yaml", applyFiles)
	write("items.csv", "sku,price,currency,quantity,per_user\n手机 64G/A,1999,CNY,10,2\nb,5,CNY,3,0\n")
	write("more.csv", "delta,sku\n5,b\n1,手机 64G/A\n")
	write("wrong.csv", "delta,sku\n5,b\n1,c\n0,b\n")
	steps := func(list ...step) {
		t.Helper()
		for i := range list {
			list[i].run(t)
		}
	}
	steps(
		step{args: "ctl apply -f " + dir + " --dry-run", stdout: `^\+ merchant m1$.*^\+ activity 618\n    2 items\n~ activity 618: publish$.*^\+ switch wait for merchant m1$`,
			stderr: `^6 to change; nothing was changed`},
		step{args: "ctl apply -f " + file, stdout: `^key +psk_`, stderr: `^6 changed$`},
		step{args: "ctl apply -f " + file, stdout: `^nothing to change\n$`},
		step{args: "ctl activities show 618", stdout: `^state +published$.*手机 64G/A`},
		step{args: "ctl activities edit-item 618 b --price 7 --per-user 1", stdout: `^b +.*7`},
		step{args: "ctl apply -f " + file + " --dry-run", stdout: `item b: price: 7 → 5$.*item b: per_user: 1 → 0`, stderr: "1 to change"},
		step{args: "ctl apply -f " + file, stdout: `~ activity 618`, stderr: `1 changed`},
		step{args: "ctl stock restock 618 --file " + dir + "/wrong.csv --reason x", code: 2, stderr: `wrong.csv:3: sku: the activity has no item "c"\n` +
			`.*wrong.csv:4: sku: "b" is on line 2 already\n.*wrong.csv:4: delta: must be from 1`},
		step{args: "ctl stock restock 618 --file " + dir + "/more.csv --reason x --key k", stderr: `^2 items of 618 restocked; 0 were restocked before`},
		step{args: "ctl stock restock 618 --file " + dir + "/more.csv --reason x --key k", stderr: `^0 items of 618 restocked; 2 were restocked before`},
		step{args: "ctl apply -f " + file, stdout: `^nothing to change`, stderr: `the quantity of 2 items is not changed by a file`},
		step{args: "ctl activities clone 618 619 --starts-at 2096-01-01T00:00:00Z", stdout: `^state +draft$.*^b +0\.05 CNY +8`},
		step{args: "ctl activities clone 618 619 --starts-at 2096-01-01T00:00:00Z", code: 1, stderr: `there is an activity 619 already`},
		step{args: "ctl activities clone who 620 --starts-at 2096-01-01T00:00:00Z", code: 1, stderr: `unknown-activity`},
		step{args: "ctl callers add m1 app --rights buy", stdout: "psk_"},
		step{args: "ctl switches set browse static --reason x", stdout: "version", stderr: "browse is static"},
		step{args: "ctl apply --prune -f " + file, code: 2, stdout: `- activity 619$.*- caller m1/app$.*- switch browse$`, stderr: `3 of these changes remove something.*or --yes`},
		step{args: "ctl apply --prune --yes -f " + file, stdout: `- activity 619`, stderr: `3 changed$`},
		step{args: "ctl apply --prune -f " + file, stdout: `^nothing to change`, stderr: "is not changed by a file"},
		step{args: "ctl activities delete 618 --yes", code: 1, stderr: `activity-state`},
	)
}

const anActivity = "kind: activity\nactivity: x\nmerchant: m\nname: X\nstarts_at: 2095-06-18T20:00:00+08:00\n" +
	"ends_at: 2096-06-18T22:00:00+08:00\npayment_window: 900s\nitems: [{sku: a, price: 1, currency: CNY, quantity: 1, per_user: 1}]\n"

// TestCtlApply_AsksTheServerBeforeItChanges: mistakes that only the server can find are reported
// before the first change, all at once.
func TestCtlApply_AsksTheServerBeforeItChanges(t *testing.T) {
	operated(t)
	text := "kind: merchant\nmerchant: m9\nname: Nine\n---\nkind: caller\nmerchant: m8\nname: web\nrights: [buy]\n---\n" + anActivity +
		"---\nkind: limits\npolicies: [{name: x, key: nobody, rate: 1, burst: 1}]\n---\nkind: switch\nname: wiat\nvalue: \"off\"\n---\n" +
		"kind: switch\nname: admission\nvalue: 101\n"
	(&step{args: "ctl apply -f -", stdin: text, code: exitUsage, stderr: `:5: merchant: there is no merchant m8, and no file makes it\n` +
		`.*:10: merchant: there is no merchant m, .*policies\[0\].key: must be global.*` +
		`name: there is no switch "wiat", did you mean "wait"\?\n.*value: "101" is none of 0 to 100`}).run(t)
	(&step{args: "ctl merchants show m9", code: exitFailure, stderr: "unknown-merchant"}).run(t)
}

// TestCtlApply_ChangesNothingThatItCantFinish: what a running sale refuses, the number of shards, a
// scope that doesn't exist and a role are known before the first change.
func TestCtlApply_ChangesNothingThatItCantFinish(t *testing.T) {
	operated(t)
	run := func(list ...step) {
		t.Helper()
		for i := range list {
			list[i].run(t)
		}
	}
	const shop = "kind: merchant\nmerchant: m1\nname: Shop\n---\n"
	sale := shop + strings.NewReplacer("merchant: m\n", "merchant: m1\nstate: published\n", "2095-06", "2025-06",
		"per_user: 1}", "per_user: 1, spread: 2}").Replace(anActivity)
	limits := "---\nkind: limits\npolicies: [{name: x, key: user, rate: 1, burst: 5}]\n"
	renamed := strings.Replace(sale, "name: Shop", "name: Other", 1)
	run(step{args: "ctl apply -f -", stdin: sale, stdout: "activity x: publish", stderr: "3 changed"},
		step{args: "ctl apply -f -", code: exitUsage, stdin: strings.Replace(renamed, "price: 1,", "price: 2,", 1) + limits,
			stderr: "^penstock: -:5: activity x: The item a: the activity has started, or is about to: prices and limits stay.\n$"},
		step{args: "ctl apply -f -", code: exitUsage, stdin: strings.Replace(renamed, "spread: 2", "spread: 1", 1) + limits,
			stderr: ":5: activity x: The item a: it is published, and spread over 2 shards: over fewer it can't be"},
		step{args: "ctl apply -f -", code: exitUsage, stdin: strings.Replace(renamed, "2025-06", "2025-07", 1), stderr: ":5: starts_at: the activity has started"},
		step{args: "ctl apply -f -", code: exitUsage, stdin: strings.NewReplacer("activity: x", "activity: y", "spread: 2", "spread: 5").Replace(renamed),
			stderr: `:5: items\[0\].spread: must be from 1 to 4, the number of shards`},
		step{args: "ctl apply -f -", code: exitUsage, stdin: renamed + "---\nkind: switch\nname: wait\nvalue: \"off\"\nscope: {merchant: m2}\n",
			stderr: "scope: there is no merchant m2; did you mean m1"},
		step{args: "ctl merchants show m1", stdout: "name +Shop"},
		step{args: "ctl limits show", stdout: "^NAME", stderr: "^version 0"},
	)
	// A merchant that the files make, and a scope that they make.
	run(step{args: "ctl apply -f -", stdin: strings.NewReplacer("m1", "m2", "activity: x", "activity: z").Replace(sale) +
		"---\nkind: switch\nname: wait\nvalue: \"off\"\nscope: {merchant: m2}\n", stdout: "switch wait for merchant m2", stderr: "4 changed"})
	added, _, _ := typed(t, "", "ctl", "tokens", "add", "night", "--role", "operator")
	t.Setenv(envAdminToken, regexp.MustCompile(`pst_\S+`).FindString(added))
	run(step{args: "ctl apply -f -", stdin: renamed + limits, code: 1, stdout: "limits", stderr: "^penstock: merchant m1: needs the role admin; the token night has operator\n$"},
		step{args: "ctl apply --dry-run -f -", stdin: renamed + limits, stdout: "name: Shop", stderr: "2 to change; nothing was changed"},
		step{args: "ctl merchants show m1", stdout: "name +Shop"})
}

func TestTakesValue(t *testing.T) {
	for _, c := range []struct {
		values, value string
		takes         bool
	}{
		{"off, on", "on", true}, {"off, on", "o", false}, {"0 to 100", "100", true}, {"0 to 100", "101", false}, {"1 to 60", "0", false},
		{"1 to 60", "x", false}, {"auto, D0, D1", "D1", true},
	} {
		if takesValue(c.values, c.value) != c.takes {
			t.Errorf("%q of %q: %v", c.value, c.values, !c.takes)
		}
	}
}

func TestCtlApply_SaysEveryMistakeAndChangesNothing(t *testing.T) {
	t.Setenv("PENSTOCK_ADMIN", "http://127.0.0.1:1")
	t.Setenv("PENSTOCK_ADMIN_TOKEN", ctlToken)
	for text, want := range map[string]string{
		"kind: actvity\n":                        `:1: unknown kind "actvity", did you mean "activity"?`,
		"name: x\n":                              `:1: kind: is missing`,
		"kind: merchant\nmerchant: 7\nnmae: x\n": `:1: unknown key "nmae", did you mean "name"?`,
		"- 1\n":                                  `:1: has to be members`,
		"":                                       `has no document`,
		"kind: merchant\nmerchant: a\nname: [\n": `is not YAML`,
		"kind: caller\nmerchant: m\nname: web\nrights: [fly]\n":         `:1: rights: must be a list of buy, merchant or both`,
		"kind: merchant\nmerchant: a/b\nname: x\n":                      `:1: merchant: must consist of letters`,
		"kind: switch\nname: wait\nvalue: off\nscope: m1\n":             `:1: scope: must be one of`,
		strings.Replace(anActivity, "2096", "2094", 1):                  `:1: ends_at: must be after starts_at`,
		strings.Replace(anActivity, "900s", "soon", 1):                  `:1: payment_window: must be a duration`,
		strings.Replace(anActivity, "price: 1", "price: x", 1):          `:1: items.price: can't be a string`,
		strings.Replace(anActivity, "sku: a,", "", 1):                   `:1: items[0].sku: is required`,
		"kind: limits\npolicies: []\n---\nkind: limits\npolicies: []\n": `:4: limits is at `,
	} {
		_, stderr, code := typed(t, text, "ctl", "apply", "-f", "-")
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, %s\nwant %s", text, code, stderr, want)
		}
	}
}

func TestReadItems_NamesEveryLine(t *testing.T) {
	text := "\ufeffsku,price,currency,quantity,per_user\n" +
		"ok,1,CNY,1,1\n" + "a,19.99,CNY,1,1\n" + "b,1,yen,1,1\n" + "c,1,CNY,-1,1\n" + "ok,1,CNY,1,1\n" + ",1,CNY,1,1\n" + "d,1,CNY,1\n" +
		"e,1,CNY,1,1001\n" + "f,1,CNY,99999999999999999999,1\n" + "g,,CNY,1,1\n" + "h\"h,1,CNY,1,1\n" + "\"two\nlines\",1,CNY,1,1\n" + "last,x,CNY,1,1\n"
	_, err := readItems("i.csv", []byte(text))
	var want strings.Builder
	for _, line := range []string{
		`3: price: "19.99" is not a whole number: prices are in minor units, 1999 for 19.99`,
		`4: currency: must be three capital letters (ISO 4217)`, `5: quantity: must be from 0 to 10000000`, `6: sku: "ok" is on line 2 already`,
		`7: sku: is required`, `8: has 4 values, the header has 5 columns`, `9: per_user: must be from 0 (no limit) to 1000`,
		`10: quantity: 99999999999999999999 is out of range`, `11: price: is empty`, `12: is not CSV: bare " in non-quoted-field`,
		`13: sku: must have no control characters`, `15: price: "x" is not a whole number`,
	} {
		fmt.Fprintf(&want, "i.csv:%s\n", line)
	}
	if err == nil || err.Error()+"\n" != want.String() {
		t.Errorf("%v\nwant\n%s", err, want.String())
	}
	many := []byte("sku,price,currency,quantity,per_user\n")
	broken := []string{
		"dup,1,CNY,1,1", "a%d,19.99,CNY,1,1", "b%d,1,yen,1,1", "c%d,1,CNY,-1,1", ",1,CNY,1,1", "d%d,1,CNY,1", "e%d,1,CNY,1,1001",
		"f%d,1,CNY,99999999999999999999,1", "g%d,,CNY,1,1", "h%d,-5,CNY,1,1", "i%d,1,CNY,1,x",
	}
	const lines, sound = 100_000, 1_000 // one of a thousand is valid
	for n := range lines {
		line := fmt.Sprintf("ok%d,1,CNY,1,1", n)
		if n%sound > 0 {
			line = strings.ReplaceAll(broken[n%len(broken)], "%d", fmt.Sprint(n))
		}
		many = append(many, line+"\n"...)
	}
	_, err = readItems("m.csv", many)
	said := strings.Split(err.Error(), "\n")
	if want := lines - lines/sound; len(said) != want { // the first duplicate is valid; the number of items is a mistake of its own
		t.Errorf("%d mistakes are named, want %d: the last are\n%s", len(said), want, strings.Join(said[len(said)-3:], "\n"))
	}
	if last := said[len(said)-1]; !strings.HasSuffix(last, " items: an activity has at most 20000") {
		t.Errorf("the last line is %q", last)
	}
	for text, want := range map[string]string{
		"": "no header line", "sku,prize\n": `unknown column "prize", did you mean "price"?`, "sku,sku\n": "is there twice",
		"sku\n": "i.csv:1: the column price is missing", "sku,price,currency,quantity,per_user\n": "has no items", "a\n\xff\n": "i.csv:2: is not UTF-8",
	} {
		if _, err := readItems("i.csv", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestReadItems_NamesTheLineOfAnOpenQuote: the quote goes on to the end of the file, and the line
// there helps nobody.
func TestReadItems_NamesTheLineOfAnOpenQuote(t *testing.T) {
	text := "sku,price,currency,quantity,per_user\nok,1,CNY,1,1\n\"a,1,CNY,1,1\nb,1,CNY,1,1\nc,1,CNY,1,1\n"
	if _, err := readItems("i.csv", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), "i.csv:3: is not CSV: ") {
		t.Error(err)
	}
}
