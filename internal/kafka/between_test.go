package kafka_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/proof/kafkatest"
	"github.com/penstock/penstock/seckill"
)

// TestBetween_AClockThatIsAheadHidesNobody: where a topic has the producers' times, a record from
// the future doesn't end the range. The suite proves the other cases.
func TestBetween_AClockThatIsAheadHidesNobody(t *testing.T) {
	_, cfg := broker(t)
	cfg.Partitions = 1
	if _, err := kafkatest.Admin(t, cfg).CreateTopic(t.Context(), 1, 1, nil, "penstock-orders"); err != nil {
		t.Fatal(err)
	}
	books := new(kafkatest.Books)
	q := kafkatest.Open(t, cfg, books)
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.Dialer(cfg.Dial))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	now := time.Now().Truncate(time.Second)
	for n, at := range []time.Duration{-2 * time.Hour, 0, 24 * time.Hour, time.Second, time.Hour, -24 * time.Hour, 2 * time.Second} {
		record := &kgo.Record{Topic: "penstock-orders", Timestamp: now.Add(at), Value: kafkatest.Value(n)}
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	kafkatest.Consume(t, q, books, 7)
	seen := readBetween(t, q, seckill.Stretch{From: now, To: now.Add(time.Minute), Most: 2})
	if len(seen) != 3 || seen[0] != kafkatest.Key(1) || seen[1] != kafkatest.Key(3) || seen[2] != kafkatest.Key(6) {
		t.Errorf("read again: %q", seen)
	}
	lost := books.Now()[0]
	lost.Next += 10
	books.Set(lost) // the log has lost its tail
	if seen := readBetween(t, q, seckill.Stretch{From: now, To: now.Add(time.Minute), Most: 100}); len(seen) != 3 {
		t.Errorf("of a log without its tail: %q", seen)
	}
}

// readBetween reads a range, part by part.
func readBetween(t *testing.T, q *kafka.Queue, s seckill.Stretch) (keys []string) {
	t.Helper()
	for {
		messages, next, err := q.Between(kafkatest.Context(t), s)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			keys = append(keys, kafkatest.KeyOf(m))
		}
		if next == nil {
			return keys
		}
		s.After = *next
	}
}

// TestBetween_Refuses: what can't be read again is an error, and not an empty range.
func TestBetween_Refuses(t *testing.T) {
	cluster, cfg := broker(t)
	books := new(kafkatest.Books)
	q := kafkatest.Open(t, cfg, books)
	s := seckill.Stretch{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour), Most: 100}
	refused := func(name, want string) {
		t.Helper()
		if messages, next, err := q.Between(kafkatest.Context(t), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d messages, %v, %v", name, len(messages), next, err)
		}
	}
	fault := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "penstock-orders", Partitions: []int32{1}, Count: -1, Err: kerr.UnsupportedForMessageFormat,
	})
	refused("a partition that can't be asked", "partition 1")
	fault.Remove()
	at := books.Now()[2]
	other := at
	other.Topic = seckill.TopicID{1}
	books.Set(other)
	refused("a position of another topic", "another topic of this name")
	books.Set(at)
	if err := books.AddPartitions(t.Context(), at.Topic, 4); err != nil {
		t.Fatal(err)
	}
	refused("a partition that the topic doesn't have", "no partition 3")

	away := kafka.Config{Brokers: []string{"nowhere:9092"}}
	away.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused by the test") }
	q = kafkatest.Open(t, away, books)
	refused("a topic that isn't known yet", "isn't known yet")
}
