package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/seckill"
)

func everyRecordOnce(t *testing.T, cfg kafka.Config) {
	const records = 5_000
	cfg.MaxPoll = 70 // many polls, the last one not full
	books := new(Books)
	q := Open(t, cfg, books)
	Produce(t, q, 0, records)
	ctx := Context(t)
	seen := make(map[string]int)
	next := make(map[int32]int64)
	for len(seen) < records {
		haul := poll(ctx, t, q)
		if len(haul.Messages) > cfg.MaxPoll {
			t.Fatalf("Poll returned %d records, at most %d were asked for", len(haul.Messages), cfg.MaxPoll)
		}
		for _, m := range haul.Messages {
			if m.Offset != next[m.Partition] {
				t.Fatalf("partition %d continues with offset %d, want %d", m.Partition, m.Offset, next[m.Partition])
			}
			next[m.Partition]++
			seen[KeyOf(m)]++
		}
		for _, m := range haul.Moves {
			if m.To.Next != next[m.To.Partition] {
				t.Fatalf("a move to %+v, the last record lies before %d", m.To, next[m.To.Partition])
			}
		}
		commit(t, q, books, haul)
	}
	for n := range records {
		if times := seen[Key(n)]; times != 1 {
			t.Fatalf("record %d was polled %d times", n, times)
		}
	}
	if len(next) != cfg.Partitions {
		t.Errorf("%d of %d partitions were used", len(next), cfg.Partitions)
	}
	if owned, all := q.Owned(); len(owned) != cfg.Partitions || all != cfg.Partitions {
		t.Errorf("owns %v of %d", owned, all)
	}
	stats := q.Stats()
	if stats.Acked != records || stats.Polled != records || stats.Committed != records || stats.Failed != 0 ||
		stats.Missing != 0 || stats.DataLoss != 0 || stats.Rerouted != 0 || !stats.Oldest.IsZero() {
		t.Errorf("stats: %+v", stats)
	}
	if lag, err := q.Lag(ctx); err != nil || lag != 0 {
		t.Errorf("lag: %d, %v", lag, err)
	}
}

func markersPass(t *testing.T, cfg kafka.Config) {
	books := new(Books)
	q := Open(t, cfg, books)
	for range 3 {
		markers := Mark(t, q)
		if len(markers) != cfg.Partitions || seckill.Passed(books.Now(), markers) {
			t.Fatalf("markers end at %+v, the books are at %+v", markers, books.Now())
		}
		if seen := ConsumeUntil(t, q, books, markers); len(seen) != 0 {
			t.Fatalf("markers came as records: %v", seen)
		}
	}
	Produce(t, q, 0, 100)
	if seen := ConsumeUntil(t, q, books, Mark(t, q)); len(seen) != 100 {
		t.Errorf("%d of 100 records lie below the markers behind them", len(seen))
	}
	if at := sum(books.Now()); at != int64(100+4*cfg.Partitions) {
		t.Errorf("the books are at %d", at)
	}
}

// callersShareMarkers makes many callers call Mark at once. Each first gets a record acknowledged,
// which must lie before its markers.
func callersShareMarkers(t *testing.T, cfg kafka.Config) {
	books := new(Books)
	q := Open(t, cfg, books)
	const callers = 64
	var all sync.WaitGroup
	var acked [callers]seckill.Position
	marks := make([][]seckill.Position, callers)
	for n := range callers {
		all.Go(func() {
			done := make(chan error, 1)
			Put(q, n, func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Error(err)
				return
			}
			marks[n] = Mark(t, q)
		})
	}
	all.Wait()
	ctx := Context(t)
	for left := callers; left > 0; {
		haul := poll(ctx, t, q)
		for _, m := range haul.Messages {
			n, err := strconv.Atoi(KeyOf(m))
			if err != nil {
				t.Fatal(err)
			}
			if acked[n].Topic != (seckill.TopicID{}) {
				t.Errorf("record %d came twice, at %+v and at %d", n, acked[n], m.Offset)
			}
			acked[n] = seckill.Position{Topic: seckill.TopicID{1}, Partition: m.Partition, Next: m.Offset}
			left--
		}
		commit(t, q, books, haul)
	}
	for n, at := range acked {
		if below := marks[n][at.Partition].Next; at.Next >= below {
			t.Errorf("record %d is at %+v, its caller's marker ends at %d", n, at, below)
		}
	}
	rounds := q.Stats().Markers / int64(cfg.Partitions)
	if rounds < 1 || rounds > callers/2 {
		t.Errorf("%d callers wrote %d rounds of markers", callers, rounds)
	}
}

// booksOverrideTheGroup has a group with other committed offsets.
func booksOverrideTheGroup(t *testing.T, cfg kafka.Config) {
	ctx := Context(t)
	books := new(Books)
	producer := Open(t, cfg, books)
	Produce(t, producer, 0, 100)
	ends := Mark(t, producer)
	offsets := make(kadm.Offsets)
	for _, p := range ends {
		offsets.AddOffset(cfg.Topic, p.Partition, p.Next, -1)
	}
	if err := Admin(t, cfg).CommitAllOffsets(ctx, cfg.Group, offsets); err != nil {
		t.Fatal(err)
	}
	q := Open(t, cfg, books)
	if seen := ConsumeUntil(t, q, books, ends); len(seen) != 100 {
		t.Errorf("%d of 100 records came", len(seen))
	}
	Produce(t, q, 100, 150)
	ConsumeUntil(t, q, books, Mark(t, q))
	// The group follows.
	admin := Admin(t, cfg)
	var fetched kadm.OffsetResponses
	Until(t, func() bool {
		var err error
		if fetched, err = admin.FetchOffsets(ctx, cfg.Group); err != nil {
			t.Fatal(err)
		}
		committed := int64(0)
		fetched.Each(func(o kadm.OffsetResponse) { committed += o.At })
		return committed == sum(books.Now())
	}, func() any { return fmt.Sprintf("the group is at %v, the books are at %v", fetched, books.Now()) })
}

func rewindRepeats(t *testing.T, cfg kafka.Config) {
	cfg.MaxPoll = 20
	books := new(Books)
	q := Open(t, cfg, books)
	ctx := Context(t)
	Produce(t, q, 0, 300)
	Consume(t, q, books, 100)
	before := books.Now()
	for range 3 {
		poll(ctx, t, q) // could not be committed
		if q.Stats().Oldest.IsZero() {
			t.Error("nothing is pending after a poll")
		}
		if err := q.Rewind(ctx); err != nil {
			t.Fatal(err)
		}
		if haul := poll(ctx, t, q); haul.Moves[0].From != before[haul.Moves[0].From.Partition] {
			t.Fatalf("after Rewind, Poll continues from %+v, the books are at %+v", haul.Moves[0].From, before)
		}
		if err := q.Rewind(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// A database that was restored to an earlier time, after a poll of records that it had.
	haul := poll(ctx, t, q)
	for !slices.ContainsFunc(haul.Moves, func(m seckill.Move) bool { return before[m.From.Partition].Next > 0 }) {
		if err := q.Rewind(ctx); err != nil {
			t.Fatal(err)
		}
		haul = poll(ctx, t, q)
	}
	for p := range before {
		books.Set(seckill.Position{Topic: before[p].Topic, Partition: int32(p), LeaderEpoch: -1})
	}
	if err := books.Commit(haul.Moves); !errors.Is(err, seckill.ErrMoved) {
		t.Fatalf("commit: %v", err)
	}
	if err := q.Rewind(ctx); err != nil {
		t.Fatal(err)
	}
	if seen := Consume(t, q, books, 300); len(seen) != 300 {
		t.Errorf("%d of 300 records came again", len(seen))
	}
}

func restartResumes(t *testing.T, cfg kafka.Config) {
	ctx := Context(t)
	books := new(Books)
	q := Open(t, cfg, books)
	Produce(t, q, 0, 200)
	Consume(t, q, books, 200)
	Produce(t, q, 200, 260)
	poll(ctx, t, q) // and dies before the commit
	Close(t, q)
	q = Open(t, cfg, books)
	seen := Consume(t, q, books, 60)
	for n := 200; n < 260; n++ {
		if seen[Key(n)] != 1 {
			t.Fatalf("record %d was polled %d times after the restart", n, seen[Key(n)])
		}
	}
	if len(seen) != 60 {
		t.Errorf("%d records came after the restart, want 60", len(seen))
	}
}

// crew is a number of workers that come and go, and one producer.
type crew struct {
	t        *testing.T
	ctx      context.Context
	cfg      kafka.Config
	books    Books
	producer *kafka.Queue
	produced int
	failures chan error
	workers  sync.WaitGroup

	mu   sync.Mutex
	done map[string]bool // guarded by mu: keys whose moves were committed
}

func newCrew(t *testing.T, cfg kafka.Config) *crew {
	c := &crew{t: t, ctx: Context(t), cfg: cfg, failures: make(chan error, 8), done: make(map[string]bool)}
	c.producer = Open(t, cfg, &c.books)
	return c
}

// hire starts a worker and counts its batches.
func (c *crew) hire() (*kafka.Queue, *atomic.Int64) {
	q, batches := Open(c.t, c.cfg, &c.books), new(atomic.Int64)
	c.workers.Go(func() {
		if err := c.work(q, batches); err != nil {
			c.failures <- err
		}
	})
	return q, batches
}

// work polls, commits to the books and goes back when they have moved, until the queue is closed.
func (c *crew) work(q *kafka.Queue, batches *atomic.Int64) error {
	for {
		haul, err := q.Poll(c.ctx)
		if c.ctx.Err() != nil || errors.Is(err, kafka.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		c.mu.Lock()
		err = c.books.Commit(haul.Moves)
		if err == nil {
			for _, m := range haul.Messages {
				c.done[KeyOf(m)] = true
			}
		}
		c.mu.Unlock()
		if err == nil {
			q.Committed(haul.Moves)
			batches.Add(1)
		} else if err := q.Rewind(c.ctx); err != nil && !errors.Is(err, kafka.ErrClosed) {
			return fmt.Errorf("rewind: %w", err)
		}
	}
}

func (c *crew) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.done)
}

// feed produces, but not faster than the workers work.
func (c *crew) feed() {
	if c.count() == c.produced {
		Produce(c.t, c.producer, c.produced, c.produced+100)
		c.produced += 100
	}
}

// until feeds the workers until cond holds.
func (c *crew) until(cond func() bool) {
	c.t.Helper()
	Until(c.t, func() bool {
		if len(c.failures) > 0 {
			c.t.Fatal(<-c.failures)
		}
		c.feed()
		return cond()
	}, func() any { return fmt.Sprintf("the workers do not get on: %d of %d records", c.count(), c.produced) })
}

// rebalanceLosesNothing lets workers come and go while records arrive. One of them polls and is
// stuck with its records, which doesn't delay the others.
func rebalanceLosesNothing(t *testing.T, cfg kafka.Config) {
	cfg.Partitions, cfg.MaxPoll = 4, 20
	c := newCrew(t, cfg)
	busy := func(batches *atomic.Int64) func() bool {
		before := batches.Load()
		return func() bool { return batches.Load() > before+3 }
	}
	first, firstBatches := c.hire()
	c.until(busy(firstBatches))
	second, secondBatches := c.hire()
	c.until(busy(secondBatches))
	share := func() bool {
		mine, _ := first.Owned()
		others, _ := second.Owned()
		return len(mine) == 2 && len(others) == 2
	}
	c.until(share)
	stuck := Open(t, cfg, &c.books)
	polled := make(chan error, 1)
	go func() {
		_, err := stuck.Poll(c.ctx)
		polled <- err
	}()
	c.until(func() bool { return len(polled) > 0 })
	if err := <-polled; err != nil {
		t.Fatal(err)
	}
	c.until(func() bool { owned, _ := stuck.Owned(); return len(owned) > 0 })
	Close(t, first)
	Close(t, stuck)
	c.until(busy(secondBatches))
	third, thirdBatches := c.hire()
	c.until(busy(thirdBatches))
	Close(t, second)
	c.until(func() bool { return c.count() == c.produced })
	Close(t, third)
	c.workers.Wait()
	if at := sum(c.books.Now()); c.count() != c.produced || at != int64(c.produced) {
		t.Errorf("%d records produced, %d processed, the books are at %d", c.produced, c.count(), at)
	}
}
