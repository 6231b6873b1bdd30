package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"penstock/seckill"
)

// spareRecords is by how many records the client's limits lie above Slots: the client counts a record a moment longer than we do.
const spareRecords = 64

// keyBytes is more than the length of any key.
const keyBytes = 64

func (q *Queue) producerOptions() []kgo.Opt {
	buffered := q.cfg.Slots + spareRecords
	return []kgo.Opt{
		kgo.DefaultProduceTopic(q.cfg.Topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0), // batches form by themselves while requests are in flight
		kgo.MaxBufferedRecords(buffered),
		kgo.MaxBufferedBytes(buffered * (q.cfg.MaxRecordBytes + keyBytes)),
		kgo.ProducerBatchMaxBytes(maxBatchBytes),
		kgo.ProduceRequestTimeout(q.cfg.RequestTimeout),
		kgo.RecordDeliveryTimeout(q.cfg.DeliveryTimeout),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // every repeat of an order lands behind its first
		kgo.ProducerOnDataLossDetected(func(topic string, partition int32) {
			q.counts.dataLoss.Add(1)
			q.cfg.Logger.Error("the broker forgot this producer's last records", "topic", topic, "partition", partition)
		}),
	}
}

// Reserve implements seckill.Queue. A closed queue has no slots.
func (q *Queue) Reserve() error {
	for {
		n := q.reserved.Load()
		switch {
		case q.closed.Load():
			q.counts.refused.Add(1)
			return ErrClosed
		case n >= int64(q.cfg.Slots):
			q.counts.refused.Add(1)
			return seckill.ErrNoSlot
		case q.reserved.CompareAndSwap(n, n+1):
			return nil
		}
	}
}

// Release implements seckill.Queue.
func (q *Queue) Release() {
	if q.reserved.Add(-1) < 0 {
		panic("kafka: a slot was given back that nobody had")
	}
}

// Put implements seckill.Queue.
func (q *Queue) Put(key seckill.OrderID, value []byte, done func(error)) {
	if len(value) > q.cfg.MaxRecordBytes || len(key) > keyBytes {
		q.finish(done, fmt.Errorf("%w: %d bytes of value, %d of key", ErrTooLarge, len(value), len(key)))
		return
	}
	q.putMu.RLock()
	defer q.putMu.RUnlock()
	if q.closed.Load() {
		q.finish(done, ErrClosed)
		return
	}
	q.inFlight.Add(1)
	// The context is nobody's: the client fails all records of a partition when the first one's context ends, and the
	// caller's deadline is the caller's own business.
	q.client.TryProduce(context.Background(), &kgo.Record{Key: []byte(key), Value: value}, func(r *kgo.Record, err error) {
		if err == nil {
			q.marks.acked(r.Partition, r.Offset+1)
		}
		q.finish(done, err)
		if q.inFlight.Add(-1) == 0 && q.closed.Load() {
			select {
			case q.settled <- struct{}{}:
			default:
			}
		}
	})
}

// finish calls done, counts, and gives the slot back.
func (q *Queue) finish(done func(error), err error) {
	done(err)
	if err == nil {
		q.counts.acked.Add(1)
	} else {
		q.counts.failed.Add(1)
	}
	q.Release()
}
