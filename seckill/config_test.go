package seckill

import (
	"testing"
	"time"
)

// TestL2_WaitOutOutlivesAReplacedPrimary: a wait-out lasts until nobody can be given a 202 for a
// hold of before. A primary that a failover left behind takes holds for the replica lag, and the
// last of them may be promised for the accept deadline.
func TestL2_WaitOutOutlivesAReplacedPrimary(t *testing.T) {
	for _, lag := range []time.Duration{0, time.Second, 2 * time.Second, 10 * time.Second} {
		cfg := DefaultConfig()
		cfg.ReplicaLag = lag
		if got := cfg.WaitOut(); got <= cfg.AcceptDeadline+lag {
			t.Errorf("BROKEN L2: with a replica lag of %v it lasts %v, and a 202 may come after %v", lag, got, cfg.AcceptDeadline+lag)
		}
		cfg.SweepAge = cfg.WaitOut()
		if err := cfg.Validate(); err == nil {
			t.Errorf("a hold that is swept after %v may still be promised", cfg.SweepAge)
		}
	}
}
