package seckill

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"penstock/inventory"
)

func drawRecord(t *rapid.T) Record {
	name := rapid.StringN(0, 16, MaxNameLength)
	caller := CallerRef{MerchantID(name.Draw(t, "merchant")), CallerID(name.Draw(t, "caller"))}
	r := Record{
		Caller: caller, Activity: ActivityID(name.Draw(t, "activity")), SKU: SKU(name.Draw(t, "sku")),
		User:     UserID(rapid.StringN(0, 32, MaxUserLength).Draw(t, "user")),
		Quantity: rapid.IntRange(1, MaxQuantity).Draw(t, "quantity"),
		Amount:   Money{rapid.Int64Range(0, MaxPriceMinor*MaxQuantity).Draw(t, "amount"), "CNY"},
		Grant: Provenance{rapid.Uint16().Draw(t, "shard"), inventory.Epoch(rapid.Uint32().Draw(t, "epoch")),
			rapid.Uint64Range(0, 1<<63).Draw(t, "seq")},
		Accepted: time.UnixMilli(rapid.Int64Range(0, 1<<53).Draw(t, "accepted")),
	}
	item := inventory.ItemID(rapid.Uint32Range(1, 1<<32-1).Draw(t, "item"))
	r.Order = NewOrderID(item, caller, r.Activity, r.SKU, r.User, name.Draw(t, "key"))
	return r
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		got, err := ParseRecord(AppendRecord(nil, &want))
		if err != nil || got != want {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	})
}

// FuzzParseRecord: any bytes either are the one encoding of a sound record, or are refused as ErrRecord.
func FuzzParseRecord(f *testing.F) {
	r := Record{Order: NewOrderID(7, CallerRef{"m", "c"}, "a", "s", "u", "k"), Caller: CallerRef{"m", "c"}, Activity: "a", SKU: "s", User: "u",
		Quantity: 2, Amount: Money{100, "CNY"}, Grant: Provenance{0, 3, 9}, Accepted: time.UnixMilli(1)}
	f.Add(AppendRecord(nil, &r))
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Add([]byte{2, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Fatalf("error %v is not ErrRecord", err)
			}
			return
		}
		if r.Item() == 0 || r.Quantity <= 0 || r.Quantity > MaxQuantity || r.Amount.Minor < 0 {
			t.Fatalf("unsound record %+v", r)
		}
		again, err := ParseRecord(AppendRecord(nil, &r))
		if err != nil || again != r {
			t.Fatalf("%+v does not survive its own encoding: %+v, %v", r, again, err)
		}
	})
}

func TestOrderID(t *testing.T) {
	caller := CallerRef{"m1", "web"}
	id := NewOrderID(77, caller, "618", "phone", "u-1", "k-1")
	if len(id) != 32 || id.Item() != 77 || !id.Of(caller) {
		t.Fatalf("%s: item %d, of its caller %v", id, id.Item(), id.Of(caller))
	}
	if parsed, err := ParseOrderID(string(id)); err != nil || parsed != id {
		t.Fatalf("parse: %s, %v", parsed, err)
	}
	seen := map[OrderID]string{id: "itself"}
	for what, other := range map[string]OrderID{
		"item":           NewOrderID(78, caller, "618", "phone", "u-1", "k-1"),
		"merchant":       NewOrderID(77, CallerRef{"m2", "web"}, "618", "phone", "u-1", "k-1"),
		"caller":         NewOrderID(77, CallerRef{"m1", "app"}, "618", "phone", "u-1", "k-1"),
		"activity":       NewOrderID(77, caller, "11", "phone", "u-1", "k-1"),
		"sku":            NewOrderID(77, caller, "618", "case", "u-1", "k-1"),
		"user":           NewOrderID(77, caller, "618", "phone", "u-2", "k-1"),
		"key":            NewOrderID(77, caller, "618", "phone", "u-1", "k-2"),
		"shifted border": NewOrderID(77, caller, "618", "phone", "u-1k", "-1"),
	} {
		if was, ok := seen[other]; ok {
			t.Errorf("another %s gives the id of %s", what, was)
		}
		seen[other] = what
	}
	if id.Of(CallerRef{"m1", "app"}) || id.Of(CallerRef{"m2", "web"}) {
		t.Error("the id carries another caller's tag")
	}
	for _, bad := range []string{"", "x", string(id) + "0", string(id[:31]), string(id[:31]) + "!", string(bytes.ToUpper([]byte(id)))} {
		if _, err := ParseOrderID(bad); !errors.Is(err, ErrOrderID) {
			t.Errorf("%q is an order id: %v", bad, err)
		}
	}
	w := NewWithdrawalID(77, "k")
	if !IsWithdrawal(w) || IsWithdrawal(string(id)) {
		t.Errorf("withdrawal %q", w)
	}
}

func FuzzParseOrderID(f *testing.F) {
	f.Add(string(NewOrderID(7, CallerRef{"m", "c"}, "a", "s", "u", "k")))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseOrderID(s)
		if err != nil {
			return
		}
		var raw [orderIDBytes]byte
		if !decodeOrderID(s, &raw) || orderIDEncoding.EncodeToString(raw[:]) != s {
			t.Fatalf("%q is not the one spelling of %x", s, raw)
		}
		_ = id.Item()
	})
}
