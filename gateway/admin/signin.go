package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/seckill"
)

// The session of a person who logged in with a token ends with that token. Its id is the token's
// id, a dot, and random letters, so the store needs no field for the token. The token of the
// configuration has no row in the store. Its sessions are hashed together with it, so they are
// valid as long as that token is configured.
const (
	ofToken           = "."
	configuredSession = "psc_" // prefix of the secret of such a session
)

// maxSessions is how many sessions a token may have; a new one replaces the oldest. Without a
// bound, one token could use up all of seckill.MaxTokens.
const maxSessions = 20

// hash returns the hash by which the store knows a token.
func (t *tokens) hash(token string) [32]byte {
	if strings.HasPrefix(token, configuredSession) && t.configured != nil {
		return sha256.Sum256(append([]byte(token), t.configured[:]...))
	}
	return sha256.Sum256([]byte(token))
}

// orphaned reports whether a session's token is gone.
func orphaned(list []seckill.Token, session seckill.TokenID) bool {
	id, _, ok := strings.Cut(string(session), ofToken)
	if !ok || id == configuredName {
		return false
	}
	return !slices.ContainsFunc(list, func(t seckill.Token) bool { return string(t.ID) == id })
}

// logIn answers POST /login: it opens a session for a token, so that the browser needn't keep the
// token. The session doesn't outlive the token.
func (c *call) logIn() error {
	if err := c.guardHost(); err != nil {
		return err
	}
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	shown := o.text("token")
	o.end()
	if err := m.err(); err != nil {
		return err
	}
	who, err := c.identify(bearer("Bearer "+shown, ""))
	if err == nil && who.session {
		err = refuse(problem.Unauthenticated, "This is a session, not a token: a session can't open another session.")
	}
	if err != nil {
		return c.unknown(err)
	}
	c.token = who
	ctx, cancel := c.lasting()
	defer cancel()
	session, secret, err := c.signIn(ctx, &who)
	if err != nil {
		return err
	}
	c.setCookie(sessionName, secret, session.Expires.Sub(session.Created))
	return c.json(http.StatusOK, newHolderDoc(&identity{
		id: session.ID, name: session.Name, role: session.Role, merchant: session.Merchant, session: true, expires: session.Expires,
	}))
}

// signIn stores a session of a token's holder.
func (c *call) signIn(ctx context.Context, who *identity) (session seckill.Token, secret string, err error) {
	if err := c.makeRoom(ctx, who.id); err != nil {
		return session, "", err
	}
	prefix := "pss_"
	if who.id == configuredName {
		prefix = configuredSession
	}
	secret = newSecret(prefix)
	life := c.server.cfg.Login.Life
	if !who.expires.IsZero() {
		life = max(min(life, who.expires.Sub(c.server.tokens.now())), time.Second)
	}
	session = seckill.Token{
		ID: who.id + ofToken + seckill.TokenID(randomLetters(10)), Name: who.name, Role: who.role, Merchant: who.merchant, Session: true,
		Hash: c.server.tokens.hash(secret),
	}
	by := seckill.Author{Actor: who.name, Token: string(session.ID), Address: c.address(), Reason: "login by the token " + who.name}
	session, err = c.server.keepToken(ctx, session, life, by)
	return session, secret, err
}

// makeRoom ends a token's oldest sessions, if it has maxSessions.
func (c *call) makeRoom(ctx context.Context, id seckill.TokenID) error {
	list, err := c.server.deps.Store.Tokens(ctx)
	if err != nil {
		return failed("read admin tokens", err)
	}
	own := slices.DeleteFunc(slices.Clone(list), func(t seckill.Token) bool { return !strings.HasPrefix(string(t.ID), string(id)+ofToken) })
	slices.SortFunc(own, func(a, b seckill.Token) int { return a.Created.Compare(b.Created) })
	for len(own) >= maxSessions {
		err := c.server.deps.Store.DropToken(ctx, own[0].ID, c.author("another login: a token has at most 20 sessions"))
		if err != nil && !errors.Is(err, seckill.ErrNotFound) {
			return failed("end the oldest session", err)
		}
		own = own[1:]
	}
	return nil
}
