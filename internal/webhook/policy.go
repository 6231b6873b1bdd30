package webhook

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Policy decides which receivers may be reached, so that a hook gives no access to the network
// around an installation.
//
//   - Addresses of this machine (loopback) may be reached, by http too.
//   - Public addresses may be reached, by https.
//   - Other addresses (private, shared, link-local, and all else that is not public) may be reached
//     only in Networks; there by http, too.
//
// It is asked twice: with the URL, when a hook is put, and with the address that is dialled, each
// time. So a name that comes to stand for another address is no way around it.
type Policy struct {
	Networks []netip.Prefix
}

// MaxURL is the longest URL of a receiver, in bytes.
const MaxURL = 2048

// CheckURL says what is wrong with the URL of a receiver, or "".
func (p Policy) CheckURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case len(text) > MaxURL:
		return fmt.Sprintf("must be at most %d characters", MaxURL)
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || strings.ContainsAny(text, " \t\r\n"):
		return "must be a URL like https://ops.example.com/penstock"
	case u.User != nil:
		return "must have no user or password: the signature says where it comes from"
	case u.Fragment != "":
		return "must have no fragment"
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(u.Hostname(), "."))
	switch {
	case err == nil:
		return p.refuses(addr, u.Scheme)
	case u.Scheme == "http" && !isLocal(u.Hostname()) && len(p.Networks) == 0:
		return "must be https, but for a receiver on this machine; webhook-networks names networks that are reached by http"
	}
	return "" // the name's address is checked when it is dialled
}

// isLocal reports whether a name is one of this machine (RFC 6761).
func isLocal(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// shared is the space of carrier-grade NAT (RFC 6598), which is as private as that of RFC 1918.
func shared() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10) }

// refuses says why an address may not be reached by a scheme, or "".
func (p Policy) refuses(addr netip.Addr, scheme string) string {
	addr = addr.Unmap().WithZone("")
	public := addr.IsGlobalUnicast() && !addr.IsPrivate() && !shared().Contains(addr)
	listed := slices.ContainsFunc(p.Networks, func(n netip.Prefix) bool { return n.Contains(addr) })
	switch {
	case addr.IsLoopback() || listed:
		return ""
	case !public:
		return fmt.Sprintf("must not be the private address %s; webhook-networks names private networks of receivers", addr)
	case scheme != "https":
		return fmt.Sprintf("must be https, since %s is not on this machine; webhook-networks names networks that are reached by http", addr)
	}
	return ""
}
