package kafka

import (
	"sync/atomic"
	"time"
)

type counts struct {
	refused, acked, failed atomic.Int64
	promises, rerouted     atomic.Int64
	splits                 atomic.Int64
	rejected               atomic.Int64
	markers                atomic.Int64
	polled, committed      atomic.Int64
	pollErrors, trimErrors atomic.Int64
	lookErrors, copyErrors atomic.Int64
	missing, dataLoss      atomic.Int64
	oldest                 atomic.Int64 // milliseconds since 1970; 0: nothing is pending
}

// Stats has the queue's present state and its counters since Open.
type Stats struct {
	Slots    int   // the most slots
	Reserved int64 // slots that are taken
	InFlight int64 // records on their way to the broker
	Bytes    int64 // of the records on their way

	Refused  int64 // calls of Reserve that got no slot
	Acked    int64 // Puts that succeeded
	Failed   int64 // Puts that failed for a reason outside of the record
	Rejected int64 // Puts that failed because of the record itself
	Promises int64 // slots of acknowledged records
	Rerouted int64 // records that went to another partition than their shard prefers
	Splits   int64 // how often partitions got their own clients, because one delayed the others
	Markers  int64 // markers that were acknowledged

	Polled    int64 // records that Poll returned, or skipped because they are markers
	Committed int64 // records in the moves that were passed to Committed

	// Oldest is when the oldest record that was polled and isn't committed yet was produced, on its
	// producer's clock. It is zero if there is none. Its age shows how far the workers are behind.
	Oldest time.Time

	PollErrors int64 // errors while polling, counted by partition
	TrimErrors int64 // background trims that failed
	LookErrors int64 // looks at the topic and the books that failed
	CopyErrors int64 // failed commits to the group, which are only a copy
	Missing    int64 // records that no longer existed when they should be read (L2)
	DataLoss   int64 // other signs that the broker lost what it had acknowledged (L2)
}

// Stats returns the counters. They are read one after the other, so sums may differ slightly while
// the queue works.
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
		Bytes:      q.bytes.Load(),
		Refused:    q.counts.refused.Load(),
		Acked:      q.counts.acked.Load(),
		Failed:     q.counts.failed.Load(),
		Rejected:   q.counts.rejected.Load(),
		Promises:   q.counts.promises.Load(),
		Rerouted:   q.counts.rerouted.Load(),
		Splits:     q.counts.splits.Load(),
		Markers:    q.counts.markers.Load(),
		Polled:     q.counts.polled.Load(),
		Committed:  q.counts.committed.Load(),
		PollErrors: q.counts.pollErrors.Load(),
		TrimErrors: q.counts.trimErrors.Load(),
		LookErrors: q.counts.lookErrors.Load(),
		CopyErrors: q.counts.copyErrors.Load(),
		Missing:    q.counts.missing.Load(),
		DataLoss:   q.counts.dataLoss.Load(),
	}
}

// PartitionState is the state of a partition, as the producer sees it.
type PartitionState struct {
	Partition int32
	Leader    int32         // -1 if there is none
	Health    string        // well, slow or down
	Err       error         // why it isn't healthy
	Since     time.Time     // since when it is in this state
	InFlight  int           // records and markers on their way
	Waiting   time.Duration // how long the oldest of them has waited
	Acked     int64         // records and markers that were acknowledged
	Failed    int64         // records and markers that failed
}

// Partitions returns the state of each partition that pages are put into.
func (q *Queue) Partitions() []PartitionState {
	lanes, now := q.usable(), q.clock()
	out := make([]PartitionState, len(lanes))
	for i, l := range lanes {
		out[i] = l.state(now)
	}
	return out
}

func (l *lane) state(now time.Duration) PartitionState {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := PartitionState{
		Partition: l.partition, Leader: l.leader, Health: l.health(now).String(), Since: l.since, InFlight: l.flying.Len(),
		Err: l.reason(), Acked: l.acked.Load(), Failed: l.failed.Load(),
	}
	if first := l.flying.First(); first != nil {
		s.Waiting = now - first.at
	}
	return s
}
