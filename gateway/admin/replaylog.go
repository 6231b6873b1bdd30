package admin

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock/seckill"
	"github.com/penstock/penstock/seckill/desk"
)

// Bounds of one call: its records, and how far apart its times may be.
const (
	defaultReplay = 500
	maxReplay     = 2_000
	maxReplaySpan = 31 * 24 * time.Hour
)

// replayedLogDoc counts the records and orders of a replayed part of the log.
type replayedLogDoc struct {
	DryRun   bool    `json:"dry_run"`
	Records  int     `json:"records"`
	Damaged  int     `json:"damaged"`
	Promises int     `json:"promises"`
	Existed  int     `json:"existed"`
	Made     int     `json:"made"`
	Missing  int     `json:"missing"`
	Rejected int     `json:"rejected"`
	Parked   int     `json:"parked"`
	Skipped  int     `json:"skipped"`
	Next     *string `json:"next"`
}

// replayLog answers POST /admin/v1/replay: it reads a part of the log again. A long span of time
// takes many calls; each continues at the end of the call before.
func (c *call) replayLog() error {
	m := new(mistakes)
	o, err := c.body(m, false)
	if err != nil {
		return err
	}
	r := desk.LogReplay{
		Stretch:  seckill.Stretch{From: o.time("from"), To: o.time("to"), Most: o.count("limit", false, defaultReplay)},
		Activity: "", DryRun: o.boolean("dry_run"),
	}
	if id, given := o.optionalText("activity"); given {
		m.add("activity", seckill.CheckName(id))
		r.Activity = seckill.ActivityID(id)
	}
	if text, given := o.optionalText("after"); given {
		var ok bool
		if r.After, ok = parsePlace(text); !ok {
			m.add("after", "must be the next of an answer")
		}
	}
	reason := c.reason(o, m, false)
	o.end()
	switch span := r.To.Sub(r.From); {
	case len(m.errs) > 0:
	case span <= 0:
		m.add("to", "must be after from")
	case span > maxReplaySpan:
		m.add("to", fmt.Sprintf("must be at most %v after from", maxReplaySpan))
	case r.Most < 1 || r.Most > maxReplay:
		m.add("limit", fmt.Sprintf("must be from 1 to %d", maxReplay))
	}
	if err := m.err(); err != nil {
		return err
	}
	ctx, cancel := c.lasting()
	defer cancel()
	done, err := c.server.deps.Office.ReplayLog(ctx, c.server.deps.Log, r, c.author(reason))
	if err != nil {
		return err
	}
	doc := replayedLogDoc{
		DryRun: r.DryRun, Records: done.Records, Damaged: done.Damaged, Promises: done.Promises, Existed: done.Existed, Made: done.Made,
		Missing: done.Missing, Rejected: done.Rejected, Parked: done.Parked, Skipped: done.Skipped,
	}
	if done.Next != nil {
		next := fmt.Sprintf("%d:%d", done.Next.Partition, done.Next.Offset)
		doc.Next = &next
	}
	return c.json(http.StatusOK, doc)
}

// parsePlace reads the place in the log at which a call ended.
func parsePlace(text string) (at seckill.LogPlace, ok bool) {
	partition, offset, _ := strings.Cut(text, ":")
	p, err := strconv.ParseInt(partition, 10, 32)
	if err != nil || p < 0 {
		return at, false
	}
	n, err := strconv.ParseInt(offset, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/2 {
		return at, false
	}
	return seckill.LogPlace{Partition: int32(p), Offset: n}, true
}
