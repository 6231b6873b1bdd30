package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"

	"penstock/seckill"
)

// Trim deletes the records that the workers have committed, but for the last one of each partition. That one stays because a
// broker may know a partition's end only from its last record: an emptied log would begin at offset 0 again after a crash,
// below the committed offset. Disk space comes back a segment at a time.
func (q *Queue) Trim(ctx context.Context) error {
	committed, err := q.Committed(ctx)
	if err != nil {
		return err
	}
	end, err := q.End(ctx)
	if err != nil {
		return err
	}
	listed, err := q.admin.ListStartOffsets(ctx, q.cfg.Topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return fmt.Errorf("kafka: list the starts of %s: %w", q.cfg.Topic, err)
	}
	targets := make(kadm.Offsets)
	for i, target := range trimTargets(committed, end) {
		if start, ok := listed.Lookup(q.cfg.Topic, int32(i)); ok && target > start.Offset {
			targets.AddOffset(q.cfg.Topic, int32(i), target, -1)
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

// trimTargets returns below which offset each partition may be deleted.
func trimTargets(committed, end seckill.Positions) seckill.Positions {
	targets := make(seckill.Positions, min(len(committed), len(end)))
	for i := range targets {
		targets[i] = max(0, min(committed[i], end[i]-1))
	}
	return targets
}

// trimLoop trims until ctx ends.
func (q *Queue) trimLoop(ctx context.Context) {
	for pause(ctx, q.cfg.TrimEvery) == nil {
		if err := q.Trim(ctx); err != nil && ctx.Err() == nil {
			q.counts.trimErrors.Add(1)
			q.cfg.Logger.Warn("can't delete what the workers have committed; the log grows", "err", err)
		}
	}
}
