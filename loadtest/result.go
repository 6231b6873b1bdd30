package loadtest

import (
	"maps"
	"time"
)

// Result is the result of a crowd. The caller owns it.
type Result struct {
	Seed        uint64
	Interrupted bool          // the context ended early: nothing was read back
	Elapsed     time.Duration // from the start to the last answer before the orders were read back

	Buyers       int
	Served       int   // buyers who were done before the deadline
	DoubleClicks int64 // each is one request beside the first
	Repeats      int64 // of a decided key
	Retries      int64 // because an answer said so, or did not come
	SecondTries  int64 // with another key

	Buy, Pay, Cancel, Read Tally
	Lag                    *Latency          // of scheduled departures; empty without a schedule
	Samples                map[string]string // the first answer of each code that should not be

	Promised int            // orders that were accepted
	Kept     int            // of these, found as expected; 0 when interrupted
	Statuses map[string]int // of the promised orders, in the end

	Invariants []Invariant
}

// Requests returns how many requests were sent while the crowd bought, paid and cancelled.
func (r *Result) Requests() int64 { return r.Buy.Sent + r.Pay.Sent + r.Cancel.Sent }

// Rate returns the same per second.
func (r *Result) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Requests()) / r.Elapsed.Seconds()
}

// Broken returns the invariants that do not hold.
func (r *Result) Broken() []Invariant {
	var out []Invariant
	for _, i := range r.Invariants {
		if !i.Held {
			out = append(out, i)
		}
	}
	return out
}

// result sums up. Nobody else touches the run any more.
func (r *run) result(elapsed time.Duration, interrupted bool) *Result {
	out := &Result{
		Seed: r.cfg.Seed, Interrupted: interrupted, Elapsed: max(elapsed, 0),
		Buyers: r.cfg.Buyers, Served: int(r.served.Load()),
		DoubleClicks: r.doubleClicks.Load(), Repeats: r.repeats.Load(), Retries: r.retries.Load(), SecondTries: r.secondTries.Load(),
		Buy: r.tallies.all[Buy], Pay: r.tallies.all[Pay], Cancel: r.tallies.all[Cancel], Read: r.tallies.all[Read],
		Lag: r.tallies.lag, Samples: maps.Clone(r.tallies.odd), Statuses: make(map[string]int),
		Invariants: r.judge(!interrupted),
	}
	for _, o := range r.ledger.orders {
		if !o.promised {
			continue
		}
		out.Promised++
		if !interrupted {
			out.Statuses[o.end.Status]++
			if o.broken(&r.cfg) == "" {
				out.Kept++
			}
		}
	}
	return out
}
