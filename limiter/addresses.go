package limiter

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// AddressConfig is a limit for each address, on this node alone.
type AddressConfig struct {
	Rate  float64 // per second; 0: there is no limit
	Burst int64
	// Room is how many addresses have a bucket of their own; further ones share buckets. Each takes
	// 32 bytes.
	Room int
}

// Addresses limits the requests of each address; an IPv6 /64 counts as one. A nil Addresses allows
// everything. It is safe for concurrent use. Its memory is fixed.
type Addresses struct {
	clock *clock
	seed  maphash.Seed
	table *table
	rules *rules

	anything Request // stands for any key
}

// NewAddresses makes one with full buckets.
func NewAddresses(cfg AddressConfig, now time.Time) *Addresses {
	if cfg.Rate <= 0 {
		return nil
	}
	p := &Policy{Name: "address", Key: IP, Rate: cfg.Rate, Burst: max(cfg.Burst, 1), Mode: Enforce}
	return &Addresses{
		clock: newClock(now), seed: maphash.MakeSeed(), table: newTable(max(cfg.Room, 1)),
		rules: &rules{epoch: 1, template: newLimit(p, 0, 1)},
	}
}

// Allow takes a token of the address, if it has one. An invalid address is allowed.
func (a *Addresses) Allow(addr netip.Addr, now time.Time) bool {
	if a == nil || !addr.IsValid() {
		return true
	}
	b := group(addr).As16()
	var g grant
	a.table.take(a.rules, max(1, maphash.Bytes(a.seed, b[:])), &a.anything, a.clock.at(now), nil, &g)
	return g.wait == 0
}
