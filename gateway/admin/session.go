package admin

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway/admin/login"
	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// LoginConfig configures the login of people: by a token, and by OpenID Connect if there is a
// provider.
type LoginConfig struct {
	Provider   *login.Provider
	GroupRoles []GroupRole
	// Life is how long a session lasts; above zero.
	Life time.Duration
	// Secure means that browsers reach the listener over TLS: cookies are restricted to TLS then.
	Secure bool
}

// GroupRole gives a role to everybody of a group.
type GroupRole struct {
	Group    string
	Role     seckill.Role
	Merchant seckill.MerchantID // "" is all of them
}

// ParseGroupRole reads group=role or group=role@merchant.
func ParseGroupRole(text string) (GroupRole, error) {
	at := strings.LastIndexByte(text, '=')
	if at <= 0 {
		return GroupRole{}, fmt.Errorf("%q is not like group=role or group=role@merchant", text)
	}
	role, merchant, bound := strings.Cut(text[at+1:], "@")
	g := GroupRole{Group: text[:at], Role: roleNamed(role), Merchant: seckill.MerchantID(merchant)}
	if g.Role == roleNone {
		return GroupRole{}, fmt.Errorf("%q: the role %s", text, checkRole(role))
	}
	if wrong := seckill.CheckName(merchant); bound && wrong != "" {
		return GroupRole{}, fmt.Errorf("%q: the merchant %s", text, wrong)
	}
	return g, nil
}

// grant returns the strongest grant of a person's groups. A grant for all merchants is stronger
// than one for a single merchant.
func (c *LoginConfig) grant(groups []string) (best GroupRole, ok bool) {
	power := func(g *GroupRole) int {
		p := int(g.Role)
		if g.Role == seckill.RoleFinance { // it includes less than an operator
			p = int(seckill.RoleSupport)
		}
		if g.Merchant == "" {
			p += 100
		}
		return p
	}
	for i := range c.GroupRoles {
		if g := &c.GroupRoles[i]; slices.Contains(groups, g.Group) && (!ok || power(g) > power(&best)) {
			best, ok = *g, true
		}
	}
	return best, ok
}

// The names of cookies. With TLS they have a prefix that makes browsers accept them from this host
// only.
const (
	sessionName  = "penstock_session"
	attemptName  = "penstock_login"
	securePrefix = "__Host-"
)

// attemptLife is how long a person may take to log in.
const attemptLife = 10 * time.Minute

// sessionCookie returns the session of a browser's cookie, or "".
func (c *call) sessionCookie() string {
	if cookie, err := c.r.Cookie(c.cookieName(sessionName)); err == nil {
		return cookie.Value
	}
	return ""
}

func (c *call) cookieName(name string) string {
	if c.secure() {
		return securePrefix + name
	}
	return name
}

// setCookie sets a cookie for life, and deletes it if that is 0. It is Lax: a browser sends it when
// it comes back from the provider, and not with requests that other sites cause.
func (c *call) setCookie(name, value string, life time.Duration) {
	cookie := &http.Cookie{
		Name: c.cookieName(name), Value: value, Path: "/", MaxAge: int(life / time.Second), HttpOnly: true,
		Secure: c.secure(), SameSite: http.SameSiteLaxMode,
	}
	if life == 0 {
		cookie.MaxAge = -1
	}
	http.SetCookie(c.w, cookie)
}

// attempt is the state of a login in progress, which the browser keeps.
type attempt struct {
	login.Attempt
	Next string // where to go afterwards
}

// beginLogin answers GET /login: the browser goes to the identity provider.
func (c *call) beginLogin() error {
	provider := c.server.cfg.Login.Provider
	if provider == nil {
		return refuse(problem.NotFound, "People can't log in here: the settings name no identity provider (oidc-issuer). Use a token.")
	}
	begun, target, err := provider.Begin(c.context())
	if err != nil {
		return c.loginFailed(err)
	}
	text, err := json.Marshal(attempt{begun, localPath(c.r.URL.Query().Get("next"))})
	if err != nil {
		return fmt.Errorf("keep the login: %w", err)
	}
	c.setCookie(attemptName, base64.RawURLEncoding.EncodeToString(text), attemptLife)
	return c.redirect(target)
}

// localPath returns path if it is one of this listener, and / otherwise: the login must not
// redirect to another site.
func localPath(path string) string {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsFunc(path, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || r == '\\'
	}) {
		return "/"
	}
	return path
}

func (c *call) redirect(target string) error {
	c.w.Header().Set("Location", target)
	c.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// loginFailed is the answer to a login that can't go on.
func (c *call) loginFailed(err error) error {
	if r, ok := errors.AsType[*login.Refusal](err); ok {
		c.server.quiet.write(kindTokens, slog.LevelWarn, "login refused", "client", c.address(), "reason", r.Detail, "request_id", c.id())
		return refuse(problem.Unauthenticated, r.Detail)
	}
	c.server.quiet.write(kindUnavailable, slog.LevelWarn, "the identity provider can't be asked", "request_id", c.id(), "err", err)
	return &refusal{problem.Problem{
		Code: problem.Unavailable, RetryAfter: 5 * time.Second,
		Detail: "The identity provider can't be asked now. Try again, or use a token.",
	}}
}

// endLogin answers GET /login/callback: the browser comes back from the identity provider, and gets
// a session.
func (c *call) endLogin() error {
	cfg := &c.server.cfg.Login
	if cfg.Provider == nil {
		return refuse(problem.NotFound, "People can't log in here: the settings name no identity provider (oidc-issuer). Use a token.")
	}
	c.setCookie(attemptName, "", 0) // an attempt is used once
	query := c.r.URL.Query()
	if query.Get("error") != "" {
		return c.loginFailed(&login.Refusal{Detail: "The identity provider refused the login: " + c.shownQuery("error", "error_description")})
	}
	begun := c.attempt()
	now := time.Now()
	person, err := cfg.Provider.Finish(c.context(), begun.Attempt, query.Get("state"), query.Get("code"), now)
	if err != nil {
		return c.loginFailed(err)
	}
	grant, ok := cfg.grant(person.Groups)
	if !ok {
		return refuse(problem.Forbidden, fmt.Sprintf("%s is known to the identity provider, but none of the groups has a role here (oidc-roles).",
			person.Name))
	}
	ctx, cancel := c.lasting()
	defer cancel()
	if err := c.openSession(ctx, &person, grant); err != nil {
		return err
	}
	return c.redirect(cmp.Or(begun.Next, "/"))
}

// shownQuery returns these parameters of the query, made safe to show.
func (c *call) shownQuery(names ...string) string {
	var shown []string
	for _, name := range names {
		if text := c.r.URL.Query().Get(name); text != "" && len(text) < maxReason && problem.IllegibleText(text) == "" {
			shown = append(shown, text)
		}
	}
	return strings.Join(shown, ": ")
}

// attempt returns the login that this browser has begun; the zero value if there is none.
func (c *call) attempt() (a attempt) {
	cookie, err := c.r.Cookie(c.cookieName(attemptName))
	if err != nil {
		return attempt{}
	}
	text, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil || json.Unmarshal(text, &a) != nil {
		return attempt{}
	}
	a.Next = localPath(a.Next)
	return a
}

// openSession gives a person a session: a token in a cookie, of which the store has the hash.
func (c *call) openSession(ctx context.Context, person *login.Person, grant GroupRole) error {
	life := c.server.cfg.Login.Life
	secret := newSecret("pss_")
	token := newToken(secret)
	token.Name, token.Role, token.Merchant, token.Session = person.Name, grant.Role, grant.Merchant, true
	by := seckill.Author{Actor: person.Name, Token: string(token.ID), Address: c.address(), Reason: "login as " + person.Subject}
	if _, err := c.server.keepToken(ctx, token, life, by); err != nil {
		return err
	}
	c.setCookie(sessionName, secret, life)
	return nil
}

// logout answers POST /logout: the session ends, here and on every node.
func (c *call) logout() error {
	c.setCookie(sessionName, "", 0)
	if !c.token.session {
		return refuse(problem.Forbidden, "This is a token, not a session: delete the token to end it.")
	}
	ctx, cancel := c.lasting()
	defer cancel()
	err := c.server.deps.Store.DropToken(ctx, c.token.id, c.author("logout"))
	if err != nil && !errors.Is(err, seckill.ErrNotFound) {
		return failed("end the session", err)
	}
	c.server.tokens.forget()
	return c.none()
}

type holderDoc struct {
	Name      string             `json:"name"`
	TokenID   seckill.TokenID    `json:"token_id"`
	Role      string             `json:"role"`
	Merchant  seckill.MerchantID `json:"merchant,omitempty"`
	Session   bool               `json:"session"`
	ExpiresAt *stamp             `json:"expires_at"` // null: never
}

// getHolder answers GET /admin/v1/me.
func (c *call) getHolder() error { return c.json(http.StatusOK, newHolderDoc(&c.token)) }

func newHolderDoc(who *identity) holderDoc {
	return holderDoc{who.name, who.id, roleName(who.role), who.merchant, who.session, stampOf(who.expires)}
}
