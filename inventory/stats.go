package inventory

import (
	"maps"
	"slices"

	"github.com/penstock/penstock/internal/batch"
)

// Stats is a Stock's state at one moment, for metrics. The fields from Rounds on are counters,
// which only grow.
type Stats struct {
	Watched  int   // shards
	Queued   int   // finds waiting for a batch
	InFlight int   // batches of finds on their way
	Direct   int   // finds of unwatched shards on their way, at most 256
	Known    int64 // heads of names that are remembered, at most Config.MaxKnown
	Blind    int   // shards without refusals from memory, because there are too many heads
	Events   int   // callbacks waiting

	Rounds       uint64 // writes with holds
	Calls        uint64 // calls of shards in these writes
	Claims       uint64 // in these calls
	FindBatches  uint64 // of finds
	Finds        uint64 // in these batches
	Full         uint64 // finds refused because too many waited
	Lost         uint64 // answers that showed lost writes
	MissedEvents uint64 // callbacks left out because too many waited
	SyncErrors   uint64 // failed reads of watched shards
}

// Stats returns the present state.
func (s *Stock) Stats() Stats {
	s.mu.Lock()
	st := s.ended
	views := slices.Collect(maps.Keys(s.dropping))
	for _, v := range s.views.Load() {
		if v != nil {
			views = append(views, v)
			st.Watched++
		}
	}
	s.mu.Unlock()
	st.Direct, st.Events = len(s.direct), len(s.events)
	st.Known = s.known.Load()
	st.Rounds, st.Calls, st.Claims = s.rounds.Load(), s.calls.Load(), s.claims.Load()
	st.Full += s.full.Load()
	st.Lost, st.MissedEvents, st.SyncErrors = s.lost.Load(), s.missed.Load(), s.syncErrors.Load()
	for _, v := range views {
		st.add(v.finds.Stats())
		if v.isBlind() {
			st.Blind++
		}
	}
	return st
}

// add adds the numbers of a batcher.
func (st *Stats) add(b batch.Stats) {
	st.Queued += b.Queued
	st.InFlight += b.InFlight
	st.FindBatches += b.Batches
	st.Finds += b.Items
	st.Full += b.Refused
}

// dropped records that a view has ended, and keeps its counts.
func (s *Stock) dropped(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dropping, v)
	s.ended.add(v.finds.Stats())
}
