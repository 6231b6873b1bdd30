package limiter

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// TestAddresses: each address has its own bucket, and an IPv6 /64 counts as one address. Invented
// addresses cost no memory, and together get less than separate buckets would give.
func TestAddresses(t *testing.T) {
	a := NewAddresses(AddressConfig{Rate: 10, Burst: 5, Room: 100}, at(0))
	ask := func(addr string, when time.Duration) bool { return a.Allow(netip.MustParseAddr(addr), at(when)) }
	for i := range 8 {
		if got := ask("192.0.2.1", 0); got != (i < 5) {
			t.Errorf("request %d of a burst of 5: %v", i, got)
		}
		if got := ask("2001:db8::"+string(rune('1'+i)), 0); got != (i < 5) {
			t.Errorf("request %d of a /64: %v", i, got)
		}
	}
	if !ask("192.0.2.2", 0) || !ask("192.0.2.1", 100*time.Millisecond) {
		t.Error("another address, or the same one later, is refused")
	}
	slots, let := len(a.keys.table.slots), 0
	for i := range uint32(100_000) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], i|0x0a000000)
		if a.Allow(netip.AddrFrom4(b), at(time.Second)) {
			let++
		}
	}
	if len(a.keys.table.slots) != slots || let > slots+5*len(a.keys.table.segments) {
		t.Errorf("%d of 100,000 invented addresses are let in, with %d slots", let, len(a.keys.table.slots))
	}
	if none := NewAddresses(AddressConfig{}, at(0)); !none.Allow(netip.Addr{}, at(0)) || !a.Allow(netip.Addr{}, at(0)) {
		t.Error("no limit, or no address, is refused")
	}
}

// TestAddresses_GiveBack: tokens that were given back can be taken again, and no more than those.
func TestAddresses_GiveBack(t *testing.T) {
	a := NewAddresses(AddressConfig{Rate: 1e-3, Burst: 3, Room: 100}, at(0))
	addr := netip.MustParseAddr("192.0.2.1")
	a.GiveBack(addr) // one that has taken none
	for i := range 10 {
		if !a.Allow(addr, at(0)) {
			t.Fatalf("request %d, after as many were given back", i)
		}
		a.GiveBack(addr)
	}
	for i := range 5 {
		if got := a.Allow(addr, at(0)); got != (i < 3) {
			t.Errorf("request %d of a burst of 3: %v", i, got)
		}
	}
	a.GiveBack(netip.Addr{})
	(*Addresses)(nil).GiveBack(addr)
}
