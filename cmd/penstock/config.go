package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"penstock/gateway"
	"penstock/seckill"
)

// Config is everything a process can be told: the parts' own Configs, and where to find things.
type Config struct {
	Listen          string
	AdminListen     string
	DataDir         string
	Durable         bool
	AdminToken      string
	OpenMetrics     bool
	LogLevel        string
	LogFormat       string
	ShutdownTimeout time.Duration
	TrustedProxies  []string // addresses and networks
	Slots           int
	MaxKnown        int

	// The real servers; all three or none. None is the embedded parts.
	Redis       []string
	RedisMaster string // the name Sentinels know it by
	RedisUser   string
	RedisSecret string
	MinReplicas int
	DropAfter   time.Duration // 0 keeps ended activities for ever
	Kafka       []string
	KafkaTopic  string
	Partitions  int
	Replication int
	Database    string
	KeepSchema  bool
	Wait        time.Duration // how long to wait at start for a server that is away

	// How they are reached; the database's URL says so itself.
	RedisTransport transport
	SentinelUser   string
	SentinelSecret string
	KafkaTransport transport
	KafkaSASL      string // a kafka.Mechanism
	KafkaUser      string
	KafkaSecret    string

	Announce EventsConfig

	Sale     seckill.Config
	Gateway  gateway.Config
	ShedRate int // 0: by the number of processors
}

func defaultConfig() Config {
	return Config{
		Listen:          "127.0.0.1:8080",
		AdminListen:     "127.0.0.1:8081",
		DataDir:         "./penstock-data",
		LogLevel:        "info",
		LogFormat:       "text",
		ShutdownTimeout: 15 * time.Second,
		Slots:           32_768,
		MaxKnown:        4_000_000,
		KafkaTopic:      "penstock-orders",
		Wait:            30 * time.Second,
		Announce:        defaultEventsConfig(),
		Sale:            seckill.DefaultConfig(),
		Gateway:         gateway.DefaultConfig(),
	}
}

// maxShedRate is more than any machine refuses.
const maxShedRate = 100_000_000

// setting is one value that flags, environment and file can set: key is its flag, its YAML key, and in capitals with
// underscores after PENSTOCK_, its environment variable.
type setting struct {
	key    string
	help   string
	value  func(*Config) any // a pointer to string, []string, bool, int or time.Duration
	secret bool              // no flag: it would show in the process list
}

// allSettings is the one table behind flags, environment, file and `config check`.
func allSettings() []setting {
	return slices.Concat(processSettings(), serverSettings(), eventSettings(), saleSettings())
}

// processSettings are about the process: where it listens, keeps and logs.
func processSettings() []setting {
	return []setting{
		{key: "listen", value: func(c *Config) any { return &c.Listen },
			help: "address of the public listener; port 0 picks a free one"},
		{key: "admin-listen", value: func(c *Config) any { return &c.AdminListen },
			help: "address of the admin listener; port 0 picks a free one"},
		{key: "data-dir", value: func(c *Config) any { return &c.DataDir },
			help: "directory of the embedded parts, one process at a time; on real servers, of the settings that were in force last"},
		{key: "durable", value: func(c *Config) any { return &c.Durable },
			help: "embedded parts: sync every write to disk, to survive a power loss too; slower"},
		{key: "admin-token", value: func(c *Config) any { return &c.AdminToken }, secret: true,
			help: "first admin token"},
		{key: "open-metrics", value: func(c *Config) any { return &c.OpenMetrics },
			help: "serve /metrics on the admin listener without a token"},
		{key: "log-level", value: func(c *Config) any { return &c.LogLevel },
			help: "debug, info, warn or error"},
		{key: "log-format", value: func(c *Config) any { return &c.LogFormat },
			help: "text or json"},
		{key: "shutdown-timeout", value: func(c *Config) any { return &c.ShutdownTimeout },
			help: "how long a stop may take to answer what is in flight"},
		{key: "wait", value: func(c *Config) any { return &c.Wait },
			help: "how long to wait at start for a server that is away"},
		{key: "trusted-proxies", value: func(c *Config) any { return &c.TrustedProxies },
			help: "addresses or networks of the proxies in front, with commas between; their X-Forwarded-For is believed"},
		{key: "max-connections", value: func(c *Config) any { return &c.Gateway.MaxConnections },
			help: "open connections of the public listener; 0 is half of the file limit (ulimit -n), at most 65536"},
		{key: "max-connections-per-address", value: func(c *Config) any { return &c.Gateway.MaxPerAddress },
			help: "of these, by one address (IPv6: one /64) that is no trusted proxy; 0 is half of them, and at least 64"},
		{key: "max-in-flight", value: func(c *Config) any { return &c.Gateway.MaxInFlight },
			help: "requests of the public listener served at once; more are answered 503 overloaded"},
		{key: "shed-rate", value: func(c *Config) any { return &c.ShedRate },
			help: "503 overloaded per second that go out at once, further ones wait for their turn; 0 is 2000 per processor"},
	}
}

// serverSettings are about the real servers.
func serverSettings() []setting {
	return []setting{
		{key: "redis", value: func(c *Config) any { return &c.Redis },
			help: "addresses host:port of the Redis, its Sentinels or its Cluster's nodes, with commas between"},
		{key: "redis-master", value: func(c *Config) any { return &c.RedisMaster },
			help: "name under which the Sentinels at --redis know the Redis"},
		{key: "redis-username", value: func(c *Config) any { return &c.RedisUser },
			help: "user of the Redis"},
		{key: "redis-password", value: func(c *Config) any { return &c.RedisSecret }, secret: true,
			help: "password of the Redis"},
		{key: "redis-sentinel-username", value: func(c *Config) any { return &c.SentinelUser },
			help: "user of the Sentinels"},
		{key: "redis-sentinel-password", value: func(c *Config) any { return &c.SentinelSecret }, secret: true,
			help: "password of the Sentinels"},
		{key: "redis-min-replicas", value: func(c *Config) any { return &c.MinReplicas },
			help: "replicas that must be connected when an item is closed or opened; 1 or more where one may be promoted"},
		{key: "redis-tls", value: func(c *Config) any { return &c.RedisTransport.TLS },
			help: "reach the Redis and its Sentinels over TLS"},
		{key: "redis-ca", value: func(c *Config) any { return &c.RedisTransport.CA },
			help: "PEM file of who signs the Redis' certificates; without it, whom the system trusts"},
		{key: "redis-cert", value: func(c *Config) any { return &c.RedisTransport.Cert },
			help: "PEM file of our certificate for the Redis, read anew for each connection"},
		{key: "redis-key", value: func(c *Config) any { return &c.RedisTransport.Key },
			help: "PEM file of the key of --redis-cert"},
		{key: "kafka", value: func(c *Config) any { return &c.Kafka },
			help: "addresses host:port of some Kafka brokers, with commas between"},
		{key: "kafka-topic", value: func(c *Config) any { return &c.KafkaTopic },
			help: "topic of the accepted orders; made where it is missing"},
		{key: "kafka-partitions", value: func(c *Config) any { return &c.Partitions },
			help: "partitions of the topic when it is made; 0 is the default, 12"},
		{key: "kafka-replication", value: func(c *Config) any { return &c.Replication },
			help: "replicas of the topic when it is made; 0 is three, or as many as there are brokers"},
		{key: "kafka-tls", value: func(c *Config) any { return &c.KafkaTransport.TLS },
			help: "reach the Kafka brokers over TLS"},
		{key: "kafka-ca", value: func(c *Config) any { return &c.KafkaTransport.CA },
			help: "PEM file of who signs the brokers' certificates; without it, whom the system trusts"},
		{key: "kafka-cert", value: func(c *Config) any { return &c.KafkaTransport.Cert },
			help: "PEM file of our certificate for the brokers, read anew for each connection"},
		{key: "kafka-key", value: func(c *Config) any { return &c.KafkaTransport.Key },
			help: "PEM file of the key of --kafka-cert"},
		{key: "kafka-sasl", value: func(c *Config) any { return &c.KafkaSASL },
			help: "how to log in to the brokers: plain, scram-sha-256 or scram-sha-512; without it, not at all"},
		{key: "kafka-username", value: func(c *Config) any { return &c.KafkaUser },
			help: "user of --kafka-sasl"},
		{key: "kafka-password", value: func(c *Config) any { return &c.KafkaSecret }, secret: true,
			help: "password of --kafka-sasl"},
		{key: "drop-ended-after", value: func(c *Config) any { return &c.DropAfter },
			help: "PostgreSQL: drop ended activities with their orders this long after they closed; 0 keeps them"},
		{key: "database", value: func(c *Config) any { return &c.Database },
			help: "PostgreSQL, as postgres://user:password@host:port/name?sslmode=verify-full&sslrootcert=FILE"},
		{key: "keep-schema", value: func(c *Config) any { return &c.KeepSchema },
			help: "leave the database's schema as it is, and refuse one that is behind: penstock migrate brings it up to date"},
	}
}

// saleSettings are about the sale: sizes, and the times that every process of an installation must share.
func saleSettings() []setting {
	return []setting{
		{key: "slots", value: func(c *Config) any { return &c.Slots },
			help: "accepted orders that may wait for the queue's acknowledgement at once"},
		{key: "max-known", value: func(c *Config) any { return &c.MaxKnown },
			help: "hold names remembered per item for refusals from memory"},
		{key: "accept-deadline", value: func(c *Config) any { return &c.Sale.AcceptDeadline },
			help: "how long after its arrival an order may still be accepted"},
		{key: "wait-out", value: func(c *Config) any { return &c.Sale.WaitOut },
			help: "how long a rebuild waits for the last answers of the epoch before"},
		{key: "sweep-age", value: func(c *Config) any { return &c.Sale.SweepAge },
			help: "how long a hold lies untouched before the sweeper decides it"},
		{key: "tick", value: func(c *Config) any { return &c.Sale.Tick },
			help: "how often the background work looks for changes"},
		{key: "retention", value: func(c *Config) any { return &c.Sale.Retention },
			help: "how long after an activity's end its keys are remembered"},
		{key: "batch-cap", value: func(c *Config) any { return &c.Sale.BatchCap },
			help: "most items of one statement or stock call"},
		{key: "store-timeout", value: func(c *Config) any { return &c.Sale.StoreTimeout },
			help: "how long one database batch may take"},
	}
}

// env returns the name of the setting's environment variable.
func (s setting) env() string {
	return "PENSTOCK_" + strings.ToUpper(strings.ReplaceAll(s.key, "-", "_"))
}

// set parses text into the setting's value.
func (s setting) set(c *Config, text string) error {
	switch p := s.value(c).(type) {
	case *string:
		*p = text
		return nil
	case *[]string:
		*p = nil
		for _, part := range strings.Split(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*p = append(*p, part)
			}
		}
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%s: %q is not true or false", s.key, text)
		}
		*p = b
	case *int:
		digits := strings.ReplaceAll(text, "_", "")
		n, err := strconv.Atoi(digits)
		if err != nil || len(digits) > 1 && digits[0] == '0' { // YAML 1.1 reads 010 as 8
			return fmt.Errorf("%s: %q is not a whole number", s.key, text)
		}
		*p = n
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%s: %q is not a duration like 500ms, 30s or 15m", s.key, text)
		}
		*p = d
	default:
		return fmt.Errorf("%s: a setting of type %T", s.key, p)
	}
	return nil
}

// addConfigFlags declares --config and a flag for every setting that may have one. Values are applied by loadConfig, so
// that flags win over the environment, and the environment over the file.
func addConfigFlags(flags *pflag.FlagSet) {
	defaults := defaultConfig()
	flags.String("config", "", "YAML file of settings (environment: PENSTOCK_CONFIG)")
	for _, s := range allSettings() {
		if s.secret {
			continue
		}
		help := s.help + " (environment: " + s.env() + ")"
		switch p := s.value(&defaults).(type) {
		case *string:
			flags.String(s.key, *p, help)
		case *[]string:
			flags.String(s.key, strings.Join(*p, ","), help)
		case *bool:
			flags.Bool(s.key, *p, help)
		case *int:
			flags.Int(s.key, *p, help)
		case *time.Duration:
			flags.Duration(s.key, *p, help)
		}
	}
}

// loadConfig reads file, environment and flags, in that order, over the defaults. The error has one line per mistake.
func loadConfig(flags *pflag.FlagSet, environ func(string) string) (Config, error) {
	config := defaultConfig()
	file := environ("PENSTOCK_CONFIG")
	if f := flags.Lookup("config"); f != nil && f.Changed {
		file = f.Value.String()
	}
	var errs []error
	origin := make(map[string]string) // of each key that was set: where
	if file != "" {
		errs = append(errs, applyFile(&config, file, origin)...)
	}
	for _, s := range allSettings() {
		if text := environ(s.env()); text != "" {
			origin[s.key] = "environment " + s.env()
			if err := s.set(&config, text); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", origin[s.key], err))
			}
		}
	}
	for _, s := range allSettings() {
		if f := flags.Lookup(s.key); f != nil && f.Changed {
			origin[s.key] = "flag --" + s.key
			if err := s.set(&config, f.Value.String()); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", origin[s.key], err))
			}
		}
	}
	// A value that couldn't be read is a mistake once, and the default in its place is none.
	for _, err := range config.validate() {
		errs = append(errs, located(err, origin))
	}
	sortByLine(errs)
	return config, errors.Join(errs...)
}

// sortByLine puts mistakes of the file in the order of its lines, before the others.
func sortByLine(errs []error) {
	line := func(err error) int {
		_, rest, _ := strings.Cut(err.Error(), ":")
		number, _, _ := strings.Cut(rest, ":")
		if n, err := strconv.Atoi(number); err == nil {
			return n
		}
		return math.MaxInt
	}
	slices.SortStableFunc(errs, func(a, b error) int { return cmp.Compare(line(a), line(b)) })
}

// located says where the value was set whose key err begins with.
func located(err error, origin map[string]string) error {
	if where, ok := origin[keyOf(err)]; ok {
		return fmt.Errorf("%s: %w", where, err)
	}
	return err
}

// validate checks the values against each other, by the parts' own rules.
func (c *Config) validate() []error {
	var errs []error
	errs = append(errs, checkListen("listen", c.Listen), checkListen("admin-listen", c.AdminListen))
	errs = append(errs, c.validateServers()...)
	if c.DataDir == "" {
		errs = append(errs, errors.New("data-dir: is required"))
	}
	if _, err := parseLevel(c.LogLevel); err != nil {
		errs = append(errs, err)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		errs = append(errs, fmt.Errorf("log-format: %q is neither text nor json", c.LogFormat))
	}
	if c.ShutdownTimeout <= 0 {
		errs = append(errs, errors.New("shutdown-timeout: must be above zero"))
	}
	if c.Slots <= 0 {
		errs = append(errs, errors.New("slots: must be above zero"))
	}
	if c.ShedRate < 0 || c.ShedRate > maxShedRate {
		errs = append(errs, fmt.Errorf("shed-rate: must be from 0 to %d", maxShedRate))
	}
	if c.MaxKnown < 0 {
		errs = append(errs, errors.New("max-known: must not be below zero"))
	}
	if _, err := c.trustedProxies(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, apart(c.Sale.Validate())...)
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	said := make(map[string]bool, len(errs))
	for _, err := range errs {
		said[keyOf(err)] = true
	}
	for _, err := range c.validateParts() { // a value that is wrong by our rules need not be wrong by theirs too
		if !said[keyOf(err)] {
			errs = append(errs, err)
		}
	}
	return errs
}

// keyOf is the key that an error begins with.
func keyOf(err error) string {
	key, _, _ := strings.Cut(err.Error(), ":")
	return key
}

// real reports whether the process works with real servers.
func (c *Config) real() bool { return len(c.Redis) > 0 && len(c.Kafka) > 0 && c.Database != "" }

// validateServers checks how the real servers are named. A mix of real and embedded ones is a mistake: the embedded ones know
// only this process, and keep nothing that the others lose.
func (c *Config) validateServers() []error {
	var errs []error
	for _, server := range []struct {
		key    string
		addrs  []string
		absent bool
	}{{"redis", c.Redis, len(c.Redis) == 0}, {"kafka", c.Kafka, len(c.Kafka) == 0}, {"database", nil, c.Database == ""}} {
		if server.absent && (len(c.Redis) > 0 || len(c.Kafka) > 0 || c.Database != "") {
			errs = append(errs, fmt.Errorf("%s: is required: give redis, kafka and database, or none of them", server.key))
		}
		for _, addr := range server.addrs {
			if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
				errs = append(errs, fmt.Errorf("%s: %q is not host:port", server.key, addr))
			}
		}
	}
	if c.DropAfter != 0 && c.DropAfter <= c.Sale.Retention+seckill.MaxPaymentWindow {
		errs = append(errs, fmt.Errorf("drop-ended-after: must be longer than retention and the longest payment window, %v",
			c.Sale.Retention+seckill.MaxPaymentWindow))
	}
	if c.Wait < 0 {
		errs = append(errs, errors.New("wait: must not be below zero"))
	}
	return append(errs, slices.Concat(c.validateTransports(), c.validateEvents())...)
}

// apart takes joined errors apart, so that each mistake is a line of its own.
func apart(joined ...error) []error {
	var errs []error
	for _, err := range joined {
		if list, ok := err.(interface{ Unwrap() []error }); ok {
			errs = append(errs, apart(list.Unwrap()...)...)
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// suggestion names the known key that is nearest to name, where one is near.
func suggestion(name string, known map[string]setting) string {
	best, distance := "", min(len(name)/3+2, 4) // the more letters, the more slips
	for key := range known {
		if d := editDistance(name, key); d < distance || d == distance && key < best {
			best, distance = key, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// editDistance is Levenshtein's distance.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
