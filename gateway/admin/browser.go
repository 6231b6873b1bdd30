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
// send it without being asked first (CORS preflight), and nobody here says yes.
const consoleField = "X-Penstock-Console"

// guardSession keeps a session to the console: by the names that this listener is known by, and for
// a change only where no other site can have sent it. It stands beside the check of Sec-Fetch-Site
// and Origin, which every request passes.
func (c *call) guardSession() error {
	if err := c.guardHost(); err != nil {
		return err
	}
	if c.r.Method == http.MethodGet || c.r.Method == http.MethodHead || c.route.pattern == logoutPath { // to be logged out harms nobody
		return nil
	}
	if c.r.Header.Get(consoleField) == "" {
		return refuse(problem.CrossOrigin,
			"A change by a session needs the header field "+consoleField+": 1. Programs use a token: Authorization: Bearer <token>.")
	}
	return nil
}

// guardHost refuses a Host that isn't one of this listener's. Otherwise a site whose name is made
// to point here (DNS rebinding) would be of the console's origin. An address is no name that
// anybody can make point here.
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

// hostName is the name of a host as it is compared: without its port, in lower case.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// legible is a short text from outside as it may be shown.
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

// secure reports whether the browser has reached the listener over TLS, here or at a proxy that is
// trusted: then cookies are for TLS alone.
func (c *call) secure() bool {
	if c.server.cfg.Login.Secure {
		return true
	}
	remote, err := netip.ParseAddrPort(c.r.RemoteAddr)
	address := remote.Addr().Unmap().WithZone("")
	trusted := err == nil && slices.ContainsFunc(c.server.cfg.Proxies, func(p netip.Prefix) bool { return p.Contains(address) })
	return trusted && c.r.Header.Get("X-Forwarded-Proto") == "https"
}
