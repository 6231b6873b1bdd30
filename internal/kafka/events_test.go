package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/proof/kafkatest"
	"github.com/penstock/penstock/seckill"
)

// reader is a client that reads topics from their start, as another system would.
func reader(t *testing.T, cfg kafka.Config, topics ...string) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.Dialer(cfg.Dial), kgo.ConsumeTopics(topics...),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond),
		kgo.MetadataMinAge(10*time.Millisecond), kgo.MetadataMaxAge(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func newEvents(t *testing.T, cfg kafka.Config, events kafka.EventsConfig) *kafka.Events {
	t.Helper()
	e, err := kafka.NewEvents(cfg, events)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return e
}

var paid = seckill.Announcement{
	ID: "o1.paid", Type: "penstock.order.paid.v1", Subject: "o1", Time: time.Date(2026, 6, 18, 8, 0, 0, 5e6, time.FixedZone("", 8*3600)),
	Key: "o1", Data: []byte(`{"order":"o1"}`),
}

// TestEventsAreCloudEvents pins the binary mode of the Kafka protocol binding.
func TestEventsAreCloudEvents(t *testing.T) {
	_, cfg := broker(t)
	e := newEvents(t, cfg, kafka.EventsConfig{OrderTopic: "steps", Source: "/shops/7"})
	if err := e.Announce(t.Context(), seckill.StreamOrders, []seckill.Announcement{paid}); err != nil {
		t.Fatal(err)
	}
	fetches := reader(t, cfg, "steps").PollRecords(t.Context(), 1)
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	record := fetches.Records()[0]
	if string(record.Key) != "o1" || string(record.Value) != `{"order":"o1"}` {
		t.Errorf("record %s: %s", record.Key, record.Value)
	}
	want := [][2]string{
		{"ce_specversion", "1.0"}, {"ce_id", "o1.paid"}, {"ce_source", "/shops/7"}, {"ce_type", "penstock.order.paid.v1"},
		{"ce_time", "2026-06-18T00:00:00.005Z"}, {"ce_subject", "o1"}, {"content-type", "application/json"},
	}
	if len(record.Headers) != len(want) {
		t.Fatalf("headers %v", record.Headers)
	}
	for i, h := range record.Headers {
		if h.Key != want[i][0] || string(h.Value) != want[i][1] {
			t.Errorf("header %s: %s, want %v", h.Key, h.Value, want[i])
		}
	}
}

// TestEventTopics checks the topics that were made: as durable as the cluster allows, and the
// stock's topic is compacted.
func TestEventTopics(t *testing.T) {
	_, cfg := broker(t, kfake.Ports(9092, 9093, 9094))
	cfg.Partitions, cfg.Retention = 4, 48*time.Hour
	e := newEvents(t, cfg, kafka.EventsConfig{})
	for _, stream := range []seckill.Stream{seckill.StreamStock, seckill.StreamOrders} {
		if err := e.Announce(t.Context(), stream, []seckill.Announcement{paid}); err != nil {
			t.Fatal(err)
		}
	}
	admin := kadm.NewClient(reader(t, cfg))
	topics, err := admin.ListTopics(t.Context(), "stock-status", "order-events")
	if err != nil {
		t.Fatal(err)
	}
	configs, err := admin.DescribeTopicConfigs(t.Context(), "stock-status", "order-events")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]map[string]string{
		"stock-status": {"cleanup.policy": "compact"},
		"order-events": {"cleanup.policy": "delete", "retention.ms": "172800000"},
	} {
		want["min.insync.replicas"], want["unclean.leader.election.enable"] = "2", "false"
		if got := topics[name].Partitions; len(got) != 4 || len(got[0].Replicas) != 3 {
			t.Errorf("%s: partitions %v", name, got)
		}
		config, err := configs.On(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range config.Configs {
			if v, checked := want[c.Key]; checked && c.MaybeValue() != v {
				t.Errorf("%s: %s is %s, want %s", name, c.Key, c.MaybeValue(), v)
			}
		}
	}
}

// TestEventsSurviveTheirTopic goes on when the topic was deleted and made again.
func TestEventsSurviveTheirTopic(t *testing.T) {
	_, cfg := broker(t)
	e := newEvents(t, cfg, kafka.EventsConfig{})
	announce := func() error { return e.Announce(t.Context(), seckill.StreamOrders, []seckill.Announcement{paid}) }
	if err := announce(); err != nil {
		t.Fatal(err)
	}
	if _, err := kadm.NewClient(reader(t, cfg)).DeleteTopics(t.Context(), "order-events"); err != nil {
		t.Fatal(err)
	}
	err := announce() // it gets the error, and learns of it that way
	for err != nil && t.Context().Err() == nil {
		err = announce()
	}
	if n := reader(t, cfg, "order-events").PollRecords(t.Context(), 1).NumRecords(); n != 1 {
		t.Errorf("%d records in the new topic", n)
	}
}

func TestEventsRefuse(t *testing.T) {
	_, cfg := broker(t)
	for _, events := range []kafka.EventsConfig{
		{StockTopic: "same", OrderTopic: "same"}, {StockTopic: "penstock-orders"}, {OrderTopic: "penstock-orders"},
	} {
		if _, err := kafka.NewEvents(cfg, events); err == nil || !strings.Contains(err.Error(), "topics of their own") {
			t.Errorf("%+v: %v", events, err)
		}
	}
	if _, err := kafka.NewEvents(kafka.Config{}, kafka.EventsConfig{}); err == nil {
		t.Error("events without brokers")
	}
	e := newEvents(t, cfg, kafka.EventsConfig{})
	if err := e.Announce(t.Context(), 0, nil); err == nil {
		t.Error("announced in no stream")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Announce(ended, seckill.StreamStock, []seckill.Announcement{paid}); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

// TestUnsafe names what a topic lacks for production.
func TestUnsafe(t *testing.T) {
	f := func(brokers int, settings map[string]string, want ...string) {
		t.Helper()
		var log bytes.Buffer
		_, cfg := broker(t, kfake.Ports([]int{9092, 9093, 9094}[:brokers]...))
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		if settings != nil {
			values := make(map[string]*string)
			for k, v := range settings {
				values[k] = &v
			}
			if _, err := kadm.NewClient(reader(t, cfg)).CreateTopic(t.Context(), 1, int16(brokers), values, "penstock-orders"); err != nil {
				t.Fatal(err)
			}
		}
		q, err := kafka.Open(t.Context(), cfg, new(kafkatest.Books))
		if err != nil {
			t.Fatal(err)
		}
		got := q.Unsafe()
		if err := q.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if len(got) != len(want) {
			t.Fatalf("unsafe: %q, want %q", got, want)
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("unsafe: %q, want %q", got[i], want[i])
			}
		}
	}
	f(3, nil)
	f(1, nil, "1 of 3 replicas", "min.insync.replicas is 1")
	f(3, map[string]string{
		"min.insync.replicas": "2", "unclean.leader.election.enable": "true", "cleanup.policy": "compact,delete", "retention.ms": "3600000",
	}, "unclean.leader.election.enable is true", "message.timestamp.type is CreateTime", "cleanup.policy is compact,delete", "retention.ms is 1h0m0s")
}
