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

// askKafka asks for the cluster, in which a broker that is starting is not listed yet, and for the offsets of a group: the
// first time, the broker makes the topic that keeps them, and refuses until it is there.
func askKafka(ctx context.Context, addr string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	cluster, err := admin.BrokerMetadata(ctx)
	switch {
	case err != nil:
		return err
	case len(cluster.Brokers) == 0 || cluster.Controller < 0:
		return errors.New("the broker is not registered")
	}
	offsets, err := admin.FetchOffsets(ctx, "penstock-servers")
	return errors.Join(err, offsets.Error())
}
