package kafka_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/proof/kafkatest"
)

// tryTooLarge uses a broker with a small limit for records. The record is refused, and its
// partition stays healthy. The suite tries the codes of a deleted topic. The remaining codes need
// several brokers, and are tried below.
func tryTooLarge(t *testing.T, addr string) {
	cfg := kafka.Config{Brokers: []string{addr}, Replication: 1, Partitions: 1, Topic: "too-large", Worker: true}
	q := kafkatest.Open(t, cfg, new(kafkatest.Books))
	kafkatest.Produce(t, q, 0, 3)
	limit := func(value string) {
		t.Helper()
		altered, err := kafkatest.Admin(t, cfg).AlterTopicConfigs(t.Context(),
			[]kadm.AlterConfig{{Name: "max.message.bytes", Value: &value}}, cfg.Topic)
		if err == nil {
			err = altered[0].Err
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	next, last := 3, error(nil)
	put := func() error {
		got := make(chan error, 1)
		kafkatest.Put(q, next, func(err error) { got <- err })
		next++
		last = <-got
		return last
	}
	why := func() any { return last }
	limit("100")
	kafkatest.Until(t, func() bool { return put() != nil }, why) // the broker takes a moment to know it
	if got := kafka.Classify(last); got != kafka.ClassRefused {
		t.Errorf("%v is %v", last, got)
	}
	if state := q.Partitions()[0]; state.Health != "well" {
		t.Errorf("state: %+v", state)
	}
	limit("1000000")
	kafkatest.Until(t, func() bool { return put() == nil }, why)
}

// A code that the client retries ends in success, or when the record's time is over. Then the
// outcome is unknown, whatever the last code was. A code that it doesn't retry is reported as it
// is.
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
