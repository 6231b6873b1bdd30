package problem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/penstock/penstock/seckill"
)

// codesIn returns the values of all constants named prefix… of type Code in a source file.
func codesIn(t *testing.T, file, prefix string) []Code {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []Code
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, prefix) {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			value, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			codes = append(codes, Code(value))
		}
		return true
	})
	return codes
}

func TestEveryCodeHasAnEntry(t *testing.T) {
	all := append(codesIn(t, "../../seckill/outcome.go", "Code"), codesIn(t, "code.go", "")...)
	if len(all) < 35 {
		t.Fatalf("found only %d codes in the sources", len(all))
	}
	want := make(map[Code]bool)
	for _, code := range all {
		want[code] = true
		if _, ok := Lookup(code); !ok {
			t.Errorf("%s has no entry", code)
		}
	}
	if len(want) != len(entries) || len(byCode) != len(entries) {
		t.Errorf("%d codes, %d entries, %d of them distinct", len(want), len(entries), len(byCode))
	}
}

func TestEntriesAreComplete(t *testing.T) {
	last := 0
	for _, e := range Entries() {
		if e.Title == "" || e.Detail == "" || e.Client == "" || e.Ops == "" {
			t.Errorf("%s lacks a text", e.Code)
		}
		if e.Status < last {
			t.Errorf("%s is out of order", e.Code)
		}
		last = e.Status
		if strings.Trim(string(e.Code), "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("%q is no code", e.Code)
		}
		if e.Retry > 0 && !e.Retryable {
			t.Errorf("%s is to be retried after %v, but isn't retryable", e.Code, e.Retry)
		}
		if (e.Status == 429 || e.Status == 503) && (e.Retry <= 0 || !e.Retryable) {
			t.Errorf("%s (%d) must say when to retry", e.Code, e.Status)
		}
	}
	if _, ok := Lookup("no-such-code"); ok {
		t.Error("Lookup finds what isn't there")
	}
}

func TestAppend(t *testing.T) {
	f := func(p Problem, want string) {
		t.Helper()
		if got := string(Append([]byte("x"), &p)); got != "x"+want {
			t.Errorf("got  %s\nwant x%s", got, want)
		}
	}
	f(Problem{Code: SoldOut},
		`{"type":"/problems/sold-out","title":"Sold out","status":409,"detail":"Fewer units of this item are available now than were asked for.","code":"sold-out","retryable":false}`)
	f(Problem{Code: NotStarted, StartsAt: time.Date(2026, 6, 18, 8, 0, 0, 5e6, time.FixedZone("", 8*3600)), RetryAfter: 1500 * time.Millisecond},
		`{"type":"/problems/not-started","title":"The sale hasn't started","status":409,"detail":"The sale starts at starts_at, by the server's clock.",`+
			`"code":"not-started","retryable":true,"retry_after_ms":1500,"starts_at":"2026-06-18T00:00:00.005Z"}`)
	f(Problem{Code: Unavailable, Detail: "a \"b\"\n\x00\x7f\xff é", Order: "0abc", RetryAfter: time.Microsecond},
		`{"type":"/problems/unavailable","title":"Not available at the moment","status":503,"detail":"a \"b\"\u000a\u0000\u007f`+"\uFFFD"+` é",`+
			`"code":"unavailable","retryable":true,"retry_after_ms":1,"order":"0abc"}`)
	f(Problem{Code: InvalidRequest, Errors: []FieldError{{Field: "sku", Detail: "is missing"}, {Field: "a\"b", Detail: "isn't known"}}},
		`{"type":"/problems/invalid-request","title":"The request is not valid","status":400,`+
			`"detail":"Something in the request is missing or has a value it can't have.","code":"invalid-request","retryable":false,`+
			`"errors":[{"field":"sku","detail":"is missing"},{"field":"a\"b","detail":"isn't known"}]}`)
	f(Problem{Code: InsufficientStock, Limit: "caller", Extra: []Member{Number("available", -3), Text("sku", "<x>")}},
		`{"type":"/problems/insufficient-stock","title":"Less is available than that","status":409,`+
			`"detail":"More units were to be taken back than are available.","code":"insufficient-stock","retryable":false,`+
			`"limit":"caller","available":-3,"sku":"<x>"}`)
}

func TestAppendOfAnUndescribedCodeIsInternal(t *testing.T) {
	p := Problem{Code: "made-up"}
	if got := string(Append(nil, &p)); !strings.Contains(got, `"code":"internal"`) || p.Status() != 500 {
		t.Errorf("got %s, status %d", got, p.Status())
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 4096)
	p := Problem{Code: NotStarted, StartsAt: time.Unix(1_800_000_000, 0), RetryAfter: time.Second, Order: "abc", Detail: "é"}
	if n := testing.AllocsPerRun(100, func() { dst = Append(dst[:0], &p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzAppend(f *testing.F) {
	f.Add("sold-out", "detail", "field")
	f.Add("made-up", "\"\\\x00\u2028", "\xff\xfe")
	f.Fuzz(func(t *testing.T, code, detail, field string) {
		p := Problem{Code: Code(code), Detail: detail, Order: field, Errors: []FieldError{{Field: field, Detail: detail}}, Extra: []Member{Text(field, detail)}}
		body := Append(nil, &p)
		var back struct {
			Detail string
			Errors []FieldError
		}
		if err := json.Unmarshal(body, &back); err != nil || !utf8.Valid(body) {
			t.Fatalf("%v: %q", err, body)
		}
		if want := strings.ToValidUTF8(detail, ""); utf8.ValidString(detail) && field != "detail" && field != "errors" &&
			!strings.EqualFold(field, "detail") && !strings.EqualFold(field, "errors") && back.Errors[0].Detail != want {
			t.Fatalf("detail became %q, was %q", back.Errors[0].Detail, want)
		}
	})
}

func TestFromError(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.7:6379: password=hunter2")
	starts := time.Date(2026, 6, 18, 0, 0, 0, 0, time.UTC)
	f := func(err error, want Problem) {
		t.Helper()
		if got := FromError(err); !reflect.DeepEqual(got, want) {
			t.Errorf("%v:\ngot  %+v\nwant %+v", err, got, want)
		} else if strings.Contains(string(Append(nil, &got)), "hunter2") {
			t.Errorf("%v leaks", err)
		}
	}
	f(&seckill.Refusal{Code: SoldOut}, Problem{Code: SoldOut})
	f(fmt.Errorf("buy: %w", &seckill.Refusal{Code: PurchaseLimit, Detail: "at most 2"}), Problem{Code: PurchaseLimit, Detail: "at most 2"})
	f(&seckill.Refusal{Code: NotStarted, StartsAt: starts}, Problem{Code: NotStarted, StartsAt: starts})
	f(&seckill.Refusal{Code: Degraded}, Problem{Code: Degraded, RetryAfter: 5 * time.Second})
	f(&seckill.Failure{Code: Unavailable, Err: secret}, Problem{Code: Unavailable, RetryAfter: time.Second})
	f(&seckill.Failure{Code: Overloaded, Err: secret, RetryAfter: 3 * time.Second}, Problem{Code: Overloaded, RetryAfter: 3 * time.Second})
	f(&seckill.Unknown{Order: "0abc", Err: secret}, Problem{Code: Unavailable, Order: "0abc", Detail: unknownDetail, RetryAfter: time.Second})
	f(fmt.Errorf("find: %w", context.DeadlineExceeded), Problem{Code: Unavailable, RetryAfter: time.Second})
	f(secret, Problem{Code: Internal})
	f(&seckill.Refusal{Code: "made-up", Detail: "hm"}, Problem{Code: Internal})
}

func TestJitterIsNeverEarlyAndBounded(t *testing.T) {
	f := func(d time.Duration, bits uint64, want time.Duration) {
		t.Helper()
		if got := Jitter(d, func() uint64 { return bits }); got != want {
			t.Errorf("Jitter(%v, %d) = %v, want %v", d, bits, got, want)
		}
	}
	f(0, 99, 0)
	f(-time.Second, 99, 0)
	f(time.Microsecond, 0, time.Millisecond)
	f(time.Second, 0, time.Second)
	f(time.Second, uint64(minSpread)-1, 3*time.Second)
	f(time.Second, uint64(minSpread), time.Second)
	f(3*time.Second, uint64(3*time.Second)-1, 6*time.Second)
	f(time.Hour, uint64(maxSpread)-1, time.Hour+maxSpread)
	f(longest, uint64(maxSpread)-1, longest+maxSpread)
	f(longest+time.Millisecond, 0, longest)
	f(math.MaxInt64, uint64(maxSpread)-1, longest+maxSpread)
}

func TestSecondsNeverBelowMilliseconds(t *testing.T) {
	f := func(d time.Duration, want int64) {
		t.Helper()
		got := Seconds(d)
		if got != want {
			t.Errorf("Seconds(%v) = %d, want %d", d, got, want)
		}
		if ms := milliseconds(d); got*1000 < ms || got > 1 && (got-1)*1000 >= ms {
			t.Errorf("%v: %d s and %d ms don't go together", d, got, ms)
		}
	}
	f(0, 1)
	f(time.Nanosecond, 1)
	f(time.Second, 1)
	f(time.Second+time.Nanosecond, 2)
	f(1500*time.Millisecond, 2)
	f(72*time.Hour, 72*3600)
	f(math.MaxInt64, int64(longestTold/time.Second))
	if ms := milliseconds(math.MaxInt64); ms > math.MaxInt32 {
		t.Errorf("%d ms are more than a client's timer may take", ms)
	}
}

func TestPages(t *testing.T) {
	index, indexText := string(IndexHTML()), string(IndexText())
	for _, e := range Entries() {
		link := `href="/problems/` + string(e.Code) + `"`
		if !strings.Contains(index, link) || !strings.Contains(indexText, "/problems/"+string(e.Code)+" ") {
			t.Errorf("%s isn't in the index", e.Code)
		}
		page, text := string(e.PageHTML()), string(e.PageText())
		for _, want := range []string{e.Title, e.Detail, e.Client, e.Ops, strconv.Itoa(e.Status), string(e.Code)} {
			if !strings.Contains(text, want) {
				t.Errorf("the text of %s lacks %q", e.Code, want)
			}
			var escaped strings.Builder
			writeEscaped(&escaped, want)
			if !strings.Contains(page, escaped.String()) {
				t.Errorf("the page of %s lacks %q", e.Code, want)
			}
		}
		if strings.Contains(page, "<t>") || strings.Count(page, "<h2>") != 3 || !strings.HasSuffix(page, "</html>\n") {
			t.Errorf("the page of %s is not well formed", e.Code)
		}
	}
}

func TestEscaping(t *testing.T) {
	var b strings.Builder
	writeEscaped(&b, `<a b="c" d='e'>&é`)
	if got, want := b.String(), "&lt;a b=&#34;c&#34; d=&#39;e&#39;&gt;&amp;é"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func BenchmarkAppend(b *testing.B) {
	dst := make([]byte, 0, 1024)
	p := Problem{Code: SoldOut}
	b.ReportAllocs()
	for b.Loop() {
		dst = Append(dst[:0], &p)
	}
}
