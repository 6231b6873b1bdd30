package limiter

import "sync/atomic"

// Recent remembers keys for a while, in fixed memory. It may forget a key early if many others
// come. So use it only where a forgotten key costs performance, not correctness. It never reports a
// key that was not marked. It is safe for concurrent use.
type Recent struct {
	slots []recentSlot // in pairs: a key may be in either slot of its pair
	span  int64
}

// recentSlot has no lock: if a reader gets one key with another key's time, the mix matches no key.
type recentSlot struct {
	mixed atomic.Uint64 // key ^ until
	until atomic.Uint64
}

// NewRecent returns a Recent with room for a power of two of keys, 16 bytes each, which it
// remembers for some nanoseconds.
func NewRecent(room int, span int64) *Recent {
	return &Recent{slots: make([]recentSlot, max(room, 2)), span: span}
}

// pair returns the two slots of a key.
func (r *Recent) pair(key uint64) (a, b *recentSlot) {
	at := key & uint64(len(r.slots)-1)
	return &r.slots[at], &r.slots[at^1]
}

// Has reports whether a key was marked within the span before now.
func (r *Recent) Has(key uint64, now int64) bool {
	a, b := r.pair(key)
	return a.has(key, now) || b.has(key, now)
}

func (s *recentSlot) has(key uint64, now int64) bool {
	until := s.until.Load()
	return s.mixed.Load()^until == key && now < int64(until)
}

// Mark remembers a key from now on. It replaces the older key of its pair.
func (r *Recent) Mark(key uint64, now int64) {
	a, b := r.pair(key)
	if b.until.Load() < a.until.Load() && !a.has(key, now) || b.has(key, now) {
		a = b
	}
	until := uint64(now + r.span)
	a.until.Store(until)
	a.mixed.Store(key ^ until)
}
