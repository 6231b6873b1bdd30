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

// Config configures the brokers, the topic and the limits of the queue. A zero field means its
// default; only Brokers has none.
type Config struct {
	// Brokers are the first brokers to ask, as host:port; they name the rest of the cluster.
	Brokers []string
	// Topic is the topic of the pages. Default "penstock-orders".
	Topic string
	// Group is the workers' consumer group. Default "penstock-workers".
	Group string

	// Worker means that this process reads records (Poll). It also registers the topic's partitions
	// in the database.
	Worker bool
	// KnownPartitions is how many partitions a gateway may use before it has read the database. It
	// is the number from its last run. Default 0.
	KnownPartitions int

	// Partitions is the number of partitions of a topic that a worker makes; an existing topic
	// keeps its own. It bounds how many workers share the load. Default 12: one worker writes some
	// ten thousand orders a second, so twelve are faster than any database, and twelve can be
	// divided evenly by two, three, four and six. More would only make batches smaller.
	Partitions int
	// Replication is the number of replicas of a topic that Open makes. Default three, or the
	// number of brokers if that is less.
	Replication int
	// MinInSync is how many replicas must have a record before it is acknowledged. A topic that
	// asks for fewer is refused, because a promise needs more than one replica's disk. Default 2 if
	// the topic has three or more replicas, otherwise 1.
	MinInSync int
	// Retention is how long a topic made by Open keeps its records. It must be longer than the
	// longest time without workers, because the orders of a deleted record are lost. With
	// KeepForever only Trim deletes records. Default seven days.
	Retention time.Duration

	// Slots bounds the promises that wait for their acknowledgement (L8); with more, Reserve
	// refuses. Default 32,768: the fastest producer that was measured fills them in a third of a
	// second.
	Slots int
	// BufferBytes bounds the bytes of the records that wait for their acknowledgement (L8); with
	// more, Reserve refuses. Slots that were reserved before may still be used. Default 32 MiB.
	BufferBytes int
	// MaxRecordBytes is the largest value that Put takes. Default 320 KiB: a page of seckill has at
	// most about 290 KB, and brokers accept 1 MB.
	MaxRecordBytes int
	// MaxPoll is the most records that Poll returns. Default 1,024.
	MaxPoll int
	// MaxPollBytes is the number of bytes with which a haul is full. One record is always returned,
	// and up to seven may go beyond it. Default 512 KiB, which are some 4,096 promises. Their
	// statement takes the database tens of milliseconds, so its fixed costs are small in
	// comparison.
	MaxPollBytes int

	// DeliveryTimeout is the longest time that a record waits for its acknowledgement before it
	// fails. Default 10 s: five times the accept deadline, so no purchase still waits.
	DeliveryTimeout time.Duration
	// StallAfter is how long a record may wait for its acknowledgement before its partition counts
	// as slow. Then healthy partitions are used instead, if there are any. After four times as long
	// the partition counts as down. Default 500 ms: a hundred times what a healthy broker takes, a
	// quarter of the accept deadline.
	StallAfter time.Duration
	// DialTimeout is how long it may take to make a connection. Default 3 s.
	DialTimeout time.Duration
	// RequestTimeout bounds each attempt of a request, and how long the broker may wait for
	// replicas. Default 5 s.
	RequestTimeout time.Duration
	// SessionTimeout is how long a silent worker keeps its partitions. Default 6 s, the least that
	// brokers allow: a lost shard opens again only after a killed worker's records were processed.
	// If a worker pauses for longer, there is a rebalance.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long the group waits for a member to join a rebalance. Default 30 s.
	RebalanceTimeout time.Duration
	// LookEvery is how often the queue looks at the books and the topic while there are no
	// problems. Default 10 s.
	LookEvery time.Duration
	// TrimEvery is how often records below the positions in the books are deleted from the log (see
	// Trim). Default 0: never, because the broker's retention deletes them. The embedded broker has
	// no safe retention of its own, so it needs this.
	TrimEvery time.Duration

	// Claim, if set, is asked at every look whether the cluster with this id belongs to the
	// installation. seckill.ErrForeign means no. Other errors keep a worker away from the topic
	// until they are over. With adopt, every existing topic is accepted until a worker has
	// registered it. Without adopt, a topic that has records and is not in the books is refused,
	// because it belongs to another installation. Without Claim nothing is checked.
	Claim func(ctx context.Context, cluster string) (adopt bool, err error)
	// OnForeign is called after Open with such a refusal; Open itself returns it. It may be nil.
	OnForeign func(err error)

	// TLS, if set, is used for every connection. An empty ServerName is the host of each broker's
	// advertised address.
	TLS *tls.Config
	// SASL logs in to the brokers. The zero value means no login.
	SASL SASL
	// Dial, if set, makes the connections. The embedded brokers are reached in this way. It can't
	// be used with TLS.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Logger gets the client's log, at the client's levels; only its information is logged at debug
	// level. Default: no log.
	Logger *slog.Logger
}

// KeepForever is the Retention of records that only Trim deletes.
const KeepForever time.Duration = -1

// withDefaults returns c with every zero value replaced, except Replication and MinInSync, which
// depend on the cluster.
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
		{"session timeout", d.SessionTimeout, 6 * time.Second}, // the default lower bound of brokers
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
