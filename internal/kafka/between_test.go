package kafka_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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
