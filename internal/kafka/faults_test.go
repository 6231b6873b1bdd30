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

// tryTooLarge has a broker that takes smaller records than others do. The record is refused, and
// its partition is as well as before. Of the other codes of the table, those of a topic that is
// gone are tried by the suite; the rest needs several brokers, and is tried below.
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

// What the client retries by itself ends as a success, or with the record's time: then the outcome
// is unknown, whatever the last code was. What it doesn't retry is told as it is.
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
