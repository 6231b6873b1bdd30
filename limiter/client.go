package limiter

import (
	"net/netip"
	"strings"
)

const (
	// groupBits is how many bits of an IPv6 address count: a subscriber has at least a /64, and can
	// use a different address of it for each request.
	groupBits = 64
	// maxHops bounds the number of proxies that are followed. Real chains have two or three.
	maxHops = 32
	// maxHopLength is the longest that an address with brackets, port and spaces is.
	maxHopLength = 64
)

// group returns the address under which an address counts.
func group(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if !a.Is6() {
		return a
	}
	net, err := a.Prefix(groupBits) // this also removes the zone
	if err != nil {
		return a
	}
	return net.Addr()
}

// ClientIP returns the address that a request came from: the last hop that isn't a trusted proxy.
// remote is the connection's other end, forwardedFor the X-Forwarded-For field (several in one,
// joined with commas in their order), and trusted the proxies' networks, with IPv4 networks in IPv4
// notation.
//
// Each proxy appends the address of its client. So the field is read from its end, and only as far
// as trusted proxies wrote it: whatever a client writes into it comes before the client's own
// address, and is never read. If remote is not trusted, the field is ignored. If it ends, or has a
// text that is no address, the answer is the last trusted proxy: all clients behind it share its
// limit. The work is bounded for every input.
//
// The field is a string because addresses are parsed from strings; it isn't kept.
func ClientIP(remote netip.Addr, forwardedFor string, trusted []netip.Prefix) netip.Addr {
	client := remote.Unmap().WithZone("")
	rest := forwardedFor
	for range maxHops {
		if rest == "" || !trusts(trusted, client) {
			return client
		}
		hop := rest
		if i := strings.LastIndexByte(rest, ','); i >= 0 {
			hop, rest = rest[i+1:], rest[:i]
		} else {
			rest = ""
		}
		next, ok := parseHop(hop)
		if !ok {
			return client
		}
		client = next
	}
	return client
}

func trusts(trusted []netip.Prefix, a netip.Addr) bool {
	for _, net := range trusted {
		if net.Contains(a) {
			return true
		}
	}
	return false
}

// parseHop reads an address, which some proxies write with brackets or a port. It refuses zones:
// they have a meaning only on the machine that wrote them, and Go keeps each in memory.
func parseHop(hop string) (netip.Addr, bool) {
	hop = strings.Trim(hop, " \t")
	if hop == "" || len(hop) > maxHopLength || strings.IndexByte(hop, '%') >= 0 {
		return netip.Addr{}, false
	}
	if hop[0] == '[' {
		end := strings.IndexByte(hop, ']')
		if end < 0 || end+1 < len(hop) && !isPort(hop[end+1:]) {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(hop[1:end])
		return a.Unmap(), err == nil && a.Is6()
	}
	if i := strings.IndexByte(hop, ':'); i >= 0 && strings.LastIndexByte(hop, ':') == i {
		if !isPort(hop[i:]) {
			return netip.Addr{}, false
		}
		hop = hop[:i]
	}
	a, err := netip.ParseAddr(hop)
	return a.Unmap(), err == nil
}

// isPort reports whether s is a colon and one to five digits.
func isPort(s string) bool {
	return len(s) >= 2 && len(s) <= 6 && s[0] == ':' && strings.Trim(s[1:], "0123456789") == ""
}
