package node

import "runtime/metrics"

// shortage finds out whether the processor is overloaded: whether goroutines that could run have to
// wait for it. It is used by one goroutine.
type shortage struct {
	sample [1]metrics.Sample
	before []uint64
	calm   int // looks in a row without a shortage
	short  bool
}

const (
	// shortWait is how long a goroutine waits for an overloaded processor, in seconds. shortShare
	// is the percentage of goroutines that must wait that long.
	shortWait  = 0.002
	shortShare = 5
	// calmLooks is the number of looks without a shortage after which it is over: ten seconds.
	// Delayed refusals end the shortage for which they were delayed, so after a shorter calm the
	// flood would come back again and again.
	calmLooks = 100
)

func newShortage() *shortage {
	s := &shortage{calm: calmLooks}
	s.sample[0].Name = "/sched/latencies:seconds"
	return s
}

// look reports whether the processor was overloaded since the last look, or shortly before.
func (s *shortage) look() bool {
	metrics.Read(s.sample[:])
	if s.sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return false
	}
	h := s.sample[0].Value.Float64Histogram()
	return s.take(h.Counts, h.Buckets)
}

// take takes the number of goroutines that have waited since the process began, by time: counts[i]
// waited at least buckets[i].
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
