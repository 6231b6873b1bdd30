package inventory

import (
	"strconv"
	"strings"
	"sync/atomic"
)

// itemTable knows, for each item that ever had a crossing, whether it has units. It is a hash table
// with open addressing. A view's mu guards its changes, but has reads it at any time without the
// lock.
type itemTable struct {
	slots []itemSlot // their number is a power of two; never all full
	n     int
}

type itemSlot struct {
	word atomic.Uint64 // item << bits, and bits; 0 is free
	seq  uint64        // seq of the last crossing that was seen, from any source
}

// The bits of a slot. A bit is set if the item has no unit: as last seen from any source, as the
// log says, or as the last call of OnCrossing said.
const (
	bitOut       = 1 << iota // as last seen, from any source
	bitLogged                // as the log says, at the newest crossing that was seen
	bitTold                  // in the last call of OnCrossing
	bitUntold                // the item is in view.untold
	bitInherited             // inherited: this view has not seen the item yet

	itemBits = iota
)

// minItems is how many slots a table begins with.
const minItems = 16

func newItemTable(slots int) *itemTable { return &itemTable{slots: make([]itemSlot, slots)} }

// place returns the slot of an item, or the free slot where it would be.
func (t *itemTable) place(item ItemID) *itemSlot {
	mask := uint64(len(t.slots) - 1)
	h := uint64(item) * 0x9e3779b97f4a7c15 >> 32
	for i := h & mask; ; i = (i + 1) & mask {
		if word := t.slots[i].word.Load(); word == 0 || word>>itemBits == uint64(item) {
			return &t.slots[i]
		}
	}
}

// has reports whether all of these bits are set for the item.
func (t *itemTable) has(item ItemID, bits uint64) bool { return t.place(item).word.Load()&bits == bits }

// grown returns a table with the same items and more room. If t has room, it returns t.
func (t *itemTable) grown() *itemTable {
	if 4*(t.n+1) <= 3*len(t.slots) {
		return t
	}
	larger := newItemTable(2 * len(t.slots))
	for i := range t.slots {
		if word := t.slots[i].word.Load(); word != 0 {
			larger.put(word, t.slots[i].seq)
		}
	}
	return larger
}

// put writes a new slot.
func (t *itemTable) put(word, seq uint64) {
	slot := t.place(ItemID(word >> itemBits))
	slot.seq = seq
	slot.word.Store(word)
	t.n++
}

// inherit returns the table for the next view. It keeps the last seen states, and the states that
// OnCrossing has been told.
func (t *itemTable) inherit() *itemTable {
	next := newItemTable(minItems)
	for i := range t.slots {
		if word := t.slots[i].word.Load(); word&(bitOut|bitTold) != 0 {
			next = next.grown()
			next.put(word&^(bitLogged|bitUntold)|bitInherited, 0)
		}
	}
	return next
}

// cross takes a crossing from the log or from a message. The caller holds mu.
func (v *view) cross(item ItemID, seq uint64, has, logged bool) {
	table := v.items.Load().grown()
	slot := table.place(item)
	word := slot.word.Load()
	isNew := word == 0
	if isNew {
		word = uint64(item) << itemBits
		table.n++
	}
	// After a message has told of a newer crossing than the log, the item counts as sold out only
	// when the log was read up to that crossing. Before that, there may be unread heads.
	switch newest := isNew || word&bitInherited != 0 || seq >= slot.seq; {
	case newest && (logged || seq > slot.seq):
		slot.seq = seq
		word = setBit(setBit(word, bitOut, !has), bitLogged, logged && !has)
	case logged && !newest:
		word = setBit(word, bitLogged, false)
	}
	word = setBit(word, bitInherited, false)
	if v.sure.Load() == nil && !v.later && (isNew || logged) { // the first sight of an item is not a crossing
		word = setBit(word, bitTold, word&bitOut != 0)
	}
	slot.word.Store(v.tellLater(word))
	v.items.Store(table)
}

func setBit(word, bit uint64, on bool) uint64 {
	if on {
		return word | bit
	}
	return word &^ bit
}

// tellLater plans a call of OnCrossing for an item if its state is news, and returns the item's new
// word. The caller holds mu.
func (v *view) tellLater(word uint64) uint64 {
	if (word&bitOut != 0) == (word&bitTold != 0) || word&bitUntold != 0 {
		return word
	}
	v.untold = append(v.untold, ItemID(word>>itemBits))
	if len(v.untold) == 1 {
		v.stock.emit(event{kind: eventCrossing, view: v})
	}
	return word | bitUntold
}

// forgetInherited sets all items that the log doesn't mention to "in stock". The caller holds mu.
func (v *view) forgetInherited() {
	table := v.items.Load()
	for i := range table.slots {
		if word := table.slots[i].word.Load(); word&bitInherited != 0 {
			table.slots[i].word.Store(v.tellLater(word &^ (bitInherited | bitOut)))
		}
	}
}

// hasNews reports whether OnCrossing must be called.
func (v *view) hasNews() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.untold) > 0
}

// crossing is an item that now has units, or now has none.
type crossing struct {
	item ItemID
	has  bool
}

// tell calls OnCrossing for the crossings since the last call.
func (v *view) tell(onCrossing func(ShardID, ItemID, bool)) {
	var news []crossing
	v.mu.Lock()
	table := v.items.Load()
	for _, item := range v.untold {
		slot := table.place(item)
		word := slot.word.Load() &^ bitUntold
		out := word&bitOut != 0
		if out != (word&bitTold != 0) {
			news = append(news, crossing{item, !out})
		}
		slot.word.Store(setBit(word, bitTold, out))
	}
	v.untold = nil
	v.mu.Unlock()
	for _, c := range news {
		onCrossing(v.ref.Shard, c.item, c.has)
	}
}

// parseCrossings reads the text of crossings, as lua/shard.lua writes it: seq, and items with '+'
// or '-'.
func parseCrossings(text string) (seq uint64, crossings []crossing, ok bool) {
	first, rest, more := strings.Cut(text, " ")
	seq, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return 0, nil, false
	}
	for more {
		first, rest, more = strings.Cut(rest, " ")
		if first == "" {
			return 0, nil, false
		}
		sign := first[len(first)-1]
		item, err := strconv.ParseUint(first[:len(first)-1], 10, 32)
		if err != nil || item == 0 || sign != '+' && sign != '-' {
			return 0, nil, false
		}
		crossings = append(crossings, crossing{ItemID(item), sign == '+'})
	}
	return seq, crossings, true
}

// parseMessage reads a message of crossings: shard, epoch, and the text of crossings.
func parseMessage(message string) (ref Ref, seq uint64, crossings []crossing, ok bool) {
	first, rest, ok1 := strings.Cut(message, " ")
	second, rest, ok2 := strings.Cut(rest, " ")
	shard, err1 := strconv.ParseUint(first, 10, 16)
	epoch, err2 := strconv.ParseInt(second, 10, 64)
	if err1 != nil || err2 != nil || !ok1 || !ok2 {
		return Ref{}, 0, nil, false
	}
	ref = Ref{ShardID(shard), Epoch(epoch)}
	seq, crossings, ok = parseCrossings(rest)
	if !ok || ref.Validate() != nil {
		return Ref{}, 0, nil, false
	}
	return ref, seq, crossings, true
}
