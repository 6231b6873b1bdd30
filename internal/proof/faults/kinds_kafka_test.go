package faults

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// topic is the topic of the orders.
const topic = "penstock-orders"

// kafkaKinds harm a single broker. Without it nothing is promised, and nothing new becomes an
// order.
func kafkaKinds() []*kind {
	away := []string{purchases, rows}
	all := []*kind{
		{name: "kafka-kill", what: "kill -9 of the broker, started again after 3 s", on: "single", may: away,
			harm: func(f *fault) { f.during(3*time.Second, f.s.kafka[0].Kill, f.s.kafka[0].Start) }},
		{name: "kafka-stop", what: "SIGSTOP of the broker for 12 s, twice the group's session", on: "single", may: away,
			harm: func(f *fault) { f.during(12*time.Second, f.s.kafka[0].Pause, f.s.kafka[0].Resume) }},
		{name: "kafka-disk-full", what: "one of the broker's two disks is full for 8 s: half of the partitions have no leader until it is restarted",
			on: "single", harm: func(f *fault) {
				if f.s.logs == nil {
					f.Skip("needs a mount")
				}
				f.during(8*time.Second, f.s.logs.fill, func() {
					f.s.logs.free()
					f.s.kafka[0].Restart()
				})
			}},
		{name: "topic-trimmed", what: "all records of the topic are deleted, read or not", on: "single", excuse: excuse{lostLog: true},
			harm: func(f *fault) { f.during(0, func() { trimTopic(f, f.s) }, func() {}) }},
		{name: "topic-tail-lost", what: "the broker is killed, and each partition loses the last fifth of its log", on: "single", may: away,
			excuse: excuse{lostLog: true}, harm: func(f *fault) {
				f.during(0, func() {
					f.s.kafka[0].Kill()
					cutTails(f, f.s)
				}, f.s.kafka[0].Start)
			}},
		{name: "topic-anew", what: "the topic is deleted, and made anew", on: "single", may: away, excuse: excuse{lostLog: true},
			harm: func(f *fault) { f.during(0, func() { deleteTopic(f, f.s) }, func() {}) }},
	}
	return append(all, proxied("kafka", func(s *site) *proxy { return s.toKafka }, 250*time.Millisecond, purchases, rows)...)
}

// trimTopic deletes what the topic has.
func trimTopic(t testing.TB, s *site) {
	t.Helper()
	admin := s.brokers(t)
	defer admin.Close()
	ends, err := admin.ListEndOffsets(t.Context(), topic)
	no(t, "read the topic's ends", err)
	deleted, err := admin.DeleteRecords(t.Context(), ends.Offsets())
	no(t, "delete records", errors.Join(err, deleted.Error()))
}

// deleteTopic deletes the topic.
func deleteTopic(t testing.TB, s *site) {
	t.Helper()
	admin := s.brokers(t)
	defer admin.Close()
	deleted, err := admin.DeleteTopics(t.Context(), topic)
	no(t, "delete the topic", errors.Join(err, deleted.Error()))
}

// cutTails shortens the logs of a broker that is stopped.
func cutTails(t testing.TB, s *site) {
	t.Helper()
	roots := []string{filepath.Join(s.kafka[0].Data(), "log")}
	if s.logs != nil {
		roots = []string{s.mainLog, filepath.Join(s.logs.dir, "log")}
	}
	cut := 0
	for _, root := range roots {
		segments, err := filepath.Glob(filepath.Join(root, topic+"-[0-9]*", "*.log"))
		no(t, "find segments", err)
		for _, segment := range segments {
			info, err := os.Stat(segment)
			no(t, "look at a segment", err)
			if info.Size() > 0 {
				no(t, "cut a segment", os.Truncate(segment, info.Size()*4/5))
				cut++
			}
		}
	}
	if cut == 0 {
		t.Fatalf("no segment in %v", roots)
	}
}

// brokerKinds harm some of three brokers.
func brokerKinds() []*kind {
	return []*kind{
		{name: "broker-kill", what: "kill -9 of one of three brokers, started again after 12 s", on: "replicated",
			harm: func(f *fault) { f.during(12*time.Second, f.s.kafka[0].Kill, f.s.kafka[0].Start) }},
		{name: "broker-stop", what: "SIGSTOP of one of three brokers for 14 s", on: "replicated",
			harm: func(f *fault) { f.during(14*time.Second, f.s.kafka[1].Pause, f.s.kafka[1].Resume) }},
		{name: "partition-below-min-isr", what: "a partition has two replicas, and one is killed for 12 s: NOT_ENOUGH_REPLICAS", on: "replicated",
			harm: func(f *fault) {
				assign(f, f.s, 3, []int32{1, 3})
				f.during(12*time.Second, f.s.kafka[2].Kill, f.s.kafka[2].Start)
				assign(f, f.s, 3, []int32{1, 2, 3})
			}},
		{name: "brokers-two-out", what: "kill -9 of two of three brokers, started again after 8 s", on: "replicated", may: []string{purchases, rows},
			harm: func(f *fault) {
				f.during(8*time.Second, func() {
					f.s.kafka[1].Kill()
					f.s.kafka[2].Kill()
				}, func() {
					var starts sync.WaitGroup // neither is ready without the other
					starts.Go(f.s.kafka[1].Start)
					starts.Go(f.s.kafka[2].Start)
					starts.Wait()
				})
			}},
	}
}

// assign moves a partition of the topic to brokers, and returns when they have it.
func assign(t testing.TB, s *site, partition int32, brokers []int32) {
	t.Helper()
	admin := s.brokers(t)
	defer admin.Close()
	var request kadm.AlterPartitionAssignmentsReq
	request.Assign(topic, partition, brokers)
	altered, err := admin.AlterPartitionAssignments(t.Context(), request)
	no(t, "assign a partition", errors.Join(err, altered.Error()))
	eventually(t, "the partition is where it should be", func() bool {
		topics, err := admin.ListTopics(t.Context(), topic)
		if err != nil || topics[topic].Err != nil && !errors.Is(topics[topic].Err, kerr.LeaderNotAvailable) {
			return false
		}
		p := topics[topic].Partitions[partition]
		slices.Sort(p.Replicas)
		slices.Sort(p.ISR)
		return slices.Equal(p.Replicas, brokers) && slices.Equal(p.ISR, brokers)
	})
}
