package seckill

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/penstock/penstock/inventory"
)

// UnitCounts are an item's units on a shard by the state of their orders.
type UnitCounts struct{ Open, Sold, Parked int64 }

// RecountItem is an item on a shard: its counters, and the sums of its orders' rows. An item
// without a stock row has parked units at most.
type RecountItem struct {
	Item    inventory.ItemID
	Known   bool // there is a stock row
	Total   int64
	Counted UnitCounts
	Rows    UnitCounts
}

// Oversold reports whether the rows break L1: more units are sold or open than there are.
func (i *RecountItem) Oversold() bool { return i.Known && i.Rows.Open+i.Rows.Sold > i.Total }

// Differs reports whether the counters differ from the sums of the rows.
func (i *RecountItem) Differs() bool { return i.Counted != i.Rows }

// Mendable reports whether the counters differ and may be set to the sums of the rows. The rows are
// the truth: each was written with its counter in one transaction. If the rows break L1, a person
// must decide.
func (i *RecountItem) Mendable() bool { return i.Differs() && !i.Oversold() }

// NameSums are the digests of a shard's names: of orders that are open or parked, and of sold ones.
type NameSums struct{ Open, Sold inventory.Digest }

// Recount is a shard at one moment: its counters and digests, and the sums of its rows.
type Recount struct {
	Ref     inventory.Ref
	Orders  int64         // whose units count
	Items   []RecountItem // in order
	Counted NameSums
	Rows    NameSums

	items map[inventory.ItemID]*RecountItem // while it is filled
}

// NewRecount returns a recount without rows, for a store to fill.
func NewRecount(sums ShardSums) *Recount {
	return &Recount{Ref: sums.Ref, Counted: NameSums{sums.Open, sums.Sold}, items: make(map[inventory.ItemID]*RecountItem)}
}

// AddStock adds the counters of a stock row.
func (r *Recount) AddStock(item inventory.ItemID, total int64, counted UnitCounts) {
	i := r.item(item)
	i.Known, i.Total = true, total
	i.Counted.Open, i.Counted.Sold = counted.Open, counted.Sold
	i.Counted.Parked += counted.Parked
}

// AddParked adds the counter of parked units, for stores that keep it outside the stock row.
func (r *Recount) AddParked(item inventory.ItemID, units int64) { r.item(item).Counted.Parked += units }

// AddOrder adds an order whose units are open, sold or parked.
func (r *Recount) AddOrder(item inventory.ItemID, id OrderID, quantity int64, units UnitState) {
	i, name := r.item(item), inventory.NameDigest(string(id))
	r.Orders++
	switch units {
	case UnitsOpen:
		i.Rows.Open += quantity
		r.Rows.Open = r.Rows.Open.Add(name)
	case UnitsParked:
		i.Rows.Parked += quantity
		r.Rows.Open = r.Rows.Open.Add(name)
	case UnitsSold:
		i.Rows.Sold += quantity
		r.Rows.Sold = r.Rows.Sold.Add(name)
	}
}

func (r *Recount) item(id inventory.ItemID) *RecountItem {
	i := r.items[id]
	if i == nil {
		i = &RecountItem{Item: id}
		r.items[id] = i
	}
	return i
}

// Done ends the filling.
func (r *Recount) Done() {
	r.Items = make([]RecountItem, 0, len(r.items))
	for _, i := range slices.SortedFunc(maps.Values(r.items), func(a, b *RecountItem) int { return cmp.Compare(a.Item, b.Item) }) {
		r.Items = append(r.Items, *i)
	}
	r.items = nil
}

// Mendable returns the items whose counters may be corrected, and whether the digests differ.
func (r *Recount) Mendable() (items []RecountItem, sums bool) {
	for i := range r.Items {
		if r.Items[i].Mendable() {
			items = append(items, r.Items[i])
		}
	}
	return items, r.Counted != r.Rows
}

// recountRecord is a shard's counters in a change record.
type recountRecord struct {
	Items []countedItem `json:",omitempty"`
	Sums  NameSums
}

type countedItem struct {
	Item inventory.ItemID
	UnitCounts
}

// RecordRecount records that a shard's counters and digests were set to the sums of its rows.
func RecordRecount(r *Recount) (ChangeRecord, error) {
	items, _ := r.Mendable()
	was, now := recountRecord{Sums: r.Counted}, recountRecord{Sums: r.Rows}
	for i := range items {
		was.Items = append(was.Items, countedItem{items[i].Item, items[i].Counted})
		now.Items = append(now.Items, countedItem{items[i].Item, items[i].Rows})
	}
	return newChangeRecord(ChangeCounters, "shard "+strconv.Itoa(int(r.Ref.Shard)), was, now)
}
