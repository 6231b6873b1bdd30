package servers

import (
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Kafka returns the address of a broker that all tests of the binary share: topics and groups must have names of their own.
func Kafka(t testing.TB) string {
	t.Helper()
	return all.get(t, kindKafka).Addr
}

// NewKafka starts a broker for the test.
func NewKafka(t testing.TB) *Server {
	t.Helper()
	return own(t, kindKafka, nil)
}

// askKafka asks for the cluster, in which a broker that is starting is not listed yet.
func askKafka(ctx context.Context, addr string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer client.Close()
	cluster, err := kadm.NewClient(client).BrokerMetadata(ctx)
	if err == nil && (len(cluster.Brokers) == 0 || cluster.Controller < 0) {
		err = errors.New("the broker is not registered")
	}
	return err
}
