package seckill

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock/penstock/inventory"
)

func drawPage(t *rapid.T) Page {
	name := rapid.StringN(0, 16, MaxNameLength)
	p := Page{PageHeader: PageHeader{
		Ref:  inventory.Ref{Shard: inventory.ShardID(rapid.IntRange(0, 1023).Draw(t, "shard")), Epoch: inventory.Epoch(rapid.Int64Range(0, 1<<53-1).Draw(t, "epoch"))},
		Seq:  rapid.Uint64Range(0, 1<<53).Draw(t, "seq"),
		Node: name.Draw(t, "node"),
		Put:  time.UnixMilli(rapid.Int64Range(1<<41, 1<<53).Draw(t, "put")),
	}}
	for range rapid.IntRange(0, 40).Draw(t, "promises") {
		caller := CallerRef{MerchantID(name.Draw(t, "merchant")), CallerID(name.Draw(t, "caller"))}
		r := Promise{
			Caller: caller, Activity: ActivityID(name.Draw(t, "activity")), SKU: SKU(name.Draw(t, "sku")),
			User:     UserID(rapid.StringN(0, 32, MaxUserLength).Draw(t, "user")),
			Quantity: rapid.IntRange(1, MaxQuantity).Draw(t, "quantity"),
			Amount:   Money{rapid.Int64Range(0, MaxPriceMinor*MaxQuantity).Draw(t, "amount"), "CNY"},
			Request:  name.Draw(t, "request"), Trace: rapid.SampledFrom([]string{"", "0123456789abcdef01234567"}).Draw(t, "trace"),
			Accepted: p.Put.Add(-time.Duration(rapid.Int64Range(0, 5000).Draw(t, "age")) * time.Millisecond),
		}
		item := inventory.ItemID(rapid.Uint32Range(1, 1<<32-1).Draw(t, "item"))
		r.Order = NewOrderID(item, caller, r.User, name.Draw(t, "key"))
		p.Promises = append(p.Promises, r)
		p.Orders = append(p.Orders, Claimed{r.Order, r.Quantity})
	}
	return p
}

func TestParsePage(t *testing.T) {
	t.Run("what was written is read", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			want := drawPage(t)
			got, err := ParsePage(AppendPage(nil, &want))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("got %+v, %v; want %+v", got, err, want)
			}
		})
	})
	t.Run("a page with a changed or missing byte is refused", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			page := drawPage(t)
			b := AppendPage(nil, &page)
			at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			if rapid.Bool().Draw(t, "cut") {
				b = b[:at]
			} else {
				b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
			}
			got, err := ParsePage(b)
			if !errors.Is(err, ErrPage) && !errors.Is(err, ErrPageVersion) {
				t.Fatalf("got %+v, %v; want an error", got, err)
			}
		})
	})
	t.Run("a damaged body leaves the header", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			page := drawPage(t)
			if len(page.Promises) == 0 {
				return
			}
			b := AppendPage(nil, &page)
			b[len(b)-1] ^= 1
			got, err := ParsePage(b)
			if !errors.Is(err, ErrPage) || !reflect.DeepEqual(got.PageHeader, page.PageHeader) || got.Promises != nil {
				t.Fatalf("got %+v, %v; want the header of %+v", got, err, page)
			}
		})
	})
}

func FuzzParsePage(f *testing.F) {
	caller := CallerRef{"m", "c"}
	order := NewOrderID(7, caller, "u", "k")
	f.Add(AppendPage(nil, &Page{PageHeader: PageHeader{Ref: inventory.Ref{Shard: 1, Epoch: 2}, Put: time.UnixMilli(1)}}))
	f.Add(AppendPage(nil, &Page{
		PageHeader: PageHeader{Ref: inventory.Ref{Shard: 1, Epoch: 2}, Seq: 3, Node: "n", Put: time.UnixMilli(1 << 40)},
		Promises:   []Promise{{Order: order, Caller: caller, User: "u", Quantity: 1, Accepted: time.UnixMilli(1 << 40)}},
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePage(b)
		if err != nil {
			return
		}
		again, err := ParsePage(AppendPage(nil, &p))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v is read as %+v, %v", p, again, err)
		}
	})
}
