package limiter

import (
	"net/netip"
	"strings"
	"testing"
	"unsafe"
)

func at4(last byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, last}) }

func sameMemory(a, b string) bool { return unsafe.StringData(a) == unsafe.StringData(b) }

func trustedNets() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fe80::/10")}
}

func TestClientIP(t *testing.T) {
	f := func(remote, forwarded, want string) {
		t.Helper()
		if got := ClientIP(netip.MustParseAddr(remote), forwarded, trustedNets()); got != netip.MustParseAddr(want) {
			t.Errorf("from %s, forwarded for %q: %v, want %s", remote, forwarded, got, want)
		}
	}
	f("198.51.100.7", "", "198.51.100.7")
	f("198.51.100.7", "203.0.113.1", "198.51.100.7") // the header of an untrusted sender is ignored
	f("::ffff:198.51.100.7", "203.0.113.1", "198.51.100.7")
	f("10.0.0.1", "", "10.0.0.1")
	f("10.0.0.1", "203.0.113.1", "203.0.113.1")
	f("::ffff:10.0.0.1", "203.0.113.1", "203.0.113.1")
	f("10.0.0.1", "1.1.1.1, 203.0.113.1", "203.0.113.1")  // the client forged the first
	f("10.0.0.1", "10.9.9.9, 203.0.113.1", "203.0.113.1") // even as a trusted proxy
	f("10.0.0.1", "203.0.113.1,10.0.0.2 ,\t10.0.0.3", "203.0.113.1")
	f("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2")   // all are ours
	f("10.0.0.1", "203.0.113.1, unknown", "10.0.0.1") // the last proxy doesn't name the client
	f("10.0.0.1", "203.0.113.1, unknown, 10.0.0.2", "10.0.0.2")
	f("10.0.0.1", "203.0.113.1,", "10.0.0.1")
	f("10.0.0.1", ",,,,", "10.0.0.1")
	f("10.0.0.1", "203.0.113.1:4711", "203.0.113.1")
	f("10.0.0.1", "203.0.113.1:port", "10.0.0.1")
	f("10.0.0.1", "203.0.113.1:", "10.0.0.1")
	f("10.0.0.1", "2001:db8::1", "2001:db8::1")
	f("10.0.0.1", "[2001:db8::1]", "2001:db8::1")
	f("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1")
	f("10.0.0.1", "[2001:db8::1", "10.0.0.1")
	f("10.0.0.1", "[2001:db8::1]x", "10.0.0.1")
	f("10.0.0.1", "[203.0.113.1]", "10.0.0.1")
	f("10.0.0.1", "[]", "10.0.0.1")
	f("10.0.0.1", "::ffff:203.0.113.1", "203.0.113.1")
	f("fd00::1", "2001:db8::1", "2001:db8::1")
	f("fe80::1%eth0", "2001:db8::1", "2001:db8::1")
	f("fe80::1%eth0", "fe80::2%x", "fe80::1") // a zone has a meaning only on its own machine
	f("10.0.0.1", strings.Repeat("1", 1000), "10.0.0.1")

	chain := strings.Repeat("10.0.0.2, ", maxHops-2) + "10.0.0.2"
	f("10.0.0.1", "203.0.113.1, "+chain, "203.0.113.1")
	f("10.0.0.1", "203.0.113.1, 10.0.0.3, "+chain, "10.0.0.3") // longer chains aren't read

	if got := ClientIP(netip.Addr{}, "203.0.113.1", trustedNets()); got.IsValid() {
		t.Errorf("nobody is %v", got)
	}
}

func TestGroup(t *testing.T) {
	f := func(addr, want string) {
		t.Helper()
		if got := group(netip.MustParseAddr(addr)); got != netip.MustParseAddr(want) {
			t.Errorf("%s counts as %v, want %s", addr, got, want)
		}
	}
	f("203.0.113.1", "203.0.113.1")
	f("::ffff:203.0.113.1", "203.0.113.1")
	f("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::")
	f("fe80::1%eth0", "fe80::")
	f("::1", "::")
}

func FuzzClientIP(f *testing.F) {
	f.Add("10.0.0.1", "203.0.113.1, 10.0.0.2", "")
	f.Add("fd00::1", "[2001:db8::1]:443,::ffff:10.0.0.1", "1.2.3.4, ")
	f.Add("198.51.100.7", "unknown, %eth0", "::")
	f.Fuzz(func(t *testing.T, remote, forwarded, forged string) {
		from, err := netip.ParseAddr(remote)
		if err != nil {
			return
		}
		nets := trustedNets()
		got := ClientIP(from, forwarded, nets)
		if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Fatalf("from %v, forwarded for %q: %v", from, forwarded, got)
		}
		if !trusts(nets, from.Unmap().WithZone("")) && got != from.Unmap().WithZone("") {
			t.Fatalf("%v isn't trusted and is %v", from, got)
		}
		// A client may send any header. Its proxy appends the client's address, and that is the
		// result.
		client := netip.MustParseAddr("203.0.113.1")
		if got := ClientIP(netip.MustParseAddr("10.0.0.1"), forged+", "+forwarded+","+client.String(), nets); got != client {
			t.Fatalf("forged %q, %q: %v", forged, forwarded, got)
		}
	})
}
