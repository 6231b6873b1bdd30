package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/penstock/penstock/seckill"
)

// Books has the methods of the database that the queue uses: the known partitions, and the workers'
// position in each. seckill.Store implements it.
type Books interface {
	// Positions returns the workers' position of every partition that the books know.
	Positions(ctx context.Context) ([]seckill.Position, error)
	// AddPartitions makes the partitions 0 to n-1 of a topic known. New partitions begin at offset
	// 0; with another topic id, all do. It returns seckill.ErrLayout if the books know more than n.
	AddPartitions(ctx context.Context, topic seckill.TopicID, n int32) error
}

// positions reads the books, within RequestTimeout.
func (q *Queue) positions(ctx context.Context) ([]seckill.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	positions, err := q.books.Positions(ctx)
	if err != nil {
		return nil, fmt.Errorf("kafka: read the positions in the books: %w", err)
	}
	slices.SortFunc(positions, func(a, b seckill.Position) int { return int(a.Partition - b.Partition) })
	return positions, nil
}

// register makes the topic's partitions known to workers and barriers.
func (q *Queue) register(ctx context.Context, t *topicState) error {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	err := q.books.AddPartitions(ctx, t.id, int32(len(t.leaders)))
	if errors.Is(err, seckill.ErrLayout) {
		return q.tooFew(t, -1)
	}
	if err != nil {
		return fmt.Errorf("kafka: register the partitions of %s in the books: %w", q.cfg.Topic, err)
	}
	return nil
}

// tooFew is the error of a topic with fewer partitions than the books know; known is -1 if only the
// books know the number.
func (q *Queue) tooFew(t *topicState, known int) error {
	want := "more"
	if known >= 0 {
		want = fmt.Sprint(known)
	}
	return fmt.Errorf("%w: topic %s has %d partitions and the database knows %s, so that records would be passed over: "+
		"add partitions to the topic, or name the topic that belongs to this database (kafka-topic, kafka-partitions)",
		ErrLayout, q.cfg.Topic, len(t.leaders), want)
}

// covers reports whether positions, in order, are those of the topic's partitions 0 to n-1, and of
// no other topic.
func covers(positions []seckill.Position, t *topicState, n int) bool {
	if len(positions) < n {
		return false
	}
	for i, p := range positions {
		if p.Topic != t.id || p.Partition != int32(i) {
			return false
		}
	}
	return true
}

// bookedPositions returns the positions of all of the topic's partitions. A worker registers
// partitions that the books lack, also after a restore from an earlier time.
func (q *Queue) bookedPositions(ctx context.Context, t *topicState) ([]seckill.Position, error) {
	positions, err := q.positions(ctx)
	if err != nil {
		return nil, err
	}
	if q.cfg.Worker && (t.adopted || !covers(positions, t, len(t.leaders))) {
		if err := q.register(ctx, t); err != nil {
			return nil, err
		}
		if !t.anew && slices.ContainsFunc(positions, func(p seckill.Position) bool { return p.Topic != t.id && p.Next > 0 }) {
			q.counts.dataLoss.Add(1)
			q.cfg.Logger.Error("the database has read another topic of this name: records of it that no worker had read are gone",
				"topic", q.cfg.Topic)
		}
		if positions, err = q.positions(ctx); err != nil {
			return nil, err
		}
	}
	return positions, nil
}

// readBooks learns which partitions pages may be put into.
func (q *Queue) readBooks(ctx context.Context, t *topicState) error {
	positions, err := q.bookedPositions(ctx, t)
	if err != nil {
		return err
	}
	if len(positions) > len(t.leaders) {
		return q.tooFew(t, len(positions))
	}
	if !covers(positions, t, len(positions)) {
		// A worker registers a new topic in the database. Before that, no worker would read the
		// records.
		q.setKnown(0)
		return fmt.Errorf("kafka: the books know another topic than the present %s; a worker will register it", q.cfg.Topic)
	}
	q.setKnown(len(positions))
	if len(positions) == 0 {
		return errors.New("kafka: no worker has registered the topic's partitions in the books yet")
	}
	return nil
}
