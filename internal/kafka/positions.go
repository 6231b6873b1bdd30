package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"penstock/seckill"
)

// marks are the highest ends that this process has seen of each partition: by acknowledgement or by asking. A log that
// ends lower has lost something.
type marks []atomic.Int64

// acked notes that everything below end exists. Partitions added since Open are not watched.
func (m marks) acked(partition int32, end int64) {
	if int(partition) >= len(m) {
		return
	}
	for mark := &m[partition]; ; {
		old := mark.Load()
		if end <= old || mark.CompareAndSwap(old, end) {
			return
		}
	}
}

// now returns the marks as they are.
func (m marks) now() seckill.Positions {
	p := make(seckill.Positions, len(m))
	for i := range m {
		p[i] = m[i].Load()
	}
	return p
}

// End implements seckill.Queue. It returns ErrLost when a partition ends below what this process knows to exist.
func (q *Queue) End(ctx context.Context) (seckill.Positions, error) {
	known := q.marks.now()
	end, err := q.listEnd(ctx)
	if err != nil {
		return nil, err
	}
	if !end.Passed(known) {
		q.counts.dataLoss.Add(1)
		return nil, fmt.Errorf("%w: topic %s ends at %v, below %v", ErrLost, q.cfg.Topic, end, known)
	}
	for i, offset := range end {
		q.marks.acked(int32(i), offset)
	}
	return end, nil
}

// listEnd asks the leaders for their high watermarks.
func (q *Queue) listEnd(ctx context.Context) (seckill.Positions, error) {
	if _, err := q.partitions(ctx); err != nil {
		return nil, err
	}
	listed, err := q.admin.ListEndOffsets(ctx, q.cfg.Topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("kafka: list the ends of %s: %w", q.cfg.Topic, err)
	}
	end := make(seckill.Positions, len(listed[q.cfg.Topic]))
	for i := range end {
		o, ok := listed.Lookup(q.cfg.Topic, int32(i))
		if !ok {
			return nil, fmt.Errorf("%w: %s has no partition %d", ErrTopic, q.cfg.Topic, i)
		}
		end[i] = o.Offset
	}
	return end, nil
}

// Committed implements seckill.Queue.
func (q *Queue) Committed(ctx context.Context) (seckill.Positions, error) {
	n, err := q.partitions(ctx)
	if err != nil {
		return nil, err
	}
	fetched, err := q.admin.FetchOffsets(ctx, q.cfg.Group)
	if err == nil {
		err = fetched.Error()
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("kafka: fetch the committed offsets of %s: %w", q.cfg.Group, err)
	}
	committed := make(seckill.Positions, n)
	for i := range committed {
		if o, ok := fetched.Lookup(q.cfg.Topic, int32(i)); ok {
			committed[i] = max(o.At, 0) // -1: nobody committed
		}
	}
	return committed, nil
}

// partitions returns how many partitions the topic has, and an error if it isn't the topic that was opened. The client answers
// from what it learnt a moment ago.
func (q *Queue) partitions(ctx context.Context) (int, error) {
	listed, err := q.admin.ListTopics(ctx, q.cfg.Topic)
	if err != nil {
		return 0, fmt.Errorf("kafka: look at topic %s: %w", q.cfg.Topic, err)
	}
	topic := listed[q.cfg.Topic]
	switch {
	case errors.Is(topic.Err, kerr.UnknownTopicOrPartition), errors.Is(topic.Err, kerr.UnknownTopicID):
		return 0, fmt.Errorf("%w: %s is gone: %w", ErrTopic, q.cfg.Topic, topic.Err)
	case topic.Err != nil:
		return 0, fmt.Errorf("kafka: look at topic %s: %w", q.cfg.Topic, topic.Err)
	case topic.ID != q.topicID:
		return 0, fmt.Errorf("%w: %s was made anew since it was opened", ErrTopic, q.cfg.Topic)
	}
	return len(topic.Partitions), nil
}

// rewind moves committed offsets back that lie beyond the end of their partition. Where a broker lost the tail of its log (a
// power failure without fsync, an unclean election), new records would take the lost ones' offsets, and those below the
// committed offset would never be read. Going back costs nothing: what the database has, it has.
func (q *Queue) rewind(ctx context.Context) error {
	committed, err := q.Committed(ctx)
	if err != nil {
		return err
	}
	end, err := q.listEnd(ctx) // after committed, which grows meanwhile where other workers are at work
	if err != nil {
		return err
	}
	back := make(kadm.Offsets)
	for i := range min(len(committed), len(end)) {
		if committed[i] > end[i] {
			q.counts.dataLoss.Add(1)
			q.cfg.Logger.Error("the log ends below what the workers have committed: records were lost, the group goes back",
				"topic", q.cfg.Topic, "partition", i, "committed", committed[i], "end", end[i])
			back.AddOffset(q.cfg.Topic, int32(i), end[i], -1)
		}
	}
	if len(back) == 0 {
		return nil
	}
	if err := q.admin.CommitAllOffsets(ctx, q.cfg.Group, back); err != nil {
		return fmt.Errorf("%w: committed offsets %v lie beyond the ends %v, and can't be moved back (stop all workers first): %w",
			ErrLost, committed, end, err)
	}
	return nil
}

// Lag returns how many records lie in the queue that the workers have not committed.
func (q *Queue) Lag(ctx context.Context) (int64, error) {
	committed, err := q.Committed(ctx)
	if err != nil {
		return 0, err
	}
	end, err := q.End(ctx)
	if err != nil {
		return 0, err
	}
	var lag int64
	for i := range min(len(end), len(committed)) {
		lag += max(end[i]-committed[i], 0)
	}
	return lag, nil
}
