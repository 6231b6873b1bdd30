package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/seckill"
)

// place is the position at which a partition is read.
type place struct {
	at   seckill.Position // the start of the next move
	hole int64            // the offset of a record that came too early, and was asked for again
	lost bool             // the log isn't the one to which at belongs: it is read from its start
}

// next is what to do with a record.
type next uint8

const (
	takeIt next = iota
	// seekBack means that records before this one are missing. They are asked for again, once.
	seekBack
	// seekStart means that the record has an earlier epoch than the position: the log is not the
	// one that was read so far, and it is unknown where they differ.
	seekStart
)

// judge decides about the record at offset, written under epoch, in a log that begins at start.
// missing is how many records before it no longer exist.
func (p *place) judge(offset int64, epoch int32, start int64) (what next, missing int64) {
	expected := p.at.Next
	switch {
	case offset == expected && epoch < p.at.LeaderEpoch && !p.lost:
		p.lost = true
		return seekStart, 0
	case offset <= expected: // lower: the log has lost its tail, and the client went back
		return takeIt, 0
	case p.lost && offset <= start:
		return takeIt, 0
	case start > expected:
		missing = min(offset, start) - expected
		if offset <= start {
			return takeIt, missing
		}
		expected = start
	}
	if p.hole != offset {
		p.hole = offset
		return seekBack, 0
	}
	return takeIt, missing + offset - expected
}

// moved records that the record at offset was taken.
func (p *place) moved(offset int64, epoch int32) {
	p.at.Next, p.at.LeaderEpoch = offset+1, epoch
	p.hole, p.lost = 0, false
}

// haul has the records that one Poll collects.
type haul struct {
	q       *Queue
	client  *kgo.Client
	records int
	bytes   int
	oldest  int64 // milliseconds since 1970; 0: none
	seeks   map[int32]kgo.EpochOffset
	out     seckill.Haul
	err     error
}

// take adds fetched records.
func (h *haul) take(fetches kgo.Fetches) {
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if p.Err != nil {
			h.failed(p)
		}
		if len(p.Records) > 0 && p.Topic == h.q.cfg.Topic {
			h.partition(p)
		}
	})
}

// partition adds the records of a partition that directly follow the earlier ones.
func (h *haul) partition(p kgo.FetchTopicPartition) {
	c := &h.q.consumer
	c.mu.Lock()
	defer c.mu.Unlock()
	place := c.places[p.Partition]
	if _, seeks := h.seeks[p.Partition]; seeks || place == nil { // the partition was lost while it was fetched
		return
	}
	from, taken := place.at, 0
	for _, r := range p.Records {
		what, missing := place.judge(r.Offset, r.LeaderEpoch, p.LogStartOffset)
		if what != takeIt {
			h.seek(place, what, r.Offset)
			break
		}
		if missing > 0 {
			h.q.counts.missing.Add(missing)
			h.q.cfg.Logger.Error("records are gone that no worker had read", "partition", p.Partition,
				"from", place.at.Next, "count", missing)
		}
		place.moved(r.Offset, r.LeaderEpoch)
		taken++
		h.bytes += len(r.Value)
		if !r.Attrs.IsControl() && string(r.Key) != markerKey {
			h.message(r)
		}
	}
	h.records += taken
	if taken > 0 {
		h.move(from, place.at)
	}
}

func (h *haul) message(r *kgo.Record) {
	if ms := r.Timestamp.UnixMilli(); h.oldest == 0 || ms < h.oldest {
		h.oldest = ms
	}
	h.out.Messages = append(h.out.Messages, seckill.Message{Partition: r.Partition, Offset: r.Offset, Value: r.Value})
}

// move adds a move, or extends its partition's move.
func (h *haul) move(from, to seckill.Position) {
	for i := range h.out.Moves {
		if m := &h.out.Moves[i]; m.To == from {
			m.To = to
			return
		}
	}
	h.out.Moves = append(h.out.Moves, seckill.Move{From: from, To: to})
}

// seek continues a partition at another place.
func (h *haul) seek(p *place, what next, got int64) {
	to := kgo.EpochOffset{Epoch: p.at.LeaderEpoch, Offset: p.at.Next}
	if what == seekStart {
		h.q.counts.dataLoss.Add(1)
		h.q.cfg.Logger.Error("the log is not the one that was read before, so it is read from its start",
			"partition", p.at.Partition, "position", p.at.Next)
		to = kgo.EpochOffset{Epoch: -1, Offset: 0} // if the log begins later, the client goes there
	} else {
		h.q.cfg.Logger.Warn("records don't follow the ones before, so they are read again",
			"partition", p.at.Partition, "position", p.at.Next, "got", got)
	}
	if h.seeks == nil {
		h.seeks = make(map[int32]kgo.EpochOffset)
	}
	h.seeks[p.at.Partition] = to
}

// failed handles a partition's error. If the client would get the error again at once, the
// partition rests. An error of the group or of the context ends the Poll.
func (h *haul) failed(p kgo.FetchTopicPartition) {
	q := h.q
	var (
		lost    *kgo.ErrDataLoss
		session *kgo.ErrGroupSession
	)
	switch {
	case errors.As(p.Err, &session):
		h.err = fmt.Errorf("kafka: poll as a member of %s: %w", q.cfg.Group, p.Err)
	case errors.As(p.Err, &lost):
		q.counts.dataLoss.Add(1)
		q.cfg.Logger.Error("the log has lost records that were read before, so it is read again from where it differs",
			"partition", p.Partition, "err", p.Err)
	case errors.Is(p.Err, context.Canceled), errors.Is(p.Err, context.DeadlineExceeded): // our own deadline; see pollOnce
	case p.Topic == "":
		h.err = fmt.Errorf("kafka: poll: %w", p.Err)
	default:
		q.counts.pollErrors.Add(1)
		if otherTopic(p.Err) {
			q.lookNow()
		}
		q.cfg.Logger.Warn("a partition can't be read", "partition", p.Partition, "err", p.Err)
		h.client.PauseFetchPartitions(map[string][]int32{p.Topic: {p.Partition}})
		q.consumer.paused[p.Partition] = time.Now().Add(longestPause)
	}
}

// finish moves partitions to other places if needed, and returns the haul.
func (h *haul) finish() (seckill.Haul, error) {
	q := h.q
	if len(h.seeks) > 0 {
		h.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{q.cfg.Topic: h.seeks})
	}
	q.counts.polled.Add(int64(h.records))
	q.counts.oldest.Store(h.oldest)
	return h.out, h.err
}
