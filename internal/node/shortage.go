package node

import "runtime/metrics"

// shortage finds out whether the processor is short: goroutines that could run have to wait for it.
// It is used by one goroutine.
type shortage struct {
	sample [1]metrics.Sample
	before []uint64
	calm   int // looks in a row without a shortage
	short  bool
}

const (
	// shortWait is how long a goroutine waits for a processor where it is short, in seconds, and
	// shortShare how many in a hundred have to.
	shortWait  = 0.002
	shortShare = 5
	// calmLooks is after how many looks without a shortage there is none: ten seconds. Paced
	// refusals end the shortage that they were paced for, so a short calm lets a flood in again and
	// again.
	calmLooks = 100
)

func newShortage() *shortage {
	s := &shortage{calm: calmLooks}
	s.sample[0].Name = "/sched/latencies:seconds"
	return s
}

// look reports whether the processor was short since the last look, or lately.
func (s *shortage) look() bool {
	metrics.Read(s.sample[:])
	if s.sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return false
	}
	h := s.sample[0].Value.Float64Histogram()
	return s.take(h.Counts, h.Buckets)
}

// take takes how often goroutines have waited since the process began, by how long: counts[i] of
// them from buckets[i] on.
func (s *shortage) take(counts []uint64, buckets []float64) bool {
	var all, long uint64
	if len(s.before) == len(counts) {
		for i, n := range counts {
			all += n - s.before[i]
			if buckets[i] >= shortWait {
				long += n - s.before[i]
			}
		}
	}
	s.before = append(s.before[:0], counts...)
	if long*100 >= all*shortShare && long > 0 {
		s.calm, s.short = 0, true
	} else if s.calm++; s.calm >= calmLooks {
		s.short = false
	}
	return s.short
}
