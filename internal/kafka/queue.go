package kafka

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/seckill"
)

var _ seckill.Queue = (*Queue)(nil)

// Queue is seckill.Queue on Kafka. Make one with Open and end it with Close. All methods are safe
// for concurrent use, within what seckill.Queue says about Poll.
type Queue struct {
	// Fixed after Open.
	cfg    Config
	books  Books
	client *kgo.Client // for admin calls
	admin  *kadm.Client
	opened time.Time
	stop   context.CancelFunc // ends background work
	work   sync.WaitGroup     // background work

	counts counts

	// Atomic.
	topic    atomic.Pointer[topicState] // nil until it was found
	known    atomic.Int32               // partitions that pages may be put into
	lanes    atomic.Pointer[[]*lane]    // the lanes of partition 0 and up; their number only grows
	down     atomic.Pointer[error]      // why Reserve refuses; nil while it doesn't
	reserved atomic.Int64               // slots that are taken
	bytes    atomic.Int64               // bytes of records whose done has not returned
	inFlight atomic.Int64               // records and markers whose done has not returned
	closed   atomic.Bool

	shared  carrier        // the carrier of all partitions, unless apart is set
	apart   atomic.Bool    // each partition has its own client
	sharing sharing        // tendLoop's
	lanesMu sync.Mutex     // held while lanes are added
	retired sync.WaitGroup // clients that were replaced and are being closed
	marks   marks

	stateMu  sync.Mutex
	topicErr error    // guarded by stateMu: why the last look at the topic failed
	booksErr error    // guarded by stateMu: and the last look at the books
	unsafe   []string // see Unsafe; guarded by stateMu

	nudged    chan struct{} // asks for a look; capacity 1
	found     chan struct{} // closed when the topic was found
	closing   chan struct{} // closed when Close begins
	settled   chan struct{} // gets a value when inFlight falls to zero while closing; capacity 1
	closeOnce sync.Once
	closeErr  error

	consumer consumer
}

// Open returns a queue. It looks for the topic, and reads the books. A worker makes the topic if it
// is missing. A server that can't be reached, or a partition without a leader, is not an error: the
// queue connects when it can, and Problems says what is missing. An error means that the
// configuration is wrong. ctx bounds Open only.
func Open(ctx context.Context, cfg Config, books Books) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	q := &Queue{
		cfg: cfg.withDefaults(), books: books, opened: time.Now(),
		nudged: make(chan struct{}, 1), found: make(chan struct{}),
		closing: make(chan struct{}), settled: make(chan struct{}, 1),
	}
	q.shared.q = q
	q.lanes.Store(new([]*lane))
	q.consumer.init()
	client, err := kgo.NewClient(q.cfg.clientOptions()...)
	if err != nil {
		return nil, fmt.Errorf("kafka: make a client: %w", err)
	}
	q.client, q.admin = client, kadm.NewClient(client)
	q.setKnown(q.cfg.KnownPartitions)
	if err := q.firstLook(ctx); err != nil {
		client.Close()
		return nil, err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	q.stop = stop
	q.work.Go(func() { q.lookLoop(work) })
	q.work.Go(func() { q.tendLoop(work) })
	q.work.Go(func() { q.copyLoop(work) })
	if q.cfg.TrimEvery > 0 {
		q.work.Go(func() { q.trimLoop(work) })
	}
	return q, nil
}

// openTries is how often Open tries again after an error that can mean a wrong configuration.
const openTries = 3

// firstLook returns an error only if waiting doesn't help.
func (q *Queue) firstLook(ctx context.Context) error {
	for try := 1; ; try++ {
		err := q.look(ctx)
		switch {
		case err == nil:
			return nil
		case final(err):
			return err
		case !q.cfg.hungUp(err) || ctx.Err() != nil:
			q.cfg.Logger.Warn("the queue isn't complete yet", "err", err)
			return nil
		case try == openTries:
			return fmt.Errorf("the broker closes the connection: does it need TLS, or SASL, or another password? %w", err)
		}
		_ = pause(ctx, firstPause) // an early end of the pause is fine
	}
}

// Unsafe describes settings of the topic that are unsafe for production: one replica,
// acknowledgements by one replica, unclean elections.
func (q *Queue) Unsafe() []string {
	q.stateMu.Lock()
	defer q.stateMu.Unlock()
	return q.unsafe
}

// Close refuses new records, waits for those in flight until ctx ends, fails the rest, and leaves
// the consumer group. When it returns, every done has been called. A second Close does nothing
// more.
func (q *Queue) Close(ctx context.Context) error {
	q.closeOnce.Do(func() {
		q.marks.mu.Lock() // a round either began before, or will never begin
		q.closed.Store(true)
		q.marks.mu.Unlock()
		close(q.closing)
		q.stop()
		q.work.Wait()
		q.consumer.close(ctx)
		if err := q.settle(ctx); err != nil {
			q.closeErr = fmt.Errorf("kafka: close with %d records in flight: %w", q.inFlight.Load(), err)
		}
		q.lanesMu.Lock() // a lane that is added later is closed from the beginning
		lanes := *q.lanes.Load()
		q.lanesMu.Unlock()
		q.shared.close()
		for _, l := range lanes {
			l.own.close()
		}
		for q.inFlight.Load() != 0 {
			<-q.settled
		}
		q.retired.Wait()
		q.client.Close()
	})
	return q.closeErr
}

// settle waits until no record is in flight.
func (q *Queue) settle(ctx context.Context) error {
	for q.inFlight.Load() != 0 {
		select {
		case <-q.settled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// inside returns a context that also ends when the queue closes, or when one of the channels in
// ended is closed. The caller must cancel it.
func (q *Queue) inside(ctx context.Context, ended <-chan struct{}) (context.Context, context.CancelFunc) {
	inside, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-q.closing:
			cancel()
		case <-ended:
			cancel()
		case <-inside.Done():
		}
	}()
	return inside, cancel
}

const (
	firstPause   = 50 * time.Millisecond
	longestPause = time.Second
)

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
