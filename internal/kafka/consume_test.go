package kafka_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/proof/kafkatest"
	"github.com/penstock/penstock/seckill"
)

// TestL10_PollGoesOnBesideASickPartition lets a partition answer every fetch with an error, and
// another one lose its leader.
func TestL10_PollGoesOnBesideASickPartition(t *testing.T) {
	cluster, cfg := broker(t)
	books := new(kafkatest.Books)
	q := kafkatest.Open(t, cfg, books)
	kafkatest.Produce(t, q, 0, 160) // 60 of them in partition 0, 50 in each of the others
	ends := kafkatest.Mark(t, q)
	fault := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Fetch}, Topic: "penstock-orders", Partitions: []int32{0}, Err: kerr.TopicAuthorizationFailed, Count: -1,
	})
	elect := leaderless(cluster, 1)
	if seen := kafkatest.ConsumeUntil(t, q, books, ends[2:]); len(seen) != 50 {
		t.Errorf("%d of 50 records came", len(seen))
	}
	waitFor(t, q, func(s kafka.Stats) bool { return s.PollErrors > 0 })
	fault.Remove()
	kafkatest.ConsumeUntil(t, q, books, ends[:1])
	elect()
	kafkatest.ConsumeUntil(t, q, books, ends)
}

func TestQueue_PollEndsWithItsContext(t *testing.T) {
	_, cfg := broker(t)
	books := new(kafkatest.Books)
	q := kafkatest.Open(t, cfg, books)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() {
		_, err := q.Poll(ctx)
		got <- err
	}()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("Poll: %v", err)
	}
	kafkatest.Produce(t, q, 0, 10)
	kafkatest.Consume(t, q, books, 10)
}

// TestQueue_PartitionsWaitForTheBooks: the database is away when the group assigns partitions, and
// when a worker goes back.
func TestQueue_PartitionsWaitForTheBooks(t *testing.T) {
	_, cfg := broker(t)
	books := new(kafkatest.Books)
	q := kafkatest.Open(t, cfg, books)
	kafkatest.Produce(t, q, 0, 100)
	books.SetAway(true)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if haul, err := q.Poll(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Poll: %d records, %v", len(haul.Messages), err)
	}
	if owned, _ := q.Owned(); len(owned) != 0 {
		t.Errorf("owns %v", owned)
	}
	books.SetAway(false)
	if seen := kafkatest.Consume(t, q, books, 100); len(seen) != 100 {
		t.Errorf("%d records", len(seen))
	}
	books.SetAway(true)
	if err := q.Rewind(t.Context()); err == nil {
		t.Error("went back without the books")
	}
	books.SetAway(false)
	if err := q.Rewind(t.Context()); err != nil {
		t.Error(err)
	}
	kafkatest.Produce(t, q, 100, 200)
	if seen := kafkatest.Consume(t, q, books, 100); len(seen) != 100 {
		t.Errorf("%d records after all", len(seen))
	}
}

// TestQueue_MemberThatWasPutOut: a member that its group has removed joins again. Records that it
// could not commit come again.
func TestQueue_MemberThatWasPutOut(t *testing.T) {
	for _, fenced := range []*kerr.Error{kerr.UnknownMemberID, kerr.IllegalGeneration} {
		t.Run(fenced.Message, func(t *testing.T) {
			cluster, cfg := broker(t)
			books := new(kafkatest.Books)
			q := kafkatest.Open(t, cfg, books)
			kafkatest.Produce(t, q, 0, 50)
			ctx := kafkatest.Context(t)
			if _, err := q.Poll(ctx); err != nil {
				t.Fatal(err)
			}
			beats := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: fenced})
			if err := beats.Wait(ctx, 1); err != nil {
				t.Fatal(err)
			}
			for done := false; !done; done = seckill.Passed(books.Now(), wantAll(books, 50)) {
				haul, err := q.Poll(ctx)
				if ctx.Err() != nil {
					t.Fatal(err)
				}
				if err == nil && books.Commit(haul.Moves) != nil {
					if err := q.Rewind(ctx); err != nil {
						t.Fatal(err)
					}
				}
			}
			if stats := q.Stats(); stats.Missing != 0 || stats.DataLoss != 0 {
				t.Errorf("stats: %+v", stats)
			}
		})
	}
}

// wantAll waits until the books have so many committed records. The shards of kafkatest.Put decide
// how many of them each of three partitions has.
func wantAll(books *kafkatest.Books, records int) []seckill.Position {
	want := books.Now()
	for p := range want {
		want[p].Next = 0
	}
	for n := range records {
		want[n%16%len(want)].Next++
	}
	return want
}

// TestQueue_PollDoesNotSpin polls a group that only has errors; each poll pauses longer than the
// one before, up to a second.
func TestQueue_PollDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster, cfg := broker(t)
		defer cluster.Close()
		q, err := kafka.Open(t.Context(), cfg, new(kafkatest.Books))
		if err != nil {
			t.Fatal(err)
		}
		defer kafkatest.Close(t, q)
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.GroupAuthorizationFailed, TopLevel: true, Count: -1})
		for _, least := range []time.Duration{50, 100, 200, 400, 800, 1000, 1000} {
			start := time.Now()
			if _, err := q.Poll(t.Context()); !errors.Is(err, kerr.GroupAuthorizationFailed) {
				t.Fatalf("Poll: %v", err)
			}
			if took := time.Since(start); took < least*time.Millisecond {
				t.Errorf("Poll returned after %v, want at least %v", took, least*time.Millisecond)
			}
		}
	})
}

// TestQueue_MarkNamesThePartition: a partition refuses markers. Callers in that time wait for their
// own deadlines only, and the next round succeeds.
func TestQueue_MarkNamesThePartition(t *testing.T) {
	cluster, cfg := broker(t)
	books := new(kafkatest.Books)
	q := kafkatest.Open(t, cfg, books)
	elect := leaderless(cluster, 1)
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		positions, err := q.Mark(ctx)
		cancel()
		if positions != nil || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "partition 1") {
			t.Errorf("Mark: %v, %v", positions, err)
		}
	}
	elect()
	if seen := kafkatest.ConsumeUntil(t, q, books, kafkatest.Mark(t, q)); len(seen) != 0 {
		t.Errorf("records: %v", seen)
	}
}

// TestL2_AMarkerThatIsRefusedIsNone: a barrier must not be passed by a marker that isn't there.
func TestL2_AMarkerThatIsRefusedIsNone(t *testing.T) {
	cluster, cfg := broker(t)
	q := kafkatest.Open(t, patient(cfg), new(kafkatest.Books))
	cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: "penstock-orders", Partitions: []int32{1}, Err: kerr.TopicAuthorizationFailed, Count: -1,
	})
	if at, err := q.Mark(kafkatest.Context(t)); !errors.Is(err, kerr.TopicAuthorizationFailed) || !strings.Contains(err.Error(), "partition 1") {
		t.Errorf("Mark: %v, %v", at, err)
	}
}

// TestQueue_MarkRefusesOtherBooks: where the books know another topic, a marker in this one says
// nothing about their positions.
func TestQueue_MarkRefusesOtherBooks(t *testing.T) {
	_, cfg := broker(t)
	books := new(kafkatest.Books)
	q := kafkatest.Open(t, cfg, books)
	other := books.Now()[2]
	other.Topic = seckill.TopicID{1}
	books.Set(other)
	if at, err := q.Mark(kafkatest.Context(t)); err == nil || !strings.Contains(err.Error(), "other partitions") {
		t.Errorf("Mark: %v, %v", at, err)
	}
}

// TestL2_ABarrierOfTooFewPartitions: another worker may have registered partitions that this
// process has not seen yet, and promises may be in them.
func TestL2_ABarrierOfTooFewPartitions(t *testing.T) {
	_, cfg := broker(t)
	cfg.LookEvery = time.Hour
	q := kafkatest.Open(t, cfg, new(kafkatest.Books))
	if _, err := kafkatest.Admin(t, cfg).UpdatePartitions(t.Context(), 5, "penstock-orders"); err != nil {
		t.Fatal(err)
	}
	if at, err := q.Mark(kafkatest.Context(t)); !errors.Is(err, kafka.ErrTopic) {
		t.Errorf("Mark: %v, %v", at, err)
	}
	if at := kafkatest.Mark(t, q); len(at) != 5 {
		t.Errorf("Mark, after it has looked: %v", at)
	}
}
