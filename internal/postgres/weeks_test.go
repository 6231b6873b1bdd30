package postgres

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

func TestWeekOf_IsWithinReach(t *testing.T) {
	now := time.Date(2026, 6, 18, 12, 0, 0, 0, time.UTC)
	this := weekOf(now, now)
	for _, c := range []struct {
		ends time.Time
		want int32
	}{
		{now.Add(-1000 * time.Hour), this}, // its orders may still come
		{now.Add(7 * 24 * time.Hour), this + 1},
		{now.AddDate(9, 0, 0), this + weeksAhead},
	} {
		if got := weekOf(c.ends, now); got != c.want || got == strays {
			t.Errorf("ends %v: week %d, want %d", c.ends, got, c.want)
		}
	}
}

func TestWeeks_AreBounded(t *testing.T) {
	w := newWeeks()
	for id := range inventory.ItemID(3 * maxWeeks) {
		w.add(id, home{week: 7})
	}
	if len(w.young) > maxWeeks || len(w.old) > maxWeeks {
		t.Errorf("%d and %d", len(w.young), len(w.old))
	}
	last := inventory.ItemID(3*maxWeeks - 1)
	if found, missing := w.known([]inventory.ItemID{last, 0}); found[last].week != 7 || !slices.Equal(missing, []int64{0}) {
		t.Errorf("found %v, missing %v", found, missing)
	}
	w.drop([]inventory.ItemID{last})
	if found, _ := w.known([]inventory.ItemID{last}); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

func TestRangeOf_HasTheIdsOfItsItemOnly(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	items := []inventory.ItemID{1, 2, 3, 4, 5, 1<<32 - 1, 1<<32 - 2}
	for range 1000 {
		items = append(items, inventory.ItemID(random.Uint32()))
	}
	for _, item := range items {
		from, to := rangeOf(item)
		for range 20 {
			id := string(seckill.NewOrderID(item, seckill.CallerRef{}, "u", string(rune('a'+random.IntN(1000)))))
			if id <= from || id >= to {
				t.Fatalf("item %d: %s is not between %s and %s", item, id, from, to)
			}
		}
		for _, other := range []inventory.ItemID{item - 1, item + 1} {
			if id := string(seckill.NewOrderID(other, seckill.CallerRef{}, "u", "k")); id > from && id < to {
				t.Fatalf("item %d: %s of item %d is between %s and %s", item, id, other, from, to)
			}
		}
	}
}
