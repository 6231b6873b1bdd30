package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	redisserver "github.com/alicebob/miniredis/v2/server"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/penstock/penstock/internal/kafka"
)

// Config configures where the embedded parts keep their data, and how durably. A zero field means
// its default; only DataDir has none.
type Config struct {
	// DataDir is made if it is missing; its parent must exist.
	DataDir string
	// Durable makes the queue wait for the disk (fsync) before it acknowledges, so that a promise
	// survives a power failure, too. The database has a setting of its own; a promise is as durable
	// as the weaker of both. Default false. Crashes of the process, and kill -9, lose nothing in
	// either case.
	Durable bool
	// Topic is the queue's topic. Default "penstock-orders".
	Topic string
	// Partitions is how many partitions the topic gets when the directory is new. Default 4, one
	// for each shard of an embedded installation.
	Partitions int
	// Logger is for the parts' log. Default: none.
	Logger *slog.Logger

	segmentBytes int // smaller in tests
}

func (c Config) withDefaults() Config {
	if c.Topic == "" {
		c.Topic = "penstock-orders"
	}
	if c.Partitions == 0 {
		c.Partitions = 4
	}
	if c.segmentBytes == 0 {
		// Space is freed by the segment, and a start after a crash reads all segments.
		c.segmentBytes = 16 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate returns all mistakes in c.
func (c Config) Validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("no data directory"))
	}
	if c.Partitions < 0 || c.Partitions > 64 {
		errs = append(errs, fmt.Errorf("partitions is %d, must be 1 to 64, or 0 for the default", c.Partitions))
	}
	return errors.Join(errs...)
}

// Parts are the running parts. End them with Close, after everything that uses them. All methods
// are safe for concurrent use.
type Parts struct {
	// Fixed after Open.
	cfg       Config
	directory *directory
	network   kfake.VirtualNetwork
	kafka     *kfake.Cluster
	redis     *miniredis.Miniredis
	password  string
	records   bool // the queue had some before
	stop      context.CancelFunc
	work      sync.WaitGroup

	closeOnce sync.Once
	closeErr  error
}

// DialRedis connects to Redis within the process, through no network.
func (p *Parts) DialRedis(context.Context) (net.Conn, error) { return p.redis.Dial() }

// RedisPassword is the password for Redis. It is new after each start.
func (p *Parts) RedisPassword() string { return p.password }

// DatabasePath is the path for the SQLite database. This package doesn't open it.
func (p *Parts) DatabasePath() string { return filepath.Join(p.cfg.DataDir, databaseName) }

// HasRecords reports whether the queue had records when Open was called. If it had, there must also
// be a database.
func (p *Parts) HasRecords() bool { return p.records }

// trimEvery is how often the queue deletes the records that the workers have committed. So the log
// has at most the records of that time, one segment of each partition, and the records that the
// workers have not committed yet.
const trimEvery = time.Minute

// QueueConfig returns the queue's configuration. The broker can be reached only with it.
func (p *Parts) QueueConfig(slots int) kafka.Config {
	return kafka.Config{
		Brokers:    p.kafka.ListenAddrs(),
		Dial:       p.network.DialContext,
		Topic:      p.cfg.Topic,
		Worker:     true,
		Partitions: p.cfg.Partitions,
		Retention:  kafka.KeepForever,
		Slots:      slots,
		TrimEvery:  trimEvery,
		Logger:     p.cfg.Logger,
	}
}

// Open takes the data directory and starts the parts. ctx bounds Open only.
func Open(ctx context.Context, cfg Config) (*Parts, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	cfg = cfg.withDefaults()
	directory, err := openDirectory(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(cfg.DataDir); err == nil && info.Mode().Perm()&0o077 != 0 {
		cfg.Logger.Warn("others may read the data directory", "path", cfg.DataDir, "mode", info.Mode().Perm().String())
	}
	p := &Parts{cfg: cfg, directory: directory, stop: func() {}}
	if err := errors.Join(ctx.Err(), p.startKafka(), p.startRedis()); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	p.work.Go(func() { expire(work, p.redis) })
	return p, nil
}

// brokerPort is a port of the virtual network, which can't be reached from outside.
const brokerPort = 9092

func (p *Parts) startKafka() error {
	cfg := p.cfg
	queue := filepath.Join(cfg.DataDir, queueName)
	records, err := prepareQueue(queue)
	if err != nil {
		return err
	}
	p.records = records
	opts := []kfake.Opt{
		kfake.ListenFn(p.network.Listen),
		kfake.Ports(brokerPort),
		kfake.ClusterID("penstock-embedded"),
		kfake.WithLogger(brokerLog{cfg.Logger}),
		kfake.DataDir(queue),
		kfake.BrokerConfigs(map[string]string{
			// Records are never deleted by age or size: a log that was emptied would begin at
			// offset 0 again after a crash, below the workers' position. Penstock deletes committed
			// records, except the last one.
			"log.retention.ms":    "-1",
			"log.retention.bytes": "-1",
			"log.segment.bytes":   strconv.Itoa(cfg.segmentBytes),
			// Committed offsets must never expire, even if the process is not started for long.
			// This is ten years, in minutes.
			"offsets.retention.minutes": "5256000",
		}),
	}
	if cfg.Durable {
		opts = append(opts, kfake.SyncWrites())
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return fmt.Errorf("embedded: open the queue in %s: %w", cfg.DataDir, err)
	}
	p.kafka = cluster
	if cluster.TopicInfo(cfg.Topic) == nil {
		if err := cluster.CreateTopic(cfg.Topic, int32(cfg.Partitions), nil); err != nil {
			return fmt.Errorf("embedded: make topic %s: %w", cfg.Topic, err)
		}
	}
	return p.beginEpoch()
}

// beginEpoch gives every partition a leader epoch that no earlier run had. If a power failure
// destroyed the tail of the log, new records get the offsets of the lost ones. The epoch
// distinguishes them, and the workers go back to the place where the log was cut. The broker itself
// would continue with the epoch of the last record that is left.
func (p *Parts) beginEpoch() error {
	partitions := p.kafka.PartitionInfos(p.cfg.Topic)
	last := int32(0)
	for _, info := range partitions {
		last = max(last, info.Epoch)
	}
	epoch, err := p.directory.nextEpoch(last)
	if err != nil {
		return err
	}
	for _, info := range partitions {
		for e := info.Epoch; e < epoch; e++ {
			if err := p.kafka.MoveTopicPartition(p.cfg.Topic, info.Partition, info.Leader); err != nil {
				return fmt.Errorf("embedded: begin epoch %d of partition %d: %w", epoch, info.Partition, err)
			}
		}
	}
	return nil
}

// prepareQueue checks kfake's directory before kfake opens it, and reports whether it has records.
func prepareQueue(queue string) (records bool, err error) {
	// After a clean stop, kfake keeps the members of the group for clients in other processes. We
	// have none, and the next worker would wait for the session of a member that no longer exists.
	if err := os.Remove(filepath.Join(queue, "session_state.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("embedded: forget the workers of the last run: %w", err)
	}
	records, err = hasRecords(filepath.Join(queue, "partitions"))
	if err != nil || !records {
		return false, err
	}
	// Without these files kfake would treat the directory as new, and begin again at offset 0 in
	// files full of records.
	for _, name := range []string{"meta.json", "topics.json"} {
		if _, err := os.Stat(filepath.Join(queue, name)); err != nil {
			return false, fmt.Errorf("embedded: the queue in %s has records, but can't be read: %w", queue, err)
		}
	}
	return true, nil
}

// segmentExt is the extension of kfake's files with records.
const segmentExt = ".dat"

// hasRecords reports whether any segment of kfake's partitions has a byte. The directories alone
// prove nothing, because a first start makes them before the database, and may be stopped in
// between. A partition that ever had records keeps its last one.
func hasRecords(partitions string) (found bool, err error) {
	err = filepath.WalkDir(partitions, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != segmentExt {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Size() > 0 {
			found = true
			return fs.SkipAll
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("embedded: look for records of the queue: %w", err)
	}
	return found, nil
}

func (p *Parts) startRedis() error {
	server := miniredis.NewMiniRedis()
	password := rand.Text()
	server.RequireAuth(password)
	conn, err := server.Dial() // this starts it without a listener
	if err != nil {
		return fmt.Errorf("embedded: start Redis: %w", err)
	}
	if err := conn.Close(); err != nil {
		return fmt.Errorf("embedded: start Redis: %w", err)
	}
	// miniredis has no CONFIG. For maxmemory-policy the true answer is that it evicts nothing. For
	// other settings it returns nothing, as Redis does for unknown settings.
	err = server.Server().Register("CONFIG", func(c *redisserver.Peer, _ string, args []string) {
		switch {
		case len(args) != 2 || !strings.EqualFold(args[0], "GET"):
			c.WriteError("ERR only CONFIG GET is known here")
		case strings.EqualFold(args[1], "maxmemory-policy"):
			c.WriteStrings([]string{"maxmemory-policy", "noeviction"})
		default:
			c.WriteStrings(nil)
		}
	})
	if err != nil {
		server.Close()
		return fmt.Errorf("embedded: teach Redis CONFIG: %w", err)
	}
	p.redis, p.password = server, password
	return nil
}

// expireEvery is how late a key may expire. (miniredis could follow the clock itself, but then it
// would look at all keys at every command.)
const expireEvery = time.Second

// expire moves the clock of miniredis, which otherwise stands still.
func expire(ctx context.Context, server *miniredis.Miniredis) {
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			now := time.Now()
			server.FastForward(now.Sub(last))
			last = now
		}
	}
}

// Close stops the parts, the last one first, and releases the directory. A second Close does
// nothing more.
func (p *Parts) Close() error {
	p.closeOnce.Do(func() {
		p.stop()
		p.work.Wait()
		if p.redis != nil {
			p.redis.Close()
		}
		if p.kafka != nil {
			p.kafka.Close()
		}
		p.closeErr = p.directory.close()
	})
	return p.closeErr
}

// brokerLog passes on kfake's log.
type brokerLog struct{ log *slog.Logger }

// Logf implements kfake.Logger. kfake's warnings are about data that it could not read or write, so
// they are errors.
func (l brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case kfake.LogLevelError, kfake.LogLevelWarn:
		to = slog.LevelWarn
	case kfake.LogLevelDebug:
		return
	}
	if ctx := context.Background(); l.log.Enabled(ctx, to) {
		l.log.Log(ctx, to, "embedded queue: "+fmt.Sprintf(format, args...))
	}
}
