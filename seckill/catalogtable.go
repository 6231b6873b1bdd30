package seckill

import (
	"hash/maphash"
	"strings"
	"unique"

	"github.com/penstock/penstock/inventory"
)

// The tables of a catalog are copied piece by piece, when a piece is written. Each piece has the
// generation of the catalog that made it. A catalog of that generation may write it; a later one
// makes a copy first. So a piece never changes after its catalog is done.

// stripeCount is how many maps share the keys: a change copies one of them.
const stripeCount = 256

// stripes is a map in pieces. The caller names the stripe of a key, always the same one.
type stripes[K comparable, V any] struct {
	pieces *stripePieces[K, V]
}

type stripePieces[K comparable, V any] struct {
	generation uint64
	at         [stripeCount]*stripe[K, V]
}

type stripe[K comparable, V any] struct {
	generation uint64
	entries    map[K]V
}

func (s *stripes[K, V]) get(at uint8, key K) (v V) {
	if s.pieces == nil || s.pieces.at[at] == nil {
		return v
	}
	return s.pieces.at[at].entries[key]
}

func (s *stripes[K, V]) set(generation uint64, at uint8, key K, v V) {
	s.own(generation, at).entries[key] = v
}

// drop deletes a key. If the key isn't there, nothing is copied.
func (s *stripes[K, V]) drop(generation uint64, at uint8, key K) {
	if s.pieces == nil || s.pieces.at[at] == nil {
		return
	}
	if _, ok := s.pieces.at[at].entries[key]; !ok {
		return
	}
	delete(s.own(generation, at).entries, key)
}

// own returns a stripe that this generation may write.
func (s *stripes[K, V]) own(generation uint64, at uint8) *stripe[K, V] {
	switch {
	case s.pieces == nil:
		s.pieces = &stripePieces[K, V]{generation: generation}
	case s.pieces.generation != generation:
		copied := *s.pieces
		copied.generation = generation
		s.pieces = &copied
	}
	piece := s.pieces.at[at]
	if piece != nil && piece.generation == generation {
		return piece
	}
	own := &stripe[K, V]{generation: generation}
	if piece == nil {
		own.entries = make(map[K]V)
	} else {
		own.entries = make(map[K]V, len(piece.entries)+1)
		for k, v := range piece.entries {
			own.entries[k] = v
		}
	}
	s.pieces.at[at] = own
	return own
}

// all goes through the values.
func (s *stripes[K, V]) all(yield func(V) bool) {
	if s.pieces == nil {
		return
	}
	for _, piece := range s.pieces.at {
		if piece == nil {
			continue
		}
		for _, v := range piece.entries {
			if !yield(v) {
				return
			}
		}
	}
}

// hashText is FNV-1a folded to one byte: it chooses a stripe. Somebody could choose names that all
// fall into one stripe. Then each change copies more, but nothing worse happens, and only
// administrators choose names.
func hashText(s string) uint8 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	h ^= h >> 16
	return uint8(h ^ h>>8)
}

// place is the place of an item: the number of its activity (0: none), and the index among its
// items.
type place struct{ number, place uint32 }

// itemTable finds items by id: a tree of three levels over the 32 bits of an id. A page covers
// 1,024 neighbours, most of which belong to one activity. Pages have no pointers, so the garbage
// collector skips them.
type itemTable struct{ root *itemRoot }

const (
	itemPageBits = 10
	itemDirBits  = 11
	itemRootBits = 32 - itemPageBits - itemDirBits
)

type itemRoot struct {
	generation  uint64
	directories [1 << itemRootBits]*itemDirectory
}

type itemDirectory struct {
	generation uint64
	pages      [1 << itemDirBits]*itemPage
}

type itemPage struct {
	generation uint64
	places     [1 << itemPageBits]place
}

func itemPath(id inventory.ItemID) (directory, page, at uint32) {
	n := uint32(id)
	return n >> (itemPageBits + itemDirBits), n >> itemPageBits & (1<<itemDirBits - 1), n & (1<<itemPageBits - 1)
}

func (t *itemTable) get(id inventory.ItemID) place {
	d, p, at := itemPath(id)
	if t.root == nil || t.root.directories[d] == nil || t.root.directories[d].pages[p] == nil {
		return place{}
	}
	return t.root.directories[d].pages[p].places[at]
}

// set puts an item at a place. If it is there already, nothing is copied.
func (t *itemTable) set(generation uint64, id inventory.ItemID, to place) {
	if t.get(id) == to {
		return
	}
	d, p, at := itemPath(id)
	switch {
	case t.root == nil:
		t.root = &itemRoot{generation: generation}
	case t.root.generation != generation:
		copied := *t.root
		copied.generation = generation
		t.root = &copied
	}
	switch directory := t.root.directories[d]; {
	case directory == nil:
		t.root.directories[d] = &itemDirectory{generation: generation}
	case directory.generation != generation:
		copied := *directory
		copied.generation = generation
		t.root.directories[d] = &copied
	}
	pages := &t.root.directories[d].pages
	switch page := pages[p]; {
	case page == nil:
		pages[p] = &itemPage{generation: generation}
	case page.generation != generation:
		copied := *page
		copied.generation = generation
		pages[p] = &copied
	}
	pages[p].places[at] = to
}

// numberTable gives activities small numbers, from 1 on. The places of items refer to the number,
// so they stay the same when an activity changes.
type numberTable struct {
	generation uint64
	pages      []*numberPage // the slice belongs to generation
	free       []uint32      // numbers that were dropped; belongs to generation
	next       uint32        // the highest number given out
}

const numberPageSize = 64

type numberPage struct {
	generation uint64
	sales      [numberPageSize]*Sale
}

func (t *numberTable) get(number uint32) *Sale {
	return t.pages[number/numberPageSize].sales[number%numberPageSize]
}

// add gives a sale a number.
func (t *numberTable) add(generation uint64, sale *Sale) {
	t.own(generation)
	if n := len(t.free); n > 0 {
		sale.number = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		t.next++
		sale.number = t.next
	}
	t.set(generation, sale)
}

// set puts a sale at its number.
func (t *numberTable) set(generation uint64, sale *Sale) { t.put(generation, sale.number, sale) }

func (t *numberTable) drop(generation uint64, number uint32) {
	t.put(generation, number, nil)
	t.free = append(t.free, number)
}

func (t *numberTable) put(generation uint64, number uint32, sale *Sale) {
	t.own(generation)
	at := number / numberPageSize
	for int(at) >= len(t.pages) {
		t.pages = append(t.pages, &numberPage{generation: generation})
	}
	if page := t.pages[at]; page.generation != generation {
		copied := *page
		copied.generation = generation
		t.pages[at] = &copied
	}
	t.pages[at].sales[number%numberPageSize] = sale
}

// own makes sure that the slices belong to this generation.
func (t *numberTable) own(generation uint64) {
	if t.generation == generation {
		return
	}
	t.generation = generation
	t.pages = append([]*numberPage(nil), t.pages...)
	t.free = append([]uint32(nil), t.free...)
}

// skuIndex finds an activity's items by SKU: open addressing over places + 1, at most two thirds
// full.
type skuIndex struct {
	seed  maphash.Seed
	slots []uint32
}

func newSKUIndex(items []Item) *skuIndex {
	size := 4
	for size*2 < len(items)*3 {
		size *= 2
	}
	x := &skuIndex{maphash.MakeSeed(), make([]uint32, size)}
	mask := uint64(size - 1)
	for i := range items {
		at := maphash.String(x.seed, string(items[i].SKU)) & mask
		for x.slots[at] != 0 {
			at = (at + 1) & mask
		}
		x.slots[at] = uint32(i) + 1
	}
	return x
}

// find returns the place of a SKU among the items, or -1.
func (x *skuIndex) find(items []Item, sku SKU) int {
	mask := uint64(len(x.slots) - 1)
	for at := maphash.String(x.seed, string(sku)) & mask; x.slots[at] != 0; at = (at + 1) & mask {
		if i := x.slots[at] - 1; items[i].SKU == sku {
			return int(i)
		}
	}
	return -1
}

// compactItems returns the items with all SKUs in one piece of memory, and with each currency
// stored once.
func compactItems(items []Item) []Item {
	size := 0
	for i := range items {
		size += len(items[i].SKU)
	}
	var text strings.Builder
	text.Grow(size)
	own := make([]Item, len(items))
	currency := ""
	for i := range items {
		own[i] = items[i]
		at := text.Len()
		text.WriteString(string(items[i].SKU))
		own[i].SKU = SKU(text.String()[at:])
		if items[i].Price.Currency != currency {
			currency = unique.Make(items[i].Price.Currency).Value()
		}
		own[i].Price.Currency = currency
	}
	return own
}
