package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/penstock/penstock/seckill"
)

// Committed implements seckill.Queue: the group's offsets follow the books, one commit at a time.
func (q *Queue) Committed(moves []seckill.Move) {
	q.counts.oldest.Store(0)
	c := &q.consumer
	c.copyMu.Lock()
	for _, m := range moves {
		c.copies[m.To.Partition] = kgo.EpochOffset{Epoch: m.To.LeaderEpoch, Offset: m.To.Next}
		q.counts.committed.Add(max(0, m.To.Next-m.From.Next))
	}
	c.copyMu.Unlock()
	select {
	case c.copied <- struct{}{}:
	default:
	}
}

// copyLoop commits until ctx ends. A failed commit is not repeated, because the next one has newer
// offsets.
func (q *Queue) copyLoop(ctx context.Context) {
	c := &q.consumer
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.copied:
		}
		c.copyMu.Lock()
		offsets, client := c.copies, c.copier
		c.copies = make(map[int32]kgo.EpochOffset, len(offsets))
		c.copyMu.Unlock()
		if len(offsets) == 0 || client == nil {
			continue
		}
		if err := q.copyTo(ctx, client, offsets); err != nil && ctx.Err() == nil {
			q.counts.copyErrors.Add(1)
			q.cfg.Logger.Debug("the group's offsets are behind", "err", err)
		}
	}
}

func (q *Queue) copyTo(ctx context.Context, client *kgo.Client, offsets map[int32]kgo.EpochOffset) (err error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{q.cfg.Topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, failed error) {
			err = failed
			if resp == nil {
				return
			}
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
				}
			}
		})
	return err
}

// Lag returns how many records and markers are in the queue after the positions in the books.
// Partitions that can't be asked now are left out.
func (q *Queue) Lag(ctx context.Context) (int64, error) {
	positions, err := q.positions(ctx)
	if err != nil {
		return 0, err
	}
	ends, err := q.ends(ctx)
	if err != nil {
		return 0, err
	}
	var lag int64
	for _, p := range positions {
		if end, ok := ends.Lookup(q.cfg.Topic, p.Partition); ok && end.Err == nil {
			lag += max(0, end.Offset-p.Next)
		}
	}
	return lag, nil
}

// ends asks the leaders for their high watermarks.
func (q *Queue) ends(ctx context.Context) (kadm.ListedOffsets, error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	ends, err := q.admin.ListEndOffsets(ctx, q.cfg.Topic)
	if err != nil && len(ends) == 0 {
		return nil, fmt.Errorf("kafka: list the ends of %s: %w", q.cfg.Topic, err)
	}
	return ends, nil
}
