package admin

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/penstock/penstock/limiter"
)

// Config has the admin listener's limits. DefaultConfig gives the values for production.
type Config struct {
	// Token is an admin token that is always valid, whatever the store says: it works even when no
	// other token does. "" means none.
	Token string
	// Proxies are the networks of proxies in front, whose X-Forwarded-For is believed.
	Proxies []netip.Prefix
	// Login configures the login of people.
	Login LoginConfig
	// Hosts are the names by which browsers reach the listener, in lower case and without a port.
	// IP addresses and localhost are always allowed.
	Hosts []string
	// OpenMetrics serves /metrics without a token, for scrapers that can't send one. Metrics name
	// activities and SKUs, and show how a sale goes: set it only if no one else can reach the
	// listener.
	OpenMetrics bool
	// Version is the build for penstock_build_info: number, revision if known, and Go version,
	// separated by spaces.
	Version string
	// MaxBody is the largest body in bytes; more is a 413. Only an activity may be larger:
	// MaxLargeBody. 20,000 items with the longest names have some 5 MB.
	MaxBody      int64
	MaxLargeBody int64
	// MaxLargeBodies is how many activities may be put at once; more are answered 503. Each takes
	// some four times its body in memory.
	MaxLargeBodies int
	// MaxHeader is the longest request line with header, in bytes; net/http allows 4 KiB more.
	MaxHeader int
	// ReadHeaderTimeout is how long a request line with header may take to arrive.
	ReadHeaderTimeout time.Duration
	// ReadTimeout is how long a whole request may take to arrive.
	ReadTimeout time.Duration
	// RequestTimeout is the deadline for the work of a request. A publish that can't open all items
	// in time is answered 503; publishing again continues.
	RequestTimeout time.Duration
	// WriteTimeout bounds a request from the end of its header to the end of its answer. It must be
	// above RequestTimeout.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection may wait for its next request; above the 60 s of most
	// proxies.
	IdleTimeout time.Duration
	// MaxConnections is how many connections may be open; more are answered 503 and closed. A
	// sixteenth of them serves health checks only.
	MaxConnections int
	// MaxPerAddress is how many connections one address may have open, an IPv6 /64 counting as one;
	// 0 is no limit.
	MaxPerAddress int
	// MaxInFlight is how many requests may be worked on; more are a 503 overloaded. It must be
	// below MaxConnections.
	MaxInFlight int
	// Guesses limits the wrong tokens of each client address; an IPv6 /64 counts as one. Above it
	// requests with a token are answered 429, except with long tokens that were let in from that
	// address before. A zero Rate is no limit.
	Guesses limiter.AddressConfig
	// TokenAge is how long the list of tokens is used without asking the store. A token that was
	// deleted on another node stays valid for at most this time.
	TokenAge time.Duration
	// TokenGrace is how long the list may be used while the store can't be reached: operators need
	// this listener most during an outage.
	TokenGrace time.Duration
}

// DefaultConfig returns the values for production.
func DefaultConfig() Config {
	return Config{
		Login:             LoginConfig{Life: 8 * time.Hour},
		MaxBody:           1 << 20,
		MaxLargeBody:      8 << 20,
		MaxLargeBodies:    4,
		MaxHeader:         16 << 10,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		RequestTimeout:    60 * time.Second,
		WriteTimeout:      90 * time.Second,
		IdleTimeout:       75 * time.Second,
		MaxConnections:    256,
		MaxPerAddress:     128,
		MaxInFlight:       64,
		Guesses:           limiter.AddressConfig{Rate: 5, Burst: 300, Room: 4096},
		TokenAge:          500 * time.Millisecond,
		TokenGrace:        time.Hour,
	}
}

// maxToken is the longest token that is hashed, in bytes.
const maxToken = 256

// Validate checks each value, and that the values fit together.
func (c Config) Validate() error {
	var errs []error
	for _, v := range []struct {
		name string
		n    int64
	}{
		{"max body", c.MaxBody}, {"max large body", c.MaxLargeBody}, {"max large bodies", int64(c.MaxLargeBodies)},
		{"max header", int64(c.MaxHeader)},
		{"read header timeout", int64(c.ReadHeaderTimeout)}, {"read timeout", int64(c.ReadTimeout)},
		{"request timeout", int64(c.RequestTimeout)}, {"idle timeout", int64(c.IdleTimeout)},
		{"max in flight", int64(c.MaxInFlight)}, {"token age", int64(c.TokenAge)}, {"login life", int64(c.Login.Life)},
	} {
		if v.n <= 0 {
			errs = append(errs, fmt.Errorf("%s must be above zero", v.name))
		}
	}
	if c.WriteTimeout <= c.RequestTimeout {
		errs = append(errs, fmt.Errorf("write timeout %v must be longer than the request timeout %v", c.WriteTimeout, c.RequestTimeout))
	}
	if c.MaxConnections <= c.MaxInFlight {
		errs = append(errs, fmt.Errorf("max connections %d must be above max in flight %d", c.MaxConnections, c.MaxInFlight))
	}
	if c.TokenGrace < c.TokenAge {
		errs = append(errs, fmt.Errorf("token grace %v must not be shorter than the token age %v", c.TokenGrace, c.TokenAge))
	}
	return errors.Join(append(errs, c.ValidateToken())...)
}

// ValidateToken checks the token alone. The error never has the token itself.
func (c Config) ValidateToken() error {
	if c.Token != "" && !isVisible(c.Token, maxToken) {
		return fmt.Errorf("admin-token: must be at most %d visible ASCII characters", maxToken)
	}
	return nil
}

// isVisible reports whether s is 1 to most visible ASCII characters.
func isVisible(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
