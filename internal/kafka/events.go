package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/penstock/penstock/seckill"
)

// EventsConfig configures the topics of announcements. A zero field means its default.
type EventsConfig struct {
	// StockTopic is the topic of stock status. It is compacted: the last record of an item is kept
	// for ever, so that a reader that begins at the start learns the status of every item. Default
	// "stock-status".
	StockTopic string
	// OrderTopic is the topic of the steps of orders. It keeps them for the Retention in Config.
	// Default "order-events".
	OrderTopic string
	// Source is the events' ce_source, a URI reference. Together with the id it names an event, so
	// two installations need different sources if one system reads the events of both. Default
	// "/penstock".
	Source string
}

func (c EventsConfig) withDefaults() EventsConfig {
	for _, f := range []struct {
		v   *string
		def string
	}{{&c.StockTopic, "stock-status"}, {&c.OrderTopic, "order-events"}, {&c.Source, "/penstock"}} {
		if *f.v == "" {
			*f.v = f.def
		}
	}
	return c
}

// Events is seckill.Announcer on Kafka: CloudEvents 1.0, by the Kafka protocol binding's binary
// mode. It has its own client, so that its requests and buffers never delay the sale's records.
type Events struct {
	// Fixed after NewEvents.
	cfg                      Config
	events                   EventsConfig
	client                   *kgo.Client
	admin                    *kadm.Client
	specs                    map[seckill.Stream]topicSpec
	version, source, content kgo.RecordHeader // headers that all records have

	mu    sync.Mutex
	ready map[seckill.Stream]bool // guarded by mu: topics that were found or made
}

var _ seckill.Announcer = (*Events)(nil)

// maxEvents bounds the events that wait for their acknowledgement (L8): with more, Announce waits.
const maxEvents = 10_000

// NewEvents returns a publisher for the brokers of cfg. From cfg it uses the connection settings,
// and Partitions, Replication, MinInSync and Retention for the topics. It doesn't connect before
// the first Announce, because a sale must not depend on its events.
func NewEvents(cfg Config, events EventsConfig) (*Events, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	cfg, events = cfg.withDefaults(), events.withDefaults()
	if events.StockTopic == events.OrderTopic || events.StockTopic == cfg.Topic || events.OrderTopic == cfg.Topic {
		return nil, fmt.Errorf("kafka: events need topics of their own, not %s, %s beside %s", events.StockTopic, events.OrderTopic, cfg.Topic)
	}
	client, err := kgo.NewClient(append(cfg.clientOptions(),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0), // the events of one Announce are a batch already
		kgo.MaxBufferedRecords(maxEvents),
		kgo.ProducerBatchMaxBytes(maxBatchBytes),
		kgo.ProduceRequestTimeout(cfg.RequestTimeout),
		kgo.RecordDeliveryTimeout(cfg.DeliveryTimeout),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // by key, as the Java client does
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: make a client for events: %w", err)
	}
	spec := func(name string, settings map[string]string) topicSpec {
		return topicSpec{
			name: name, partitions: cfg.Partitions, replication: cfg.Replication, minInSync: cfg.MinInSync, settings: settings,
		}
	}
	return &Events{
		cfg: cfg, events: events, client: client, admin: kadm.NewClient(client),
		specs: map[seckill.Stream]topicSpec{
			seckill.StreamStock: spec(events.StockTopic, map[string]string{"cleanup.policy": "compact"}),
			seckill.StreamOrders: spec(events.OrderTopic, map[string]string{
				"cleanup.policy": "delete", "retention.ms": retentionMS(cfg.Retention),
			}),
		},
		version: kgo.RecordHeader{Key: "ce_specversion", Value: []byte("1.0")},
		source:  kgo.RecordHeader{Key: "ce_source", Value: []byte(events.Source)},
		content: kgo.RecordHeader{Key: "content-type", Value: []byte("application/json")},
		ready:   make(map[seckill.Stream]bool),
	}, nil
}

// Announce implements seckill.Announcer.
func (e *Events) Announce(ctx context.Context, stream seckill.Stream, events []seckill.Announcement) error {
	spec, ok := e.specs[stream]
	if !ok {
		return fmt.Errorf("kafka: no topic for events of stream %d", stream)
	}
	if err := e.prepare(ctx, stream, spec); err != nil {
		return err
	}
	records := make([]*kgo.Record, len(events))
	var at time.Time
	var atText []byte
	for i := range events {
		if a := &events[i]; i == 0 || !a.Time.Equal(at) { // most events of a batch have the same time
			at, atText = a.Time, a.Time.UTC().AppendFormat(nil, time.RFC3339Nano)
		}
		records[i] = e.record(spec.name, &events[i], atText)
	}
	if err := e.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		switch {
		case errors.Is(err, kgo.ErrClientClosed):
			err = ErrClosed
		case errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.UnknownTopicOrPartition):
			e.forget(stream, spec.name)
		}
		return fmt.Errorf("kafka: announce %d events on %s: %w", len(events), spec.name, err)
	}
	return nil
}

// prepare finds or makes the stream's topic, once.
func (e *Events) prepare(ctx context.Context, stream seckill.Stream, spec topicSpec) error {
	e.mu.Lock()
	ready := e.ready[stream]
	e.mu.Unlock()
	if ready {
		return nil
	}
	topic, _, err := spec.findOrMake(ctx, e.admin)
	if err != nil {
		return err
	}
	settings, err := topicSettings(ctx, e.admin, spec.name)
	if err != nil {
		e.cfg.Logger.Warn("the configuration of an event topic can't be read", "topic", spec.name, "err", err)
	}
	for _, what := range unsafeSettings(topic, settings, spec.settings["cleanup.policy"]) {
		e.cfg.Logger.Warn("not for production", "what", what)
	}
	e.mu.Lock()
	e.ready[stream] = true
	e.mu.Unlock()
	return nil
}

// forget makes the next Announce look for the stream's topic again, because it was deleted or
// replaced.
func (e *Events) forget(stream seckill.Stream, topic string) {
	e.mu.Lock()
	delete(e.ready, stream)
	e.mu.Unlock()
	e.client.PurgeTopicsFromClient(topic)
}

// record is an event in binary mode: attributes are headers, the data is the value. at is its time
// as text.
func (e *Events) record(topic string, a *seckill.Announcement, at []byte) *kgo.Record {
	header := func(key, value string) kgo.RecordHeader { return kgo.RecordHeader{Key: key, Value: []byte(value)} }
	return &kgo.Record{
		Topic: topic, Key: []byte(a.Key), Value: a.Data,
		Headers: []kgo.RecordHeader{
			e.version,
			header("ce_id", a.ID),
			e.source,
			header("ce_type", a.Type),
			{Key: "ce_time", Value: at},
			header("ce_subject", a.Subject),
			e.content,
		},
	}
}

// Close waits for the events on their way, until ctx ends, and closes the client. An Announce in
// progress fails; the next relay announces its events again.
func (e *Events) Close(ctx context.Context) error {
	err := e.client.Flush(ctx)
	e.client.Close()
	if err != nil {
		return fmt.Errorf("kafka: close with events on their way: %w", err)
	}
	return nil
}
