package seckill

import (
	"context"
	"errors"
)

// ErrNoSlot means that every slot of a queue's buffer is taken.
var ErrNoSlot = errors.New("the queue's buffer is full")

// Queue keeps the promise: a record whose done was called with nil is on durable storage and will be polled.
// All methods are safe for concurrent use.
type Queue interface {
	// Reserve takes a slot in the bounded buffer. An error means that nothing may be put now: ErrNoSlot, or why the queue takes nothing.
	// Each slot is given back by exactly one Put or Release.
	Reserve() error
	// Release gives back a slot that was not used.
	Release()
	// Put sends a record in a reserved slot. It does not block and keeps value until done is called: exactly once, with
	// nil when the record is acknowledged by all in-sync replicas, else with an error that means the record may or may
	// not be written, now or later. done must not block.
	Put(key OrderID, value []byte, done func(error))

	// Poll returns the next records of the partitions that this consumer has; it waits for at least one. The records stay
	// valid until Commit. Only one Poll–Commit pair is under way at a time.
	Poll(ctx context.Context) ([]Message, error)
	// Commit commits everything that the last Poll returned. ErrFenced means that the partitions are somebody else's now: the
	// records will come again. After any other error it may be called again.
	Commit(ctx context.Context) error

	// End returns the next offset of every partition: what is acknowledged before the call lies below it.
	End(ctx context.Context) (Positions, error)
	// Committed returns the workers' committed offset of every partition; a partition nobody committed yet is at 0.
	Committed(ctx context.Context) (Positions, error)
}

// Message is a record as it was polled.
type Message struct {
	Partition int32
	Offset    int64
	Value     []byte
}

// Positions are offsets, indexed by partition.
type Positions []int64

// Passed reports whether every partition of p has reached end's offset.
func (p Positions) Passed(end Positions) bool {
	if len(p) < len(end) {
		return false
	}
	for i, offset := range end {
		if p[i] < offset {
			return false
		}
	}
	return true
}
