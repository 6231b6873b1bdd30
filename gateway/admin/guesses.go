package admin

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/penstock/penstock/gateway/problem"
	"github.com/penstock/penstock/limiter"
)

// guesses slows down clients that try tokens. Each address has a bucket, and every wrong token
// takes one token from the bucket. While the bucket is empty, no admin token of that address is
// looked at, so a right guess can't be told from a wrong one.
//
// Operators may share an address with such a client, behind a proxy or on one machine. So a token
// that was valid from an address before is still looked at from there, if it is too long to be
// guessed.
type guesses struct {
	addresses *limiter.Addresses

	mu    sync.Mutex
	known map[visitor]struct{} // tokens that were valid before; at most maxVisitors; guarded by mu
}

// visitor is a token, by its hash, at an address.
type visitor struct {
	address netip.Addr
	token   [32]byte
}

const (
	// maxVisitors is how many visitors are remembered. With one more, all are forgotten, and each
	// needs one guess of its address again.
	maxVisitors = 4096
	// unguessable is the length, in bytes, from which a token can't be found by trying. Shorter
	// ones are refused if other machines can reach the listener.
	unguessable = 16
)

func newGuesses(cfg limiter.AddressConfig) *guesses {
	return &guesses{addresses: limiter.NewAddresses(cfg, time.Now()), known: make(map[visitor]struct{})}
}

// begin takes a guess. It returns false if the address has none left. knows reports that the token
// needed no guess.
func (g *guesses) begin(v visitor) (ok, knows bool) {
	g.mu.Lock()
	_, knows = g.known[v]
	g.mu.Unlock()
	return knows || g.addresses.Allow(v.address, time.Now()), knows
}

// right gives the guess of begin back, because the token was right. long means that the token is
// unguessable.
func (g *guesses) right(v visitor, long bool) {
	g.addresses.GiveBack(v.address)
	if !long {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.known) >= maxVisitors {
		clear(g.known)
	}
	g.known[v] = struct{}{}
}

// identify returns the holder of a token. Wrong tokens count against the client's address.
func (c *call) identify(token string) (identity, error) {
	tokens, guesses := c.server.tokens, c.server.guesses
	if !isVisible(token, maxToken) {
		return identity{}, refuse(problem.Unauthenticated, "The request has no admin token: send Authorization: Bearer <token>.")
	}
	v := visitor{c.client(), tokens.hash(token)}
	ok, knows := guesses.begin(v)
	if !ok {
		return identity{}, &refusal{problem.Problem{
			Code: problem.RateLimited, RetryAfter: time.Second,
			Detail: "Too many wrong admin tokens came from this address, so no token is looked at for a moment.",
		}}
	}
	who, err := tokens.identify(c.context(), v.token)
	unknown := errors.Is(err, errUnknownToken)
	if !knows && !unknown {
		guesses.right(v, err == nil && len(token) >= unguessable)
	}
	if unknown {
		err = refuse(problem.Unauthenticated, "The admin token isn't known here, or was deleted.")
	}
	return who, err
}
