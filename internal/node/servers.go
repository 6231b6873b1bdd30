package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/penstock/penstock/internal/embedded"
	"github.com/penstock/penstock/internal/kafka"
	"github.com/penstock/penstock/internal/postgres"
	"github.com/penstock/penstock/internal/sqlite"
	"github.com/penstock/penstock/inventory"
	"github.com/penstock/penstock/seckill"
)

// serverSet has the stock, the queue and the store of a node, and their connections.
type serverSet struct {
	embedded *embedded.Parts // nil with real servers
	database *database
	queue    *kafka.Queue
	events   *kafka.Events // nil if there are no events
	stock    *inventory.Stock
}

// startPatience is how long a start waits for a database that is away until it goes on without it,
// and tryTimeout bounds each try. A migration takes what it takes; a start waits for it as long as
// whoever started the process may wait for its listeners.
const (
	startPatience     = 3 * time.Second
	migrationPatience = 20 * time.Second
	tryTimeout        = 10 * time.Second
)

// openServers opens the servers. closeServers closes what was opened, even if openServers fails.
func (n *Node) openServers(ctx context.Context) error {
	if n.cfg.Real() {
		return n.openReal(ctx)
	}
	return n.openEmbedded(ctx)
}

// openReal opens the parts on real servers. If a server can't be reached, it waits for it in the
// background.
func (n *Node) openReal(ctx context.Context) error {
	s := &n.servers
	s.database = newDatabase("database "+databaseName(n.cfg.Database), func(ctx context.Context) (fullStore, error) {
		return postgres.Open(ctx, postgres.Config{
			URL: n.cfg.Database, Shards: n.cfg.Sale.Shards, Events: n.cfg.announces(), KeepSchema: n.cfg.KeepSchema,
			OnMigrate: s.database.migrates, Logger: part(n.root, "database"),
		})
	}, part(n.root, "database"))
	if err := s.database.start(ctx, n.fail); err != nil {
		return err
	}
	queue, err := n.queueConfig()
	if err != nil {
		return err
	}
	queue.Claim, queue.OnForeign = n.claimKafka, func(err error) { n.fail(n.wrongKafka(err)) }
	if err := n.openQueue(ctx, queue); err != nil {
		return n.wrongKafka(err)
	}
	for _, what := range append(n.cfg.Exposed(), s.queue.Unsafe()...) {
		n.log.Warn("not for production", "what", what)
	}
	if err := n.openEvents(queue); err != nil {
		return err
	}
	secure, err := n.cfg.redisTLS()
	if err != nil {
		return badSetting(err)
	}
	return n.openStock(ctx, inventory.Config{
		Owner: s.database.lineage, OnForeign: n.foreign,
		Addrs: n.cfg.Redis, MasterName: n.cfg.RedisMaster, Username: n.cfg.RedisUser, Password: n.cfg.RedisSecret,
		SentinelUsername: n.cfg.SentinelUser, SentinelPassword: n.cfg.SentinelSecret, TLS: secure,
		MinReplicas: n.cfg.MinReplicas, MaxReplicaLag: n.cfg.Sale.ReplicaLag,
	})
}

// openEmbedded opens the parts that replace the servers of a larger installation.
func (n *Node) openEmbedded(ctx context.Context) error {
	s := &n.servers
	var err error
	s.embedded, err = embedded.Open(ctx, embedded.Config{
		DataDir: n.cfg.DataDir, Durable: n.cfg.Durable, Logger: part(n.root, "embedded"),
	})
	if err != nil {
		return badSetting(fmt.Errorf("data-dir: %w", err))
	}
	synchronous := "normal"
	if n.cfg.Durable {
		synchronous = "full"
	}
	s.database = newDatabase("database", func(ctx context.Context) (fullStore, error) {
		return sqlite.Open(ctx, sqlite.Config{
			Path: s.embedded.DatabasePath(), Existing: s.embedded.HasRecords(), Shards: n.cfg.Sale.Shards, Synchronous: synchronous,
			Logger: part(n.root, "database"),
		})
	}, part(n.root, "database"))
	if err := s.database.try(ctx); errors.Is(err, sqlite.ErrMissing) {
		return badSetting(fmt.Errorf("data-dir: the queue in %s has records, but the database to which they belong is gone: put "+
			"penstock.db and penstock.db-wal back, or start again in another directory: %w", n.cfg.DataDir, err))
	} else if err != nil {
		return err
	}
	if _, err := s.database.store(); err != nil {
		return unfit(err)
	}
	queue := s.embedded.QueueConfig(n.cfg.Slots)
	queue.Worker = n.role&RoleWorker != 0
	if err := n.openQueue(ctx, queue); err != nil {
		return unfit(fmt.Errorf("queue: %w", err))
	}
	return n.openStock(ctx, inventory.Config{
		Addrs: []string{"in this process"}, Dial: s.embedded.DialRedis, Password: s.embedded.RedisPassword(), Memory: s.embedded.Memory,
	})
}

// openQueue opens the queue.
func (n *Node) openQueue(ctx context.Context, config kafka.Config) error {
	try, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	queue, err := kafka.Open(try, config, n.servers.database)
	if err == nil {
		n.servers.queue = queue
	}
	return err
}

// queueConfig returns the queue's configuration for Kafka.
func (n *Node) queueConfig() (kafka.Config, error) {
	secure, err := n.cfg.kafkaTLS()
	if err != nil {
		return kafka.Config{}, badSetting(err)
	}
	return kafka.Config{
		TLS: secure, SASL: n.cfg.kafkaSASL(),
		Brokers: n.cfg.Kafka, Topic: n.cfg.KafkaTopic, Group: n.cfg.KafkaTopic + "-workers",
		Worker: n.role&RoleWorker != 0, KnownPartitions: n.kept.partitions,
		Partitions: n.cfg.Partitions, Replication: n.cfg.Replication, Slots: n.cfg.Slots, Logger: part(n.root, "queue"),
	}, nil
}

// claimKafka reports whether the Kafka cluster with an id belongs to the database.
func (n *Node) claimKafka(ctx context.Context, cluster string) (adopt bool, err error) {
	return n.servers.database.claimKafka(ctx, cluster, n.role&RoleWorker != 0)
}

// wrongKafka says what to do about the Kafka of another installation. A worker would find no
// promises of this installation there, and its sweeper would decide that there are none.
func (n *Node) wrongKafka(err error) error {
	if errors.Is(err, seckill.ErrForeign) {
		err = fmt.Errorf("%w: name the cluster and the topic that belong to the database (kafka, kafka-topic). If they are right, because "+
			"Kafka has moved with all its records, or was replaced, or because the database was restored from before it knew the topic, "+
			"then stop all processes and run penstock migrate --forget-kafka first", err)
	}
	return unfit(fmt.Errorf("kafka %s: %w", strings.Join(n.cfg.Kafka, ","), err))
}

// foreign ends the process, because its Redis belongs to another installation.
func (n *Node) foreign(err error) {
	n.fail(unfit(fmt.Errorf("redis %s: %w", strings.Join(n.cfg.Redis, ","), err)))
}

// openEvents makes the publisher of events. It makes no call to the brokers yet, because a sale
// must not wait for other systems.
func (n *Node) openEvents(queue kafka.Config) error {
	if !n.cfg.announces() || n.role&RoleWorker == 0 {
		return nil
	}
	a := &n.cfg.Announce
	events, err := kafka.NewEvents(queue, kafka.EventsConfig{StockTopic: a.StockTopic, OrderTopic: a.OrderTopic, Source: a.Source})
	if err != nil {
		return badSetting(err)
	}
	n.servers.events = events
	return nil
}

// openStock opens the stock on the Redis that config names.
func (n *Node) openStock(ctx context.Context, config inventory.Config) error {
	config.Cap, config.Poll, config.MaxKnown = n.cfg.Sale.BatchCap, n.cfg.Sale.Tick, n.cfg.MaxKnown
	config.Logger = part(n.root, "stock")
	config.OnLost, config.OnSuspect = n.signals.OnLost, n.signals.OnSuspect
	config.OnEpoch, config.OnCrossing = n.signals.OnEpoch, n.signals.OnCrossing
	config.OnRing, config.Guard = n.rung, n.breakers.guardStock
	stock, err := inventory.Open(ctx, config)
	if err != nil {
		return unfit(fmt.Errorf("stock: %w", err))
	}
	n.servers.stock = stock
	return nil
}

// closeServers closes the opened servers: first the stock, which is no longer used; the queue
// before the database, because the queue reads its positions from it.
func (n *Node) closeServers(ctx context.Context) error {
	s := &n.servers
	var errs []error
	if s.stock != nil {
		s.stock.Stop()
	}
	if s.events != nil {
		errs = append(errs, s.events.Close(ctx))
	}
	if s.queue != nil {
		errs = append(errs, s.queue.Close(ctx))
	}
	if s.database != nil {
		errs = append(errs, s.database.Close())
	}
	if s.embedded != nil {
		errs = append(errs, s.embedded.Close())
	}
	return errors.Join(errs...)
}
