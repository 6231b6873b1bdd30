package servers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Kafka returns the address of a broker that all tests of the binary share: names of topics and
// groups must be unique.
func Kafka(t testing.TB) string {
	t.Helper()
	return all.get(t, kindKafka).Addr
}

// NewKafka starts a broker for the test. args are added to its properties, as KEY=VALUE, and to its
// listeners, as PROTOCOL://HOST:PORT.
func NewKafka(t testing.TB, args ...string) *Server {
	t.Helper()
	return own(t, kindKafka, args)
}

// KafkaCluster starts n brokers of one cluster for the test. Each is also a controller. By default
// a topic has a replica on each of them. args are as in NewKafka.
func KafkaCluster(t testing.TB, n int, args ...string) []*Server {
	t.Helper()
	need(t, kindKafka)
	var voters []string
	for id := range n {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%s", id+1, FreePort(t)))
	}
	args = append(args, "controller.quorum.voters="+strings.Join(voters, ","),
		fmt.Sprint("offsets.topic.replication.factor=", n), fmt.Sprint("default.replication.factor=", n))
	brokers := make([]*Server, n)
	errs := make([]error, n)
	var starts sync.WaitGroup
	for i := range n { // none is ready before most of them run
		starts.Go(func() { brokers[i], errs[i] = start(kindKafka, append(slices.Clip(args), fmt.Sprint("node.id=", i+1))) })
	}
	starts.Wait()
	for _, b := range brokers {
		if b != nil {
			b.endWith(t)
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return brokers
}

// ScramUser gives a broker a user who logs in by SCRAM-SHA-256 and SCRAM-SHA-512.
func (s *Server) ScramUser(t testing.TB, user, password string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} { // one request may name a user once
		set := kadm.UpsertSCRAM{User: user, Mechanism: mechanism, Iterations: 4096, Password: password}
		altered, err := kadm.NewClient(client).AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{set})
		if err == nil {
			err = altered.Error()
		}
		if err != nil {
			t.Fatalf("make user %s: %v", user, err)
		}
	}
}

// askKafka asks for the cluster, in which a broker that is starting is not listed yet, and for the
// offsets of a group: the first time, the broker makes the topic that keeps them, and refuses until
// it is there.
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

// Record is a record of a topic.
type Record struct {
	Key, Value string
	Headers    map[string]string
}

// Records reads a topic from its start until enough returns true. The topic need not exist yet.
func (s *Server) Records(t testing.TB, topic string, enough func([]Record) bool) []Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addr), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(200*time.Millisecond), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var got []Record
	for !enough(got) {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("topic %s has not enough after %v: %v", topic, Patience, got)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			headers := make(map[string]string, len(r.Headers))
			for _, h := range r.Headers {
				headers[h.Key] = string(h.Value)
			}
			got = append(got, Record{string(r.Key), string(r.Value), headers})
		})
	}
	return got
}
