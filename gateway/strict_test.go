package gateway

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// TestAmbiguousRequests sends valid purchases with a framing that a proxy and a server may read in
// two ways. Each is refused, its connection ends, and nothing is bought.
func TestAmbiguousRequests(t *testing.T) {
	s := start(t, nil)
	s.sales.become(buying(testOrder(seckill.OrderQueued), false, nil))
	const sound = "Authorization: Bearer " + buyerKey + "\r\nIdempotency-Key: k\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", len(goodBody))
	const chunked = "Transfer-Encoding: chunked\r\n"
	chunks := fmt.Sprintf("%x\r\n%s\r\n0\r\n", len(goodBody), goodBody)
	whole := chunks + "\r\n"
	f := func(name, request string, status int, code problem.Code) {
		t.Helper()
		resp, body := s.raw(t, request)
		if resp.StatusCode != status || code != "" && (!strings.Contains(body, `"code":"`+string(code)+`"`) || !resp.Close) {
			t.Errorf("%s: status %d, closes %v: %s", name, resp.StatusCode, resp.Close, body)
		}
	}
	post := func(name, fields, body string, status int, code problem.Code) {
		t.Helper()
		f(name, "POST /v1/orders HTTP/1.1\r\nHost: x\r\n"+sound+fields+"\r\n"+body, status, code)
	}
	post("a length", length, goodBody, 202, "")
	post("chunks", chunked, whole, 202, "")
	post("an IPv6 host in the path", length, goodBody, 202, "")
	bad := func(name, fields, body string) { t.Helper(); post(name, fields, body, 400, problem.InvalidRequest) }
	bad("space in a name", length+"Fo o: x\r\n", goodBody)
	bad("space in a name that matters", length+"Idempotency Key: x\r\n", goodBody)
	bad("space before the colon", length+"Transfer-Encoding : chunked\r\n", goodBody)
	bad("folded", length+"X-Note: a\r\n b\r\n", goodBody)
	bad("folded with a tab", length+"X-Note: a\r\n\tTransfer-Encoding: chunked\r\n", goodBody)
	bad("empty fold", length+"X-Note: a\r\n \r\n", goodBody)
	bad("bare LF", length+"X-Note: a\nX-More: b\r\n", goodBody)
	bad("bare CR", length+"X-Note: a\rX-More: b\r\n", goodBody)
	bad("NUL", length+"X-Note: a\x00b\r\n", goodBody)
	bad("length and chunks", length+chunked, whole)
	bad("chunks and length", chunked+length, whole)
	bad("length twice", length+length, goodBody)
	bad("two lengths", length+"Content-Length: 3\r\n", goodBody)
	bad("list of lengths", strings.Replace(length, "\r\n", ", 5\r\n", 1), goodBody)
	bad("signed length", "Content-Length: +5\r\n", goodBody)
	bad("hex length", "Content-Length: 0x45\r\n", goodBody)
	bad("no length", "Content-Length:\r\n", goodBody)
	bad("identity", "Transfer-Encoding: identity\r\n", goodBody)
	bad("identity and length", "Transfer-Encoding: identity\r\n"+length, goodBody)
	bad("xchunked", "Transfer-Encoding: xchunked\r\n", whole)
	bad("gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n", whole)
	bad("chunked twice", chunked+chunked, whole)
	bad("folded chunked", "Transfer-Encoding:\r\n chunked\r\n", whole)
	bad("trailer", chunked, chunks+"Idempotency-Key: other\r\n\r\n")
	bad("announced trailer", chunked+"Trailer: X-Sum\r\n", chunks+"X-Sum: 1\r\n\r\n")
	bad("trailer that doesn't come", length+"Trailer: X-Sum\r\n", goodBody)
	bad("LF in a chunk extension", chunked, strings.Replace(whole, "\r\n", ";a=\nb\r\n", 1))
	bad("0x chunk", chunked, "0x"+whole)
	bad("two content types", length+"Content-Type: application/json\r\nContent-Type: text/plain\r\n", goodBody)
	bad("two encodings", length+"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n", goodBody)
	bad("two expectations", length+"Expect: 100-continue\r\nExpect: other\r\n", goodBody)
	for _, target := range []string{"/v1/orders#x", "/v1/orders?a#b", "/#/v1/orders", "http://x/v1/orders#x"} {
		f(target, "POST "+target+" HTTP/1.1\r\nHost: x\r\n"+sound+length+"\r\n"+goodBody, 400, problem.InvalidRequest)
	}
	post("an unknown expectation", length+"Expect: other\r\n", goodBody, 417, problem.ExpectationFailed)
	for _, host := range []string{"a b", "a/b", "user@a", "a:x", "a:80:90", "a\\b", "a?b", "a#b", `"a"`, "a\tb", "\x7f", "ä"} {
		f("host "+host, "GET /livez HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 400, problem.InvalidRequest)
	}
	for _, host := range []string{"a", "a.b-c_d~e", "127.0.0.1:8080", "[::1]", "[fe80::1%25eth0]:80", "a:"} {
		f("host "+host, "GET /livez HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 200, "")
	}
	f("two hosts", "GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, problem.InvalidRequest)
	f("no host", "GET /livez HTTP/1.1\r\n\r\n", 400, problem.InvalidRequest)
	f("bare LF after the request line", "GET /livez HTTP/1.1\nHost: x\r\n\r\n", 400, problem.InvalidRequest)
	f("an empty line before", "\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200, "")
	f("HTTP/1.0", "GET /livez HTTP/1.0\r\nExpect: other\r\n\r\n", 200, "")
	for _, version := range []string{"2.0", "1.2", "3.0", "0.9"} {
		f("HTTP/"+version, "GET /livez HTTP/"+version+"\r\nHost: x\r\n\r\n", 505, problem.VersionNotSupported)
	}
}

// TestExpectContinue asks before it sends a body. When the header alone decides, the answer comes
// at once, without a 100.
func TestExpectContinue(t *testing.T) {
	s := start(t, nil)
	s.sales.become(buying(testOrder(seckill.OrderQueued), false, nil))
	f := func(name, line, fields string, status int) {
		t.Helper()
		resp, body := s.raw(t, line+" HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\n"+fields+"\r\n")
		if resp.StatusCode != status || status != 100 && !resp.Close || resp.Header.Get("X-Request-Id") == "" && status != 100 {
			t.Errorf("%s: status %d, closes %v: %s", name, resp.StatusCode, resp.Close, body)
		}
	}
	const key, length = "Authorization: Bearer " + buyerKey + "\r\n", "Content-Length: 90\r\n"
	f("may go on", "POST /v1/orders", key+length, 100)
	f("too large", "POST /v1/orders", key+"Content-Length: 100000\r\n", 413)
	f("unknown key", "POST /v1/orders", "Authorization: Bearer nope\r\n"+length, 401)
	f("no right", "POST /v1/orders", "Authorization: Bearer "+ownerKey+"\r\n"+length, 403)
	f("wrong type", "POST /v1/orders", key+length+"Content-Type: text/plain\r\n", 415)
	f("unknown path", "POST /v2", key+length, 404)
	f("wrong method", "PUT /v1/orders", key+length, 405)
	f("no body", "GET /livez", "", 200)
	f("body of no length", "POST /v1/orders", key+"Idempotency-Key: k\r\n", 400)
	f("unsigned payment", "POST /v1/payments", length, 401)
	f("signed payment", "POST /v1/payments", length+"Penstock-Signature: "+goodSignature+"\r\n", 100)
	f("cancel with an unknown key", "POST "+orderPath+"/cancel", length, 401)
	f("two framings", "POST /v1/orders", key+length+"Transfer-Encoding: chunked\r\n", 400)
	f("a space in a name", "POST /v1/orders", key+length+"A b: c\r\n", 400)

	c := s.dial(t)
	from := bufio.NewReader(c)
	if _, err := fmt.Fprintf(c, "POST /v1/orders HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n%sIdempotency-Key: k\r\nContent-Length: %d\r\n\r\n",
		key, len(goodBody)); err != nil {
		t.Fatal(err)
	}
	if resp, _ := readAnswer(t, from); resp.StatusCode != 100 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	if _, err := io.WriteString(c, goodBody); err != nil {
		t.Fatal(err)
	}
	if resp, body := readAnswer(t, from); resp.StatusCode != 202 || resp.Close {
		t.Errorf("after the body: %d, closes %v: %s", resp.StatusCode, resp.Close, body)
	}
}
