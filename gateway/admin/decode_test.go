package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

func TestParseObject(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		m := new(mistakes)
		o := parseObject([]byte(text), "", m)
		o.text("a")
		o.end()
		var got []string
		for _, e := range m.errs {
			got = append(got, e.Field+" "+e.Detail)
		}
		if strings.Join(got, "; ") != want {
			t.Errorf("%s: %s, want %s", text, strings.Join(got, "; "), want)
		}
	}
	f(`{"a":"x"}`, "")
	f(" {\"a\" : \"x\"}\n", "")
	f(`{"a":null}`, "a is required")
	f(`{"A":"x"}`, "a is required; A is unknown")
	f(`{"a":"x","a":"y"}`, "a is listed twice")
	f(`{"a":"x"}{}`, "body must end after the object")
	f(`{"a":"x"},`, "body must end after the object")
	f(``, "body is not valid JSON: it ends too early; a is required")
	f(`{"a":`, "body is not valid JSON: it ends too early; a is required")
	f(`{"a":"x"`, "body is not valid JSON: it ends too early")
	f(`{a:1}`, "body is not valid JSON: invalid character 'a'; a is required")
	f(`[]`, "body must be a JSON object; a is required")
	f(`"a"`, "body must be a JSON object; a is required")
	f("{\"a\":\"\xff\"}", "body must be UTF-8; a is required")
	f(`{"a":1,"`+strings.Repeat("é", 100)+`":2}`, "a must be a string; "+strings.Repeat("é", 50)+"… is unknown")
}

func TestMistakesAreBounded(t *testing.T) {
	m := new(mistakes)
	for range 250 {
		m.add("x", "is wrong")
	}
	var r *refusal
	if err := m.err(); err == nil {
		t.Fatal("no error")
	} else {
		r = err.(*refusal)
	}
	if n := len(r.Errors); n != maxMistakes+1 || r.Errors[n-1] != (problem.FieldError{Field: "body",
		Detail: "has 150 more mistakes"}) {
		t.Errorf("%d errors, the last %+v", n, r.Errors[n-1])
	}
}

func FuzzTakeActivity(f *testing.F) {
	f.Add([]byte(activityBody))
	f.Add([]byte(`{"items":[{"sku":null}],"starts_at":"0000-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m := new(mistakes)
		o := parseObject(text, "", m)
		a := takeActivity(o, "618")
		o.end()
		if m.err() != nil {
			return
		}
		// A document that is accepted comes back the same in the answer, and is accepted again.
		doc, err := json.Marshal(newActivityDoc(&a))
		if err != nil || !utf8.Valid(doc) {
			t.Fatalf("%v: %s", err, doc)
		}
		again := new(mistakes)
		o = parseObject(doc, "", again)
		b := takeActivity(o, "618")
		o.optionalText("activity")
		o.optionalText("state")
		o.end()
		if err := again.err(); err != nil || !sameDocument(&a, &b) {
			t.Fatalf("%v: %s became %s", again.errs, text, doc)
		}
	})
}

func TestShortDuration(t *testing.T) {
	f := func(d time.Duration, want string) {
		t.Helper()
		if got := shortDuration(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
		if back, err := time.ParseDuration(want); err != nil || back != d {
			t.Errorf("%s is %v, %v", want, back, err)
		}
	}
	f(0, "0s")
	f(time.Second, "1s")
	f(90*time.Second, "1m30s")
	f(15*time.Minute, "15m")
	f(10*time.Minute, "10m")
	f(time.Hour, "1h")
	f(100*time.Hour, "100h")
	f(90*time.Minute, "1h30m")
	f(time.Hour+time.Second, "1h0m1s")
	f(1500*time.Millisecond, "1.5s")
}

func TestParseTime(t *testing.T) {
	for text, want := range map[string]string{
		"2027-12-01T08:00:00Z": "2027-12-01T08:00:00Z", "2027-12-01t08:00:00z": "2027-12-01T08:00:00Z",
		"2027-12-01T08:00:00+05:45": "2027-12-01T02:15:00Z", "2027-12-01T08:00:00.5Z": "2027-12-01T08:00:00.5Z",
		"2027-11-07T01:30:00-04:00": "2027-11-07T05:30:00Z", "2027-12-01T08:00:00-00:00": "2027-12-01T08:00:00Z",
		"2027-12-01T08:00:00.000000000001+23:59": "2027-11-30T08:01:00Z", "2028-02-29T00:00:00Z": "2028-02-29T00:00:00Z",
	} {
		if got, ok := parseTime(text); !ok || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%s: %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{
		"", " ", "now", "1765000000", "2027-12-01", "2027-12-01T08:00:00", "2027-12-01 08:00:00Z", "2027-12-01T8:00:00Z", "2027-12-01T08:00Z",
		"2027-12-01T08:00:00,5Z", "2027-12-01T08:00:00.Z", "2027-12-01T08:00:00+24:00", "2027-12-01T08:00:00-00:60", "2027-12-01T08:00:00+0800",
		"2027-12-01T08:00:00+8:00", "2027-12-01T08:00:00+08", "2027-12-01T08:00:00 +08:00", "2027-12-01T08:00:00CST", "2027-12-01T08:00:00Z ",
		" 2027-12-01T08:00:00Z", "2027-12-01T08:00:00ZZ", "2027-12-01T08:00:00Z+08:00", "2027-12-01T08:00:00--08:00", "2027-02-29T00:00:00Z",
		"2027-13-01T00:00:00Z", "2027-12-32T00:00:00Z", "2027-12-01T24:00:00Z", "2027-12-01T08:60:00Z", "+2027-12-01T08:00:00Z", "27-12-01T08:00:00Z",
		"12027-12-01T08:00:00Z", "2027-12-01T08:00:00\u2212" + "04:00", "２027-12-01T08:00:00Z", "2027-1-01T08:00:00Z", "20271201T080000Z", "2027-W48-3T08:00:00Z",
	} {
		if got, ok := parseTime(text); ok {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

// TestLooseValues sends values that parsers read differently, or read as missing.
func TestLooseValues(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		m := new(mistakes)
		o := parseObject([]byte(text), "", m)
		o.time("t")
		o.duration("d")
		o.integer("n")
		o.end()
		var got []string
		for _, e := range m.errs {
			got = append(got, e.Field+" "+e.Detail)
		}
		if strings.Join(got, "; ") != want {
			t.Errorf("%s:\ngot  %s\nwant %s", text, strings.Join(got, "; "), want)
		}
	}
	const noTime, noDuration = "t must be a time like 2026-06-18T20:00:00+08:00 (RFC 3339)", "d must be a duration like 90s, 15m or 1h30m"
	f(`{"t":"2027-12-01T08:00:00Z","d":"15m","n":0}`, "")
	f(`{"t":"","d":"","n":-0}`, noTime+"; "+noDuration+"; n must be a whole number")
	f(`{"t":1,"d":15,"n":"1"}`, "t must be a string; d must be a string; n must be a whole number")
	f(`{"t":"2027-12-01T08:00:00Z","d":"15","n":1e3}`, noDuration+"; n must be a whole number")
	f(`{"t":"2027-12-01T08:00:00Z","d":"15m","n":1,"x":"\ud800"}`, "body has half of a surrogate pair in a string; x is unknown")
	f(`{"t":"2027-12-01T08:00:00Z","d":"15m","n":1,"x":{"y":["\udc00"]}}`, "body has half of a surrogate pair in a string; x is unknown")
}

// An activity of the most items is decoded in a fraction of a second.
func BenchmarkTakeActivity(b *testing.B) {
	items := make([]string, seckill.MaxItems)
	for i := range items {
		items[i] = fmt.Sprintf(`{"sku":"sku-%08d","price":1999,"currency":"CNY","quantity":1000,"per_user":2,"max_orders":0,"spread":1}`, i)
	}
	body := []byte(strings.TrimSuffix(activityBody, `[{"sku":"phone-x","price":1999,"currency":"CNY","quantity":10,"per_user":2}]}`) +
		"[" + strings.Join(items, ",") + "]}")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		m := new(mistakes)
		o := parseObject(body, "", m)
		a := takeActivity(o, "618")
		o.end()
		if len(a.Items) != seckill.MaxItems || m.err() != nil {
			b.Fatal(len(a.Items), m.err())
		}
	}
}

// Splitting a valid object by hand finds the same members as encoding/json.
func FuzzSplit(f *testing.F) {
	for _, text := range []string{
		`{}`, ` {"a":1}`, `{"a":[{"b":"}"},2] , "c" : {"d":[]},"e":"\"\\"}`, `{"a\u0041":null,"":-1.5e3,"t":true}`, `{"a":1,"a":2}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !utf8.Valid(text) || !json.Valid(text) || !strings.HasPrefix(strings.TrimLeft(string(text), " \t\r\n"), "{") {
			t.Skip()
		}
		fast, slow := parseObject(text, "", new(mistakes)), &object{raw: make(map[string]json.RawMessage), mistakes: new(mistakes)}
		slow.explain(text, "body")
		if len(fast.raw) != len(slow.raw) || len(fast.errs) != len(slow.errs) {
			t.Fatalf("%q: %q, want %q", text, fast.raw, slow.raw)
		}
		for name, value := range slow.raw {
			if string(fast.raw[name]) != string(value) {
				t.Errorf("%q: %s is %q, want %q", text, name, fast.raw[name], value)
			}
		}
	})
}
