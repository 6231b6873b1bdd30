package limiter

import (
	"net"
	"net/netip"
	"testing"
)

func tcp(addr string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)) }

func TestConnections(t *testing.T) {
	c := NewConnections(ConnectionsConfig{
		Most: 8, Reserved: 2, PerAddress: 3, Exempt: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	})
	enter := func(addr string, want Place) {
		t.Helper()
		if got := c.Enter(tcp(addr)); got != want {
			t.Errorf("%s gets place %d, want %d; %d are open", addr, got, want, c.Open())
		}
	}
	for _, addr := range []string{"192.0.2.1:1", "192.0.2.1:2", "[::ffff:192.0.2.1]:3"} {
		enter(addr, PlaceFree)
	}
	enter("192.0.2.1:4", PlaceAddress)
	c.Leave(tcp("192.0.2.1:2"))
	enter("192.0.2.1:4", PlaceFree)
	enter("[2001:db8::1]:1", PlaceFree)
	enter("[2001:db8::2]:1", PlaceFree)
	enter("[2001:db8:0:0:ffff::3]:1", PlaceFree) // the same /64
	enter("[2001:db8::4]:1", PlaceAddress)
	enter("10.0.0.1:1", PlaceReserved)
	enter("10.0.0.1:2", PlaceReserved)
	enter("10.0.0.1:3", PlaceNone)
	for _, addr := range []string{
		"192.0.2.1:1", "192.0.2.1:3", "192.0.2.1:4", "[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "10.0.0.1:1", "10.0.0.1:2",
	} {
		c.Leave(tcp(addr))
	}
	if c.Open() != 0 || len(c.byAddr) != 0 {
		t.Errorf("%d open, %v", c.Open(), c.byAddr)
	}
}

// TestConnectionsWithoutALimitPerAddress: a listener may have no such limit, and may have
// connections that are not TCP.
func TestConnectionsWithoutALimitPerAddress(t *testing.T) {
	c := NewConnections(ConnectionsConfig{Most: 2})
	pipe, _ := net.Pipe()
	for _, addr := range []net.Addr{tcp("192.0.2.1:1"), pipe.RemoteAddr()} {
		if got := c.Enter(addr); got != PlaceFree {
			t.Errorf("%v gets place %d", addr, got)
		}
	}
	if got := c.Enter(pipe.RemoteAddr()); got != PlaceNone {
		t.Errorf("place %d", got)
	}
}
