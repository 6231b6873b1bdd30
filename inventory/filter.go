package inventory

import (
	"slices"
	"sync/atomic"
)

// hashName is the hash of a head, in the shard's log and in every process's memory. The hash is
// written to Redis, so versions with different hashes must not work on the same shard.
//
// It takes eight bytes at a time, multiplies them in, and ends with the finisher of splitmix64. Two
// heads with the same hash cost a call to Redis, and never cause a wrong answer.
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

// nameFilter is a set of hashes, of which it keeps 32 bits each. has is always true for added
// hashes. For others it is true with a chance of n / 2^32: one in 7,000 among 600,000 names, and 2
// % among 100 million. Only one goroutine at a time may call add; has may be called by any
// goroutine at any time.
//
// New hashes go into a small table. When it is full, it is merged into a sorted run. A run takes
// two bytes per hash and an index of 256 KB; a short run takes four bytes per hash. So the filter
// only takes the memory that its names need, and need not know their number before. A merge copies
// the run, once for each 1/64 by which it grows.
//
// Rejected: Bloom filters and cuckoo filters, because to grow they need the names again, or one
// more filter for each step, whose errors add up. Also rejected: whole hashes, which take 8 bytes
// and the free slots of a hash table.
type nameFilter struct {
	state atomic.Pointer[filterState]
	n     atomic.Int64 // hashes in it
	fresh int          // hashes in the table; used only by add
}

// filterState is the data that has reads. Meanwhile add may fill the table.
type filterState struct {
	run   *nameRun // nil means none
	table nameTable
}

// Sizes of a filter.
const (
	minSlots  = 64
	minMerge  = 4096    // a table with fewer hashes is not merged
	mergeRate = 64      // a run is merged again when it has grown by this part
	shortRun  = 1 << 17 // number of hashes from which an index is worth it
)

// short is the part of a hash that a filter keeps. 0 means a free slot, so a hash with 0 is kept as
// 1.
func short(h uint64) uint32 { return max(uint32(h>>32), 1) }

// has reports whether h may have been added.
func (f *nameFilter) has(h uint64) bool {
	state := f.state.Load()
	return state != nil && (state.table.has(short(h)) || state.run.has(short(h)))
}

// add puts h into the filter.
func (f *nameFilter) add(hash uint64) {
	h := short(hash)
	state := f.state.Load()
	switch {
	case state == nil:
		state = &filterState{table: make(nameTable, minSlots)}
		f.state.Store(state)
	case state.run.has(h):
		return
	case f.fresh >= minMerge && f.fresh >= state.run.len()/mergeRate:
		fresh := slices.DeleteFunc(slices.Clone(state.table), func(h uint32) bool { return h == 0 })
		slices.Sort(fresh)
		state = &filterState{run: merge(state.run, fresh), table: make(nameTable, minSlots)}
		f.state.Store(state)
		f.fresh = 0
	case 4*(f.fresh+1) > 3*len(state.table):
		larger := make(nameTable, 2*len(state.table))
		for _, h := range state.table {
			if h != 0 {
				larger.insert(h)
			}
		}
		state = &filterState{run: state.run, table: larger}
		f.state.Store(state)
	}
	if state.table.insert(h) {
		f.fresh++
		f.n.Add(1)
	}
}

// clear empties the filter.
func (f *nameFilter) clear() {
	f.state.Store(nil)
	f.n.Store(0)
	f.fresh = 0
}

// nameTable is a hash table with open addressing. Its size is a power of two, and 0 is a free slot.
// One goroutine fills it while others read.
type nameTable []uint32

func (t nameTable) has(h uint32) bool {
	mask := uint32(len(t) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch atomic.LoadUint32(&t[i]) {
		case h:
			return true
		case 0:
			return false
		}
	}
}

// insert adds h and reports whether it is new. There must be a free slot.
func (t nameTable) insert(h uint32) bool {
	mask := uint32(len(t) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch t[i] { // only this goroutine writes the table
		case h:
			return false
		case 0:
			atomic.StoreUint32(&t[i], h)
			return true
		}
	}
}

// nameRun is a sorted set of hashes that never changes. It has whole hashes in whole; or it has
// lower halves in low, and index[u] to index[u+1] is the range of the upper half u. nil is empty.
type nameRun struct {
	whole []uint32
	low   []uint16
	index []uint32
}

func (r *nameRun) len() int {
	if r == nil {
		return 0
	}
	return len(r.whole) + len(r.low)
}

func (r *nameRun) has(h uint32) bool {
	if r == nil {
		return false
	}
	if r.index == nil {
		_, ok := slices.BinarySearch(r.whole, h)
		return ok
	}
	upper := h >> 16
	_, ok := slices.BinarySearch(r.low[r.index[upper]:r.index[upper+1]], uint16(h))
	return ok
}

// merge returns the union of a run and sorted hashes that it doesn't have.
func merge(run *nameRun, fresh []uint32) *nameRun {
	n := run.len() + len(fresh)
	if run == nil {
		run = new(nameRun)
	}
	if run.index == nil {
		fresh = union(run.whole, fresh)
		if n < shortRun {
			return &nameRun{whole: fresh}
		}
		run = &nameRun{index: make([]uint32, 1<<16+1)}
	}
	merged := &nameRun{low: make([]uint16, 0, n), index: make([]uint32, 1<<16+1)}
	for upper := range uint32(1 << 16) {
		low := run.low[run.index[upper]:run.index[upper+1]]
		for len(fresh) > 0 && fresh[0]>>16 == upper {
			h := uint16(fresh[0])
			at, _ := slices.BinarySearch(low, h)
			merged.low = append(append(merged.low, low[:at]...), h)
			low, fresh = low[at:], fresh[1:]
		}
		merged.low = append(merged.low, low...)
		merged.index[upper+1] = uint32(len(merged.low))
	}
	return merged
}

// union returns the union of two sorted sets without common elements.
func union(a, b []uint32) []uint32 {
	out := make([]uint32, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] < b[0] {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}
