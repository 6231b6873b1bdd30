package inventory

import (
	"maps"
	"slices"

	"penstock/internal/batch"
)

// Stats is a Stock's state at one moment, for metrics. The fields from Batches on only grow.
type Stats struct {
	Watched  int   // shards
	Queued   int   // holds and finds waiting for a batch
	InFlight int   // batches on their way
	Direct   int   // holds and finds of unwatched shards on their way, at most 256
	Known    int64 // names remembered, at most Config.MaxKnown
	Blind    int   // shards without refusals from memory, because there are too many names
	Events   int   // callbacks waiting

	Batches      uint64 // of holds and finds
	Items        uint64 // in these batches
	Full         uint64 // holds and finds refused with ErrFull
	Lost         uint64 // answers that showed lost writes
	MissedEvents uint64 // callbacks left out because too many waited
	SyncErrors   uint64 // failed reads of watched shards
}

// Stats returns the present state.
func (s *Stock) Stats() Stats {
	s.mu.Lock()
	st := s.ended
	views := slices.Collect(maps.Keys(s.dropping))
	for _, v := range *s.views.Load() {
		views = append(views, v)
		st.Watched++
	}
	s.mu.Unlock()
	st.Direct, st.Events = len(s.direct), len(s.events)
	st.Known = s.known.Load()
	st.Full += s.full.Load()
	st.Lost, st.MissedEvents, st.SyncErrors = s.lost.Load(), s.missed.Load(), s.syncErrors.Load()
	for _, v := range views {
		st.add(v.holds.Stats())
		st.add(v.finds.Stats())
		if v.isBlind() {
			st.Blind++
		}
	}
	return st
}

// add adds a batcher's share.
func (st *Stats) add(b batch.Stats) {
	st.Queued += b.Queued
	st.InFlight += b.InFlight
	st.Batches += b.Batches
	st.Items += b.Items
	st.Full += b.Refused
}

// dropped takes note that a view has ended, and keeps what it has counted.
func (s *Stock) dropped(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dropping, v)
	s.ended.add(v.holds.Stats())
	s.ended.add(v.finds.Stats())
}
