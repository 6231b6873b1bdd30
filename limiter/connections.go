package limiter

import (
	"net"
	"net/netip"
	"sync"
)

// ConnectionsConfig says how many connections a listener may have.
type ConnectionsConfig struct {
	// Most is how many connections may be open.
	Most int
	// Reserved is how many of them, the last free ones, serve health checks only. So a probe is
	// answered even if clients keep all other connections open.
	Reserved int
	// PerAddress is how many connections one address may have, an IPv6 /64 counting as one; 0 means
	// no limit.
	PerAddress int
	// Exempt are the networks of proxies: all clients behind a proxy have the same address.
	Exempt []netip.Prefix
}

// Place is the kind of place that a new connection gets.
type Place uint8

// The places.
const (
	PlaceFree     Place = iota // the connection is served
	PlaceReserved              // only health checks are served on it
	PlaceNone                  // too many are open
	PlaceAddress               // too many connections of this address are open
)

// Connections counts a listener's open connections. Its methods are safe for concurrent use, and
// take one lock per connection. Its memory is bounded by the connections that are open.
type Connections struct {
	cfg ConnectionsConfig

	mu     sync.Mutex
	open   int                // guarded by mu
	byAddr map[netip.Addr]int // only addresses that are counted; guarded by mu
}

// NewConnections makes a count that is zero.
func NewConnections(cfg ConnectionsConfig) *Connections {
	return &Connections{cfg: cfg, byAddr: make(map[netip.Addr]int)}
}

// Enter asks for a place. If it answers PlaceFree or PlaceReserved, the connection counts until
// Leave is called with the same address.
func (c *Connections) Enter(remote net.Addr) Place {
	addr, counted := c.counted(remote)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.open >= c.cfg.Most:
		return PlaceNone
	case counted && c.byAddr[addr] >= c.cfg.PerAddress:
		return PlaceAddress
	}
	c.open++
	if counted {
		c.byAddr[addr]++
	}
	if c.open > c.cfg.Most-c.cfg.Reserved {
		return PlaceReserved
	}
	return PlaceFree
}

// Leave takes a connection out of the count.
func (c *Connections) Leave(remote net.Addr) {
	addr, counted := c.counted(remote)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if !counted {
		return
	}
	if c.byAddr[addr]--; c.byAddr[addr] <= 0 {
		delete(c.byAddr, addr)
	}
}

// Open returns how many connections are open.
func (c *Connections) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// counted returns the address under which a connection counts, and whether it counts at all.
func (c *Connections) counted(remote net.Addr) (netip.Addr, bool) {
	if c.cfg.PerAddress <= 0 {
		return netip.Addr{}, false
	}
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	addr := tcp.AddrPort().Addr().Unmap()
	for _, network := range c.cfg.Exempt {
		if network.Contains(addr.WithZone("")) {
			return netip.Addr{}, false
		}
	}
	return group(addr), addr.IsValid()
}
