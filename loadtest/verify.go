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
	// missingReads is how often an order has to be missing to count as lost: an answer may come
	// from a node that is a moment behind.
	missingReads = 3
	// maxReaders bounds how many orders are read at once: a shop that comes out of a rush shall not
	// be refused its proof by another.
	maxReaders = 128
)

// patience is until when reads are tried again that got no answer: as long as other orders can be
// read.
type patience struct {
	end    atomic.Int64 // nanoseconds since 1970 on the run's clock
	within time.Duration
}

func (p *patience) renew(now time.Time) {
	end := now.Add(p.within).UnixNano()
	for {
		if old := p.end.Load(); old >= end || p.end.CompareAndSwap(old, end) {
			return
		}
	}
}

func (p *patience) over(t time.Time) bool { return t.UnixNano() > p.end.Load() }

// check reads every named order back until it is settled. When ctx ends, the others are not read.
func (r *run) check(ctx context.Context) {
	began := r.clock.now()
	deadline := began.Add(r.cfg.VerifyWithin)
	unanswered := &patience{within: r.cfg.VerifyWithin}
	unanswered.renew(began)
	orders := r.ledger.orders // no other goroutine is left
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(r.cfg.Concurrency, len(orders), maxReaders) {
		readers.Go(func() {
			h := newHand(r.shop)
			for {
				i := int(next.Add(1)) - 1
				if i >= len(orders) || ctx.Err() != nil {
					return
				}
				r.readBack(ctx, h, orders[i], deadline, unanswered)
				r.read.Add(1)
			}
		})
	}
	readers.Wait()
}

// readBack asks for an order until it has left the queue, is missing for good, or time is up, and
// records how it reads. To leave the queue it has until the deadline.
func (r *run) readBack(ctx context.Context, h *hand, o *order, deadline time.Time, unanswered *patience) {
	for missing := 0; ; {
		now := r.clock.now()
		prefer := max(min(longestPrefer, deadline.Sub(now), r.cfg.RequestTimeout/2), 0)
		answered := true
		ans := h.read(o, prefer, now)
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
				unanswered.renew(now)
				return
			}
		case ans.passing(): // no answer at all, too
			o.end.trouble = "no answer in time: " + ans.code
			o.end.away, answered = true, false
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
		if answered && next.After(deadline) || !answered && unanswered.over(next) || !r.clock.until(ctx, next) {
			return
		}
	}
}
