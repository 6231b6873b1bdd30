package kafka_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"penstock/internal/kafka"
	"penstock/internal/proof/kafkatest"
)

// broker starts a broker in memory that nobody else can reach.
func broker(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, kafka.Config) {
	t.Helper()
	network := new(kfake.VirtualNetwork)
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.ListenFn(network.Listen), kfake.Ports(9092)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster, kafka.Config{Brokers: cluster.ListenAddrs(), Dial: network.DialContext}
}

func TestConformance(t *testing.T) {
	_, cfg := broker(t)
	kafkatest.Exercise(t, cfg)
}
