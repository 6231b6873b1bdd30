package loadtest

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// longestPrefer is the longest wait that a server has to grant a read.
	longestPrefer = 10 * time.Second
	// missingReads is how often an order has to be missing to count as lost: an answer may come from a node that is a
	// moment behind.
	missingReads = 3
)

// check reads every named order back until it is settled, with as many readers as there were buyers at once. When ctx ends, the
// others are not read.
func (r *run) check(ctx context.Context) {
	deadline := r.clock.now().Add(r.cfg.VerifyWithin)
	orders := r.ledger.orders // nobody else is left
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(r.cfg.Concurrency, len(orders)) {
		readers.Go(func() {
			h := newHand(r.shop)
			for {
				i := int(next.Add(1)) - 1
				if i >= len(orders) || ctx.Err() != nil {
					return
				}
				r.readBack(ctx, h, orders[i], deadline)
				r.read.Add(1)
			}
		})
	}
	readers.Wait()
}

// readBack asks for an order until it has left the queue, is missing for good, or time is up, and notes how it reads.
func (r *run) readBack(ctx context.Context, h *hand, o *order, deadline time.Time) {
	for missing := 0; ; {
		now := r.clock.now()
		prefer := min(longestPrefer, deadline.Sub(now), r.cfg.RequestTimeout/2)
		ans := h.read(o.id, prefer, now)
		r.tallies.record(Read, ans)
		o.end = ending{}
		wait := max(ans.retryAfter, shortestWait)
		switch {
		case ans.outcome == Done:
			if err := json.Unmarshal(h.response.Body(), &o.end); err != nil {
				o.end = ending{trouble: "unreadable: " + sample(&h.response, nil)}
				return
			}
			if o.end.found = true; o.end.Status != statusQueued {
				return
			}
		case ans.passing(): // no answer at all, too
			o.end.trouble = "no answer in time: " + ans.code
		case h.response.StatusCode() == 404:
			o.end.missing = true
			if missing++; missing == missingReads {
				return
			}
		default:
			o.end.trouble = sample(&h.response, nil)
			return
		}
		next := r.clock.now().Add(wait)
		if next.After(deadline) || !r.clock.until(ctx, next) {
			return
		}
	}
}
