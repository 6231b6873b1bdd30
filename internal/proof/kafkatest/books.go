package kafkatest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/penstock/penstock/seckill"
)

// Books are kafka.Books in memory, with the two rules of a store that the queue needs: a topic with
// another id begins again, and a move is committed only from the present position. The zero value
// is empty. All methods are safe for concurrent use.
type Books struct {
	mu        sync.Mutex
	positions []seckill.Position
	away      error
}

// Positions implements kafka.Books.
func (b *Books) Positions(context.Context) ([]seckill.Position, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.positions), b.away
}

// AddPartitions implements kafka.Books.
func (b *Books) AddPartitions(_ context.Context, topic seckill.TopicID, n int32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away != nil {
		return b.away
	}
	if int(n) < len(b.positions) {
		return seckill.ErrLayout
	}
	if len(b.positions) > 0 && b.positions[0].Topic != topic {
		b.positions = nil
	}
	for p := int32(len(b.positions)); p < n; p++ {
		b.positions = append(b.positions, seckill.Position{Topic: topic, Partition: p, LeaderEpoch: -1})
	}
	return nil
}

// Commit moves the positions, all or none: seckill.ErrMoved where one is not its move's From.
func (b *Books) Commit(moves []seckill.Move) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away != nil {
		return b.away
	}
	for _, m := range moves {
		if p := int(m.From.Partition); p >= len(b.positions) || b.positions[p] != m.From {
			return seckill.ErrMoved
		}
	}
	for _, m := range moves {
		b.positions[m.From.Partition] = m.To
	}
	return nil
}

// Set makes a position what p says, as a restored database would.
func (b *Books) Set(p seckill.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.positions[p.Partition] = p
}

// Now returns the positions.
func (b *Books) Now() []seckill.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.positions)
}

// errAway is the error of books that are away.
var errAway = errors.New("the books are away, says the test")

// SetAway makes every call fail until it is unset.
func (b *Books) SetAway(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = nil
	if away {
		b.away = errAway
	}
}
