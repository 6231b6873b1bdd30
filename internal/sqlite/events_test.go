package sqlite

import (
	"strings"
	"testing"
	"time"

	"github.com/penstock/penstock/internal/proof/storetest"
	"github.com/penstock/penstock/seckill"
)

func TestEvents(t *testing.T) {
	shapes := make(map[shape]bool)
	storetest.ExerciseEvents(t, func(t *testing.T, now func() time.Time) seckill.Store {
		store := openForPlans(t, Config{Now: now, Events: true, Shards: storetest.Shards})
		t.Cleanup(func() {
			for sh := range store.readers.kept {
				shapes[sh] = true
			}
		})
		return store
	})
	// Many events may wait. Only the oldest ones are read.
	t.Run("Plans", func(t *testing.T) {
		store := openForPlans(t, Config{})
		heard := 0
		for sh := range shapes {
			if !strings.Contains(sh.text, "order_events") {
				continue
			}
			heard++
			for _, step := range plan(t, store, sh.String()) {
				if strings.Contains(step, "TEMP B-TREE") || !strings.HasSuffix(sh.text, "ORDER BY id LIMIT ?") && !strings.HasSuffix(sh.text, "ORDER BY id LIMIT 1") {
					t.Errorf("%s\n\t%s", step, sh.text)
				}
			}
		}
		if heard != 2 {
			t.Errorf("%d statements that read what waits", heard)
		}
	})
}

func TestEvents_OffKeepsNothing(t *testing.T) {
	storetest.ExerciseNoEvents(t, func(t *testing.T, now func() time.Time) seckill.Store {
		return openForPlans(t, Config{Now: now, Shards: storetest.Shards})
	})
}
