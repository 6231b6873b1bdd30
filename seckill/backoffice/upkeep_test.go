package backoffice

import (
	"testing"
	"time"

	"github.com/penstock/penstock/seckill"
)

// internal/proof/storetest (DropEnded) and the simulator prove what Step does with a sale that is
// over.
func TestUpkeep_WhatIsOver(t *testing.T) {
	cfg := seckill.DefaultConfig()
	now := time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)
	archive := seckill.Archive{At: now.Add(-time.Hour), Sum: "c0ffee"}
	for name, c := range map[string]struct {
		dropAfter time.Duration
		closed    time.Duration // before now
		archive   seckill.Archive
		want      bool
	}{
		"kept for ever":                             {0, 365 * 24 * time.Hour, seckill.Archive{}, false},
		"younger than what is dropped":              {90 * 24 * time.Hour, 89 * 24 * time.Hour, seckill.Archive{}, false},
		"older":                                     {90 * 24 * time.Hour, 91 * 24 * time.Hour, seckill.Archive{}, true},
		"with an archive, and may still be paid":    {0, cfg.KeptFor() - time.Second, archive, false},
		"with an archive":                           {0, cfg.KeptFor() + time.Second, archive, true},
		"with an archive, before it would be so":    {90 * 24 * time.Hour, cfg.KeptFor() + time.Second, archive, true},
		"with an archive, and as old as the others": {9 * 24 * time.Hour, 10 * 24 * time.Hour, archive, true},
	} {
		u := &Upkeep{cfg: cfg, dropAfter: c.dropAfter}
		sale := &seckill.Sale{Activity: &seckill.Activity{EndsAt: now.Add(-c.closed), State: seckill.ActivityEnded, Archive: c.archive}}
		before, archived := u.bounds(now)
		if got := over(sale, before, archived); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
