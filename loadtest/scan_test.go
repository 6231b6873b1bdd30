package loadtest

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/valyala/fasthttp"
)

// member is a member that a walk has seen.
type member struct {
	name, value string
	isString    bool
}

func walk(text []byte) ([]member, bool) {
	var out []member
	ok := scanObject(text, func(name, value []byte, isString bool) {
		out = append(out, member{string(name), string(value), isString})
	})
	return out, ok
}

func TestScanObject(t *testing.T) {
	for text, want := range map[string][]member{
		`{}`:                                     nil,
		` { "a" : "b" } `:                        {{"a", "b", true}},
		`{"a":1,"b":[1,{"c":"}"}],"d":"]"}`:      {{"a", "1", false}, {"b", `[1,{"c":"}"}]`, false}, {"d", "]", true}},
		`{"detail":"\"code\":\"x\"","code":"y"}`: {{"detail", `\"code\":\"x\"`, true}, {"code", "y", true}},
		"{\"a\":null\n,\"b\":true\t}":            {{"a", "null", false}, {"b", "true", false}},
	} {
		got, ok := walk([]byte(text))
		if !ok || len(got) != len(want) {
			t.Errorf("%s: %v %v, want %v", text, got, ok, want)
			continue
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: %+v, want %+v", text, got[i], want[i])
			}
		}
	}
	for _, text := range []string{
		``, `[]`, `{`, `{"a"`, `{"a":`, `{"a":}`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a":"b`, `{"a":"b\`,
		`{"a":[1`, `{a:1}`, `null`, `"x"`,
	} {
		if got, ok := walk([]byte(text)); ok {
			t.Errorf("%s was read as %v", text, got)
		}
	}
}

// Every object that encoding/json accepts has the same members here.
func FuzzScanObject(f *testing.F) {
	f.Add([]byte(`{"order":"order-1","status":"queued"}`))
	f.Add([]byte(`{"type":"/problems/sold-out","status":409,"detail":"a \"word\"","errors":[{"field":"x"}]}`))
	f.Add([]byte(`{"a":{"b":{"c":[[],{}]}},"d":-1.5e3 , "e" : null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, ok := walk(text)
		if !json.Valid(text) || !bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")) {
			return // any result is fine, as long as it returns
		}
		if !ok {
			t.Fatalf("%q is an object", text)
		}
		decoder := json.NewDecoder(bytes.NewReader(text))
		if _, err := decoder.Token(); err != nil {
			t.Fatal(err)
		}
		for i := 0; decoder.More(); i++ {
			name, err := decoder.Token()
			if err != nil {
				t.Fatal(err)
			}
			var value json.RawMessage
			if err := decoder.Decode(&value); err != nil {
				t.Fatal(err)
			}
			if i >= len(got) {
				t.Fatalf("%q: member %d is missing", text, i)
			}
			written := got[i].value
			if got[i].isString {
				written = `"` + written + `"`
			}
			if written != string(value) {
				t.Errorf("%q: member %d is %s, want %s", text, i, written, value)
			}
			var unquoted string
			if err := json.Unmarshal([]byte(`"`+got[i].name+`"`), &unquoted); err != nil || unquoted != name {
				t.Errorf("%q: name %d is %q, want %q (%v)", text, i, got[i].name, name, err)
			}
		}
	})
}

func TestAnswer_ReadsARefusalWithoutAllocating(t *testing.T) {
	var r fasthttp.Response
	r.SetStatusCode(409)
	r.Header.Set("Retry-After", "1")
	r.SetBodyString(`{"type":"/problems/sold-out","title":"Sold out","status":409,"code":"sold-out","retryable":false}`)
	var a answer
	if n := testing.AllocsPerRun(100, func() {
		a = answer{}
		a.read(&r)
		a.outcome, a.code = classify(Buy, r.StatusCode(), &a, nil)
	}); n != 0 {
		t.Errorf("%v allocations for a refusal", n)
	}
	if a.outcome != SoldOut || a.code != "sold-out" || a.retryAfter.Seconds() != 1 {
		t.Errorf("read as %+v", a)
	}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		action Action
		status int
		body   string
		want   Outcome
		code   string
	}{
		{Buy, 202, `{"order":"o","status":"queued"}`, Accepted, "202"},
		{Buy, 201, `{"order":"o","status":"pending_payment"}`, Accepted, "201"},
		{Buy, 202, `{"status":"queued"}`, Failed, codeUnreadable},
		{Buy, 202, `{"order":"a b"}`, Failed, codeUnreadable},
		{Buy, 202, `{"order":"o"`, Failed, codeUnreadable},
		{Buy, 200, `{"order":"o"}`, Failed, "200"},
		{Buy, 409, `{"code":"sold-out"}`, SoldOut, "sold-out"},
		{Buy, 409, `{"code":"purchase-limit"}`, PurchaseLimit, "purchase-limit"},
		{Buy, 409, `{"code":"not-started"}`, Refused, "not-started"},
		{Buy, 409, `sold out, sorry`, Failed, "409"},
		{Buy, 422, `{"code":"idempotency-key-reused"}`, Refused, "idempotency-key-reused"},
		{Buy, 429, `{"code":"rate-limited"}`, Limited, "rate-limited"},
		{Buy, 403, `{"code":"risk-rejected"}`, Refused, "risk-rejected"},
		{Buy, 403, `{"code":"forbidden"}`, Failed, "forbidden"},
		{Buy, 401, `{"code":"unauthenticated"}`, Failed, "unauthenticated"},
		{Buy, 503, `{"code":"overloaded"}`, Shed, "overloaded"},
		{Buy, 503, `{"code":"degraded"}`, Degraded, "degraded"},
		{Buy, 503, `{"code":"unavailable"}`, Failed, "unavailable"},
		{Buy, 503, `{"code":"unavailable","order":"o"}`, Unknown, "unavailable"},
		{Buy, 503, `upstream connect error`, Failed, "503"},
		{Buy, 500, `{"code":"internal"}`, Failed, "internal"},
		{Pay, 200, `{"order":"o","status":"paid"}`, Done, "200"},
		{Pay, 409, `{"code":"amount-mismatch"}`, Refused, "amount-mismatch"},
		{Cancel, 409, `{"code":"not-cancellable"}`, Refused, "not-cancellable"},
		{Read, 404, `{"code":"unknown-order"}`, Refused, "unknown-order"},
		{Read, 404, `not here`, Failed, "404"},
		{Buy, 404, `{"code":"unknown-activity"}`, Failed, "unknown-activity"},
	} {
		var r fasthttp.Response
		r.SetStatusCode(c.status)
		r.SetBodyString(c.body)
		var a answer
		a.read(&r)
		if outcome, code := classify(c.action, c.status, &a, nil); outcome != c.want || code != c.code {
			t.Errorf("%v, %d %s: %v %q, want %v %q", c.action, c.status, c.body, outcome, code, c.want, c.code)
		}
	}
	if outcome, code := classify(Buy, 0, &answer{}, fasthttp.ErrTimeout); outcome != Failed || code != codeTimeout {
		t.Errorf("a timeout is %v %q", outcome, code)
	}
	if outcome, code := classify(Buy, 0, &answer{}, fasthttp.ErrConnectionClosed); outcome != Failed || code != codeConnection {
		t.Errorf("a closed connection is %v %q", outcome, code)
	}
}
