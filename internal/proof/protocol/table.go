package protocol

// table gives each hash a number: the first 0, the next 1, and so on. It is open addressing with
// linear probing, and takes 12 bytes a slot.
type table struct {
	hashes  []uint64 // a power of two of them; 0 is an empty slot
	numbers []uint32
	len     int
}

func newTable(slots int) *table {
	return &table{hashes: make([]uint64, slots), numbers: make([]uint32, slots)}
}

// number returns the number of a hash, and whether the hash was there before.
func (t *table) number(hash uint64) (n uint32, known bool) {
	hash = max(hash, 1)
	i := t.slot(hash)
	if t.hashes[i] == hash {
		return t.numbers[i], true
	}
	if (t.len+1)*4 > len(t.hashes)*3 {
		t.grow()
		i = t.slot(hash)
	}
	n = uint32(t.len)
	t.hashes[i], t.numbers[i] = hash, n
	t.len++
	return n, false
}

// slot returns where a hash is, or where it belongs.
func (t *table) slot(hash uint64) uint64 {
	mask := uint64(len(t.hashes) - 1)
	i := hash & mask
	for t.hashes[i] != 0 && t.hashes[i] != hash {
		i = (i + 1) & mask
	}
	return i
}

func (t *table) grow() {
	old := *t
	t.hashes, t.numbers = make([]uint64, 2*len(old.hashes)), make([]uint32, 2*len(old.hashes))
	for k, hash := range old.hashes {
		if hash != 0 {
			i := t.slot(hash)
			t.hashes[i], t.numbers[i] = hash, old.numbers[k]
		}
	}
}
