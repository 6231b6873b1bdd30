package admin

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// TestSecretsLeaveOnce makes every kind of secret, does everything that could show one again, and
// looks for it, its hash, and their encodings.
func TestSecretsLeaveOnce(t *testing.T) {
	s := open(t, nil)
	secrets := []string{configuredToken, "brought-along-0123"}
	for _, r := range roles {
		secrets = append(secrets, s.tokens[r.role])
	}
	secrets = append(secrets, s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Shop"}`).member("payment_secret"))
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Shop","payment_secret":"brought-along-0123"}`)
	secrets = append(secrets, s.must(201, "POST", "/admin/v1/merchants/m1/callers", `{"name":"app","rights":["buy"]}`).member("key"))
	s.must(200, "DELETE", "/admin/v1/merchants/m1/callers/app", "")
	s.revert(s.lastChange()).reverted(true)
	s.must(204, "DELETE", "/admin/v1/tokens/viewer", "")
	s.do("POST", "/admin/v1/tokens", `{"name":"`+configuredToken, "Authorization", "Bearer "+secrets[len(secrets)-1])

	seen := s.log.String()
	for _, r := range routes() {
		stream := r.pattern == "/admin/v1/events" // it shows the same as GET /admin/v1/live, and doesn't end
		if r.method == http.MethodGet && !stream && !strings.HasPrefix(r.pattern, "/debug") {
			seen += s.do("GET", fill(r.pattern), "").body
		}
	}
	for n := range s.lastChange() {
		seen += s.must(200, "GET", fmt.Sprintf("/admin/v1/changes/%d", n+1), "").body
	}
	for _, secret := range secrets {
		hash := sha256.Sum256([]byte(secret))
		for _, form := range []string{
			secret, hex.EncodeToString(hash[:]), base64.StdEncoding.EncodeToString(hash[:]), base64.RawURLEncoding.EncodeToString(hash[:]),
			fmt.Sprint(hash[:]), strings.ReplaceAll(strings.Trim(fmt.Sprint(hash[:]), "[]"), " ", ","),
		} {
			if strings.Contains(seen, form) {
				t.Errorf("%q shows", form)
			}
		}
	}
}

func TestChangesSayWhoAndWhy(t *testing.T) {
	s := open(t, nil)
	as := "Bearer " + s.tokens[seckill.RoleAdmin]
	last := func() *answer { return s.must(200, "GET", fmt.Sprintf("/admin/v1/changes/%d", s.lastChange()), "") }
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Shop","reason":"the body's"}`, "Authorization", as, "X-Reason",
		"the header's")
	has("actor", "admin", "reason", "the body's", "kind", "merchant", "key", "m1")(last())
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Store"}`, "X-Reason", "the header's")
	has("actor", configuredName, "reason", "the header's", "before", "map[merchant:m1 name:Shop]", "after",
		"map[merchant:m1 name:Store]")(last())
	s.must(200, "POST", fmt.Sprintf("/admin/v1/changes/%d/revert", s.lastChange()), `{"reason":"no"}`, "Authorization", as)
	has("actor", "admin", "reason", fmt.Sprintf("revert of change %d: no", s.lastChange()-1))(last())
	s.must(200, "PUT", "/admin/v1/activities/618", activityBody)
	has("kind", "activity", "before", "<nil>")(last())
	s.beginDelivery()
	s.must(200, "POST", "/admin/v1/activities/618/publish", `{"reason":"go"}`)
	s.endDelivery()
	if a := last(); a.member("reason") != "go" || !strings.Contains(a.member("after"), "state:published") {
		t.Errorf("got %s", a.body)
	}
	s.restock(5, "k1")
	has("kind", "stock", "key", "618/phone-x", "before", "map[total:10]", "after", "map[delta:5 idempotency_key:k1 total:15]")(last())
	s.must(200, "POST", fmt.Sprintf("/admin/v1/dead-letters/%d/discard", s.letters(1)[0]), "")
	if a := last(); a.member("kind") != seckill.ChangeDeadLetters || !strings.Contains(a.member("before"), "not an order record") {
		t.Errorf("got %s", a.body)
	}
}

func TestWhatIsWrittenIsInForceAtOnce(t *testing.T) {
	s := open(t, nil)
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Shop"}`)
	key := s.must(201, "POST", "/admin/v1/merchants/m1/callers", `{"name":"app","rights":["buy"]}`).member("key")
	hash := sha256.Sum256([]byte(key))
	c := s.desk.Catalog().Credential(hash)
	if c == nil || !c.Valid(time.Now()) || c.Caller.Caller != "app" || c.Caller.Rights != seckill.RightBuy {
		t.Fatalf("the new key is %+v", c)
	}
	s.must(200, "DELETE", "/admin/v1/merchants/m1/callers/app", "")
	if s.desk.Catalog().Credential(hash).Valid(time.Now()) {
		t.Error("the revoked caller is let in")
	}
}

func TestADeletedTokenIsNoTokenAnyMore(t *testing.T) {
	s := open(t, nil)
	as := "Bearer " + s.tokens[seckill.RoleViewer]
	s.must(200, "GET", "/admin/v1/merchants", "", "Authorization", as)
	s.must(200, "GET", "/admin/v1/merchants", "", "Authorization", strings.Replace(as, "Bearer ", "bearer   ", 1))
	s.must(204, "DELETE", "/admin/v1/tokens/viewer", "")
	s.must(401, "GET", "/admin/v1/merchants", "", "Authorization", as).refused(problem.Unauthenticated)
}

func TestTheLastAdminTokenStays(t *testing.T) {
	const token = "pst_made-at-the-first-start"
	s := open(t, func(c *Config, d *Deps) {
		c.Token = ""
		first := seckill.Token{ID: "first", Name: "first", Role: seckill.RoleAdmin, Hash: sha256.Sum256([]byte(token))}
		if _, err := d.Store.AddToken(t.Context(), first, 0, seckill.Author{Actor: "test"}); err != nil {
			t.Fatal(err)
		}
	})
	s.tokens[roleNone] = token
	s.must(409, "DELETE", "/admin/v1/tokens/first", "").refused(problem.NotEditable)
	s.must(201, "POST", "/admin/v1/tokens", `{"name":"view","role":"viewer"}`)
	s.must(409, "DELETE", "/admin/v1/tokens/first", "").refused(problem.NotEditable)
	s.must(204, "DELETE", "/admin/v1/tokens/view", "")
	s.must(200, "PUT", "/admin/v1/merchants/m1", `{"name":"Shop"}`)
	s.must(201, "POST", "/admin/v1/tokens", `{"name":"bound","role":"admin","merchant":"m1"}`)
	s.must(201, "POST", "/admin/v1/tokens", `{"name":"short","role":"admin","expires_in":"1h"}`)
	s.must(409, "DELETE", "/admin/v1/tokens/first", "").refused(problem.NotEditable)
	s.must(201, "POST", "/admin/v1/tokens", `{"name":"second","role":"admin"}`)
	s.must(204, "DELETE", "/admin/v1/tokens/first", "")
	s.must(401, "GET", "/admin/v1/tokens", "")
}

// flaky is a store whose tokens can't be read while err is set.
type flaky struct {
	Store
	tokens []seckill.Token
	err    error
	asked  int
}

func (f *flaky) Tokens(context.Context) ([]seckill.Token, error) {
	f.asked++
	return f.tokens, f.err
}

func (f *flaky) NoteTokenUse(context.Context, seckill.TokenUse) error { return f.err }

func TestTokensOutliveTheStoreForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		store := &flaky{err: errors.New("away")}
		tokens := newTokens(cfg, store, time.Now)
		who := func() (identity, error) { return tokens.identify(t.Context(), tokens.hash("pst_x")) }
		unavailable := func() {
			t.Helper()
			_, err := who()
			if p := problem.FromError(err); p.Code != problem.Unavailable {
				t.Errorf("a token that can't be looked up is %v", err) // not a 401: that would be a lie
			}
		}
		known := func() {
			t.Helper()
			if got, err := who(); err != nil || got != (identity{id: "t-1", name: "night", role: seckill.RoleOperator}) {
				t.Errorf("%+v, %v", got, err)
			}
		}
		unavailable()
		store.tokens, store.err = []seckill.Token{{ID: "t-1", Name: "night", Role: seckill.RoleOperator, Hash: sha256.Sum256([]byte("pst_x"))}}, nil
		known()
		asked := store.asked
		time.Sleep(cfg.TokenAge - 1)
		known()
		if store.asked != asked {
			t.Error("asks the store though the list is young")
		}
		store.err = errors.New("away")
		time.Sleep(cfg.TokenGrace / 2)
		known()
		time.Sleep(cfg.TokenGrace)
		unavailable()
		store.tokens, store.err = nil, nil
		if _, err := who(); err == nil {
			t.Error("a deleted token is let in")
		}
	})
}

func TestUnknownPathsAreProblems(t *testing.T) {
	s := open(t, nil)
	for _, path := range []string{
		"/admin", "/admin/v1", "/admin/v1/merchants/", "/admin/v1/merchants/m1/", "//admin/v1/merchants", "/admin/v1/./merchants",
		"/admin/v1/../v1/merchants",
		"/admin/v1/merchants/%2e%2e/x", "/nothing", "/metrics/", "/admin/v1/activities/618/items",
	} {
		s.must(404, "GET", path, "").refused(problem.NotFound)
	}
	a := s.must(405, "DELETE", "/admin/v1/merchants/m1", "")
	if a.refused(problem.MethodNotAllowed); a.Header.Get("Allow") != "GET, HEAD, PUT" {
		t.Errorf("Allow: %s", a.Header.Get("Allow"))
	}
	if a := s.must(200, "HEAD", "/admin/v1/merchants", ""); a.body != "" || a.Header.Get("Content-Length") == "" {
		t.Errorf("HEAD: %q %v", a.body, a.Header)
	}
}

func TestRequestIDs(t *testing.T) {
	s := open(t, nil)
	id := func(sent string) string {
		return s.do("GET", "/livez", "", "X-Request-Id", sent).Header.Get("X-Request-Id")
	}
	if got := id("a-b.c_d:1"); got != "a-b.c_d:1" {
		t.Errorf("a sound id became %s", got)
	}
	seen := map[string]bool{}
	for _, sent := range []string{"", "a b", `a"b`, strings.Repeat("a", 65)} {
		got := id(sent)
		if got == sent || !isVisible(got, 64) || seen[got] {
			t.Errorf("%q became %q", sent, got)
		}
		seen[got] = true
	}
}

func TestAPanicCostsOneRequest(t *testing.T) {
	s := open(t, nil)
	s.setHealth(health{asked: func() { panic("a bug with hunter2 in it") }})
	for range 3 {
		a := s.must(500, "GET", "/readyz", "")
		if a.refused(problem.Internal); strings.Contains(a.body, "hunter2") {
			t.Errorf("leaks: %s", a.body)
		}
	}
	if n := strings.Count(s.log.String(), "a bug with hunter2 in it"); n != 1 {
		t.Errorf("logged %d times, want once in a while", n)
	}
	s.setHealth(health{})
	for _, want := range []string{"penstock_admin_panics_total 3", "penstock_admin_log_left_out_total 2"} {
		if body := s.must(200, "GET", metricsPath, "").body; !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestNotReady(t *testing.T) {
	s := open(t, nil)
	s.setHealth(health{missing: "no catalog"})
	a := s.must(503, "GET", "/readyz", "", "Authorization", "")
	if a.refused(problem.Unavailable); a.member("not_ready") != "[no catalog]" || a.Header.Get("Retry-After") == "" {
		t.Errorf("%v %s", a.Header, a.body)
	}
	s.must(200, "GET", "/livez", "", "Authorization", "")
	if body := s.must(200, "GET", metricsPath, "").body; !strings.Contains(body, "penstock_ready 0") {
		t.Error("metrics say it is ready")
	}
}

func TestProfiles(t *testing.T) {
	s := open(t, nil)
	for _, name := range []string{"goroutine?debug=1", "heap", "cmdline", "symbol", "profile?seconds=1", "trace?seconds=0.01"} {
		if a := s.must(200, "GET", "/debug/pprof/"+name, ""); a.body == "" {
			t.Errorf("%s is empty", name)
		}
		s.must(403, "GET", "/debug/pprof/"+name, "", "Authorization", "Bearer "+s.tokens[seckill.RoleOperator])
	}
	s.must(404, "GET", "/debug/pprof/what", "").refused(problem.NotFound)
}

func TestMetricsMayBeOpen(t *testing.T) {
	s := open(t, func(c *Config, _ *Deps) { c.OpenMetrics = true })
	s.must(200, "GET", metricsPath, "", "Authorization", "")
	s.must(401, "GET", "/admin/v1/merchants", "", "Authorization", "")
}

func TestL8_RequestsAndConnectionsAreLimited(t *testing.T) {
	arrived, let := make(chan struct{}, 1), make(chan struct{})
	s := open(t, func(c *Config, _ *Deps) { c.MaxInFlight, c.MaxConnections = 1, 2 })
	s.setHealth(health{asked: func() {
		arrived <- struct{}{}
		<-let
	}})
	done := make(chan *answer, 1)
	go func() { done <- s.do("GET", "/readyz", "") }()
	<-arrived
	s.must(503, "GET", "/problems", "").refused(problem.Overloaded)
	s.must(200, "GET", "/livez", "") // health is answered under any load
	close(let)
	if a := <-done; a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	// Both connections are idle now. The next one is closed at once.
	conn := dial(t, s)
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a connection above the limit is served")
	}
	if n := s.server.refused.Load(); n != 1 {
		t.Errorf("%d connections were refused", n)
	}
}

func dial(t *testing.T, s *shop) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestMalformedRequests sends what no client library sends.
func TestMalformedRequests(t *testing.T) {
	s := open(t, func(c *Config, _ *Deps) {
		c.ReadTimeout, c.ReadHeaderTimeout = 300*time.Millisecond, 300*time.Millisecond
	})
	status := func(request string) int {
		conn := dial(t, s)
		defer conn.Close()
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return 0 // closed without an answer
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	const auth = "Host: x\r\nAuthorization: Bearer " + configuredToken + "\r\n"
	f := func(want int, request string) {
		t.Helper()
		if got := status(request); got != want {
			t.Errorf("%.60q: %d, want %d", request, got, want)
		}
	}
	f(400, "what\r\n\r\n")
	f(431, "GET / HTTP/1.1\r\nHost: x\r\nA: "+strings.Repeat("x", 32<<10)+"\r\n\r\n")
	f(408, "PUT /admin/v1/merchants/m1 HTTP/1.1\r\n"+auth+"Content-Length: 20\r\n\r\n{\"name\":")
	f(0, "GET / HTTP/1.1\r\nHost:") // a header that never ends
	f(200, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
}

func TestShutdownAnswersWhatIsInFlight(t *testing.T) {
	s := open(t, nil)
	arrived, let := make(chan struct{}), make(chan struct{})
	s.server.http.RegisterOnShutdown(sync.OnceFunc(func() { close(let) })) // the shutdown waits for the request, and the request waits for the shutdown
	s.setHealth(health{asked: func() {
		close(arrived)
		<-let
	}})
	done := make(chan *answer, 1)
	go func() { done <- s.do("GET", "/readyz", "") }()
	<-arrived
	stopped := make(chan error, 1)
	go func() { stopped <- s.server.Shutdown(context.WithoutCancel(t.Context())) }()
	if a := <-done; a.StatusCode != 503 || a.member("not_ready") != "[draining]" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	s := open(t, nil)
	arrived, let := make(chan struct{}), make(chan struct{})
	s.setHealth(health{asked: func() {
		close(arrived)
		<-let
	}})
	gone := make(chan error, 1)
	go func() {
		_, err := s.client.Do(s.request("GET", "/readyz", ""))
		gone <- err
	}()
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.server.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-gone; err == nil {
		t.Error("the connection outlives the shutdown")
	}
	close(let)
}

// TestAChangeOutlivesItsClient cancels a request while the office works on it.
func TestAChangeOutlivesItsClient(t *testing.T) {
	s := open(t, nil)
	s.sell()
	arrived, result := make(chan context.Context, 1), make(chan error, 1)
	s.server.deps.Office = slowPause{s.server.deps.Office, func(ctx context.Context) error {
		arrived <- ctx
		return <-result
	}}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := s.client.Do(s.request("POST", "/admin/v1/activities/618/pause", "").WithContext(ctx))
		gone <- err
	}()
	during := <-arrived
	cancel()
	if err := <-gone; err == nil {
		t.Fatal("answered before the office was done")
	}
	if during.Err() != nil {
		t.Errorf("the office was stopped: %v", during.Err())
	}
	result <- nil
}

type slowPause struct {
	Office
	wait func(context.Context) error
}

func (o slowPause) Pause(ctx context.Context, _ seckill.ActivityID, _ seckill.Author) (*seckill.Activity, error) {
	return &seckill.Activity{}, o.wait(ctx)
}

func TestFailuresToldAsWhatTheyAre(t *testing.T) {
	s := open(t, nil)
	s.sell()
	office := s.server.deps.Office
	f := func(err error, status int, code problem.Code) {
		t.Helper()
		s.server.deps.Office = stubborn{office, err}
		a := s.must(status, "POST", "/admin/v1/activities/618/end", `{"confirm":true}`)
		if a.refused(code); strings.Contains(a.body, "hunter2") {
			t.Errorf("leaks: %s", a.body)
		}
	}
	cause := errors.New("dial hunter2")
	f(&seckill.Refusal{Code: problem.ActivityState, Detail: "It is over."}, 409, problem.ActivityState)
	f(seckill.FieldErrors{{Field: "ends_at", Detail: "is over"}}, 400, problem.InvalidRequest)
	f(&seckill.Failure{Code: problem.Unavailable, Err: cause}, 503, problem.Unavailable)
	f(&seckill.Failure{Code: problem.Overloaded, Err: cause}, 503, problem.Overloaded)
	f(&seckill.Unknown{Err: cause}, 503, problem.Unavailable)
	f(context.DeadlineExceeded, 503, problem.Unavailable)
	f(cause, 500, problem.Internal)
	if !strings.Contains(s.log.String(), "dial hunter2") {
		t.Error("the log doesn't say why")
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults aren't valid: %v", err)
	}
	f := func(change func(*Config), want string) {
		t.Helper()
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f(func(c *Config) { c.MaxBody = 0 }, "max body must be above zero")
	f(func(c *Config) { c.RequestTimeout = c.WriteTimeout }, "write timeout")
	f(func(c *Config) { c.MaxConnections = c.MaxInFlight }, "max connections")
	f(func(c *Config) { c.TokenGrace = 0 }, "token grace")
	f(func(c *Config) { c.Token = "a b" }, "admin-token: ")
	c := DefaultConfig()
	c.Token = "hunter2 hunter2"
	if err := c.Validate(); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
	if _, err := New(DefaultConfig(), Deps{}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a server without an office")
	}
}

func TestHandlerWorksWithoutAListener(t *testing.T) {
	s := open(t, nil)
	w := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/livez", nil))
	if w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestAmbiguousRequests sends requests that a proxy in front may read differently, and requests
// with a value that may be read as missing.
func TestAmbiguousRequests(t *testing.T) {
	s := open(t, nil)
	f := func(status int, fields, body string) {
		t.Helper()
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := fmt.Fprintf(c, "PUT /admin/v1/merchants/m1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n%s",
			configuredToken, fields, body); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != status {
			t.Errorf("%q: %v, %v", fields, resp, err)
		}
	}
	const body = `{"name":"Shop"}`
	length, chunked := fmt.Sprintf("Content-Length: %d\r\n", len(body)), "Transfer-Encoding: chunked\r\n"
	chunks := fmt.Sprintf("%x\r\n%s\r\n0\r\n", len(body), body)
	f(200, length, body)
	f(200, chunked, chunks+"\r\n")
	f(400, length+"Authorization: Bearer other\r\n", body)
	f(400, length+"Content-Type: application/json\r\nContent-Type: text/plain\r\n", body)
	f(400, length+"X-Reason: a\r\nX-Reason: b\r\n", body)
	f(400, chunked+"Trailer: X-Reason\r\n", chunks+"X-Reason: b\r\n\r\n")
	f(400, chunked, chunks+"X-Reason: b\r\n\r\n")
	f(400, "Transfer-Encoding : chunked\r\n", chunks+"\r\n")
	f(400, length+"Content-Length: 3\r\n", body)
	f(413, "Expect: 100-continue\r\nContent-Length: 9999999\r\n", "")
	f(417, "Expect: other\r\n"+length, body)

	for _, reason := range []string{" ", "\u200b", "a\u202eb", "a\u2028b", "a\ufffd"} {
		a := s.do("PUT", "/admin/v1/switches/orders", fmt.Sprintf(`{"value":"off","reason":%q}`, reason))
		if a.StatusCode != 400 || len(a.mistakes()) != 1 {
			t.Errorf("reason %+q: %s", reason, a.body)
		}
	}
	for _, name := range []string{"\u200b", "a\u202eb", "\u00a0"} {
		s.must(400, "PUT", "/admin/v1/merchants/m1", fmt.Sprintf(`{"name":%q}`, name))
		s.must(400, "POST", "/admin/v1/merchants/m1/callers", fmt.Sprintf(`{"name":%q,"rights":["buy"]}`, name))
		s.must(400, "PUT", "/admin/v1/activities/618", strings.Replace(activityBody, `"name":"`, `"name":"`+name+`","x":"`, 1))
	}
}

// TestRefusalsAreLogged: a guessed token is logged with its client's address, at a bounded rate.
func TestRefusalsAreLogged(t *testing.T) {
	s := open(t, nil)
	for range 20 {
		s.must(401, "GET", "/admin/v1/merchants", "", "Authorization", "Bearer guess", "X-Request-Id", "mine")
		s.must(403, "PUT", "/admin/v1/merchants/m1", `{"name":"Shop"}`, "Authorization", "Bearer "+s.tokens[seckill.RoleViewer])
	}
	log := s.log.String()
	for _, want := range []string{`msg="admin token refused" client=127.0.0.1 `, "request_id=mine", `msg="role refused" client=127.0.0.1 `, "token=viewer"} {
		if strings.Count(log, want) != 1 {
			t.Errorf("%q is there %d times in\n%s", want, strings.Count(log, want), log)
		}
	}
	if strings.Contains(log, "guess") {
		t.Error("the log has the guess")
	}
}

// TestPagesOfChangesAreBounded writes large changes, and reads all of them in small pages.
func TestPagesOfChangesAreBounded(t *testing.T) {
	s := open(t, nil)
	var many strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&many, `,{"name":"policy-%d","key":"user","match":"m1/user-with-a-long-name-%d","rate":%%d,"burst":1000}`, i, i)
	}
	const puts = 6
	for n := range puts {
		tag := s.must(200, "GET", "/admin/v1/limits", "").Header.Get("ETag")
		body := `{"reason":"large","allow_unknown":true,"policies":[` + strings.ReplaceAll(many.String(), "%d", fmt.Sprint(n+1))[1:] + `]}`
		s.must(200, "PUT", "/admin/v1/limits", body, "If-Match", tag)
	}
	last, seen, pages := s.lastChange(), int64(0), 0
	for before := ""; ; pages++ {
		a := s.must(200, "GET", "/admin/v1/changes?limit=200"+before, "")
		var page struct {
			Items []struct{ Number int64 }
			Next  int64
		}
		a.read(&page)
		if len(a.body) > 4*changesBytes {
			t.Errorf("a page of %d bytes", len(a.body))
		}
		for _, c := range page.Items {
			if c.Number != last-seen {
				t.Fatalf("change %d, want %d", c.Number, last-seen)
			}
			seen++
		}
		if page.Next == 0 {
			break
		}
		before = fmt.Sprintf("&before=%d", page.Next)
	}
	if seen != last || pages < 2 {
		t.Errorf("%d changes of %d in %d pages", seen, last, pages+1)
	}
}
