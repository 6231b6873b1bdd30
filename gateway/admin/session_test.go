package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock/penstock/gateway/admin/login"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// identityProvider is a small OpenID provider. It logs everybody in as ann, and returns the claims
// that a test sets.
type identityProvider struct {
	t    *testing.T
	http *httptest.Server
	key  *ecdsa.PrivateKey

	mu        sync.Mutex
	challenge map[string]url.Values // by code
	claims    map[string]any        // overrides the right ones
	away      bool
	foreign   bool // signs with a key that isn't its own
}

func newIdentityProvider(t *testing.T) *identityProvider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &identityProvider{t: t, key: key, challenge: make(map[string]url.Values)}
	p.http = httptest.NewServer(p)
	t.Cleanup(p.http.Close)
	return p
}

// become changes the provider's behaviour from now on.
func (p *identityProvider) become(away, foreign bool, claims map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away, p.foreign, p.claims = away, foreign, claims
}

// ServeHTTP implements http.Handler.
func (p *identityProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		panic(http.ErrAbortHandler)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	answer := func(status int, doc map[string]any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(doc); err != nil {
			p.t.Error(err)
		}
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		answer(200, map[string]any{
			"issuer": p.http.URL, "authorization_endpoint": p.http.URL + "/authorize", "token_endpoint": p.http.URL + "/token",
			"jwks_uri": p.http.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	case "/keys":
		point, err := p.key.PublicKey.Bytes()
		if err != nil {
			p.t.Error(err)
		}
		answer(200, map[string]any{"keys": []any{map[string]any{
			"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": b64(point[1:33]), "y": b64(point[33:]),
		}}})
	case "/authorize":
		code := fmt.Sprint("code-", len(p.challenge))
		p.challenge[code] = r.URL.Query()
		back := url.Values{"code": {code}, "state": {r.URL.Query().Get("state")}}
		http.Redirect(w, r, r.URL.Query().Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
	case "/token":
		asked := p.challenge[r.FormValue("code")]
		delete(p.challenge, r.FormValue("code"))
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if asked == nil || asked.Get("code_challenge_method") != "S256" || b64(sum[:]) != asked.Get("code_challenge") {
			answer(400, map[string]any{"error": "invalid_grant"})
			return
		}
		answer(200, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": p.idToken(asked)})
	default:
		http.NotFound(w, r)
	}
}

// idToken signs an ID token. It is called with mu.
func (p *identityProvider) idToken(asked url.Values) string {
	now := time.Now()
	claims := map[string]any{
		"iss": p.http.URL, "aud": asked.Get("client_id"), "sub": "0815", "nonce": asked.Get("nonce"), "email": "ann@example.com",
		"groups": []string{"staff", "night"}, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	maps.Copy(claims, p.claims)
	text, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(`{"alg":"ES256","kid":"1","typ":"JWT"}`)) + "." + b64(text)
	key := p.key
	if p.foreign {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			p.t.Fatal(err)
		}
	}
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		p.t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + b64(signature)
}

// browser keeps cookies, and follows no redirect by itself.
type browser struct {
	s       *shop
	cookies map[string]string
}

func (b *browser) get(target string) *answer { return b.send(http.MethodGet, target) }

func (b *browser) send(method, target string, fields ...string) *answer {
	return b.sendBody(method, target, "", fields...)
}

func (b *browser) sendBody(method, target, body string, fields ...string) *answer {
	b.s.t.Helper()
	r := b.s.request(method, strings.TrimPrefix(target, b.s.url), body, append(fields, "Authorization", "")...)
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	a := b.s.send(r)
	for _, cookie := range a.Cookies() {
		if cookie.MaxAge < 0 {
			delete(b.cookies, cookie.Name)
			continue
		}
		if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" {
			b.s.t.Errorf("a loose cookie: %s", cookie)
		}
		b.cookies[cookie.Name] = cookie.Value
	}
	return a
}

// authorize asks the provider to log ann in, and returns the URL of the redirect.
func (b *browser) authorize(target string) string {
	b.s.t.Helper()
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r, err := http.NewRequestWithContext(b.s.t.Context(), http.MethodGet, target, nil)
	if err != nil {
		b.s.t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		b.s.t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		b.s.t.Fatal(err)
	}
	return response.Header.Get("Location")
}

// openToPeople opens a shop whose people log in by a provider.
func openToPeople(t *testing.T) (*shop, *identityProvider) {
	t.Helper()
	p := newIdentityProvider(t)
	s := open(t, func(c *Config, _ *Deps) {
		provider, err := login.New(login.Config{
			Issuer: p.http.URL, ClientID: "penstock", ClientSecret: "hush", RedirectURL: "http://127.0.0.1/login/callback",
			GroupsClaim: "groups", Scopes: []string{"email"},
		})
		if err != nil {
			t.Fatal(err)
		}
		c.Login = LoginConfig{Provider: provider, Life: time.Hour, GroupRoles: []GroupRole{
			{"night", seckill.RoleOperator, ""}, {"shop", seckill.RoleAdmin, "m1"}, {"books", seckill.RoleFinance, ""},
		}}
	})
	return s, p
}

// pathOf returns a URL without its host: the redirect URL of the tests has another host than the
// shop.
func pathOf(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return "/unreadable"
	}
	return u.RequestURI()
}

func TestLogin_LetsPeopleIn(t *testing.T) {
	s, p := openToPeople(t)
	b := &browser{s, make(map[string]string)}
	a := b.get("/login?next=/openapi.yaml")
	target, err := url.Parse(a.Header.Get("Location"))
	if err != nil || a.StatusCode != http.StatusSeeOther || target.Query().Get("code_challenge_method") != "S256" ||
		target.Query().Get("nonce") == "" || target.Query().Get("scope") != "openid email" {
		t.Fatalf("%d to %v: %s", a.StatusCode, target, a.body)
	}
	back := pathOf(b.authorize(target.String()))
	a = b.get(back)
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/openapi.yaml" {
		t.Fatalf("%d to %s: %s", a.StatusCode, a.Header.Get("Location"), a.body)
	}
	has("name", "ann@example.com", "role", "operator", "session", "true")(b.get("/admin/v1/me"))
	t.Run("the login and what follows name the person, the session and the address", func(t *testing.T) {
		id := b.get("/admin/v1/me").member("token_id")
		has("kind", "token", "actor", "ann@example.com", "token_id", id, "address", "127.0.0.1", "reason", "login as 0815")(
			s.must(200, "GET", "/admin/v1/changes/"+s.last(), ""))
		a := s.must(200, "GET", "/admin/v1/tokens", "")
		if !strings.Contains(a.body, `"session":true`) || strings.Contains(a.body, b.cookies[sessionName]) {
			t.Errorf("tokens: %s", a.body)
		}
	})
	t.Run("a session has its role and no more", func(t *testing.T) {
		if a := b.get("/admin/v1/tokens"); a.StatusCode != 403 {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
	})
	t.Run("another site can't use it", func(t *testing.T) {
		a := b.send("POST", "/logout", "Sec-Fetch-Site", "cross-site", "Origin", "http://evil.example")
		a.refused(problem.CrossOrigin)
	})
	t.Run("a callback works once, and in its browser", func(t *testing.T) {
		b.get(back).refused(problem.Unauthenticated)
		other := &browser{s, make(map[string]string)}
		begun := other.get("/login")
		stolen := pathOf(other.authorize(begun.Header.Get("Location")))
		(&browser{s, make(map[string]string)}).get(stolen).refused(problem.Unauthenticated)
	})
	t.Run("a session ends with a logout, everywhere", func(t *testing.T) {
		secret := b.cookies[sessionName]
		if a := b.send("POST", "/logout"); a.StatusCode != 204 || len(b.cookies) != 0 {
			t.Errorf("%d %s, cookies %v", a.StatusCode, a.body, b.cookies)
		}
		b.cookies[sessionName] = secret
		b.get("/admin/v1/me").refused(problem.Unauthenticated)
		delete(b.cookies, sessionName)
	})
	t.Run("a session expires", func(t *testing.T) {
		if a := b.again(); a.StatusCode != http.StatusSeeOther {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		s.desk.Catalog().SetClock(2 * time.Hour)
		a := b.get("/admin/v1/me")
		a.refused(problem.Unauthenticated)
		if detail := a.member("detail"); !strings.HasPrefix(detail, "The session of ann@example.com expired at ") {
			t.Errorf("detail %q", detail)
		}
		s.desk.Catalog().SetClock(0)
	})
	t.Run("no group, no role; a bound one is bound", func(t *testing.T) {
		p.become(false, false, map[string]any{"groups": []string{"staff"}})
		b.again().refused(problem.Forbidden)
		p.become(false, false, map[string]any{"groups": "shop", "email": "eve@example.com", "email_verified": false, "preferred_username": "eve"})
		b.again()
		has("name", "eve", "role", "admin", "merchant", "m1")(b.get("/admin/v1/me"))
	})
	t.Run("machine tokens stay", func(t *testing.T) {
		s.must(200, "GET", "/admin/v1/merchants", "")
		s.must(403, "POST", "/logout", "").refused(problem.Forbidden)
	})
}

// again logs in once more.
func (b *browser) again() *answer {
	b.s.t.Helper()
	a := b.get("/login")
	if a.StatusCode != http.StatusSeeOther {
		return a
	}
	return b.get(pathOf(b.authorize(a.Header.Get("Location"))))
}

// TestLogin_DoesNotTrustTheProvider: a provider that is away, lies, or has a wrong clock gives
// nobody a session. Each case has its own message.
func TestLogin_DoesNotTrustTheProvider(t *testing.T) {
	s, p := openToPeople(t)
	before := s.lastChange()
	now := time.Now()
	off := func(d time.Duration) map[string]any {
		return map[string]any{"iat": now.Add(d).Unix(), "exp": now.Add(d + 5*time.Minute).Unix()}
	}
	for _, c := range []struct {
		name    string
		foreign bool
		claims  map[string]any
		detail  string
	}{
		{"lies about the nonce", false, map[string]any{"nonce": "another"}, "its nonce is not the one that was sent"},
		{"has no nonce", false, map[string]any{"nonce": nil}, "its nonce is not the one that was sent"},
		{"is 10 minutes ahead", false, off(10*time.Minute + 30*time.Second), "clock is 10m"},
		{"is 10 minutes behind", false, off(-10*time.Minute - 30*time.Second), "behind this machine's; at most 2m0s"},
		{"gives an expired token", false, map[string]any{"exp": now.Add(-3 * time.Minute).Unix()}, "ID token expired at"},
		{"is another issuer", false, map[string]any{"iss": "https://evil.example"}, "ID token is not valid"},
		{"means another client", false, map[string]any{"aud": "another"}, "ID token is not valid"},
		{"signs with a key that isn't its own", true, nil, "ID token is not valid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.become(false, c.foreign, c.claims)
			b := &browser{s, make(map[string]string)}
			a := b.again()
			a.refused(problem.Unauthenticated)
			if detail := a.member("detail"); a.StatusCode != 401 || !strings.Contains(detail, c.detail) {
				t.Errorf("%d, detail %q, want %q", a.StatusCode, detail, c.detail)
			}
			if len(b.cookies) != 0 {
				t.Errorf("cookies %v", slices.Collect(maps.Keys(b.cookies)))
			}
		})
	}
	t.Run("refuses", func(t *testing.T) {
		b := &browser{s, make(map[string]string)}
		a := b.get("/login/callback?error=access_denied&error_description=not+you")
		a.refused(problem.Unauthenticated)
		if !strings.Contains(a.member("detail"), "access_denied: not you") {
			t.Errorf("detail %s", a.body)
		}
	})
	t.Run("goes away in the middle", func(t *testing.T) {
		p.become(false, false, nil)
		b := &browser{s, make(map[string]string)}
		back := pathOf(b.authorize(b.get("/login").Header.Get("Location")))
		p.become(true, false, nil)
		a := b.get(back)
		a.refused(problem.Unavailable)
		if a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
	})
	if s.lastChange() != before {
		t.Error("somebody got a session")
	}
}

// TestLogin_WithoutItsProvider: tokens work while the provider is away. The provider is used again
// when it is back.
func TestLogin_WithoutItsProvider(t *testing.T) {
	s, p := openToPeople(t)
	p.become(true, false, nil)
	b := &browser{s, make(map[string]string)}
	b.again().refused(problem.Unavailable)
	s.must(200, "GET", "/admin/v1/me", "")
	p.become(false, false, nil)
	deadline := time.After(10 * time.Second)
	for b.again().StatusCode != http.StatusSeeOther {
		select {
		case <-deadline:
			t.Fatal("the provider is back, and nobody is let in")
		case <-time.After(50 * time.Millisecond):
		}
	}
	has("name", "ann@example.com")(b.get("/admin/v1/me"))
	none := open(t, nil)
	none.must(404, "GET", "/login", "").refused(problem.NotFound)
	none.must(404, "GET", "/login/callback", "").refused(problem.NotFound)
}

func TestParseGroupRole(t *testing.T) {
	for text, want := range map[string]GroupRole{
		"night=operator":      {"night", seckill.RoleOperator, ""},
		"cn=a,ou=b=finance":   {"cn=a,ou=b", seckill.RoleFinance, ""},
		"shop-42=viewer@acme": {"shop-42", seckill.RoleViewer, "acme"},
		"x":                   {}, "=admin": {}, "x=root": {}, "x=admin@": {}, "x=admin@a/b": {},
	} {
		if got, err := ParseGroupRole(text); got != want || (err == nil) != (want != GroupRole{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	c := LoginConfig{GroupRoles: []GroupRole{
		{"a", seckill.RoleViewer, ""}, {"b", seckill.RoleAdmin, "m1"}, {"c", seckill.RoleOperator, ""}, {"d", seckill.RoleFinance, ""},
	}}
	for groups, want := range map[string]seckill.Role{
		"a": seckill.RoleViewer, "b": seckill.RoleAdmin, "b a": seckill.RoleViewer, "c d": seckill.RoleOperator, "x": 0,
	} {
		if got, _ := c.grant(strings.Fields(groups)); got.Role != want {
			t.Errorf("%s: %+v", groups, got)
		}
	}
}

func TestLocalPath(t *testing.T) {
	for next, want := range map[string]string{
		"/console?x=1": "/console?x=1", "": "/", "//evil.example": "/", "https://evil.example": "/", "/\\evil.example": "/", "/a\nb": "/",
	} {
		if got := localPath(next); got != want {
			t.Errorf("%q: %q", next, got)
		}
	}
}

func loginRows() []row {
	const begin, end = "/login", "/login/callback"
	fields := []string{"Authorization", "", "Cookie", ""} // of a browser; the row before fills it in
	var back string
	var before LoginConfig
	with := func(groups ...string) func(*shop) {
		return func(s *shop) {
			p := newIdentityProvider(s.t)
			provider, err := login.New(login.Config{
				Issuer: p.http.URL, ClientID: "penstock", RedirectURL: "http://127.0.0.1/login/callback", GroupsClaim: "groups",
			})
			if err != nil {
				s.t.Fatal(err)
			}
			before = s.server.cfg.Login
			s.server.cfg.Login = LoginConfig{Provider: provider, Life: time.Hour, GroupRoles: []GroupRole{{"night", seckill.RoleViewer, ""}}}
			p.become(false, false, map[string]any{"groups": groups})
			b := &browser{s, make(map[string]string)}
			back = pathOf(b.authorize(b.get("/login").Header.Get("Location")))
			fields[3] = attemptName + "=" + b.cookies[attemptName]
		}
	}
	without := func(s *shop) { s.server.cfg.Login = before }
	callback := func([]int64) (path, body string) { return back, "" }
	forget := func(s *shop) { // the session, so that the lists of tokens stay as they are
		without(s)
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
		{name: "begun", pattern: begin, method: "GET", fields: fields[:2], status: 303, before: with(), after: without},
		{name: "nowhere", pattern: begin, method: "GET", fields: fields[:2], status: 404, code: problem.NotFound},
		{name: "come back", pattern: end, method: "GET", fields: fields, status: 303, before: with("night"), after: forget, place: callback},
		{name: "without a role", pattern: end, method: "GET", fields: fields, status: 403, code: problem.Forbidden, before: with("day"),
			after: without, place: callback},
		{name: "in another browser", pattern: end, method: "GET", fields: fields[:2], status: 401, code: problem.Unauthenticated,
			before: with("night"), after: without, place: callback},
		{name: "from nowhere", pattern: end, method: "GET", fields: fields[:2], status: 404, code: problem.NotFound},
		{name: "a token", pattern: "/logout", method: "POST", status: 403, code: problem.Forbidden},
		{name: "a session", pattern: "/logout", method: "POST", status: 204, fields: fields, after: without,
			before: func(s *shop) {
				with("night")(s)
				b := &browser{s, make(map[string]string)}
				b.again()
				fields[3] = sessionName + "=" + b.cookies[sessionName]
			}},
		{name: "a token", pattern: "/admin/v1/me", method: "GET", status: 200, want: has("name", "configured", "role", "admin", "session", "false")},
	}
}
