package seckill

import (
	"errors"
	"fmt"
	"time"

	"github.com/penstock/penstock/inventory"
)

// Config has the times and sizes of the protocol. All processes of an installation must use the
// same values.
type Config struct {
	// AcceptDeadline is how long after a request's arrival a 202 may still be given. A longer time
	// tolerates a slower queue, but every rebuild waits for it.
	AcceptDeadline time.Duration
	// ReplicaLag is how long a replaced Redis primary may still take writes: the value of
	// min-replicas-max-lag, and 0 for a single Redis.
	ReplicaLag time.Duration
	// Shards is the number of shards of the installation; it is fixed when the database is made.
	Shards int
	// SweepAge is how long a hold must be untouched before the sweeper decides it. It must be
	// longer than WaitOut, so that no attempt with this hold is still running.
	SweepAge time.Duration
	// Tick is how often the back office looks for work: catalog changes, closed shards, due
	// timeouts, order events. While there are no timeouts and no events, it looks for these up to
	// four times less often. A gateway may also learn of a revoked caller or a new epoch this much
	// later.
	Tick time.Duration
	// Retention is how long after an activity's end its keys are remembered in the stock.
	Retention time.Duration
	// BatchCap is the most items of one statement or stock call.
	BatchCap int
	// Queue is how many status reads, cancels or payments may wait for the store before they are
	// refused (L8).
	Queue int
	// StoreTimeout bounds one batch of these.
	StoreTimeout time.Duration
}

// DefaultConfig returns the values for production.
func DefaultConfig() Config {
	return Config{
		AcceptDeadline: 2 * time.Second,
		Shards:         16,
		SweepAge:       30 * time.Second,
		Tick:           250 * time.Millisecond,
		Retention:      24 * time.Hour,
		BatchCap:       512,
		Queue:          16_384,
		StoreTimeout:   2 * time.Second,
	}
}

// Validate checks each value, and that the values fit together.
func (c Config) Validate() error {
	var errs []error
	positive := func(name string, v int64) {
		if v <= 0 {
			errs = append(errs, fmt.Errorf("%s: must be above zero", name))
		}
	}
	positive("accept-deadline", int64(c.AcceptDeadline))
	positive("shards", int64(c.Shards))
	if c.Shards > inventory.MaxShards {
		errs = append(errs, fmt.Errorf("shards: must be at most %d", inventory.MaxShards))
	}
	positive("tick", int64(c.Tick))
	positive("retention", int64(c.Retention))
	positive("batch-cap", int64(c.BatchCap))
	positive("queue", int64(c.Queue))
	positive("store-timeout", int64(c.StoreTimeout))
	if c.ReplicaLag < 0 {
		errs = append(errs, errors.New("replica-lag: must not be negative"))
	}
	if c.SweepAge <= c.WaitOut() {
		errs = append(errs, fmt.Errorf("sweep-age: %v must be longer than the wait-out, %v", c.SweepAge, c.WaitOut()))
	}
	return errors.Join(errs...)
}

// answerMargin is for a goroutine that is scheduled late, after it has read the clock and before it
// gives its answer to the network.
const answerMargin = time.Second

// WaitOut returns the time after a shard was closed, or a hold was doomed, after which no earlier
// purchase can get a 202: the accept deadline, ReplicaLag, and a margin.
func (c Config) WaitOut() time.Duration { return c.AcceptDeadline + c.ReplicaLag + answerMargin }

// StartBy returns the time from a purchase's arrival within which its hold must be asked for: a
// quarter of the accept deadline. A purchase that waits longer fails, and nothing happened.
func (c Config) StartBy() time.Duration { return c.AcceptDeadline / 4 }

// KeptFor is the least time for which an activity's orders are kept after its close. Until then its
// keys are remembered, and its orders may be paid. The queue keeps its records for a shorter time,
// one week by default.
func (c *Config) KeptFor() time.Duration { return c.Retention + MaxPaymentWindow }
