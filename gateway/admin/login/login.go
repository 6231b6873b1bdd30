// Package login lets people in by OpenID Connect: the authorization code flow with PKCE (RFC 7636).
//
//	p, err := login.New(cfg)
//	attempt, url, err := p.Begin(ctx)                 // keep the attempt in the browser, send it to url
//	person, err := p.Finish(ctx, attempt, code, now)  // when it comes back with a code
//
// Nothing is asked of the provider before the first login: a process can start while the provider
// is away. Its endpoints are kept after they were found once. Its keys are read again when it
// changes them. A *Refusal tells the person what is wrong with the login; any other error means
// that the provider can't be asked now. A Provider is safe for concurrent use.
package login

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Config names the provider, and this client at the provider.
type Config struct {
	Issuer       string // its URL; the discovery document is below it
	ClientID     string
	ClientSecret string // empty for a public client, which uses only PKCE
	RedirectURL  string // the URL of this listener to which the provider sends people back
	GroupsClaim  string // the claim of the ID token that lists a person's groups
	Scopes       []string
}

// maxSkew is the largest allowed difference between the provider's clock and this machine's. An ID
// token is made just before it arrives.
const maxSkew = 2 * time.Minute

// Bounds of a request to the provider.
const (
	timeout    = 5 * time.Second
	retryAfter = time.Second // after the endpoints could not be read
)

// Validate checks the values. Each error begins with the key of a setting.
func (c *Config) Validate() error {
	var errs []error
	for _, v := range []struct{ key, text string }{{"oidc-issuer", c.Issuer}, {"oidc-redirect-url", c.RedirectURL}} {
		u, err := url.Parse(v.text)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
			u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
			errs = append(errs, fmt.Errorf("%s: %q is not a URL like https://login.example.com (http only on loopback)", v.key, v.text))
		}
	}
	if c.ClientID == "" {
		errs = append(errs, errors.New("oidc-client-id: is required with oidc-issuer"))
	}
	if c.GroupsClaim == "" {
		errs = append(errs, errors.New("oidc-groups-claim: is required with oidc-issuer"))
	}
	return errors.Join(errs...)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Refusal says why a login failed, to the person who tried it.
type Refusal struct{ Detail string }

// Error implements error.
func (r *Refusal) Error() string { return r.Detail }

func refuse(format string, args ...any) error { return &Refusal{fmt.Sprintf(format, args...)} }

// Attempt is a login that has begun. The browser that began it must keep it, and nobody else.
type Attempt struct {
	State    string
	Nonce    string
	Verifier string
}

// Person is a person who has logged in.
type Person struct {
	Subject string // the provider's name for the person, which never changes
	Name    string // for people: an e-mail address, a user name, or the subject
	Groups  []string
}

// Provider is an OpenID provider.
type Provider struct {
	cfg    Config
	client *http.Client

	mu      sync.Mutex
	found   *oidc.Provider // nil before the provider answered; guarded by mu
	failed  error          // the error of the last attempt, until retryAt; guarded by mu
	retryAt time.Time      // guarded by mu
}

// New makes a provider. It asks nothing yet.
func New(cfg Config) (*Provider, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Provider{cfg: cfg, client: &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}}, nil
}

// discover finds the provider's endpoints.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	found, failed, wait := p.found, p.failed, time.Now().Before(p.retryAt)
	p.mu.Unlock()
	switch {
	case found != nil:
		return found, nil
	case wait:
		return nil, failed
	}
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.cfg.Issuer)
	if err != nil {
		err = fmt.Errorf("ask the identity provider %s for its endpoints: %w", p.cfg.Issuer, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found, p.failed, p.retryAt = found, err, time.Now().Add(retryAfter)
	return found, err
}

func (p *Provider) oauth(found *oidc.Provider) *oauth2.Config {
	return &oauth2.Config{
		ClientID: p.cfg.ClientID, ClientSecret: p.cfg.ClientSecret, RedirectURL: p.cfg.RedirectURL, Endpoint: found.Endpoint(),
		Scopes: append([]string{oidc.ScopeOpenID}, p.cfg.Scopes...),
	}
}

// Begin begins a login, and returns the URL to send the browser to.
func (p *Provider) Begin(ctx context.Context) (Attempt, string, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return Attempt{}, "", err
	}
	a := Attempt{State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier()}
	return a, p.oauth(found).AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), nil
}

func random() string {
	raw := make([]byte, 24)
	rand.Read(raw) // never fails
	return base64.RawURLEncoding.EncodeToString(raw)
}

// Finish ends a login: it sends the code to the provider, and checks the ID token in the answer.
func (p *Provider) Finish(ctx context.Context, a Attempt, state, code string, now time.Time) (Person, error) {
	if a.State == "" || subtle.ConstantTimeCompare([]byte(a.State), []byte(state)) != 1 {
		return Person{}, refuse("This login was not begun in this browser, or it was begun too long ago. Begin it again.")
	}
	found, err := p.discover(ctx)
	if err != nil {
		return Person{}, err
	}
	ctx = oidc.ClientContext(ctx, p.client)
	token, err := p.oauth(found).Exchange(ctx, code, oauth2.VerifierOption(a.Verifier))
	if failed, ok := errors.AsType[*oauth2.RetrieveError](err); ok && failed.Response.StatusCode < 500 {
		return Person{}, refuse("The identity provider doesn't take the code of this login (%s). Begin it again.", legible(failed.ErrorCode))
	}
	if err != nil {
		return Person{}, fmt.Errorf("ask the identity provider for a token: %w", err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return Person{}, refuse("The identity provider's answer has no ID token.")
	}
	return p.check(ctx, found, raw, a.Nonce, now)
}

// check checks an ID token, and reads its person. The times are checked here, because go-oidc
// doesn't say by how much a clock is wrong.
func (p *Provider) check(ctx context.Context, found *oidc.Provider, raw, nonce string, now time.Time) (Person, error) {
	verifier := found.Verifier(&oidc.Config{ClientID: p.cfg.ClientID, SkipExpiryCheck: true})
	token, err := verifier.Verify(ctx, raw)
	if _, away := errors.AsType[*url.Error](err); away {
		return Person{}, fmt.Errorf("ask the identity provider for its keys: %w", err)
	}
	if err != nil {
		return Person{}, refuse("The identity provider's ID token is not valid: %s.", legible(err.Error()))
	}
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce)) != 1 {
		return Person{}, refuse("The identity provider's ID token belongs to another login: its nonce is not the one that was sent.")
	}
	if skew := token.IssuedAt.Sub(now).Round(time.Second); skew > maxSkew || skew < -maxSkew {
		whose := "ahead of"
		if skew < 0 {
			whose, skew = "behind", -skew
		}
		return Person{}, refuse("The identity provider's clock is %v %s this machine's; at most %v are allowed. "+
			"Set both clocks by NTP, then log in again.", skew, whose, maxSkew)
	}
	if now.After(token.Expiry.Add(maxSkew)) {
		return Person{}, refuse("The identity provider's ID token expired at %s.", token.Expiry.UTC().Format(time.RFC3339))
	}
	claims := make(map[string]any)
	if err := token.Claims(&claims); err != nil {
		return Person{}, refuse("The identity provider's ID token can't be read: %s.", legible(err.Error()))
	}
	person := Person{Subject: token.Subject, Name: token.Subject}
	for _, claim := range []string{"email", "preferred_username"} {
		if text, ok := claims[claim].(string); ok && text != "" && (claim != "email" || claims["email_verified"] != false) {
			person.Name = text
			break
		}
	}
	person.Name = legible(person.Name)
	switch groups := claims[p.cfg.GroupsClaim].(type) {
	case string:
		person.Groups = []string{groups}
	case []any:
		for _, group := range groups {
			if text, ok := group.(string); ok {
				person.Groups = append(person.Groups, text)
			}
		}
	}
	return person, nil
}

// maxLegible is how much of a text from outside is shown, in bytes.
const maxLegible = 120

// legible makes a text from outside safe to show and log.
func legible(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, text)
	if len(text) > maxLegible {
		text = strings.ToValidUTF8(text[:maxLegible], "") + "…"
	}
	return text
}
