package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"penstock/seckill"
)

// consumer is this process's member of the workers' group.
//
// From a Poll that returned records until they are committed the client holds every rebalance back (BlockRebalanceOnPoll), so
// what is pending is always owned. A Commit that fails keeps it pending, and the next Poll returns it once more; only a member
// that the group has put out lets go, and then the records come to whoever owns the partition. Nothing is ever committed that
// Poll did not return, or that wasn't processed.
type consumer struct {
	// Held by Poll and Commit from end to end, of which one is under way at a time, and by close: a Poll that got records
	// while the client leaves the group would hold the leaving back for ever. q.closing tells them to let go of it.
	mu       sync.Mutex
	client   *kgo.Client // nil until the first Poll
	pending  []seckill.Message
	offsets  map[int32]kgo.EpochOffset // what committing pending means
	failures int                       // polls that failed since one succeeded

	startsMu sync.Mutex
	starts   map[int32]int64 // the next offset that each assigned partition should give
}

func (q *Queue) consumerOptions() []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumerGroup(q.cfg.Group),
		kgo.ConsumeTopics(q.cfg.Topic),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		// Never pass a record over: neither in a partition that nobody committed, nor after the broker lost what was committed.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AdjustFetchOffsetsFn(q.noteStarts),
		kgo.SessionTimeout(q.cfg.SessionTimeout),
		// Members learn of a rebalance by their heartbeat, and one that comes or goes takes two rebalances.
		kgo.HeartbeatInterval(q.cfg.SessionTimeout / 20),
		kgo.RebalanceTimeout(q.cfg.RebalanceTimeout),
		// A partition that was just assigned waits for the fetch that is under way.
		kgo.FetchMaxWait(500 * time.Millisecond),
		// What is fetched ahead is memory: a few polls' worth of records.
		kgo.FetchMaxBytes(8 << 20),
		kgo.FetchMaxPartitionBytes(1 << 20),
		kgo.MaxConcurrentFetches(4),
	}
}

// enter takes the consumer for a Poll or Commit, whose context ends also when the queue closes. The caller must call leave.
func (q *Queue) enter(ctx context.Context) (inside context.Context, leave func()) {
	inside, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-q.closing:
			cancel()
		case <-inside.Done():
		}
	}()
	q.consumer.mu.Lock()
	return inside, func() {
		q.consumer.mu.Unlock()
		cancel()
	}
}

// member returns the group's client, and makes it first if need be. consumer.mu must be held.
func (q *Queue) member() (*kgo.Client, error) {
	if q.closed.Load() {
		return nil, ErrClosed
	}
	c := &q.consumer
	if c.client == nil {
		client, err := kgo.NewClient(append(q.cfg.clientOptions(), q.consumerOptions()...)...)
		if err != nil {
			return nil, fmt.Errorf("kafka: make a consumer: %w", err)
		}
		c.client = client
	}
	return c.client, nil
}

// close leaves the group, so that another worker needn't wait for the session to time out.
func (c *consumer) close(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil {
		return
	}
	c.client.AllowRebalance()
	// An error means that the group learns it from the session timeout instead.
	_ = c.client.LeaveGroupContext(ctx)
	c.client.Close()
}

// Poll implements seckill.Queue. What was polled and not committed is returned again, unless it went to another worker in
// the meantime. After an error, but the one of ctx, Poll has paused: it may be called again at once.
func (q *Queue) Poll(ctx context.Context) ([]seckill.Message, error) {
	inside, leave := q.enter(ctx)
	defer leave()
	client, err := q.member()
	if err != nil {
		return nil, err
	}
	c := &q.consumer
	for len(c.pending) == 0 {
		fetches := client.PollRecords(inside, q.cfg.MaxPoll)
		err := q.take(fetches)
		if len(c.pending) == 0 {
			client.AllowRebalance()
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case inside.Err() != nil:
			return nil, ErrClosed
		default:
			q.counts.pollErrors.Add(1)
			q.pauseAfter(inside)
			return nil, err
		}
	}
	c.failures = 0
	return c.pending, nil
}

// take makes pending what was fetched, and returns the first error among it.
func (q *Queue) take(fetches kgo.Fetches) error {
	c := &q.consumer
	c.offsets = make(map[int32]kgo.EpochOffset)
	c.pending = make([]seckill.Message, 0, fetches.NumRecords())
	var first error
	var oldest int64
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if p.Err != nil && first == nil {
			first = q.fetchError(p)
		}
		if len(p.Records) == 0 {
			return
		}
		q.checkStart(p.Partition, p.Records)
		if ms := p.Records[0].Timestamp.UnixMilli(); oldest == 0 || ms < oldest {
			oldest = ms
		}
		for _, r := range p.Records {
			c.pending = append(c.pending, seckill.Message{Partition: r.Partition, Offset: r.Offset, Value: r.Value})
		}
		last := p.Records[len(p.Records)-1]
		c.offsets[p.Partition] = kgo.EpochOffset{Epoch: last.LeaderEpoch, Offset: last.Offset + 1}
	})
	q.counts.polled.Add(int64(len(c.pending)))
	q.counts.oldest.Store(oldest)
	return first
}

// fetchError says what a partition's error means.
func (q *Queue) fetchError(p kgo.FetchTopicPartition) error {
	var (
		lost    *kgo.ErrDataLoss
		session *kgo.ErrGroupSession
	)
	switch {
	case errors.As(p.Err, &session):
		return fmt.Errorf("kafka: poll as a member of %s: %w", q.cfg.Group, p.Err)
	case errors.As(p.Err, &lost):
		q.counts.dataLoss.Add(1)
		return fmt.Errorf("%w: %w", ErrLost, p.Err)
	case errors.Is(p.Err, kerr.UnknownTopicID), errors.Is(p.Err, kerr.UnknownTopicOrPartition), errors.Is(p.Err, kerr.InconsistentTopicID):
		return fmt.Errorf("%w: poll %s partition %d: %w", ErrTopic, q.cfg.Topic, p.Partition, p.Err)
	}
	return fmt.Errorf("kafka: poll partition %d: %w", p.Partition, p.Err)
}

const (
	firstPause   = 50 * time.Millisecond
	longestPause = time.Second
)

// pauseAfter keeps a caller that polls again at once from spinning.
func (q *Queue) pauseAfter(ctx context.Context) {
	c := &q.consumer
	d := min(firstPause<<min(c.failures, 10), longestPause)
	c.failures++
	_ = pause(ctx, d) // cut short is fine too
}

// noteStarts remembers where partitions begin that were just assigned. It changes nothing.
func (q *Queue) noteStarts(_ context.Context, assigned map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	c := &q.consumer
	c.startsMu.Lock()
	defer c.startsMu.Unlock()
	if c.starts == nil {
		c.starts = make(map[int32]int64)
	}
	for p, o := range assigned[q.cfg.Topic] {
		// Negative is a place with a name: the start, for a partition that nobody committed. Its records begin at 0; those
		// that aren't there were deleted before anybody had committed them.
		c.starts[p] = max(o.EpochOffset().Offset, 0)
	}
	return assigned, nil
}

// checkStart counts records that are missing: the offsets of our topic have no holes, so that a partition that continues
// further up than it was left has lost what lay between.
func (q *Queue) checkStart(partition int32, records []*kgo.Record) {
	c := &q.consumer
	c.startsMu.Lock()
	defer c.startsMu.Unlock()
	next, known := c.starts[partition]
	for _, r := range records {
		if known && r.Offset > next {
			q.counts.missing.Add(r.Offset - next)
			q.cfg.Logger.Error("records are missing: the log lost them, or its retention took them before a worker did",
				"topic", q.cfg.Topic, "partition", partition, "from", next, "to", r.Offset)
		}
		next, known = r.Offset+1, true
	}
	if c.starts == nil {
		c.starts = make(map[int32]int64)
	}
	c.starts[partition] = next
}

// Commit implements seckill.Queue. After an error the records are still pending: commit again, or poll them again. After
// ErrFenced they are not, and a further Commit has nothing to do.
func (q *Queue) Commit(ctx context.Context) error {
	inside, leave := q.enter(ctx)
	defer leave()
	c := &q.consumer
	if len(c.pending) == 0 {
		return nil
	}
	client, err := q.member()
	if err != nil {
		return err
	}
	switch err = q.commit(inside, client); {
	case err == nil:
		q.counts.committed.Add(int64(len(c.pending)))
	case errors.Is(err, ErrFenced):
	case inside.Err() != nil && ctx.Err() == nil:
		return ErrClosed
	default:
		return err
	}
	c.pending, c.offsets = nil, nil
	q.counts.oldest.Store(0)
	client.AllowRebalance()
	return err
}

func (q *Queue) commit(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	var result error
	offsets := map[string]map[int32]kgo.EpochOffset{q.cfg.Topic: q.consumer.offsets}
	client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		result = commitResult(resp, err, len(q.consumer.offsets))
	})
	return result
}

// commitResult is what became of a commit of a number of partitions.
func commitResult(resp *kmsg.OffsetCommitResponse, err error, partitions int) error {
	if err != nil {
		return fmt.Errorf("kafka: commit offsets: %w", err)
	}
	answered := 0
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			answered++
			switch err := kerr.ErrorForCode(p.ErrorCode); {
			case err == nil:
			case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.FencedInstanceID),
				errors.Is(err, kerr.StaleMemberEpoch), errors.Is(err, kerr.FencedMemberEpoch):
				return fmt.Errorf("%w: %w", ErrFenced, err)
			case errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.UnknownTopicOrPartition):
				return fmt.Errorf("%w: commit partition %d: %w", ErrTopic, p.Partition, err)
			default:
				return fmt.Errorf("kafka: commit partition %d: %w", p.Partition, err)
			}
		}
	}
	if answered != partitions {
		return fmt.Errorf("kafka: commit offsets: %d of %d partitions answered", answered, partitions)
	}
	return nil
}
