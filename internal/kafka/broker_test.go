package kafka_test

import (
	"testing"

	"penstock/internal/kafka"
	"penstock/internal/proof/kafkatest"
	"penstock/internal/proof/servers"
)

// TestBroker runs the suite on an Apache Kafka broker.
func TestBroker(t *testing.T) {
	broker := servers.NewKafka(t)
	kafkatest.Exercise(t, kafka.Config{Brokers: []string{broker.Addr}, Replication: 1})
	t.Run("TooLarge", func(t *testing.T) { tryTooLarge(t, broker.Addr) })
}
