package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCtlArchive(t *testing.T) {
	const paid = `{"order":"o1","sku":"x","status":"paid","quantity":2,"amount":3998,"currency":"CNY"}` + "\n"
	const gone = `{"order":"o2","sku":"x","status":"cancelled","quantity":1,"amount":1999,"currency":"CNY"}` + "\n"
	const open = `{"order":"o3","sku":"x","status":"pending_payment","quantity":1,"amount":1999,"currency":"CNY"}` + "\n"
	books := func(held, sold, sum string) string {
		return `{"items":[{"sku":"x","total":5,"available":2,"held":` + held + `,"sold":` + sold + `,"balanced":true,"orders":{"open":` + held +
			`,"parked":0,"sold":` + sum + `}}]}`
	}
	for name, c := range map[string]struct {
		state, export, audit string
		code                 int
		stderr               string
	}{
		"as the books have it":    {"ended", paid + gone, books("0", "2", "2"), 0, `^2 orders of a, 2 units sold for 39\.98 CNY, as the books say\n$`},
		"it still sells":          {"published", paid, books("0", "2", "2"), 1, `a is published: only an ended activity`},
		"an open order":           {"ended", paid + open, books("1", "2", "2"), 1, `a/x: open orders have 1 unit, and may still be paid`},
		"an order is missing":     {"ended", gone, books("0", "2", "2"), 1, `a/x: there are 0 units in paid orders, but 2 in the database's books and 2 in the stock's`},
		"an item is missing":      {"ended", paid, `{"items":[]}`, 1, `a/x: has orders, and is not in the books`},
		"half a line":             {"ended", paid + `{"order":"o2"`, books("0", "2", "2"), 1, `line 2 is no order`},
		"what is no export":       {"ended", `hello`, books("0", "2", "2"), 1, `line 1 is no order`},
		"the books don't balance": {"ended", paid, `{"items":[{"sku":"x","total":5,"sold":2,"balanced":false,"orders":{"sold":2}}]}`, 1, `the books don't balance yet`},
	} {
		t.Run(name, func(t *testing.T) {
			answering(t, map[string]string{
				"/admin/v1/activities/a":                           `{"activity":"a","state":"` + c.state + `"}`,
				"/admin/v1/activities/a/audit":                     c.audit,
				"/admin/v1/orders/export?activity=a&format=ndjson": c.export,
			})
			dir := t.TempDir()
			out := filepath.Join(dir, "a.ndjson")
			stdout := ""
			if c.code == 0 {
				stdout = `^[0-9a-f]{64}  .*a\.ndjson\n$`
			}
			(&step{args: "ctl activities archive a --out " + out, code: c.code, stderr: c.stderr, stdout: stdout}).run(t)
			files, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if c.code != 0 {
				if len(files) > 0 {
					t.Errorf("left behind: %v", files)
				}
				return
			}
			text, err := os.ReadFile(out)
			if err != nil || string(text) != c.export {
				t.Errorf("%v, archived %q", err, text)
			}
			digest := sha256.Sum256([]byte(c.export))
			if sum, err := os.ReadFile(out + ".sha256"); err != nil || string(sum) != hex.EncodeToString(digest[:])+"  a.ndjson\n" {
				t.Errorf("%v, checksum %q", err, sum)
			}
			(&step{args: "ctl activities archive a --out " + out, code: 2, stderr: "is there already"}).run(t)
		})
	}
}

func TestCtlDrop(t *testing.T) {
	out := filepath.Join(t.TempDir(), "a.ndjson")
	const export = `{"order":"o1"}` + "\n"
	digest := sha256.Sum256([]byte(export))
	sum := hex.EncodeToString(digest[:])
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	answering(t, map[string]string{
		"/admin/v1/activities/a/archive": `{"activity":"a","orders":1,"sha256":"` + sum + `","kept_until":"2026-06-27T00:00:00Z"}`,
	})
	drop := "ctl activities drop a --archive " + out
	(&step{args: drop, code: 2, stderr: "flag --archive: .*no such file"}).run(t)
	write(out, export)
	(&step{args: drop, code: 2, stderr: "flag --archive: .*sha256"}).run(t)
	write(out+".sha256", strings.Repeat("0", 64)+"  a.ndjson\n")
	(&step{args: drop, code: 1, stderr: "is not what was archived"}).run(t)
	write(out+".sha256", sum+"  a.ndjson\n")
	(&step{args: drop, code: 2, stderr: `Delete the orders of a on the server\? .*or --yes`}).run(t)
	(&step{args: drop + " --yes", stdout: `sha256 +` + sum, stderr: `^1 order of a will be deleted after 2026-06-27`}).run(t)
}
