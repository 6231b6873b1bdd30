package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/proof/kafkatest"
)

func TestQueue_PutTellsTheError(t *testing.T) {
	cluster, cfg := broker(t)
	books := new(kafkatest.Books)
	q := kafkatest.Open(t, cfg, books)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	got := make(chan error, 1)
	kafkatest.Put(q, 0, func(err error) { got <- err })
	if err := <-got; !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("error: %v", err)
	}
	waitFor(t, q, func(s kafka.Stats) bool { return idle(s) && s.Failed == 1 && s.Acked == 0 })
	if state := q.Partitions()[0]; state.Health != "down" || !errors.Is(state.Err, kerr.TopicAuthorizationFailed) {
		t.Errorf("state: %+v", state)
	}
	fault.Remove()
	waitForHealth(t, q, 0, "well") // no record was put meanwhile: the queue tried by itself
	kafkatest.Produce(t, q, 1, 100)
	if seen := kafkatest.ConsumeUntil(t, q, books, kafkatest.Mark(t, q)); len(seen) != 99 || seen[kafkatest.Key(0)] != 0 {
		t.Errorf("%d records, the refused one %d times", len(seen), seen[kafkatest.Key(0)])
	}
}

// TestQueue_RefusedRecordLeavesThePartitionWell uses a broker that refuses large records.
func TestQueue_RefusedRecordLeavesThePartitionWell(t *testing.T) {
	cluster, cfg := broker(t)
	q := kafkatest.Open(t, cfg, new(kafkatest.Books))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.MessageTooLarge})
	got := make(chan error, 1)
	kafkatest.Put(q, 0, func(err error) { got <- err })
	if err := <-got; kafka.Classify(err) != kafka.ClassRefused {
		t.Errorf("error: %v", err)
	}
	waitFor(t, q, func(s kafka.Stats) bool { return idle(s) && s.Rejected == 1 && s.Failed == 0 })
	if problems := q.Problems(); len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
}

// patient returns cfg with times that no busy machine exceeds. A page that waits for longer than
// StallAfter goes on in another client, and may come twice then.
func patient(cfg kafka.Config) kafka.Config {
	cfg.StallAfter, cfg.DeliveryTimeout = time.Minute, 2*time.Minute
	return cfg
}

// TestQueue_RetriesWriteOnce lets the broker refuse, or append and then say it didn't; each record
// is acknowledged and written once.
func TestQueue_RetriesWriteOnce(t *testing.T) {
	for _, err := range []*kerr.Error{
		kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut, kerr.NotLeaderForPartition,
	} {
		t.Run(err.Message, func(t *testing.T) {
			cluster, cfg := broker(t)
			books := new(kafkatest.Books)
			q := kafkatest.Open(t, patient(cfg), books)
			kafkatest.Produce(t, q, 0, 1)
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: err, Count: 2})
			kafkatest.Produce(t, q, 1, 500)
			for key, times := range kafkatest.ConsumeUntil(t, q, books, kafkatest.Mark(t, q)) {
				if times != 1 {
					t.Errorf("record %s is there %d times", key, times)
				}
			}
			if stats := q.Stats(); stats.Polled != 500+stats.Markers {
				t.Errorf("stats: %+v", stats)
			}
		})
	}
}

// cutConn is a connection that breaks when the answer to a produce request comes, once for each
// time that cuts is raised.
type cutConn struct {
	net.Conn
	cuts    *atomic.Int32
	produce atomic.Bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	if len(b) > 6 && int16(binary.BigEndian.Uint16(b[4:])) == int16(kmsg.Produce) {
		c.produce.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.produce.Load() && c.cuts.Load() > 0 {
		c.cuts.Add(-1)
		return 0, errors.Join(errors.New("cut by the test"), c.Close())
	}
	return n, err
}

// TestQueue_LostAnswerIsRetried breaks the connection after the broker has appended.
func TestQueue_LostAnswerIsRetried(t *testing.T) {
	_, cfg := broker(t)
	var cuts atomic.Int32
	dial := cfg.Dial
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &cutConn{Conn: conn, cuts: &cuts}, err
	}
	books := new(kafkatest.Books)
	q := kafkatest.Open(t, patient(cfg), books)
	kafkatest.Produce(t, q, 0, 10)
	for n := range 5 {
		cuts.Store(1)
		kafkatest.Produce(t, q, 10+n*40, 50+n*40)
		if cuts.Load() != 0 {
			t.Fatal("nothing was cut")
		}
	}
	for key, times := range kafkatest.Consume(t, q, books, 210) {
		if times != 1 {
			t.Errorf("record %s is there %d times", key, times)
		}
	}
}

func TestL8_StallFillsSlotsAndRecovers(t *testing.T) {
	cluster, cfg := broker(t)
	cfg.Slots = 200
	q := kafkatest.Open(t, cfg, new(kafkatest.Books))
	kafkatest.Produce(t, q, 0, 1)
	held, release := stall(cluster)
	defer release()
	answers := newAnswers(cfg.Slots)
	for n := range cfg.Slots {
		kafkatest.Put(q, n, answers.done(n))
	}
	<-held
	if q.Reserve() == nil {
		t.Fatal("there are more slots than Slots")
	}
	if stats := q.Stats(); stats.Reserved != int64(cfg.Slots) || stats.InFlight < int64(cfg.Slots) || stats.Refused != 1 {
		t.Errorf("stats: %+v", stats)
	}
	release()
	answers.check(t)
	waitFor(t, q, idle)
	if answers.acked.Load() != int64(cfg.Slots) {
		t.Errorf("%d of %d records were acknowledged", answers.acked.Load(), cfg.Slots)
	}
	for n := range cfg.Slots { // none leaked
		if q.Reserve() != nil {
			t.Fatalf("slot %d of %d is gone", n, cfg.Slots)
		}
	}
	q.Release(cfg.Slots)
}

// fakeControl is a goroutine that kfake leaves behind when it is closed while it delays requests.
const fakeControl = "github.com/twmb/franz-go/pkg/kfake.(*Cluster).runControl.func1"

func TestQueue_CloseFailsWhatTheBrokerKeeps(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction(fakeControl))
	cluster, cfg := broker(t)
	defer cluster.Close()
	q, err := kafka.Open(t.Context(), cfg, new(kafkatest.Books))
	if err != nil {
		t.Fatal(err)
	}
	kafkatest.Produce(t, q, 0, 1)
	held, release := stall(cluster)
	defer release()
	const records = 1_000
	answers := newAnswers(records)
	for n := range records {
		kafkatest.Put(q, n, answers.done(n))
	}
	<-held
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Close(ended); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "records in flight") {
		t.Errorf("Close: %v", err)
	}
	// Close has returned, so every answer is in.
	if left := answers.left.Load(); left != 0 {
		t.Errorf("%d records were not answered", left)
	}
	answers.check(t)
	if stats := q.Stats(); !idle(stats) || stats.Failed != records {
		t.Errorf("stats: %+v", stats)
	}
	if err := q.Close(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("second Close: %v", err)
	}
}

// TestQueue_PutAndCloseRace closes while others put and mark: each record is answered once, before
// or after the close.
func TestQueue_PutAndCloseRace(t *testing.T) {
	_, cfg := broker(t)
	q := kafkatest.Open(t, cfg, new(kafkatest.Books))
	const producers, each = 8, 500
	answers := newAnswers(producers * each)
	var work sync.WaitGroup
	started := make(chan struct{}, producers)
	for p := range producers {
		work.Go(func() {
			for n := range each {
				if n == each/4 {
					started <- struct{}{}
				}
				kafkatest.Put(q, p*each+n, answers.done(p*each+n))
			}
		})
	}
	work.Go(func() {
		var err error
		for err == nil {
			_, err = q.Mark(t.Context())
		}
		if !errors.Is(err, kafka.ErrClosed) && !errors.Is(err, context.Canceled) {
			t.Errorf("Mark: %v", err)
		}
	})
	for range producers {
		<-started
	}
	kafkatest.Close(t, q)
	work.Wait()
	answers.check(t)
	if stats := q.Stats(); !idle(stats) {
		t.Errorf("stats: %+v", stats)
	}
}

// TestL10_LeaderlessPartitionIsAvoided takes away the leader of a partition: before the queue
// opens, and while it is open.
func TestL10_LeaderlessPartitionIsAvoided(t *testing.T) {
	cluster, cfg := broker(t)
	cfg.LookEvery, cfg.StallAfter = 300*time.Millisecond, 100*time.Millisecond
	books := new(kafkatest.Books)
	kafkatest.Close(t, kafkatest.Open(t, cfg, books)) // makes the topic
	elect := leaderless(cluster, 1)
	q := kafkatest.Open(t, cfg, books)
	if state := q.Partitions()[1]; state.Health != "down" || state.Leader != -1 || !errors.Is(state.Err, kerr.LeaderNotAvailable) {
		t.Errorf("state: %+v", state)
	}
	kafkatest.Produce(t, q, 0, 100)
	if seen := kafkatest.Consume(t, q, books, 100); len(seen) != 100 {
		t.Errorf("%d of 100 records", len(seen))
	}
	if books.Now()[1].Next != 0 || q.Stats().Rerouted == 0 {
		t.Errorf("the books are at %+v, stats: %+v", books.Now(), q.Stats())
	}
	elect()
	waitForHealth(t, q, 1, "well")
	kafkatest.Produce(t, q, 100, 200)
	if seen := kafkatest.Consume(t, q, books, 100); len(seen) != 100 || books.Now()[1].Next == 0 {
		t.Errorf("%d of 100 records, the books are at %+v", len(seen), books.Now())
	}

	elect = leaderless(cluster, 2)
	answers := newAnswers(1)
	kafkatest.Put(q, 2, answers.done(0)) // it prefers this partition, and waits for its leader
	waitForHealth(t, q, 2, "down")
	kafkatest.Produce(t, q, 200, 300)
	if left := answers.left.Load(); left != 1 {
		t.Error("a record went where there is no leader")
	}
	elect()
	answers.check(t)
	if answers.acked.Load() != 1 {
		t.Error("the record was not written when the leader came back")
	}
	waitForHealth(t, q, 2, "well")
}

// TestL10_StalledPartitionHoldsUpNothingElse: the replicas of one partition don't answer, so the
// broker answers nothing else on that connection.
func TestL10_StalledPartitionHoldsUpNothingElse(t *testing.T) {
	cluster, cfg := broker(t)
	cfg.DeliveryTimeout, cfg.StallAfter = time.Minute, 50*time.Millisecond
	q := kafkatest.Open(t, cfg, new(kafkatest.Books))
	kafkatest.Produce(t, q, 0, 16)
	held, release := stall(cluster, 1)
	defer release()
	stalled := newAnswers(1)
	kafkatest.Put(q, 1, stalled.done(0))
	<-held
	answers := make(chan error, 2)
	for n := range 100 { // shards 0 and 2 of 16: those of the other partitions
		kafkatest.Put(q, 16*n, func(err error) { answers <- err })
		kafkatest.Put(q, 16*n+2, func(err error) { answers <- err })
		if err := errors.Join(<-answers, <-answers); err != nil {
			t.Fatal(err)
		}
	}
	kafkatest.Until(t, func() bool { return q.Partitions()[1].Health != "well" }, func() any { return q.Partitions() })
	kafkatest.Produce(t, q, 0, 160) // of all shards
	if left := stalled.left.Load(); left != 1 {
		t.Fatal("nothing was stalled")
	}
	waitForHealth(t, q, 1, "down")
	if err := q.Reserve(); err != nil {
		t.Errorf("Reserve beside a partition that is down: %v", err)
	}
	q.Release(1)
	release()
	stalled.check(t)
	waitForHealth(t, q, 1, "well") // by a record that was tried, because the last one was late
	if stats := q.Stats(); stats.Failed != 0 {
		t.Errorf("stats: %+v", stats)
	}
}

// TestQueue_RecordFailsInTime delays records for longer than they may wait. They fail. The queue
// then connects to the partition again, and tries it.
func TestQueue_RecordFailsInTime(t *testing.T) {
	cluster, cfg := broker(t)
	cfg.DeliveryTimeout, cfg.StallAfter, cfg.Partitions = time.Second, 50*time.Millisecond, 1
	q := kafkatest.Open(t, cfg, new(kafkatest.Books))
	kafkatest.Produce(t, q, 0, 1)
	held, release := stall(cluster)
	defer release()
	start := time.Now()
	answer := make(chan error, 1)
	kafkatest.Put(q, 1, func(err error) { answer <- err })
	<-held
	kafkatest.Until(t, func() bool { return errors.Is(q.Reserve(), kafka.ErrDown) }, func() any { return q.Partitions() })
	if err := <-answer; !errors.Is(err, kafka.ErrTimeout) || kafka.Classify(err) != kafka.ClassUnknown {
		t.Errorf("error: %v", err)
	}
	if took := time.Since(start); took < cfg.DeliveryTimeout/2 {
		t.Errorf("the record failed after %v", took)
	}
	release()
	waitForHealth(t, q, 0, "well")
	kafkatest.Until(t, func() bool { return q.Reserve() == nil }, func() any { return q.Problems() })
	q.Put(1, kafkatest.Value(2), 1, func(err error) { answer <- err })
	if err := <-answer; err != nil {
		t.Error(err)
	}
}
