package gateway

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPreferredWait(t *testing.T) {
	f := func(want int, fields ...string) {
		t.Helper()
		var raw [][]byte
		for _, field := range fields {
			raw = append(raw, []byte(field))
		}
		if got := preferredWait(raw, 10*time.Second); got != time.Duration(want)*time.Second {
			t.Errorf("%q: %v, want %d s", fields, got, want)
		}
	}
	f(0)
	f(0, "")
	f(0, "wait")
	f(0, "wait=")
	f(0, "wait=0")
	f(0, "wait=-1")
	f(0, "wait=1.5")
	f(0, "wait=1s")
	f(0, "waits=5")
	f(0, `x="wait=5`)
	f(0, `x=",wait=5,"`)
	f(0, "x;wait=5")
	f(5, "wait=5")
	f(5, "Wait = 5")
	f(5, `wait="5"`)
	f(5, "respond-async, wait=5; x=y, handling=lenient")
	f(5, `foo="a\",b"; bar=";", wait=5`)
	f(5, "respond-async", "wait=5")
	f(5, "wait=5, wait=9")
	f(0, "wait=x, wait=9")
	f(10, "wait=11")
	f(10, "wait="+strings.Repeat("9", 400))
	f(7, "wait=0000000000000000000007")
}

func FuzzPreferredWait(f *testing.F) {
	f.Add([]byte(`respond-async, wait=10; a="b\",c"`))
	f.Add([]byte(`wait="`))
	f.Fuzz(func(t *testing.T, field []byte) {
		wait := preferredWait([][]byte{field}, 10*time.Second)
		if wait < 0 || wait > 10*time.Second || wait%time.Second != 0 {
			t.Fatalf("%q: %v", field, wait)
		}
		if wait > 0 && !bytes.Contains(bytes.ToLower(field), []byte("wait")) {
			t.Fatalf("%q: %v out of nothing", field, wait)
		}
		// A preference before it that can be parsed changes nothing.
		if again := preferredWait([][]byte{append([]byte(`a="b,;\"", `), field...)}, 10*time.Second); again != wait {
			t.Fatalf("%q: %v, then %v", field, wait, again)
		}
	})
}

func TestParseSignature(t *testing.T) {
	digest, other := strings.Repeat("0aF9", 16), strings.Repeat("00", 32)
	f := func(field string, wantAt int64, want ...string) {
		t.Helper()
		at, macs, ok := parseSignature([]byte(field))
		var got []string
		for _, mac := range macs {
			got = append(got, hex.EncodeToString(mac[:]))
		}
		if ok != (len(want) > 0) || at != wantAt || !slices.EqualFunc(got, want, strings.EqualFold) {
			t.Errorf("%q: %d, %v, %v", field, at, got, ok)
		}
	}
	f("t=1781740800,v1="+digest, 1781740800, digest)
	f("t=0,v1="+digest, 0, digest)
	f("t=999999999999,v1="+digest, 999999999999, digest)
	f("v1="+digest+",t=1", 1, digest)
	f(" t=1 , v1="+digest+"\t,", 1, digest)
	f("t=1,v1="+other+",v1="+digest, 1, other, digest)
	f("t=1,v0=what,v1="+digest+",v2=a=b", 1, digest)
	f("t=1,v1=zz"+digest[2:]+",v1=,v1="+digest, 1, digest)
	f("t=1"+strings.Repeat(",v1="+digest, 8), 1, slices.Repeat([]string{digest}, 8)...)
	f("t=1"+strings.Repeat(",v1="+digest, 9), 0)
	f("", 0)
	f("t=1", 0)
	f("v1="+digest, 0)
	f("t=01,v1="+digest, 0)
	f("t=-1,v1="+digest, 0)
	f("t=1x,v1="+digest, 0)
	f("t=,v1="+digest, 0)
	f("t=1000000000000,v1="+digest, 0)
	f("t=1,v1="+digest[1:], 0)
	f("t=1,v1="+digest+"00", 0)
	f("t=1,v1=zz"+digest[2:], 0)
	f("t=1,t=2,v1="+digest, 0)
	f("t=1,what,v1="+digest, 0)
}

func FuzzParseSignature(f *testing.F) {
	f.Add([]byte("t=1781740800,v1=" + strings.Repeat("0a", 32)))
	f.Add([]byte("t=1,v1=,v0=x, v1=" + strings.Repeat("0A", 32)))
	f.Fuzz(func(t *testing.T, field []byte) {
		at, macs, ok := parseSignature(field)
		if !ok {
			return
		}
		if !bytes.Contains(field, fmt.Appendf(nil, "t=%d", at)) || len(macs) == 0 || len(macs) > maxMACs {
			t.Fatalf("%q was read as %d, %x", field, at, macs)
		}
		for _, mac := range macs {
			if !bytes.Contains(bytes.ToLower(field), fmt.Appendf(nil, "v1=%x", mac)) {
				t.Fatalf("%q was read with %x", field, mac)
			}
		}
	})
}

func TestMatch(t *testing.T) {
	f := func(path string, want routeID, param string) {
		t.Helper()
		if got, p := match([]byte(path)); got != want || string(p) != param {
			t.Errorf("%s: %s %q, want %s %q", path, routes[got].name, p, routes[want].name, param)
		}
	}
	f("/v1/orders", routeBuy, "")
	f("/v1/orders/abc", routeOrder, "abc")
	f("/v1/orders/abc/cancel", routeCancel, "abc")
	f("/v1/orders/cancel", routeOrder, "cancel")
	f("/v1/payments", routePay, "")
	f("/v1/activities/a%2Fb", routeActivity, "a%2Fb")
	f("/livez", routeLive, "")
	f("/readyz", routeReady, "")
	f("/openapi.yaml", routeOpenAPI, "")
	f("/problems", routeProblems, "")
	f("/problems/sold-out", routeProblem, "sold-out")
	for _, path := range []string{"", "/", "/v1", "/v1/", "/v1/orders/", "/v1/orders//cancel", "/v1/orders/a/b",
		"/v1/orders/a/cancel/", "/v1/orders/a/b/cancel",
		"/V1/orders", "/v1/activities", "/v1/activities/", "/v1/activities/a/b", "/problems/", "/problems/a/b", "/livez/", "//v1/orders", "/metrics"} {
		f(path, routeNone, "")
	}
}

func TestUnescape(t *testing.T) {
	f := func(in, want string, ok bool) {
		t.Helper()
		if got, gotOK := unescape([]byte(in)); string(got) != want || gotOK != ok {
			t.Errorf("%q: %q, %v", in, got, gotOK)
		}
	}
	f("abc", "abc", true)
	f("a%2fb%2F%C3%bc", "a/b/ü", true)
	f("%", "", false)
	f("%4", "", false)
	f("a%zz", "", false)
	f("%4z", "", false)
	f("a+b", "a+b", true)
}

func TestMatchesTag(t *testing.T) {
	f := func(want bool, fields ...string) {
		t.Helper()
		var raw [][]byte
		for _, field := range fields {
			raw = append(raw, []byte(field))
		}
		if got := matchesTag(raw, []byte(`"abc"`)); got != want {
			t.Errorf("%q: %v", fields, got)
		}
	}
	f(false)
	f(false, "")
	f(false, `"abcd"`, `abc`)
	f(true, `"abc"`)
	f(true, `W/"abc"`)
	f(true, `"x", W/"abc","y"`)
	f(true, `"x"`, `"abc"`)
	f(true, ` * `)
}

func TestRequestIDs(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "req-1_2.3:4/5+6=7~8#9": true, strings.Repeat("x", 64): true,
		"": false, strings.Repeat("x",
			65): false, "a b": false, "a\"b": false, `a\b`: false, "a,b": false, "a;b": false, "<b>": false, "é": false, "a\x7f": false, "a'b": false,
	} {
		if isRequestID([]byte(id)) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
	a, b := newRequestIDs(), newRequestIDs()
	seen := make(map[string]bool)
	for range 1000 {
		for _, ids := range []*requestIDs{a, b} {
			id := string(ids.append(nil))
			if seen[id] || !isRequestID([]byte(id)) {
				t.Fatalf("made %q", id)
			}
			seen[id] = true
		}
	}
}
