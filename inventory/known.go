package inventory

import "sync/atomic"

// hashName is the hash under which the shard's log and every process remember a hold's name. It is part of what is written to
// Redis: two versions that hash differently must not work on one shard.
//
// Eight bytes at a time, each multiplied in, then splitmix64's finish. Two names that share a hash cost a question to Redis,
// never a wrong answer; among four million names that happens to one pair with probability 4e-7.
func hashName(name string) uint64 {
	const prime = 0x9e3779b97f4a7c15
	h := uint64(len(name)) * prime
	for ; len(name) >= 8; name = name[8:] {
		w := uint64(name[0]) | uint64(name[1])<<8 | uint64(name[2])<<16 | uint64(name[3])<<24 |
			uint64(name[4])<<32 | uint64(name[5])<<40 | uint64(name[6])<<48 | uint64(name[7])<<56
		h = (h ^ w) * prime
		h ^= h >> 32
	}
	var tail uint64
	for i := range len(name) {
		tail |= uint64(name[i]) << (8 * i)
	}
	h = (h ^ tail) * prime
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// hashBytes is the length of a hash in the shard's log, big endian.
const hashBytes = 8

// nameTable is a hash table of hashes, open addressing, that one goroutine fills while others look. Its zero value is empty
// and full.
type nameTable struct {
	slots []uint64 // a power of two of them, or none; 0 is free
}

// slotOf returns the value that stands for h: 0 means free, so the hash 0 shares a place with 1.
func slotOf(h uint64) uint64 { return max(h, 1) }

// has reports whether h is in t. t may be nil.
func (t *nameTable) has(h uint64) bool {
	if t == nil || len(t.slots) == 0 {
		return false
	}
	h = slotOf(h)
	mask := uint64(len(t.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch atomic.LoadUint64(&t.slots[i]) {
		case h:
			return true
		case 0:
			return false
		}
	}
}

// insert adds h and reports whether it is new. There must be a free slot.
func (t *nameTable) insert(h uint64) bool {
	h = slotOf(h)
	mask := uint64(len(t.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch t.slots[i] { // only this goroutine writes
		case h:
			return false
		case 0:
			atomic.StoreUint64(&t.slots[i], h)
			return true
		}
	}
}

// nameSet grows a nameTable. One goroutine at a time may call add; a table once handed out keeps answering, and misses only what was
// added after a later one took its place.
type nameSet struct {
	table *nameTable
	n     int
}

const minSlots = 64

// add puts h into the set. A table is at most three quarters full.
func (s *nameSet) add(h uint64) {
	switch {
	case s.table == nil:
		s.table = &nameTable{make([]uint64, minSlots)}
	case 4*(s.n+1) > 3*len(s.table.slots):
		larger := &nameTable{make([]uint64, 2*len(s.table.slots))}
		for _, h := range s.table.slots {
			if h != 0 {
				larger.insert(h)
			}
		}
		s.table = larger
	}
	if s.table.insert(h) {
		s.n++
	}
}
