package kafkatest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// Patience bounds each test. It is far longer than any of them takes, so only a hang reaches it.
const Patience = 2 * time.Minute

// Exercise runs the suite. base configures the connection to the broker; the tests set names and
// sizes.
func Exercise(t *testing.T, base kafka.Config) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, kafka.Config)
	}{
		{"EveryAcknowledgedRecordIsPolledOnce", everyRecordOnce},
		{"MarkersPassOnAnIdleTopic", markersPass},
		{"CallersShareMarkers", callersShareMarkers},
		{"BooksOverrideTheGroup", booksOverrideTheGroup},
		{"RewindRepeats", rewindRepeats},
		{"RestartResumesAtTheBooks", restartResumes},
		{"RebalanceLosesNothing", rebalanceLosesNothing},
		{"PositionOfALostLogIsReadAgain", lostLogIsReadAgain},
		{"TopicMadeAnewBeginsAtItsStart", topicAnew},
		{"PartitionsAreAdded", partitionsAreAdded},
		{"FewerPartitionsThanTheBooks", fewerPartitions},
		{"GatewayWithoutBooks", gatewayWithoutBooks},
		{"SlotsAreBounded", slotsAreBounded},
		{"BytesAreBounded", bytesAreBounded},
		{"CloseAnswersEveryPut", closeAnswers},
		{"ClosedQueueRefuses", closedRefuses},
		{"TooLargeIsRefused", tooLarge},
		{"TrimKeepsWhatIsNotCommitted", trimKeeps},
		{"MissingRecordsAreCounted", missingAreCounted},
		{"TwoProcessesMakeOneTopic", twoOpen},
		{"BetweenMovesNothing", betweenMovesNothing},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := base
			cfg.Topic = "test-" + rand.Text()
			cfg.Group = "group-" + rand.Text()
			cfg.Worker = true
			cfg.LookEvery = 100 * time.Millisecond
			cfg.StallAfter, cfg.DeliveryTimeout = 20*time.Second, time.Minute // a slow answer of a busy machine is no fault of the broker
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
func Open(t testing.TB, cfg kafka.Config, books kafka.Books) *kafka.Queue {
	t.Helper()
	q, err := kafka.Open(Context(t), cfg, books)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Close(t, q) })
	return q
}

// Close closes a queue, without a deadline of its own.
func Close(t testing.TB, q *kafka.Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), Patience)
	defer cancel()
	if err := q.Close(ctx); err != nil {
		t.Error(err)
	}
}

// Until waits until cond holds. If it never does, what says what is missing.
func Until(t testing.TB, cond func() bool, what func() any) {
	t.Helper()
	ctx := Context(t)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(what())
		}
	}
}

// keyLength is how many bytes of a value are its key.
const keyLength = 32

// Key names record n.
func Key(n int) string { return fmt.Sprintf("%0*d", keyLength, n) }

// Value makes the value of record n: its key, and bytes up to the length of a small page.
func Value(n int) []byte {
	value := make([]byte, 160)
	copy(value, Key(n))
	return value
}

// KeyOf returns the key of a message.
func KeyOf(m seckill.Message) string { return string(m.Value[:keyLength]) }

// Put puts record n with its own slot.
func Put(q *kafka.Queue, n int, done func(error)) {
	if err := q.Reserve(); err != nil {
		done(err)
		return
	}
	q.Put(inventory.ShardID(n%16), Value(n), 1, done)
}

// Produce puts the records from to to-1 and returns when all are acknowledged.
func Produce(t testing.TB, q *kafka.Queue, from, to int) {
	t.Helper()
	answers := make(chan error, to-from)
	for n := from; n < to; n++ {
		Put(q, n, func(err error) { answers <- err })
	}
	for range to - from {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
}

// Consume polls and commits until count different records were polled, and returns how often each
// was.
func Consume(t testing.TB, q *kafka.Queue, books *Books, count int) map[string]int {
	t.Helper()
	ctx := Context(t)
	seen := make(map[string]int)
	for len(seen) < count {
		haul := poll(ctx, t, q)
		for _, m := range haul.Messages {
			seen[KeyOf(m)]++
		}
		commit(t, q, books, haul)
	}
	return seen
}

// ConsumeUntil polls and commits until the books have passed want, and returns how often each
// record was polled.
func ConsumeUntil(t testing.TB, q *kafka.Queue, books *Books, want []seckill.Position) map[string]int {
	t.Helper()
	ctx := Context(t)
	seen := make(map[string]int)
	for !seckill.Passed(books.Now(), want) {
		haul := poll(ctx, t, q)
		for _, m := range haul.Messages {
			seen[KeyOf(m)]++
		}
		commit(t, q, books, haul)
	}
	return seen
}

func poll(ctx context.Context, t testing.TB, q *kafka.Queue) seckill.Haul {
	t.Helper()
	haul, err := q.Poll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(haul.Moves) == 0 {
		t.Fatal("Poll returned without moves")
	}
	return haul
}

func commit(t testing.TB, q *kafka.Queue, books *Books, haul seckill.Haul) {
	t.Helper()
	if err := books.Commit(haul.Moves); err != nil {
		t.Fatalf("commit %+v at %+v: %v", haul.Moves, books.Now(), err)
	}
	q.Committed(haul.Moves)
}

// Mark writes markers, without a deadline of its own.
func Mark(t testing.TB, q *kafka.Queue) []seckill.Position {
	t.Helper()
	for ctx := Context(t); ; {
		positions, err := q.Mark(ctx)
		if err == nil {
			return positions
		}
		if ctx.Err() != nil || errors.Is(err, kafka.ErrClosed) {
			t.Fatal(err)
		}
	}
}

// sum adds up how far positions are.
func sum(positions []seckill.Position) (total int64) {
	for _, p := range positions {
		total += p.Next
	}
	return total
}

// Admin returns an admin client for the test.
func Admin(t testing.TB, cfg kafka.Config) *kadm.Client {
	t.Helper()
	opts := []kgo.Opt{kgo.SeedBrokers(cfg.Brokers...), kgo.MetadataMinAge(10 * time.Millisecond)}
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
