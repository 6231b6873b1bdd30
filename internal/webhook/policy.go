package webhook

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
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
// It is applied twice: to the URL, when a hook is put, and to the dialled address, at each post. So
// a name can't bypass it by changing its address.
type Policy struct {
	Networks []netip.Prefix
}

// MaxURL is the longest URL of a receiver, in bytes.
const MaxURL = 2048

// CheckURL returns the mistake in the URL of a receiver, or "".
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
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return "must have a port from 1 to 65535, or none"
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(u.Hostname(), "."))
	switch {
	case err == nil:
		return p.refuses(addr, u.Scheme)
	case endsInNumber(u.Hostname()):
		return "must have an address like 203.0.113.5, or a name: resolvers read other numbers in different ways"
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

// endsInNumber reports whether a resolver may take a name for an IPv4 address in an old spelling,
// like 2852039166, 0xa9fea9fe or 0251.0376.0251.0376 (WHATWG URL, "ends in a number").
func endsInNumber(name string) bool {
	name = strings.TrimSuffix(name, ".")
	last := strings.ToLower(name[strings.LastIndexByte(name, '.')+1:])
	digits, hex := strings.CutPrefix(last, "0x")
	if hex {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// special are addresses that look public and are not (RFC 6890), or that lead to others by a
// tunnel. Addresses of NAT64 are looked at by the address within: see behind.
var special = []netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"), // shared (RFC 6598), as private as those of RFC 1918
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

// nat64 is where a translator puts IPv4 addresses (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// behind returns the address that a packet to addr reaches in the end: an IPv4 address that is
// written as an IPv6 one stands for itself.
func behind(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if !nat64.Contains(addr) {
		return addr
	}
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

// refuses says why an address may not be reached by a scheme, or "".
func (p Policy) refuses(addr netip.Addr, scheme string) string {
	local := addr.Unmap().IsLoopback() // behind a translator it isn't this machine's
	addr = behind(addr)
	isSpecial := slices.ContainsFunc(special, func(n netip.Prefix) bool { return n.Contains(addr) })
	public := addr.IsGlobalUnicast() && !addr.IsPrivate() && !isSpecial
	listed := slices.ContainsFunc(p.Networks, func(n netip.Prefix) bool { return n.Contains(addr) })
	switch {
	case local || listed:
		return ""
	case !public:
		return fmt.Sprintf("must not be the private address %s; webhook-networks names private networks of receivers", addr)
	case scheme != "https":
		return fmt.Sprintf("must be https, since %s is not on this machine; webhook-networks names networks that are reached by http", addr)
	}
	return ""
}
