package limiter

import (
	"math"
	"testing"
	"time"
)

// limitOf returns a limit of one node without a policy in a snapshot.
func limitOf(rate float64, burst int64) *limit {
	return newLimit(&Policy{Name: "p", Key: User, Rate: rate, Burst: burst, Mode: Enforce}, 0, 1)
}

func TestBucketSpendsItsBurstThenItsRate(t *testing.T) {
	l := limitOf(2, 3)
	f := func(tat, now, n, wantNext, wantWait int64, wantTokens float64) {
		t.Helper()
		next, wait := l.spend(tat, now, n)
		if next != wantNext || wait != wantWait || l.tokens(tat, now) != wantTokens {
			t.Errorf("spend(%d, %d, %d) = %d, %d of %v tokens; want %d, %d, %v", tat, now, n, next, wait, l.tokens(tat, now), wantNext, wantWait, wantTokens)
		}
	}
	const half = int64(time.Second / 2)
	f(0, 0, 1, half, half-3*half, 3)
	f(0, 10*half, 1, 11*half, -2*half, 3)
	f(2*half, 0, 1, 3*half, 0, 1)
	f(3*half, 0, 1, 4*half, half, 0)
	f(3*half, half/2, 1, 4*half, half/2, 0.5)
	f(3*half, half, 1, 4*half, 0, 1)
	f(0, 0, 3, 3*half, 0, 3)
	f(1, 0, 3, 3*half+1, 1, 3-1/float64(half))
}

func TestIntervalsAreNeverBelowTheRate(t *testing.T) {
	for _, rate := range []float64{MinRate, 0.1, 1.0 / 3, 1, 137, 333.3, 999_983, 2_999_999, MaxRate} {
		l := limitOf(rate, 1)
		real := 1e9 / float64(l.interval)
		if real > rate*(1+1e-15) || real < rate*(1-rate/1e9) {
			t.Errorf("rate %v became %v", rate, real)
		}
	}
}

func TestCarryKeepsTokens(t *testing.T) {
	const now = int64(time.Hour)
	f := func(oldRate float64, oldBurst int64, newRate float64, newBurst int64, before, want float64) {
		t.Helper()
		old, l := limitOf(oldRate, oldBurst), limitOf(newRate, newBurst)
		tat := now + int64((float64(oldBurst)-before)*float64(old.interval))
		got := l.tokens(l.carry(old, tat, now), now)
		if got > want || got < want-2e-9*newRate-1e-9 {
			t.Errorf("%v tokens of %v/s burst %d are %v of %v/s burst %d, want %v", before, oldRate, oldBurst, got, newRate, newBurst, want)
		}
	}
	f(1, 10, 1000, 10, 4, 4)   // a faster refill gives no token at once
	f(1000, 10, 1, 10, 4, 4)   // a slower one takes no token
	f(1, 10, 1, 100, 4, 4)     // a larger bucket has to be filled
	f(1, 10, 1, 100, 10, 10)   // even if the smaller one was full
	f(1, 100, 1, 10, 50, 10)   // a smaller one can't hold them all
	f(1, 100, 1, 10, 4, 4)     // but takes no others
	f(137, 10, 50, 5, 0, 0)    // an empty bucket stays empty
	f(1e-5, 1, 1e7, 1e8, 1, 1) // from one end of the range to the other
	f(1e7, 1e8, 1e-5, 1, 1e8, 1)
	f(1e7, 1e8, 1e-5, 1, 0, 0)
}

func TestCarryHasNoDriftWithoutAnEdit(t *testing.T) {
	old, l := limitOf(137, 10), limitOf(137, 10)
	for tat := int64(1000); tat < 1010; tat++ {
		if got := l.carry(old, tat, 1000); got != tat {
			t.Errorf("%d became %d", tat, got)
		}
	}
}

func TestClock(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	c := newClock(start)
	moment := func(d time.Duration) time.Duration { return time.Duration(c.at(start.Add(d)) - origin) }
	f := func(d, want time.Duration) {
		t.Helper()
		if got := moment(d); got != want {
			t.Errorf("%v after the start is %v, want %v", d, got, want)
		}
	}
	f(0, 0)
	f(time.Second, time.Second)
	f(-time.Second, -time.Second)
	f(time.Hour, time.Hour)                               // a jump ahead is time
	f(time.Hour-30*time.Second, time.Hour-30*time.Second) // a goroutine with an older time
	f(0, time.Hour)                                       // a clock that was set back: time goes on
	f(2*time.Second, time.Hour+2*time.Second)
	f(-24*time.Hour, time.Hour+2*time.Second)
	f(-24*time.Hour+time.Second, time.Hour+3*time.Second)

	for _, when := range []time.Time{{}, time.Unix(math.MaxInt64/2, 0), {}, time.Unix(math.MaxInt64/2, 0), time.Unix(0, 0), start} {
		last := c.at(when)
		if last < 0 || last > latest {
			t.Errorf("%v is the moment %d", when, last)
		}
	}
}
