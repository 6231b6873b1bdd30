// Package timing counts durations in histograms of fixed size.
//
//	var took timing.Histogram
//	took.Observe(time.Since(began))
//	p99, known := timing.Quantile(took.Counts(), 0.99)
//
// Buckets grow by the logarithm: four for each doubling, from a microsecond to two minutes, so that
// a quantile is at most a quarter too high. Counts of several processes may be added up.
//
// A Moment says how long ago something was, and a Streak for how long errors have come.
package timing
