package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Trim deletes the records below the positions in the books, except the last one of each partition.
// A broker may know a partition's end only from its last record: after a crash, an emptied log
// would begin at offset 0 again, below the position. Disk space is freed a segment at a time.
func (q *Queue) Trim(ctx context.Context) error {
	positions, err := q.positions(ctx)
	if err != nil {
		return err
	}
	ends, err := q.ends(ctx)
	if err != nil {
		return err
	}
	starts, err := q.admin.ListStartOffsets(ctx, q.cfg.Topic)
	if err != nil && len(starts) == 0 {
		return fmt.Errorf("kafka: list the starts of %s: %w", q.cfg.Topic, err)
	}
	t := q.topic.Load()
	targets := make(kadm.Offsets)
	for _, p := range positions {
		start, ok := starts.Lookup(q.cfg.Topic, p.Partition)
		end, both := ends.Lookup(q.cfg.Topic, p.Partition)
		if !ok || !both || start.Err != nil || end.Err != nil || t == nil || p.Topic != t.id {
			continue
		}
		if target := min(p.Next, end.Offset-1); target > start.Offset {
			targets.AddOffset(q.cfg.Topic, p.Partition, target, -1)
		}
	}
	if len(targets) == 0 {
		return nil
	}
	deleted, err := q.admin.DeleteRecords(ctx, targets)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		return fmt.Errorf("kafka: trim %s: %w", q.cfg.Topic, err)
	}
	return nil
}

// trimLoop trims until ctx ends.
func (q *Queue) trimLoop(ctx context.Context) {
	for pause(ctx, q.cfg.TrimEvery) == nil {
		if err := q.Trim(ctx); err != nil && ctx.Err() == nil {
			q.counts.trimErrors.Add(1)
			q.cfg.Logger.Warn("can't delete the records that the workers have committed; the log grows", "err", err)
		}
	}
}
