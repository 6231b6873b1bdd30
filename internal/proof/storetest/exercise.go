package storetest

import (
	"errors"
	"reflect"
	"testing"

	"penstock/seckill"
)

// Exercise runs every case against stores that open makes. Each case gets a store of its own.
func Exercise(t *testing.T, open Open) {
	groups := []struct {
		name  string
		cases []testCase
	}{
		{"Catalog", catalogCases()},
		{"Accept", acceptCases()},
		{"Orders", orderCases()},
		{"Payments", paymentCases()},
		{"Bury", buryCases()},
		{"Outbox", outboxCases()},
		{"Stock", stockCases()},
		{"Epochs", epochCases()},
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

// testCase is a rule of the contract and what shows that it holds.
type testCase struct {
	name string
	run  func(t *testing.T, open Open)
}

// selling makes a case that begins in a shop with one item of ten units, two for each buyer.
func selling(name string, run func(s *shop)) testCase {
	return testCase{name, func(t *testing.T, open Open) { run(newShop(t, open, goods{"phone-x", 10, 2})) }}
}

// wants checks an error against the sentinel it must wrap.
func (s *shop) wants(got, want error) {
	s.t.Helper()
	if !errors.Is(got, want) {
		s.t.Fatalf("error %v, want %v", got, want)
	}
}

// equal compares two values, with a name for what they are. A slice of nothing is nil or not, as the store likes.
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
	return s.catalog().Version
}

func (s *shop) catalog() *seckill.CatalogData {
	s.t.Helper()
	data, err := s.store.LoadCatalog(s.ctx, 0)
	s.must(err)
	if data == nil {
		s.t.Fatal("no catalog for a gateway that knows none")
	}
	return data
}

// changes returns all changes, newest first.
func (s *shop) changes() []seckill.Change {
	s.t.Helper()
	got, err := s.store.Changes(s.ctx, 0, 1000)
	s.must(err)
	return got
}

// lastChange returns the newest change, after checking its kind, key, author and time.
func (s *shop) lastChange(kind, key string) seckill.Change {
	s.t.Helper()
	all := s.changes()
	if len(all) == 0 {
		s.t.Fatalf("no change of %s %s", kind, key)
	}
	c := all[0]
	equal(s, "last change", []any{c.Kind, c.Key, c.Author, c.At}, []any{kind, key, author, s.clock.read()})
	return c
}
