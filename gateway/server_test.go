package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

func TestMethodsAndUnknownPaths(t *testing.T) {
	s := start(t, nil)
	f := func(method, path string, status int, code problem.Code, allow string) {
		t.Helper()
		resp, body := do(t, s.request(t, method, path, "", "Authorization", ""))
		if resp.StatusCode != status || resp.Header.Get("Allow") != allow || !strings.Contains(body, `"code":"`+string(code)+`"`) {
			t.Errorf("%s %s: status %d, Allow %q: %s", method, path, resp.StatusCode, resp.Header.Get("Allow"), body)
		}
	}
	for i := range routes[1:] {
		r := &routes[i+1]
		path := strings.NewReplacer("{order}", string(testOrderID), "{activity}", "a", "{code}", "ended").Replace(r.pattern)
		wrong := []string{"PUT", "DELETE", "PATCH", "OPTIONS", "POST"}
		if !r.read {
			wrong[4] = "GET"
		}
		for _, method := range wrong {
			f(method, path, 405, problem.MethodNotAllowed, string(r.allow()))
		}
	}
	f("GET", "/", 404, problem.NotFound, "")
	f("POST", "/v2/orders", 404, problem.NotFound, "")
	f("BREW", "/coffee", 404, problem.NotFound, "")
	_, body := do(t, s.request(t, "GET", "/admin/v1/activities", ""))
	if !strings.Contains(body, "public listener") {
		t.Errorf("of the other listener's paths it says %s", body)
	}
}

// TestHead asks for the head of every readable path: the status and fields of a GET, without its
// body.
func TestHead(t *testing.T) {
	s := start(t, nil)
	s.sales.become(finding(testOrder(seckill.OrderPaid), nil))
	for _, path := range []string{orderPath, "/v1/activities/618-phones", "/v1/activities/nope", "/livez", "/readyz",
		"/openapi.yaml", "/problems", "/problems/ended", "/nowhere"} {
		get, body := do(t, s.request(t, "GET", path, ""))
		head, nothing := do(t, s.request(t, "HEAD", path, ""))
		if head.StatusCode != get.StatusCode || head.ContentLength != int64(len(body)) || nothing != "" ||
			head.Header.Get("Content-Type") != get.Header.Get("Content-Type") {
			t.Errorf("%s: HEAD %d with %d bytes announced, GET %d with %d", path, head.StatusCode, head.ContentLength,
				get.StatusCode, len(body))
		}
	}
}

// TestUnreadableRequests sends requests that fasthttp answers before any of our handlers.
func TestUnreadableRequests(t *testing.T) {
	s := start(t, nil)
	f := func(name, request string, status int, code problem.Code) {
		t.Helper()
		resp, body := s.raw(t, request)
		if resp.StatusCode != status || resp.Header.Get("Content-Type") != problem.ContentType ||
			!strings.Contains(body, `"code":"`+string(code)+`"`) {
			t.Errorf("%s: status %d: %s", name, resp.StatusCode, body)
		}
		if resp.Header.Get("X-Request-Id") == "" || !resp.Close {
			t.Errorf("%s: request id %q, closes %v", name, resp.Header.Get("X-Request-Id"), resp.Close)
		}
	}
	f("header bomb", "GET /livez HTTP/1.1\r\nHost: x\r\nX-Bomb: "+strings.Repeat("x", 64<<10)+"\r\n\r\n", 431, problem.HeaderTooLarge)
	f("many fields", "GET /livez HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("A: b\r\n", 4000)+"\r\n", 431, problem.HeaderTooLarge)
	f("long path", "GET /"+strings.Repeat("x", 8<<10)+" HTTP/1.1\r\nHost: x\r\n\r\n", 431, problem.HeaderTooLarge)
	f("no HTTP", "\x16\x03\x01 hello\r\n\r\n", 400, problem.InvalidRequest)
	f("broken field", "GET /livez HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400, problem.InvalidRequest)
	f("broken chunks", "POST /v1/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, problem.InvalidRequest)
	f("large", "POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 16385\r\n\r\n"+strings.Repeat(" ", 16385), 413, problem.TooLarge)
	f("large chunks",
		"POST /v1/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\n"+strings.Repeat(" ",
			0x5000)+"\r\n0\r\n\r\n", 413, problem.TooLarge)
	f("large, announced", "POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", 413, problem.TooLarge)
	// Far more than fits into the socket's buffers: without the linger the answer is lost to a
	// reset.
	f("large, in full", "POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"+strings.Repeat(" ",
		200000), 413, problem.TooLarge)
}

func TestLargestBodyAndExpectContinue(t *testing.T) {
	s := start(t, nil)
	s.sales.become(buying(testOrder(seckill.OrderQueued), false, nil))
	body := goodBody + strings.Repeat(" ", 16<<10-len(goodBody))
	if resp, answer := do(t, s.request(t, "POST", "/v1/orders", body)); resp.StatusCode != 202 {
		t.Errorf("a body of the largest size: %d %s", resp.StatusCode, answer)
	}
	if resp, answer := do(t, s.request(t, "POST", "/v1/orders", body, "Expect", "100-continue")); resp.StatusCode != 202 {
		t.Errorf("with Expect: %d %s", resp.StatusCode, answer)
	}
}

// TestUnusedConnectionsAreClosed: a client may open a connection in advance. It would take an
// answer on it for the answer to its first request.
func TestUnusedConnectionsAreClosed(t *testing.T) {
	s := start(t, func(c *Config) { c.ReadTimeout = 30 * time.Millisecond })
	if got, err := io.ReadAll(s.dial(t)); err != nil || len(got) != 0 {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestSlowClients lets clients stall in the header and in the body: each gets a 408 and is cut off.
func TestSlowClients(t *testing.T) {
	s := start(t, func(c *Config) { c.ReadTimeout = 30 * time.Millisecond })
	for _, begun := range []string{"GET /livez HT", "GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: slow\r\n",
		"POST /v1/orders HTTP/1.1\r\nHost: x\r\nX-Request-Id: slow\r\nContent-Length: 100\r\n\r\n{"} {
		c := s.dial(t)
		if _, err := io.WriteString(c, begun); err != nil {
			t.Fatal(err)
		}
		from := bufio.NewReader(c)
		resp, body := readAnswer(t, from)
		if resp.StatusCode != 408 || !strings.Contains(body, `"code":"request-timeout"`) || !resp.Close {
			t.Errorf("%q: %d %s", begun, resp.StatusCode, body)
		}
		if _, err := from.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%q: the connection stays: %v", begun, err)
		}
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	s := start(t, func(c *Config) { c.IdleTimeout = 20 * time.Millisecond })
	c := s.dial(t)
	from := bufio.NewReader(c)
	if _, err := io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if resp, _ := readAnswer(t, from); resp.StatusCode != 200 || resp.Close {
		t.Fatalf("status %d, closes %v", resp.StatusCode, resp.Close)
	}
	if b, err := from.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("got %q, %v from an idle connection", b, err)
	}
}

func TestRequestIDInEveryAnswer(t *testing.T) {
	s := start(t, nil)
	s.sales.become(buying(seckill.Order{}, false, no(seckill.CodeSoldOut)))
	f := func(sent string, echoed bool) {
		t.Helper()
		for _, path := range []string{"/v1/orders", "/livez", "/nowhere"} {
			resp, _ := do(t, s.request(t, "POST", path, goodBody, "X-Request-Id", sent))
			if got := resp.Header.Get("X-Request-Id"); !isRequestID([]byte(got)) || (got == sent) != echoed {
				t.Errorf("%s with %q: got %q", path, sent, got)
			}
		}
	}
	f("req-1", true)
	f("", false)
	f(`a"b`, false)
	f(strings.Repeat("x", 65), false)
	resp, _ := s.raw(t, "POST /v1/orders HTTP/1.1\r\nHost: x\r\nX-Request-Id: big-1\r\nContent-Length: 99999\r\n\r\n")
	if got := resp.Header.Get("X-Request-Id"); got != "big-1" {
		t.Errorf("a body that is too large: request id %q", got)
	}
}

// TestRetryAfterOfNotStarted buys an hour early: the wait is the time until the start, and a jitter
// of at most 5 s.
func TestRetryAfterOfNotStarted(t *testing.T) {
	s := start(t, nil)
	s.random = func() uint64 { return 1_234_567_890 }
	var arrived time.Time
	s.sales.become(func(sales *stubSales) {
		sales.buy = func(_ context.Context, p *seckill.Purchase) (seckill.Receipt, error) {
			arrived = p.Arrived
			return seckill.Receipt{}, &seckill.Refusal{Code: seckill.CodeNotStarted, StartsAt: p.Arrived.Add(time.Hour)}
		}
	})
	resp, body := do(t, s.request(t, "POST", "/v1/orders", goodBody))
	if got := resp.Header.Get("Retry-After"); got != "3602" || !strings.Contains(body, `"retry_after_ms":3601235,`) {
		t.Errorf("Retry-After %q: %s", got, body)
	}
	if want := `"starts_at":"` + arrived.Add(time.Hour).UTC().Format(problem.TimeFormat) + `"`; !strings.Contains(body, want) {
		t.Errorf("%s lacks %s", body, want)
	}
}

// TestPipelining sends four requests at once on one connection.
func TestPipelining(t *testing.T) {
	s := start(t, nil)
	c := s.dial(t)
	var all strings.Builder
	for i := range 4 {
		fmt.Fprintf(&all, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: r%d\r\n\r\n", i)
	}
	if _, err := io.WriteString(c, all.String()); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(c)
	for i := range 4 {
		if resp, body := readAnswer(t, from); resp.StatusCode != 200 ||
			resp.Header.Get("X-Request-Id") != fmt.Sprintf("r%d", i) || body != `{"status":"alive"}` {
			t.Errorf("answer %d: %d %q %s", i, resp.StatusCode, resp.Header.Get("X-Request-Id"), body)
		}
	}
}

// TestConnectionsLeakNothing sends requests that set every field, then requests that set none, on
// the same connection.
func TestConnectionsLeakNothing(t *testing.T) {
	gate := &stubGate{}
	s := start(t, func(c *Config) { c.Gate = gate })
	var last seckill.Purchase
	s.sales.become(func(sales *stubSales) {
		sales.buy = func(_ context.Context, p *seckill.Purchase) (seckill.Receipt, error) {
			last = *p
			last.User = seckill.UserID(strings.Clone(string(p.User)))
			return seckill.Receipt{Order: testOrder(seckill.OrderPending), Replayed: p.Wait > 0}, nil
		}
	})
	c := s.dial(t)
	from := bufio.NewReader(c)
	send := func(fields, body string) *http.Response {
		t.Helper()
		if _, err := fmt.Fprintf(c, "POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s",
			len(body), fields, body); err != nil {
			t.Fatal(err)
		}
		resp, _ := readAnswer(t, from)
		return resp
	}
	const key = "Authorization: Bearer " + buyerKey + "\r\nIdempotency-Key: k\r\n"
	full := send(key+"Prefer: wait=5\r\nX-Request-Id: one\r\n", strings.Replace(goodBody, "u-42", "a-buyer-with-a-long-name", 1))
	if full.StatusCode != 201 || full.Header.Get("Idempotent-Replayed") != "true" || last.User != "a-buyer-with-a-long-name" {
		t.Fatalf("status %d, %v, %+v", full.StatusCode, full.Header, last)
	}
	if bad := send("X-Request-Id: two\r\n", `{}`); bad.StatusCode != 401 || bad.Header.Get("WWW-Authenticate") == "" ||
		bad.Header.Get("Location") != "" {
		t.Fatalf("status %d, %v", bad.StatusCode, bad.Header)
	}
	if bad := send("Authorization: Bearer "+buyerKey+"\r\n", `{}`); bad.StatusCode != 400 || bad.Header.Get("X-Request-Id") == "two" {
		t.Fatalf("status %d, %v", bad.StatusCode, bad.Header)
	}
	bare := send(key, goodBody)
	for _, name := range []string{"Idempotent-Replayed", "Preference-Applied", "WWW-Authenticate", "Retry-After"} {
		if got := bare.Header.Get(name); got != "" {
			t.Errorf("%s: %q is another request's", name, got)
		}
	}
	if bare.StatusCode != 201 || last.User != "u-42" || last.Wait != 0 || bare.Header.Get("X-Request-Id") == "one" {
		t.Errorf("status %d, %+v, %v", bare.StatusCode, last, bare.Header)
	}
	if v := gate.visits[len(gate.visits)-1]; v.Order != "" || v.Ticket != 0 {
		t.Errorf("visit %+v", v)
	}
}

// TestConcurrentRequestsKeepApart has many buyers at once; each must get the order that belongs to
// its own user and key.
func TestConcurrentRequestsKeepApart(t *testing.T) {
	s := start(t, nil)
	id := func(p *seckill.Purchase) seckill.OrderID {
		return seckill.NewOrderID(1, seckill.CallerRef{Merchant: "shop", Caller: "web"}, p.User, p.Key)
	}
	s.sales.become(func(sales *stubSales) {
		sales.buy = func(_ context.Context, p *seckill.Purchase) (seckill.Receipt, error) {
			runtime.Gosched() // let others use the pools
			o := testOrder(seckill.OrderQueued)
			o.ID = id(p)
			return seckill.Receipt{Order: o}, nil
		}
	})
	var all sync.WaitGroup
	for buyer := range 16 {
		all.Go(func() {
			for n := range 40 {
				p := seckill.Purchase{Activity: "618-phones", SKU: "phone-x",
					User: seckill.UserID(fmt.Sprintf("user-%d", buyer)), Key: fmt.Sprintf("key-%d", n)}
				req, err := http.NewRequest("POST", "http://"+s.addr+"/v1/orders",
					strings.NewReader(strings.Replace(goodBody, "u-42", string(p.User), 1)))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+buyerKey)
				req.Header.Set("Idempotency-Key", p.Key)
				req.Header.Set("X-Request-Id", string(p.User)+p.Key)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if want := string(id(&p)); err != nil || !strings.Contains(string(body), want) ||
					resp.Header.Get("Location") != "/v1/orders/"+want ||
					resp.Header.Get("X-Request-Id") != string(p.User)+p.Key {
					t.Errorf("%s %s: %s %v %v", p.User, p.Key, body, resp.Header, err)
				}
			}
		})
	}
	all.Wait()
}

func TestPanicCostsOneRequest(t *testing.T) {
	gate := &stubGate{}
	s := start(t, func(c *Config) { c.Gate = gate })
	s.sales.become(func(sales *stubSales) {
		sales.buy = func(_ context.Context, p *seckill.Purchase) (seckill.Receipt, error) {
			if p.User == "u-42" {
				panic("hunter2")
			}
			return seckill.Receipt{Order: testOrder(seckill.OrderQueued)}, nil
		}
	})
	const n = 20
	for range n {
		resp, body := do(t, s.request(t, "POST", "/v1/orders", goodBody, "X-Request-Id", "boom", "Prefer", "wait=1"))
		if resp.StatusCode != 500 || !strings.Contains(body, `"code":"internal"`) || strings.Contains(body, "hunter2") || !resp.Close ||
			resp.Header.Get("X-Request-Id") != "boom" || resp.Header.Get("Content-Type") != problem.ContentType {
			t.Fatalf("status %d, closes %v, %v: %s", resp.StatusCode, resp.Close, resp.Header, body)
		}
	}
	if resp, body := do(t, s.request(t, "POST", "/v1/orders", strings.Replace(goodBody, "u-42", "u-43", 1))); resp.StatusCode != 202 {
		t.Errorf("after the panics: %d %s", resp.StatusCode, body)
	}
	stats := s.Stats()
	if stats.Panics != n || stats.InFlight != 0 || stats.Waiting != 0 || stats.LogLeftOut != n-1 {
		t.Errorf("%+v", stats)
	}
	if got := s.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "hunter2") ||
		!strings.Contains(got, `"request_id":"boom"`) {
		t.Errorf("log: %s", got)
	}
	if len(gate.left) != n+1 || gate.left[0] != 500 || gate.left[n] != 202 {
		t.Errorf("the gate saw %v leave", gate.left)
	}
}

// TestOutsidersCannotFillTheLog provokes each kind of message many times.
func TestOutsidersCannotFillTheLog(t *testing.T) {
	s := start(t, nil)
	s.sales.become(buying(seckill.Order{}, false, errAway))
	s.sales.become(finding(seckill.Order{}, errBroken))
	for range 30 {
		do(t, s.request(t, "POST", "/v1/orders", goodBody))
		do(t, s.request(t, "GET", orderPath, ""))
		s.raw(t, "nonsense\r\n\r\n")
	}
	if got := s.log.String(); strings.Count(got, "\n") > 3 || strings.Count(got, "request failed") != 2 ||
		!strings.Contains(got, "hunter2") {
		t.Errorf("log: %s", got)
	}
}

// TestL8_InFlightIsBounded fills the server. Further requests are refused in our form, and health
// checks are still answered.
func TestL8_InFlightIsBounded(t *testing.T) {
	s := start(t, func(c *Config) { c.MaxInFlight = 2 })
	entered, release := make(chan struct{}), make(chan struct{})
	s.sales.become(func(sales *stubSales) {
		sales.buy = func(context.Context, *seckill.Purchase) (seckill.Receipt, error) {
			entered <- struct{}{}
			<-release
			return seckill.Receipt{Order: testOrder(seckill.OrderQueued)}, nil
		}
	})
	var all sync.WaitGroup
	for range 2 {
		req := s.request(t, "POST", "/v1/orders", goodBody)
		all.Go(func() {
			if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 202 {
				t.Errorf("%v, %v", resp, err)
			} else {
				_ = resp.Body.Close()
			}
		})
		<-entered
	}
	resp, body := do(t, s.request(t, "POST", "/v1/orders", goodBody))
	if resp.StatusCode != 503 || !strings.Contains(body, `"code":"overloaded"`) || resp.Header.Get("Retry-After") == "" {
		t.Errorf("status %d: %s", resp.StatusCode, body)
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if resp, body := do(t, s.request(t, "GET", path, "")); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	if stats := s.Stats(); stats.InFlight != 2 || stats.MaxInFlight != 2 {
		t.Errorf("%+v", stats)
	}
	close(release)
	all.Wait()
}

// TestL8_WaitersAreBounded gives one place to wait; a second request is answered without waiting.
func TestL8_WaitersAreBounded(t *testing.T) {
	s := start(t, func(c *Config) { c.MaxWaiting = 1 })
	entered, release := make(chan struct{}), make(chan struct{})
	s.sales.become(func(sales *stubSales) {
		sales.find = func(_ context.Context, _ *seckill.Caller, _ seckill.OrderID, wait time.Duration) (seckill.Order, error) {
			if wait > 0 {
				close(entered)
				<-release
			}
			return testOrder(seckill.OrderQueued), nil
		}
	})
	first := s.request(t, "GET", orderPath, "", "Prefer", "wait=5")
	var all sync.WaitGroup
	all.Go(func() {
		resp, err := http.DefaultClient.Do(first)
		if err != nil || resp.Header.Get("Preference-Applied") != "wait=5" {
			t.Errorf("the first: %v %v", resp, err)
			return
		}
		_ = resp.Body.Close()
	})
	<-entered
	if resp, body := do(t, s.request(t, "GET", orderPath, "", "Prefer", "wait=5")); resp.StatusCode != 200 ||
		resp.Header.Get("Preference-Applied") != "" {
		t.Errorf("the second: %d %v %s", resp.StatusCode, resp.Header, body)
	}
	if stats := s.Stats(); stats.Waiting != 1 {
		t.Errorf("%d wait", stats.Waiting)
	}
	close(release)
	all.Wait()
}

func TestGateTakesFromVisits(t *testing.T) {
	gate := &stubGate{}
	s := start(t, func(c *Config) { c.Gate = gate })
	closed, since := &seckill.Refusal{Code: seckill.CodePaused}, time.Now()
	gate.grant = func(v *Visit) { v.NoWait, v.PollAfter, v.Closed, v.ClosedSince = true, 9, closed, since }
	var got seckill.Purchase
	s.sales.become(func(sales *stubSales) {
		sales.buy = func(_ context.Context, p *seckill.Purchase) (seckill.Receipt, error) {
			got = *p
			return seckill.Receipt{Order: testOrder(seckill.OrderQueued)}, nil
		}
		finding(testOrder(seckill.OrderQueued), nil)(sales)
	})
	resp, _ := do(t, s.request(t, "POST", "/v1/orders", goodBody, "Prefer", "wait=5"))
	if got.Wait != 0 || got.Closed != closed || !got.ClosedSince.Equal(since) || resp.Header.Get("Preference-Applied") != "" ||
		resp.Header.Get("Retry-After") != "9" {
		t.Errorf("%+v, %v", got, resp.Header)
	}
	if resp, _ := do(t, s.request(t, "GET", orderPath, "")); resp.Header.Get("Retry-After") != "9" {
		t.Errorf("an order: %v", resp.Header)
	}
	gate.grant = nil
	two := s.request(t, "POST", "/v1/orders", goodBody)
	two.Header["X-Forwarded-For"] = []string{"192.0.2.1", "192.0.2.2, 192.0.2.3"}
	do(t, two)
	if v := gate.visits[len(gate.visits)-1]; v.Forwarded != "192.0.2.1,192.0.2.2, 192.0.2.3" {
		t.Errorf("forwarded %q", v.Forwarded)
	}
	if resp, _ := do(t, s.request(t, "GET", orderPath, "")); resp.Header.Get("Retry-After") != "1" || got.Closed != nil {
		t.Errorf("the next visit: %v, %+v", resp.Header, got)
	}
}

func TestGateSeesWhoAsksForWhat(t *testing.T) {
	gate := &stubGate{}
	s := start(t, func(c *Config) { c.Gate = gate })
	s.sales.become(func(sales *stubSales) {
		buying(seckill.Order{}, false, no(seckill.CodeSoldOut))(sales)
		finding(testOrder(seckill.OrderPaid), nil)(sales)
		cancelling(testOrder(seckill.OrderCancelled), nil)(sales)
		paying(testOrder(seckill.OrderPaid), nil)(sales)
	})
	do(t, s.request(t, "POST", "/v1/orders", goodBody))
	s.sales.setSoldOut("phone-x", true)
	do(t, s.request(t, "POST", "/v1/orders", goodBody))
	do(t, s.request(t, "GET", orderPath, ""))
	do(t, s.request(t, "POST", orderPath+"/cancel", ""))
	do(t, s.request(t, "POST", "/v1/payments", paymentBody(testOrderID), "Penstock-Signature", goodSignature))
	do(t, s.request(t, "GET", "/v1/activities/618-phones", ""))
	do(t, s.request(t, "POST", "/v1/orders", `{}`)) // not understood: never a visit
	do(t, s.request(t, "GET", "/livez", ""))
	gate.become(limited)
	do(t, s.request(t, "GET", orderPath, "")) // denied: never leaves
	var got []string
	for i, v := range gate.visits {
		if v.Settled != (i == 1) {
			t.Errorf("visit %d: settled %v", i, v.Settled)
		}
		if v.Peer == nil || v.Arrived.IsZero() || (v.Caller == nil) != (v.Route == "pay") {
			t.Errorf("%+v", v)
		}
		got = append(got, v.Route)
	}
	if want := []string{"buy", "buy", "order", "cancel", "pay", "activity", "order"}; !slices.Equal(got, want) {
		t.Errorf("visits %v, want %v", got, want)
	}
	if want := []int{409, 409, 200, 200, 200, 200}; !slices.Equal(gate.left, want) {
		t.Errorf("left %v, want %v", gate.left, want)
	}
}

func TestActivityIsServedFromMemory(t *testing.T) {
	s := start(t, nil)
	get := func(tag string) (*http.Response, string) {
		return do(t, s.request(t, "GET", "/v1/activities/618-phones", "", "If-None-Match", tag))
	}
	first, body := get("")
	tag := first.Header.Get("ETag")
	want := `{"activity":"618-phones","name":"Phones for 6.18","state":"published","starts_at":"2026-06-18T00:00:00.000Z",` +
		`"ends_at":"2026-06-18T02:00:00.000Z","items":[{"sku":"phone-x","price":1999,"currency":"CNY","per_user":2,"stock":"in_stock"},` +
		`{"sku":"phone-\"y\"","price":1999,"currency":"CNY","per_user":0,"stock":"in_stock"}],"server_time":"`
	if !strings.HasPrefix(body, want) {
		t.Errorf("got  %s\nwant %s…", body, want)
	}
	if same, body := get(tag); same.StatusCode != 304 || body != "" || same.Header.Get("ETag") != tag {
		t.Errorf("unchanged: %d %s", same.StatusCode, body)
	}
	s.sales.setSoldOut("phone-x", true)
	changed, body := get(tag)
	if changed.StatusCode != 200 || changed.Header.Get("ETag") == tag || !strings.Contains(body, `"per_user":2,"stock":"sold_out"`) {
		t.Errorf("sold out: %d %s", changed.StatusCode, body)
	}
	s.sales.setSoldOut("phone-x", false)
	if back, body := get(tag); back.StatusCode != 304 {
		t.Errorf("back in stock: %d %s", back.StatusCode, body)
	}
	s.sales.setCatalog(testCatalog(2))
	if again, body := get(tag); again.StatusCode != 304 {
		t.Errorf("the same content in a new catalog: %d %s", again.StatusCode, body)
	}
	caller := testCaller("shop", "web", buyerKey, seckill.RightBuy)
	s.sales.setCatalog(catalogOf(3, seckill.CatalogChange{Caller: &caller}))
	if gone, body := get(tag); gone.StatusCode != 404 {
		t.Errorf("gone: %d %s", gone.StatusCode, body)
	}
}

// TestActivityStockIsLookedAtOncePerAge reads a page at chosen times.
func TestActivityStockIsLookedAtOncePerAge(t *testing.T) {
	looks, inStock := 0, true
	began := time.Now()
	pages := &activityPages{started: began, age: 50 * time.Millisecond, inStock: func(seckill.Offer) (bool, time.Duration) {
		looks++
		return inStock, 0
	}}
	catalog := testCatalog(1)
	sale := catalog.Activity("618-phones")
	f := func(at time.Duration, wantLooks int, want bool) {
		t.Helper()
		p := pages.current(catalog, sale, began.Add(at), false)
		if p.stock[0] != want || looks != wantLooks {
			t.Errorf("after %v: in stock %v, %d looks", at, p.stock[0], looks)
		}
	}
	f(0, 2, true)
	inStock = false
	f(49*time.Millisecond, 2, true)
	f(50*time.Millisecond, 5, false) // one look finds the change, two render
	f(99*time.Millisecond, 5, false)
	f(100*time.Millisecond, 7, false)
	inStock = true
	if p := pages.current(catalog, sale, began.Add(time.Hour), true); p.stock[0] || looks != 7 {
		t.Errorf("a static page: in stock %v, %d looks", p.stock[0], looks)
	}
	f(time.Hour, 10, true)
}

// TestShutdownAnswersWhatIsInFlight begins a drain in the middle of a purchase.
func TestShutdownAnswersWhatIsInFlight(t *testing.T) {
	s := start(t, nil)
	entered, release := make(chan struct{}), make(chan struct{})
	s.sales.become(func(sales *stubSales) {
		sales.buy = func(context.Context, *seckill.Purchase) (seckill.Receipt, error) {
			close(entered)
			<-release
			return seckill.Receipt{Order: testOrder(seckill.OrderQueued)}, nil
		}
	})
	idle, unused := s.dial(t), s.dial(t)
	fromIdle := bufio.NewReader(idle)
	if _, err := io.WriteString(idle, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	readAnswer(t, fromIdle)
	answered := make(chan string, 1)
	req := s.request(t, "POST", "/v1/orders", goodBody)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		_ = resp.Body.Close()
		answered <- fmt.Sprint(resp.StatusCode, " closes ", resp.Close)
	}()
	<-entered
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	for name, from := range map[string]io.Reader{"idle": fromIdle, "unused": unused} {
		if n, err := from.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s connection: read %d bytes, %v", name, n, err)
		}
	}
	if c, err := net.Dial("tcp", s.addr); err == nil {
		t.Error("a draining server takes connections")
		_ = c.Close()
	}
	close(release)
	if got := <-answered; got != "202 closes true" {
		t.Errorf("the purchase in flight: %s", got)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	if open := s.Stats().Connections; open != 0 {
		t.Errorf("%d connections are open", open)
	}
}

// TestShutdownIsBounded drains a server whose handler doesn't return.
func TestShutdownIsBounded(t *testing.T) {
	s := start(t, nil)
	entered, release := make(chan struct{}), make(chan struct{})
	s.sales.become(func(sales *stubSales) {
		sales.buy = func(context.Context, *seckill.Purchase) (seckill.Receipt, error) {
			close(entered)
			<-release
			return seckill.Receipt{Order: testOrder(seckill.OrderQueued)}, nil
		}
	})
	req := s.request(t, "POST", "/v1/orders", goodBody)
	failed := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		failed <- err
	}()
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 connections closed in the middle") {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-failed; err == nil {
		t.Error("the request was answered")
	}
	close(release)
}

// TestDrainDelay: the server keeps serving while load balancers learn from /readyz that it is about
// to stop.
func TestDrainDelay(t *testing.T) {
	s := start(t, func(c *Config) { c.DrainDelay = time.Hour })
	ctx, cancel := context.WithCancel(context.Background())
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(ctx) }()
	for !s.Stats().Draining {
		runtime.Gosched()
	}
	req := s.request(t, "GET", "/readyz", "", "Connection", "close")
	if resp, body := do(t, req); resp.StatusCode != 503 || !strings.Contains(body, `"not_ready":["draining"]`) {
		t.Errorf("readyz: %d %s", resp.StatusCode, body)
	}
	if resp, _ := do(t, s.request(t, "GET", "/livez", "", "Connection", "close")); resp.StatusCode != 200 {
		t.Errorf("livez: %d", resp.StatusCode)
	}
	cancel()
	if err := <-down; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestServeAfterShutdown(t *testing.T) {
	server, err := New(DefaultConfig(), newStubSales(), newStubSales(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(server.Shutdown(t.Context()), server.Serve(l), server.Shutdown(t.Context())); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener stays open: %v", err)
	}
}

func TestServeOnce(t *testing.T) {
	s := start(t, nil)
	do(t, s.request(t, "GET", "/livez", ""))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err == nil {
		t.Error("served twice")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second listener stays open: %v", err)
	}
}

func TestStats(t *testing.T) {
	s := start(t, nil)
	s.sales.become(buying(seckill.Order{}, false, no(seckill.CodeSoldOut)))
	for range 3 {
		do(t, s.request(t, "POST", "/v1/orders", goodBody))
	}
	do(t, s.request(t, "GET", "/v1/activities/618-phones", ""))
	do(t, s.request(t, "GET", "/v1/activities/618-phones", "", "If-None-Match", "*"))
	do(t, s.request(t, "GET", "/nowhere", ""))
	got := make(map[string]uint64)
	for _, r := range s.Stats().Routes {
		var answers, latencies uint64
		for _, a := range r.Answers {
			got[fmt.Sprintf("%s %d %s", r.Route, a.Status, a.Code)] = a.Count
			answers += a.Count
		}
		for _, n := range r.Latency.Counts {
			latencies += n
		}
		if answers != latencies || (answers > 0) != (r.Latency.Sum > 0) || len(r.Latency.Counts) != len(r.Latency.Bounds)+1 {
			t.Errorf("%+v", r)
		}
	}
	want := map[string]uint64{"buy 409 sold-out": 3, "activity 200 ": 1, "activity 304 ": 1, "none 404 not-found": 1}
	if got["live 200 "] != 1 || len(got) != len(want)+1 { // start asks once
		t.Errorf("got %v", got)
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s: %d, want %d", name, got[name], n)
		}
	}
}

// TestPausedDenials: a visit that has to wait before the gate isn't in flight meanwhile. Afterwards
// the gate is asked again, with that time as its arrival.
func TestPausedDenials(t *testing.T) {
	const pause = 20 * time.Millisecond
	gate := new(stubGate)
	s := start(t, func(c *Config) { c.Gate = gate })
	full := &Denial{Problem: problem.Problem{Code: problem.Overloaded, RetryAfter: time.Second}}
	var inFlight, paused atomic.Int64
	lets := func(in bool) {
		gate.mu.Lock()
		defer gate.mu.Unlock()
		gate.denial, gate.visits = full, nil
		gate.grant = func(v *Visit) {
			if v.Pause == 0 {
				v.Pause = pause
				return
			}
			inFlight.Store(s.Stats().InFlight)
			paused.Store(s.Stats().Paused)
			if in {
				gate.denial = nil
			}
		}
	}
	arrived := make(chan time.Time, 1)
	s.sales.become(func(sales *stubSales) {
		sales.buy = func(_ context.Context, p *seckill.Purchase) (seckill.Receipt, error) {
			arrived <- p.Arrived
			return seckill.Receipt{Order: testOrder(seckill.OrderQueued)}, nil
		}
	})
	lets(true)
	if resp, body := do(t, s.request(t, "POST", "/v1/orders", goodBody)); resp.StatusCode != 202 {
		t.Errorf("with room after the pause: %d %s", resp.StatusCode, body)
	}
	if waited := (<-arrived).Sub(gate.visits[0].Arrived); waited < pause || len(gate.visits) != 2 {
		t.Errorf("asked %d times, arrived %v after the first, want twice and %v at least", len(gate.visits), waited, pause)
	}
	lets(false)
	if resp, body := do(t, s.request(t, "POST", "/v1/orders", goodBody)); resp.StatusCode != 503 || !strings.Contains(body, `"overloaded"`) {
		t.Errorf("without room after the pause: %d %s", resp.StatusCode, body)
	}
	if inFlight.Load() != 1 || paused.Load() != 0 || s.Stats().Paused != 0 {
		t.Errorf("%d in flight, %d paused after the pause, want 1 and 0", inFlight.Load(), paused.Load())
	}
}

// TestRefusalsAreLogged: a guessed key or signature is logged with its client's address, at a
// bounded rate.
func TestRefusalsAreLogged(t *testing.T) {
	s := start(t, func(c *Config) { c.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	s.sales.become(paying(seckill.Order{}, no(seckill.CodeInvalidSignature)))
	for range 20 {
		do(t, s.request(t, "POST", "/v1/orders", goodBody, "Authorization", "Bearer guess", "X-Request-Id", "mine", "X-Forwarded-For", "192.0.2.7"))
		do(t, s.request(t, "POST", "/v1/orders", goodBody, "Authorization", "Bearer "+ownerKey))
		do(t, s.request(t, "POST", "/v1/payments", paymentBody(testOrderID), "Penstock-Signature", goodSignature))
	}
	log := s.log.String()
	for _, want := range []string{
		`"msg":"caller key refused","client":"192.0.2.7","route":"buy","request_id":"mine"`, `"msg":"payment signature refused","client":"127.0.0.1"`,
		`"msg":"right refused"`, `"merchant":"shop","caller":"office"`,
	} {
		if strings.Count(log, want) != 1 {
			t.Errorf("%s is there %d times in\n%s", want, strings.Count(log, want), log)
		}
	}
	if strings.Contains(log, "guess") || strings.Contains(log, ownerKey) {
		t.Error("the log has a key")
	}
}
