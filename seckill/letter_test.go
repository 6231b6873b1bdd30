package seckill

import (
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
)

func TestLetterOrders(t *testing.T) {
	caller := CallerRef{"m", "c"}
	promise := func(user UserID) Promise {
		return Promise{Order: NewOrderID(7, caller, user, "k"), Caller: caller, User: user, Quantity: 2, SKU: "s", Accepted: time.UnixMilli(5)}
	}
	page := Page{PageHeader: PageHeader{Ref: inventory.Ref{Shard: 1, Epoch: 2}, Node: "n", Put: time.UnixMilli(9)},
		Promises: []Promise{promise("u"), promise("v")}}
	value := AppendPage(nil, &page)
	broken := append([]byte(nil), value...)
	broken[len(broken)-1] ^= 1
	for name, test := range map[string]struct {
		letter DeadLetter
		want   int
	}{
		"of an order":            {DeadLetter{Order: "o", Value: value}, 1},
		"of a record":            {DeadLetter{Value: value}, 2},
		"of a damaged body":      {DeadLetter{Value: broken}, 2},
		"of an unknown version":  {DeadLetter{Value: []byte{99, 1}}, 0},
		"of nothing that is one": {DeadLetter{}, 0},
	} {
		if got := LetterOrders(&test.letter); len(got) != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestLetterOf: the letter that is made from an order's row decodes to the original promise.
func TestLetterOf(t *testing.T) {
	o := Order{
		ID: NewOrderID(7, CallerRef{"m", "c"}, "u", "k"), Item: 7, Caller: CallerRef{"m", "c"}, Activity: "a", SKU: "s",
		User: "u", Quantity: 2, Amount: Money{200, "CNY"}, Grant: Provenance{3, 4, 5, 6, 7}, Request: "r", Node: "n",
		Accepted: time.UnixMilli(1234),
	}
	l := letterOf(&o)
	page, err := ParsePage(l.Value)
	if err != nil || l.Order != o.ID || l.Partition != 6 || l.Offset != 7 || page.Ref != (inventory.Ref{Shard: 3, Epoch: 4}) {
		t.Fatalf("%+v, %+v, %v", l, page, err)
	}
	bare := Order{ID: o.ID, Item: 7, Quantity: 2, Grant: o.Grant}
	again := readAnew(&bare, &page, &page.Promises[0])
	if again.Accepted = again.Accepted.UTC(); again.Accepted.Equal(o.Accepted) {
		again.Accepted = o.Accepted
	}
	if again != o {
		t.Errorf("got  %+v\nwant %+v", again, o)
	}
}
