package seckill

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/penstock/penstock/inventory"
)

// plainCatalog is the model of Catalog: plain maps that are copied at each edit.
type plainCatalog struct {
	loaded     time.Time
	merchants  map[MerchantID]*Merchant
	callers    map[CallerRef]*Caller
	activities map[ActivityID]*plainSale
}

type plainSale struct {
	activity Activity
	since    time.Time
}

func (c *plainCatalog) edit(whole bool, now time.Time, changes []CatalogChange) *plainCatalog {
	next := &plainCatalog{
		now, map[MerchantID]*Merchant{}, map[CallerRef]*Caller{}, map[ActivityID]*plainSale{},
	}
	if !whole {
		maps.Copy(next.merchants, c.merchants)
		maps.Copy(next.callers, c.callers)
		maps.Copy(next.activities, c.activities)
	}
	for _, change := range changes {
		switch {
		case change.Merchant != nil:
			next.merchants[change.Merchant.ID] = change.Merchant
		case change.Caller != nil:
			next.callers[change.Caller.CallerRef] = change.Caller
		case change.Activity != nil:
			sale := &plainSale{*change.Activity, now}
			old := c.activities[change.Activity.ID]
			if change.ItemsKept {
				sale.activity.Items = next.activities[change.Activity.ID].activity.Items
			}
			if old != nil && old.activity.State == sale.activity.State &&
				old.activity.StartsAt.Equal(sale.activity.StartsAt) && old.activity.EndsAt.Equal(sale.activity.EndsAt) {
				sale.since = old.since
			}
			next.activities[change.Activity.ID] = sale
		default:
			delete(next.activities, change.Dropped)
		}
	}
	return next
}

// same compares a catalog with its model, in both directions.
func (c *plainCatalog) same(t rapid.TB, got *Catalog, highest inventory.ItemID) {
	t.Helper()
	callers, keys, spread, items := 0, 0, 0, map[inventory.ItemID]bool{}
	for id, m := range c.merchants {
		if !reflect.DeepEqual(got.Merchant(id), m) {
			t.Fatalf("merchant %s: %+v, want %+v", id, got.Merchant(id), m)
		}
	}
	for ref, caller := range c.callers {
		if !reflect.DeepEqual(got.NamedCaller(ref), caller) {
			t.Fatalf("caller %v: %+v, want %+v", ref, got.NamedCaller(ref), caller)
		}
		for _, key := range caller.Keys {
			found := got.Credential(key.Hash)
			if found == nil || found.CallerKey != key || !reflect.DeepEqual(found.Caller, caller) {
				t.Fatalf("caller %v by its key: %+v", ref, found)
			}
			if want := !caller.Revoked && key.Live(time.Unix(1_800_000_000, 0)); found.Valid(time.Unix(1_800_000_000, 0)) != want {
				t.Fatalf("caller %v, key %+v: valid %v", ref, key, !want)
			}
			keys++
		}
		callers++
	}
	onSale := make(map[MerchantID]int)
	for _, a := range c.activities {
		if a.activity.State == ActivityPublished || a.activity.State == ActivityPaused {
			onSale[a.activity.Merchant] += len(a.activity.Items)
		}
	}
	for _, id := range []MerchantID{"m1", "m2", "m3", "shop", "merchant", ""} {
		if n := got.SKUs(id); n != onSale[id] {
			t.Fatalf("%s has %d SKUs, want %d", id, n, onSale[id])
		}
	}
	for id, want := range c.activities {
		sale := got.Activity(id)
		if sale == nil || !reflect.DeepEqual(*sale.Activity, want.activity) || !sale.since.Equal(want.since) {
			t.Fatalf("activity %s: %+v, want %+v", id, sale, want)
		}
		for i := range want.activity.Items {
			item := want.activity.Items[i]
			items[item.ID] = true
			if item.Spread > 1 {
				spread++
			}
			byID, ok := got.Offer(item.ID)
			bySKU, ok2 := sale.Offer(item.SKU)
			if !ok || !ok2 || *byID.Item != item || *bySKU.Item != item || byID.Sale != sale || bySKU.Sale != sale {
				t.Fatalf("item %d of %s: %v %v", item.ID, id, byID.Item, bySKU.Item)
			}
		}
		if _, ok := sale.Offer("no such SKU"); ok {
			t.Fatalf("activity %s has an unknown SKU", id)
		}
	}
	for offer := range got.Spread() {
		if !items[offer.ID] || offer.Spread < 2 {
			t.Fatalf("item %d is among the spread ones", offer.ID)
		}
		spread--
	}
	if spread != 0 {
		t.Fatalf("%d spread items are missing", spread)
	}
	for id := range highest + 2 {
		if _, ok := got.Offer(id); ok != items[id] {
			t.Fatalf("item %d: found %v, want %v", id, ok, items[id])
		}
	}
	if n := count(got.Merchants()); n != len(c.merchants) {
		t.Fatalf("%d merchants, want %d", n, len(c.merchants))
	}
	if n := count(got.Callers()); n != callers {
		t.Fatalf("%d callers, want %d", n, callers)
	}
	if n := count(got.credentials()); n != keys {
		t.Fatalf("%d keys, want %d", n, keys)
	}
	if n := count(got.Sales()); n != len(c.activities) {
		t.Fatalf("%d activities, want %d", n, len(c.activities))
	}
}

func count[T any](seq func(func(T) bool)) (n int) {
	seq(func(T) bool { n++; return true })
	return n
}

// Random edits of the newest and of earlier catalogs: all versions stay what they were.
func TestCatalog_LikePlainMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			model *plainCatalog
			got   *Catalog
		}
		now, highest := time.Unix(1_800_000_000, 0), inventory.ItemID(0)
		versions := []version{{new(plainCatalog).edit(true, now, nil), nil}}
		for range rapid.IntRange(1, 12).Draw(t, "edits") {
			from := versions[rapid.IntRange(max(0, len(versions)-2), len(versions)-1).Draw(t, "from")]
			now = now.Add(time.Second)
			whole := rapid.IntRange(0, 9).Draw(t, "whole") == 0
			edit := from.got.Edit(whole, now)
			var changes []CatalogChange
			has := map[ActivityID]bool{}
			if !whole {
				for id := range from.model.activities {
					has[id] = true
				}
			}
			for range rapid.IntRange(0, 8).Draw(t, "changes") {
				change := drawChange(t, has, &highest)
				changes = append(changes, change)
				if err := edit.Apply(cloneChange(change)); err != nil {
					t.Fatal(err)
				}
			}
			versions = append(versions, version{from.model.edit(whole, now, changes), edit.Done(CatalogVersion{})})
		}
		for _, v := range versions {
			v.model.same(t, v.got, highest)
		}
	})
}

func drawChange(t *rapid.T, has map[ActivityID]bool, highest *inventory.ItemID) CatalogChange {
	merchant := MerchantID(fmt.Sprintf("m%d", rapid.IntRange(1, 3).Draw(t, "merchant")))
	id := ActivityID(fmt.Sprintf("a%d", rapid.IntRange(1, 70).Draw(t, "activity")))
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		return CatalogChange{Merchant: &Merchant{ID: merchant, Name: rapid.String().Draw(t, "name")}}
	case 1:
		n := rapid.IntRange(1, 5).Draw(t, "caller")
		caller := &Caller{CallerRef: CallerRef{merchant, CallerID(fmt.Sprintf("c%d", n))}, Revoked: rapid.Bool().Draw(t, "revoked")}
		for k := range rapid.IntRange(0, 3).Draw(t, "keys") {
			caller.Keys = append(caller.Keys, CallerKey{
				ID: KeyID(fmt.Sprint("k", k)), Hash: [32]byte{byte(n), byte(k), merchant[1], rapid.Byte().Draw(t, "key")},
				Expires: time.Unix(1_800_000_000+int64(rapid.IntRange(-1, 1).Draw(t, "expires")), 0).UTC(), Revoked: rapid.Bool().Draw(t, "dead"),
			})
		}
		return CatalogChange{Caller: caller}
	case 2:
		delete(has, id)
		return CatalogChange{Dropped: id}
	}
	a := &Activity{
		ID: id, Merchant: merchant, Name: "sale", State: rapid.SampledFrom([]ActivityState{ActivityPublished, ActivityPaused, ActivityDraft, ActivityEnded}).Draw(t, "state"),
		StartsAt: time.Unix(1_800_000_000, 0), EndsAt: time.Unix(1_800_000_000+int64(rapid.IntRange(1, 2).Draw(t, "ends")), 0),
	}
	if has[id] && rapid.Bool().Draw(t, "kept") {
		return CatalogChange{Activity: a, ItemsKept: true}
	}
	has[id] = true
	for i := range rapid.IntRange(1, 5).Draw(t, "items") {
		*highest += inventory.ItemID(rapid.SampledFrom([]int{1, 1, 700}).Draw(t, "gap"))
		a.Items = append(a.Items, Item{ID: *highest, SKU: SKU(fmt.Sprintf("sku-%d", i)), Price: Money{int64(i), "CNY"},
			Spread: rapid.SampledFrom([]int{1, 1, 1, 4}).Draw(t, "spread")})
	}
	return CatalogChange{Activity: a}
}

// cloneChange returns a copy that shares no memory: a catalog keeps and changes its own.
func cloneChange(c CatalogChange) CatalogChange {
	if c.Merchant != nil {
		m := *c.Merchant
		c.Merchant = &m
	}
	if c.Caller != nil {
		caller := *c.Caller
		c.Caller = &caller
	}
	if c.Activity != nil {
		a := *c.Activity
		a.Items = slices.Clone(a.Items)
		c.Activity = &a
	}
	return c
}

func TestCatalog_NilIsEmpty(t *testing.T) {
	var c *Catalog
	if c.Merchant("m") != nil || c.Credential([32]byte{}) != nil || c.NamedCaller(CallerRef{}) != nil || c.Activity("a") != nil {
		t.Error("a nil catalog has something")
	}
	if _, ok := c.Offer(1); ok || count(c.Sales())+count(c.Callers())+count(c.credentials()) > 0 || count(c.Merchants()) > 0 {
		t.Error("a nil catalog has something")
	}
	c.SetClock(time.Second)
}

func TestCatalogEdit_ItemsMissing(t *testing.T) {
	edit := (*Catalog)(nil).Edit(true, time.Now())
	if err := edit.Apply(CatalogChange{Activity: &Activity{ID: "a"}, ItemsKept: true}); err == nil {
		t.Error("items that were never read can't be kept")
	}
}

func TestOffer_Refusal(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	first, start, end := now.Add(-2*time.Hour), now.Add(-time.Hour), now.Add(time.Hour)
	const grace = 2 * time.Second
	for _, c := range []struct {
		name  string
		state ActivityState
		at    time.Time
		ahead time.Duration // of the database's clock
		code  Code
		since time.Time
	}{
		{"in its window", ActivityPublished, now, 0, "", time.Time{}},
		{"before it", ActivityPublished, start.Add(-1), 0, CodeNotStarted, first.Add(grace)},
		{"at its first moment", ActivityPublished, start, 0, "", time.Time{}},
		{"at its end", ActivityPublished, end, 0, CodeEnded, end.Add(grace)},
		{"paused", ActivityPaused, now, 0, CodePaused, first.Add(grace)},
		{"ended by hand", ActivityEnded, now, 0, CodeEnded, first.Add(grace)},
		{"early by this clock, not by the database's", ActivityPublished, start.Add(-time.Second), time.Minute, "", time.Time{}},
		{"in time by this clock, not by the database's", ActivityPublished, start, -time.Minute, CodeNotStarted, first.Add(grace)},
		{"at its end by the database's clock", ActivityPublished, end.Add(-time.Minute), time.Minute, CodeEnded, end.Add(grace - time.Minute)},
	} {
		t.Run(c.name, func(t *testing.T) {
			edit := (*Catalog)(nil).Edit(true, first)
			if err := edit.Apply(CatalogChange{Activity: &Activity{
				ID: "a", State: c.state, StartsAt: start, EndsAt: end, Items: []Item{{ID: 1, SKU: "x"}},
			}}); err != nil {
				t.Fatal(err)
			}
			catalog := edit.Done(CatalogVersion{})
			catalog.SetClock(c.ahead)
			catalog = catalog.Edit(false, now).Done(CatalogVersion{}) // the clock goes on
			offer, _ := catalog.Offer(1)
			refusal, since := offer.Refusal(c.at, grace)
			if got := codeOf(refusal); got != c.code || !since.Equal(c.since) {
				t.Errorf("%q since %v, want %q since %v", got, since, c.code, c.since)
			}
		})
	}
}

func codeOf(r *Refusal) Code {
	if r == nil {
		return ""
	}
	return r.Code
}

// bigCatalog has a million items in 500 activities, and 100,000 callers.
func bigCatalog(t testing.TB, activities, items, callers int) *Catalog {
	t.Helper()
	edit := (*Catalog)(nil).Edit(true, time.Now())
	apply := func(change CatalogChange) {
		if err := edit.Apply(change); err != nil {
			t.Fatal(err)
		}
	}
	apply(CatalogChange{Merchant: &Merchant{ID: "merchant", Name: "Merchant"}})
	for n := range callers {
		apply(CatalogChange{Caller: bigCaller(n)})
	}
	for n := range activities {
		apply(CatalogChange{Activity: bigActivity(n, items/activities)})
	}
	return edit.Done(CatalogVersion{"incarnation", 1})
}

func bigCaller(n int) *Caller {
	c := &Caller{CallerRef: CallerRef{MerchantID([]byte("merchant")), CallerID(fmt.Sprintf("caller-%06d", n))}, Name: "A program", Rights: RightBuy}
	key := CallerKey{ID: KeyID(fmt.Sprintf("k-%010d", n)), Prefix: fmt.Sprintf("psk_%06d", n)}
	for i := range key.Hash {
		key.Hash[i] = byte(n >> (i % 3 * 8) * 31)
	}
	c.Keys = []CallerKey{key}
	return c
}

func bigActivity(n, items int) *Activity {
	a := &Activity{
		ID: ActivityID(fmt.Sprintf("activity-%05d", n)), Merchant: "merchant", Name: "A sale", State: ActivityPublished,
		StartsAt: time.Unix(1_800_000_000, 0), EndsAt: time.Unix(1_900_000_000, 0), PaymentWindow: 15 * time.Minute,
		Items: make([]Item, items),
	}
	for i := range a.Items {
		a.Items[i] = Item{
			ID: inventory.ItemID(n*items + i + 1), SKU: SKU(fmt.Sprintf("sku-%08d", i)), Quantity: 1000, PerUser: 2, Spread: 1,
			Price: Money{1999, string([]byte("CNY"))},
		}
	}
	return a
}

func TestCatalog_Memory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	before := heap()
	c := bigCatalog(t, 500, 1_000_000, 100_000)
	size := heap() - before
	t.Logf("%d MB", size>>20)
	if size > 300<<20 {
		t.Errorf("%d MB, want at most 300", size>>20)
	}
	runtime.KeepAlive(c)
}

func heap() int64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestCatalog_LookupsAllocateNothing(t *testing.T) {
	c := bigCatalog(t, 10, 10_000, 100)
	hash, name := bigCaller(7).Keys[0].Hash, []byte("activity-00003")
	if n := testing.AllocsPerRun(100, func() {
		sale := c.Activity(ActivityID(name))
		if _, ok := sale.Offer("sku-00000500"); !ok || c.Credential(hash) == nil || c.Merchant("merchant") == nil {
			t.Error("not found")
		}
		if _, ok := c.Offer(5_000); !ok {
			t.Error("not found")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCatalog_Lookup(b *testing.B) {
	c := bigCatalog(b, 500, 1_000_000, 100_000)
	b.Run("item", func(b *testing.B) {
		for b.Loop() {
			c.Offer(inventory.ItemID(rand.IntN(1_000_000) + 1))
		}
	})
	b.Run("SKU", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.Activity("activity-00123").Offer("sku-00001000")
		}
	})
}

func BenchmarkCatalog_Edit(b *testing.B) {
	c := bigCatalog(b, 500, 1_000_000, 100_000)
	for _, bench := range []struct {
		name   string
		change func(n int) CatalogChange
	}{
		{"caller", func(n int) CatalogChange { return CatalogChange{Caller: bigCaller(n % 100_000)} }},
		{"pause", func(n int) CatalogChange { return CatalogChange{Activity: bigActivity(n%500, 0), ItemsKept: true} }},
		{"items", func(n int) CatalogChange { return CatalogChange{Activity: bigActivity(n%500, 2_000)} }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				edit := c.Edit(false, time.Now())
				if err := edit.Apply(bench.change(n)); err != nil {
					b.Fatal(err)
				}
				edit.Done(CatalogVersion{})
			}
		})
	}
}
