package admin

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// signIn shows a token, and keeps the session that comes back.
func (b *browser) signIn(token string, fields ...string) *answer {
	b.s.t.Helper()
	return b.sendBody(http.MethodPost, "/login", fmt.Sprintf(`{"token":%q}`, token), fields...)
}

func newBrowser(s *shop) *browser { return &browser{s, make(map[string]string)} }

const console1 = consoleField // a change of the console has it

func TestLogIn_GivesASessionForAToken(t *testing.T) {
	s := open(t, nil)
	b := newBrowser(s)
	a := b.signIn(s.tokens[seckill.RoleOperator])
	has("name", "operator", "role", "operator", "session", "true")(a)
	secret := b.cookies[sessionName]
	if a.StatusCode != 200 || !strings.HasPrefix(secret, "pss_") || strings.Contains(a.body, secret) {
		t.Fatalf("%d %s, cookies %v", a.StatusCode, a.body, b.cookies)
	}
	has("name", "operator", "role", "operator", "session", "true")(b.get("/admin/v1/me"))
	t.Run("it is kept as a hash, listed, and says who logged in", func(t *testing.T) {
		id := b.get("/admin/v1/me").member("token_id")
		has("kind", "token", "actor", "operator", "token_id", id, "reason", "login by the token operator")(
			s.must(200, "GET", "/admin/v1/changes/"+s.last(), ""))
		list, err := s.store.Tokens(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		kept := slices.IndexFunc(list, func(x seckill.Token) bool { return string(x.ID) == id })
		if kept < 0 || list[kept].Hash != sha256.Sum256([]byte(secret)) || strings.Contains(s.log.String(), secret) {
			t.Errorf("kept %+v", list)
		}
	})
	t.Run("it has its role and no more", func(t *testing.T) {
		b.get("/admin/v1/tokens").refused(problem.Forbidden)
	})
	t.Run("a session opens no other one", func(t *testing.T) {
		newBrowser(s).signIn(secret).refused(problem.Unauthenticated)
	})
	t.Run("a logout ends it", func(t *testing.T) {
		if a := b.send("POST", "/logout"); a.StatusCode != 204 || len(b.cookies) != 0 {
			t.Errorf("%d %s, cookies %v", a.StatusCode, a.body, b.cookies)
		}
		b.cookies[sessionName] = secret
		b.get("/admin/v1/me").refused(problem.Unauthenticated)
	})
	t.Run("a wrong token is refused, and named in the log once", func(t *testing.T) {
		b := newBrowser(s)
		b.signIn("pst_wrong").refused(problem.Unauthenticated)
		b.sendBody("POST", "/login", `{"token":7}`).refused(problem.InvalidRequest)
		if len(b.cookies) != 0 || strings.Contains(s.log.String(), "pst_wrong") {
			t.Errorf("cookies %v", b.cookies)
		}
	})
}

func TestLogIn_LastsNoLongerThanItsToken(t *testing.T) {
	s := open(t, nil)
	made := s.must(201, "POST", "/admin/v1/tokens", `{"name":"night","role":"viewer","expires_in":"1h"}`)
	b := newBrowser(s)
	b.signIn(made.member("token"))
	expires, err := time.Parse(time.RFC3339, b.get("/admin/v1/me").member("expires_at"))
	if left := time.Until(expires); err != nil || left > time.Hour+time.Minute || left < 50*time.Minute {
		t.Errorf("it lasts %v, %v", left, err)
	}
	t.Run("it expires", func(t *testing.T) {
		s.desk.Catalog().SetClock(2 * time.Hour)
		b.get("/admin/v1/me").refused(problem.Unauthenticated)
		s.desk.Catalog().SetClock(0)
		has("role", "viewer")(b.get("/admin/v1/me"))
	})
	t.Run("it ends when the token is deleted", func(t *testing.T) {
		s.must(204, "DELETE", "/admin/v1/tokens/night", "")
		a := b.get("/admin/v1/me")
		a.refused(problem.Unauthenticated)
		if !strings.Contains(a.member("detail"), "was deleted") {
			t.Errorf("detail %s", a.body)
		}
	})
	t.Run("the configuration's token has sessions, which end when it is another one", func(t *testing.T) {
		b := newBrowser(s)
		b.signIn(configuredToken)
		has("name", "configured", "role", "admin", "session", "true")(b.get("/admin/v1/me"))
		other := sha256.Sum256([]byte("another-token"))
		before := s.server.tokens.configured
		s.server.tokens.configured = &other
		b.get("/admin/v1/me").refused(problem.Unauthenticated)
		s.server.tokens.configured = nil
		b.get("/admin/v1/me").refused(problem.Unauthenticated)
		s.server.tokens.configured = before
		has("role", "admin")(b.get("/admin/v1/me"))
	})
}

func TestLogIn_MakesRoom(t *testing.T) {
	s := open(t, nil)
	first := newBrowser(s)
	first.signIn(s.tokens[seckill.RoleViewer])
	for range maxSessions {
		newBrowser(s).signIn(s.tokens[seckill.RoleViewer])
	}
	list, err := s.store.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sessions := 0
	for i := range list {
		if list[i].Session {
			sessions++
		}
	}
	if sessions != maxSessions {
		t.Errorf("%d sessions", sessions)
	}
	first.get("/admin/v1/me").refused(problem.Unauthenticated)
}

// TestSession_IsForTheConsoleAlone sends what a page of another site, or of another name for this
// host, could make a browser send.
func TestSession_IsForTheConsoleAlone(t *testing.T) {
	s := open(t, func(c *Config, _ *Deps) { c.Hosts = []string{"ops.example.com"} })
	b := newBrowser(s)
	b.signIn(configuredToken)
	const merchants = "/admin/v1/merchants/m1"
	change := func(fields ...string) *answer { return b.sendBody("PUT", merchants, `{"name":"Shop"}`, fields...) }
	for name, fields := range map[string][]string{
		"without the console's field":   nil,
		"of another site":               {console1, "1", "Sec-Fetch-Site", "cross-site"},
		"of another host of this site":  {console1, "1", "Sec-Fetch-Site", "same-site"},
		"of another origin":             {console1, "1", "Origin", "https://evil.example"},
		"of a sandboxed frame":          {console1, "1", "Origin", "null"},
		"by a name that isn't ours":     {console1, "1", "Host", "evil.example"},
		"by a name with our address":    {console1, "1", "Host", "127.0.0.1.evil.example:80"},
		"by a name that ends like ours": {console1, "1", "Host", "evil-ops.example.com"},
	} {
		t.Run(name, func(t *testing.T) { change(fields...).refused(problem.CrossOrigin) })
	}
	if a := s.do("GET", merchants, ""); a.StatusCode != 404 {
		t.Fatalf("somebody has changed something: %s", a.body)
	}
	t.Run("a read by a name that isn't ours", func(t *testing.T) {
		b.send("GET", "/admin/v1/me", "Host", "evil.example").refused(problem.CrossOrigin)
		newBrowser(s).signIn(configuredToken, "Host", "evil.example").refused(problem.CrossOrigin)
	})
	t.Run("the console itself", func(t *testing.T) {
		for _, host := range []string{"", "localhost:8081", "console.localhost", "127.0.0.1:1", "[::1]:8081", "10.0.0.7", "OPS.example.com:443", "ops.example.com."} {
			fields := []string{console1, "1", "Sec-Fetch-Site", "same-origin"}
			if host != "" {
				fields = append(fields, "Host", host)
			}
			if a := change(fields...); a.StatusCode != 200 {
				t.Errorf("%q: %d %s", host, a.StatusCode, a.body)
			}
		}
	})
	t.Run("a token needs none of that", func(t *testing.T) {
		s.must(200, "PUT", merchants, `{"name":"Shop"}`, "Host", "evil.example")
	})
}

func TestSession_IsForTLSAloneBehindTLS(t *testing.T) {
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	s := open(t, func(c *Config, _ *Deps) { c.Proxies = loopback })
	b := newBrowser(s)
	b.signIn(configuredToken, "X-Forwarded-Proto", "https")
	if b.cookies[securePrefix+sessionName] == "" || len(b.cookies) != 1 {
		t.Fatalf("cookies %v", slices.Collect(maps.Keys(b.cookies)))
	}
	has("role", "admin")(b.send("GET", "/admin/v1/me", "X-Forwarded-Proto", "https"))
	b.get("/admin/v1/me").refused(problem.Unauthenticated) // without TLS, its cookie has another name
	t.Run("a stranger's word about the proxy is none", func(t *testing.T) {
		s := open(t, nil)
		b := newBrowser(s)
		b.signIn(configuredToken, "X-Forwarded-Proto", "https")
		if b.cookies[sessionName] == "" {
			t.Errorf("cookies %v", slices.Collect(maps.Keys(b.cookies)))
		}
	})
	t.Run("the listener's own TLS", func(t *testing.T) {
		s := open(t, func(c *Config, _ *Deps) { c.Login.Secure = true })
		b := newBrowser(s)
		if a := b.signIn(configuredToken); !a.Cookies()[0].Secure || b.cookies[securePrefix+sessionName] == "" {
			t.Errorf("cookies %v", a.Cookies())
		}
	})
}

// signInRows are those of POST /login.
func signInRows() []row {
	const path = "/login"
	nobody := []string{"Authorization", ""}
	forget := func(s *shop) { // the session, so that the lists of tokens stay as they are
		list, err := s.store.Tokens(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		for i := range list {
			if list[i].Session {
				s.must(204, "DELETE", "/admin/v1/tokens/"+string(list[i].ID), "")
			}
		}
	}
	return []row{
		{name: "a token", pattern: path, method: "POST", body: `{"token":"` + configuredToken + `"}`, fields: nobody, status: 200,
			want: has("name", "configured", "role", "admin", "session", "true"), after: forget},
		{name: "no token", pattern: path, method: "POST", body: `{}`, fields: nobody, status: 400, code: problem.InvalidRequest,
			want: wrong("token: is required")},
		{name: "a wrong token", pattern: path, method: "POST", body: `{"token":"pst_wrong"}`, fields: nobody, status: 401,
			code: problem.Unauthenticated},
		{name: "from another site", pattern: path, method: "POST", body: `{"token":"` + configuredToken + `"}`, status: 403,
			fields: []string{"Authorization", "", "Sec-Fetch-Site", "cross-site"}, code: problem.CrossOrigin},
	}
}
