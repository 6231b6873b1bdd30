package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"penstock/gateway/problem"
	"penstock/seckill"
)

// configuredName is the name of the token that the configuration sets. No other can be made under it.
const configuredName = "configured"

// tokens knows who holds which token.
type tokens struct {
	// Fixed after newTokens.
	store      Store
	configured *[32]byte // SHA-256; nil without one
	age, grace time.Duration

	known atomic.Pointer[tokenList]
}

// tokenList is what the store had at a moment.
type tokenList struct {
	tokens []seckill.Token
	read   time.Time
}

func newTokens(cfg Config, store Store) *tokens {
	t := &tokens{store: store, age: cfg.TokenAge, grace: cfg.TokenGrace}
	if cfg.Token != "" {
		hash := sha256.Sum256([]byte(cfg.Token))
		t.configured = &hash
	}
	return t
}

// identify returns who holds the token of an Authorization field. Every hash is compared, each in constant time.
func (t *tokens) identify(ctx context.Context, field string) (identity, error) {
	scheme, token, _ := strings.Cut(field, " ")
	token = strings.TrimLeft(token, " ")
	if !strings.EqualFold(scheme, "Bearer") || !isVisible(token, maxToken) {
		return identity{}, refuse(problem.Unauthenticated, "The request has no admin token: send Authorization: Bearer <token>.")
	}
	hash := sha256.Sum256([]byte(token))
	if t.configured != nil && subtle.ConstantTimeCompare(hash[:], t.configured[:]) == 1 {
		return identity{configuredName, seckill.RoleAdmin}, nil
	}
	list, err := t.list(ctx)
	if err != nil {
		return identity{}, failed("read admin tokens", err)
	}
	var who identity
	for i := range list {
		if subtle.ConstantTimeCompare(hash[:], list[i].Hash[:]) == 1 {
			who = identity{list[i].Name, list[i].Role}
		}
	}
	if who.role == roleNone {
		return identity{}, refuse(problem.Unauthenticated, "The admin token isn't known here, or was deleted.")
	}
	return who, nil
}

// list returns the tokens, as the store had them at most age ago; at most grace ago while it can't be asked.
func (t *tokens) list(ctx context.Context) ([]seckill.Token, error) {
	known, now := t.known.Load(), time.Now()
	if known != nil && now.Sub(known.read) < t.age {
		return known.tokens, nil
	}
	list, err := t.store.Tokens(ctx)
	if err != nil {
		if known != nil && now.Sub(known.read) < t.grace {
			return known.tokens, nil
		}
		return nil, err
	}
	t.known.Store(&tokenList{list, now})
	return list, nil
}

// forget makes the next identify ask the store.
func (t *tokens) forget() {
	if known := t.known.Load(); known != nil {
		t.known.CompareAndSwap(known, &tokenList{known.tokens, known.read.Add(-t.age)})
	}
}

// newSecret returns a prefix and 32 random bytes in base64url: what a person can copy with a double click.
func newSecret(prefix string) string {
	var raw [32]byte
	rand.Read(raw[:]) // never fails
	return prefix + base64.RawURLEncoding.EncodeToString(raw[:])
}

// newPaymentSecret returns 32 random bytes in hex: what every provider's form takes.
func newPaymentSecret() string {
	var raw [32]byte
	rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}

type tokenDoc struct {
	Name       string `json:"name"`
	Role       string `json:"role"`
	Token      string `json:"token,omitempty"` // once
	CreatedAt  *stamp `json:"created_at,omitempty"`
	Configured bool   `json:"configured,omitempty"` // set by the configuration: it can't be deleted here
}

// listTokens answers GET /admin/v1/tokens.
func (c *call) listTokens() error {
	list, err := c.server.deps.Store.Tokens(c.context())
	if err != nil {
		return failed("read admin tokens", err)
	}
	docs := make([]tokenDoc, 0, len(list)+1)
	if c.server.tokens.configured != nil {
		docs = append(docs, tokenDoc{Name: configuredName, Role: roleName(seckill.RoleAdmin), Configured: true})
	}
	slices.SortFunc(list, func(a, b seckill.Token) int { return cmp.Compare(a.Name, b.Name) })
	for i := range list {
		created := stamp(list[i].Created)
		docs = append(docs, tokenDoc{Name: list[i].Name, Role: roleName(list[i].Role), CreatedAt: &created})
	}
	return c.json(http.StatusOK, page[tokenDoc]{Items: docs})
}

// maxTokens bounds what every request is compared with.
const maxTokens = 1_000

// addToken answers POST /admin/v1/tokens.
func (c *call) addToken() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	name, roleText, reason := o.checked("name", seckill.CheckName), o.checked("role", checkRole), c.reason(o, m, false)
	o.end()
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	list, err := c.server.deps.Store.Tokens(ctx)
	if err != nil {
		return failed("read admin tokens", err)
	}
	if name == configuredName || slices.ContainsFunc(list, func(t seckill.Token) bool { return t.Name == name }) {
		return refuse(problem.AlreadyExists, "There is a token of this name: delete it first, or choose another name.")
	}
	if len(list) >= maxTokens {
		return refuse(problem.NotEditable, fmt.Sprintf("There are %d tokens already, the most there may be.", maxTokens))
	}
	secret := newSecret("pst_")
	token := seckill.Token{Name: name, Role: roleNamed(roleText), Hash: sha256.Sum256([]byte(secret)), Created: time.Now()}
	if err := c.server.deps.Store.PutToken(ctx, token, c.author(reason)); err != nil {
		return failed("keep the token", err)
	}
	c.server.tokens.forget()
	c.w.Header().Set("Location", "/admin/v1/tokens/"+name)
	return c.json(http.StatusCreated, tokenDoc{Name: name, Role: roleText, Token: secret})
}

// dropToken answers DELETE /admin/v1/tokens/{token}. The last way in stays.
func (c *call) dropToken() error {
	name := c.r.PathValue("token")
	m := new(mistakes)
	reason := c.reason(nil, m, false)
	if err := m.err(); err != nil {
		return err
	}
	if name == configuredName && c.server.tokens.configured != nil {
		return refuse(problem.NotEditable, "The configuration sets this token: take it out there.")
	}
	ctx, cancel := c.lasting()
	defer cancel()
	list, err := c.server.deps.Store.Tokens(ctx)
	if err != nil {
		return failed("read admin tokens", err)
	}
	others := slices.ContainsFunc(list, func(t seckill.Token) bool { return t.Name != name && t.Role == seckill.RoleAdmin })
	known := slices.ContainsFunc(list, func(t seckill.Token) bool { return t.Name == name })
	if known && !others && c.server.tokens.configured == nil {
		return refuse(problem.NotEditable, "This is the last token with the role admin: make another one first.")
	}
	err = c.server.deps.Store.DropToken(ctx, name, c.author(reason))
	switch {
	case errors.Is(err, seckill.ErrNotFound):
		return refuse(problem.UnknownToken, "")
	case err != nil:
		return failed("delete the token", err)
	}
	c.server.tokens.forget()
	return c.none()
}
