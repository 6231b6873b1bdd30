package admin

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/limiter"
	"github.com/penstock/penstock/seckill"
)

// openGuessed opens a shop that takes three wrong tokens of an address, and whose clients are
// behind a proxy: X-Forwarded-For is the address.
func openGuessed(t *testing.T, change func(*Config)) *shop {
	return open(t, func(c *Config, _ *Deps) {
		c.Guesses = limiter.AddressConfig{Rate: 1e-4, Burst: 3, Room: 100}
		c.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
		if change != nil {
			change(c)
		}
	})
}

const from = "X-Forwarded-For"

func TestGuesses_AreSlowedDownByAddress(t *testing.T) {
	s := openGuessed(t, nil)
	const me = "/admin/v1/me"
	operator := "Bearer " + s.tokens[seckill.RoleOperator]
	s.must(200, "GET", me, "", "Authorization", operator, from, "192.0.2.1")
	guess := func(i int, address string) int {
		a := s.do("GET", me, "", "Authorization", fmt.Sprintf("Bearer guess-%d", i), from, address)
		if a.StatusCode == http.StatusTooManyRequests && a.Header.Get("Retry-After") == "" {
			t.Errorf("429 without Retry-After: %s", a.body)
		}
		return a.StatusCode
	}
	for i, want := range []int{401, 401, 401, 429, 429} {
		if got := guess(i, "192.0.2.1"); got != want {
			t.Errorf("guess %d: %d, want %d", i, got, want)
		}
	}
	t.Run("in the console's form and by cookies too", func(t *testing.T) {
		s.must(429, "POST", "/login", `{"token":"guess-5"}`, "Authorization", "", from, "192.0.2.1").refused(problem.RateLimited)
		s.must(429, "GET", me, "", "Authorization", "", "Cookie", sessionName+"=pss_guess", "Host", "localhost", from,
			"192.0.2.1").refused(problem.RateLimited)
	})
	t.Run("a right guess can't be told from a wrong one", func(t *testing.T) {
		s.must(429, "GET", me, "", "Authorization", "Bearer "+s.tokens[seckill.RoleViewer], from, "192.0.2.1")
	})
	t.Run("a token that was let in from there before goes on", func(t *testing.T) {
		for range 10 {
			s.must(200, "GET", me, "", "Authorization", operator, from, "192.0.2.1")
		}
		s.must(200, "POST", "/login", fmt.Sprintf(`{"token":%q}`, s.tokens[seckill.RoleOperator]), "Authorization", "", from, "192.0.2.1")
	})
	t.Run("no token is no guess, and health is asked for without one", func(t *testing.T) {
		s.must(401, "GET", me, "", "Authorization", "", from, "192.0.2.1")
		s.must(200, "GET", "/livez", "", "Authorization", "", from, "192.0.2.1")
	})
	t.Run("another address is not slowed down", func(t *testing.T) {
		s.must(200, "GET", me, "", "Authorization", "Bearer "+s.tokens[seckill.RoleViewer], from, "192.0.2.2")
		if got := guess(9, "192.0.2.2"); got != 401 {
			t.Errorf("%d", got)
		}
	})
	if !strings.Contains(s.log.String(), "admin token refused") {
		t.Error("it isn't logged")
	}
}

// TestGuesses_RightTokensTakeNone: a client that shows a right token, no matter how often, has all
// its guesses left.
func TestGuesses_RightTokensTakeNone(t *testing.T) {
	const short = "short-token"
	s := openGuessed(t, func(c *Config) { c.Token = short })
	as := func(token string, want int) {
		t.Helper()
		s.must(want, "GET", "/admin/v1/me", "", "Authorization", "Bearer "+token, from, "192.0.2.1")
	}
	for range 10 {
		as(short, 200)
		as(s.tokens[seckill.RoleViewer], 200)
	}
	s.must(204, "DELETE", "/admin/v1/tokens/viewer", "")
	for range 10 {
		as(s.tokens[seckill.RoleViewer], 401) // it was one, and is no guess from here
	}
	for range 3 {
		as("guess", 401)
	}
	as("guess", 429)
	as(short, 429) // it can be found by trying
}
