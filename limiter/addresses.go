package limiter

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// AddressConfig is a limit for each address, on this node only.
type AddressConfig struct {
	Rate  float64 // per second; 0: no limit
	Burst int64
	// Room is how many addresses have a bucket of their own; further ones share buckets. Each takes
	// 32 bytes.
	Room int
}

// Addresses limits the requests of each address; an IPv6 /64 counts as one. A nil Addresses allows
// everything. It is safe for concurrent use. Its memory is fixed.
type Addresses struct {
	seed maphash.Seed
	keys *Keys
}

// NewAddresses makes an Addresses with full buckets.
func NewAddresses(cfg AddressConfig, now time.Time) *Addresses {
	if cfg.Rate <= 0 {
		return nil
	}
	return &Addresses{seed: maphash.MakeSeed(), keys: NewKeys(cfg.Rate, cfg.Burst, cfg.Room, now)}
}

// Allow takes a token of the address, if it has one. An invalid address is allowed.
func (a *Addresses) Allow(addr netip.Addr, now time.Time) bool {
	if a == nil || !addr.IsValid() {
		return true
	}
	return a.keys.Allow(a.key(addr), now)
}

// GiveBack returns a token that Allow has taken from the address's bucket. The bucket never gets
// more than full.
func (a *Addresses) GiveBack(addr netip.Addr) {
	if a == nil || !addr.IsValid() {
		return
	}
	a.keys.GiveBack(a.key(addr))
}

// key returns the key of an address; all addresses of a /64 have the same one.
func (a *Addresses) key(addr netip.Addr) uint64 {
	b := group(addr).As16()
	return maphash.Bytes(a.seed, b[:])
}
