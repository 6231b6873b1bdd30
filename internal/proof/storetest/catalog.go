package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func catalogCases() []testCase {
	return []testCase{
		{"LoadCatalog_HasNothingNewWhenTheVersionIsKnown", loadKnown},
		{"LoadCatalog_HandsOutEverything", loadEverything},
		{"LoadCatalog_HandsOutWhatChanged", loadChanges},
		{"Incarnation_AVersionOfAnotherOneIsNone", loadForeign},
		{"LoadCatalog_EndsWithAnErrorOfApply", loadFails},
		{"LoadCatalog_OfMany", loadMany},
		{"FindActivity_HasThePresentQuantities", findActivity},
		{"UpdateMerchant_CreatesAndRenames", putMerchant},
		{"UpdateMerchant_KeepsTheSecretUnlessThereIsANewOne", keepSecret},
		{"UpdateMerchant_RepeatedChangesNothing", repeatMerchant},
		{"UpdateMerchant_RollsTheSecret", rollSecret},
		{"UpdateCaller_NeedsItsMerchantAndAFreshName", addCaller},
		{"UpdateCaller_OfARevokedOneBringsItBack", reviveCaller},
		{"UpdateCaller_RevokesBothWays", revokeCaller},
		{"UpdateCaller_HasSeveralKeys", callerKeys},
		{"KeyUses_GoForward", keyUses},
		{"UpdateActivity_Creates", createActivity},
		{"UpdateActivity_ReturnsTheChangesErrorAsItIs", refuseActivity},
		{"UpdateActivity_ChangesADraft", changeDraft},
		{"UpdateActivity_LeavesTheQuantityOfWhatIsOnSale", keepQuantity},
		{"UpdateActivity_DeletesOnlyADraftsItems", deleteItems},
		{"UpdateActivity_DividesASpreadItem", spreadItems},
		{"TestL3_APublicationTravelsThroughTheOutbox", publishItems},
		{"Publish_OfManyItems", publishMany},
		{"UpdateActivity_NeverGivesAnItemIDTwice", freshItemIDs},
		{"UpdateActivity_EndsByHand", endActivity},
		{"UpdateActivity_RepeatedChangesNothing", repeatActivity},
		{"UpdateActivity_NeedsItsMerchant", orphanActivity},
	}
}

func loadKnown(t *testing.T, open Open) {
	s := emptyShop(t, open)
	first := s.catalog()
	if first.Version.Number <= 0 || first.Version.Incarnation == "" {
		t.Fatalf("version %+v is what a gateway without a catalog knows", first.Version)
	}
	equal(s, "changes", s.since(first.Version), catalog{Version: first.Version})
	s.raises(func() { s.sell(goods{"phone-x", 10, 0, 1}) })
	newer := s.since(first.Version)
	equal(s, "changes", []int{len(newer.Merchants), len(newer.Callers), len(newer.Activities)}, []int{1, 1, 1})
	equal(s, "changes afterwards", s.since(newer.Version), catalog{Version: newer.Version})
}

func loadEverything(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell(goods{"phone-x", 10, 2, 1}, goods{"phone-y", 20, 0, 3})
	s.must(seckill.PutMerchant(s.ctx, s.store, seckill.Merchant{ID: "m0", Name: "Books"}, author))
	other := s.draft("books")
	other.Merchant, other.State = "m0", seckill.ActivityDraft
	s.putActivity(other)
	created := s.clock.read()
	key := appKey
	key.Created = created
	got := s.catalog()
	equal(s, "merchants", got.Merchants, []seckill.Merchant{
		{ID: "m0", Name: "Books"}, {ID: merchant, Name: "Phones", PaymentSecret: "s3cret"},
	})
	equal(s, "callers", got.Callers, []seckill.Caller{
		{CallerRef: caller, Name: "App", Rights: seckill.RightBuy, Created: created, Keys: []seckill.CallerKey{key}},
	})
	phones := s.draft(activity, goods{"phone-x", 10, 2, 1}, goods{"phone-y", 20, 0, 3})
	phones.State = seckill.ActivityPublished
	for i := range phones.Items {
		phones.Items[i].ID = s.items[i].ID
	}
	equal(s, "activities", got.Activities, []seckill.Activity{*phones, *other})
	equal(s, "kept", len(got.Kept), 0)
}

// loadChanges: a gateway asks for changes. The items of an activity are not sent again when they
// did not change.
func loadChanges(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 2, 1}, goods{"phone-y", 20, 0, 3})
	s.putActivity(s.draft("books", goods{"b", 5, 0, 1}))
	version := s.catalog().Version

	s.restock(0, "r", 5)
	s.fenceAll()
	s.order(0, "u", "k", 1)
	equal(s, "changes", s.since(version), catalog{Version: version})

	paused, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		a.State = seckill.ActivityPaused
		return a, nil
	})
	s.must(err)
	got := s.since(version)
	equal(s, "kept", got.Kept, []seckill.ActivityID{activity})
	paused.Items = nil
	equal(s, "activities", got.Activities, []seckill.Activity{*paused})

	books := s.draft("books", goods{"b", 6, 0, 1}, goods{"a", 7, 0, 1})
	books.Items[0].ID = s.findActivity("books").Items[0].ID
	books = s.putActivity(books)
	got = s.since(got.Version)
	equal(s, "activities", got.Activities, []seckill.Activity{*books})
	equal(s, "kept", len(got.Kept), 0)
	got = s.since(version)
	equal(s, "since the first version", []int{len(got.Activities), len(got.Kept), len(got.Callers)}, []int{2, 1, 0})

	s.must(s.setRevoked(caller, true))
	last := s.since(got.Version)
	equal(s, "changes", []int{len(last.Callers), len(last.Activities), len(last.Merchants)}, []int{1, 0, 0})
	equal(s, "revoked", last.Callers[0].Revoked, true)
}

// findActivity reads an activity.
func (s *shop) findActivity(id seckill.ActivityID) *seckill.Activity {
	s.t.Helper()
	a, err := s.store.FindActivity(s.ctx, id)
	s.must(err)
	return a
}

// loadForeign: versions of another life of the database are ignored.
func loadForeign(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 2, 1})
	want := s.catalog()
	for _, since := range []seckill.CatalogVersion{
		{Incarnation: "another life", Number: want.Version.Number}, {Incarnation: "another life", Number: 1},
		{Number: want.Version.Number}, {Incarnation: want.Version.Incarnation},
	} {
		equal(s, "catalog", s.since(since), want)
	}
}

// loadFails: an error of apply is the answer.
func loadFails(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 2, 1})
	broken := errors.New("no room")
	_, err := s.store.LoadCatalog(s.ctx, seckill.CatalogVersion{}, func(bool) {}, func(seckill.CatalogChange) error { return broken })
	s.wants(err, broken)
	s.order(0, "u", "k", 1)
}

func loadMany(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell()
	want := make(map[seckill.ActivityID]int)
	for i := range 150 {
		id := seckill.ActivityID(fmt.Sprintf("sale-%03d", i))
		var list []goods
		for k := range i % 4 {
			list = append(list, goods{seckill.SKU(user(3 - k)), 5, 0, 1})
		}
		s.putActivity(s.draft(id, list...))
		want[id] = len(list)
	}
	got := s.catalog()
	equal(s, "activities", len(got.Activities), 151)
	for _, a := range got.Activities[1:] {
		equal(s, "items", len(a.Items), want[a.ID])
		for k := range a.Items {
			equal(s, "item's place", a.Items[k].SKU, seckill.SKU(user(3-k)))
		}
	}
}

func findActivity(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 2, 1}, goods{"phone-y", 20, 0, 3})
	_, err := s.store.FindActivity(s.ctx, "nothing")
	s.wants(err, seckill.ErrNotFound)
	s.restock(1, "r", 4)
	got := s.findActivity(activity)
	equal(s, "quantities", []int64{got.Items[0].Quantity, got.Items[1].Quantity}, []int64{10, 24})
	want := s.catalog().Activities[0]
	equal(s, "activity", *got, want)
}

func putMerchant(t *testing.T, open Open) {
	s := emptyShop(t, open)
	m := seckill.Merchant{ID: merchant, Name: "Phönes & \"Co\" 手机"}
	s.raises(func() { s.must(seckill.PutMerchant(s.ctx, s.store, m, author)) })
	made := s.lastChange("merchant", string(merchant))
	if made.Before != "" {
		t.Errorf("before it was made: %s", made.Before)
	}
	m.Name = "Phones"
	s.raises(func() { s.must(seckill.PutMerchant(s.ctx, s.store, m, author)) })
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
	s.must(seckill.PutMerchant(s.ctx, s.store, seckill.Merchant{ID: merchant, Name: "Phones", PaymentSecret: "first"}, author))
	s.must(seckill.PutMerchant(s.ctx, s.store, seckill.Merchant{ID: merchant, Name: "Telephones"}, author))
	equal(s, "secret", secret(), "first")
	s.raises(func() {
		s.must(seckill.PutMerchant(s.ctx, s.store, seckill.Merchant{ID: merchant, Name: "Telephones", PaymentSecret: "second"}, author))
	})
	equal(s, "secret", secret(), "second")
	s.lastChange("merchant", string(merchant))
}

// rollSecret: the former secret stays valid for a while. The next rolling removes it.
func rollSecret(t *testing.T, open Open) {
	s := emptyShop(t, open)
	roll := func(secret string, overlap time.Duration) seckill.Merchant {
		var got *seckill.Merchant
		s.raises(func() {
			var err error
			got, err = s.store.UpdateMerchant(s.ctx, merchant, author, func(old *seckill.Merchant, now time.Time) (*seckill.Merchant, error) {
				if old == nil {
					old = &seckill.Merchant{ID: merchant, Name: "Phones"}
				}
				old.Roll(secret, now, overlap)
				return old, nil
			})
			s.must(err)
		})
		equal(s, "merchants", s.catalog().Merchants, []seckill.Merchant{*got})
		return *got
	}
	want := seckill.Merchant{ID: merchant, Name: "Phones", PaymentSecret: "one"}
	equal(s, "first", roll("one", time.Hour), want)
	want.PaymentSecret, want.FormerSecret, want.FormerUntil = "two", "one", s.clock.read().Add(time.Hour)
	equal(s, "second", roll("two", time.Hour+time.Nanosecond), want)
	change := s.lastChange("merchant", string(merchant))
	var after seckill.MerchantRecord
	s.decode(change.After, &after)
	equal(s, "recorded", after, seckill.MerchantRecord{ID: merchant, Name: "Phones", NewPaymentSecret: true, FormerUntil: want.FormerUntil})
	s.clock.advance(time.Minute)
	want.PaymentSecret, want.FormerSecret, want.FormerUntil = "three", "two", s.clock.read().Add(time.Hour)
	equal(s, "third", roll("three", time.Hour), want)
	want.PaymentSecret, want.FormerSecret, want.FormerUntil = "four", "", time.Time{}
	equal(s, "fourth", roll("four", 0), want)
}

func repeatMerchant(t *testing.T, open Open) {
	s := emptyShop(t, open)
	m := seckill.Merchant{ID: merchant, Name: "Phones", PaymentSecret: "first"}
	s.must(seckill.PutMerchant(s.ctx, s.store, m, author))
	s.unchanged(func() {
		s.must(seckill.PutMerchant(s.ctx, s.store, m, author))
		m.PaymentSecret = ""
		s.must(seckill.PutMerchant(s.ctx, s.store, m, author))
	})
}

// addCaller adds a caller with a key.
func (s *shop) addCaller(c seckill.Caller, key seckill.CallerKey) error {
	return seckill.AddCaller(s.ctx, s.store, c, key, author)
}

func (s *shop) setRevoked(ref seckill.CallerRef, revoked bool) error {
	return s.changeCaller(ref, func(old *seckill.Caller, _ time.Time) (*seckill.Caller, error) {
		return seckill.SetRevoked(old, revoked)
	})
}

func (s *shop) changeCaller(ref seckill.CallerRef, change func(*seckill.Caller, time.Time) (*seckill.Caller, error)) error {
	_, err := s.store.UpdateCaller(s.ctx, ref, author, change)
	return err
}

func addCaller(t *testing.T, open Open) {
	s := emptyShop(t, open)
	c := seckill.Caller{CallerRef: caller, Name: "App", Rights: seckill.RightBuy | seckill.RightMerchant, Shadow: true}
	key := seckill.CallerKey{ID: "k-1", Prefix: "psk_aaaaaa", Hash: [32]byte{1, 2, 3, 31: 9}}
	s.unchanged(func() { s.wants(s.addCaller(c, key), seckill.ErrNotFound) })
	s.must(seckill.PutMerchant(s.ctx, s.store, seckill.Merchant{ID: merchant, Name: "Phones"}, author))
	s.raises(func() { s.must(s.addCaller(c, key)) })
	change := s.lastChange("caller", caller.String())
	var after seckill.CallerRecord
	s.decode(change.After, &after)
	equal(s, "recorded caller", after, seckill.CallerRecord{CallerRef: caller, Name: "App", Rights: c.Rights, Shadow: true,
		Keys: []seckill.KeyRecord{{ID: "k-1", Prefix: "psk_aaaaaa"}}})
	equal(s, "before it was made", change.Before, "")
	c.Created, key.Created = s.clock.read(), s.clock.read()
	c.Keys = []seckill.CallerKey{key}
	equal(s, "callers", s.catalog().Callers, []seckill.Caller{c})

	s.unchanged(func() { s.wants(s.addCaller(c, key), seckill.ErrExists) })
	s.must(seckill.PutMerchant(s.ctx, s.store, seckill.Merchant{ID: "m2", Name: "Others"}, author))
	c.Merchant = "m2"
	s.must(s.addCaller(c, key)) // each merchant has its own names, and its own ids of keys
}

// reviveCaller: a caller that is added again under its name is the same one, with only the new key.
func reviveCaller(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell()
	s.must(s.setRevoked(caller, true))
	made := s.clock.read()
	s.clock.advance(time.Minute)
	second := seckill.CallerKey{ID: "k-2", Prefix: "psk_bbbbbb", Hash: [32]byte{2}}
	again := seckill.Caller{CallerRef: caller, Name: "App", Rights: seckill.RightMerchant}
	s.raises(func() { s.must(s.addCaller(again, second)) })
	first := appKey
	first.Revoked, first.Created, second.Created = true, made, s.clock.read()
	again.Created, again.Keys = made, []seckill.CallerKey{first, second}
	equal(s, "callers", s.catalog().Callers, []seckill.Caller{again})
}

func revokeCaller(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell()
	s.unchanged(func() {
		s.wants(s.setRevoked(seckill.CallerRef{Merchant: merchant, Caller: "nobody"}, true), seckill.ErrNotFound)
		s.must(s.setRevoked(caller, false))
	})
	for _, revoked := range []bool{true, false} {
		s.raises(func() { s.must(s.setRevoked(caller, revoked)) })
		equal(s, "revoked", s.catalog().Callers[0].Revoked, revoked)
		change := s.lastChange("caller", caller.String())
		var before, after seckill.CallerRecord
		s.decode(change.Before, &before)
		s.decode(change.After, &after)
		equal(s, "recorded", []bool{before.Revoked, after.Revoked}, []bool{!revoked, revoked})
		s.unchanged(func() { s.must(s.setRevoked(caller, revoked)) })
	}
}

// callerKeys: a caller has several keys, which are added and removed independently.
func callerKeys(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell()
	first, second := appKey, seckill.CallerKey{ID: "k-2", Prefix: "psk_bbbbbb", Hash: [32]byte{2}}
	first.Created = s.clock.read()
	s.clock.advance(time.Hour)
	s.raises(func() {
		s.must(s.changeCaller(caller, func(c *seckill.Caller, now time.Time) (*seckill.Caller, error) {
			second.Expires = now.Add(time.Minute + time.Nanosecond)
			c.Retire(second.ID, now, 2*time.Hour)
			return c, c.AddKey(second, now)
		}))
	})
	first.Expires = s.clock.read().Add(2 * time.Hour)
	second.Created, second.Expires = s.clock.read(), s.clock.read().Add(time.Minute) // to the microsecond
	held := func() []seckill.CallerKey { return s.catalog().Callers[0].Keys }
	equal(s, "keys", held(), []seckill.CallerKey{first, second})
	change := s.lastChange("caller", caller.String())
	var before, after seckill.CallerRecord
	s.decode(change.Before, &before)
	s.decode(change.After, &after)
	equal(s, "recorded before", before.Keys, []seckill.KeyRecord{{ID: "k-1", Prefix: first.Prefix}})
	equal(s, "recorded after", after.Keys, []seckill.KeyRecord{
		{ID: "k-1", Prefix: first.Prefix, Expires: first.Expires}, {ID: "k-2", Prefix: second.Prefix, Expires: second.Expires},
	})

	broken := errors.New("no")
	s.unchanged(func() {
		s.wants(s.changeCaller(caller, func(c *seckill.Caller, _ time.Time) (*seckill.Caller, error) {
			c.Keys[0].Revoked = true
			return c, broken
		}), broken)
	})
	s.raises(func() {
		s.must(s.changeCaller(caller, func(c *seckill.Caller, _ time.Time) (*seckill.Caller, error) {
			c.Keys = c.Keys[1:]
			c.Keys[0].Revoked = true
			return c, nil
		}))
	})
	second.Revoked = true
	equal(s, "keys", held(), []seckill.CallerKey{second})
}

// keyUses: the last use only goes forward, and is no change of the catalog.
func keyUses(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell()
	at := time.Unix(1_800_000_000, 0).UTC().Truncate(time.Minute)
	use := func(key seckill.KeyID, at time.Time) seckill.KeyUse {
		return seckill.KeyUse{CallerRef: caller, Key: key, At: at}
	}
	uses := func() []seckill.KeyUse {
		got, err := s.store.KeyUses(s.ctx, caller)
		s.must(err)
		return got
	}
	equal(s, "uses", len(uses()), 0)
	s.unchanged(func() {
		s.must(s.store.NoteKeyUses(s.ctx, nil))
		s.must(s.store.NoteKeyUses(s.ctx, []seckill.KeyUse{use(appKey.ID, at), use("k-gone", at)}))
		equal(s, "uses", uses(), []seckill.KeyUse{use(appKey.ID, at)})
		s.must(s.store.NoteKeyUses(s.ctx, []seckill.KeyUse{use(appKey.ID, at.Add(-time.Minute))}))
		equal(s, "uses", uses(), []seckill.KeyUse{use(appKey.ID, at)})
		s.must(s.store.NoteKeyUses(s.ctx, []seckill.KeyUse{use(appKey.ID, at.Add(time.Minute))}))
	})
	s.must(s.setRevoked(caller, true)) // a change of the caller leaves it
	equal(s, "uses", uses(), []seckill.KeyUse{use(appKey.ID, at.Add(time.Minute))})
}

func createActivity(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell()
	want := s.draft("books", goods{"b", 5, 1, 2}, goods{"a", 7, 0, 1})
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
	s := newShop(t, open, goods{"phone-x", 10, 2, 1})
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
	first := s.putActivity(s.draft("books", goods{"a", 5, 1, 1}, goods{"b", 7, 0, 1}, goods{"c", 1, 0, 1}))
	a, c := first.Items[0], first.Items[2]
	a.Price, a.Quantity, a.PerUser, a.MaxOrders, a.Spread = seckill.Money{Minor: 5, Currency: "EUR"}, 50, 3, 7, 4
	want := s.draft("books", goods{"z", 9, 4, 1})
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
	s := newShop(t, open, goods{"phone-x", 10, 2, 1})
	got, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
		a.Name, a.Items[0].Quantity = "Renamed", 1000
		return a, nil
	})
	s.must(err)
	equal(s, "name and quantity", []any{got.Name, got.Items[0].Quantity}, []any{"Renamed", int64(10)})
	s.counts(0, 10, 0, 0)
}

func deleteItems(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 2, 1}, goods{"phone-y", 10, 2, 1})
	before := s.catalog()
	s.unchanged(func() {
		_, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) {
			a.Name, a.Items = "Renamed", a.Items[:1]
			return a, nil
		})
		if err == nil {
			t.Fatal("an item on sale was deleted")
		}
	})
	equal(s, "catalog", s.catalog(), before)

	draft := s.putActivity(s.draft("books", goods{"a", 5, 1, 2}))
	item := draft.Items[0].ID
	c := seckill.StockChange{Item: item, Key: "k", Delta: 3}
	_, _, err := s.store.Restock(s.ctx, c, author)
	s.must(err)
	draft.Items = nil
	if got := s.putActivity(draft); len(got.Items) != 0 {
		t.Fatalf("items %+v", got.Items)
	}
	_, found, err := s.store.FindStockChange(s.ctx, item, "k")
	s.must(err)
	equal(s, "a stock change of it", found, false)
	_, _, err = s.store.Restock(s.ctx, c, author)
	s.wants(err, seckill.ErrNotFound)
}

// spreadItems: each shard of an item has a row with its share, from the home on.
func spreadItems(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell()
	shares := func(a *seckill.Activity) []int64 {
		t.Helper()
		books, err := s.store.ActivityBooks(s.ctx, a.ID)
		s.must(err)
		item := &a.Items[0]
		equal(s, "rows", len(books), item.Spread)
		out := make([]int64, item.Spread)
		for i := range out {
			shard := (inventory.Home(item.ID, Shards) + inventory.ShardID(i)) % Shards
			at := slices.IndexFunc(books, func(b seckill.Book) bool { return b.Shard == shard })
			if at < 0 {
				t.Fatalf("no row on shard %d: %+v", shard, books)
			}
			out[i] = books[at].Total
		}
		return out
	}
	a := s.putActivity(s.draft("books", goods{"a", 11, 0, 4}))
	equal(s, "shares", shares(a), []int64{3, 3, 3, 2})
	a.Items[0].Spread = 2
	a = s.putActivity(a)
	equal(s, "shares on fewer shards", shares(a), []int64{6, 5})
	a.Items[0].Quantity = 4
	a = s.putActivity(a)
	equal(s, "shares of fewer units", shares(a), []int64{2, 2})
	for _, spread := range []int{0, -1, Shards + 1} {
		_, err := s.store.UpdateActivity(s.ctx, a.ID, author, func(old *seckill.Activity) (*seckill.Activity, error) {
			old.Items[0].Spread = spread
			return old, nil
		})
		if err == nil {
			t.Errorf("spread over %d shards", spread)
		}
	}
	equal(s, "activity", s.findActivity("books"), a)
}

// publishItems: the units of a published activity go to each shard as restocks. Before that no
// shard has them.
func publishItems(t *testing.T, open Open) {
	s := newShop(t, open)
	draft := s.putActivity(s.draft("books", goods{"a", 5, 0, 1}, goods{"b", 7, 0, 3}, goods{"c", 0, 0, 1}))
	equal(s, "outbox of a draft", s.outbox(), nil)
	got := s.publish("books")
	equal(s, "items", got.Items, draft.Items)
	var want []seckill.Outgoing
	for i := range draft.Items {
		item := &draft.Items[i]
		for k := range item.Spread {
			shard := (inventory.Home(item.ID, Shards) + inventory.ShardID(k)) % Shards
			want = append(want, seckill.Outgoing{Ref: s.refs[shard], Stock: true, Restock: inventory.Restock{
				Item: item.ID, ID: "publish", Units: seckill.Share(item.Quantity, k, item.Spread), Publish: true}})
		}
	}
	unpublished := func(want int) {
		t.Helper()
		n, err := s.store.Unpublished(s.ctx, "books")
		s.must(err)
		equal(s, "rows that wait", n, want)
		n, err = s.store.Unpublished(s.ctx, activity)
		s.must(err)
		equal(s, "rows of another activity", n, 0)
	}
	unpublished(5)
	books, err := s.store.ActivityBooks(s.ctx, "books")
	s.must(err)
	for _, b := range books {
		equal(s, "book", []any{b.Published, b.PendingStock}, []any{true, b.Total})
	}
	equal(s, "outbox", sortedRows(s.relay(allShards, func([]seckill.Outgoing) []int { return []int{0} })), sortedRows(want))
	unpublished(4)
	s.fenceAll() // the snapshots count them
	unpublished(0)
	equal(s, "outbox", s.outbox(), nil)

	// It is published once: a pause and a resume add no rows.
	for _, state := range []seckill.ActivityState{seckill.ActivityPaused, seckill.ActivityPublished, seckill.ActivityEnded} {
		_, err := s.store.UpdateActivity(s.ctx, "books", author, func(a *seckill.Activity) (*seckill.Activity, error) {
			a.State = state
			return a, nil
		})
		s.must(err)
	}
	equal(s, "outbox", s.outbox(), nil)
	change := s.lastChange("activity", "books")
	var after seckill.Activity
	s.decode(change.After, &after)
	equal(s, "recorded state", after.State, seckill.ActivityEnded)
}

func publishMany(t *testing.T, open Open) {
	s := newShop(t, open)
	draft := s.draft("books")
	for i := range 3000 {
		draft.Items = append(draft.Items, seckill.Item{SKU: seckill.SKU(fmt.Sprint("sku-", i)), Price: price, Quantity: 2, Spread: 1 + i%2})
	}
	s.putActivity(draft)
	s.publish("books")
	n, err := s.store.Unpublished(s.ctx, "books")
	s.must(err)
	equal(s, "rows", n, 4500)
	var units int64
	for _, row := range s.drain() {
		units += row.Restock.Units
	}
	equal(s, "units", units, 6000)
}

func freshItemIDs(t *testing.T, open Open) {
	s := emptyShop(t, open)
	s.sell()
	first := s.putActivity(s.draft("books", goods{"a", 5, 1, 1})).Items[0]
	s.putActivity(s.draft("books"))
	second := s.putActivity(s.draft("books", goods{"a", 5, 1, 1})).Items[0]
	if second.ID == first.ID {
		t.Fatalf("item id %d was given out twice: old order ids would name the new item", first.ID)
	}
}

func endActivity(t *testing.T, open Open) {
	s := newShop(t, open, goods{"phone-x", 10, 2, 1})
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
	s := newShop(t, open, goods{"phone-x", 10, 2, 1})
	s.unchanged(func() {
		_, err := s.store.UpdateActivity(s.ctx, activity, author, func(a *seckill.Activity) (*seckill.Activity, error) { return a, nil })
		s.must(err)
	})
}

func orphanActivity(t *testing.T, open Open) {
	s := emptyShop(t, open)
	a := s.draft("books", goods{"a", 5, 1, 1})
	_, err := s.store.UpdateActivity(s.ctx, a.ID, author, func(*seckill.Activity) (*seckill.Activity, error) { return a, nil })
	if !errors.Is(err, seckill.ErrNotFound) {
		t.Fatalf("an activity of nobody: %v", err)
	}
	equal(s, "activities", len(s.catalog().Activities), 0)
}
