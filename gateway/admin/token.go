package admin

import (
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
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// configuredName is the name and the id of the token in the configuration. No other token can have
// it.
const configuredName = "configured"

// tokens finds the holders of tokens.
type tokens struct {
	// Fixed after newTokens.
	store      Store
	now        func() time.Time // the database's
	configured *[32]byte        // SHA-256; nil without one
	age, grace time.Duration

	known atomic.Pointer[tokenList]

	mu   sync.Mutex
	used map[seckill.TokenID]time.Time // guarded by mu; the minute of the last use, by this node
}

// tokenList is the store's list of tokens at a moment.
type tokenList struct {
	tokens []seckill.Token
	read   time.Time
}

func newTokens(cfg Config, store Store, now func() time.Time) *tokens {
	t := &tokens{store: store, now: now, age: cfg.TokenAge, grace: cfg.TokenGrace, used: make(map[seckill.TokenID]time.Time)}
	if cfg.Token != "" {
		hash := sha256.Sum256([]byte(cfg.Token))
		t.configured = &hash
	}
	return t
}

// errUnknownToken is the answer to an unknown token: a guess, or one that was deleted.
var errUnknownToken = errors.New("unknown token")

// bearer returns the token of an Authorization field, or a session's cookie if there is no field;
// "" if there is neither.
func bearer(field, cookie string) string {
	if field == "" {
		return cookie
	}
	scheme, rest, _ := strings.Cut(field, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimLeft(rest, " ")
}

// identify returns the holder of the token with a hash. Every hash is compared, each in constant
// time.
func (t *tokens) identify(ctx context.Context, hash [32]byte) (identity, error) {
	if t.configured != nil && subtle.ConstantTimeCompare(hash[:], t.configured[:]) == 1 {
		t.use(ctx, configuredName)
		return identity{id: configuredName, name: configuredName, role: seckill.RoleAdmin}, nil
	}
	list, err := t.list(ctx)
	if err != nil {
		return identity{}, failed("read admin tokens", err)
	}
	var found *seckill.Token
	for i := range list {
		if subtle.ConstantTimeCompare(hash[:], list[i].Hash[:]) == 1 {
			found = &list[i]
		}
	}
	switch {
	case found == nil:
		return identity{}, errUnknownToken
	case orphaned(list, found.ID):
		return identity{}, refuse(problem.Unauthenticated, "The token of this session was deleted: log in again.")
	case found.Expired(t.now()):
		what := "The admin token " + found.Name
		if found.Session {
			what = "The session of " + found.Name
		}
		return identity{}, refuse(problem.Unauthenticated, what+" expired at "+found.Expires.UTC().Format(problem.TimeFormat)+".")
	}
	t.use(ctx, found.ID)
	return identity{
		id: found.ID, name: found.Name, role: found.Role, merchant: found.Merchant, session: found.Session, expires: found.Expires,
	}, nil
}

// useTimeout bounds the write of a token's last use, which a request waits for once a minute.
const useTimeout = 250 * time.Millisecond

// use records that a token was used, once a minute. If the store fails, that minute isn't recorded.
func (t *tokens) use(ctx context.Context, id seckill.TokenID) {
	minute := t.now().UTC().Truncate(time.Minute)
	t.mu.Lock()
	fresh := t.used[id].Before(minute)
	if fresh {
		if len(t.used) > 2*seckill.MaxTokens { // of tokens that are gone
			clear(t.used)
		}
		t.used[id] = minute
	}
	t.mu.Unlock()
	if !fresh || id == configuredName {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, useTimeout)
	defer cancel()
	_ = t.store.NoteTokenUse(ctx, seckill.TokenUse{Token: id, At: minute}) // a failed record must not fail the request
}

// lastUse returns the minute in which a token was used last: the store's, or this node's if that is
// later.
func (t *tokens) lastUse(id seckill.TokenID, stored time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if own := t.used[id]; own.After(stored) {
		return own
	}
	return stored
}

// list returns the tokens. They were read at most age ago, or, while the store can't be asked, at
// most grace ago.
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

// newSecret returns a prefix and 32 random bytes in base64url, which a double click selects as a
// whole.
func newSecret(prefix string) string {
	var raw [32]byte
	rand.Read(raw[:]) // never fails
	return prefix + base64.RawURLEncoding.EncodeToString(raw[:])
}

// newPaymentSecret returns 32 random bytes in hex, a form that every payment provider takes.
func newPaymentSecret() string {
	var raw [32]byte
	rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}

type tokenDoc struct {
	TokenID    seckill.TokenID    `json:"token_id"`
	Name       string             `json:"name"`
	Role       string             `json:"role"`
	Merchant   seckill.MerchantID `json:"merchant,omitempty"` // "": bound to none
	Token      string             `json:"token,omitempty"`    // once
	CreatedAt  *stamp             `json:"created_at,omitempty"`
	ExpiresAt  *stamp             `json:"expires_at"`           // null: never
	LastUsedAt *stamp             `json:"last_used_at"`         // to the minute; null: never
	Session    bool               `json:"session,omitempty"`    // of a person who has logged in
	Configured bool               `json:"configured,omitempty"` // set by the configuration: it can't be deleted here
}

func newTokenDoc(t *seckill.Token, used time.Time) tokenDoc {
	return tokenDoc{
		TokenID: t.ID, Name: t.Name, Role: roleName(t.Role), Merchant: t.Merchant, Session: t.Session,
		CreatedAt: stampOf(t.Created), ExpiresAt: stampOf(t.Expires), LastUsedAt: lastUse(t.Created, used),
	}
}

// listTokens answers GET /admin/v1/tokens. It includes sessions, and expired tokens until new ones
// need their room.
func (c *call) listTokens() error {
	list, err := c.server.deps.Store.Tokens(c.context())
	if err != nil {
		return failed("read admin tokens", err)
	}
	known := c.server.tokens
	docs := make([]tokenDoc, 0, len(list)+1)
	if known.configured != nil {
		configured := &seckill.Token{ID: configuredName, Name: configuredName, Role: seckill.RoleAdmin}
		docs = append(docs, newTokenDoc(configured, known.lastUse(configuredName, time.Time{})))
		docs[0].Configured = true
	}
	for i := range list {
		docs = append(docs, newTokenDoc(&list[i], known.lastUse(list[i].ID, list[i].Used)))
	}
	return c.json(http.StatusOK, page[tokenDoc]{Items: docs})
}

// addToken answers POST /admin/v1/tokens.
func (c *call) addToken() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	name, roleText := o.checked("name", seckill.CheckName), o.checked("role", checkRole)
	merchant, bound := o.optionalText("merchant")
	life, _ := o.optionalDuration("expires_in", minLife, maxLife)
	reason := c.reason(o, m, false)
	o.end()
	if bound {
		m.add("merchant", seckill.CheckName(merchant))
	}
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	if bound {
		v, err := c.server.catalog(ctx)
		if err != nil {
			return err
		}
		if v.Merchant(seckill.MerchantID(merchant)) == nil {
			return refuse(problem.UnknownMerchant, "There is no merchant "+merchant+" to bind the token to.")
		}
	}
	if name == configuredName {
		return refuse(problem.AlreadyExists, nameTaken)
	}
	secret := newSecret("pst_")
	token := newToken(secret)
	token.Name, token.Role, token.Merchant = name, roleNamed(roleText), seckill.MerchantID(merchant)
	if token, err = c.server.keepToken(ctx, token, life, c.author(reason)); err != nil {
		return err
	}
	c.w.Header().Set("Location", "/admin/v1/tokens/"+name)
	doc := newTokenDoc(&token, time.Time{})
	doc.Token = secret
	return c.json(http.StatusCreated, doc)
}

const nameTaken = "There is a token of this name: delete it first, or choose another name."

// newToken returns the record of a token, which has its hash.
func newToken(secret string) seckill.Token {
	return seckill.Token{ID: seckill.TokenID("t-" + randomLetters(10)), Hash: sha256.Sum256([]byte(secret))}
}

// keepToken adds a token, and lets it in on this node at once.
func (s *Server) keepToken(ctx context.Context, t seckill.Token, life time.Duration, by seckill.Author) (seckill.Token, error) {
	kept, err := s.deps.Store.AddToken(ctx, t, life, by)
	switch {
	case errors.Is(err, seckill.ErrExists):
		return t, refuse(problem.AlreadyExists, nameTaken)
	case errors.Is(err, seckill.ErrTooMany):
		return t, refuse(problem.NotEditable, fmt.Sprintf("There are %d tokens and sessions already, the maximum: delete some "+
			"first.", seckill.MaxTokens))
	case err != nil:
		return t, failed("keep the token", err)
	}
	s.tokens.forget()
	return kept, nil
}

// pathToken finds the token that the path names, by its name or its id, in a list of all. A session
// is named by its id alone.
func (c *call) pathToken(list []seckill.Token) *seckill.Token {
	name := c.r.PathValue("token")
	for i := range list {
		if t := &list[i]; string(t.ID) == name || !t.Session && t.Name == name {
			return t
		}
	}
	return nil
}

// dropToken answers DELETE /admin/v1/tokens/{token}. The last admin token can't be deleted.
func (c *call) dropToken() error {
	by, err := c.bodilessAuthor()
	if err != nil {
		return err
	}
	configured := c.server.tokens.configured != nil
	if c.r.PathValue("token") == configuredName && configured {
		return refuse(problem.NotEditable, "This token is set in the configuration: remove it there.")
	}
	ctx, cancel := c.lasting()
	defer cancel()
	list, err := c.server.deps.Store.Tokens(ctx)
	if err != nil {
		return failed("read admin tokens", err)
	}
	token := c.pathToken(list)
	if token == nil {
		return refuse(problem.UnknownToken, "")
	}
	lets := func(t seckill.Token) bool {
		return t.Role == seckill.RoleAdmin && t.Merchant == "" && !t.Session && t.Expires.IsZero()
	}
	others := slices.ContainsFunc(list, func(t seckill.Token) bool { return t.ID != token.ID && lets(t) })
	if lets(*token) && !others && !configured {
		return refuse(problem.NotEditable, "This is the last token with the role admin that doesn't expire: make another one first.")
	}
	err = c.server.deps.Store.DropToken(ctx, token.ID, by)
	switch {
	case errors.Is(err, seckill.ErrNotFound):
		return refuse(problem.UnknownToken, "")
	case err != nil:
		return failed("delete the token", err)
	}
	c.server.tokens.forget()
	return c.none()
}
