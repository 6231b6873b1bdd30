package seckill

import (
	"context"
	"errors"
	"time"

	"github.com/penstock/penstock/inventory"
)

// ErrNoSlot means that every slot of a queue's buffer is taken.
var ErrNoSlot = errors.New("the queue's buffer is full")

// Queue keeps the promises: a page whose done was called with nil is on durable storage and will be
// polled. All methods are safe for concurrent use.
type Queue interface {
	Producer
	Consumer
}

// Producer is the gateway's side of the queue.
type Producer interface {
	// Reserve takes a slot for one promise in the bounded buffer. An error means that nothing may
	// be put now: ErrNoSlot, or why the queue takes nothing. Each slot is given back by one Put or
	// Release.
	Reserve() error
	// Release gives back slots that were not used.
	Release(slots int)
	// Put sends a page that uses slots. It goes to the shard's preferred partition, and to another
	// one where that one has no leader. Put does not block and keeps value until done is called:
	// exactly once, with nil when the page is acknowledged by all in-sync replicas, else with an
	// error that means that the page may or may not be written, now or later. done must not block.
	Put(shard inventory.ShardID, value []byte, slots int, done func(error))
	// Mark writes a marker into every partition of the books, acknowledged like a page, and returns
	// the position behind each: everything that was acknowledged before the call is below it.
	Mark(ctx context.Context) ([]Position, error)
}

// Consumer is the worker's side of the queue.
type Consumer interface {
	// Poll returns the next records of the partitions that this consumer has, from the positions in
	// the store on; it waits for at least one. Only one Poll is in progress at a time. After
	// Rewind, it returns the same records again.
	Poll(ctx context.Context) (Haul, error)
	// Rewind goes back to the positions in the store: what Poll returned could not be committed.
	Rewind(ctx context.Context) error
	// Committed tells the queue that the moves are in the store, so that its own tools show the
	// lag. It is a copy that nobody reads back, and does not block.
	Committed(moves []Move)
	// Owned returns the partitions that this consumer has now, and how many there are in all. all
	// is 0 while this isn't known: the consumer is no member of the group, or the group can't be
	// asked.
	Owned() (partitions []int32, all int)
}

// TopicID identifies a topic: another topic that was made later with the same name has another id.
type TopicID [16]byte

// Position is a place in a partition: the offset of the next record that is to be read. LeaderEpoch
// is the epoch of the record before it (KIP-320), -1 if it isn't known.
type Position struct {
	Topic       TopicID
	Partition   int32
	Next        int64
	LeaderEpoch int32
}

// Move says that the records of a partition were read from From to To. It is part of the
// transaction that writes their orders, which compares From with the position in the store.
type Move struct {
	From Position
	To   Position
}

// Message is a polled record.
type Message struct {
	Partition int32
	Offset    int64
	Value     []byte
}

// Haul is the result of one Poll: records, and how far they reach. The moves cover markers and
// skipped records, too.
type Haul struct {
	Messages []Message
	Moves    []Move
}

// Stretch is a range of the queue's log: the records that were put from From on and before To, as
// far as the workers have read. After is the end of the previous part; Most bounds the records of
// this part.
type Stretch struct {
	From, To time.Time
	After    LogPlace
	Most     int
}

// LogPlace is the place where a reader of a Stretch goes on. Partitions come in their order.
type LogPlace struct {
	Partition int32
	Offset    int64
}

// Passed reports whether the positions in have have passed those in want. A partition of another
// topic id than the one in want has not.
func Passed(have, want []Position) bool {
	at := make(map[int32]Position, len(have))
	for _, p := range have {
		at[p.Partition] = p
	}
	for _, p := range want {
		if h, ok := at[p.Partition]; !ok || h.Topic != p.Topic || h.Next < p.Next {
			return false
		}
	}
	return true
}
