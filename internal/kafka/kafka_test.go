package kafka_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/proof/kafkatest"
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
	return cluster, kafka.Config{
		Brokers: cluster.ListenAddrs(), Dial: network.DialContext, Worker: true, Partitions: 3,
	}
}

func TestConformance(t *testing.T) {
	_, cfg := broker(t)
	kafkatest.Exercise(t, cfg)
}

// answers counts the calls of Put's done, per record.
type answers struct {
	calls  []atomic.Int32
	acked  atomic.Int64
	failed atomic.Int64
	all    chan struct{} // closed when as many calls were made as there are records
	left   atomic.Int64
}

func newAnswers(n int) *answers {
	a := &answers{calls: make([]atomic.Int32, n), all: make(chan struct{})}
	a.left.Store(int64(n))
	return a
}

func (a *answers) done(n int) func(error) {
	return func(err error) {
		a.calls[n].Add(1)
		if err == nil {
			a.acked.Add(1)
		} else {
			a.failed.Add(1)
		}
		if a.left.Add(-1) == 0 {
			close(a.all)
		}
	}
}

// check waits for the last answer, and looks for records that were answered more than once.
func (a *answers) check(t *testing.T) {
	t.Helper()
	select {
	case <-a.all:
	case <-kafkatest.Context(t).Done():
		t.Fatalf("%d of %d records were not answered", a.left.Load(), len(a.calls))
	}
	for n := range a.calls {
		if times := a.calls[n].Load(); times != 1 {
			t.Errorf("record %d was answered %d times", n, times)
		}
	}
}

// waitFor waits until the counters are as they should be.
func waitFor(t *testing.T, q *kafka.Queue, ok func(kafka.Stats) bool) {
	t.Helper()
	kafkatest.Until(t, func() bool { return ok(q.Stats()) }, func() any { return q.Stats() })
}

func idle(s kafka.Stats) bool { return s.Reserved == 0 && s.InFlight == 0 && s.Bytes == 0 }

// waitForHealth waits until a partition has the expected health.
func waitForHealth(t *testing.T, q *kafka.Queue, partition int, health string) {
	t.Helper()
	kafkatest.Until(t, func() bool { return q.Partitions()[partition].Health == health }, func() any { return q.Partitions() })
}

// produces reports whether a request puts records into one of partitions; all of them if there are
// none.
func produces(kreq kmsg.Request, partitions ...int32) bool {
	for _, topic := range kreq.(*kmsg.ProduceRequest).Topics {
		for _, p := range topic.Partitions {
			for _, want := range partitions {
				if p.Partition == want {
					return true
				}
			}
		}
	}
	return len(partitions) == 0
}

// stall delays the answers to produce requests for partitions, and all later answers on the same
// connection, until release is called. held gets a value for each. A broker does this while its
// replicas don't answer.
func stall(cluster *kfake.Cluster, partitions ...int32) (held <-chan struct{}, release func()) {
	requests, gate := make(chan struct{}, 10_000), make(chan struct{})
	cluster.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		if produces(kreq, partitions...) {
			requests <- struct{}{}
			cluster.SleepControl(func() { <-gate })
		}
		return nil, nil, false
	})
	return requests, sync.OnceFunc(func() { close(gate) })
}

// leaderless removes the leader of partitions from every metadata response, and refuses records for
// them, until elect is called.
func leaderless(cluster *kfake.Cluster, partitions ...int32) (elect func()) {
	fault := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets}, Topic: "penstock-orders", Partitions: partitions, Count: -1,
		Err: kerr.NotLeaderForPartition,
	}, kfake.Fault{
		Keys: []kmsg.Key{kmsg.Metadata}, Topic: "penstock-orders", Partitions: partitions, Count: -1, Err: kerr.LeaderNotAvailable,
	})
	return fault.Remove
}
