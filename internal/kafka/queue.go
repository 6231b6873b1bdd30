package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	client, err := kgo.NewClient(append(q.commonOptions(), q.producerOptions()...)...)
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
	topic, err := q.findOrMakeTopic(ctx)
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
	if err := q.checkDurability(ctx, topic); err != nil {
		return err
	}
	return q.rewind(ctx)
}

// findOrMakeTopic returns the topic as the cluster knows it. Two processes may both find it missing; one of them makes it.
func (q *Queue) findOrMakeTopic(ctx context.Context) (kadm.TopicDetail, error) {
	for made := false; ; {
		listed, err := q.admin.ListTopics(ctx, q.cfg.Topic)
		if err != nil {
			return kadm.TopicDetail{}, fmt.Errorf("kafka: look for topic %s: %w", q.cfg.Topic, err)
		}
		topic := listed[q.cfg.Topic]
		switch {
		case topic.Err == nil && len(topic.Partitions) > 0:
			return topic, nil
		case topic.Err != nil && !errors.Is(topic.Err, kerr.UnknownTopicOrPartition) && !kerr.IsRetriable(topic.Err):
			return kadm.TopicDetail{}, fmt.Errorf("kafka: look for topic %s: %w", q.cfg.Topic, topic.Err)
		case !made && errors.Is(topic.Err, kerr.UnknownTopicOrPartition):
			if err := q.makeTopic(ctx); err != nil {
				return kadm.TopicDetail{}, err
			}
			made = true
		}
		// Made, but not everywhere known yet.
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return kadm.TopicDetail{}, fmt.Errorf("kafka: wait for topic %s: %w", q.cfg.Topic, err)
		}
	}
}

func (q *Queue) makeTopic(ctx context.Context) error {
	replication, minInSync := q.cfg.Replication, q.cfg.MinInSync
	if replication == 0 {
		brokers, err := q.admin.ListBrokers(ctx)
		if err != nil {
			return fmt.Errorf("kafka: count the brokers: %w", err)
		}
		replication = max(1, min(3, len(brokers)))
	}
	if minInSync == 0 {
		minInSync = wantInSync(replication)
	}
	retention := int64(-1)
	if q.cfg.Retention != KeepForever {
		retention = q.cfg.Retention.Milliseconds()
	}
	set := func(v string) *string { return &v }
	_, err := q.admin.CreateTopic(ctx, int32(q.cfg.Partitions), int16(replication), map[string]*string{
		"min.insync.replicas":            set(strconv.Itoa(minInSync)),
		"unclean.leader.election.enable": set("false"),
		"cleanup.policy":                 set("delete"),
		"retention.ms":                   set(strconv.FormatInt(retention, 10)),
	}, q.cfg.Topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("kafka: make topic %s: %w", q.cfg.Topic, err)
	}
	return nil
}

// wantInSync is the number of replicas an acknowledgement should stand for: all but one, of three or more.
func wantInSync(replication int) int {
	if replication >= 3 {
		return 2
	}
	return 1
}

// checkDurability refuses a topic whose acknowledgements stand for fewer replicas than the configuration asks for.
func (q *Queue) checkDurability(ctx context.Context, topic kadm.TopicDetail) error {
	replication := len(topic.Partitions.Sorted()[0].Replicas)
	want := q.cfg.MinInSync
	if want == 0 {
		want = wantInSync(replication)
	}
	configs, err := q.admin.DescribeTopicConfigs(ctx, q.cfg.Topic)
	if err != nil {
		return fmt.Errorf("kafka: read the configuration of topic %s: %w", q.cfg.Topic, err)
	}
	config, err := configs.On(q.cfg.Topic, nil)
	if err == nil {
		err = config.Err
	}
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		q.cfg.Logger.Warn("can't read the topic's configuration: min.insync.replicas is not checked", "topic", q.cfg.Topic)
		return nil
	}
	if err != nil {
		return fmt.Errorf("kafka: read the configuration of topic %s: %w", q.cfg.Topic, err)
	}
	for _, c := range config.Configs {
		if c.Key != "min.insync.replicas" {
			continue
		}
		have, err := strconv.Atoi(c.MaybeValue())
		if err != nil {
			return fmt.Errorf("kafka: topic %s: min.insync.replicas: %w", q.cfg.Topic, err)
		}
		if have < want {
			return fmt.Errorf("%w: %s has min.insync.replicas %d with %d replicas, so that an acknowledgement may stand for fewer than %d: "+
				"raise it in the topic's configuration", ErrTopic, q.cfg.Topic, have, replication, want)
		}
	}
	return nil
}

func (q *Queue) commonOptions() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.ClientID("penstock"),
		kgo.DisableClientMetrics(), // ours are in Stats
		kgo.SeedBrokers(q.cfg.Brokers...),
		kgo.WithLogger(clientLog{q.cfg.Logger}),
		kgo.DialTimeout(q.cfg.DialTimeout),
		kgo.RequestTimeoutOverhead(q.cfg.RequestTimeout),
		// By default the client asks for a partition's new leader every five seconds at most; buyers wait for two.
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.MetadataMaxAge(time.Minute),
	}
	if q.cfg.Dial != nil {
		opts = append(opts, kgo.Dialer(q.cfg.Dial))
	}
	if q.cfg.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(q.cfg.TLS))
	}
	if m := q.cfg.SASL.mechanism(); m != nil {
		opts = append(opts, kgo.SASL(m))
	}
	return opts
}

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
