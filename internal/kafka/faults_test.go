package kafka_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"penstock/internal/kafka"
	"penstock/internal/proof/kafkatest"
)

// onBroker is a queue on a topic of its own of a real broker, whose configuration the test changes.
type onBroker struct {
	t    *testing.T
	cfg  kafka.Config
	q    *kafka.Queue
	next int
	last error // of the last put
}

func newOnBroker(t *testing.T, addr, topic string) *onBroker {
	t.Helper()
	cfg := kafka.Config{
		Brokers: []string{addr}, Replication: 1, Partitions: 1, Topic: topic, Worker: true,
		StallAfter: 200 * time.Millisecond, DeliveryTimeout: 2 * time.Second,
	}
	return &onBroker{t: t, cfg: cfg, q: kafkatest.Open(t, cfg, new(kafkatest.Books))}
}

// set changes a setting of the topic. The broker takes a moment to know it.
func (b *onBroker) set(name, value string) {
	b.t.Helper()
	altered, err := kafkatest.Admin(b.t, b.cfg).AlterTopicConfigs(b.t.Context(), []kadm.AlterConfig{{Name: name, Value: &value}}, b.cfg.Topic)
	if err == nil {
		err = altered[0].Err
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// put puts a record and returns what became of it.
func (b *onBroker) put() error {
	got := make(chan error, 1)
	kafkatest.Put(b.q, b.next, func(err error) { got <- err })
	b.next++
	b.last = <-got
	return b.last
}

// says waits until the broker answers a record of that length with a code. The client that asks does
// not try again, as the queue's does.
func (b *onBroker) says(code *kerr.Error, length int) {
	b.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.cfg.Brokers...), kgo.DefaultProduceTopic(b.cfg.Topic), kgo.DisableIdempotentWrite(),
		kgo.RecordRetries(0), kgo.ProducerBatchMaxBytes(4<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close()
	var last error
	kafkatest.Until(b.t, func() bool {
		last = client.ProduceSync(b.t.Context(), kgo.SliceRecord(make([]byte, length))).FirstErr()
		return errors.Is(last, code)
	}, func() any { return fmt.Sprintf("want %v, got %v", code, last) })
}

// wants checks what the last put's error means, and waits for the partition's health.
func (b *onBroker) wants(class kafka.Class, health string) {
	b.t.Helper()
	if got := kafka.Classify(b.last); got != class {
		b.t.Errorf("%v is %v, want %v", b.last, got, class)
	}
	kafkatest.Until(b.t, func() bool { return b.q.Partitions()[0].Health == health }, func() any { return b.q.Partitions() })
}

// recovers waits until a record is taken again.
func (b *onBroker) recovers() {
	b.t.Helper()
	kafkatest.Until(b.t, func() bool { return b.put() == nil }, func() any { return b.last })
	b.wants(kafka.ClassNone, "well")
}

// tryTooLarge has a broker that takes smaller records than others do. The record is refused, and its
// partition is as well as before.
func tryTooLarge(t *testing.T, addr string) {
	b := newOnBroker(t, addr, "too-large")
	kafkatest.Produce(t, b.q, 0, 3)
	b.set("max.message.bytes", "100")
	b.says(kerr.MessageTooLarge, 1_000)
	if b.put() == nil {
		t.Error("the queue's record was taken")
	}
	b.wants(kafka.ClassRefused, "well")
	b.set("max.message.bytes", "4000000")
	b.set("segment.bytes", "1048576") // the least that a broker takes: no page is as large
	b.says(kerr.RecordListTooLarge, 2<<20)
	if class := kafka.Classify(kerr.RecordListTooLarge); class != kafka.ClassRefused {
		t.Errorf("%v is %v", kerr.RecordListTooLarge, class)
	}
	b.recovers()
}

// tryTooFewReplicas has a partition with fewer replicas in sync than acknowledgements must stand for.
// The client tries again until the record's time is up, so the outcome is unknown, and the partition is
// at fault until it has its replicas.
func tryTooFewReplicas(t *testing.T, addr string) {
	b := newOnBroker(t, addr, "too-few-replicas")
	kafkatest.Produce(t, b.q, 0, 3)
	b.set("min.insync.replicas", "2")
	b.says(kerr.NotEnoughReplicas, 100)
	if class := kafka.Classify(kerr.NotEnoughReplicas); class != kafka.ClassFailure {
		t.Errorf("%v is %v", kerr.NotEnoughReplicas, class)
	}
	if err := b.put(); !errors.Is(err, kafka.ErrTimeout) {
		t.Errorf("the queue's record: %v", err)
	}
	b.wants(kafka.ClassUnknown, "down")
	b.set("min.insync.replicas", "1")
	b.recovers()
}

// What the client retries by itself ends as a success, or with the record's time: then the outcome is
// unknown, whatever the last code was. What it doesn't retry is told as it is.
func TestClassify_WhatBrokersSay(t *testing.T) {
	for code, want := range map[*kerr.Error]kafka.Class{
		kerr.NotEnoughReplicas:            kafka.ClassNone,
		kerr.NotEnoughReplicasAfterAppend: kafka.ClassNone,
		kerr.NotLeaderForPartition:        kafka.ClassNone,
		kerr.RequestTimedOut:              kafka.ClassNone,
		kerr.KafkaStorageError:            kafka.ClassNone,
		kerr.MessageTooLarge:              kafka.ClassRefused,
		kerr.InvalidRecord:                kafka.ClassRefused,
		kerr.TopicAuthorizationFailed:     kafka.ClassFailure,
		kerr.PolicyViolation:              kafka.ClassFailure,
	} {
		t.Run(code.Message, func(t *testing.T) {
			cluster, cfg := broker(t)
			q := kafkatest.Open(t, cfg, new(kafkatest.Books))
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: code})
			got := make(chan error, 1)
			kafkatest.Put(q, 0, func(err error) { got <- err })
			err := <-got
			if class := kafka.Classify(err); class != want {
				t.Errorf("%v is %v, want %v", err, class, want)
			}
			kafkatest.Until(t, func() bool {
				again := make(chan error, 1)
				kafkatest.Put(q, 1, func(err error) { again <- err })
				return <-again == nil
			}, func() any { return q.Partitions() })
		})
	}
}
