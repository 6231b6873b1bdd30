package wait

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestTick: loops with periods that are multiples wake up at the same moments, although they work
// for different times, and none rests for less than half of its period.
func TestTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const short, long = 100 * time.Millisecond, 400 * time.Millisecond
		fast := NewTicker(short)
		defer fast.Stop()
		shorts := make(map[time.Time]bool)
		for range 100 {
			if !fast.Wait(t.Context()) {
				t.Fatal("a ticker ended")
			}
			shorts[time.Now()] = true
		}
		if len(shorts) != 100 {
			t.Fatalf("%d different moments", len(shorts))
		}
		var first time.Time
		for at := range shorts {
			first = at
		}
		slow := NewTicker(long)
		defer slow.Stop()
		last := time.Time{}
		for work := range 40 {
			at := <-slow.C
			if away := at.Sub(first); away%short != 0 {
				t.Errorf("a tick of %v is %v away from one of %v", long, away, short)
			}
			if !last.IsZero() && at.Sub(last) < long/2 {
				t.Errorf("a rest of %v", at.Sub(last))
			}
			time.Sleep(time.Duration(work) * 7 * time.Millisecond)
			last = time.Now()
			slow.Next()
		}
		if !ForTick(t.Context(), short) || time.Since(first)%short != 0 {
			t.Errorf("ForTick woke up %v away from a tick", time.Since(first)%short)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if ForTick(ctx, time.Hour) || slow.Wait(ctx) {
			t.Error("a wait whose context ended says that it is over")
		}
	})
}
