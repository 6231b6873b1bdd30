package servers_test

import (
	"testing"

	"github.com/penstock/penstock/internal/proof/servers"
)

func TestKafka_IsStartedOnce(t *testing.T) {
	if first, second := servers.Kafka(t), servers.Kafka(t); first != second {
		t.Errorf("brokers at %s and %s", first, second)
	}
}
