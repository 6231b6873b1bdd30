package seckill

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestChangeRecords_HaveNoSecretsAndReadBack(t *testing.T) {
	merchant := &Merchant{ID: "m", Name: "Phones", PaymentSecret: "hush"}
	caller := &Caller{CallerRef: CallerRef{"m", "app"}, Name: "App", Rights: RightBuy, Keys: []CallerKey{{ID: "k", Prefix: "psk_x", Hash: [32]byte{0xc5, 0xc5}}}}
	token := &Token{ID: "t-1", Name: "ann", Role: RoleAdmin, Hash: [32]byte{0xc5, 0xc5}}
	revoked, renamed := *caller, *merchant
	revoked.Revoked, renamed.Name = true, "Telephones"
	record := func(r ChangeRecord, err error) ChangeRecord {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	tests := []struct {
		name string
		got  ChangeRecord
		want ChangeRecord
	}{
		{"a merchant that is made", record(RecordMerchant(nil, merchant)),
			ChangeRecord{"merchant", "m", "", `{"ID":"m","Name":"Phones","NewPaymentSecret":true}`}},
		{"a merchant that is renamed", record(RecordMerchant(merchant, &renamed)),
			ChangeRecord{"merchant", "m", `{"ID":"m","Name":"Phones"}`, `{"ID":"m","Name":"Telephones"}`}},
		{"a caller that is revoked", record(RecordCaller(caller, &revoked)), ChangeRecord{"caller", "m/app",
			`{"Merchant":"m","Caller":"app","Name":"App","Rights":1,"Shadow":false,"Revoked":false,"Keys":[{"ID":"k","Prefix":"psk_x","Revoked":false}]}`,
			`{"Merchant":"m","Caller":"app","Name":"App","Rights":1,"Shadow":false,"Revoked":true,"Keys":[{"ID":"k","Prefix":"psk_x","Revoked":false}]}`}},
		{"a token that is made", record(RecordToken(nil, token)),
			ChangeRecord{"token", "ann", "", `{"ID":"t-1","Name":"ann","Role":5}`}},
		{"a token that is deleted", record(RecordToken(token, nil)), ChangeRecord{"token", "ann", `{"ID":"t-1","Name":"ann","Role":5}`, ""}},
		{"a restock", record(RecordStock("a", "s", StockChange{7, "k", 5}, 10, 15)),
			ChangeRecord{"stock", "a/s", `{"Item":7,"Total":10}`, `{"Item":7,"Key":"k","Delta":5,"Total":15}`}},
		{"dead letters", record(RecordDeadLetters([]DeadLetter{{ID: 3, Value: []byte{1}}, {ID: 5}})), ChangeRecord{"dead-letters", "3,5",
			`[{"ID":3,"Order":"","Partition":0,"Offset":0,"At":"0001-01-01T00:00:00Z","Problem":"","Value":"AQ=="},` +
				`{"ID":5,"Order":"","Partition":0,"Offset":0,"At":"0001-01-01T00:00:00Z","Problem":"","Value":null}]`, ""}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.got != test.want {
				t.Errorf("got  %+v\nwant %+v", test.got, test.want)
			}
			if text := test.got.Before + test.got.After; strings.Contains(text, "hush") || strings.Contains(text, "197") {
				t.Errorf("a secret is shown: %s", text)
			}
		})
	}
}

func TestRecordActivity(t *testing.T) {
	before := &Activity{
		ID: "a", Merchant: "m", Name: "Sale", State: ActivityDraft, StartsAt: time.Unix(1, 0), EndsAt: time.Unix(2, 0),
		Items: []Item{{ID: 1, SKU: "s", Quantity: 5, Spread: 1}},
	}
	with := func(change func(*Activity)) *Activity {
		after := *before
		after.Items = append([]Item(nil), before.Items...)
		change(&after)
		return &after
	}
	tests := []struct {
		name    string
		before  *Activity
		after   *Activity
		changed bool
		items   bool // are recorded
	}{
		{"that is made", nil, before, true, true},
		{"that stays", before, with(func(a *Activity) { a.EndsAt = a.EndsAt.UTC() }), false, false},
		{"that is renamed", before, with(func(a *Activity) { a.Name = "Other" }), true, true},
		{"that is published", before, with(func(a *Activity) { a.State = ActivityPublished }), true, false},
		{"with changed items", before, with(func(a *Activity) { a.Items[0].MaxOrders = 3 }), true, true},
		{"that ends with other items", before, with(func(a *Activity) { a.State, a.Items = ActivityEnded, nil }), true, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, changed, err := RecordActivity(test.before, test.after)
			if err != nil || changed != test.changed {
				t.Fatalf("changed %v, %v", changed, err)
			}
			if !changed {
				return
			}
			var after Activity
			if err := json.Unmarshal([]byte(r.After), &after); err != nil {
				t.Fatal(err)
			}
			if after.State != test.after.State || after.Name != test.after.Name || (r.Before == "") != (test.before == nil) {
				t.Errorf("recorded %+v", r)
			}
			if got := strings.Contains(r.Before+r.After, `"SKU":"s"`); got != test.items {
				t.Errorf("items are recorded: %v", got)
			}
		})
	}
}
