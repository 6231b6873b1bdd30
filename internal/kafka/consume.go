package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/seckill"
)

// consumer is this process's member of the workers' group. The group only assigns partitions. The
// positions are in the database, which compares them. So a worker that was removed from the group,
// or that reads together with another one, changes nothing, and nothing here has to delay a
// rebalance.
type consumer struct {
	// turn has a value in it while a Poll, Rewind or Close runs: only one of them may run at a
	// time.
	turn chan struct{}
	// Guarded by turn.
	client   *kgo.Client // nil until the first Poll
	topic    *topicState // the topic that client reads
	paused   map[int32]time.Time
	failures int // failed polls since the last successful one

	mu     sync.Mutex
	places map[int32]*place // the places of the partitions that this member has; guarded by mu
	member bool             // guarded by mu: the group has given this process its partitions

	copied chan struct{} // copies has something; capacity 1
	copyMu sync.Mutex
	copies map[int32]kgo.EpochOffset // offsets to commit to the group; guarded by copyMu
	copier *kgo.Client               // client, while it is open; guarded by copyMu
}

func (c *consumer) init() {
	c.turn = make(chan struct{}, 1)
	c.turn <- struct{}{}
	c.places, c.paused = make(map[int32]*place), make(map[int32]time.Time)
	c.copied, c.copies = make(chan struct{}, 1), make(map[int32]kgo.EpochOffset)
}

func (q *Queue) consumerOptions(t *topicState) []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumerGroup(q.cfg.Group),
		kgo.ConsumeTopics(q.cfg.Topic),
		kgo.DisableAutoCommit(),
		// It must never skip a record if the log differs from the books.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.KeepControlRecords(), // a position may be directly after a control record
		kgo.AdjustFetchOffsetsFn(func(ctx context.Context, assigned map[string]map[int32]kgo.Offset) (
			map[string]map[int32]kgo.Offset, error) {
			return q.assigned(ctx, t, assigned)
		}),
		kgo.OnPartitionsAssigned(q.joined),
		kgo.OnPartitionsRevoked(q.revoked),
		kgo.OnPartitionsLost(q.lost),
		kgo.SessionTimeout(q.cfg.SessionTimeout),
		// Members learn of a rebalance by their heartbeat. When a member comes or goes, there are
		// two rebalances.
		kgo.HeartbeatInterval(q.cfg.SessionTimeout / 20),
		kgo.RebalanceTimeout(q.cfg.RebalanceTimeout),
		// A new partition must be read soon, because barriers wait for it.
		kgo.MetadataMaxAge(max(q.cfg.LookEvery, metadataMinAge)),
		// A partition that was just assigned has to wait for the fetch in progress.
		kgo.FetchMaxWait(500 * time.Millisecond),
		// What is fetched ahead takes memory: enough for a few polls.
		kgo.FetchMaxBytes(8 << 20),
		kgo.FetchMaxPartitionBytes(1 << 20),
		kgo.MaxConcurrentFetches(4),
	}
}

// enter waits for the consumer's turn. The caller must call leave.
func (q *Queue) enter(ctx context.Context) (leave func(), err error) {
	c := &q.consumer
	select {
	case <-q.closing:
		return nil, ErrClosed
	default:
	}
	select {
	case <-c.turn:
		return func() { c.turn <- struct{}{} }, nil
	case <-q.closing:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// member returns the group's client. It waits until the topic was found, and makes another client
// if the topic was replaced by a new one. The caller must have the consumer's turn.
func (q *Queue) member(ctx context.Context) (*kgo.Client, error) {
	c := &q.consumer
	select {
	case <-q.found:
	case <-q.closing:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t := q.topic.Load()
	if c.client != nil && c.topic.id == t.id {
		return c.client, nil
	}
	if c.client != nil {
		c.drop(ctx)
	}
	client, err := kgo.NewClient(append(q.cfg.clientOptions(), q.consumerOptions(t)...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: make a consumer: %w", err)
	}
	c.client, c.topic = client, t
	c.copyMu.Lock()
	c.copier = client
	c.copyMu.Unlock()
	return client, nil
}

// drop leaves the group, so that another worker needn't wait for the session to time out. The
// caller must have the consumer's turn.
func (c *consumer) drop(ctx context.Context) {
	c.copyMu.Lock()
	c.copier = nil
	c.copyMu.Unlock()
	// After an error, the group learns it from the session timeout instead.
	_ = c.client.LeaveGroupContext(ctx)
	c.client.Close()
	c.client = nil
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.places)
	clear(c.paused)
}

func (c *consumer) close(ctx context.Context) {
	<-c.turn // a caller with the turn notices the close
	if c.client != nil {
		c.drop(ctx)
	}
	c.turn <- struct{}{}
}

// Poll implements seckill.Queue. Only a worker's queue can poll. A partition without a leader, or
// with errors, delays only itself; the log and Stats show it. If Poll returns an error other than
// that of ctx, it has already paused, so it may be called again at once.
func (q *Queue) Poll(ctx context.Context) (seckill.Haul, error) {
	if !q.cfg.Worker {
		return seckill.Haul{}, errors.New("kafka: this process is no worker, it doesn't poll (Config.Worker)")
	}
	leave, err := q.enter(ctx)
	if err != nil {
		return seckill.Haul{}, err
	}
	defer leave()
	c := &q.consumer
	for {
		client, err := q.member(ctx)
		if err != nil {
			return seckill.Haul{}, err
		}
		haul, err := q.pollOnce(ctx, client)
		switch {
		case len(haul.Moves) > 0:
			c.failures = 0
			return haul, nil
		case ctx.Err() != nil:
			return seckill.Haul{}, ctx.Err()
		case q.closed.Load():
			return seckill.Haul{}, ErrClosed
		case err != nil:
			q.counts.pollErrors.Add(1)
			q.pauseAfter(ctx)
			return seckill.Haul{}, err
		}
	}
}

// pollStep is how many records are taken from the client at a time, until a haul is full.
const pollStep = 8

// pollOnce waits for records and takes a haul. It returns nothing when a paused partition's time
// has come, or the topic was replaced.
func (q *Queue) pollOnce(ctx context.Context, client *kgo.Client) (seckill.Haul, error) {
	c := &q.consumer
	inside, cancel := q.inside(ctx, c.topic.gone)
	defer cancel()
	if next := c.resume(client, q.cfg.Topic); !next.IsZero() {
		var timed context.CancelFunc
		inside, timed = context.WithDeadline(inside, next)
		defer timed()
	}
	h := haul{q: q, client: client}
	h.take(client.PollRecords(inside, min(pollStep, q.cfg.MaxPoll)))
	var now context.Context // nil: take only records that are there already
	for h.records > 0 && h.records < q.cfg.MaxPoll && h.bytes < q.cfg.MaxPollBytes {
		fetches := client.PollRecords(now, min(pollStep, q.cfg.MaxPoll-h.records))
		if len(fetches) == 0 {
			break
		}
		h.take(fetches)
	}
	return h.finish()
}

// resume continues the partitions that were paused after an error, and returns when the next one
// may continue.
func (c *consumer) resume(client *kgo.Client, topic string) (next time.Time) {
	now := time.Now()
	for p, until := range c.paused {
		if !until.After(now) {
			delete(c.paused, p)
			client.ResumeFetchPartitions(map[string][]int32{topic: {p}})
		} else if next.IsZero() || until.Before(next) {
			next = until
		}
	}
	return next
}

// pauseAfter pauses, so that a caller that polls again at once doesn't use up the processor.
func (q *Queue) pauseAfter(ctx context.Context) {
	c := &q.consumer
	ctx, cancel := q.inside(ctx, nil)
	defer cancel()
	d := min(firstPause<<min(c.failures, 10), longestPause)
	c.failures++
	_ = pause(ctx, d) // an early end of the pause is fine
}

// assigned returns where to read the partitions that this member has just got: at the positions in
// the books. It waits for the books, because without them nothing could be committed. ctx ends with
// the group's next session.
func (q *Queue) assigned(ctx context.Context, t *topicState, got map[string]map[int32]kgo.Offset) (
	map[string]map[int32]kgo.Offset, error) {
	ctx, cancel := q.inside(ctx, t.gone)
	defer cancel()
	for d := firstPause; ; d = min(2*d, longestPause) {
		positions, err := q.placesOf(ctx, t, got[q.cfg.Topic])
		if err == nil {
			offsets := make(map[int32]kgo.Offset, len(positions))
			q.consumer.mu.Lock()
			defer q.consumer.mu.Unlock()
			for _, p := range positions {
				q.consumer.places[p.Partition] = &place{at: p}
				offsets[p.Partition] = kgo.NewOffset().At(p.Next).WithEpoch(p.LeaderEpoch)
			}
			return map[string]map[int32]kgo.Offset{q.cfg.Topic: offsets}, nil
		}
		if ctx.Err() == nil {
			q.cfg.Logger.Warn("partitions wait for their positions in the books", "err", err)
		}
		if pause(ctx, d) != nil {
			return nil, ctx.Err()
		}
	}
}

// placesOf returns the positions of partitions.
func (q *Queue) placesOf(ctx context.Context, t *topicState, partitions map[int32]kgo.Offset) ([]seckill.Position, error) {
	if now := q.topic.Load(); now.id == t.id {
		t = now // it may have more partitions now
	}
	for p := range partitions {
		if int(p) >= len(t.leaders) {
			q.lookNow()
			return nil, fmt.Errorf("kafka: partition %d is not known yet", p)
		}
	}
	booked, err := q.bookedPositions(ctx, t)
	if err != nil {
		return nil, err
	}
	if !covers(booked, t, len(t.leaders)) {
		q.lookNow()
		return nil, fmt.Errorf("kafka: the books have other partitions than topic %s", q.cfg.Topic)
	}
	out := make([]seckill.Position, 0, len(partitions))
	for p := range partitions {
		out = append(out, booked[p])
	}
	return out, nil
}

// revoked forgets partitions that this member no longer has.
func (q *Queue) revoked(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	c := &q.consumer
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range partitions[q.cfg.Topic] {
		delete(c.places, p)
	}
}

// lost removes all partitions if the group no longer knows this member, or can't be asked.
func (q *Queue) lost(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
	q.revoked(ctx, client, partitions)
	q.consumer.mu.Lock()
	defer q.consumer.mu.Unlock()
	q.consumer.member = false
}

// joined records that the group has given this member its partitions, possibly none.
func (q *Queue) joined(context.Context, *kgo.Client, map[string][]int32) {
	q.consumer.mu.Lock()
	defer q.consumer.mu.Unlock()
	q.consumer.member = true
}

// Rewind implements seckill.Queue. It waits for a Poll in progress.
func (q *Queue) Rewind(ctx context.Context) error {
	leave, err := q.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := q.inside(ctx, nil)
	defer cancel()
	c := &q.consumer
	q.counts.oldest.Store(0)
	if c.client == nil {
		return nil // the first Poll begins at the positions in the books
	}
	if t := q.topic.Load(); t.id != c.topic.id {
		c.drop(ctx)
		return nil
	}
	c.mu.Lock()
	had := make(map[int32]kgo.Offset, len(c.places))
	for p := range c.places {
		had[p] = kgo.Offset{}
	}
	c.mu.Unlock()
	positions, err := q.placesOf(ctx, c.topic, had)
	if err != nil {
		return err
	}
	offsets := make(map[int32]kgo.EpochOffset, len(positions))
	c.mu.Lock()
	for _, p := range positions {
		if c.places[p.Partition] != nil {
			c.places[p.Partition] = &place{at: p}
			offsets[p.Partition] = kgo.EpochOffset{Epoch: p.LeaderEpoch, Offset: p.Next}
		}
	}
	c.mu.Unlock()
	c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{q.cfg.Topic: offsets})
	return nil
}

// Owned implements seckill.Queue. While this process is no member of the group, all is 0.
func (q *Queue) Owned() (partitions []int32, all int) {
	c := &q.consumer
	c.mu.Lock()
	defer c.mu.Unlock()
	partitions = make([]int32, 0, len(c.places))
	for p := range c.places {
		partitions = append(partitions, p)
	}
	slices.Sort(partitions)
	if !c.member {
		return partitions, 0
	}
	return partitions, int(q.known.Load())
}
