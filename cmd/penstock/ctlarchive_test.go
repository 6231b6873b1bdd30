package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
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
		"as the books have it":    {"ended", paid + gone, books("0", "2", "2"), 0, `^2 orders of a, 2 units sold for 39\.98 CNY, as the books have them\n$`},
		"it still sells":          {"published", paid, books("0", "2", "2"), 1, `a is published: only an ended activity`},
		"an open order":           {"ended", paid + open, books("1", "2", "2"), 1, `a/x: 1 units are in open orders`},
		"an order is missing":     {"ended", gone, books("0", "2", "2"), 1, `a/x: the paid orders have 0 units, the books 2 in the database and 2 in the stock`},
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
