package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Config configures the brokers, the topic and the limits of the queue. The zero value of each
// field but Brokers means its default.
type Config struct {
	// Brokers are seeds, host:port; the rest of the cluster is learnt from them.
	Brokers []string
	// Topic is the topic of the pages. Default "penstock-orders".
	Topic string
	// Group is the workers' consumer group. Default "penstock-workers".
	Group string

	// Worker means that this process polls. It registers the topic's partitions in the database.
	Worker bool
	// KnownPartitions is how many partitions a gateway may use before it has read the database: the
	// number of its last run. Default 0: none.
	KnownPartitions int

	// Partitions is how many partitions a topic gets that a worker makes; an existing one keeps its
	// own. It bounds how many workers share the load. Default 12: one worker writes some ten
	// thousand orders a second, so twelve outrun any database behind them, and twelve divides by
	// two, three, four and six. More would only make batches smaller.
	Partitions int
	// Replication is how many replicas a topic gets that is made by Open. Default three, or as many
	// as there are brokers.
	Replication int
	// MinInSync is how many replicas must have a record before it is acknowledged. A topic that
	// asks for fewer is refused: one replica's disk is not a promise. Default 2 where the topic has
	// three or more replicas, else 1.
	MinInSync int
	// Retention is how long a topic made by Open keeps its records. It must outlast the longest
	// time without workers: an older record is gone, and with it its orders. KeepForever leaves
	// deleting to Trim. Default seven days.
	Retention time.Duration

	// Slots bounds the promises that wait for their acknowledgement (L8); Reserve refuses beyond.
	// Default 32,768: a third of a second of the fastest producer measured.
	Slots int
	// BufferBytes bounds the bytes of the records that wait for their acknowledgement (L8); Reserve
	// refuses from there on. Slots that are reserved by then may still be used. Default 32 MiB.
	BufferBytes int
	// MaxRecordBytes is the largest value that Put takes. Default 320 KiB: a page of seckill has at
	// most some 290 KB, and brokers take 1 MB.
	MaxRecordBytes int
	// MaxPoll is the most records that Poll returns. Default 1,024.
	MaxPoll int
	// MaxPollBytes is how many bytes of records make a haul full. One record is always returned,
	// and up to seven may lie above it. Default 512 KiB: some 4,096 promises, whose statement takes
	// the database tens of milliseconds, so that its fixed costs have long been shared.
	MaxPollBytes int

	// DeliveryTimeout is the longest that a record waits for its acknowledgement before it fails.
	// Default 10 s: five times the accept deadline, when no purchase waits any more.
	DeliveryTimeout time.Duration
	// StallAfter is how long a record may wait for its acknowledgement before its partition counts
	// as slow, and others are used where there are any that aren't. After four times as long the
	// partition counts as down. Default 500 ms: a hundred times what a healthy broker takes, a
	// quarter of the accept deadline.
	StallAfter time.Duration
	// DialTimeout bounds the making of a connection. Default 3 s.
	DialTimeout time.Duration
	// RequestTimeout bounds each attempt of a request, and how long the broker may wait for
	// replicas. Default 5 s.
	RequestTimeout time.Duration
	// SessionTimeout is how long a silent worker keeps its partitions. Default 6 s, the least that
	// brokers allow: a shard that was lost opens again only when a killed worker's records were
	// processed. A pause that is longer costs a rebalance.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long the group waits for a member to join a rebalance. Default 30 s.
	RebalanceTimeout time.Duration
	// LookEvery is how often the books and the topic are looked at while all is well. Default 10 s.
	LookEvery time.Duration
	// TrimEvery is how often records below the positions in the books are deleted from the log, see
	// Trim. Default 0: never, the broker's retention does it. The embedded broker has no safe
	// retention of its own and needs it.
	TrimEvery time.Duration

	// Claim, if set, is asked at every look whether the cluster with this id is the installation's.
	// seckill.ErrForeign says no; other errors keep a worker from the topic until they are over.
	// adopt takes whatever topic is there, until a worker has registered it. Without it a topic is
	// refused that has records and is not in the books: they are another installation's. Without
	// Claim nobody asks.
	Claim func(ctx context.Context, cluster string) (adopt bool, err error)
	// OnForeign is called with such a refusal after Open; Open itself returns it. nil: no call.
	OnForeign func(err error)

	// TLS, if set, is used for every connection. An empty ServerName is the host of each broker's
	// advertised address.
	TLS *tls.Config
	// SASL logs in to the brokers. The zero value doesn't.
	SASL SASL
	// Dial, if set, makes the connections. It is how the embedded brokers are reached. It excludes
	// TLS.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Logger is for the client's log, at the client's levels, except that information is logged at
	// debug level. Default: none.
	Logger *slog.Logger
}

// KeepForever is the Retention of records that only Trim deletes.
const KeepForever time.Duration = -1

// withDefaults returns c with every zero value replaced, but Replication and MinInSync: they depend
// on the cluster.
func (c Config) withDefaults() Config {
	text := func(v *string, def string) {
		if *v == "" {
			*v = def
		}
	}
	number := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	span := func(v *time.Duration, def time.Duration) {
		if *v == 0 {
			*v = def
		}
	}
	text(&c.Topic, "penstock-orders")
	text(&c.Group, "penstock-workers")
	number(&c.Partitions, 12)
	span(&c.Retention, 7*24*time.Hour)
	number(&c.Slots, 32_768)
	number(&c.BufferBytes, 32<<20)
	number(&c.MaxRecordBytes, 320<<10)
	number(&c.MaxPoll, 1_024)
	number(&c.MaxPollBytes, 512<<10)
	span(&c.DeliveryTimeout, 10*time.Second)
	span(&c.StallAfter, 500*time.Millisecond)
	span(&c.DialTimeout, 3*time.Second)
	span(&c.RequestTimeout, 5*time.Second)
	span(&c.SessionTimeout, 6*time.Second)
	span(&c.RebalanceTimeout, 30*time.Second)
	span(&c.LookEvery, 10*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate returns all mistakes in c.
func (c Config) Validate() error {
	d := c.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(len(d.Brokers) > 0, "no brokers")
	for _, b := range d.Brokers {
		check(b != "", "an empty broker address")
	}
	check(len(d.Topic) <= 249, "topic has %d characters, at most 249 are allowed", len(d.Topic))
	check(d.Replication == 0 || d.MinInSync <= d.Replication, "min in-sync is %d, more than replication %d",
		d.MinInSync, d.Replication)
	for _, n := range []struct {
		name            string
		value, low, top int
	}{
		{"partitions", d.Partitions, 1, 1 << 15},
		{"known partitions", d.KnownPartitions, 0, 1 << 15},
		{"replication", d.Replication, 0, 1<<15 - 1},
		{"min in-sync", d.MinInSync, 0, 1<<15 - 1},
		{"slots", d.Slots, 1, 1 << 20},
		{"buffer bytes", d.BufferBytes, 1, 1 << 32},
		{"max record bytes", d.MaxRecordBytes, 1, maxBatchBytes - 1024},
		{"max poll", d.MaxPoll, 1, 1 << 16},
		{"max poll bytes", d.MaxPollBytes, 1, 1 << 30},
	} {
		check(n.value >= n.low && n.value <= n.top, "%s is %d, must be %d to %d", n.name, n.value, n.low, n.top)
	}
	for _, t := range []struct {
		name string
		span time.Duration
		low  time.Duration
	}{
		{"delivery timeout", d.DeliveryTimeout, time.Second},
		{"stall after", d.StallAfter, time.Millisecond},
		{"dial timeout", d.DialTimeout, 10 * time.Millisecond},
		{"request timeout", d.RequestTimeout, 100 * time.Millisecond},
		{"session timeout", d.SessionTimeout, 6 * time.Second}, // the brokers' lower bound by default
		{"rebalance timeout", d.RebalanceTimeout, time.Second},
		{"look every", d.LookEvery, 10 * time.Millisecond},
	} {
		check(t.span >= t.low, "%s is %v, must be at least %v", t.name, t.span, t.low)
	}
	check(d.Retention >= time.Hour || d.Retention == KeepForever,
		"retention is %v, must be at least an hour, or KeepForever", d.Retention)
	check(d.TrimEvery >= 0, "trim every is %v, must not be negative", d.TrimEvery)
	check(d.StallAfter < d.DeliveryTimeout, "stall after is %v, must be below the delivery timeout %v", d.StallAfter, d.DeliveryTimeout)
	check(d.RebalanceTimeout >= d.SessionTimeout, "rebalance timeout %v is shorter than session timeout %v",
		d.RebalanceTimeout, d.SessionTimeout)
	check(d.TLS == nil || d.Dial == nil, "TLS and a dial function exclude each other")
	errs = append(errs, d.SASL.validate())
	return errors.Join(errs...)
}
