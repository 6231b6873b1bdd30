package storetest

import (
	"cmp"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/penstock/penstock/seckill"
)

// Exercise runs every case against stores that open makes. Each case gets its own store.
func Exercise(t *testing.T, open Open) {
	groups := []struct {
		name  string
		cases []testCase
	}{
		{"Catalog", catalogCases()},
		{"DropEnded", dropCases()},
		{"Positions", positionCases()},
		{"Accept", acceptCases()},
		{"Parked", parkCases()},
		{"DeadLetters", letterCases()},
		{"Orders", orderCases()},
		{"Payments", paymentCases()},
		{"Money", moneyCases()},
		{"Bury", buryCases()},
		{"Outbox", outboxCases()},
		{"Stock", stockCases()},
		{"Shards", epochCases()},
		{"Admin", adminCases()},
		{"Settings", settingsCases()},
		{"Calls", callCases()},
		{"Together", togetherCases()},
	}
	for _, group := range groups {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) { c.run(t, open) })
			}
		})
	}
	t.Run("TestL1_TestL4_TestL5_RandomSequencesMatchTheModel", func(t *testing.T) { exerciseModel(t, open) })
}

// testCase is a rule of the contract, and the test of it.
type testCase struct {
	name string
	run  func(t *testing.T, open Open)
}

// selling makes a case that begins in a shop with one item of ten units, two for each buyer.
func selling(name string, run func(s *shop)) testCase {
	return testCase{name, func(t *testing.T, open Open) { run(newShop(t, open, goods{"phone-x", 10, 2, 1})) }}
}

// wants checks that an error wraps a sentinel.
func (s *shop) wants(got, want error) {
	s.t.Helper()
	if !errors.Is(got, want) {
		s.t.Fatalf("error %v, want %v", got, want)
	}
}

// equal compares two values that have a name. An empty slice may be nil or not.
func equal[T any](s *shop, what string, got, want T) {
	s.t.Helper()
	if g, w := reflect.ValueOf(got), reflect.ValueOf(want); g.IsValid() && g.Kind() == reflect.Slice && g.Len() == 0 && w.Len() == 0 {
		return
	}
	if !reflect.DeepEqual(got, want) {
		s.t.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// unchanged runs f and checks that it left the catalog's version and the changes as they were.
func (s *shop) unchanged(f func()) {
	s.t.Helper()
	version, changes := s.version(), len(s.changes())
	f()
	equal(s, "catalog version", s.version(), version)
	equal(s, "number of changes", len(s.changes()), changes)
}

// raises runs f and checks that the catalog's version rose.
func (s *shop) raises(f func()) {
	s.t.Helper()
	version := s.version()
	f()
	if now := s.version(); now <= version {
		s.t.Fatalf("catalog version %d after a change, was %d", now, version)
	}
}

func (s *shop) version() int64 {
	s.t.Helper()
	return s.catalog().Version.Number
}

// catalog is the catalog as a store returns it.
type catalog struct {
	Version    seckill.CatalogVersion
	Whole      bool
	Merchants  []seckill.Merchant
	Callers    []seckill.Caller
	Activities []seckill.Activity
	Kept       []seckill.ActivityID // that came without their items
	Dropped    []seckill.ActivityID
}

// catalog returns the whole catalog.
func (s *shop) catalog() catalog {
	s.t.Helper()
	c := s.since(seckill.CatalogVersion{})
	equal(s, "whole", c.Whole, true)
	return c
}

// since returns the changes since a version. Merchants, callers and activities are sorted by name.
func (s *shop) since(version seckill.CatalogVersion) catalog {
	s.t.Helper()
	var c catalog
	begun, others := 0, 0
	got, err := s.store.LoadCatalog(s.ctx, version, func(whole bool) { c.Whole = whole; begun++ }, func(change seckill.CatalogChange) error {
		if begun != 1 {
			return errors.New("a change before the beginning")
		}
		switch {
		case change.Merchant != nil:
			if others > 0 {
				return errors.New("a merchant behind others")
			}
			c.Merchants = append(c.Merchants, *change.Merchant)
			return nil
		case change.Caller != nil:
			c.Callers = append(c.Callers, *change.Caller)
		case change.Activity != nil:
			c.Activities = append(c.Activities, *change.Activity)
			if change.ItemsKept {
				c.Kept = append(c.Kept, change.Activity.ID)
			}
		default:
			c.Dropped = append(c.Dropped, change.Dropped)
		}
		others++
		return nil
	})
	s.must(err)
	equal(s, "beginnings", begun, 1)
	c.Version = got
	slices.SortFunc(c.Merchants, func(a, b seckill.Merchant) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(c.Callers, func(a, b seckill.Caller) int { return cmp.Compare(a.String(), b.String()) })
	slices.SortFunc(c.Activities, func(a, b seckill.Activity) int { return cmp.Compare(a.ID, b.ID) })
	return c
}

// changes returns all changes, newest first.
func (s *shop) changes() []seckill.Change {
	s.t.Helper()
	got, err := s.store.Changes(s.ctx, 0, 1000)
	s.must(err)
	return got
}

// lastChange returns the newest change, after checking its kind, key (unless that is ""), author
// and time.
func (s *shop) lastChange(kind, key string) seckill.Change {
	s.t.Helper()
	all := s.changes()
	if len(all) == 0 {
		s.t.Fatalf("no change of %s %s", kind, key)
	}
	c := all[0]
	if key == "" {
		key = c.Key
	}
	equal(s, "last change", []any{c.Kind, c.Key, c.Author, c.At}, []any{kind, key, author, s.clock.read()})
	return c
}
