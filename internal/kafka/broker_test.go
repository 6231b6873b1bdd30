package kafka_test

import (
	"testing"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/proof/kafkatest"
	"github.com/penstock/penstock/internal/proof/servers"
)

// TestBroker runs the suite on an Apache Kafka broker.
func TestBroker(t *testing.T) {
	broker := servers.NewKafka(t)
	kafkatest.Exercise(t, kafka.Config{Brokers: []string{broker.Addr}, Replication: 1})
	t.Run("TooLarge", func(t *testing.T) { tryTooLarge(t, broker.Addr) })
}
