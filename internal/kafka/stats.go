package kafka

import (
	"sync/atomic"
	"time"
)

type counts struct {
	refused, acked, failed atomic.Int64
	polled, committed      atomic.Int64
	pollErrors, trimErrors atomic.Int64
	missing, dataLoss      atomic.Int64
	oldest                 atomic.Int64 // milliseconds since 1970; 0: nothing is pending
}

// Stats says how full the queue is and what it has done since Open.
type Stats struct {
	Slots    int   // the bound
	Reserved int64 // slots that are taken
	InFlight int64 // records on their way to the broker

	Refused int64 // Reserve found no slot
	Acked   int64 // Put ended well
	Failed  int64 // Put ended with an error

	Polled    int64 // records that Poll got from the broker
	Committed int64 // records that Commit committed

	// Oldest is when the oldest record was produced that was polled and isn't committed yet, on its producer's clock. It is
	// zero when there is none. Its age is how far the workers are behind.
	Oldest time.Time

	PollErrors int64 // Poll ended with an error
	TrimErrors int64 // background trims that failed
	Missing    int64 // records that were gone when their turn came (L2)
	DataLoss   int64 // other signs that the broker lost what it had acknowledged (L2)
}

// Stats returns the counters. They are read one after the other, so that sums need not add up while the queue works.
func (q *Queue) Stats() Stats {
	var oldest time.Time
	if ms := q.counts.oldest.Load(); ms != 0 {
		oldest = time.UnixMilli(ms)
	}
	return Stats{
		Oldest:     oldest,
		Slots:      q.cfg.Slots,
		Reserved:   q.reserved.Load(),
		InFlight:   q.inFlight.Load(),
		Refused:    q.counts.refused.Load(),
		Acked:      q.counts.acked.Load(),
		Failed:     q.counts.failed.Load(),
		Polled:     q.counts.polled.Load(),
		Committed:  q.counts.committed.Load(),
		PollErrors: q.counts.pollErrors.Load(),
		TrimErrors: q.counts.trimErrors.Load(),
		Missing:    q.counts.missing.Load(),
		DataLoss:   q.counts.dataLoss.Load(),
	}
}
