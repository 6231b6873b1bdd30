package kafkatest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"penstock/internal/kafka"
	"penstock/seckill"
)

// Patience bounds each test. It is far above what any of them takes, so that only a hang reaches it.
const Patience = 2 * time.Minute

// Exercise runs the suite. base says how the broker is reached; names and sizes are the tests' own.
func Exercise(t *testing.T, base kafka.Config) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, kafka.Config)
	}{
		{"EveryAcknowledgedRecordIsPolledOnce", everyRecordOnce},
		{"EndCommittedPassed", endCommittedPassed},
		{"GroupBeginsAtTheStart", groupBeginsAtTheStart},
		{"PollWithoutCommitRepeats", pollRepeats},
		{"RestartResumesAtCommitted", restartResumes},
		{"RebalanceLosesNothing", rebalanceLosesNothing},
		{"OpenBesideWorkersSeesNoLoss", openBesideWorkers},
		{"SlotsAreBounded", slotsAreBounded},
		{"CloseAnswersEveryPut", closeAnswers},
		{"ClosedQueueRefuses", closedRefuses},
		{"TooLargeIsRefused", tooLarge},
		{"TrimKeepsWhatIsNotCommitted", trimKeeps},
		{"MissingRecordsAreCounted", missingAreCounted},
		{"TopicMadeAnewIsAnError", topicAnew},
		{"TwoProcessesMakeOneTopic", twoOpen},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := base
			cfg.Topic = "test-" + rand.Text()
			cfg.Group = "group-" + rand.Text()
			if cfg.Partitions == 0 {
				cfg.Partitions = 3
			}
			t.Parallel()
			test.run(t, cfg)
		})
	}
}

// Context returns a context that ends with the test, and before Patience does.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Open opens a queue that is closed with the test.
func Open(t testing.TB, cfg kafka.Config) *kafka.Queue {
	t.Helper()
	q, err := kafka.Open(Context(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Close(t, q) })
	return q
}

// Close closes a queue, and gives it all the time it needs.
func Close(t testing.TB, q *kafka.Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), Patience)
	defer cancel()
	if err := q.Close(ctx); err != nil {
		t.Error(err)
	}
}

// Key makes the order id of record n.
func Key(n int) seckill.OrderID { return seckill.OrderID(fmt.Sprintf("%032d", n)) }

// Value makes the value of record n: its key, and bytes up to the length of an order record.
func Value(n int) []byte {
	value := make([]byte, 160)
	copy(value, Key(n))
	return value
}

// Produce puts the records from to to-1 and returns when all are acknowledged.
func Produce(t testing.TB, q *kafka.Queue, from, to int) {
	t.Helper()
	answers := make(chan error, to-from)
	for n := from; n < to; n++ {
		if q.Reserve() != nil {
			t.Fatal("no slot")
		}
		q.Put(Key(n), Value(n), func(err error) { answers <- err })
	}
	for range to - from {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
}

// Consume polls and commits until every record below count was polled, and returns how often each was.
func Consume(t testing.TB, q *kafka.Queue, count int) map[string]int {
	t.Helper()
	ctx := Context(t)
	seen := make(map[string]int)
	for len(seen) < count {
		for _, m := range poll(ctx, t, q) {
			seen[string(m.Value[:32])]++
		}
		commit(ctx, t, q)
	}
	return seen
}

func poll(ctx context.Context, t testing.TB, q *kafka.Queue) []seckill.Message {
	t.Helper()
	messages, err := q.Poll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(messages) == 0 {
		t.Fatal("Poll returned without records")
	}
	return messages
}

func commit(ctx context.Context, t testing.TB, q *kafka.Queue) {
	t.Helper()
	if err := q.Commit(ctx); err != nil {
		t.Fatal(err)
	}
}

// positions asks for End and Committed.
func positions(t testing.TB, q *kafka.Queue) (end, committed seckill.Positions) {
	t.Helper()
	ctx := Context(t)
	end, err := q.End(ctx)
	if err != nil {
		t.Fatal(err)
	}
	committed, err = q.Committed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return end, committed
}

func sum(p seckill.Positions) (total int64) {
	for _, offset := range p {
		total += offset
	}
	return total
}

func everyRecordOnce(t *testing.T, cfg kafka.Config) {
	const records = 5_000
	cfg.MaxPoll = 700 // several polls, the last one not full
	q := Open(t, cfg)
	Produce(t, q, 0, records)
	ctx := Context(t)
	seen := make(map[string]int)
	next := make(map[int32]int64)
	for len(seen) < records {
		messages := poll(ctx, t, q)
		if len(messages) > cfg.MaxPoll {
			t.Fatalf("Poll returned %d records, at most %d were asked for", len(messages), cfg.MaxPoll)
		}
		for _, m := range messages {
			if m.Offset != next[m.Partition] {
				t.Fatalf("partition %d continues with offset %d, want %d", m.Partition, m.Offset, next[m.Partition])
			}
			next[m.Partition]++
			seen[string(m.Value[:32])]++
		}
		commit(ctx, t, q)
	}
	for n := range records {
		if times := seen[string(Key(n))]; times != 1 {
			t.Fatalf("record %d was polled %d times", n, times)
		}
	}
	if len(next) != cfg.Partitions {
		t.Errorf("%d of %d partitions were used", len(next), cfg.Partitions)
	}
	stats := q.Stats()
	if stats.Acked != records || stats.Polled != records || stats.Committed != records || stats.Failed != 0 ||
		stats.Missing != 0 || stats.DataLoss != 0 || stats.Reserved != 0 || stats.InFlight != 0 {
		t.Errorf("stats: %+v", stats)
	}
}

func endCommittedPassed(t *testing.T, cfg kafka.Config) {
	q := Open(t, cfg)
	end, committed := positions(t, q)
	if len(end) != cfg.Partitions || len(committed) != cfg.Partitions || sum(end) != 0 || sum(committed) != 0 {
		t.Fatalf("new topic: end %v, committed %v", end, committed)
	}
	if !committed.Passed(end) {
		t.Error("an empty queue is not passed")
	}
	const records = 300
	Produce(t, q, 0, records)
	end, committed = positions(t, q)
	if sum(end) != records || sum(committed) != 0 || committed.Passed(end) {
		t.Errorf("produced: end %v, committed %v", end, committed)
	}
	if lag, err := q.Lag(Context(t)); err != nil || lag != records {
		t.Errorf("lag: %d, %v", lag, err)
	}
	Consume(t, q, records)
	if _, committed = positions(t, q); !committed.Passed(end) || sum(committed) != records {
		t.Errorf("consumed: end %v, committed %v", end, committed)
	}
	Produce(t, q, records, records+1)
	later, committed := positions(t, q)
	if !committed.Passed(end) || committed.Passed(later) {
		t.Errorf("one more: end %v, then %v, committed %v", end, later, committed)
	}
	if lag, err := q.Lag(Context(t)); err != nil || lag != 1 {
		t.Errorf("lag: %d, %v", lag, err)
	}
}

func groupBeginsAtTheStart(t *testing.T, cfg kafka.Config) {
	producer := Open(t, cfg)
	Produce(t, producer, 0, 100)
	Close(t, producer)
	if seen := Consume(t, Open(t, cfg), 100); len(seen) != 100 {
		t.Errorf("%d records", len(seen))
	}
}

func pollRepeats(t *testing.T, cfg kafka.Config) {
	q := Open(t, cfg)
	ctx := Context(t)
	Produce(t, q, 0, 50)
	if oldest := q.Stats().Oldest; !oldest.IsZero() {
		t.Errorf("the oldest record in work is of %v, before anything was polled", oldest)
	}
	first := slices.Clone(poll(ctx, t, q))
	if age := time.Since(q.Stats().Oldest); age < 0 || age > Patience {
		t.Errorf("the oldest record in work is %v old", age)
	}
	Produce(t, q, 50, 100)
	again := poll(ctx, t, q)
	same := slices.EqualFunc(first, again, func(a, b seckill.Message) bool {
		return a.Partition == b.Partition && a.Offset == b.Offset && string(a.Value) == string(b.Value)
	})
	if !same {
		t.Fatal("a second Poll without Commit returned something else")
	}
	commit(ctx, t, q)
	if oldest := q.Stats().Oldest; !oldest.IsZero() {
		t.Errorf("the oldest record in work is of %v, after all are committed", oldest)
	}
	_, committed := positions(t, q)
	if sum(committed) != int64(len(first)) {
		t.Errorf("committed %v after %d records", committed, len(first))
	}
	Consume(t, q, 100-len(first))
}

func restartResumes(t *testing.T, cfg kafka.Config) {
	ctx := Context(t)
	q := Open(t, cfg)
	Produce(t, q, 0, 200)
	Consume(t, q, 200)
	Produce(t, q, 200, 260)
	poll(ctx, t, q) // and dies before the commit
	Close(t, q)
	q = Open(t, cfg)
	seen := Consume(t, q, 60)
	for n := 200; n < 260; n++ {
		if seen[string(Key(n))] != 1 {
			t.Fatalf("record %d was polled %d times after the restart", n, seen[string(Key(n))])
		}
	}
	if len(seen) != 60 {
		t.Errorf("%d records came after the restart, want 60", len(seen))
	}
}

// processed keeps which offsets were worked on.
type processed struct {
	mu      sync.Mutex
	offsets map[int32]map[int64]bool
	keys    map[string]bool
}

func (p *processed) add(messages []seckill.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range messages {
		if p.offsets[m.Partition] == nil {
			p.offsets[m.Partition] = make(map[int64]bool)
		}
		p.offsets[m.Partition][m.Offset] = true
		p.keys[string(m.Value[:32])] = true
	}
}

// covers returns an error if something is committed that was not processed. committed must have been asked for before.
func (p *processed) covers(committed seckill.Positions) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for partition, end := range committed {
		for offset := range end {
			if !p.offsets[int32(partition)][offset] {
				return fmt.Errorf("partition %d is committed up to %d, offset %d was not processed", partition, end, offset)
			}
		}
	}
	return nil
}

func (p *processed) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.keys)
}

// work polls, processes and commits like a worker until ctx ends.
func work(ctx context.Context, q *kafka.Queue, done *processed, batches *atomic.Int64) error {
	for {
		messages, err := q.Poll(ctx)
		if ctx.Err() != nil || errors.Is(err, kafka.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		done.add(messages)
		err = q.Commit(ctx)
		if errors.Is(err, kafka.ErrClosed) || ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, kafka.ErrFenced) {
			return fmt.Errorf("commit: %w", err)
		}
		batches.Add(1)
	}
}

// crew is a number of workers that come and go, and one producer.
type crew struct {
	t        *testing.T
	ctx      context.Context
	cfg      kafka.Config
	producer *kafka.Queue
	produced int
	done     processed
	failures chan error
	workers  sync.WaitGroup
}

// hire starts a worker and counts its batches.
func (c *crew) hire() (*kafka.Queue, *atomic.Int64) {
	q, batches := Open(c.t, c.cfg), new(atomic.Int64)
	c.workers.Go(func() {
		if err := work(c.ctx, q, &c.done, batches); err != nil {
			c.failures <- err
		}
	})
	return q, batches
}

// feed produces, but not faster than the workers work.
func (c *crew) feed() {
	if c.done.count() == c.produced {
		Produce(c.t, c.producer, c.produced, c.produced+100)
		c.produced += 100
	}
}

// until waits until cond holds, and looks all the while that nothing is committed too early.
func (c *crew) until(cond func() bool) {
	c.t.Helper()
	for !cond() {
		_, committed := positions(c.t, c.producer)
		if err := c.done.covers(committed); err != nil {
			c.t.Fatal(err)
		}
		select {
		case err := <-c.failures:
			c.t.Fatal(err)
		case <-c.ctx.Done():
			c.t.Fatal("the workers do not get on")
		default:
		}
	}
}

// untilBusy waits until a worker has finished four more batches.
func (c *crew) untilBusy(batches *atomic.Int64) {
	c.t.Helper()
	before := batches.Load()
	c.until(func() bool { c.feed(); return batches.Load() > before+3 })
}

func newCrew(t *testing.T, cfg kafka.Config) *crew {
	c := &crew{t: t, ctx: Context(t), cfg: cfg, producer: Open(t, cfg), failures: make(chan error, 8)}
	c.done = processed{offsets: make(map[int32]map[int64]bool), keys: make(map[string]bool)}
	return c
}

// openBesideWorkers opens queues while the committed offsets move, which must not look like a log that lost its tail.
func openBesideWorkers(t *testing.T, cfg kafka.Config) {
	cfg.MaxPoll = 5
	c := newCrew(t, cfg)
	worker, batches := c.hire()
	for range 20 {
		c.untilBusy(batches)
		c.feed()
		q := Open(t, cfg)
		if stats := q.Stats(); stats.DataLoss != 0 {
			t.Fatalf("stats: %+v", stats)
		}
		Close(t, q)
	}
	Close(t, worker)
	c.workers.Wait()
}

// rebalanceLosesNothing lets workers come and go while records arrive, one of them with records in its hands.
func rebalanceLosesNothing(t *testing.T, cfg kafka.Config) {
	cfg.Partitions, cfg.MaxPoll = 4, 20
	c := newCrew(t, cfg)
	first, firstBatches := c.hire()
	c.untilBusy(firstBatches)
	second, secondBatches := c.hire()
	c.untilBusy(secondBatches)
	Close(t, first)
	c.untilBusy(secondBatches)
	thief := Open(t, cfg) // takes records and goes away with them
	stolen := make(chan error, 1)
	go func() {
		_, err := thief.Poll(c.ctx)
		stolen <- err
	}()
	c.until(func() bool { c.feed(); return len(stolen) > 0 })
	if err := <-stolen; err != nil {
		t.Fatal(err)
	}
	Close(t, thief)
	third, thirdBatches := c.hire()
	c.untilBusy(thirdBatches)
	Close(t, second)
	c.until(func() bool { return c.done.count() == c.produced })
	end, _ := positions(t, c.producer)
	c.until(func() bool { _, committed := positions(t, c.producer); return committed.Passed(end) })
	Close(t, third)
	c.workers.Wait()
	if c.done.count() != c.produced || sum(end) != int64(c.produced) {
		t.Errorf("%d records produced, %d processed, end %v", c.produced, c.done.count(), end)
	}
}

func slotsAreBounded(t *testing.T, cfg kafka.Config) {
	cfg.Slots = 64
	q := Open(t, cfg)
	var got atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 16 {
				if q.Reserve() == nil {
					got.Add(1)
				}
			}
		})
	}
	all.Wait()
	if got.Load() != 64 || q.Reserve() == nil {
		t.Fatalf("%d of 64 slots", got.Load())
	}
	if stats := q.Stats(); stats.Reserved != 64 || stats.Slots != 64 || stats.Refused != 128-64+1 {
		t.Errorf("stats: %+v", stats)
	}
	for range 32 {
		q.Release()
	}
	Produce(t, q, 0, 32) // its slots come back with the answers
	for range 32 {
		q.Release()
	}
	if stats := q.Stats(); stats.Reserved != 0 {
		t.Errorf("stats at the end: %+v", stats)
	}
}

func closeAnswers(t *testing.T, cfg kafka.Config) {
	q := Open(t, cfg)
	const records = 2_000
	answers := make([]atomic.Int32, records)
	var acked atomic.Int64
	for n := range records {
		if q.Reserve() != nil {
			t.Fatal("no slot")
		}
		q.Put(Key(n), Value(n), func(err error) {
			answers[n].Add(1)
			if err == nil {
				acked.Add(1)
			}
		})
	}
	Close(t, q)
	for n := range answers {
		if times := answers[n].Load(); times != 1 {
			t.Fatalf("record %d was answered %d times", n, times)
		}
	}
	if stats := q.Stats(); stats.Reserved != 0 || stats.InFlight != 0 || stats.Acked != acked.Load() {
		t.Errorf("stats: %+v", stats)
	}
	if acked.Load() != records {
		t.Errorf("%d of %d records were acknowledged, though Close had time", acked.Load(), records)
	}
}

func closedRefuses(t *testing.T, cfg kafka.Config) {
	q := Open(t, cfg)
	if q.Reserve() != nil {
		t.Fatal("no slot")
	}
	Close(t, q)
	var answers []error
	q.Put(Key(1), Value(1), func(err error) { answers = append(answers, err) })
	if len(answers) != 1 || !errors.Is(answers[0], kafka.ErrClosed) {
		t.Errorf("Put: %v", answers)
	}
	if q.Reserve() == nil {
		t.Error("Reserve found a slot")
	}
	if _, err := q.Poll(Context(t)); !errors.Is(err, kafka.ErrClosed) {
		t.Errorf("Poll: %v", err)
	}
	if stats := q.Stats(); stats.Reserved != 0 {
		t.Errorf("stats: %+v", stats)
	}
}

func tooLarge(t *testing.T, cfg kafka.Config) {
	cfg.MaxRecordBytes = 200
	q := Open(t, cfg)
	answers := make(chan error, 1)
	put := func(size int) error {
		if q.Reserve() != nil {
			t.Fatal("no slot")
		}
		q.Put(Key(1), make([]byte, size), func(err error) { answers <- err })
		return <-answers
	}
	if err := put(201); !errors.Is(err, kafka.ErrTooLarge) {
		t.Errorf("201 bytes: %v", err)
	}
	if err := put(200); err != nil {
		t.Errorf("200 bytes: %v", err)
	}
}

func trimKeeps(t *testing.T, cfg kafka.Config) {
	ctx := Context(t)
	q := Open(t, cfg)
	admin := Admin(t, cfg)
	starts := func() seckill.Positions {
		listed, err := admin.ListStartOffsets(ctx, cfg.Topic)
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		p := make(seckill.Positions, cfg.Partitions)
		for i := range p {
			p[i] = listed[cfg.Topic][int32(i)].Offset
		}
		return p
	}
	trim := func() {
		if err := q.Trim(ctx); err != nil {
			t.Fatal(err)
		}
	}
	trim()
	Produce(t, q, 0, 300)
	trim()
	if got := starts(); sum(got) != 0 {
		t.Fatalf("trimmed to %v what nobody committed", got)
	}
	Consume(t, q, 300)
	end, _ := positions(t, q)
	trim()
	got := starts()
	for i := range got {
		if got[i] != end[i]-1 {
			t.Errorf("partition %d begins at %d, want its last record, %d", i, got[i], end[i]-1)
		}
	}
	trim()
	Produce(t, q, 300, 400)
	if seen := Consume(t, q, 100); len(seen) != 100 {
		t.Errorf("%d records after the trim", len(seen))
	}
	if stats := q.Stats(); stats.Missing != 0 || stats.DataLoss != 0 {
		t.Errorf("stats: %+v", stats)
	}
}

// missingAreCounted deletes records before a worker comes, as a short retention would.
func missingAreCounted(t *testing.T, cfg kafka.Config) {
	cfg.Partitions = 1
	ctx := Context(t)
	q := Open(t, cfg)
	Produce(t, q, 0, 10)
	Consume(t, q, 10)
	Close(t, q)
	q = Open(t, cfg)
	Produce(t, q, 10, 100)
	cut := make(kadm.Offsets)
	cut.AddOffset(cfg.Topic, 0, 40, -1)
	deleted, err := Admin(t, cfg).DeleteRecords(ctx, cut)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	seen := Consume(t, q, 60)
	if missing := q.Stats().Missing; len(seen) != 60 || missing != 30 {
		t.Errorf("%d records came and %d were missed, want 60 and 30", len(seen), missing)
	}
}

func topicAnew(t *testing.T, cfg kafka.Config) {
	ctx := Context(t)
	q := Open(t, cfg)
	Produce(t, q, 0, 10)
	admin := Admin(t, cfg)
	if _, err := admin.DeleteTopic(ctx, cfg.Topic); err != nil {
		t.Fatal(err)
	}
	// A broker deletes in the background, so the name may be taken for a while.
	for {
		if _, err := admin.CreateTopic(ctx, int32(cfg.Partitions), 1, nil, cfg.Topic); err == nil {
			break
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	for _, ask := range []struct {
		name string
		call func(context.Context) (seckill.Positions, error)
	}{{"End", q.End}, {"Committed", q.Committed}} {
		_, err := ask.call(ctx)
		// What the client knows of the topic is a moment old; until it learns more, the log seems to have lost its end, or a
		// real broker to have no such partition.
		for !errors.Is(err, kafka.ErrTopic) && ctx.Err() == nil {
			_, err = ask.call(ctx)
		}
		if !errors.Is(err, kafka.ErrTopic) {
			t.Errorf("%s: %v", ask.name, err)
		}
	}
}

func twoOpen(t *testing.T, cfg kafka.Config) {
	var both sync.WaitGroup
	for n := range 2 {
		both.Go(func() {
			q, err := kafka.Open(Context(t), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			defer Close(t, q)
			if end, err := q.End(Context(t)); err != nil || len(end) != cfg.Partitions {
				t.Errorf("process %d: %v, %v", n, end, err)
			}
		})
	}
	both.Wait()
}

// Admin returns an admin client of the test's own.
func Admin(t testing.TB, cfg kafka.Config) *kadm.Client {
	t.Helper()
	opts := []kgo.Opt{kgo.SeedBrokers(cfg.Brokers...)}
	if cfg.Dial != nil {
		opts = append(opts, kgo.Dialer(cfg.Dial))
	}
	if cfg.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(cfg.TLS))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}
