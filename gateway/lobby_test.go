package gateway

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/penstock/penstock/gateway/problem"
)

// ask sends a request on a new connection that stays open, and returns the connection's reader.
func ask(t *testing.T, s *running, request string) (*http.Response, string, *bufio.Reader) {
	t.Helper()
	c := s.dial(t)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(c)
	resp, body := readAnswer(t, from)
	return resp, body, from
}

const probe = "GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n\r\n"

// turnedAway checks an answer to a connection without a place.
func turnedAway(t *testing.T, resp *http.Response, body string, detail string) {
	t.Helper()
	if resp.StatusCode != 503 || resp.Header.Get("Content-Type") != problem.ContentType || resp.Header.Get("Retry-After") == "" ||
		resp.Header.Get("X-Request-Id") != "mine" || !resp.Close || !strings.Contains(body, `"code":"overloaded"`) ||
		!strings.Contains(body, detail) {
		t.Errorf("status %d, closes %v, %v: %s", resp.StatusCode, resp.Close, resp.Header, body)
	}
}

// TestConnectionsAboveTheLimit opens as many connections as are allowed, and more.
func TestConnectionsAboveTheLimit(t *testing.T) {
	s := start(t, func(c *Config) { c.MaxConnections, c.MaxInFlight = 8, 6 })
	for range 8 {
		if resp, _, _ := ask(t, s, probe); resp.StatusCode != 200 || resp.Close {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	resp, body, from := ask(t, s, probe)
	turnedAway(t, resp, body, manyOpen)
	if _, err := from.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection stays: %v", err)
	}
	resp, body, _ = ask(t, s, "POST /v1/orders HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
	turnedAway(t, resp, body, manyOpen)
	if stats := s.Stats(); stats.RejectedConns != 2 || stats.Connections != 8 || !strings.Contains(s.log.String(), "too many connections are open") {
		t.Errorf("%+v\n%s", stats, s.log)
	}
}

// TestReservedConnections: the last connections answer health checks while all others are taken.
func TestReservedConnections(t *testing.T) {
	s := start(t, func(c *Config) { c.MaxConnections, c.MaxInFlight, c.MaxPerAddress = 32, 30, 32 })
	for range 30 {
		s.dial(t)
	}
	for s.Stats().Connections < 30 {
		runtime.Gosched()
	}
	resp, body, _ := ask(t, s, strings.Replace(probe, "/livez", "/v1/orders/"+string(testOrderID), 1))
	turnedAway(t, resp, body, manyOpen)
	for s.Stats().Connections > 30 {
		runtime.Gosched()
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if resp, body, _ := ask(t, s, strings.Replace(probe, "/livez", path, 1)); resp.StatusCode != 200 || resp.Close {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	resp, body, _ = ask(t, s, probe)
	turnedAway(t, resp, body, manyOpen)
}

func TestConnectionsOfOneAddress(t *testing.T) {
	s := start(t, func(c *Config) { c.MaxPerAddress = 2 })
	ask(t, s, probe)
	ask(t, s, probe)
	resp, body, _ := ask(t, s, probe)
	turnedAway(t, resp, body, manyOfAddress)
	if !strings.Contains(s.log.String(), `"peer":"127.0.0.1:`) {
		t.Errorf("the log doesn't say whose: %s", s.log)
	}

	s = start(t, func(c *Config) {
		c.MaxPerAddress, c.Proxies = 2, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	for range 5 {
		if resp, _, _ := ask(t, s, probe); resp.StatusCode != 200 {
			t.Errorf("a proxy's connection: %d", resp.StatusCode)
		}
	}
}
