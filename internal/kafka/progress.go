package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/penstock/penstock/seckill"
)

// Progress is how far the workers have read a partition, compared with its log.
type Progress struct {
	seckill.Position
	Start int64 // the first offset of the log
	End   int64 // the offset after the last record
	Err   error // why the state of the log is unknown
}

// Behind returns how many records the workers have yet to read.
func (p *Progress) Behind() int64 { return max(0, p.End-max(p.Next, p.Start)) }

// Lost reports whether the log doesn't match the position: it has lost its tail, or unread records.
func (p *Progress) Lost() bool { return p.Err == nil && (p.Next > p.End || p.Next < p.Start) }

// errOtherTopic means that the position belongs to a former topic of the same name.
var errOtherTopic = errors.New("the position is of another topic of this name")

// Progress returns the progress of each partition of the books. It asks the brokers.
func (q *Queue) Progress(ctx context.Context) ([]Progress, error) {
	positions, err := q.positions(ctx)
	if err != nil {
		return nil, err
	}
	ends, err := q.ends(ctx)
	if err != nil {
		return nil, err
	}
	starts, err := q.admin.ListStartOffsets(ctx, q.cfg.Topic)
	if err != nil && len(starts) == 0 {
		return nil, fmt.Errorf("kafka: list the starts of %s: %w", q.cfg.Topic, err)
	}
	t := q.topic.Load()
	out := make([]Progress, len(positions))
	for i, at := range positions {
		start, known := starts.Lookup(q.cfg.Topic, at.Partition)
		end, both := ends.Lookup(q.cfg.Topic, at.Partition)
		out[i] = Progress{Position: at, Start: start.Offset, End: end.Offset, Err: errors.Join(start.Err, end.Err)}
		switch {
		case t == nil || t.id != at.Topic:
			out[i].Err = errOtherTopic
		case !known || !both:
			out[i].Err = fmt.Errorf("kafka: the topic has no partition %d", at.Partition)
		}
	}
	return out, nil
}
