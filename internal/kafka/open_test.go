package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/proof/kafkatest"
	"github.com/penstock/penstock/seckill"
)

func TestOpen_RefusesWeakTopics(t *testing.T) {
	_, cfg := broker(t)
	cfg.Topic = "weak"
	one := "1"
	weak := map[string]*string{"min.insync.replicas": &one}
	if _, err := kafkatest.Admin(t, cfg).CreateTopic(t.Context(), 1, 1, weak, cfg.Topic); err != nil {
		t.Fatal(err)
	}
	cfg.MinInSync = 2
	_, err := kafka.Open(t.Context(), cfg, new(kafkatest.Books))
	if !errors.Is(err, kafka.ErrTopic) || !strings.Contains(err.Error(), "min.insync.replicas 1") {
		t.Errorf("Open: %v", err)
	}
}

func TestOpen_MakesADurableTopic(t *testing.T) {
	network := new(kfake.VirtualNetwork)
	cluster, err := kfake.NewCluster(kfake.ListenFn(network.Listen), kfake.Ports(9092, 9093, 9094, 9095))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	cfg := kafka.Config{
		Brokers: cluster.ListenAddrs()[:1], Dial: network.DialContext, Topic: "orders", Partitions: 5,
		Retention: 48 * time.Hour, Worker: true,
	}
	kafkatest.Produce(t, kafkatest.Open(t, cfg, new(kafkatest.Books)), 0, 100)
	listed, err := kafkatest.Admin(t, cfg).ListTopics(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	partitions := listed["orders"].Partitions.Sorted()
	if len(partitions) != 5 || len(partitions[0].Replicas) != 3 {
		t.Errorf("the topic has %d partitions of %d replicas", len(partitions), len(partitions[0].Replicas))
	}
	configs, err := kafkatest.Admin(t, cfg).DescribeTopicConfigs(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, c := range configs[0].Configs {
		got[c.Key] = c.MaybeValue()
	}
	for key, want := range map[string]string{
		"min.insync.replicas": "2", "unclean.leader.election.enable": "false", "cleanup.policy": "delete", "retention.ms": "172800000",
		"message.timestamp.type": "LogAppendTime",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}

// TestOpen_WhileTheBrokerIsAway opens a queue that nobody answers. It says so, and works when it
// can.
func TestOpen_WhileTheBrokerIsAway(t *testing.T) {
	_, cfg := broker(t)
	refused := errors.New("refused by the test")
	var up atomic.Bool
	dial := cfg.Dial
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !up.Load() {
			return nil, refused
		}
		return dial(ctx, network, addr)
	}
	books := new(kafkatest.Books)
	q := kafkatest.Open(t, cfg, books)
	if err := q.Reserve(); !errors.Is(err, kafka.ErrDown) || !strings.Contains(err.Error(), cfg.Brokers[0]) {
		t.Errorf("Reserve: %v", err)
	}
	if problems := q.Problems(); len(problems) == 0 || !strings.Contains(problems[0], refused.Error()) {
		t.Errorf("problems: %q", problems)
	}
	if _, err := q.Mark(t.Context()); !errors.Is(err, refused) {
		t.Errorf("Mark: %v", err)
	}
	ended, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := q.Poll(ended); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Poll: %v", err)
	}
	up.Store(true)
	kafkatest.Until(t, func() bool { return q.Reserve() == nil }, func() any { return q.Problems() })
	q.Release(1)
	kafkatest.Produce(t, q, 0, 100)
	if seen := kafkatest.Consume(t, q, books, 100); len(seen) != 100 {
		t.Errorf("%d records", len(seen))
	}
	kafkatest.Until(t, func() bool { return len(q.Problems()) == 0 }, func() any { return q.Problems() })
}

// TestOpen_AnotherTopicThanTheBooksKnow: a topic that was deleted and made again while no process
// ran has none of the old promises. This is logged and counted once.
func TestOpen_AnotherTopicThanTheBooksKnow(t *testing.T) {
	_, cfg := broker(t)
	books := new(kafkatest.Books)
	q := kafkatest.Open(t, cfg, books)
	kafkatest.Produce(t, q, 0, 10)
	kafkatest.Consume(t, q, books, 10)
	kafkatest.Close(t, q)
	if stats := q.Stats(); stats.DataLoss != 0 {
		t.Fatalf("lost: %d", stats.DataLoss)
	}
	if _, err := kafkatest.Admin(t, cfg).DeleteTopic(t.Context(), "penstock-orders"); err != nil {
		t.Fatal(err)
	}
	again := kafkatest.Open(t, cfg, books)
	kafkatest.Produce(t, again, 10, 20)
	if seen := kafkatest.Consume(t, again, books, 10); len(seen) != 10 {
		t.Errorf("%d records of the new topic came", len(seen))
	}
	if stats := again.Stats(); stats.DataLoss != 1 {
		t.Errorf("lost: %d", stats.DataLoss)
	}
}

// TestOpen_AnotherTopicOfWhichNothingWasRead: of a topic that no worker has read, nothing is lost.
func TestOpen_AnotherTopicOfWhichNothingWasRead(t *testing.T) {
	_, cfg := broker(t)
	books := new(kafkatest.Books)
	if err := books.AddPartitions(t.Context(), seckill.TopicID{1}, 3); err != nil {
		t.Fatal(err)
	}
	if stats := kafkatest.Open(t, cfg, books).Stats(); stats.DataLoss != 0 {
		t.Errorf("lost: %d", stats.DataLoss)
	}
}

// TestOpen_AGatewayWhoseBooksKnowAnotherTopic puts nothing into the topic before a worker has
// registered it, also where it has used as many partitions before. Otherwise the worker would take
// the records for another installation's.
func TestOpen_AGatewayWhoseBooksKnowAnotherTopic(t *testing.T) {
	_, cfg := broker(t)
	if _, err := kafkatest.Admin(t, cfg).CreateTopic(t.Context(), 3, 1, nil, "penstock-orders"); err != nil {
		t.Fatal(err)
	}
	books := new(kafkatest.Books)
	if err := books.AddPartitions(t.Context(), seckill.TopicID{1}, 3); err != nil {
		t.Fatal(err)
	}
	cfg.Worker, cfg.KnownPartitions = false, 3
	if err := kafkatest.Open(t, cfg, books).Reserve(); !errors.Is(err, kafka.ErrDown) || !strings.Contains(err.Error(), "another topic") {
		t.Errorf("Reserve: %v", err)
	}
}

// TestQueue_ATopicThatIsMadeAnewWhileTheBooksAreAway takes nothing until a worker has registered
// it, and counts as one loss.
func TestQueue_ATopicThatIsMadeAnewWhileTheBooksAreAway(t *testing.T) {
	_, cfg := broker(t)
	cfg.LookEvery = 10 * time.Millisecond
	books := new(kafkatest.Books)
	worker := kafkatest.Open(t, cfg, books)
	kafkatest.Produce(t, worker, 0, 10)
	kafkatest.Consume(t, worker, books, 10)
	asGateway := cfg
	asGateway.Worker = false
	gateway := kafkatest.Open(t, asGateway, books)
	books.SetAway(true)
	if _, err := kafkatest.Admin(t, cfg).DeleteTopic(t.Context(), "penstock-orders"); err != nil {
		t.Fatal(err)
	}
	lost := func() bool { return worker.Stats().DataLoss > 0 && gateway.Stats().DataLoss > 0 }
	kafkatest.Until(t, lost, func() any { return gateway.Problems() })
	looks := gateway.Stats().LookErrors
	kafkatest.Until(t, func() bool { return gateway.Stats().LookErrors > looks+2 }, func() any { return gateway.Problems() })
	if err := gateway.Reserve(); !errors.Is(err, kafka.ErrDown) {
		t.Errorf("Reserve: %v", err)
	}
	books.SetAway(false)
	kafkatest.Until(t, func() bool { return gateway.Reserve() == nil }, func() any { return gateway.Problems() })
	gateway.Release(1)
	if n := worker.Stats().DataLoss; n != 1 {
		t.Errorf("lost: %d", n)
	}
}

// TestOpen_CloseAtOnce closes a queue that has not found its broker yet.
func TestOpen_CloseAtOnce(t *testing.T) {
	cfg := kafka.Config{Brokers: []string{"nowhere:9092"}, KnownPartitions: 3}
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused by the test") }
	kafkatest.Close(t, kafkatest.Open(t, cfg, new(kafkatest.Books)))
}

func TestConfig_Validate(t *testing.T) {
	good := kafka.Config{Brokers: []string{"localhost:9092"}}
	if err := good.Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	for _, test := range []struct {
		name   string
		change func(*kafka.Config)
	}{
		{"brokers", func(c *kafka.Config) { c.Brokers = nil }},
		{"empty broker", func(c *kafka.Config) { c.Brokers = []string{""} }},
		{"topic", func(c *kafka.Config) { c.Topic = strings.Repeat("x", 250) }},
		{"partitions", func(c *kafka.Config) { c.Partitions = -1 }},
		{"known partitions", func(c *kafka.Config) { c.KnownPartitions = -1 }},
		{"replication", func(c *kafka.Config) { c.Replication = -1 }},
		{"min in-sync", func(c *kafka.Config) { c.Replication, c.MinInSync = 2, 3 }},
		{"slots", func(c *kafka.Config) { c.Slots = -1 }},
		{"buffer bytes", func(c *kafka.Config) { c.BufferBytes = -1 }},
		{"max record bytes", func(c *kafka.Config) { c.MaxRecordBytes = 1 << 30 }},
		{"max poll is", func(c *kafka.Config) { c.MaxPoll = 1 << 20 }},
		{"max poll bytes", func(c *kafka.Config) { c.MaxPollBytes = -1 }},
		{"retention", func(c *kafka.Config) { c.Retention = time.Second }},
		{"delivery timeout", func(c *kafka.Config) { c.DeliveryTimeout = time.Millisecond }},
		{"stall after", func(c *kafka.Config) { c.StallAfter = time.Minute }},
		{"session timeout", func(c *kafka.Config) { c.SessionTimeout = time.Second }},
		{"rebalance timeout", func(c *kafka.Config) { c.RebalanceTimeout = 5 * time.Second }},
		{"look every", func(c *kafka.Config) { c.LookEvery = -1 }},
		{"trim every", func(c *kafka.Config) { c.TrimEvery = -1 }},
	} {
		cfg := good
		test.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), test.name) {
			t.Errorf("%s: %v", test.name, err)
		}
		if _, err := kafka.Open(t.Context(), cfg, new(kafkatest.Books)); err == nil {
			t.Errorf("%s: opened", test.name)
		}
	}
}

// TestOpen_AsksWhoseTheClusterIs: in the cluster of another installation, Open makes no topic,
// joins no group and puts no record.
func TestOpen_AsksWhoseTheClusterIs(t *testing.T) {
	_, cfg := broker(t)
	cfg.Topic, cfg.Worker = "whose", true
	var asked atomic.Pointer[string]
	cfg.Claim = func(_ context.Context, cluster string) (bool, error) {
		asked.Store(&cluster)
		return false, fmt.Errorf("%w: it is another shop's", seckill.ErrForeign)
	}
	_, err := kafka.Open(t.Context(), cfg, new(kafkatest.Books))
	if !errors.Is(err, seckill.ErrForeign) || !strings.Contains(err.Error(), cfg.Brokers[0]) || *asked.Load() == "" {
		t.Errorf("Open: %v, asked for %v", err, asked.Load())
	}
	listed, err := kafkatest.Admin(t, cfg).ListTopics(t.Context(), cfg.Topic)
	if err != nil || listed.Has(cfg.Topic) && listed[cfg.Topic].Err == nil {
		t.Errorf("the topic: %+v, %v", listed, err)
	}
}

// TestOpen_WhileNobodyCanTellWhoseTheClusterIs a worker waits, and a gateway goes on with what it
// knows.
func TestOpen_WhileNobodyCanTellWhoseTheClusterIs(t *testing.T) {
	_, cfg := broker(t)
	books := new(kafkatest.Books)
	cfg.Worker = true
	kafkatest.Produce(t, kafkatest.Open(t, cfg, books), 0, 1) // the topic is there, and registered
	var away atomic.Bool
	away.Store(true)
	cfg.LookEvery = 10 * time.Millisecond
	cfg.Claim = func(context.Context, string) (bool, error) {
		if away.Load() {
			return false, errors.New("the database is away")
		}
		return false, nil
	}
	worker := kafkatest.Open(t, cfg, books)
	if problems := strings.Join(worker.Problems(), "; "); !strings.Contains(problems, "to which installation the cluster belongs") {
		t.Errorf("the worker's problems: %s", problems)
	}
	cfg.Worker = false
	kafkatest.Produce(t, kafkatest.Open(t, cfg, books), 1, 2)
	away.Store(false)
	kafkatest.Consume(t, worker, books, 2)
}

// TestOpen_RefusesAnothersTopic: clusters may have one id, where it was copied from an example. A
// topic with records that the books don't know is another installation's.
func TestOpen_RefusesAnothersTopic(t *testing.T) {
	_, cfg := broker(t)
	theirs, ours := new(kafkatest.Books), new(kafkatest.Books)
	cfg.Worker = true
	kafkatest.Produce(t, kafkatest.Open(t, cfg, theirs), 0, 10)
	adopt := false
	cfg.Claim = func(context.Context, string) (bool, error) { return adopt, nil }
	refused := func(books *kafkatest.Books) {
		t.Helper()
		_, err := kafka.Open(t.Context(), cfg, books)
		if !errors.Is(err, seckill.ErrForeign) || !strings.Contains(err.Error(), "has records") {
			t.Errorf("Open: %v", err)
		}
		if n := len(books.Now()); n > 0 && books == ours {
			t.Errorf("the books have %d partitions of it", n)
		}
	}
	refused(ours)
	kafkatest.Open(t, cfg, theirs) // whose it is
	t.Run("one without records is nobody's", func(t *testing.T) {
		mine := cfg
		mine.Topic = "empty"
		if _, err := kafkatest.Admin(t, cfg).CreateTopic(t.Context(), 3, 1, nil, mine.Topic); err != nil {
			t.Fatal(err)
		}
		kafkatest.Open(t, mine, new(kafkatest.Books))
	})
	t.Run("also where the books know another one", func(t *testing.T) {
		mine := cfg
		mine.Topic = "mine"
		known := new(kafkatest.Books)
		kafkatest.Open(t, mine, known)
		refused(known)
		gateway := cfg
		gateway.Worker = false
		if _, err := kafka.Open(t.Context(), gateway, known); !errors.Is(err, seckill.ErrForeign) {
			t.Errorf("a gateway: %v", err)
		}
	})
	t.Run("a gateway without books waits for a worker", func(t *testing.T) {
		gateway := cfg
		gateway.Worker = false
		q := kafkatest.Open(t, gateway, new(kafkatest.Books))
		if problems := strings.Join(q.Problems(), "; "); !strings.Contains(problems, "no worker has registered") {
			t.Errorf("problems: %q", problems)
		}
	})
	t.Run("unless it is to be adopted", func(t *testing.T) {
		adopt = true
		kafkatest.Consume(t, kafkatest.Open(t, cfg, ours), ours, 10)
	})
}

// TestOpen_ATopicThatWasMadeAnewWhileNoWorkerRan is ours, no matter how many buyers come meanwhile:
// a gateway puts nothing into it before a worker has registered it.
func TestOpen_ATopicThatWasMadeAnewWhileNoWorkerRan(t *testing.T) {
	_, cfg := broker(t)
	books := new(kafkatest.Books)
	cfg.Claim = func(context.Context, string) (bool, error) { return false, nil }
	cfg.LookEvery = 10 * time.Millisecond
	worker := kafkatest.Open(t, cfg, books)
	kafkatest.Produce(t, worker, 0, 10)
	kafkatest.Consume(t, worker, books, 10)
	kafkatest.Close(t, worker)
	asGateway := cfg
	asGateway.Worker = false
	gateway := kafkatest.Open(t, asGateway, books)
	if _, err := kafkatest.Admin(t, cfg).DeleteTopic(t.Context(), "penstock-orders"); err != nil {
		t.Fatal(err)
	}
	looks := int64(0)
	kafkatest.Until(t, func() bool { // long enough for several tries of a partition that failed
		if gateway.Reserve() == nil {
			kafkatest.Put(gateway, 10, func(error) {})
		}
		stats, waits := gateway.Stats(), strings.Contains(strings.Join(gateway.Problems(), "; "), "a worker will ")
		if waits && looks == 0 {
			looks = stats.LookErrors
		}
		return looks > 0 && stats.LookErrors > looks+150
	}, func() any { return gateway.Problems() })
	worker = kafkatest.Open(t, cfg, books)
	kafkatest.Until(t, func() bool { return gateway.Reserve() == nil }, func() any { return gateway.Problems() })
	gateway.Release(1)
	kafkatest.Produce(t, gateway, 10, 20)
	kafkatest.Consume(t, worker, books, 10)
}

// lateBooks answer the first looks with what they had before another worker registered the topic.
type lateBooks struct {
	*kafkatest.Books
	asked atomic.Int32
}

func (b *lateBooks) Positions(ctx context.Context) ([]seckill.Position, error) {
	if b.asked.Add(1) <= 3 {
		return nil, nil
	}
	return b.Books.Positions(ctx)
}

// TestOpen_BesideTheFirstWorker: a worker that looks while another one registers the topic takes
// the records that come at once for its own.
func TestOpen_BesideTheFirstWorker(t *testing.T) {
	_, cfg := broker(t)
	books := new(kafkatest.Books)
	cfg.Claim = func(context.Context, string) (bool, error) { return false, nil }
	kafkatest.Produce(t, kafkatest.Open(t, cfg, books), 0, 10)
	kafkatest.Open(t, cfg, &lateBooks{Books: books})
}

// silentBooks answer nothing.
type silentBooks struct{}

func (silentBooks) Positions(ctx context.Context) ([]seckill.Position, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (silentBooks) AddPartitions(ctx context.Context, _ seckill.TopicID, _ int32) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestOpen_WhileTheDatabaseIsSilent a gateway puts promises anyway: waiting for the database takes
// none of Kafka's time.
func TestOpen_WhileTheDatabaseIsSilent(t *testing.T) {
	_, cfg := broker(t)
	kafkatest.Open(t, cfg, new(kafkatest.Books)) // the topic is there
	cfg.Worker, cfg.KnownPartitions, cfg.RequestTimeout = false, cfg.Partitions, time.Second
	cfg.Claim = func(ctx context.Context, _ string) (bool, error) {
		<-ctx.Done()
		return false, ctx.Err()
	}
	gateway := kafkatest.Open(t, cfg, silentBooks{})
	kafkatest.Produce(t, gateway, 0, 10)
}

// registrar are books that end an adoption.
type registrar struct {
	*kafkatest.Books
	adopt atomic.Bool
}

func (b *registrar) AddPartitions(ctx context.Context, topic seckill.TopicID, n int32) error {
	b.adopt.Store(false)
	return b.Books.AddPartitions(ctx, topic, n)
}

// TestOpen_EndsAnAdoption: a worker registers the topic that it adopts, also where the books know
// it. Otherwise another installation's topic would be adopted later.
func TestOpen_EndsAnAdoption(t *testing.T) {
	_, cfg := broker(t)
	books := &registrar{Books: new(kafkatest.Books)}
	cfg.Claim = func(context.Context, string) (bool, error) { return books.adopt.Load(), nil }
	kafkatest.Close(t, kafkatest.Open(t, cfg, books))
	books.adopt.Store(true)
	gateway := cfg
	gateway.Worker = false
	kafkatest.Open(t, gateway, books)
	if !books.adopt.Load() {
		t.Error("a gateway has ended it")
	}
	kafkatest.Open(t, cfg, books)
	if books.adopt.Load() {
		t.Error("the topic is still to be adopted")
	}
}
