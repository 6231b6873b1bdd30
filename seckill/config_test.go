package seckill

import (
	"testing"
	"time"
)

// TestL2_WaitOutOutlivesAReplacedPrimary: after a wait-out no 202 can be given for an earlier hold.
// An old primary after a failover takes holds for as long as the replica lag, and the last one may
// be promised within the accept deadline.
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
