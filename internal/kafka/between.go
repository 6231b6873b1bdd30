package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/seckill"
)

// errNoTopic means that the topic was not found yet.
var errNoTopic = errors.New("kafka: the topic isn't known yet")

// Between returns records of one partition that were put within a range of time, and where to go
// on; nil if there are no more. It has its own client outside of every group, so it moves no
// position: neither the group's nor the one in the books. It stops at the positions in the books,
// because unread records belong to the workers.
//
// The time of a record comes from the log. If the brokers wrote it (LogAppendTime), the range ends
// at the first later record. If the producers wrote it, a clock may be ahead, so the partition is
// read up to its end.
func (q *Queue) Between(ctx context.Context, s seckill.Stretch) ([]seckill.Message, *seckill.LogPlace, error) {
	t := q.topic.Load()
	if t == nil {
		return nil, nil, errNoTopic
	}
	positions, err := q.positions(ctx)
	if err != nil {
		return nil, nil, err
	}
	starts, err := q.admin.ListOffsetsAfterMilli(ctx, s.From.UnixMilli(), q.cfg.Topic)
	if err != nil {
		return nil, nil, fmt.Errorf("kafka: find where %v is in %s: %w", s.From, q.cfg.Topic, err)
	}
	ends, err := q.ends(ctx) // if a log has lost its tail, it ends before the positions
	if err != nil {
		return nil, nil, err
	}
	for _, at := range positions {
		if at.Partition < s.After.Partition {
			continue
		}
		start, known := starts.Lookup(q.cfg.Topic, at.Partition)
		end, both := ends.Lookup(q.cfg.Topic, at.Partition)
		switch err := errors.Join(start.Err, end.Err); {
		case at.Topic != t.id:
			return nil, nil, fmt.Errorf("kafka: partition %d: %w", at.Partition, errOtherTopic)
		case !known || !both:
			return nil, nil, fmt.Errorf("kafka: the topic has no partition %d", at.Partition)
		case err != nil:
			return nil, nil, fmt.Errorf("kafka: partition %d can't be asked: %w", at.Partition, err)
		}
		from, to := start.Offset, min(end.Offset, at.Next)
		if at.Partition == s.After.Partition {
			from = max(from, s.After.Offset)
		}
		if from >= to {
			continue
		}
		messages, reached, err := q.stretch(ctx, &s, at.Partition, from, to)
		if err != nil {
			return nil, nil, err
		}
		if reached < to {
			return messages, &seckill.LogPlace{Partition: at.Partition, Offset: reached}, nil
		}
		return messages, &seckill.LogPlace{Partition: at.Partition + 1}, nil
	}
	return nil, nil, nil
}

// stretch reads records of a partition between two offsets. It returns the records in the range of
// time, and the offset after the last one read. It reads at most s.Most records; markers and
// records of another time count, but are left out.
func (q *Queue) stretch(ctx context.Context, s *seckill.Stretch, partition int32, from, to int64) (
	out []seckill.Message, next int64, err error) {
	client, err := kgo.NewClient(append(q.cfg.clientOptions(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{q.cfg.Topic: {partition: kgo.NewOffset().At(from)}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(4<<20), kgo.FetchMaxPartitionBytes(1<<20), kgo.MaxConcurrentFetches(1))...)
	if err != nil {
		return nil, 0, fmt.Errorf("kafka: make a reader: %w", err)
	}
	defer client.Close()
	next = from
	for size, read := 0, 0; next < to && read < s.Most && size < q.cfg.MaxPollBytes; {
		fetches := client.PollRecords(ctx, min(s.Most-read, pollStep))
		if errs := fetches.Errors(); len(errs) > 0 {
			return nil, 0, fmt.Errorf("kafka: read partition %d from %d on: %w", partition, next, errs[0].Err)
		}
		for _, r := range slices.Collect(fetches.RecordsAll()) {
			late := !r.Timestamp.Before(s.To)
			if r.Offset >= to || late && r.Attrs.TimestampType() == appendTime {
				return out, to, nil
			}
			next = r.Offset + 1
			read++
			size += len(r.Value)
			if !late && !r.Timestamp.Before(s.From) && !r.Attrs.IsControl() && string(r.Key) != markerKey {
				out = append(out, seckill.Message{Partition: partition, Offset: r.Offset, Value: r.Value})
			}
		}
	}
	return out, next, nil
}

// appendTime marks a record whose time was written by a broker.
const appendTime = 1
