package admin

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/penstock/penstock/gateway/problem"
)

// ask sends a request on a new connection, which stays open until the test ends.
func (s *shop) ask(request string) (*http.Response, string) {
	s.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, request); err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(body)
}

const probe = "GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n\r\n"

// TestConnectionsAboveTheLimits: the last connections answer health checks. Those above the limit
// get a 503 in our form.
func TestConnectionsAboveTheLimits(t *testing.T) {
	s := open(t, func(c *Config, _ *Deps) { c.MaxConnections, c.MaxInFlight, c.MaxPerAddress = 32, 16, 32 })
	s.client.CloseIdleConnections()
	for s.server.places.Open() > 0 {
	}
	overloaded := func(resp *http.Response, body, detail string) {
		t.Helper()
		if resp.StatusCode != 503 || resp.Header.Get("Content-Type") != problem.ContentType || resp.Header.Get("X-Request-Id") != "mine" ||
			resp.Header.Get("Retry-After") == "" || !resp.Close || !strings.Contains(body, detail) {
			t.Errorf("%d, %v: %s", resp.StatusCode, resp.Header, body)
		}
	}
	for range 30 {
		if resp, body := s.ask(probe); resp.StatusCode != 200 {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
	}
	resp, body := s.ask(strings.Replace(probe, "/livez", "/admin/v1/merchants", 1))
	overloaded(resp, body, "Too many connections are open.")
	for s.server.places.Open() > 30 {
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if resp, body := s.ask(strings.Replace(probe, "/livez", path, 1)); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	resp, body = s.ask(probe)
	overloaded(resp, body, "Too many connections are open.")

	s = open(t, func(c *Config, _ *Deps) { c.MaxPerAddress = 2 })
	s.client.CloseIdleConnections()
	for s.server.places.Open() > 0 {
	}
	s.ask(probe)
	s.ask(probe)
	resp, body = s.ask(probe)
	overloaded(resp, body, "Too many connections of this address")
}

// TestUnreadableRequests: answers that net/http makes itself are problem documents, too.
func TestUnreadableRequests(t *testing.T) {
	s := open(t, nil)
	for request, want := range map[string]struct {
		status int
		code   problem.Code
	}{
		"GET /livez HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n":                               {400, problem.InvalidRequest},
		"GET /livez HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n":                                 {400, problem.InvalidRequest},
		"GET /livez HTTP/1.1\r\n\r\n":                                                      {400, problem.InvalidRequest},
		"\x16\x03\x01 hello\r\n\r\n":                                                       {400, problem.InvalidRequest},
		"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n":                     {400, problem.InvalidRequest},
		"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n":           {400, problem.InvalidRequest},
		"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n":                                           {505, problem.VersionNotSupported},
		"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n": {431, problem.HeaderTooLarge},
	} {
		resp, body := s.ask(request)
		if resp.StatusCode != want.status || resp.Header.Get("Content-Type") != problem.ContentType || resp.Header.Get("X-Request-Id") == "" ||
			!resp.Close || !strings.Contains(body, `"code":"`+string(want.code)+`"`) {
			t.Errorf("%.60q: %d, %v: %s", request, resp.StatusCode, resp.Header, body)
		}
	}
}
