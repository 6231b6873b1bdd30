package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"penstock/seckill"
)

var _ seckill.Queue = (*Queue)(nil)

// Answers that callers may want to tell apart.
var (
	// ErrClosed means that the queue is closed or closing.
	ErrClosed = errors.New("kafka: queue closed")
	// ErrTooLarge means that Put got a value above MaxRecordBytes; nothing was sent.
	ErrTooLarge = errors.New("kafka: record too large")
	// ErrTopic means that the topic isn't what the configuration asks for, or not the one that was opened.
	ErrTopic = errors.New("kafka: wrong topic")
	// ErrLost means that the broker has lost records that it had acknowledged.
	ErrLost = errors.New("kafka: the log lost records")
	// ErrFenced means that this consumer was put out of its group between Poll and Commit: what it polled is somebody else's
	// now, and will come again.
	ErrFenced = fmt.Errorf("kafka: put out of the consumer group: %w", seckill.ErrFenced)
)

// maxBatchBytes is the largest batch of records of one partition, a little below every broker's default limit.
const maxBatchBytes = 1_000_000

// Queue is seckill.Queue on Kafka. Make one with Open and end it with Close. All methods are safe for concurrent use, within
// what seckill.Queue says about Poll and Commit.
type Queue struct {
	// Fixed after Open.
	cfg     Config
	client  *kgo.Client // producer and admin calls
	admin   *kadm.Client
	topicID kadm.TopicID
	unsafe  []string
	stop    context.CancelFunc // ends background work
	work    sync.WaitGroup     // background work

	counts counts

	// Atomic.
	reserved atomic.Int64 // slots that are taken
	inFlight atomic.Int64 // records whose done has not returned

	putMu  sync.RWMutex // held for reading around a Put, so that none reaches a closed client
	closed atomic.Bool  // set with putMu held

	closing   chan struct{} // closed when Close begins
	settled   chan struct{} // gets a value when inFlight falls to zero while closing; capacity 1
	closeOnce sync.Once
	closeErr  error

	consumer consumer
	marks    marks
}

// Open connects, makes the topic if it is missing, checks it, and returns a queue. ctx bounds Open only.
func Open(ctx context.Context, cfg Config) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	q := &Queue{cfg: cfg.withDefaults(), closing: make(chan struct{}), settled: make(chan struct{}, 1)}
	client, err := kgo.NewClient(append(q.cfg.clientOptions(), q.producerOptions()...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: make a client: %w", err)
	}
	q.client, q.admin = client, kadm.NewClient(client)
	if err := q.prepare(ctx); err != nil {
		client.Close()
		return nil, err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	q.stop = stop
	if q.cfg.TrimEvery > 0 {
		q.work.Go(func() { q.trimLoop(work) })
	}
	return q, nil
}

// prepare brings the topic into being and looks whether it can be trusted.
func (q *Queue) prepare(ctx context.Context) error {
	if err := q.client.Ping(ctx); err != nil {
		return fmt.Errorf("kafka: reach brokers %v: %w", q.cfg.Brokers, err)
	}
	spec := topicSpec{
		name: q.cfg.Topic, partitions: q.cfg.Partitions, replication: q.cfg.Replication, minInSync: q.cfg.MinInSync,
		settings: map[string]string{"cleanup.policy": "delete", "retention.ms": retentionMS(q.cfg.Retention)},
	}
	topic, err := spec.findOrMake(ctx, q.admin)
	if err != nil {
		return err
	}
	q.topicID = topic.ID
	q.marks = make(marks, len(topic.Partitions))
	for i, p := range topic.Partitions.Sorted() {
		if p.Partition != int32(i) {
			return fmt.Errorf("%w: %s has no partition %d", ErrTopic, q.cfg.Topic, i)
		}
	}
	settings, err := topicSettings(ctx, q.admin, q.cfg.Topic)
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		q.unsafe = []string{"topic " + q.cfg.Topic + ": its configuration can't be read, so that min.insync.replicas is not checked"}
	} else if err != nil {
		return err
	} else if err := spec.checkInSync(topic, settings); err != nil {
		return err
	} else {
		q.unsafe = unsafeSettings(topic, settings, "delete")
	}
	return q.rewind(ctx)
}

// Unsafe says what Open found of the topic that is good enough for trying, and not for promising: one replica, acknowledgements that
// stand for one, elections that may forget.
func (q *Queue) Unsafe() []string { return q.unsafe }

// Close refuses new records, waits until ctx ends for those in flight, fails the rest, and leaves the consumer group. When it
// returns every done has been called. Closing twice is the same as once.
func (q *Queue) Close(ctx context.Context) error {
	q.closeOnce.Do(func() {
		q.putMu.Lock()
		q.closed.Store(true)
		q.putMu.Unlock()
		close(q.closing)
		q.stop()
		q.work.Wait()
		q.consumer.close(ctx)
		if err := q.settle(ctx); err != nil {
			q.closeErr = fmt.Errorf("kafka: close with %d records in flight: %w", q.inFlight.Load(), err)
		}
		q.client.Close()
		<-q.allSettled()
	})
	return q.closeErr
}

// settle waits until no record is in flight.
func (q *Queue) settle(ctx context.Context) error {
	if q.inFlight.Load() == 0 {
		return nil
	}
	select {
	case <-q.allSettled():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// allSettled returns a channel that can be received from once no record is in flight. The queue must be closed: then inFlight
// only falls, and who makes it zero sends.
func (q *Queue) allSettled() <-chan struct{} {
	if q.inFlight.Load() == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	return q.settled
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
