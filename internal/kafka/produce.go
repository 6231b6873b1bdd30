package kafka

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// spareRecords is how far a client's limits are above Slots. Markers need room, and the client
// counts a record slightly longer than we do.
const spareRecords = 64

// maxBatchBytes is the largest batch of records of one partition, a little below every broker's
// default limit.
const maxBatchBytes = 1_000_000

// producerOptions returns the options of a carrier's client. The client has no timeout for a
// record, because a timeout wouldn't stop a record that was already sent. The carrier replaces the
// client instead.
func (q *Queue) producerOptions() []kgo.Opt {
	return []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0), // while requests are in flight, records collect without a delay
		// Pages are mostly digests, so compressing them costs more than it saves.
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(q.cfg.Slots + spareRecords),
		kgo.ProducerBatchMaxBytes(maxBatchBytes),
		kgo.ProduceRequestTimeout(q.cfg.RequestTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerOnDataLossDetected(func(topic string, partition int32) {
			q.counts.dataLoss.Add(1)
			q.cfg.Logger.Error("the broker forgot this producer's last records", "topic", topic, "partition", partition)
		}),
	}
}

// Reserve implements seckill.Queue. A closed queue has no slots. If no partition can take records,
// the error wraps ErrDown.
func (q *Queue) Reserve() error {
	if why := q.down.Load(); why != nil {
		q.counts.refused.Add(1)
		return *why
	}
	for {
		n := q.reserved.Load()
		switch {
		case q.closed.Load():
			q.counts.refused.Add(1)
			return ErrClosed
		case n >= int64(q.cfg.Slots) || q.bytes.Load() >= int64(q.cfg.BufferBytes):
			q.counts.refused.Add(1)
			return seckill.ErrNoSlot
		case q.reserved.CompareAndSwap(n, n+1):
			return nil
		}
	}
}

// Release implements seckill.Queue.
func (q *Queue) Release(slots int) {
	if slots < 0 || q.reserved.Add(int64(-slots)) < 0 {
		panic("kafka: slots were given back that were not taken")
	}
}

// Put implements seckill.Queue.
func (q *Queue) Put(shard inventory.ShardID, value []byte, slots int, done func(error)) {
	if slots < 1 {
		panic("kafka: a page was put without a slot")
	}
	p := &page{slots: slots, done: done}
	p.record.Value = value
	q.bytes.Add(int64(len(value)))
	if len(value) > q.cfg.MaxRecordBytes {
		q.finish(p, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, len(value), q.cfg.MaxRecordBytes))
		return
	}
	lane := q.route(shard)
	switch {
	case q.closed.Load():
		q.finish(p, ErrClosed)
	case lane == nil:
		q.finish(p, ErrDown)
	default:
		lane.put(p)
	}
}

// route returns the lane for the shard: the preferred one if it is healthy, otherwise another
// healthy one, otherwise the least sick one. The shards of a sick lane are spread over all others.
func (q *Queue) route(shard inventory.ShardID) *lane {
	lanes := q.usable()
	n := len(lanes)
	if n == 0 {
		return nil
	}
	now := q.clock()
	preferred := int(shard) % n
	best, sickness := lanes[preferred], lanes[preferred].health(now)
	for k := 0; k < n-1 && sickness != well; k++ {
		other := lanes[(preferred+1+(int(shard)/n+k)%(n-1))%n]
		if h := other.health(now); h < sickness {
			best, sickness = other, h
		}
	}
	if best.partition != int32(preferred) {
		q.counts.rerouted.Add(1)
	}
	return best
}

// usable returns the lanes that pages may be put into: those of the partitions that the books know.
func (q *Queue) usable() []*lane {
	lanes := *q.lanes.Load()
	return lanes[:min(len(lanes), int(q.known.Load()))]
}

// lane returns the lane of a partition. If needed, it first makes it, and all lanes before it.
func (q *Queue) lane(partition int32) *lane {
	if lanes := *q.lanes.Load(); int(partition) < len(lanes) {
		return lanes[partition]
	}
	q.lanesMu.Lock()
	defer q.lanesMu.Unlock()
	lanes := *q.lanes.Load()
	if int(partition) < len(lanes) {
		return lanes[partition]
	}
	more := append([]*lane(nil), lanes...)
	for int(partition) >= len(more) {
		l := newLane(q, int32(len(more)))
		l.own.closed = q.closed.Load() // see Close
		more = append(more, l)
	}
	q.lanes.Store(&more)
	return more[partition]
}

// finish calls done, counts, and gives the slots back.
func (q *Queue) finish(p *page, err error) {
	p.done(err)
	if p.slots == 0 {
		return
	}
	switch {
	case err == nil:
		q.counts.acked.Add(1)
		q.counts.promises.Add(int64(p.slots))
	case Classify(err) == ClassRefused:
		q.counts.rejected.Add(1)
	default:
		q.counts.failed.Add(1)
	}
	q.bytes.Add(int64(-len(p.record.Value)))
	q.Release(p.slots)
}

// landed records that the outcome of a record is known and was passed on.
func (q *Queue) landed() {
	if q.inFlight.Add(-1) == 0 && q.closed.Load() {
		select {
		case q.settled <- struct{}{}:
		default:
		}
	}
}

// clock is the time since Open, on the monotonic clock. It is never 0.
func (q *Queue) clock() time.Duration { return time.Since(q.opened) + 1 }
