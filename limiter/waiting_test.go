package limiter

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// The tokens that requests wait for are added to a share once, and subtracted once. A count that
// drifts below zero would take tokens from a key for ever.
func TestLimiter_ABurstComesBackAfterEachPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := New(DefaultConfig(), newModelPool(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		const burst = 5
		if err := l.Apply(Document{Policies: []Policy{{Name: "u", Key: User, Rate: 1, Burst: burst, Mode: Enforce}}}, 1, time.Now()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.Run(ctx)
		}()
		time.Sleep(4 * leaseEvery)
		for round := range 10 {
			allowed := 0
			for range burst {
				if l.Allow(&Request{Merchant: "m", User: "u", Quantity: 1}, time.Now()).Allowed {
					allowed++
				}
			}
			if allowed != burst {
				t.Errorf("visit %d: %d of a burst of %d", round, allowed, burst)
			}
			time.Sleep(2 * burst * time.Second) // full again
		}
		cancel()
		<-done
	})
}
