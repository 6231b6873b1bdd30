package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/penstock/penstock/seckill"
)

// mistakes returns the entries of errors, as "field: detail".
func mistakes(t *testing.T, body string) []string {
	t.Helper()
	var p struct {
		Code   string
		Errors []struct{ Field, Detail string }
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var out []string
	for _, e := range p.Errors {
		out = append(out, e.Field+": "+e.Detail)
	}
	return out
}

func TestBadPurchases(t *testing.T) {
	s := start(t, nil)
	s.sales.become(buying(seckill.Order{}, false, no(seckill.CodeSoldOut)))
	f := func(body string, want ...string) {
		t.Helper()
		resp, got := do(t, s.request(t, "POST", "/v1/orders", body))
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: status %d: %s", body, resp.StatusCode, got)
		} else if list := mistakes(t, got); !slices.Equal(list, want) {
			t.Errorf("%s:\ngot  %q\nwant %q", body, list, want)
		}
	}
	const rest = `"activity":"a","sku":"s","user":"u"`
	const quantity = "quantity: must be from 1 to 1000"
	f(``, "body: is empty: a JSON object is expected")
	f(" \r\n\t", "body: is empty: a JSON object is expected")
	f(`{`, "body: isn't JSON from byte 1 on")
	f(`{"activity" "a"}`, "body: isn't JSON from byte 13 on")
	f(goodBody+`x`, "body: isn't JSON from byte 69 on")
	f(goodBody+goodBody, "body: isn't JSON from byte 69 on")
	f(`nan`, "body: isn't JSON from byte 2 on")
	f(`null`, "body: must be one JSON object")
	f(`[1]`, "body: must be one JSON object")
	f(`"x"`, "body: must be one JSON object")
	f(`{}`, "activity: is missing", "sku: is missing", "user: is missing", "quantity: is missing")
	f(`{`+rest+`}`, "quantity: is missing")
	f(`{`+rest+`,"quantity":1,"price":1,"x":{"y":[]}}`, "price: isn't a field of this request", "x: isn't a field of this request")
	f(`{`+rest+`,"quantity":1,"sku":"t"}`, "sku: is there twice")
	f(`{`+rest+`,"quantity":1,"sk\u0075":"t"}`, "sku: is there twice")
	f(`{`+rest+`,"quantity":1,"Sku":"t"}`, "Sku: isn't a field of this request")
	f(`{"activity":1,"sku":null,"user":["u"],"quantity":"1"}`, "activity: must be a string", "sku: must be a string",
		"user: must be a string", "quantity: must be a whole number without fraction or exponent")
	f(`{"activity":"","sku":"`+strings.Repeat("s", 65)+`","user":"`+strings.Repeat("u", 129)+`","quantity":0}`,
		"activity: must be 1 to 64 characters long", "sku: must be 1 to 64 characters long", "user: must be 1 to 128 characters long", quantity)
	f(`{"activity":"a\u0000","sku":"s\n","user":"\u0085","quantity":1}`, "activity: must not have control characters",
		"sku: must not have control characters", "user: must not have control characters")
	f(`{"activity":" ","sku":"\u200b","user":"\u00a0\u3000\ufeff","quantity":1}`, "activity: must have a visible character",
		"sku: must have a visible character", "user: must have a visible character")
	f(`{"activity":"a","sku":"s\u202e","user":"u\ufffd","quantity":1}`, "sku: must not have line separators or bidirectional controls",
		"user: must not have U+FFFD: the text was read in a wrong encoding")
	f("{\"activity\":\"a\tb\",\"sku\":\"s\",\"user\":\"u\",\"quantity\":1}", "body: isn't JSON from byte 15 on")
	f("{\"activity\":\"\xff\",\"sku\":\"s\",\"user\":\"u\",\"quantity\":1}", "body: isn't UTF-8")
	f("\xef\xbb\xbf"+goodBody, "body: isn't JSON from byte 1 on")
	f(`{"activity":"\ud800","sku":"s","user":"u","quantity":1}`, "body: has half of a surrogate pair in a string")
	f(`{"activity":"\udc00\ud800","sku":"s","user":"u","quantity":1}`, "body: has half of a surrogate pair in a string")
	f(`{"activity":"\x","sku":"s","user":"u","quantity":1}`, "body: isn't JSON from byte 15 on")
	f(`{`+rest+`,"quantity":-1}`, quantity)
	f(`{`+rest+`,"quantity":-0}`, quantity)
	f(`{`+rest+`,"quantity":1001}`, quantity)
	f(`{`+rest+`,"quantity":9223372036854775808}`, quantity)
	f(`{`+rest+`,"quantity":-99999999999999999999999999}`, quantity)
	f(`{`+rest+`,"quantity":1.0}`, "quantity: must be a whole number without fraction or exponent")
	f(`{`+rest+`,"quantity":1e0}`, "quantity: must be a whole number without fraction or exponent")
	f(`{`+rest+`,"quantity":1E400}`, "quantity: must be a whole number without fraction or exponent")
	f(`{`+rest+`,"quantity":true}`, "quantity: must be a whole number without fraction or exponent")
	f(`{`+rest+`,"quantity":01}`, "body: isn't JSON from byte 50 on")
	f(`{`+rest+`,"quantity":+1}`, "body: isn't JSON from byte 49 on")
	f(`{`+rest+`,"quantity":NaN}`, "body: isn't JSON from byte 49 on")
	f(`{`+rest+`,"quantity":1,}`, "body: isn't JSON from byte 51 on")
	f(`{`+rest+`,"quantity":[[[[1]]]]}`, "body: is nested too deeply")
	f(strings.Repeat("[", 16<<10), "body: is nested too deeply")
	f(strings.Repeat(`{"a":`, 3<<10), "body: is nested too deeply")
}

// TestUnknownFieldsAreBounded sends more mistakes than an answer lists.
func TestUnknownFieldsAreBounded(t *testing.T) {
	s := start(t, nil)
	var body strings.Builder
	body.WriteString(`{"` + strings.Repeat("é", 200) + `":1`)
	for i := range 1000 {
		body.WriteString(`,"f` + string(rune('a'+i%26)) + `":0`)
	}
	_, got := do(t, s.request(t, "POST", "/v1/orders", body.String()+"}"))
	list := mistakes(t, got)
	if len(list) != maxFieldErrors || len(list[0]) > maxFieldName+len(": "+isUnknown) || !utf8.ValidString(got) {
		t.Errorf("%d mistakes, the first %q", len(list), list[0])
	}
}

func TestGoodPurchases(t *testing.T) {
	s := start(t, nil)
	seen := make(chan seckill.Purchase, 1)
	s.sales.become(func(sales *stubSales) {
		sales.buy = func(_ context.Context, p *seckill.Purchase) (seckill.Receipt, error) {
			got := *p
			got.Activity, got.SKU = seckill.ActivityID(strings.Clone(string(p.Activity))), seckill.SKU(strings.Clone(string(p.SKU)))
			got.User, got.Key = seckill.UserID(strings.Clone(string(p.User))), strings.Clone(p.Key)
			got.Request = strings.Clone(p.Request)
			seen <- got
			return seckill.Receipt{Order: testOrder(seckill.OrderQueued)}, nil
		}
	})
	f := func(body string, want seckill.Purchase, fields ...string) {
		t.Helper()
		before := time.Now()
		resp, answer := do(t, s.request(t, "POST", "/v1/orders", body, fields...))
		if resp.StatusCode != http.StatusAccepted {
			t.Errorf("%s: status %d: %s", body, resp.StatusCode, answer)
			return
		}
		got := <-seen
		if got.Caller == nil || got.Caller.Caller != "web" || got.Arrived.Before(before) || got.Arrived.After(time.Now()) {
			t.Errorf("%s: caller %v, arrived %v", body, got.Caller, got.Arrived)
		}
		if id := resp.Header.Get("X-Request-Id"); got.Request != id {
			t.Errorf("%s: request %q, answered as %q", body, got.Request, id)
		}
		got.Caller, got.Arrived, got.Request = nil, time.Time{}, ""
		if got != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", body, got, want)
		}
	}
	f(goodBody, seckill.Purchase{Activity: "618-phones", SKU: "phone-x", User: "u-42", Quantity: 1, Key: "key-1"})
	f(" {\"quantity\" : 1000,\n\"user\":\"\\ud83d\\ude00\\/\\\"\",\"sku\":\"ü\",\"activity\":\"a b\"} \t",
		seckill.Purchase{Activity: "a b", SKU: "ü", User: "😀/\"", Quantity: 1000, Key: "~!"}, "Idempotency-Key", "~!")
	f(goodBody, seckill.Purchase{Activity: "618-phones", SKU: "phone-x", User: "u-42", Quantity: 1, Key: `"quoted"`,
		Wait: 10 * time.Second},
		"Idempotency-Key", `"quoted"`, "Prefer", "WAIT = \"60\"", "Content-Type", `Application/JSON ; charset="UTF-8"`, "Content-Encoding", "identity")
	f(goodBody, seckill.Purchase{Activity: "618-phones", SKU: "phone-x", User: "u-42", Quantity: 1, Key: strings.Repeat("k", 64)},
		"Idempotency-Key", strings.Repeat("k", 64), "Content-Type", "", "Authorization", "bEARER   "+buyerKey, "Prefer", "wait=soon")
	f(`{"activity":"`+strings.Repeat("a", 64)+`","sku":"`+strings.Repeat("ü", 32)+`","user":"`+strings.Repeat("u", 128)+`","quantity":1}`,
		seckill.Purchase{Activity: seckill.ActivityID(strings.Repeat("a", 64)), SKU: seckill.SKU(strings.Repeat("ü", 32)),
			User: seckill.UserID(strings.Repeat("u", 128)), Quantity: 1, Key: "key-1"})
}

func TestBadIdempotencyKeys(t *testing.T) {
	s := start(t, nil)
	f := func(want string, keys ...string) {
		t.Helper()
		req := s.request(t, "POST", "/v1/orders", `{`)
		req.Header["Idempotency-Key"] = keys
		_, body := do(t, req)
		if got := mistakes(t, body); len(got) != 2 || got[0] != "header Idempotency-Key: "+want || !strings.HasPrefix(got[1], "body: ") {
			t.Errorf("%q: got %q, want %q and the body's", keys, got, want)
		}
	}
	f("is missing")
	f("must be 1 to 64 visible ASCII characters", "")
	f("must be 1 to 64 visible ASCII characters", strings.Repeat("k", 65))
	f("must be 1 to 64 visible ASCII characters", "a b")
	f("must be 1 to 64 visible ASCII characters", "é")
	f("is given more than once", "a", "a")
}

func TestBadContentTypes(t *testing.T) {
	s := start(t, nil)
	for _, fields := range [][]string{
		{"Content-Type", "application/x-www-form-urlencoded"}, {"Content-Type", "application/json; charset=latin-1"},
		{"Content-Type", "application/jsonp"}, {"Content-Type", "multipart/form-data; boundary=x"}, {"Content-Type", ";"},
		{"Content-Encoding", "gzip"},
	} {
		if resp, body := do(t, s.request(t, "POST", "/v1/orders", goodBody,
			fields...)); resp.StatusCode != http.StatusUnsupportedMediaType {
			t.Errorf("%v: status %d: %s", fields, resp.StatusCode, body)
		}
	}
}

func TestBadKeysOfCallers(t *testing.T) {
	s := start(t, nil)
	f := func(values ...string) {
		t.Helper()
		req := s.request(t, "POST", "/v1/orders", goodBody)
		req.Header["Authorization"] = values
		if resp, body := do(t, req); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q: status %d: %s", values, resp.StatusCode, body)
		}
	}
	f()
	f("")
	f(buyerKey)
	f("Bearer")
	f("Bearer ")
	f("Basic " + buyerKey)
	f("Bearer " + buyerKey + " x")
	f("Bearer " + buyerKey + "x")
	f("Bearer " + strings.Repeat("k", 1000))
	f("Bearer "+buyerKey, "Bearer "+buyerKey)
}

func TestBadPayments(t *testing.T) {
	s := start(t, nil)
	f := func(body string, want ...string) {
		t.Helper()
		resp, got := do(t, s.request(t, "POST", "/v1/payments", body, "Penstock-Signature", goodSignature))
		if list := mistakes(t, got); resp.StatusCode != http.StatusBadRequest || !slices.Equal(list, want) {
			t.Errorf("%s: status %d\ngot  %q\nwant %q", body, resp.StatusCode, list, want)
		}
	}
	id := string(testOrderID)
	f(`{}`, "payment: is missing", "order: is missing", "amount: is missing", "currency: is missing")
	f(`{"payment":"","order":"x","amount":-1,"currency":"cny"}`, "payment: must be 1 to 64 characters long", "order: isn't an order id",
		"amount: must be from 0 to 1000000000000000", "currency: must be three upper-case letters (ISO 4217)")
	f(`{"payment":"p","order":"`+strings.ToUpper(id)+`","amount":19.99,"currency":"CNYY"}`, "order: isn't an order id",
		"amount: must be a whole number without fraction or exponent", "currency: must be three upper-case letters (ISO 4217)")
	f(`{"payment":"\u00a0","order":"`+id+`","amount":-0,"currency":"CNY"}`, "payment: must have a visible character",
		"amount: must be a whole number without fraction or exponent")
	f(`{"payment":"p","order":"`+id+`","amount":1,"currency":"CNY","merchant":"m"}`, "merchant: isn't a field of this request")
}

// TestPaymentsOwnTheirStrings keeps a notice after its call, as a batch does, and overwrites the
// request's memory.
func TestPaymentsOwnTheirStrings(t *testing.T) {
	s := start(t, nil)
	kept := make(chan seckill.Payment, 2)
	var mac [32]byte
	for i := range mac {
		mac[i] = 0x0a
	}
	s.sales.become(func(sales *stubSales) {
		sales.pay = func(_ context.Context, n *seckill.Notice) (seckill.Order, error) {
			if n.SignedAt != 1781740800 || len(n.MACs) != 1 || n.MACs[0] != mac || !json.Valid(n.Body) {
				t.Errorf("notice %+v", n)
			}
			kept <- n.Payment
			return testOrder(seckill.OrderPaid), nil
		}
	})
	first := paymentBody(testOrderID)
	for _, body := range []string{first, strings.NewReplacer("pay-1", "pay-2", "CNY", "EUR").Replace(first)} {
		if resp, answer := do(t, s.request(t, "POST", "/v1/payments", body, "Penstock-Signature", goodSignature)); resp.StatusCode != 200 {
			t.Fatal(answer)
		}
	}
	want := seckill.Payment{ID: "pay-1", Order: testOrderID, Amount: seckill.Money{Minor: 1999, Currency: "CNY"}}
	if got := <-kept; got != want {
		t.Errorf("the first payment became %+v", got)
	}
}

// plainBodies are taken in one pass.
var plainBodies = []string{
	goodBody,
	`{"activity":"618-phones","sku":"phone-x","user":"u-42","quantity":1}`,
	" {\t\"quantity\" : 1000 ,\r\n\"user\":\"~!\", \"sku\":\"s\",\"activity\":\"a\"} ",
}

func TestPlainPurchase(t *testing.T) {
	f := func(body string, want bool) {
		t.Helper()
		var plain, full seckill.Purchase
		if got := plainPurchase([]byte(body), &plain); got != want {
			t.Errorf("%s: plain is %v", body, got)
		}
		var d decoder
		if d.anyPurchase([]byte(body), &full); want && (len(d.errs) > 0 || plain != full) {
			t.Errorf("%s: %+v, and fully %+v with %v", body, plain, full, d.errs)
		}
	}
	for _, body := range plainBodies {
		f(body, true)
	}
	const three = `{"activity":"a","sku":"s","user":"u",`
	for _, number := range []string{"0", "-1", "01", "1.0", "1e2", "1001", "99999999999999999999", `"1"`, "", "null", "1 2"} {
		f(three+`"quantity":`+number+"}", false)
	}
	for _, user := range []string{``, `a\u0062`, "a\x00", "a b", "\u00e9", `a"`, strings.Repeat("u", seckill.MaxUserLength+1)} {
		f(`{"activity":"a","sku":"s","quantity":1,"user":"`+user+`"}`, false)
	}
	f(`{"activity":"a","sku":"s","quantity":1,"user":"`+strings.Repeat("u", seckill.MaxUserLength)+`"}`, true)
	for _, body := range []string{
		"", "{", "{}", "null", "[]", three, three + `"user":"v"}`, three + `"quantity":1,}`, three + `"quantity":1}}`, three + `"quantity":1,"x":1}`,
		`{"activity":"a","sku":"s","user":"u" "quantity":1}`, `{"activity" "a","sku":"s","user":"u","quantity":1}`, "\xef\xbb\xbf" + three + `"quantity":1}`,
	} {
		f(body, false)
	}
}

// FuzzPurchase compares the decoder with the standard library's: encoding/json reads everything
// that it accepts, with the same result.
func FuzzPurchase(f *testing.F) {
	for _, seed := range []string{goodBody, `{"activity":"\ud83d\ude00","sku":"s","user":"u","quantity":1000}`,
		`{"quantity":1e3}`, `[[[[[`, "{\"a\":\"\xff\"}",
		`{"activity":"a","sku":"s","user":"u","quantity":1,"quantity":2}`, `{"activity":"\u005c\u0022","sku":"\/","user":"é","quantity":7}`} {
		f.Add([]byte(seed))
	}
	for _, seed := range plainBodies {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var d decoder
		var p seckill.Purchase
		d.purchase(slices.Clone(body), &p)
		var plain, full seckill.Purchase
		if plainPurchase(body, &plain) {
			d.anyPurchase(slices.Clone(body), &full)
			if len(d.errs) > 0 || plain != full {
				t.Fatalf("%q is plain %+v, and fully %+v with %v", body, plain, full, d.errs)
			}
		}
		if len(d.errs) > 0 {
			return
		}
		var want struct {
			Activity, SKU, User string
			Quantity            int
		}
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("accepted %q: %v", body, err)
		}
		if string(p.Activity) != want.Activity || string(p.SKU) != want.SKU || string(p.User) != want.User || p.Quantity != want.Quantity {
			t.Fatalf("%q: got %+v, want %+v", body, p, want)
		}
		if !utf8.ValidString(string(p.User)) || len(p.User) > seckill.MaxUserLength || p.User == "" ||
			p.Quantity < 1 || p.Quantity > seckill.MaxQuantity {
			t.Fatalf("%q: out of bounds: %+v", body, p)
		}
	})
}
