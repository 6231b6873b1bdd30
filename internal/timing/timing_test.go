package timing

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestBucket_Bounds: each duration lies between the bound of the bucket before and the bound of its
// own. Its own bound is at most a quarter above it.
func TestBucket_Bounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(2*time.Minute)).Draw(t, "d"))
		b := Bucket(d)
		if d >= Upper(b) || b > 0 && d < Upper(b-1) {
			t.Fatalf("%v is in bucket %d, from %v to %v", d, b, Upper(max(b-1, 0)), Upper(b))
		}
		if d >= 4*time.Microsecond && float64(Upper(b)) > 1.25*float64(d)+float64(time.Microsecond) {
			t.Fatalf("%v: the bound %v is too far", d, Upper(b))
		}
	})
	if Bucket(-time.Second) != 0 || Bucket(time.Hour) != Size-1 {
		t.Fatal("what is outside is not in the outermost buckets")
	}
}

func TestQuantile(t *testing.T) {
	var h Histogram
	if _, known := Quantile(h.Counts(), 0.5); known {
		t.Fatal("a quantile of nothing")
	}
	for i := range 1000 {
		h.Observe(time.Duration(i+1) * time.Millisecond)
	}
	counts := h.Counts()
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got, _ := Quantile(counts, q); got < want || float64(got) > 1.26*float64(want) {
			t.Errorf("quantile %v is %v, want %v and at most a quarter more", q, got, want)
		}
	}
	if got := counts.Above(time.Minute); got != 0 {
		t.Errorf("%d above a minute", got)
	}
	if got := counts.Above(100 * time.Millisecond); got < 850 || got > 900 {
		t.Errorf("%d above 100 ms", got)
	}
	h.Observe(time.Second)
	if since := h.Counts().Since(counts); since.Total() != 1 {
		t.Errorf("%d since, want 1", since.Total())
	}
}
