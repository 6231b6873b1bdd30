package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/penstock/penstock/gateway/problem"
)

// consoleField is a field that every change of a session has to have. A page of another site can't
// send it without a CORS preflight, which this listener refuses.
const consoleField = "X-Penstock-Console"

// guardSession allows a session only from the console: the Host must be one of this listener's
// names, and a change must not come from another site. Every request has also passed the check of
// Sec-Fetch-Site and Origin.
func (c *call) guardSession() error {
	if err := c.guardHost(); err != nil {
		return err
	}
	if c.r.Method == http.MethodGet || c.r.Method == http.MethodHead || c.route.pattern == logoutPath { // a forged logout does no harm
		return nil
	}
	if c.r.Header.Get(consoleField) == "" {
		return refuse(problem.CrossOrigin,
			"A change by a session needs the header field "+consoleField+": 1. Programs use a token: Authorization: Bearer <token>.")
	}
	return nil
}

// guardHost refuses a Host that isn't one of this listener's. Otherwise a site could make its name
// point to this listener (DNS rebinding) and would share the console's origin. IP addresses can't
// be redirected like this, so they are allowed.
func (c *call) guardHost() error {
	host := hostName(c.r.Host)
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(c.server.cfg.Hosts, host) {
		return nil
	}
	return refuse(problem.CrossOrigin, fmt.Sprintf("This listener isn't known as %q: name the host in --admin-hosts to use the console there.",
		legible(host)))
}

// hostName returns a host's name for comparisons: without its port, in lower case.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// legible makes a short text from outside safe to show.
func legible(text string) string {
	if len(text) > maxHost {
		text = text[:maxHost]
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, text)
}

// maxHost is how long a host's name may be (RFC 1035), in bytes.
const maxHost = 253

// secure reports whether the browser uses TLS, to this listener or to a trusted proxy. Cookies are
// restricted to TLS then.
func (c *call) secure() bool {
	if c.server.cfg.Login.Secure {
		return true
	}
	remote, err := netip.ParseAddrPort(c.r.RemoteAddr)
	address := remote.Addr().Unmap().WithZone("")
	trusted := err == nil && slices.ContainsFunc(c.server.cfg.Proxies, func(p netip.Prefix) bool { return p.Contains(address) })
	return trusted && c.r.Header.Get("X-Forwarded-Proto") == "https"
}
