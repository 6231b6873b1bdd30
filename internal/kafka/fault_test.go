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
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"penstock/internal/kafka"
	"penstock/internal/proof/kafkatest"
)

// answers counts what Put's done was called with, per record.
type answers struct {
	calls  []atomic.Int32
	acked  atomic.Int64
	failed atomic.Int64
	all    chan struct{} // closed when as many calls were made as there are records
	left   atomic.Int64
}

func newAnswers(n int) *answers {
	a := &answers{calls: make([]atomic.Int32, n), all: make(chan struct{})}
	a.left.Store(int64(n))
	return a
}

func (a *answers) done(n int) func(error) {
	return func(err error) {
		a.calls[n].Add(1)
		if err == nil {
			a.acked.Add(1)
		} else {
			a.failed.Add(1)
		}
		if a.left.Add(-1) == 0 {
			close(a.all)
		}
	}
}

// check waits for the last answer, and looks for records that were answered more than once.
func (a *answers) check(t *testing.T) {
	t.Helper()
	select {
	case <-a.all:
	case <-kafkatest.Context(t).Done():
		t.Fatalf("%d of %d records were not answered", a.left.Load(), len(a.calls))
	}
	for n := range a.calls {
		if times := a.calls[n].Load(); times != 1 {
			t.Errorf("record %d was answered %d times", n, times)
		}
	}
}

// waitForStats asks for the counters until they are as they should be. done is called a moment before its slot is given back.
func waitForStats(t *testing.T, q *kafka.Queue, ok func(kafka.Stats) bool) {
	t.Helper()
	for ctx := kafkatest.Context(t); !ok(q.Stats()); {
		if ctx.Err() != nil {
			t.Fatalf("stats: %+v", q.Stats())
		}
	}
}

func idle(s kafka.Stats) bool { return s.Reserved == 0 && s.InFlight == 0 }

// stall holds back the answers to all produce requests until release is called. held gets a value for each.
func stall(cluster *kfake.Cluster) (held <-chan struct{}, release func()) {
	requests, gate := make(chan struct{}, 1_000), make(chan struct{})
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		requests <- struct{}{}
		cluster.SleepControl(func() { <-gate })
		return nil, nil, false
	})
	return requests, sync.OnceFunc(func() { close(gate) })
}

func TestProduceErrorReachesDone(t *testing.T) {
	cluster, cfg := broker(t)
	q := kafkatest.Open(t, cfg)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	got := make(chan error, 1)
	if q.Reserve() != nil {
		t.Fatal("no slot")
	}
	q.Put(kafkatest.Key(0), kafkatest.Value(0), func(err error) { got <- err })
	if err := <-got; !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("error: %v", err)
	}
	waitForStats(t, q, func(s kafka.Stats) bool { return idle(s) && s.Failed == 1 && s.Acked == 0 })
	fault.Remove()
	kafkatest.Produce(t, q, 1, 100)
	if seen := kafkatest.Consume(t, q, 99); seen[string(kafkatest.Key(0))] != 0 {
		t.Error("the refused record was written")
	}
}

// TestRetriesWriteOnce lets the broker refuse, or append and then say it didn't; each record is acknowledged and written once.
func TestRetriesWriteOnce(t *testing.T) {
	for _, err := range []*kerr.Error{
		kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut, kerr.NotLeaderForPartition,
	} {
		t.Run(err.Message, func(t *testing.T) {
			cluster, cfg := broker(t)
			q := kafkatest.Open(t, cfg)
			kafkatest.Produce(t, q, 0, 1)
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: err, Count: 2})
			kafkatest.Produce(t, q, 1, 500)
			for key, times := range kafkatest.Consume(t, q, 500) {
				if times != 1 {
					t.Errorf("record %s is there %d times", key, times)
				}
			}
			end, err := q.End(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var total int64
			for _, offset := range end {
				total += offset
			}
			if total != 500 {
				t.Errorf("the log has %d records, want 500", total)
			}
		})
	}
}

// cutConn is a connection that breaks when the answer to a produce request comes, once for each time that cuts is raised.
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

// TestLostAnswerIsRetried breaks the connection after the broker has appended.
func TestLostAnswerIsRetried(t *testing.T) {
	_, cfg := broker(t)
	var cuts atomic.Int32
	dial := cfg.Dial
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &cutConn{Conn: conn, cuts: &cuts}, err
	}
	q := kafkatest.Open(t, cfg)
	kafkatest.Produce(t, q, 0, 10)
	for n := range 5 {
		cuts.Store(1)
		kafkatest.Produce(t, q, 10+n*40, 50+n*40)
		if cuts.Load() != 0 {
			t.Fatal("nothing was cut")
		}
	}
	for key, times := range kafkatest.Consume(t, q, 210) {
		if times != 1 {
			t.Errorf("record %s is there %d times", key, times)
		}
	}
	if stats := q.Stats(); stats.Polled != 210 {
		t.Errorf("the log has %d records, want 210", stats.Polled)
	}
}

func TestL8_StallFillsSlotsAndRecovers(t *testing.T) {
	cluster, cfg := broker(t)
	cfg.Slots = 200
	q := kafkatest.Open(t, cfg)
	kafkatest.Produce(t, q, 0, 1)
	held, release := stall(cluster)
	defer release()
	answers := newAnswers(cfg.Slots)
	for n := range cfg.Slots {
		if q.Reserve() != nil {
			t.Fatalf("slot %d of %d was refused", n, cfg.Slots)
		}
		q.Put(kafkatest.Key(1+n), kafkatest.Value(1+n), answers.done(n))
	}
	<-held
	if q.Reserve() == nil {
		t.Fatal("there are more slots than Slots")
	}
	if stats := q.Stats(); stats.Reserved != int64(cfg.Slots) || stats.InFlight != int64(cfg.Slots) || stats.Refused != 1 {
		t.Errorf("stats: %+v", stats)
	}
	release()
	answers.check(t)
	waitForStats(t, q, idle)
	if answers.acked.Load() != int64(cfg.Slots) {
		t.Errorf("%d of %d records were acknowledged", answers.acked.Load(), cfg.Slots)
	}
	for n := range cfg.Slots { // none leaked
		if q.Reserve() != nil {
			t.Fatalf("slot %d of %d is gone", n, cfg.Slots)
		}
	}
	for range cfg.Slots {
		q.Release()
	}
}

func TestCloseFailsWhatTheBrokerKeeps(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cluster, cfg := broker(t)
	defer cluster.Close()
	q, err := kafka.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	kafkatest.Produce(t, q, 0, 1)
	held, release := stall(cluster)
	defer release()
	const records = 1_000
	answers := newAnswers(records)
	for n := range records {
		if q.Reserve() != nil {
			t.Fatal("no slot")
		}
		q.Put(kafkatest.Key(1+n), kafkatest.Value(1+n), answers.done(n))
	}
	<-held
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Close(ended); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1000 records") {
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

// TestPutAndCloseRace closes while others put: each record is answered once, whatever side of the line it fell on.
func TestPutAndCloseRace(t *testing.T) {
	_, cfg := broker(t)
	q := kafkatest.Open(t, cfg)
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
				id := p*each + n
				if q.Reserve() != nil { // closed: nothing to answer
					answers.done(id)(kafka.ErrClosed)
					continue
				}
				q.Put(kafkatest.Key(id), kafkatest.Value(id), answers.done(id))
			}
		})
	}
	for range producers {
		<-started
	}
	kafkatest.Close(t, q)
	work.Wait()
	answers.check(t)
	waitForStats(t, q, idle)
}

func TestPollReturnsFetchErrors(t *testing.T) {
	cluster, cfg := broker(t)
	cfg.Partitions = 1
	q := kafkatest.Open(t, cfg)
	kafkatest.Produce(t, q, 0, 10)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	ctx := kafkatest.Context(t)
	for range 2 {
		if messages, err := q.Poll(ctx); !errors.Is(err, kerr.TopicAuthorizationFailed) || messages != nil {
			t.Fatalf("Poll: %d records, %v", len(messages), err)
		}
	}
	if got := q.Stats().PollErrors; got != 2 {
		t.Errorf("%d poll errors", got)
	}
	fault.Remove()
	for {
		messages, err := q.Poll(ctx)
		if errors.Is(err, kerr.TopicAuthorizationFailed) {
			continue // from before
		}
		if err != nil || len(messages) != 10 {
			t.Fatalf("Poll: %d records, %v", len(messages), err)
		}
		break
	}
	if err := q.Commit(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestPollEndsWithItsContext(t *testing.T) {
	_, cfg := broker(t)
	q := kafkatest.Open(t, cfg)
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
	kafkatest.Consume(t, q, 10)
}

func TestFailedCommitIsRepeated(t *testing.T) {
	cluster, cfg := broker(t)
	q := kafkatest.Open(t, cfg)
	kafkatest.Produce(t, q, 0, 50)
	ctx := kafkatest.Context(t)
	first, err := q.Poll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.OffsetMetadataTooLarge})
	if err := q.Commit(ctx); !errors.Is(err, kerr.OffsetMetadataTooLarge) {
		t.Fatalf("Commit: %v", err)
	}
	again, err := q.Poll(ctx)
	if err != nil || len(again) != len(first) || again[0].Offset != first[0].Offset {
		t.Fatalf("Poll after a failed Commit: %d records, %v", len(again), err)
	}
	if err := q.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	committed, err := q.Committed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, offset := range committed {
		total += offset
	}
	if total != int64(len(first)) {
		t.Errorf("committed %v after %d records", committed, len(first))
	}
}

// TestFencedCommitLetsGo puts the member out between Poll and Commit. What it polled must come again, and it must get back into
// the group.
func TestFencedCommitLetsGo(t *testing.T) {
	for _, fenced := range []*kerr.Error{kerr.UnknownMemberID, kerr.IllegalGeneration} {
		t.Run(fenced.Message, func(t *testing.T) {
			cluster, cfg := broker(t)
			q := kafkatest.Open(t, cfg)
			kafkatest.Produce(t, q, 0, 50)
			ctx := kafkatest.Context(t)
			if _, err := q.Poll(ctx); err != nil {
				t.Fatal(err)
			}
			// The group forgets the member: its heartbeats and its commit are refused, until it joins anew.
			beats := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: fenced})
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: fenced})
			if err := beats.Wait(ctx, 1); err != nil {
				t.Fatal(err)
			}
			if err := q.Commit(ctx); !errors.Is(err, kafka.ErrFenced) {
				t.Fatalf("Commit: %v", err)
			}
			if err := q.Commit(ctx); err != nil { // nothing is pending any more
				t.Fatalf("second Commit: %v", err)
			}
			committed, err := q.Committed(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for p, offset := range committed {
				if offset != 0 {
					t.Errorf("partition %d is committed up to %d", p, offset)
				}
			}
			for back := 0; back < 50; {
				messages, err := q.Poll(ctx)
				if session := (*kgo.ErrGroupSession)(nil); errors.As(err, &session) {
					continue // says that it was put out
				}
				if err != nil {
					t.Fatal(err)
				}
				back += len(messages)
				if err := q.Commit(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if stats := q.Stats(); stats.Missing != 0 {
				t.Errorf("stats: %+v", stats)
			}
		})
	}
}

// TestL2_OffsetsBeyondTheEndGoBack is a broker that lost the tail of its log and kept the offsets: new records take the lost ones'
// places, and must not be taken for committed.
func TestL2_OffsetsBeyondTheEndGoBack(t *testing.T) {
	_, cfg := broker(t)
	cfg.Partitions, cfg.Topic, cfg.Group = 2, "orders", "workers"
	ctx := kafkatest.Context(t)
	q := kafkatest.Open(t, cfg)
	kafkatest.Produce(t, q, 0, 10)
	kafkatest.Consume(t, q, 10)
	end, err := q.End(ctx)
	if err != nil {
		t.Fatal(err)
	}
	kafkatest.Close(t, q)
	beyond := make(kadm.Offsets)
	beyond.AddOffset(cfg.Topic, 0, end[0]+500, -1)
	if err := kafkatest.Admin(t, cfg).CommitAllOffsets(ctx, cfg.Group, beyond); err != nil {
		t.Fatal(err)
	}
	q = kafkatest.Open(t, cfg)
	committed, err := q.Committed(ctx)
	if err != nil || committed[0] != end[0] || committed[1] != end[1] {
		t.Errorf("committed %v, want %v, %v", committed, end, err)
	}
	if stats := q.Stats(); stats.DataLoss != 1 {
		t.Errorf("stats: %+v", stats)
	}
	kafkatest.Produce(t, q, 10, 600)
	if seen := kafkatest.Consume(t, q, 590); len(seen) != 590 {
		t.Errorf("%d records", len(seen))
	}
}

func TestEndThatMovesBackIsAnError(t *testing.T) {
	cluster, cfg := broker(t)
	cfg.Partitions = 1
	q := kafkatest.Open(t, cfg)
	kafkatest.Produce(t, q, 0, 10)
	cluster.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		req := kreq.(*kmsg.ListOffsetsRequest)
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, rt := range req.Topics {
			topic := kmsg.NewListOffsetsResponseTopic()
			topic.Topic = rt.Topic
			for _, rp := range rt.Partitions {
				partition := kmsg.NewListOffsetsResponseTopicPartition()
				partition.Partition, partition.Offset = rp.Partition, 9
				topic.Partitions = append(topic.Partitions, partition)
			}
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	if end, err := q.End(t.Context()); !errors.Is(err, kafka.ErrLost) {
		t.Errorf("End: %v, %v", end, err)
	}
	if end, err := q.End(t.Context()); err != nil || end[0] != 10 {
		t.Errorf("End: %v, %v", end, err)
	}
}

func TestOpenRefusesWeakTopics(t *testing.T) {
	_, cfg := broker(t)
	cfg.Topic = "weak"
	one := "1"
	weak := map[string]*string{"min.insync.replicas": &one}
	if _, err := kafkatest.Admin(t, cfg).CreateTopic(t.Context(), 1, 1, weak, cfg.Topic); err != nil {
		t.Fatal(err)
	}
	cfg.MinInSync = 2
	if _, err := kafka.Open(t.Context(), cfg); !errors.Is(err, kafka.ErrTopic) || !strings.Contains(err.Error(), "min.insync.replicas 1") {
		t.Errorf("Open: %v", err)
	}
}

func TestOpenMakesADurableTopic(t *testing.T) {
	network := new(kfake.VirtualNetwork)
	cluster, err := kfake.NewCluster(kfake.ListenFn(network.Listen), kfake.Ports(9092, 9093, 9094, 9095))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	cfg := kafka.Config{
		Brokers: cluster.ListenAddrs()[:1], Dial: network.DialContext, Topic: "orders", Partitions: 5, Retention: 48 * time.Hour,
	}
	kafkatest.Produce(t, kafkatest.Open(t, cfg), 0, 100)
	listed, err := kafkatest.Admin(t, cfg).ListTopics(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	partitions := listed["orders"].Partitions.Sorted()
	if len(partitions) != 5 || len(partitions[0].Replicas) != 3 {
		t.Errorf("the topic has %d partitions of %d replicas", len(partitions), len(partitions[0].Replicas))
	}
	configs, err := kafkatest.Admin(t, cfg).DescribeTopicConfigs(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, c := range configs[0].Configs {
		got[c.Key] = c.MaybeValue()
	}
	for key, want := range map[string]string{
		"min.insync.replicas": "2", "unclean.leader.election.enable": "false", "cleanup.policy": "delete", "retention.ms": "172800000",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}

func TestOpenWithoutBroker(t *testing.T) {
	refused := errors.New("refused by the test")
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, refused }
	cfg := kafka.Config{Brokers: []string{"nowhere:9092"}, Dial: dial}
	if _, err := kafka.Open(kafkatest.Context(t), cfg); !errors.Is(err, refused) || !strings.Contains(err.Error(), "nowhere:9092") {
		t.Errorf("Open: %v", err)
	}
}

func TestConfigValidate(t *testing.T) {
	good := kafka.Config{Brokers: []string{"localhost:9092"}}
	if err := good.Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	for _, test := range []struct {
		name   string
		change func(*kafka.Config)
	}{
		{"brokers", func(c *kafka.Config) { c.Brokers = nil }},
		{"empty broker", func(c *kafka.Config) { c.Brokers = []string{""} }},
		{"topic", func(c *kafka.Config) { c.Topic = strings.Repeat("x", 250) }},
		{"partitions", func(c *kafka.Config) { c.Partitions = -1 }},
		{"replication", func(c *kafka.Config) { c.Replication = -1 }},
		{"min in-sync", func(c *kafka.Config) { c.Replication, c.MinInSync = 2, 3 }},
		{"slots", func(c *kafka.Config) { c.Slots = -1 }},
		{"max record bytes", func(c *kafka.Config) { c.MaxRecordBytes = 1 << 30 }},
		{"max poll", func(c *kafka.Config) { c.MaxPoll = 1 << 20 }},
		{"retention", func(c *kafka.Config) { c.Retention = time.Second }},
		{"delivery timeout", func(c *kafka.Config) { c.DeliveryTimeout = time.Millisecond }},
		{"session timeout", func(c *kafka.Config) { c.SessionTimeout = time.Second }},
		{"rebalance timeout", func(c *kafka.Config) { c.RebalanceTimeout = 5 * time.Second }},
		{"trim every", func(c *kafka.Config) { c.TrimEvery = -1 }},
	} {
		cfg := good
		test.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), strings.Fields(test.name)[0]) {
			t.Errorf("%s: %v", test.name, err)
		}
		if _, err := kafka.Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened", test.name)
		}
	}
}

// TestPollDoesNotSpin polls a broker that only has errors; each poll pauses longer than the one before, up to a second.
func TestPollDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster, cfg := broker(t)
		defer cluster.Close()
		q, err := kafka.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer kafkatest.Close(t, q)
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: -1})
		for _, least := range []time.Duration{50, 100, 200, 400, 800, 1000, 1000} {
			start := time.Now()
			if _, err := q.Poll(t.Context()); !errors.Is(err, kerr.TopicAuthorizationFailed) {
				t.Fatalf("Poll: %v", err)
			}
			if took := time.Since(start); took < least*time.Millisecond {
				t.Errorf("Poll returned after %v, want at least %v", took, least*time.Millisecond)
			}
		}
	})
}
