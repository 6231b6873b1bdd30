package timing

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Size is how many buckets there are. The last one also counts all longer durations.
const Size = 104

// Counts is how many durations fell into each bucket. The zero value has none.
type Counts [Size]uint64

// Bucket returns the bucket of a duration.
func Bucket(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < 4 {
		return int(us)
	}
	e := bits.Len64(us) - 1
	return min((e-1)*4+int(us>>(e-2))&3, Size-1)
}

// Upper returns the upper bound of a bucket, which isn't part of it.
func Upper(bucket int) time.Duration {
	if bucket < 4 {
		return time.Duration(bucket+1) * time.Microsecond
	}
	return time.Duration(4+bucket%4+1) << (bucket/4 - 1) * time.Microsecond
}

// Add adds others' counts.
func (c *Counts) Add(other *Counts) {
	for i := range other {
		c[i] += other[i]
	}
}

// Since returns what was counted after earlier, which must come from the same histogram.
func (c *Counts) Since(earlier *Counts) (out Counts) {
	for i := range c {
		out[i] = c[i] - min(earlier[i], c[i])
	}
	return out
}

// Total returns how many durations were counted.
func (c *Counts) Total() (n uint64) {
	for _, count := range c {
		n += count
	}
	return n
}

// Above returns how many durations were longer than d, as exactly as the buckets allow: the bucket
// that contains d counts as not longer.
func (c *Counts) Above(d time.Duration) (n uint64) {
	for i := Bucket(d) + 1; i < Size; i++ {
		n += c[i]
	}
	return n
}

// Quantile returns the upper bound of the bucket that has the quantile q, from 0 to 1. ok is false
// if nothing was counted.
func Quantile(c *Counts, q float64) (d time.Duration, known bool) {
	total := c.Total()
	if total == 0 {
		return 0, false
	}
	rank, seen := uint64(q*float64(total)), uint64(0)
	for i, n := range c {
		if seen += n; seen > rank || seen == total {
			return Upper(i), true
		}
	}
	return Upper(Size - 1), true
}

// Histogram counts durations. Its zero value is empty. It is safe for concurrent use.
type Histogram struct {
	counts [Size]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	h.counts[Bucket(d)].Add(1)
	h.sum.Add(int64(max(d, 0)))
}

// Counts returns what was counted so far.
func (h *Histogram) Counts() *Counts {
	var out Counts
	for i := range h.counts {
		out[i] = h.counts[i].Load()
	}
	return &out
}

// Sum returns the sum of what was counted so far.
func (h *Histogram) Sum() time.Duration { return time.Duration(h.sum.Load()) }
