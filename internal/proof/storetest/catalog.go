package storetest

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"penstock/seckill"
)

func catalogCases() []testCase {
	return []testCase{
		{"LoadCatalog_IsNilWhenTheVersionIsKnown", loadKnown},
		{"LoadCatalog_ReturnsEverything", loadEverything},
		{"PutMerchant_CreatesAndRenames", putMerchant},
		{"PutMerchant_KeepsTheSecretUnlessThereIsANewOne", keepSecret},
		{"PutMerchant_RepeatedChangesNothing", repeatMerchant},
		{"AddCaller_NeedsItsMerchantAndAFreshName", addCaller},
		{"SetCallerRevoked_BothWays", revokeCaller},
		{"UpdateActivity_Creates", createActivity},
		{"UpdateActivity_ReturnsTheChangesErrorAsItIs", refuseActivity},
		{"UpdateActivity_ChangesADraft", changeDraft},
		{"UpdateActivity_LeavesTheQuantityOfAnOpenedItem", keepQuantity},
		{"UpdateActivity_NeverWritesEpochOrSuspect", keepEpoch},
		{"UpdateActivity_DeletesOnlyWhatWasNeverOpened", deleteItems},
		{"UpdateActivity_NeverGivesAnItemIDTwice", freshItemIDs},
		{"UpdateActivity_EndsByHand", endActivity},
		{"UpdateActivity_RepeatedChangesNothing", repeatActivity},
		{"UpdateActivity_NeedsItsMerchant", orphanActivity},
	}
}

func loadKnown(t *testing.T, open Open) {
	s := emptyShop(t, open)
	first := s.catalog()
	if first.Version <= 0 {
		t.Fatalf("version %d is what a gateway without a catalog knows", first.Version)
	}
	known, err := s.store.LoadCatalog(s.ctx, first.Version)
	s.must(err)
	if known != nil {
		t.Fatalf("version %d again: %+v", first.Version, known)
	}
	s.raises(func() { s.sell(goods{"phone-x", 10, 0}) })
	newer, err := s.store.LoadCatalog(s.ctx, first.Version)
	s.must(err)
	if newer == nil || len(newer.Activities) != 1 {
		t.Fatalf("after a change: %+v", newer)
	}
}

func loadEverything(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell(goods{"phone-x", 10, 2}, goods{"phone-y", 20, 0})
	s.must(s.store.PutMerchant(s.ctx, seckill.Merchant{ID: "m0", Name: "Books"}, author))
	other := s.draft("books")
	other.Merchant, other.State = "m0", seckill.ActivityDraft
	s.putActivity(other)
	created := s.clock.read()
	data := s.catalog()
	equal(s, "merchants", data.Merchants, []seckill.Merchant{
		{ID: "m0", Name: "Books"}, {ID: merchant, Name: "Phones", PaymentSecret: "s3cret"},
	})
	equal(s, "callers", data.Callers, []seckill.Caller{
		{CallerRef: caller, Name: "App", Rights: seckill.RightBuy, KeyHash: [32]byte{1}, Created: created},
	})
	phones := s.draft(activity, goods{"phone-x", 10, 2}, goods{"phone-y", 20, 0})
	phones.State = seckill.ActivityPublished
	for i := range phones.Items {
		phones.Items[i].ID = s.items[i].ID
	}
	equal(s, "activities", data.Activities, []seckill.Activity{*phones, *other})
}

func putMerchant(t *testing.T, open Open) {
	s := emptyShop(t, open)
	m := seckill.Merchant{ID: merchant, Name: "Phönes & \"Co\" 手机"}
	s.raises(func() { s.must(s.store.PutMerchant(s.ctx, m, author)) })
	made := s.lastChange("merchant", string(merchant))
	if made.Before != "" {
		t.Errorf("before it was made: %s", made.Before)
	}
	m.Name = "Phones"
	s.raises(func() { s.must(s.store.PutMerchant(s.ctx, m, author)) })
	equal(s, "merchants", s.catalog().Merchants, []seckill.Merchant{m})
	renamed := s.lastChange("merchant", string(merchant))
	var before, after seckill.Merchant
	s.decode(renamed.Before, &before)
	s.decode(renamed.After, &after)
	equal(s, "names", []string{before.Name, after.Name}, []string{"Phönes & \"Co\" 手机", "Phones"})
}

func (s *shop) decode(text string, into any) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		s.t.Fatalf("%q: %v", text, err)
	}
}

func keepSecret(t *testing.T, open Open) {
	s := emptyShop(t, open)
	secret := func() string { return s.catalog().Merchants[0].PaymentSecret }
	s.must(s.store.PutMerchant(s.ctx, seckill.Merchant{ID: merchant, Name: "Phones", PaymentSecret: "first"}, author))
	s.must(s.store.PutMerchant(s.ctx, seckill.Merchant{ID: merchant, Name: "Telephones"}, author))
	equal(s, "secret", secret(), "first")
	s.raises(func() {
		s.must(s.store.PutMerchant(s.ctx, seckill.Merchant{ID: merchant, Name: "Telephones", PaymentSecret: "second"}, author))
	})
	equal(s, "secret", secret(), "second")
	s.lastChange("merchant", string(merchant))
}

func repeatMerchant(t *testing.T, open Open) {
	s := emptyShop(t, open)
	m := seckill.Merchant{ID: merchant, Name: "Phones", PaymentSecret: "first"}
	s.must(s.store.PutMerchant(s.ctx, m, author))
	s.unchanged(func() {
		s.must(s.store.PutMerchant(s.ctx, m, author))
		m.PaymentSecret = ""
		s.must(s.store.PutMerchant(s.ctx, m, author))
	})
}

func addCaller(t *testing.T, open Open) {
	s := emptyShop(t, open)
	c := seckill.Caller{
		CallerRef: caller, Name: "App", Rights: seckill.RightBuy | seckill.RightMerchant, Shadow: true, KeyHash: [32]byte{1, 2, 3, 31: 9},
	}
	s.unchanged(func() { s.wants(s.store.AddCaller(s.ctx, c, author), seckill.ErrNotFound) })
	s.must(s.store.PutMerchant(s.ctx, seckill.Merchant{ID: merchant, Name: "Phones"}, author))
	s.raises(func() { s.must(s.store.AddCaller(s.ctx, c, author)) })
	change := s.lastChange("caller", caller.String())
	var after seckill.Caller
	s.decode(change.After, &after)
	equal(s, "recorded caller", after, seckill.Caller{CallerRef: caller, Name: "App", Rights: c.Rights, Shadow: true})
	equal(s, "before it was made", change.Before, "")
	c.Created = s.clock.read()
	equal(s, "callers", s.catalog().Callers, []seckill.Caller{c})

	s.unchanged(func() { s.wants(s.store.AddCaller(s.ctx, c, author), seckill.ErrExists) })
	s.must(s.store.SetCallerRevoked(s.ctx, caller, true, author))
	s.wants(s.store.AddCaller(s.ctx, c, author), seckill.ErrExists) // a name that was ever used
	s.must(s.store.PutMerchant(s.ctx, seckill.Merchant{ID: "m2", Name: "Others"}, author))
	c.Merchant, c.KeyHash = "m2", [32]byte{7}
	s.must(s.store.AddCaller(s.ctx, c, author)) // names are a merchant's own
}

func revokeCaller(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell()
	s.unchanged(func() {
		nobody := seckill.CallerRef{Merchant: merchant, Caller: "nobody"}
		s.wants(s.store.SetCallerRevoked(s.ctx, nobody, true, author), seckill.ErrNotFound)
		s.must(s.store.SetCallerRevoked(s.ctx, caller, false, author))
	})
	for _, revoked := range []bool{true, false} {
		s.raises(func() { s.must(s.store.SetCallerRevoked(s.ctx, caller, revoked, author)) })
		equal(s, "revoked", s.catalog().Callers[0].Revoked, revoked)
		change := s.lastChange("caller", caller.String())
		var before, after seckill.Caller
		s.decode(change.Before, &before)
		s.decode(change.After, &after)
		equal(s, "recorded", []bool{before.Revoked, after.Revoked}, []bool{!revoked, revoked})
		s.unchanged(func() { s.must(s.store.SetCallerRevoked(s.ctx, caller, revoked, author)) })
	}
}

func createActivity(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell()
	want := s.draft("books", goods{"b", 5, 1}, goods{"a", 7, 0})
	var old *seckill.Activity
	called := false
	var got *seckill.Activity
	s.raises(func() {
		var err error
		got, err = s.store.UpdateActivity(s.ctx, "books", author, func(a *seckill.Activity) (*seckill.Activity, error) {
			old, called = a, true
			return want, nil
		})
		s.must(err)
	})
	if !called || old != nil {
		t.Fatalf("change was called: %v, with %+v", called, old)
	}
	for i := range got.Items {
		if got.Items[i].ID == 0 || i > 0 && got.Items[i].ID == got.Items[0].ID {
			t.Fatalf("item ids: %+v", got.Items)
		}
		want.Items[i].ID = got.Items[i].ID
	}
	equal(s, "activity", got, want)
	equal(s, "activity in the catalog", s.catalog().Activities[1], *want)
	change := s.lastChange("activity", "books")
	var after seckill.Activity
	s.decode(change.After, &after)
	equal(s, "recorded activity", after, *want)
	equal(s, "before it was made", change.Before, "")
}

func refuseActivity(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 2})
	refusal := error(&seckill.Refusal{Code: seckill.CodeNotEditable})
	before := s.catalog()
	s.unchanged(func() {
		got, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
			a.Name = "changed in place"
			a.Items[0].Quantity = 99
			return a, refusal
		})
		if err != refusal || got != nil {
			t.Fatalf("got %+v, %v", got, err)
		}
	})
	equal(s, "catalog", s.catalog(), before)
	s.order(0, "u", "k", 1) // and nothing stays locked
}

func changeDraft(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell()
	first := s.putActivity(s.draft("books", goods{"a", 5, 1}, goods{"b", 7, 0}, goods{"c", 1, 0}))
	a, c := first.Items[0], first.Items[2]
	a.Price, a.Quantity, a.PerUser = seckill.Money{Minor: 5, Currency: "EUR"}, 50, 3
	want := s.draft("books", goods{"z", 9, 4})
	want.Name, want.PaymentWindow, want.Items = "New name", time.Minute, []seckill.Item{c, want.Items[0], a} // b is gone
	want.StartsAt, want.EndsAt = want.StartsAt.Add(time.Hour), want.EndsAt.Add(2*time.Hour)
	var got *seckill.Activity
	s.raises(func() {
		var err error
		got, err = s.store.UpdateActivity(s.ctx, "books", author, func(old *seckill.Activity) (*seckill.Activity, error) {
			equal(s, "old activity", old, first)
			return want, nil
		})
		s.must(err)
	})
	want.Items[1].ID = got.Items[1].ID
	equal(s, "activity", got, want)
	change := s.lastChange("activity", "books")
	var before, after seckill.Activity
	s.decode(change.Before, &before)
	s.decode(change.After, &after)
	equal(s, "recorded before", &before, first)
	equal(s, "recorded after", &after, want)
}

func keepQuantity(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 2})
	got, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		a.Name, a.Items[0].Quantity = "Renamed", 1000
		return a, nil
	})
	s.must(err)
	equal(s, "name and quantity", []any{got.Name, got.Items[0].Quantity}, []any{"Renamed", int64(10)})
	s.counts(0, 10, 0, 0)
}

func keepEpoch(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 2})
	got, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		a.State, a.Items[0].Epoch, a.Items[0].Suspect = seckill.ActivityPaused, 7, true
		return a, nil
	})
	s.must(err)
	equal(s, "epoch and suspect", []any{got.Items[0].Epoch, got.Items[0].Suspect}, []any{s.items[0].Epoch, false})
}

func deleteItems(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 2}, goods{"phone-y", 10, 2})
	before := s.catalog()
	s.unchanged(func() {
		_, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
			a.Name, a.Items = "Renamed", a.Items[:1]
			return a, nil
		})
		if err == nil {
			t.Fatal("an opened item was deleted")
		}
	})
	equal(s, "catalog", s.catalog(), before)

	draft := s.putActivity(s.draft("books", goods{"a", 5, 1}))
	_, _, err := s.store.Restock(s.ctx, seckill.StockChange{Item: draft.Items[0].ID, Key: "k", Delta: 3}, author)
	s.must(err)
	draft.Items = nil
	if got := s.putActivity(draft); len(got.Items) != 0 {
		t.Fatalf("items %+v", got.Items)
	}
	if rows := s.outbox(); len(rows) != 0 {
		t.Fatalf("outbox %+v", rows)
	}
}

func freshItemIDs(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell()
	first := s.putActivity(s.draft("books", goods{"a", 5, 1})).Items[0]
	s.putActivity(s.draft("books"))
	second := s.putActivity(s.draft("books", goods{"a", 5, 1})).Items[0]
	if second.ID == first.ID {
		t.Fatalf("item id %d was given out twice: old order ids would name the new item", first.ID)
	}
}

func endActivity(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 2})
	s.clock.advance(time.Minute)
	ended := s.clock.read()
	got, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		a.State, a.EndedAt = seckill.ActivityEnded, ended
		return a, nil
	})
	s.must(err)
	equal(s, "ended", []any{got.State, got.EndedAt, got.Closes()}, []any{seckill.ActivityEnded, ended, ended})
	equal(s, "in the catalog", s.catalog().Activities[0], *got)
}

func repeatActivity(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 2})
	s.unchanged(func() {
		_, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) { return a, nil })
		s.must(err)
	})
}

func orphanActivity(t *testing.T, open Open) {
	s := emptyShop(t, open)
	a := s.draft("books", goods{"a", 5, 1})
	_, err := s.store.UpdateActivity(s.ctx, a.ID, author, func(*seckill.Activity) (*seckill.Activity, error) { return a, nil })
	if !errors.Is(err, seckill.ErrNotFound) {
		t.Fatalf("an activity of nobody: %v", err)
	}
	equal(s, "activities", len(s.catalog().Activities), 0)
}
