package desk

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// A book that balances: of 10 units, 3 are in open orders, 1 is parked, 2 are sold.
func book(item inventory.ItemID, shard inventory.ShardID, edit func(*seckill.Book)) seckill.Book {
	b := seckill.Book{
		Item: item, SKU: sku(int(item)), Shard: shard, Epoch: 1, Published: true, Total: 10, Open: 3, Parked: 1, Sold: 2,
	}
	if edit != nil {
		edit(&b)
	}
	return b
}

func TestOffice_Audit(t *testing.T) {
	sound := inventory.ItemNumbers{Known: true, Available: 4, Held: 4, Sold: 2}
	shard := inventory.Numbers{Epoch: 1}
	for _, c := range []struct {
		name     string
		edit     func(*seckill.Book)
		levels   inventory.ItemNumbers
		shard    inventory.Numbers
		balanced bool
		closed   bool
		inFlight int64
	}{
		{"all is well", nil, sound, shard, true, false, 0},
		{"a unit is lost", nil, inventory.ItemNumbers{Known: true, Available: 3, Held: 4, Sold: 2}, shard, false, false, 0},
		{"a hold without an order", nil, inventory.ItemNumbers{Known: true, Available: 3, Held: 5, Sold: 2}, inventory.Numbers{Epoch: 1, Fresh: 1}, true, false, 1},
		{"a hold that nobody looks after", nil, inventory.ItemNumbers{Known: true, Available: 3, Held: 5, Sold: 2}, shard, false, false, 0},
		{"an order without a hold", nil, inventory.ItemNumbers{Known: true, Available: 5, Held: 3, Sold: 2}, shard, false, false, 0},
		{
			"an order without a hold, beside other items' holds", nil,
			inventory.ItemNumbers{Known: true, Available: 5, Held: 3, Sold: 2}, inventory.Numbers{Epoch: 1, Fresh: 9}, false, false, 0,
		},
		{"a sale that was not settled", nil, inventory.ItemNumbers{Known: true, Available: 4, Held: 5, Sold: 1}, shard, false, false, 0},
		{
			"a settlement on its way", func(b *seckill.Book) { b.PendingUnits = 1 },
			inventory.ItemNumbers{Known: true, Available: 3, Held: 5, Sold: 2}, shard, true, false, 1,
		},
		{"a restock on its way", func(b *seckill.Book) { b.Total, b.PendingStock = 17, 7 }, sound, shard, true, false, 7},
		{"a withdrawal on its way", func(b *seckill.Book) { b.Total, b.PendingStock = 8, -2 }, sound, shard, true, false, 2},
		{"oversold", func(b *seckill.Book) { b.Total = 4 }, sound, shard, false, false, 0},
		{"closed", nil, sound, inventory.Numbers{Epoch: 1, Closed: true}, false, true, 0},
		{"of another epoch", nil, sound, inventory.Numbers{Epoch: 2}, false, true, 0},
		{
			"a draft", func(b *seckill.Book) { b.Published, b.Open, b.Parked, b.Sold = false, 0, 0, 0 },
			inventory.ItemNumbers{}, shard, true, false, 0,
		},
		{
			"published, the units on their way", func(b *seckill.Book) { b.PendingStock, b.Open, b.Parked, b.Sold = 10, 0, 0, 0 },
			inventory.ItemNumbers{}, shard, true, false, 10,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stock := &stubStock{
					levels: map[seckill.StockKey]inventory.ItemNumbers{{Item: 1, Shard: 3}: c.levels},
					shards: map[inventory.ShardID]inventory.Numbers{3: c.shard},
				}
				o, store := openOffice(t, stock, testItems(1, 1))
				store.books = []seckill.Book{book(1, 3, c.edit)}
				audits, err := o.Audit(t.Context(), "a")
				if err != nil || len(audits) != 1 {
					t.Fatalf("%+v, %v", audits, err)
				}
				a := audits[0]
				if a.Balanced != c.balanced || a.Closed != c.closed || a.InFlight != c.inFlight {
					t.Errorf("%+v", a)
				}
				if a.Balanced && a.InFlight == 0 && a.Total != a.Available+a.Held+a.Sold {
					t.Errorf("%+v is called balanced", a)
				}
			})
		})
	}
}

// An item's numbers are the sums over its shards, and it is balanced where it is on each.
func TestOffice_AuditSumsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sound := inventory.ItemNumbers{Known: true, Available: 4, Held: 4, Sold: 2}
		stock := &stubStock{
			levels: map[seckill.StockKey]inventory.ItemNumbers{
				{Item: 1, Shard: 3}: sound, {Item: 1, Shard: 4}: sound, {Item: 2, Shard: 3}: sound,
				{Item: 2, Shard: 4}: {Known: true, Available: 5, Held: 4, Sold: 2},
			},
			shards: map[inventory.ShardID]inventory.Numbers{3: {Epoch: 1}, 4: {Epoch: 1}},
		}
		o, store := openOffice(t, stock, testItems(2, 2))
		store.books = []seckill.Book{book(1, 3, nil), book(1, 4, nil), book(2, 3, nil), book(2, 4, nil)}
		audits, err := o.Audit(t.Context(), "a")
		if err != nil || len(audits) != 2 {
			t.Fatalf("%+v, %v", audits, err)
		}
		want := Audit{Item: 1, SKU: "x01", Total: 20, Available: 8, Held: 8, Sold: 4, Balanced: true, Open: 6, Parked: 2, Ordered: 4}
		if audits[0] != want || audits[1].Balanced || audits[1].Available != 9 {
			t.Errorf("%+v", audits)
		}
		if stock.looks != 2*auditLooks {
			t.Errorf("%d calls to the stock for %d looks at two shards", stock.looks, auditLooks)
		}
		store.books = nil
		if _, err := o.Audit(t.Context(), "b"); codeOf(t, err) != seckill.CodeUnknownActivity {
			t.Error(err)
		}
	})
}

// Orders move between the reads of the two systems, so an imbalance that goes away was none.
func TestOffice_AuditLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stock := &moving{stubStock: &stubStock{shards: map[inventory.ShardID]inventory.Numbers{3: {Epoch: 1}}}}
		o, store := openOffice(t, stock.stubStock, testItems(1, 1))
		o.stock = stock
		store.books = []seckill.Book{book(1, 3, nil)}
		audits, err := o.Audit(t.Context(), "a")
		if err != nil || !audits[0].Balanced || stock.n != 3 {
			t.Errorf("%+v, %v after %d looks", audits, err, stock.n)
		}
	})
}

// moving is a stock that agrees with the books at the third look.
type moving struct {
	*stubStock
	n int
}

func (m *moving) ItemNumbers(context.Context, inventory.ShardID, []inventory.ItemID) (inventory.Numbers, []inventory.ItemNumbers, error) {
	m.n++
	return inventory.Numbers{Epoch: 1}, []inventory.ItemNumbers{{Item: 1, Known: true, Available: int64(1 + m.n), Held: 4, Sold: 2}}, nil
}

// An activity of 20,000 items is read in few calls.
func TestOffice_AuditOfManyItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stock := &stubStock{levels: map[seckill.StockKey]inventory.ItemNumbers{}, shards: map[inventory.ShardID]inventory.Numbers{}}
		o, store := openOffice(t, stock, testItems(1, 1))
		for i := range seckill.MaxItems {
			item := inventory.ItemID(i + 1)
			shard := inventory.Home(item, 16)
			stock.shards[shard] = inventory.Numbers{Epoch: 1}
			stock.levels[seckill.StockKey{Item: item, Shard: shard}] = inventory.ItemNumbers{Known: true, Available: 4, Held: 4, Sold: 2}
			store.books = append(store.books, book(item, shard, nil))
		}
		began := time.Now()
		audits, err := o.Audit(t.Context(), "a")
		if err != nil || len(audits) != seckill.MaxItems || !balanced(audits) || time.Since(began) != 0 {
			t.Errorf("%d audits, %v, after %v", len(audits), err, time.Since(began))
		}
		if stock.looks > 16*2 {
			t.Errorf("%d calls", stock.looks)
		}
	})
}

func TestOffice_AuditFails(t *testing.T) {
	o, store := openOffice(t, &stubStock{}, testItems(1, 1))
	store.books = []seckill.Book{book(1, 3, nil)}
	o.stock = &silent{&stubStock{}}
	if _, err := o.Audit(t.Context(), "a"); codeOf(t, err) != seckill.CodeUnavailable {
		t.Error(err)
	}
}

// silent is a stock that can't be read.
type silent struct{ *stubStock }

func (*silent) ItemNumbers(context.Context, inventory.ShardID, []inventory.ItemID) (inventory.Numbers, []inventory.ItemNumbers, error) {
	return inventory.Numbers{}, nil, errors.New("away")
}
