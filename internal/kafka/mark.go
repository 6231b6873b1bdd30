package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/penstock/penstock/seckill"
)

// markerKey is the key of a marker. Consumers skip a record with this key without reading it.
const markerKey = "marker"

// marks lets callers share rounds of markers. A caller takes part in a round that begins after its
// call. So everything that was acknowledged before the call comes before the round's markers.
type marks struct {
	mu      sync.Mutex
	next    *round // the round that will be written next, with the callers that wait for it; guarded by mu
	running bool   // guarded by mu
}

// round is a marker in every partition, for all callers that wait for it.
type round struct {
	until     time.Time // the latest deadline of its callers
	done      chan struct{}
	positions []seckill.Position
	err       error

	mu      sync.Mutex
	begun   bool         // guarded by mu
	waiting map[int]bool // partitions whose marker isn't acknowledged yet; guarded by mu
}

// Mark implements seckill.Queue. A partition that takes no marker until ctx ends, or within
// DeliveryTimeout, fails the call; the error names it. The epochs of the positions are -1, because
// brokers don't say under which epoch they wrote.
func (q *Queue) Mark(ctx context.Context) ([]seckill.Position, error) {
	until := time.Now().Add(q.cfg.DeliveryTimeout)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(until) {
		until = deadline
	}
	r, err := q.joinRound(ctx, until)
	if err != nil {
		return nil, err
	}
	select {
	case <-r.done:
		return r.positions, r.err
	case <-ctx.Done():
		return nil, r.late(ctx.Err())
	}
}

// joinRound returns the round that will be written next. It lives longer than the caller's context,
// because others wait for it, too.
func (q *Queue) joinRound(ctx context.Context, until time.Time) (*round, error) {
	m := &q.marks
	m.mu.Lock()
	defer m.mu.Unlock()
	if q.closed.Load() {
		return nil, ErrClosed
	}
	if m.next == nil {
		m.next = &round{done: make(chan struct{})}
	}
	if until.After(m.next.until) {
		m.next.until = until
	}
	if !m.running {
		m.running = true
		q.work.Go(func() { q.runRounds(context.WithoutCancel(ctx)) })
	}
	return m.next, nil
}

// runRounds writes rounds while calls wait for one.
func (q *Queue) runRounds(ctx context.Context) {
	ctx, cancel := q.inside(ctx, nil)
	defer cancel()
	m := &q.marks
	for {
		m.mu.Lock()
		r := m.next
		m.next = nil
		if r == nil {
			m.running = false
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		timed, cancel := context.WithDeadline(ctx, r.until)
		r.positions, r.err = q.writeMarkers(timed, r)
		if q.closed.Load() && r.err != nil {
			r.err = ErrClosed
		}
		cancel()
		close(r.done)
	}
}

// writeMarkers writes a marker into every partition of the books and of the topic, at once, and
// waits for all. The books are read again, because another worker may have registered a partition
// that has promises already.
func (q *Queue) writeMarkers(ctx context.Context, r *round) ([]seckill.Position, error) {
	t := q.topic.Load()
	if t == nil {
		return nil, fmt.Errorf("kafka: write markers: %w", q.notFound())
	}
	booked, err := q.bookedPositions(ctx, t)
	if err != nil {
		return nil, err
	}
	n := max(len(booked), len(t.leaders))
	if !covers(booked, t, n) {
		q.lookNow()
		return nil, fmt.Errorf("kafka: write markers: the books have other partitions than topic %s", q.cfg.Topic)
	}
	type answer struct {
		partition int
		offset    int64
		err       error
	}
	answers := make(chan answer, n)
	r.begin(n)
	for i := range n {
		q.lane(int32(i)).put(q.marker(func(offset int64, err error) { answers <- answer{i, offset, err} }))
	}
	positions := make([]seckill.Position, n)
	var errs []error
	for range n {
		select {
		case a := <-answers:
			r.landed(a.partition)
			if a.err != nil {
				errs = append(errs, fmt.Errorf("kafka: write a marker to partition %d: %w", a.partition, a.err))
			}
			positions[a.partition] = seckill.Position{
				Topic: t.id, Partition: int32(a.partition), Next: a.offset + 1, LeaderEpoch: -1,
			}
		case <-ctx.Done():
			return nil, r.late(ctx.Err())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := q.confirm(ctx, t, n); err != nil {
		return nil, err
	}
	return positions, nil
}

// confirm checks that the topic is still the one to which the markers belong, and that it has no
// new partitions without a marker. A broker acknowledges a record without saying the topic's id,
// and an old broker accepts it by the topic's name.
func (q *Queue) confirm(ctx context.Context, t *topicState, n int) error {
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &q.cfg.Topic
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, q.client)
	if err == nil && len(resp.Topics) == 1 {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("kafka: look at topic %s after its markers: %w", q.cfg.Topic, err)
	}
	if len(resp.Topics) != 1 || resp.Topics[0].TopicID != t.id || len(resp.Topics[0].Partitions) > n {
		q.lookNow()
		return fmt.Errorf("%w: %s was replaced, or has more partitions now", ErrTopic, q.cfg.Topic)
	}
	return nil
}

func (r *round) begin(partitions int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun, r.waiting = true, make(map[int]bool, partitions)
	for p := range partitions {
		r.waiting[p] = true
	}
}

func (r *round) landed(partition int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, partition)
}

// late returns an error that names the partitions for which a round still waits.
func (r *round) late(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.begun {
		return fmt.Errorf("kafka: wait for the markers before: %w", err)
	}
	var names []string
	for _, p := range slices.Sorted(maps.Keys(r.waiting)) {
		names = append(names, fmt.Sprint(p))
	}
	return fmt.Errorf("kafka: write a marker to partition %s: %w", strings.Join(names, ", "), err)
}

// marker makes a marker. told is called with its outcome, and must not block.
func (q *Queue) marker(told func(offset int64, err error)) *page {
	now := time.Now()
	p := &page{record: kgo.Record{
		Key:   []byte(markerKey),
		Value: seckill.AppendPage(nil, &seckill.Page{PageHeader: seckill.PageHeader{Put: now}}),
	}}
	p.done = func(err error) {
		if err == nil {
			q.counts.markers.Add(1)
		}
		told(p.record.Offset, err)
	}
	return p
}

// notFound says why the topic isn't known yet.
func (q *Queue) notFound() error {
	q.stateMu.Lock()
	defer q.stateMu.Unlock()
	if q.topicErr != nil {
		return q.topicErr
	}
	return errors.New("kafka: the topic isn't known yet")
}
